//! Checkpoints that are kept: what was signed must stay true, and old ones are worth the most.

use hallpass_core::audit::SignedCheckpoint;
use hallpass_core::audit::tree::{TreeHash, TreeHead};
use hallpass_core::port::{KeptCheckpoint, StoreError};
use hallpass_core::time::{Timestamp, Ttl};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::Outcome;
use crate::rows::{Columns, integer};
use crate::transaction::Transaction;

const DAY: Ttl = Ttl::from_hours(24);

pub(super) fn keep(
    transaction: &Transaction<'_>,
    signed: &SignedCheckpoint,
    at: Timestamp,
    anchored: bool,
) -> Outcome<()> {
    let head = signed.checkpoint.head;
    let sql = "INSERT INTO audit_checkpoints (size, root, note, signed_at, anchored, first_of_day)
               VALUES (?1, ?2, ?3, ?4, ?5, NOT EXISTS (SELECT 1 FROM audit_checkpoints WHERE signed_at >= ?6))
               ON CONFLICT (size) DO UPDATE SET note = excluded.note, anchored = excluded.anchored";
    let midnight = at.as_millis().saturating_sub(at.as_millis().rem_euclid(DAY.as_millis()));
    let values = params![integer(head.size), head.root.as_bytes(), signed.note, at.as_millis(), anchored, midnight];
    transaction.execute(sql, values)?;
    let passing = "DELETE FROM audit_checkpoints WHERE first_of_day = 0 AND signed_at < ?1";
    transaction.execute(passing, [at.minus(DAY).as_millis()]).map(|_| ())
}

pub(super) fn newest(connection: &Connection) -> Outcome<Option<KeptCheckpoint>> {
    let sql = "SELECT size, root, note, anchored FROM audit_checkpoints ORDER BY size DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

/// All that are kept, the shortest log first.
pub(super) fn heads(connection: &Connection) -> Outcome<Vec<TreeHead>> {
    let sql = "SELECT size, root, note, anchored FROM audit_checkpoints ORDER BY size";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next()? {
        heads.push(read(row)?.head);
    }
    Ok(heads)
}

fn read(row: &Row<'_>) -> Result<KeptCheckpoint, StoreError> {
    let columns = &mut Columns::new(row, "audit_checkpoints");
    let size: u64 = columns.natural("size")?;
    columns.keyed(size);
    let root: [u8; TreeHash::LENGTH] = columns.value("root")?;
    let head = TreeHead { size, root: root.into() };
    Ok(KeptCheckpoint { head, note: columns.value("note")?, anchored: columns.value("anchored")? })
}
