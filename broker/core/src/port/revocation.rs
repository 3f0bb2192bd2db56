//! The part of a store that ends sets of grants.

use std::sync::Arc;

use async_trait::async_trait;

use super::{IdempotencyClaim, Page, PageRequest, QuarantineOrder, StoreError};
use crate::audit::{Actor, AuditEntry};
use crate::grant::{Grant, StateName};
use crate::id::{GrantId, RevocationId};
use crate::in_force::InForce;
use crate::policy::Decision;
use crate::revocation::{Likeness, Progress, Reach, Revocation};
use crate::selector::Selector;
use crate::time::Timestamp;

/// Revocations of sets: recorded at once, their rows followed in chunks.
///
/// From the commit of [`RevocationStore::begin_revocation`] on, whatever the revocation ends is refused by
/// [`super::Store::open`] and [`super::Store::apply`] in their own transactions, until
/// [`RevocationStore::complete_revocation`].
#[async_trait]
pub trait RevocationStore: Send + Sync {
    /// What is in force as of the last commit.
    fn in_force(&self) -> Arc<InForce>;

    /// Every likeness that a grant of this store has or had.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn likenesses(&self) -> Result<Vec<Likeness>, StoreError>;

    /// Counts what `selector` selects and `reach` covers, of what has not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn count_selected(&self, selector: &Selector, reach: &Reach) -> Result<Vec<Count>, StoreError>;

    /// The newest of what would be ended, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn first_selected(&self, selector: &Selector, reach: &Reach, limit: usize) -> Result<Vec<Grant>, StoreError>;

    /// Records a revocation, with the quarantine that comes with it, and moves the epoch.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn begin_revocation(&self, beginning: Beginning) -> Result<Begun, StoreError>;

    /// Ends grants of the revocation whose rows have not followed, as many as fit into a few milliseconds, with one
    /// audit entry that lists them. Those of `fenced_kinds` of backends are fenced by this very commit, where they are
    /// of that class. One call keeps nobody waiting for longer than that.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn follow_revocation(
        &self,
        id: RevocationId,
        fenced_kinds: &[String],
        now: Timestamp,
    ) -> Result<Followed, StoreError>;

    /// Counts what is still to follow, and keeps how many grants the revocation ends in all.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn measure_revocation(&self, id: RevocationId) -> Result<(), StoreError>;

    /// Ids of the grants whose rows have followed, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn revoked_grants(&self, id: RevocationId) -> Result<Vec<GrantId>, StoreError>;

    /// Records that no row is left to follow, and moves the epoch. Does nothing to one that is complete.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn complete_revocation(
        &self,
        id: RevocationId,
        grants_digest: [u8; 32],
        now: Timestamp,
        entry: AuditEntry,
    ) -> Result<(), StoreError>;

    /// One revocation.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn revocation(&self, id: RevocationId) -> Result<Option<Revocation>, StoreError>;

    /// How far it has come.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn revocation_progress(&self, id: RevocationId) -> Result<Progress, StoreError>;

    /// Revocations, of one author where one is given, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::InvalidCursor`] for a cursor that this store did not give.
    async fn revocations(&self, author: Option<&Actor>, page: &PageRequest) -> Result<Page<Revocation>, StoreError>;
}

/// What beginning a revocation writes.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The revocation.
    pub revocation: Revocation,
    /// The quarantine that comes with it, with its own entries and decisions.
    pub quarantine: Option<QuarantineOrder>,
    /// Decisions that it rests on: one for each outcome and set of determining policies.
    pub decisions: Vec<Decision>,
    /// Entries that tell of it.
    pub entries: Vec<AuditEntry>,
    /// The caller's idempotency key.
    pub idempotency: Option<IdempotencyClaim>,
    /// The epoch at the time of the decisions.
    pub epoch: u64,
}

/// How a beginning ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Written; it holds.
    Begun,
    /// The same request was made before under this key.
    Already(RevocationId),
    /// The idempotency key came with another request before.
    RequestMismatch,
    /// The epoch moved since the decisions: decide again.
    Moved,
    /// Too many run: of this author, or of all.
    TooMany,
    /// Too many quarantines are in force: of this author, or of all.
    TooManyQuarantines,
}

/// What one step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// How many rows have followed.
    pub ended: usize,
    /// Whether there may be more.
    pub more: bool,
    /// Whether it is known how many grants the revocation ends in all.
    pub measured: bool,
}

/// How many grants of a kind are selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What they have in common.
    pub likeness: Likeness,
    /// Their state: pending, active or revoking.
    pub state: StateName,
    /// Whether the revocation would end them: covered by its reach, and neither ending already nor of a state that the
    /// selector does not want.
    pub would_end: bool,
    /// How many.
    pub grants: u64,
}
