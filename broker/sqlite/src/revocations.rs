//! Revocations of sets: one commit from which they hold, steps in which their grants follow, one commit that ends them.

pub(crate) mod begin;
pub(crate) mod follow;
pub(crate) mod selection;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::audit::{Actor, AuditEntry};
use hallpass_core::grant::Grant;
use hallpass_core::id::{GrantId, RevocationId};
use hallpass_core::in_force::InForce;
use hallpass_core::port::{
    Beginning, Begun, Count, Fenced, Followed, Page, PageRequest, PageRoom, RevocationStore, StoreError,
};
use hallpass_core::revocation::{Likeness, Progress, Reach, Revocation, Tally};
use hallpass_core::selector::Selector;
use hallpass_core::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use uuid::Uuid;

use crate::SqliteStore;
use crate::cursor;
use crate::error::Outcome;
use crate::list::limit_of;
use crate::rows::audit::EncodedEntry;
use crate::rows::{Columns, bytes_of, grant, id_bytes, revocation};
use crate::transaction::Transaction;
use begin::Begin;
use follow::Follow;
use selection::Selection;

#[async_trait]
impl RevocationStore for SqliteStore {
    fn in_force(&self) -> Arc<InForce> {
        self.writer.in_force()
    }

    async fn likenesses(&self) -> Result<Vec<Likeness>, StoreError> {
        self.readers.read(likenesses).await
    }

    async fn count_selected(&self, selector: &Selector, reach: &Reach) -> Result<Vec<Count>, StoreError> {
        let selection = Selection { selector: selector.clone(), reach: reach.clone() };
        self.readers.read(move |connection| selection.count(connection)).await
    }

    async fn first_selected(&self, selector: &Selector, reach: &Reach, limit: usize) -> Result<Vec<Grant>, StoreError> {
        let selection = Selection { selector: selector.clone(), reach: reach.clone() };
        self.readers.read(move |connection| selection.first(connection, limit)).await
    }

    async fn begin_revocation(&self, beginning: Beginning) -> Result<Begun, StoreError> {
        self.writer.write(Begin::prepare(beginning)?).await
    }

    async fn follow_revocation(
        &self,
        id: RevocationId,
        fenced_kinds: &[String],
        now: Timestamp,
    ) -> Result<Followed, StoreError> {
        let in_force = self.in_force();
        let Some(revocation) = in_force.revocations.iter().find(|revocation| revocation.id == id) else {
            return Ok(Followed { ended: 0, more: false, measured: true });
        };
        let revocation = Arc::clone(revocation);
        let read = Arc::clone(&revocation);
        let step = self.readers.read(move |connection| follow::read(connection, &read)).await?;
        self.writer.write(Follow::new(&revocation, step, fenced_kinds, now)).await
    }

    async fn measure_revocation(&self, id: RevocationId) -> Result<(), StoreError> {
        let in_force = self.in_force();
        let Some(revocation) = in_force.revocations.iter().find(|revocation| revocation.id == id) else {
            return Ok(());
        };
        let selection = Selection::of(revocation);
        let selected = self.readers.read(move |connection| follow::selected(connection, id, &selection)).await?;
        self.writer.run(move |transaction| keep_selected(transaction, id, selected)).await
    }

    async fn revoked_grants(&self, id: RevocationId) -> Result<Vec<GrantId>, StoreError> {
        self.readers.read(move |connection| revoked_grants(connection, id)).await
    }

    async fn complete_revocation(
        &self,
        id: RevocationId,
        grants_digest: [u8; 32],
        now: Timestamp,
        entry: AuditEntry,
    ) -> Result<(), StoreError> {
        let entry = [EncodedEntry::encode(entry)?];
        self.writer.run(move |transaction| complete(transaction, id, grants_digest, now, &entry)).await
    }

    async fn revocation(&self, id: RevocationId) -> Result<Option<Revocation>, StoreError> {
        self.readers.read(move |connection| revocation::by_id(connection, id)).await
    }

    async fn revocation_progress(&self, id: RevocationId) -> Result<Progress, StoreError> {
        self.readers.read(move |connection| progress(connection, id)).await
    }

    async fn revocations(&self, author: Option<&Actor>, page: &PageRequest) -> Result<Page<Revocation>, StoreError> {
        let author = author.map(revocation::author).transpose()?;
        let page = page.clone();
        let read = move |connection: &Connection| {
            newest(connection, "revocations", revocation::SELECTED, revocation::read, author.as_deref(), &page)
        };
        self.readers.read(read).await
    }
}

/// Grants that running revocations end and whose rows have not followed, of a kind of backend that is fenced by record:
/// for what lists the fenced.
pub(crate) fn fenced_ahead(
    connection: &Connection,
    in_force: &InForce,
    backend_kind: &str,
    still_accepted: Timestamp,
) -> Outcome<Vec<Fenced>> {
    let mut ahead = Vec::new();
    for revocation in &in_force.revocations {
        let found = Selection::of(revocation).fenced(connection, backend_kind, still_accepted)?;
        ahead.extend(found.into_iter().map(|id| Fenced { id, fenced_at: revocation.created_at }));
    }
    ahead.sort_by_key(|fenced| fenced.id);
    ahead.dedup_by_key(|fenced| fenced.id);
    Ok(ahead)
}

/// Adds to `found` the status indexes of grants that running revocations end and whose rows have not followed.
pub(crate) fn ended_ahead(
    connection: &Connection,
    in_force: &InForce,
    indexes: &Range<u64>,
    found: &mut Vec<u64>,
) -> Outcome<()> {
    let before = found.len();
    for revocation in &in_force.revocations {
        Selection::of(revocation).status_indexes(connection, indexes, found)?;
    }
    if found.len() > before {
        found.sort_unstable();
        found.dedup();
    }
    Ok(())
}

fn likenesses(connection: &Connection) -> Outcome<Vec<Likeness>> {
    let mut statement = connection.prepare_cached("SELECT likeness FROM likenesses")?;
    let mut rows = statement.query([])?;
    let mut likenesses = Vec::new();
    while let Some(row) = rows.next()? {
        likenesses.push(Columns::new(row, "likenesses").json("likeness")?);
    }
    Ok(likenesses)
}

fn complete(
    transaction: &mut Transaction<'_>,
    id: RevocationId,
    grants_digest: [u8; 32],
    now: Timestamp,
    entry: &[EncodedEntry],
) -> Outcome<()> {
    let sql = "UPDATE revocations SET completed_at = ?1, grants_digest = ?2, place = NULL
               WHERE id = ?3 AND completed_at IS NULL";
    let values = params![now.as_millis(), grants_digest, id_bytes(id.as_uuid())];
    if transaction.execute(sql, values)? == 0 {
        return Ok(());
    }
    transaction.numbers.epoch = transaction.numbers.epoch.saturating_add(1);
    transaction.command(|in_force| in_force.revocations.retain(|revocation| revocation.id != id));
    transaction.append(entry)
}

fn keep_selected(transaction: &Transaction<'_>, id: RevocationId, selected: i64) -> Outcome<()> {
    let sql = "UPDATE revocations SET selected = ?1 WHERE id = ?2 AND selected IS NULL";
    transaction.execute(sql, params![selected, id_bytes(id.as_uuid())]).map(|_| ())
}

fn progress(connection: &Connection, id: RevocationId) -> Outcome<Progress> {
    let sql = "SELECT seq, selected FROM revocations WHERE id = ?1";
    let found = connection
        .prepare_cached(sql)?
        .query_row([id_bytes(id.as_uuid())], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))
        .optional()?;
    let Some((seq, selected)) = found else { return Ok(Progress::default()) };
    let natural = |number: i64| u64::try_from(number).unwrap_or(0);
    let mut tally = Tally::default();
    let sql = "SELECT state, fenced_at IS NOT NULL, count(*) FROM grants WHERE revocation_seq = ?1 GROUP BY 1, 2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([seq])?;
    while let Some(row) = rows.next()? {
        let (state, fenced, count): (String, bool, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let place = match (state.as_str(), fenced) {
            ("revoking", true) => &mut tally.fenced,
            ("revoked", _) => &mut tally.revoked,
            ("expired", _) => &mut tally.expired,
            ("failed", _) => &mut tally.failed,
            ("abandoned", _) => &mut tally.abandoned,
            // What follows has begun to end: no other state is left.
            _ => &mut tally.revoking,
        };
        *place = place.saturating_add(natural(count));
    }
    if tally.revoking > 0 {
        let sql = "SELECT count(*) FROM grants WHERE revocation_seq = ?1 AND state = 'revoking' AND fenced_at IS NULL
                   AND last_error IS NOT NULL";
        let failing: i64 = connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0))?;
        tally.failing = natural(failing);
    }
    Ok(Progress { selected: selected.map(natural), tally })
}

fn revoked_grants(connection: &Connection, id: RevocationId) -> Outcome<Vec<GrantId>> {
    let sql = "SELECT id FROM grants WHERE revocation_seq = (SELECT seq FROM revocations WHERE id = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id_bytes(id.as_uuid())], |row| row.get::<_, [u8; 16]>(0))?;
    let ids: Result<Vec<GrantId>, _> = rows.map(|id| id.map(|id| Uuid::from_bytes(id).into())).collect();
    let mut ids = ids?;
    ids.sort_unstable();
    Ok(ids)
}

/// A page of a table of commands, newest first.
pub(crate) fn newest<T>(
    connection: &Connection,
    table: &'static str,
    selected: &str,
    read: fn(&rusqlite::Row<'_>) -> Result<T, StoreError>,
    author: Option<&str>,
    page: &PageRequest,
) -> Outcome<Page<T>> {
    let limit = limit_of(page);
    let list = (table, author);
    let mut conditions = vec!["seq < ?"];
    let before = match page.cursor.as_deref() {
        Some(cursor) => cursor::decode::<1>(&list, cursor)?,
        None => [i64::MAX],
    };
    let mut values = Vec::from(before.map(Value::Integer));
    if let Some(author) = author {
        conditions.push("author = ?");
        values.push(Value::Text(author.to_owned()));
    }
    values.push(Value::Integer(i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)));
    let conditions = conditions.join(" AND ");
    // What is read stands in the order of its own list, from the first column on; the place comes last.
    let sql = format!("SELECT {selected}, seq FROM {table} WHERE {conditions} ORDER BY seq DESC LIMIT ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut items, mut last, mut more) = (Vec::new(), None, false);
    let mut room = PageRoom::of(page);
    while let Some(row) = rows.next()? {
        if !room.takes(bytes_of(row)) {
            more = true;
            break;
        }
        items.push(read(row)?);
        last = Some(row.get::<_, i64>("seq")?);
    }
    let next = last.filter(|_| more).map(|place| cursor::encode(&list, [place]));
    Ok(Page { items, next })
}

/// Grants of `rows`, by their place.
pub(crate) fn grants_at(connection: &Connection, places: &[i64]) -> Outcome<Vec<Grant>> {
    let mut grants = Vec::with_capacity(places.len());
    for &seq in places {
        grants.extend(grant::by_seq(connection, seq)?);
    }
    Ok(grants)
}
