//! Reads the log beside a running broker, without its lock: entries that are written are never written again. And what is
//! held against it, all of it as it was at one moment.

use std::path::Path;

use hallpass_core::audit::Leaf;
use hallpass_core::audit::told::LiveRow;
use hallpass_core::grant::StateName;
use hallpass_core::id::LogId;
use hallpass_core::port::KeptCheckpoint;
use rusqlite::{Connection, params};

use super::kept;
use crate::connection;
use crate::error::{OpenError, Outcome};
use crate::migrate;
use crate::rows::Columns;

/// The log of a store, for reading alone.
pub struct LogReader {
    path: std::path::PathBuf,
    connection: Connection,
    log: LogId,
}

impl LogReader {
    /// Opens the database at `path` for reading. Blocks, as all here does.
    ///
    /// # Errors
    /// [`OpenError`]: it is not there, is of another schema than this program's, or refuses.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = OpenError::database(path);
        let connection = connection::to_read(path).map_err(&failed)?;
        migrate::refuse_another_schema(&connection, path)?;
        let log: [u8; 16] =
            connection.query_row("SELECT log_id FROM store_state", [], |row| row.get(0)).map_err(&failed)?;
        Ok(Self { path: path.to_owned(), log: uuid::Uuid::from_bytes(log).into(), connection })
    }

    /// Leaves in their order from the place `from`, a bounded number of them; none behind the last.
    ///
    /// # Errors
    /// [`OpenError`] when they cannot be read.
    pub fn leaves(&self, from: u64) -> Result<Vec<Leaf>, OpenError> {
        let leaves = super::leaves(&self.connection, self.log, from, super::MAX_LEAVES);
        leaves.map_err(OpenError::refused(&self.path))
    }

    /// The same reader, to which everything stays as it is now. While it lives, the database's journal grows.
    ///
    /// # Errors
    /// [`OpenError`] when the database cannot be read.
    pub fn at_one_moment(self) -> Result<Self, OpenError> {
        let failed = OpenError::database(&self.path);
        // A transaction of this kind begins with what it reads first.
        self.connection.execute_batch("BEGIN DEFERRED; SELECT log_id FROM store_state").map_err(failed)?;
        Ok(self)
    }

    /// Grants that are not over, in the order in which they were opened, each with its place in that: a bounded number of
    /// them behind the place `after`; none behind the last.
    ///
    /// # Errors
    /// [`OpenError`] when they cannot be read.
    pub fn live_grants(&self, after: i64) -> Result<Vec<(i64, LiveRow)>, OpenError> {
        live_grants(&self.connection, after).map_err(OpenError::refused(&self.path))
    }

    /// The newest checkpoint that the store keeps.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be read.
    pub fn newest_checkpoint(&self) -> Result<Option<KeptCheckpoint>, OpenError> {
        kept::newest(&self.connection).map_err(OpenError::refused(&self.path))
    }
}

fn live_grants(connection: &Connection, after: i64) -> Outcome<Vec<(i64, LiveRow)>> {
    let sql = "SELECT seq, id, state, expires_at FROM grants
               WHERE seq > ?1 AND state IN ('pending', 'active', 'revoking') ORDER BY seq LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, i64::try_from(super::MAX_LEAVES).unwrap_or(i64::MAX)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = &mut Columns::new(row, "grants");
        let seq = columns.value("seq")?;
        columns.keyed(seq);
        let id = columns.id("id")?;
        let state = columns.parsed("state", StateName::parse)?;
        found.push((seq, LiveRow { id, state, expires_at: columns.time("expires_at")? }));
    }
    Ok(found)
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("path", &self.path).field("log", &self.log).finish_non_exhaustive()
    }
}
