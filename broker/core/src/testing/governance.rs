use std::sync::{Arc, Mutex, PoisonError};

use crate::catalog::Revision;
use crate::port::Governance;

/// What happens right after a reading.
type AfterReading = Box<dyn FnOnce(&FixedGovernance) + Send>;

/// A revision in force that a test can swap.
pub struct FixedGovernance {
    revision: Mutex<Arc<Revision>>,
    after_reading: Mutex<Option<AfterReading>>,
}

impl std::fmt::Debug for FixedGovernance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FixedGovernance").field(&self.current().id).finish()
    }
}

impl FixedGovernance {
    /// Starts with `revision`.
    #[must_use]
    pub fn new(revision: Revision) -> Self {
        Self { revision: Mutex::new(Arc::new(revision)), after_reading: Mutex::default() }
    }

    /// Another revision is in force from now on.
    pub fn swap(&self, revision: Revision) {
        *self.revision.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(revision);
    }

    /// The revision in force, edited.
    pub fn edit(&self, edit: impl FnOnce(&mut Revision)) {
        let now = self.current();
        let mut revision = Revision {
            id: now.id.clone(),
            catalog: now.catalog.clone(),
            policy: Arc::clone(&now.policy),
            verifiers: now.verifiers.clone(),
            attestors: Arc::clone(&now.attestors),
            backends: now.backends.clone(),
        };
        edit(&mut revision);
        self.swap(revision);
    }

    /// Does `then`, once, after somebody has read the revision and before it is told which: the world moves at the
    /// worst moment.
    pub fn after_next_reading(&self, then: impl FnOnce(&FixedGovernance) + Send + 'static) {
        *self.after_reading.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(then));
    }
}

impl Governance for FixedGovernance {
    fn current(&self) -> Arc<Revision> {
        let read = Arc::clone(&self.revision.lock().unwrap_or_else(PoisonError::into_inner));
        let then = self.after_reading.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(then) = then {
            then(self);
        }
        read
    }
}
