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

pub(super) fn keep(transaction: &Transaction<'_>, signed: &SignedCheckpoint, at: Timestamp) -> Outcome<()> {
    let head = signed.checkpoint.head;
    let sql = "INSERT INTO audit_checkpoints (size, root, note, signed_at, first_of_day)
               VALUES (?1, ?2, ?3, ?4, NOT EXISTS (SELECT 1 FROM audit_checkpoints WHERE signed_at >= ?5))
               ON CONFLICT (size) DO UPDATE SET note = excluded.note";
    let midnight = at.as_millis().saturating_sub(at.as_millis().rem_euclid(DAY.as_millis()));
    let values = params![integer(head.size), head.root.as_bytes(), signed.note, at.as_millis(), midnight];
    transaction.execute(sql, values)?;
    let passing = "DELETE FROM audit_checkpoints WHERE first_of_day = 0 AND signed_at < ?1";
    transaction.execute(passing, [at.minus(DAY).as_millis()]).map(|_| ())
}

pub(super) fn newest(connection: &Connection) -> Outcome<Option<KeptCheckpoint>> {
    let sql = "SELECT size, root, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

/// All that are kept, the shortest log first.
pub(super) fn heads(connection: &Connection) -> Outcome<Vec<TreeHead>> {
    let mut statement = connection.prepare_cached("SELECT size, root, note FROM audit_checkpoints ORDER BY size")?;
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
    Ok(KeptCheckpoint { head: TreeHead { size, root: root.into() }, note: columns.value("note")? })
}
