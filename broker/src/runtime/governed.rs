//! The bundle revision in force, and how it is replaced: whole, or not at all.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hallpass_core::catalog::Revision;
use hallpass_core::port::Governance;

/// Holds the revision in force. A request that took one keeps it to its end.
#[derive(Debug)]
pub struct Governed(ArcSwap<Revision>);

impl Governed {
    /// Begins with `revision`.
    #[must_use]
    pub fn new(revision: Arc<Revision>) -> Self {
        Self(ArcSwap::new(revision))
    }

    /// Puts `revision` into force for every request that begins from now on.
    pub fn replace(&self, revision: Arc<Revision>) {
        self.0.store(revision);
    }
}

impl Governance for Governed {
    fn current(&self) -> Arc<Revision> {
        self.0.load_full()
    }
}
