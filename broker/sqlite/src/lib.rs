//! The Hallpass store on SQLite, for one broker.
//!
//! * **Durable before it is answered.** One writer thread runs the changes that wait in one transaction and answers
//!   them when the commit is synced to the disk (`writer`).
//! * **One process.** A lock file beside the database refuses a second one (`lock`).
//! * **State and evidence together.** An operation appends its audit entries in the transaction of its change; a
//!   sequence number is given there, without gaps (`transaction`).
//! * **A row is a state or an error.** What no version of this program writes is named with its table, column and row
//!   (`rows`).

mod apply;
mod checkpoint;
mod connection;
mod cursor;
mod data_keys;
mod displace;
mod ended;
mod error;
mod family;
mod governance;
mod history;
mod keys;
mod list;
mod lock;
mod log;
mod measure;
mod migrate;
mod open;
mod quarantines;
mod queue;
mod quota;
mod readers;
mod restart;
mod restore;
mod revocations;
mod rows;
mod select;
mod spares;
mod standing;
mod status;
mod transaction;
mod used_proofs;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use hallpass_core::audit::{AuditEntry, RecordedEntry};
use hallpass_core::credential::Handle;
use hallpass_core::grant::Grant;
use hallpass_core::id::{DecisionId, GrantId, LogId, ReservationId};
use hallpass_core::policy::Decision;
use hallpass_core::port::{
    Applied, AuditFilter, Change, Fenced, GrantFilter, Lineage, LineageKey, OpenOutcome, Opening, Page, PageRequest,
    Reserved, Restart, Sealer, Share, Store, StoreError,
};
use hallpass_core::time::{Timestamp, Ttl};

pub use data_keys::data_keys_of;
pub use error::OpenError;
pub use log::LogReader;

use crate::apply::{Apply, Record};
use crate::lock::Lock;
use crate::open::Open;
use crate::readers::Readers;
use crate::rows::audit::EncodedEntry;
use crate::transaction::Transaction;
use crate::writer::Writer;

/// The store. Dropping it finishes what waits to be written and releases the lock.
pub struct SqliteStore {
    path: PathBuf,
    log: LogId,
    sealer: Arc<dyn Sealer>,
    next_status_index: AtomicU64,
    // Before the writer: the last connection to close tidies up, and must be one that can write.
    readers: Readers,
    writer: Writer,
}

/// What [`SqliteStore::migrate`] did: schema versions before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Version found; 0 for a new file.
    pub from: usize,
    /// Version now.
    pub to: usize,
}

impl SqliteStore {
    /// Opens the database at `path`, making or migrating it as needed. `fresh_log` becomes the id of the audit log when
    /// the store is new. Blocks: call it before serving.
    ///
    /// # Errors
    /// [`OpenError`]: another process has it, a newer program made it, or the file or the database refuses.
    pub fn open(path: &Path, sealer: Arc<dyn Sealer>, fresh_log: LogId) -> Result<Self, OpenError> {
        let lock = Lock::acquire(path)?;
        lock::prepare_database_file(path)?;
        let failed = OpenError::database(path);
        let mut connection = connection::to_write(path).map_err(&failed)?;
        migrate::migrate(&mut connection, path)?;
        queue::release_all(&connection, &lock).map_err(&failed)?;
        let log = transaction::claim_log(&connection, fresh_log).map_err(&failed)?;
        log::complete_tiles(&mut connection, log).map_err(OpenError::refused(path))?;
        let next_index = restore::next_index(&connection).map_err(&failed)?;
        let writer = Writer::start(path, connection, lock)?;
        Ok(Self {
            path: path.to_owned(),
            log,
            sealer,
            next_status_index: AtomicU64::new(next_index),
            readers: Readers::new(path),
            writer,
        })
    }

    /// Brings the database at `path` to this program's schema, while no broker uses it. Blocks.
    ///
    /// # Errors
    /// As from [`SqliteStore::open`].
    pub fn migrate(path: &Path) -> Result<Migrated, OpenError> {
        let _lock = Lock::acquire(path)?;
        lock::prepare_database_file(path)?;
        let failed = OpenError::database(path);
        let mut connection = connection::to_write(path).map_err(&failed)?;
        let (from, to) = migrate::migrate(&mut connection, path)?;
        Ok(Migrated { from, to })
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole database and answers what is wrong with it: pages, indexes, references, and an audit log that is
    /// not what its tree and its checkpoints say. Takes long for a large one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be read.
    pub async fn integrity_check(&self) -> Result<Vec<String>, StoreError> {
        let log = self.log;
        self.readers.read(move |connection| governance::integrity_problems(connection, log)).await
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).field("log", &self.log).finish_non_exhaustive()
    }
}

#[async_trait]
impl Restart for SqliteStore {
    async fn resume(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.writer.run(move |transaction| restart::resume(transaction, now)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn open(&self, opening: Opening) -> Result<OpenOutcome, StoreError> {
        self.writer.write(Open::prepare(opening, self.sealer.as_ref())?).await
    }

    async fn apply(&self, change: Change) -> Result<Applied, StoreError> {
        self.writer.write(Apply::prepare(change, self.sealer.as_ref())?).await
    }

    async fn record(&self, entries: Vec<AuditEntry>, decision: Option<Decision>) -> Result<(), StoreError> {
        self.writer.write(Record::prepare(entries, decision)?).await
    }

    async fn reserve_due(
        &self,
        now: Timestamp,
        hold: Ttl,
        reservation: ReservationId,
        share: &Share,
        limit: usize,
    ) -> Result<Vec<Reserved>, StoreError> {
        let share = share.clone();
        let reserve =
            move |transaction: &mut Transaction<'_>| queue::reserve(transaction, now, hold, reservation, &share, limit);
        let places = self.writer.run(reserve).await?;
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.readers.read(move |connection| queue::read_held(connection, &places)).await?;
        let held_until = now.plus(hold);
        let open = |held: queue::Held| Reserved {
            handle: rows::grant::open_handle(self.sealer.as_ref(), held.grant.record.id, &held.sealed_handle),
            grant: held.grant,
            reservation,
            held_until,
        };
        Ok(held.into_iter().map(open).collect())
    }

    async fn release(&self, reservation: ReservationId) -> Result<(), StoreError> {
        self.writer.run(move |transaction| queue::release(transaction, reservation)).await
    }

    async fn expire_due(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.writer.run(move |transaction| queue::expire(transaction, now, limit)).await
    }

    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.writer.run(move |transaction| queue::purge(transaction, now, limit)).await
    }

    async fn grant(&self, id: GrantId) -> Result<Option<Grant>, StoreError> {
        self.readers.read(move |connection| rows::grant::by_id(connection, id)).await
    }

    async fn handle(&self, id: GrantId) -> Result<Option<Handle>, StoreError> {
        let sealed = self.readers.read(move |connection| rows::grant::sealed_handle(connection, id)).await?;
        sealed.map(|sealed| rows::grant::open_handle(self.sealer.as_ref(), id, &sealed)).transpose()
    }

    async fn grants(&self, filter: &GrantFilter, page: &PageRequest) -> Result<Page<Grant>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.readers.read(move |connection| list::grants(connection, &filter, &page)).await
    }

    async fn fenced(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<Fenced>, StoreError> {
        // Before the rows: what has not followed now is found as what is fenced, or as what will be.
        let (backend_kind, in_force) = (backend_kind.to_owned(), self.writer.in_force());
        let read = move |connection: &rusqlite::Connection| {
            let mut fenced = rows::grant::fenced(connection, &backend_kind, now)?;
            let still_accepted = now.minus(hallpass_core::grant::EXPIRY_SKEW);
            fenced.extend(revocations::fenced_ahead(connection, &in_force, &backend_kind, still_accepted)?);
            Ok(fenced)
        };
        self.readers.read(read).await
    }

    async fn lineage(&self, key: &LineageKey, now: Timestamp) -> Result<Option<Lineage>, StoreError> {
        let key = key.clone();
        self.readers.read(move |connection| rows::lineage::continued(connection, &key, now)).await
    }

    async fn decision(&self, id: DecisionId) -> Result<Option<Decision>, StoreError> {
        self.readers.read(move |connection| rows::decision::by_id(connection, id)).await
    }

    async fn decisions(&self, limit: usize) -> Result<Vec<Decision>, StoreError> {
        self.readers.read(move |connection| rows::decision::newest(connection, limit)).await
    }

    async fn audit(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<RecordedEntry>, StoreError> {
        let (log, filter, page) = (self.log, filter.clone(), page.clone());
        self.readers.read(move |connection| list::audit(connection, log, &filter, &page)).await
    }

    fn next_status_index(&self) -> u64 {
        self.next_status_index.fetch_add(1, Ordering::Relaxed)
    }

    fn epoch(&self) -> u64 {
        self.writer.epoch()
    }

    async fn move_epoch(&self, entries: Vec<AuditEntry>) -> Result<u64, StoreError> {
        let entries = EncodedEntry::encode_all(entries)?;
        self.writer.run(move |transaction| governance::move_epoch(transaction, &entries)).await
    }

    async fn check(&self, now: Timestamp) -> Result<(), StoreError> {
        self.writer.run(move |transaction| governance::probe(transaction, now)).await
    }
}
