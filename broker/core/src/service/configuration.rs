//! What is governed: reading it, its history, and putting another bundle into force.
//!
//! Publications are made one after the other. A revision is recorded first, and in force before anybody can read the epoch
//! that its record moved: whoever decides again because of that decides by the new one, and nobody by one that is not on
//! record. When recording fails, nothing changes.

mod changes;
mod local;
mod publish;
mod read;
mod told;
pub mod widening;

pub use changes::Changes;
pub use local::{record_local, reload};
pub use publish::{Content, Published, Publisher, Touched, Wanted, publisher};
pub use read::{Reader, Shown, reader};
pub use told::{NotAsPublished, Told, confirm, told};

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

/// Records `candidate`, and with that puts it into force.
async fn put_in_force(
    ports: &Ports,
    candidate: &Candidate,
    publication: Publication,
) -> Result<PublishOutcome, StoreError> {
    let publication = Publication { then: candidate.put_in_force.clone(), ..publication };
    fail::fail_point!("publish::before-commit");
    let outcome = ports.store.publish_revision(publication).await;
    fail::fail_point!("publish::after-commit");
    match outcome {
        // The answer may have been lost and not the record: what the record says is in force, after a restart too.
        Err(error) => match ports.store.active_revision().await {
            Ok(Some(active)) if active.id == candidate.revision.id => {
                candidate.put_in_force.run();
                Ok(PublishOutcome::Published)
            }
            _ => Err(error),
        },
        outcome => outcome,
    }
}

/// Another publication came first where none can have.
fn superseded() -> ServiceError {
    ServiceError::unavailable(
        crate::error::Reason::StateConflict,
        "another revision was published meanwhile; nothing was changed",
    )
}
