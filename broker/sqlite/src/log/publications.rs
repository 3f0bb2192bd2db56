//! Which entry tells of the newest publication, by the entries themselves.
//!
//! The columns beside an entry are in no hash: whoever can write the database could hide a publication by them. So the log
//! is walked, entry by entry, and what was read must come to what its tree comes to. How far it was walked is kept, sealed
//! and with what the log came to there: an old one only makes the next walk longer, and where it is gone, or does not open,
//! the walk begins at the first entry.

use std::sync::Arc;

use hallpass_core::audit::tree::{Frontier, TreeHead};
use hallpass_core::audit::{AuditAction, AuditEntry, AuditOutcome, Leaf};
use hallpass_core::id::LogId;
use hallpass_core::port::{AuditLog as _, Place, Sealer, StoreError};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::nodes::Nodes;
use crate::SqliteStore;
use crate::error::Outcome;
use crate::rows::integer;

/// From this many entries on it is kept how far the log was walked: each time costs a commit.
const WORTH_KEEPING: u64 = 1_000;

/// What every entry about a publication contains.
const WORD: &str = "configuration.publish";

impl SqliteStore {
    /// The place of the newest entry that tells of a publication that was made.
    pub(crate) async fn newest_publication(&self) -> Result<Option<u64>, StoreError> {
        let (log, sealer, head) = (self.log, Arc::clone(&self.sealer), self.tree_head());
        let (walked, steps) = self
            .readers
            .read(move |connection| {
                let before = kept(connection, log, sealer.as_ref())?;
                let from = before.head.size;
                Ok((walk_on(connection, log, before, head)?, head.size.saturating_sub(from)))
            })
            .await?;
        if steps >= WORTH_KEEPING
            && let Err(error) = self.keep_walked(&walked).await
        {
            tracing::warn!(%error, "how far the audit log was walked is not kept: the next walk is longer");
        }
        Ok(walked.publication)
    }

    async fn keep_walked(&self, walked: &Walked) -> Result<(), StoreError> {
        let sealed = self.sealer.seal(place(&self.log.to_string()), walked.written().as_bytes())?;
        self.writer
            .run(move |transaction| {
                let sql = "INSERT INTO publications_walked (id, walked) VALUES (0, ?1)
                           ON CONFLICT (id) DO UPDATE SET walked = excluded.walked";
                transaction.execute(sql, params![sealed]).map(|_| ())
            })
            .await
    }
}

/// What a walk has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Walked {
    /// How far it came.
    head: TreeHead,
    /// The newest entry about a publication up to there.
    publication: Option<u64>,
}

impl Walked {
    fn not_at_all() -> Self {
        Self { head: Frontier::default().head(), publication: None }
    }

    fn written(&self) -> String {
        let publication = self.publication.map(|sequence| sequence.to_string()).unwrap_or_default();
        format!("{}\n{}\n{publication}", self.head.size, self.head.root)
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let (size, root, publication) = (lines.next()?, lines.next()?, lines.next()?);
        let publication = if publication.is_empty() { None } else { Some(publication.parse().ok()?) };
        Some(Self { head: TreeHead { size: size.parse().ok()?, root: root.parse().ok()? }, publication })
    }
}

fn place(log: &str) -> Place<'_> {
    Place { table: "publications_walked", row: log, column: "walked" }
}

/// How far the log was walked before, if that can be believed: after a change of the data key it cannot.
fn kept(connection: &Connection, log: LogId, sealer: &dyn Sealer) -> Outcome<Walked> {
    let sql = "SELECT walked FROM publications_walked";
    let sealed = connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    let opened = sealed.and_then(|sealed| sealer.open(place(&log.to_string()), &sealed).ok());
    let read = opened.and_then(|opened| Walked::read(std::str::from_utf8(opened.expose()).ok()?));
    Ok(read.unwrap_or_else(Walked::not_at_all))
}

/// Walks to `head` from where it was walked to `before`.
fn walk_on(connection: &Connection, log: LogId, before: Walked, head: TreeHead) -> Outcome<Walked> {
    let mut nodes = Nodes::new(connection, log);
    // Another walk may have come further meanwhile.
    let mut walked = if before.head.size <= head.size { before } else { Walked::not_at_all() };
    let from = walked.head.size;
    let mut frontier = Frontier::load(from, &mut |node| nodes.hash(node))?;
    if frontier.head() != walked.head {
        return Err(changed(0, from).into());
    }
    let sql = "SELECT sequence, entry FROM audit_entries WHERE sequence >= ?1 AND sequence < ?2 ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![integer(from), integer(head.size)])?;
    while let Some(row) = rows.next()? {
        let sequence = frontier.size();
        let canonical = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        if row.get::<_, i64>(0)? != integer(sequence) {
            break;
        }
        frontier.push(Leaf::hash_of(log, sequence, canonical));
        if tells_of_publication(canonical) {
            walked.publication = Some(sequence);
        }
    }
    walked.head = frontier.head();
    if walked.head == head {
        return Ok(walked);
    }
    Err(changed(from, head.size).into())
}

fn changed(from: u64, until: u64) -> StoreError {
    let row = format!("{from} to {}", until.saturating_sub(1));
    let problem = "one of these entries is not the one that was written: it was changed, or is gone".to_owned();
    StoreError::Inconsistent { table: "audit_entries", column: "entry", row, problem }
}

fn tells_of_publication(canonical: &[u8]) -> bool {
    let mentions = std::str::from_utf8(canonical).is_ok_and(|text| text.contains(WORD));
    mentions
        && serde_json::from_slice(canonical).is_ok_and(|entry: AuditEntry| {
            entry.action == AuditAction::ConfigurationPublish && entry.outcome == AuditOutcome::Success
        })
}
