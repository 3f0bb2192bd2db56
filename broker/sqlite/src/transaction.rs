//! What an operation sees while it writes: the connection, and the few numbers that the writer keeps in memory.

use std::sync::Arc;

use hallpass_core::audit::tree::Frontier;
use hallpass_core::id::LogId;
use hallpass_core::in_force::InForce;
use hallpass_core::port::{OnceRecorded, StoreError};
use hallpass_core::time::{Timestamp, Ttl};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::error::Outcome;
use crate::log;
use crate::restore;
use crate::rows::audit::EncodedEntry;
use crate::rows::{id_bytes, integer, quarantine, revocation};

/// How far behind the latest time in the store the clock may be: clocks are corrected by that much in ordinary life.
/// More, and a clock that was set back would revive what is over.
const CLOCK_TOLERANCE: Ttl = Ttl::from_secs(2);

/// What is true of the database as it was last committed. Copied for each attempt, kept only by a commit.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    /// The audit log.
    log: LogId,
    /// Where its tree ends, and so the sequence of the next entry.
    pub(crate) frontier: Frontier,
    /// Moved by everything that ends or forbids sets of grants.
    pub(crate) epoch: u64,
    /// The latest time that any opening brought.
    pub(crate) clock_high_water: Timestamp,
    /// Revocations that run, and quarantines: asked for every grant that is opened.
    pub(crate) in_force: Arc<InForce>,
    /// What is to be done with the commit, before anybody can read these.
    pub(crate) then: Vec<OnceRecorded>,
}

impl Numbers {
    pub(crate) fn load(connection: &Connection) -> Outcome<Self> {
        let sql = "SELECT log_id, epoch, clock_high_water FROM store_state";
        let (log, epoch, high_water): ([u8; 16], i64, i64) =
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let log = uuid::Uuid::from_bytes(log).into();
        let in_force = InForce {
            revocations: revocation::running(connection)?.into_iter().map(Arc::new).collect(),
            quarantines: quarantine::in_force(connection)?.into_iter().map(Arc::new).collect(),
            restored_at: restore::restored_at(connection)?,
        };
        Ok(Self {
            log,
            frontier: log::frontier(connection, log)?,
            epoch: u64::try_from(epoch).unwrap_or(0),
            clock_high_water: Timestamp::from_millis(high_water),
            in_force: Arc::new(in_force),
            then: Vec::new(),
        })
    }

    pub(crate) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "UPDATE store_state SET epoch = ?1, clock_high_water = ?2";
        let high_water = self.clock_high_water.as_millis();
        connection.prepare_cached(sql)?.execute(params![integer(self.epoch), high_water]).map(|_| ())
    }
}

/// Makes the row of the store itself, with its log's id, where there is none. Answers the log's id.
pub(crate) fn claim_log(connection: &Connection, fresh: LogId) -> rusqlite::Result<LogId> {
    let make = "INSERT INTO store_state (only_row, log_id, epoch, clock_high_water) VALUES (1, ?1, 0, 0)
                ON CONFLICT DO NOTHING";
    connection.execute(make, [id_bytes(fresh.as_uuid())])?;
    let log: [u8; 16] = connection.query_row("SELECT log_id FROM store_state", [], |row| row.get(0))?;
    Ok(uuid::Uuid::from_bytes(log).into())
}

/// The transaction, as one operation sees it.
pub(crate) struct Transaction<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) numbers: &'a mut Numbers,
}

impl Transaction<'_> {
    pub(crate) fn prepare(&self, sql: &str) -> Outcome<CachedStatement<'_>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    pub(crate) fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Outcome<usize> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    pub(crate) fn find<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Outcome<Option<T>> {
        Ok(self.prepare(sql)?.query_row(params, read).optional()?)
    }

    /// Compares `now` with the latest time seen, and remembers it.
    pub(crate) fn observe_clock(&mut self, now: Timestamp) -> Outcome<()> {
        self.confirm_clock(now)?;
        self.numbers.clock_high_water = self.numbers.clock_high_water.max(now);
        Ok(())
    }

    /// Compares `now` with the latest time seen.
    pub(crate) fn confirm_clock(&self, now: Timestamp) -> Outcome<()> {
        let seen = self.numbers.clock_high_water;
        if now.plus(CLOCK_TOLERANCE) < seen {
            return Err(StoreError::ClockBehind { behind: seen.since(now) }.into());
        }
        Ok(())
    }

    /// Changes what is in force, with the commit.
    pub(crate) fn command(&mut self, change: impl FnOnce(&mut InForce)) {
        change(Arc::make_mut(&mut self.numbers.in_force));
    }

    /// Appends to the log and to its tree, in the transaction of whatever the entries tell of.
    pub(crate) fn append(&mut self, entries: &[EncodedEntry]) -> Outcome<()> {
        for entry in entries {
            let sequence = self.numbers.frontier.size();
            entry.insert(self, integer(sequence))?;
            for (tile, hash) in self.numbers.frontier.push(entry.leaf_hash(self.numbers.log, sequence)) {
                log::insert_tile(self.connection, tile, hash)?;
            }
        }
        Ok(())
    }
}
