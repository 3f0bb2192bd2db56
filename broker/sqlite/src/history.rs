//! The history of bundles: every publication, and the content of the newest.

use async_trait::async_trait;
use hallpass_core::id::{PolicyId, RevisionId, RoleName};
use hallpass_core::port::{
    Files, History, KEPT_PUBLICATIONS, Occasion, OnceRecorded, Page, PageRequest, Publication, PublishOutcome,
    RevisionRecord, StoreError,
};
use ring::digest;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Outcome;
use crate::rows::audit::EncodedEntry;
use crate::rows::decision::NewDecision;
use crate::rows::{Columns, id_bytes, json};
use crate::transaction::Transaction;
use crate::writer::Operation;
use crate::{SqliteStore, cursor, governance, list};

#[async_trait]
impl History for SqliteStore {
    async fn publish_revision(&self, publication: Publication) -> Result<PublishOutcome, StoreError> {
        self.writer.write(Publish::prepare(publication)?).await
    }

    async fn active_revision(&self) -> Result<Option<RevisionRecord>, StoreError> {
        self.readers.read(active).await
    }

    async fn last_publication(&self) -> Result<Option<u64>, StoreError> {
        self.newest_publication().await
    }

    async fn revision(&self, id: &RevisionId) -> Result<Option<RevisionRecord>, StoreError> {
        let id = id.clone();
        self.readers.read(move |connection| one(connection, &id)).await
    }

    async fn revision_files(&self, id: &RevisionId) -> Result<Option<Files>, StoreError> {
        let id = id.clone();
        self.readers.read(move |connection| files(connection, &id)).await
    }

    async fn revisions(&self, page: &PageRequest) -> Result<Page<RevisionRecord>, StoreError> {
        let page = page.clone();
        self.readers.read(move |connection| newest(connection, &page)).await
    }

    async fn live_grants_touched(&self, roles: &[RoleName], policies: &[PolicyId]) -> Result<u64, StoreError> {
        let (roles, policies) = (json(&roles)?, json(&policies)?);
        self.readers.read(move |connection| touched(connection, &roles, &policies)).await
    }
}

/// A publication, written out.
struct Publish {
    record: RevisionRecord,
    approvers: Option<String>,
    files: Vec<(String, Vec<u8>, String)>,
    decision: Option<NewDecision>,
    entries: Vec<EncodedEntry>,
    epoch: Option<u64>,
    then: OnceRecorded,
}

impl Publish {
    fn prepare(publication: Publication) -> Result<Self, StoreError> {
        let Publication { record, files, decision, entries, epoch, then } = publication;
        let addressed = |(path, text): (String, String)| {
            let digest = digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec();
            (path, digest, text)
        };
        Ok(Self {
            approvers: record.approvers.as_ref().map(json).transpose()?,
            files: files.into_iter().map(addressed).collect(),
            decision: decision.map(NewDecision::prepare).transpose()?,
            entries: EncodedEntry::encode_all(entries)?,
            epoch,
            then,
            record,
        })
    }

    fn keep_files(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        let revision = self.record.id.as_str();
        for (path, digest, text) in &self.files {
            let sql = "INSERT INTO bundle_texts (digest, text) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING";
            transaction.execute(sql, params![digest, text])?;
            // A revision is its content: what is there of it already is the same.
            let sql = "INSERT INTO bundle_files (revision, path, text_seq)
                       SELECT ?1, ?2, seq FROM bundle_texts WHERE digest = ?3 ON CONFLICT DO NOTHING";
            transaction.execute(sql, params![revision, path, digest])?;
        }
        Ok(())
    }

    /// Lets go of the content of publications beyond the newest; their records stay.
    fn make_room(transaction: &Transaction<'_>) -> Outcome<()> {
        let kept = i64::try_from(KEPT_PUBLICATIONS).unwrap_or(i64::MAX);
        let oldest = "SELECT seq FROM bundle_revisions ORDER BY seq DESC LIMIT 1 OFFSET ?1";
        let Some(oldest) = transaction.find(oldest, [kept], |row| row.get::<_, i64>(0))? else { return Ok(()) };
        let sql = "DELETE FROM bundle_files WHERE revision IN (
                       SELECT id FROM bundle_revisions WHERE seq <= ?1
                       EXCEPT SELECT id FROM bundle_revisions WHERE seq > ?1)";
        if transaction.execute(sql, [oldest])? > 0 {
            let sql = "DELETE FROM bundle_texts
                       WHERE NOT EXISTS (SELECT 1 FROM bundle_files WHERE text_seq = bundle_texts.seq)";
            transaction.execute(sql, [])?;
        }
        Ok(())
    }
}

impl Operation for Publish {
    type Found = PublishOutcome;
    type Answer = PublishOutcome;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<PublishOutcome> {
        if self.epoch.is_some_and(|epoch| epoch != transaction.numbers.epoch) {
            return Ok(PublishOutcome::Moved);
        }
        if active(transaction.connection)?.map(|active| active.id) != self.record.parent {
            return Ok(PublishOutcome::Superseded);
        }
        if let Some(decision) = &self.decision {
            transaction.observe_clock(decision.decision.decided_at)?;
            decision.insert(transaction)?;
        }
        let record = &self.record;
        let sql = "INSERT INTO bundle_revisions
                       (id, published_at, author, approvers, parent, \"commit\", occasion, decision_id)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let values = params![
            record.id.as_str(),
            record.published_at.as_millis(),
            record.author,
            self.approvers,
            record.parent.as_ref().map(|parent| parent.as_str()),
            record.commit,
            record.occasion.map(Occasion::as_str),
            self.decision.as_ref().map(|decision| id_bytes(decision.decision.id.as_uuid())),
        ];
        transaction.execute(sql, values)?;
        self.keep_files(transaction)?;
        Self::make_room(transaction)?;
        governance::move_epoch(transaction, &self.entries)?;
        transaction.numbers.then.push(self.then.clone());
        Ok(PublishOutcome::Published)
    }

    fn answer(self, found: PublishOutcome) -> PublishOutcome {
        found
    }
}

/// The columns that [`read`] reads.
const SELECTED: &str = "id, published_at, author, approvers, parent, \"commit\", occasion";

fn active(connection: &Connection) -> Outcome<Option<RevisionRecord>> {
    let sql = format!("SELECT {SELECTED} FROM bundle_revisions ORDER BY seq DESC LIMIT 1");
    let found = connection.prepare_cached(&sql)?.query_row([], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

fn one(connection: &Connection, id: &RevisionId) -> Outcome<Option<RevisionRecord>> {
    let sql = format!("SELECT {SELECTED} FROM bundle_revisions WHERE id = ?1 ORDER BY seq DESC LIMIT 1");
    let found = connection.prepare_cached(&sql)?.query_row([id.as_str()], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

/// None where nothing is kept: a bundle has at least one file.
fn files(connection: &Connection, id: &RevisionId) -> Outcome<Option<Files>> {
    let sql = "SELECT f.path, t.text FROM bundle_files AS f JOIN bundle_texts AS t ON t.seq = f.text_seq
               WHERE f.revision = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let files: Files = rows.collect::<Result<_, _>>()?;
    Ok(Some(files).filter(|files| !files.is_empty()))
}

fn newest(connection: &Connection, page: &PageRequest) -> Outcome<Page<RevisionRecord>> {
    const LIST: &str = "bundle revisions";
    let limit = list::limit_of(page);
    let [before] = match page.cursor.as_deref() {
        Some(cursor) => cursor::decode(&LIST, cursor)?,
        None => [i64::MAX],
    };
    let sql = format!("SELECT {SELECTED}, seq FROM bundle_revisions WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let asked = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![before, asked])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((read(row)?, row.get::<_, i64>("seq")?));
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(_, seq)| cursor::encode(&LIST, [*seq]));
    Ok(Page { items: found.into_iter().map(|(record, _)| record).collect(), next })
}

/// Counts over the live grants alone, which the index on their state gives.
fn touched(connection: &Connection, roles: &str, policies: &str) -> Outcome<u64> {
    let sql = "SELECT count(*) FROM grants
               WHERE state IN ('pending', 'active')
                 AND (role IN (SELECT value FROM json_each(?1))
                      OR EXISTS (SELECT 1 FROM json_each(grants.determining_policies) AS policy
                                 WHERE policy.value IN (SELECT value FROM json_each(?2))))";
    let count: i64 = connection.prepare_cached(sql)?.query_row(params![roles, policies], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

fn read(row: &Row<'_>) -> Result<RevisionRecord, StoreError> {
    let columns = &mut Columns::new(row, "bundle_revisions");
    let id: RevisionId = columns.name("id")?;
    columns.keyed(&id);
    Ok(RevisionRecord {
        id,
        published_at: columns.time("published_at")?,
        author: columns.value("author")?,
        approvers: columns.optional_json("approvers")?,
        parent: columns.optional_name("parent")?,
        commit: columns.value("commit")?,
        occasion: columns.optional_parsed("occasion", Occasion::parse)?,
    })
}
