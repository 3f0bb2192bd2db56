//! What is governed: reading it, its history, and putting another bundle into force.
//!
//! Publications are made one after the other. A revision is in force before it is recorded: the record moves the epoch,
//! and whoever decides again because of that must decide by the new one. What cannot be recorded is taken back.

mod changes;
mod local;
mod publish;
mod read;
pub mod widening;

pub use changes::Changes;
pub use local::{record_local, reload};
pub use publish::{Content, Published, Publisher, Touched, Wanted, publisher};
pub use read::{Reader, Shown, reader};

use std::sync::Arc;

use tokio::sync::Mutex;

use super::Ports;
use crate::error::ServiceError;
use crate::port::{BundleSource, Candidate, Press, Publication, PublishOutcome, StoreError};

/// What publishing works with.
pub struct Publishing {
    /// Where bundles come from.
    pub source: BundleSource,
    /// Makes revisions out of them.
    pub press: Arc<dyn Press>,
    turn: Mutex<()>,
}

impl std::fmt::Debug for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publishing").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Publishing {
    /// Publishing by `press` of what comes from `source`.
    #[must_use]
    pub fn new(source: BundleSource, press: Arc<dyn Press>) -> Self {
        Self { source, press, turn: Mutex::new(()) }
    }
}

/// Puts `candidate` into force and records that; what is not recorded does not stay in force.
async fn put_in_force(
    ports: &Ports,
    candidate: &Candidate,
    publication: Publication,
) -> Result<PublishOutcome, StoreError> {
    let take_back = (candidate.put_in_force)();
    fail::fail_point!("publish::before-commit");
    let outcome = ports.store.publish_revision(publication).await;
    fail::fail_point!("publish::after-commit");
    match outcome {
        Ok(PublishOutcome::Published) => Ok(PublishOutcome::Published),
        Ok(other) => {
            take_back();
            Ok(other)
        }
        // The answer may have been lost and not the record: what the record says is in force, after a restart too.
        Err(error) => match ports.store.active_revision().await {
            Ok(Some(active)) if active.id == candidate.revision.id => Ok(PublishOutcome::Published),
            _ => {
                take_back();
                Err(error)
            }
        },
    }
}

/// Another publication came first where none can have.
fn superseded() -> ServiceError {
    ServiceError::unavailable(
        crate::error::Reason::StateConflict,
        "another revision was published meanwhile; nothing was changed",
    )
}
