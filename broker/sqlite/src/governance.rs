//! Signing keys, the epoch, and whether the store can write.

use hallpass_core::id::{KeyId, LogId};
use hallpass_core::port::{StoreError, StoredKey};
use rusqlite::{Connection, Row, params};

use crate::error::Outcome;
use crate::log;
use crate::rows::audit::EncodedEntry;
use crate::rows::{Columns, id_bytes};
use crate::transaction::Transaction;

/// Moves the epoch: what was decided before has to be decided again.
pub(crate) fn move_epoch(transaction: &mut Transaction<'_>, entries: &[EncodedEntry]) -> Outcome<u64> {
    let epoch = transaction.numbers.epoch.saturating_add(1);
    transaction.numbers.epoch = epoch;
    transaction.append(entries)?;
    Ok(epoch)
}

/// Keeps a key: a new one, or what changed of one that is here (when it retires, under which key it is sealed).
pub(crate) fn put_key(transaction: &mut Transaction<'_>, key: &StoredKey, entry: &[EncodedEntry]) -> Outcome<()> {
    let sql = "INSERT INTO signing_keys (id, purpose, algorithm, private_key, public, created_at, retires_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
               ON CONFLICT (id) DO UPDATE SET private_key = excluded.private_key, public = excluded.public,
                   retires_at = excluded.retires_at";
    let values = params![
        id_bytes(key.id.as_uuid()),
        key.purpose,
        key.algorithm,
        key.sealed_private_key,
        key.public,
        key.created_at.as_millis(),
        key.retires_at.map(hallpass_core::time::Timestamp::as_millis),
    ];
    transaction.execute(sql, values)?;
    transaction.append(entry)
}

pub(crate) fn keys(connection: &Connection) -> Outcome<Vec<StoredKey>> {
    let sql = "SELECT id, purpose, algorithm, private_key, public, created_at, retires_at FROM signing_keys
               ORDER BY created_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read_key(row)?);
    }
    Ok(keys)
}

fn read_key(row: &Row<'_>) -> Result<StoredKey, StoreError> {
    let columns = &mut Columns::new(row, "signing_keys");
    let id: KeyId = columns.id("id")?;
    columns.keyed(id);
    Ok(StoredKey {
        id,
        purpose: columns.value("purpose")?,
        algorithm: columns.value("algorithm")?,
        sealed_private_key: columns.value("private_key")?,
        public: columns.value("public")?,
        created_at: columns.time("created_at")?,
        retires_at: columns.optional_time("retires_at")?,
    })
}

/// Writes as much as a grant takes, in new pages, and lets the check before it go: what is full for a grant is full for
/// this. A grant is small, but each index that it is in has a page of its own to write.
pub(crate) fn probe(transaction: &Transaction<'_>) -> Outcome<()> {
    transaction.execute("INSERT INTO write_probe (content) VALUES (randomblob(163840))", [])?;
    let newest = transaction.connection.last_insert_rowid();
    transaction.execute("DELETE FROM write_probe WHERE id < ?1", [newest]).map(|_| ())
}

/// What SQLite and the rules of the record find wrong.
pub(crate) fn integrity_problems(connection: &Connection, log: LogId) -> Outcome<Vec<String>> {
    let mut problems = Vec::new();
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    for line in rows {
        problems.extend(Some(line?).filter(|line| line != "ok"));
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?)))?;
    for pair in rows {
        let (table, parent) = pair?;
        problems.push(format!("a row of {table} refers to a row of {parent} that is not there"));
    }
    problems.extend(log::problems(connection, log)?);
    Ok(problems)
}
