//! Reads the log beside a running broker, without its lock: entries that are written are never written again.

use std::path::Path;

use hallpass_core::audit::Leaf;
use hallpass_core::id::LogId;
use hallpass_core::port::KeptCheckpoint;
use rusqlite::Connection;

use super::kept;
use crate::connection;
use crate::error::OpenError;
use crate::migrate;

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

    /// The newest checkpoint that the store keeps.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be read.
    pub fn newest_checkpoint(&self) -> Result<Option<KeptCheckpoint>, OpenError> {
        kept::newest(&self.connection).map_err(OpenError::refused(&self.path))
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("path", &self.path).field("log", &self.log).finish_non_exhaustive()
    }
}
