//! What is SQLite's own: faults below the writer, rows that cannot be, plans of queries.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod checkpoints;
mod data_keys;
mod ending;
mod faults;
mod log;
mod migrations;
mod plans;
mod publications;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;

use hallpass_core::port::{OpenOutcome, Store, StoreError};
use hallpass_core::testing::store_suite;
use hallpass_core::testing::{TestSealer, sample};
use rusqlite::Connection;

use crate::SqliteStore;

/// A store in a folder of its own, known by its own type and by the port.
struct House {
    own: Arc<SqliteStore>,
    port: Arc<dyn Store>,
    path: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(folder.path().join("hallpass.db"), Some(folder))
    }

    fn at(path: PathBuf, folder: Option<tempfile::TempDir>) -> Self {
        let own = Arc::new(SqliteStore::open(&path, Arc::new(TestSealer::new(1)), sample::id(1)).unwrap());
        Self { port: Arc::clone(&own) as Arc<dyn Store>, own, path, _folder: folder }
    }

    /// Opens the grant `n`.
    async fn open(&self, n: u64) -> Result<OpenOutcome, StoreError> {
        self.port.open(store_suite::opening(&self.port, n, sample::NOW)).await
    }

    /// Runs SQL beside the store, as somebody with the file could.
    fn meddle(&self, sql: &str) {
        Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }

    /// Runs SQL on the writer's own connection.
    async fn pragma(&self, sql: &'static str) {
        let run = move |transaction: &mut crate::transaction::Transaction<'_>| {
            let mut statement = transaction.connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        self.own.writer.run(run).await.unwrap();
    }

    async fn assert_sound(&self) {
        assert_eq!(self.own.integrity_check().await.unwrap(), Vec::<String>::new());
    }
}
