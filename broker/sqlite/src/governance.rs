//! The epoch, and whether the store can write.

use hallpass_core::id::LogId;
use hallpass_core::time::Timestamp;
use rusqlite::Connection;

use crate::error::Outcome;
use crate::log;
use crate::rows::audit::EncodedEntry;
use crate::transaction::Transaction;

/// Moves the epoch: what was decided before has to be decided again.
pub(crate) fn move_epoch(transaction: &mut Transaction<'_>, entries: &[EncodedEntry]) -> Outcome<u64> {
    let epoch = transaction.numbers.epoch.saturating_add(1);
    transaction.numbers.epoch = epoch;
    transaction.append(entries)?;
    Ok(epoch)
}

/// Writes as much as a grant takes, in new pages, and lets the check before it go: what is full for a grant is full for
/// this. A grant is small, but each index that it is in has a page of its own to write.
pub(crate) fn probe(transaction: &Transaction<'_>, now: Timestamp) -> Outcome<()> {
    transaction.confirm_clock(now)?;
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
