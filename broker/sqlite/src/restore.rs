//! An older copy that was put back: recorded once, with the revocation of what it holds live.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use hallpass_core::id::RevocationId;
use hallpass_core::port::{Restoration, RestoreRecord, Restored, StoreError};
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::SqliteStore;
use crate::error::Outcome;
use crate::revocations::begin::Begin;
use crate::rows::audit::EncodedEntry;
use crate::rows::{id_bytes, integer};
use crate::transaction::Transaction;
use crate::writer::Operation;

#[async_trait]
impl RestoreRecord for SqliteStore {
    async fn restore(&self, restoration: Restoration) -> Result<Restored, StoreError> {
        let restored = self.writer.write(Restore::prepare(restoration)?).await?;
        self.next_status_index.fetch_max(restored.next_index, Ordering::Relaxed);
        Ok(restored.restored)
    }
}

/// The first status index that no grant has, and that was not given up either.
pub(crate) fn next_index(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT max(coalesce((SELECT max(status_index) + 1 FROM grants), 0),
                          coalesce((SELECT max(next_index) FROM restores), 0))";
    let next: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(next).unwrap_or(0))
}

/// Below it, an index without a grant may have been given out in what is lost.
pub(crate) fn given_up_below(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(next_index), 0) FROM restores";
    let below: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(below).unwrap_or(0))
}

/// When the last one was.
pub(crate) fn restored_at(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let at: Option<i64> = connection.query_row("SELECT max(restored_at) FROM restores", [], |row| row.get(0))?;
    Ok(at.map(Timestamp::from_millis))
}

/// A restore, written out.
struct Restore {
    restoration: Restoration,
    begin: Option<Begin>,
}

/// A restore as it is in the table.
#[derive(Clone, Copy)]
struct Kept {
    restored: Restored,
    next_index: u64,
}

impl Restore {
    fn prepare(mut restoration: Restoration) -> Result<Self, StoreError> {
        let begin = restoration.ending.take().map(Begin::prepare).transpose()?;
        Ok(Self { restoration, begin })
    }

    /// The same, where it is what the log ends with.
    fn already(&self, transaction: &Transaction<'_>, last: Option<(Kept, u64)>) -> Option<Kept> {
        let (kept, log_size) = last?;
        let same = kept.restored.revocation.is_some() == self.begin.is_some();
        (same && log_size == transaction.numbers.frontier.size()).then_some(kept)
    }
}

impl Operation for Restore {
    type Found = Kept;
    type Answer = Kept;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Kept> {
        let (at, last_seen) = (self.restoration.at, transaction.numbers.clock_high_water);
        transaction.observe_clock(at)?;
        let last = last(transaction.connection)?;
        if let Some(kept) = self.already(transaction, last) {
            return Ok(kept);
        }
        let next_index =
            next_index(transaction.connection)?.saturating_add(self.restoration.indexes_given_up(last_seen));
        let number = last.map_or(0, |(kept, _)| kept.restored.number).saturating_add(1);
        let revocation = self.begin.as_ref().map(Begin::id);
        if let Some(begin) = &self.begin {
            begin.place(transaction)?;
        }
        let mut entry = self
            .restoration
            .entry
            .clone()
            .with("restore", &number.to_string())
            .with("status_indexes_given_up_below", &next_index.to_string());
        if let Some(id) = revocation {
            entry = entry.with("revocation", &id.to_string());
        }
        transaction.append(&[EncodedEntry::encode(entry)?])?;
        let sql = "INSERT INTO restores (number, restored_at, revocation_id, next_index, log_size)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![
            integer(number),
            at.as_millis(),
            revocation.map(|id| id_bytes(id.as_uuid())),
            integer(next_index),
            integer(transaction.numbers.frontier.size()),
        ];
        transaction.execute(sql, values)?;
        // What is lost may hold the grant that took one; the inventory finds and undoes what nobody answers for now.
        transaction.execute("DELETE FROM spares WHERE grant_id IS NULL", [])?;
        transaction.numbers.epoch = transaction.numbers.epoch.saturating_add(1);
        transaction.command(|in_force| in_force.restored_at = in_force.restored_at.max(Some(at)));
        Ok(Kept { restored: Restored { number, at, revocation }, next_index })
    }

    fn answer(self, found: Kept) -> Kept {
        found
    }
}

/// The last one, with the length of the log then.
fn last(connection: &Connection) -> Outcome<Option<(Kept, u64)>> {
    let sql =
        "SELECT number, restored_at, revocation_id, next_index, log_size FROM restores ORDER BY number DESC LIMIT 1";
    let natural = |number: i64| u64::try_from(number).unwrap_or(0);
    let read = |row: &rusqlite::Row<'_>| {
        let revocation: Option<[u8; 16]> = row.get(2)?;
        let restored = Restored {
            number: natural(row.get(0)?),
            at: Timestamp::from_millis(row.get(1)?),
            revocation: revocation.map(|id| RevocationId::from(Uuid::from_bytes(id))),
        };
        Ok((Kept { restored, next_index: natural(row.get(3)?) }, natural(row.get(4)?)))
    };
    Ok(connection.prepare_cached(sql)?.query_row([], read).optional()?)
}
