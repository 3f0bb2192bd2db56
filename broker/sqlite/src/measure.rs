//! What the store counts. The names are described in the broker, which holds the list of all of them.

use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};

/// An operation began to wait for the writer.
pub(crate) fn queued() {
    gauge!("hallpass_store_queue_depth").increment(1.0);
}

/// Operations wait no longer: the writer took them, or there was no room.
pub(crate) fn unqueued(operations: usize) {
    gauge!("hallpass_store_queue_depth").decrement(small(operations));
}

/// A batch of so many operations was committed, or was not.
pub(crate) fn batch(operations: usize, took: Duration, committed: bool) {
    histogram!("hallpass_store_batch_operations").record(small(operations));
    if committed {
        histogram!("hallpass_store_commit_seconds").record(took);
    } else {
        counter!("hallpass_store_commit_failures_total").increment(1);
    }
}

/// How long the write-ahead log is.
pub(crate) fn log_pages(pages: i64) {
    gauge!("hallpass_store_wal_pages").set(small(usize::try_from(pages).unwrap_or(0)));
}

/// A number that is bounded far below what a float counts exactly.
fn small(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Measures how long something takes. No decision depends on it.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a stopwatch for metrics: nothing is decided by it")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
