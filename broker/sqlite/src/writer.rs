//! The one writer: a thread that owns the one connection that writes.
//!
//! Every change is an operation with somebody waiting for its answer. The writer takes all that wait, runs them in one
//! transaction, and answers each when the commit is on the disk: the price of a sync is shared, and no answer is given
//! before the sync. An operation that fails is rolled back alone and never fails its batch. A commit that fails answers
//! everybody in it with the error; the next batch starts from what the database then says, on a new connection if need
//! be, so that a full or unwritable disk is over when it is over, without a restart.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hallpass_core::audit::tree::{Frontier, TreeHead};
use hallpass_core::in_force::InForce;
use hallpass_core::port::{OnceRecorded, StoreError};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::checkpoint::{Checkpointer, Limits};
use crate::connection;
use crate::error::{Failure, OpenError, Outcome};
use crate::lock::Lock;
use crate::measure::{self, Stopwatch};
use crate::transaction::{Numbers, Transaction};

/// Operations in one transaction at most: more would make the first wait for the last.
const MAX_BATCH: usize = 256;

/// From this many operations in a batch on, the next one is given time to gather: so many callers are busy that the next
/// of them are on their way, and a sync, and the pages that every grant touches, cost the same for few as for many.
const GATHER_FROM: usize = 12;

/// How many it gathers. Not all that could come: while some are written, the others must be at work.
const GATHER_UP_TO: usize = 24;

/// How long it gathers at most. Well below what callers then wait for the processor.
const GATHER: Duration = Duration::from_millis(1);

/// Operations that may wait. Beyond it the store is not keeping up, and saying so at once is kinder than a timeout.
const MAX_WAITING: usize = 4_096;

/// One change, prepared on its caller's task so that the writer only writes. It may run twice: first with the others in
/// one transaction, then, if one of them failed, on its own savepoint.
pub(crate) trait Operation: Send + 'static {
    /// What running found.
    type Found: Send;
    /// What the caller gets.
    type Answer: Send;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Self::Found>;

    /// Runs after the commit, on the caller's task.
    fn answer(self, found: Self::Found) -> Self::Answer;
}

/// An operation that is one function.
struct Plain<F, T>(F, PhantomData<fn() -> T>);

impl<F, T> Operation for Plain<F, T>
where
    T: Send + 'static,
    F: Fn(&mut Transaction<'_>) -> Outcome<T> + Send + 'static,
{
    type Found = T;
    type Answer = T;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<T> {
        (self.0)(transaction)
    }

    fn answer(self, found: T) -> T {
        found
    }
}

/// The handle on the writer's thread. Dropping it lets the thread finish what waits, and waits for it.
pub(crate) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    committed: Arc<Committed>,
}

/// What others may know of the last commit without asking the database.
struct Committed {
    epoch: AtomicU64,
    frontier: Mutex<Frontier>,
    in_force: RwLock<Arc<InForce>>,
}

impl Committed {
    /// What is in force comes before the epoch: whoever reads a moved epoch must find why it moved.
    fn publish(&self, numbers: &Numbers) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&numbers.in_force);
        self.epoch.store(numbers.epoch, Ordering::Release);
        self.frontier.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&numbers.frontier);
    }
}

impl Writer {
    /// Starts the thread. It keeps `lock` until nothing can write any more.
    pub(crate) fn start(path: &Path, connection: Connection, lock: Lock) -> Result<Self, OpenError> {
        let numbers = Numbers::load(&connection).map_err(OpenError::refused(path))?;
        let committed =
            Committed { epoch: AtomicU64::default(), frontier: Mutex::default(), in_force: RwLock::default() };
        committed.publish(&numbers);
        let committed = Arc::new(committed);
        let failed = |source| OpenError::File { path: path.to_owned(), source };
        let room = Room {
            path: path.to_owned(),
            checkpointer: Checkpointer::start(path, Limits::USUAL).map_err(failed)?,
            connection: Some(connection),
            numbers: Some(numbers),
            unanswered: None,
            committed: Arc::clone(&committed),
            _lock: lock,
        };
        let (sender, queue) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || room.serve(&queue));
        let thread = thread.map_err(failed)?;
        Ok(Self { queue: Some(sender), thread: Some(thread), committed })
    }

    /// Runs `operation` in some batch; answers when that is durable.
    pub(crate) async fn write<O: Operation>(&self, operation: O) -> Result<O::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("the writer has ended".to_owned());
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        measure::queued();
        queue.try_send(Box::new(Waiting { operation, found: None, reply })).map_err(|error| {
            measure::unqueued(1);
            match error {
                TrySendError::Full(_) => StoreError::Unavailable("too many changes wait to be written".to_owned()),
                TrySendError::Disconnected(_) => gone(),
            }
        })?;
        let (operation, found) = answer.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(operation.answer(found))
    }

    /// Runs a small change that needs no preparation.
    pub(crate) async fn run<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Outcome<T> + Send + 'static,
    {
        self.write(Plain(change, PhantomData)).await
    }

    /// The epoch as last committed.
    pub(crate) fn epoch(&self) -> u64 {
        self.committed.epoch.load(Ordering::Acquire)
    }

    /// How long the audit log is, as last committed.
    pub(crate) fn log_size(&self) -> u64 {
        self.frontier(Frontier::size)
    }

    /// Where the audit log stands, as last committed.
    pub(crate) fn tree_head(&self) -> TreeHead {
        self.frontier(Frontier::head)
    }

    fn frontier<T>(&self, read: impl FnOnce(&Frontier) -> T) -> T {
        read(&self.committed.frontier.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is in force as last committed.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.committed.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}

/// An operation whose kind the writer need not know.
trait Job: Send {
    /// Runs it and keeps what it found. False when it failed.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool;

    /// Why it failed, if it did.
    fn take_failure(&mut self) -> Option<Failure>;

    /// Answers whoever waits.
    fn finish(self: Box<Self>, batch: &Result<(), StoreError>);
}

struct Waiting<O: Operation> {
    operation: O,
    found: Option<Outcome<O::Found>>,
    /// Gives the operation back: to take it apart is not the writer's work.
    reply: oneshot::Sender<Result<(O, O::Found), StoreError>>,
}

impl<O: Operation> Job for Waiting<O> {
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool {
        self.found.insert(self.operation.run(transaction)).is_ok()
    }

    fn take_failure(&mut self) -> Option<Failure> {
        self.found.take()?.err()
    }

    fn finish(self: Box<Self>, batch: &Result<(), StoreError>) {
        let Self { operation, found, reply } = *self;
        let answer = match (batch, found) {
            (Err(error), _) => Err(error.clone()),
            (Ok(()), Some(Ok(found))) => Ok((operation, found)),
            (Ok(()), Some(Err(failure))) => Err(failure.into()),
            (Ok(()), None) => Err(StoreError::Unavailable("the writer skipped the change".to_owned())),
        };
        // Whoever has stopped waiting reads the record.
        let _ = reply.send(answer);
    }
}

/// The thread's own.
struct Room {
    path: PathBuf,
    // Before the connection: the last to close tidies up.
    checkpointer: Checkpointer,
    /// None after a failure that may have left it unusable.
    connection: Option<Connection>,
    /// None after a failed commit: they are read again.
    numbers: Option<Numbers>,
    /// What a batch was to do once it is committed, and the epoch that it moved to, where only its commit failed: it may be
    /// on the disk all the same.
    unanswered: Option<(u64, Vec<OnceRecorded>)>,
    committed: Arc<Committed>,
    _lock: Lock,
}

/// Whether operations of a batch are kept apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// They share their fate: cheap, and right as long as none fails.
    No,
    /// Each has its own savepoint.
    Yes,
}

/// How a batch went that could be run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ran {
    /// Committed.
    Committed,
    /// One failed and they were not kept apart: all was rolled back.
    MustKeepApart,
}

impl Room {
    fn serve(mut self, queue: &Receiver<Box<dyn Job>>) {
        let mut patience = Duration::ZERO;
        while let Some(mut batch) = gather(queue, patience) {
            patience = if batch.len() >= GATHER_FROM { GATHER } else { Duration::ZERO };
            measure::unqueued(batch.len());
            let watch = Stopwatch::start();
            let result = self.commit(&mut batch);
            measure::batch(batch.len(), watch.elapsed(), result.is_ok());
            for job in batch {
                job.finish(&result);
            }
            if let Some(connection) = &self.connection {
                self.checkpointer.after_commit(connection);
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let ran = self.attempt(batch, Apart::No).and_then(|ran| match ran {
            Ran::Committed => Ok(ran),
            Ran::MustKeepApart => self.attempt(batch, Apart::Yes),
        });
        ran.map(|_| ()).map_err(|failure| {
            self.recover(&failure);
            let error = StoreError::from(failure);
            tracing::error!(%error, waiting = batch.len(), "a batch of changes was not written");
            error
        })
    }

    fn attempt(&mut self, batch: &mut [Box<dyn Job>], apart: Apart) -> Outcome<Ran> {
        let connection = match self.connection.take() {
            Some(connection) => self.connection.insert(connection),
            None => self.connection.insert(connection::to_write(&self.path)?),
        };
        execute(connection, "BEGIN IMMEDIATE")?;
        let committed = match &self.numbers {
            Some(numbers) => numbers,
            None => {
                let found = Numbers::load(connection)?;
                // Nobody else writes: the epoch is there if, and only if, the batch that moved it is.
                if let Some((epoch, then)) = self.unanswered.take()
                    && found.epoch >= epoch
                {
                    then.iter().for_each(OnceRecorded::run);
                }
                self.numbers.insert(found)
            }
        };
        let mut numbers = committed.clone();
        for job in batch {
            // Where all share their fate, one that fails ends the attempt.
            let before = (apart == Apart::Yes).then(|| numbers.clone());
            if apart == Apart::Yes {
                execute(connection, "SAVEPOINT operation")?;
            }
            let done = job.run(&mut Transaction { connection, numbers: &mut numbers });
            if !done {
                if let Some(before) = before {
                    numbers = before;
                }
                // What SQLite cannot undo alone, such as a full disk, has ended the whole transaction.
                if connection.is_autocommit()
                    && let Some(failure) = job.take_failure()
                {
                    return Err(failure);
                }
                if apart == Apart::No {
                    execute(connection, "ROLLBACK")?;
                    return Ok(Ran::MustKeepApart);
                }
                execute(connection, "ROLLBACK TO operation")?;
            }
            if apart == Apart::Yes {
                execute(connection, "RELEASE operation")?;
            }
        }
        if (numbers.epoch, numbers.clock_high_water) != (committed.epoch, committed.clock_high_water) {
            numbers.store(connection)?;
        }
        if let Err(error) = commit_durably(connection) {
            self.unanswered = Some((numbers.epoch, numbers.then)).filter(|(_, then)| !then.is_empty());
            return Err(error.into());
        }
        std::mem::take(&mut numbers.then).iter().for_each(OnceRecorded::run);
        self.committed.publish(&numbers);
        self.numbers = Some(numbers);
        fail::fail_point!("store::after-commit");
        Ok(Ran::Committed)
    }

    /// After a failure: nothing is half written, and the next batch begins with what the database says.
    fn recover(&mut self, failure: &Failure) {
        self.numbers = None;
        let harmless = match failure {
            Failure::Sql(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull))
            }
            Failure::Store(_) => true,
        };
        let usable = self.connection.as_ref().is_some_and(|connection| {
            let rolled_back = connection.is_autocommit() || execute(connection, "ROLLBACK").is_ok();
            rolled_back && harmless
        });
        if !usable {
            self.connection = None;
        }
    }
}

/// What waits, and what comes within `patience`. None when nothing will come any more.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a batch gathers is about the processor's time, not the domain's"
)]
fn gather(queue: &Receiver<Box<dyn Job>>, patience: Duration) -> Option<Vec<Box<dyn Job>>> {
    let mut batch = vec![queue.recv().ok()?];
    let began = Instant::now();
    while batch.len() < MAX_BATCH {
        let left = patience.saturating_sub(began.elapsed());
        let next = if left.is_zero() || batch.len() >= GATHER_UP_TO {
            queue.try_recv().ok()
        } else {
            queue.recv_timeout(left).ok()
        };
        let Some(job) = next else { break };
        batch.push(job);
    }
    Some(batch)
}

fn commit_durably(connection: &Connection) -> rusqlite::Result<()> {
    fail::fail_point!("store::before-commit", |_| Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC),
        Some("fail point".to_owned()),
    )));
    execute(connection, "COMMIT")?;
    fail::fail_point!("store::answer-lost", |_| Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC),
        Some("fail point".to_owned()),
    )));
    Ok(())
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}
