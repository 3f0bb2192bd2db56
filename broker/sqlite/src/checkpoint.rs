//! Copies the write-ahead log into the database beside the writer, so that no commit waits for the copying.
//!
//! SQLite can checkpoint while another connection writes (`PASSIVE`); only to begin the log anew must everything in it
//! have been copied, and while the writer is busy there is always a last batch that has not. So a thread of its own
//! copies in bulk, and once the log is long the writer copies the little that is left and begins it anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::{connection, measure};

/// When what is done, in pages of 4 KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Pages that wait to be copied before the thread is woken. Pages that every grant touches are copied once for all
    /// the grants among them.
    pub(crate) copy_at: i64,
    /// Length at which the log is begun anew. What a crash leaves behind is read at the next start, so not longer.
    pub(crate) renew_at: i64,
    /// What the writer copies by itself without being held up much.
    pub(crate) little: i64,
}

impl Limits {
    /// 16 MiB, 64 MiB and 8 MiB.
    pub(crate) const USUAL: Self = Self { copy_at: 4_096, renew_at: 16_384, little: 2_048 };
}

/// The thread, and what is known of its work.
pub(crate) struct Checkpointer {
    limits: Limits,
    wake: Option<SyncSender<()>>,
    busy: Arc<AtomicBool>,
    /// Whether it was said that copying fails: once, until it succeeds again.
    complained: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long the log is, and how much of it has been copied, in pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) log: i64,
    pub(crate) copied: i64,
}

impl Checkpointer {
    pub(crate) fn start(path: &Path, limits: Limits) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let complained = Arc::new(AtomicBool::new(false));
        let (path, shared) = (path.to_owned(), (Arc::clone(&busy), Arc::clone(&complained)));
        let thread = std::thread::Builder::new()
            .name("store-copier".to_owned())
            .spawn(move || copy_when_woken(&path, &woken, &shared.0, &shared.1))?;
        Ok(Self { limits, wake: Some(wake), busy, complained, thread: Some(thread) })
    }

    /// After a commit: has the log copied, or begins it anew, when that is due. A failure costs nothing but length; it
    /// is tried again after the next commit.
    pub(crate) fn after_commit(&self, writer: &Connection) {
        let tended = checkpoint(writer, "NOOP").and_then(|progress| self.tend(writer, progress));
        if let Err(error) = tended {
            complain(&self.complained, &error);
        }
    }

    fn tend(&self, writer: &Connection, progress: Progress) -> rusqlite::Result<()> {
        measure::log_pages(progress.log);
        let left = progress.log.saturating_sub(progress.copied);
        if self.busy.load(Ordering::Acquire) {
            return Ok(());
        }
        if progress.log >= self.limits.renew_at && left <= self.limits.little {
            return checkpoint(writer, "PASSIVE").map(|_| ());
        }
        if left >= self.limits.copy_at
            && let Some(wake) = &self.wake
        {
            self.busy.store(true, Ordering::Release);
            // A thread that has ended cannot be woken: then the writer does it all.
            if wake.try_send(()).is_err() {
                checkpoint(writer, "PASSIVE")?;
            }
        }
        Ok(())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that copies the store's log ended by a panic");
        }
    }
}

fn copy_when_woken(path: &Path, woken: &Receiver<()>, busy: &AtomicBool, complained: &AtomicBool) {
    let mut kept = None;
    while woken.recv().is_ok() {
        let connection = kept.take().map_or_else(|| connection::to_checkpoint(path), Ok);
        match connection.and_then(|connection| checkpoint(&connection, "PASSIVE").map(|_| connection)) {
            Ok(connection) => {
                complained.store(false, Ordering::Release);
                kept = Some(connection);
            }
            Err(error) => complain(complained, &error),
        }
        busy.store(false, Ordering::Release);
    }
}

fn complain(complained: &AtomicBool, error: &rusqlite::Error) {
    if !complained.swap(true, Ordering::AcqRel) {
        tracing::warn!(%error, "the write-ahead log cannot be copied into the database; it grows until it can");
    }
}

pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Progress> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    statement.query_row([], |row| Ok(Progress { log: row.get(1)?, copied: row.get(2)? }))
}
