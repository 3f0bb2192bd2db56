//! Reading, beside the writer: a few connections that cannot write, on the runtime's blocking threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hallpass_core::port::StoreError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::connection;
use crate::error::{Failure, Outcome};

/// Reads at the same time. More than the cores they would share with everything else only adds page caches.
const READERS: usize = 4;

/// The pool.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        let room = Arc::new(Semaphore::new(READERS));
        Self { path: path.to_owned(), idle: Arc::new(Mutex::new(Vec::with_capacity(READERS))), room }
    }

    /// Runs `query` in a transaction of its own, so that all that it reads is of one moment, and rolls it back.
    pub(crate) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let gone = || StoreError::Unavailable("the store's readers have ended".to_owned());
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(|_| gone())?;
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let spare = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match spare {
                Some(connection) => connection,
                None => connection::to_read(&path)?,
            };
            connection.prepare_cached("BEGIN")?.execute([])?;
            let found = query(&connection);
            let ended = connection.prepare_cached("ROLLBACK").and_then(|mut rollback| rollback.execute([]));
            // One that failed may be unwell: the next read opens another.
            if ended.is_ok() && !matches!(found, Err(Failure::Sql(_))) {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            found
        });
        Ok(reading.await.map_err(|_| gone())??)
    }
}
