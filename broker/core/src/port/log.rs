//! The audit log as a store keeps it: entries in their order, and the tree over them.

use async_trait::async_trait;

use super::store::StoreError;
use crate::audit::proof::{ConsistencyProof, InclusionProof};
use crate::audit::tree::{TreeHash, TreeHead};
use crate::audit::{Leaf, SignedCheckpoint};
use crate::id::LogId;
use crate::time::Timestamp;

/// The log. Appending is part of every other call ([`super::Store`]); here it is read and proved. All of it is about
/// committed entries alone.
#[async_trait]
pub trait AuditLog: Send + Sync + 'static {
    /// Which log this is.
    fn log_id(&self) -> LogId;

    /// How long it is and what it comes to. In memory, as last committed.
    fn tree_head(&self) -> TreeHead;

    /// How long it is. In memory, as last committed.
    fn log_size(&self) -> u64;

    /// What it came to when it had `size` entries; `None` if it has not had so many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn root_at(&self, size: u64) -> Result<Option<TreeHash>, StoreError>;

    /// Leaves in their order from the place `from`, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Leaf>, StoreError>;

    /// Shows that the entry at `sequence` is among the first `size`, with what they come to; `None` where it is not.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn inclusion(&self, sequence: u64, size: u64) -> Result<Option<(InclusionProof, TreeHash)>, StoreError>;

    /// Shows that the first `size` entries begin with the first `from`; `None` where the log has not had so many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn consistency(&self, from: u64, size: u64) -> Result<Option<ConsistencyProof>, StoreError>;

    /// Keeps a checkpoint that was signed at `at`: all of a day, and of each day before it the first. `anchored` says
    /// whether there is a place beside the store to keep the newest.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn keep_checkpoint(
        &self,
        checkpoint: SignedCheckpoint,
        at: Timestamp,
        anchored: bool,
    ) -> Result<(), StoreError>;

    /// The checkpoint of the longest log that is kept, as it was signed.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn newest_checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError>;

    /// The place of the first entry that an export's destination has not, as last remembered; 0 for a new one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn exported(&self, destination: &str) -> Result<u64, StoreError>;

    /// Remembers that a destination has every entry before the place `next`. It never goes back.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn advance_export(&self, destination: &str, next: u64) -> Result<(), StoreError>;
}

/// A checkpoint at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// How long the log was, and what it came to.
    pub head: TreeHead,
    /// The signed note.
    pub note: String,
    /// Whether there was a place beside the store to keep it; `None` of earlier versions, which did not say.
    pub anchored: Option<bool>,
}
