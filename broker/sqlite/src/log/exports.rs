//! How far each destination of the log has come.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Outcome;
use crate::rows::integer;
use crate::transaction::Transaction;

/// The place of the first entry that the destination has not.
pub(super) fn exported(connection: &Connection, destination: &str) -> Outcome<u64> {
    let sql = "SELECT next_sequence FROM audit_exports WHERE destination = ?1";
    let next: Option<i64> = connection.prepare_cached(sql)?.query_row([destination], |row| row.get(0)).optional()?;
    Ok(next.and_then(|next| u64::try_from(next).ok()).unwrap_or(0))
}

/// It never goes back.
pub(super) fn advance(transaction: &Transaction<'_>, destination: &str, next: u64) -> Outcome<()> {
    let sql = "INSERT INTO audit_exports (destination, next_sequence) VALUES (?1, ?2)
               ON CONFLICT DO UPDATE SET next_sequence = max(next_sequence, excluded.next_sequence)";
    transaction.execute(sql, params![destination, integer(next)]).map(|_| ())
}
