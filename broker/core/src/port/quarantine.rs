//! The part of a store that stops new grants.

use async_trait::async_trait;

use super::{Page, PageRequest, StoreError};
use crate::audit::{Actor, AuditEntry};
use crate::id::QuarantineId;
use crate::policy::Decision;
use crate::quarantine::{Lifted, Quarantine};
use crate::time::Timestamp;

/// Quarantines. From the commit of [`QuarantineStore::add_quarantine`] on, what it stops is refused by
/// [`super::Store::open`] and by every change that was decided ([`super::Change::epoch`]), in their own transactions.
#[async_trait]
pub trait QuarantineStore: Send + Sync {
    /// Records a quarantine and moves the epoch.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn add_quarantine(&self, order: QuarantineOrder, epoch: u64) -> Result<Added, StoreError>;

    /// Records that a quarantine is lifted. `false` when it is not in force.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn lift_quarantine(
        &self,
        id: QuarantineId,
        lifted: Lifted,
        entry: AuditEntry,
        decisions: Vec<Decision>,
    ) -> Result<bool, StoreError>;

    /// Lifts those whose end has come at `now`, with an entry each. Answers how many.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn lift_ended_quarantines(&self, now: Timestamp) -> Result<usize, StoreError>;

    /// One quarantine.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn quarantine(&self, id: QuarantineId) -> Result<Option<Quarantine>, StoreError>;

    /// Quarantines, of one author where one is given, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::InvalidCursor`] for a cursor that this store did not give.
    async fn quarantines(&self, author: Option<&Actor>, page: &PageRequest) -> Result<Page<Quarantine>, StoreError>;
}

/// What adding a quarantine writes.
#[derive(Clone, Debug)]
pub struct QuarantineOrder {
    /// The quarantine.
    pub quarantine: Quarantine,
    /// Decisions that it rests on: one for each outcome and set of determining policies.
    pub decisions: Vec<Decision>,
    /// The entry that tells of it.
    pub entry: AuditEntry,
}

/// How adding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Written; it holds.
    Done,
    /// The epoch moved since the decisions: decide again.
    Moved,
    /// Too many are in force: of this author, or of all; or what is left is kept for wider ones.
    TooMany,
}
