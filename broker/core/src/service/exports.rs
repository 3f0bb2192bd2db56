//! How far the audit log has been taken away, and what follows when it is not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Reason, ServiceError};
use crate::port::AuditSink;
use crate::time::Ttl;

/// One destination of the log.
pub struct Export {
    /// Where it goes.
    pub sink: Arc<dyn AuditSink>,
    /// How many entries may wait before nothing is issued any more.
    pub max_lag: u64,
    /// The place of the first entry that it has not.
    next: AtomicU64,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("name", &self.sink.name()).field("next", &self.next()).finish_non_exhaustive()
    }
}

impl Export {
    /// A destination that has every entry before the place `next`.
    #[must_use]
    pub fn new(sink: Arc<dyn AuditSink>, max_lag: u64, next: u64) -> Self {
        Self { sink, max_lag, next: AtomicU64::new(next) }
    }

    /// Its name for whoever asks without a proof: a URL's query can hold a collector's key.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        let name = self.sink.name();
        name.split_once('?').map_or(name, |(shown, _)| shown)
    }

    /// The place of the first entry that it has not.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    pub(crate) fn advance(&self, next: u64) {
        self.next.fetch_max(next, Ordering::AcqRel);
    }

    /// How many of a log's entries it has not.
    #[must_use]
    pub fn lag(&self, log_size: u64) -> u64 {
        log_size.saturating_sub(self.next())
    }
}

/// Whether something may be issued: not while entries wait that others are to have. None is dropped; instead, nothing more
/// happens that would have to be told.
///
/// # Errors
/// [`ServiceError::Unavailable`] while a destination is too far behind.
pub(super) fn check(exports: &[Arc<Export>], log_size: u64) -> Result<(), ServiceError> {
    let behind = exports.iter().find(|export| export.lag(log_size) > export.max_lag);
    match behind {
        None => Ok(()),
        Some(_) => Err(ServiceError::Unavailable {
            reason: Reason::AuditBackpressure,
            detail: "the audit log is not taken away as fast as it grows; nothing is issued until it is".to_owned(),
            retry_after: Ttl::from_secs(5),
        }),
    }
}
