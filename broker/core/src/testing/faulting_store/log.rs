//! The log is read as it is behind the faults.

use async_trait::async_trait;

use super::FaultingStore;
use crate::audit::proof::{ConsistencyProof, InclusionProof};
use crate::audit::tree::{TreeHash, TreeHead};
use crate::audit::{Leaf, SignedCheckpoint};
use crate::id::LogId;
use crate::port::{AuditLog, KeptCheckpoint, StoreError};
use crate::time::Timestamp;

#[async_trait]
impl AuditLog for FaultingStore {
    fn log_id(&self) -> LogId {
        self.inner().log_id()
    }

    fn tree_head(&self) -> TreeHead {
        self.inner().tree_head()
    }

    fn log_size(&self) -> u64 {
        self.inner().log_size()
    }

    async fn root_at(&self, size: u64) -> Result<Option<TreeHash>, StoreError> {
        self.inner().root_at(size).await
    }

    async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Leaf>, StoreError> {
        self.inner().leaves(from, limit).await
    }

    async fn inclusion(&self, sequence: u64, size: u64) -> Result<Option<(InclusionProof, TreeHash)>, StoreError> {
        self.inner().inclusion(sequence, size).await
    }

    async fn consistency(&self, from: u64, size: u64) -> Result<Option<ConsistencyProof>, StoreError> {
        self.inner().consistency(from, size).await
    }

    async fn keep_checkpoint(
        &self,
        checkpoint: SignedCheckpoint,
        at: Timestamp,
        anchored: bool,
    ) -> Result<(), StoreError> {
        self.inner().keep_checkpoint(checkpoint, at, anchored).await
    }

    async fn newest_checkpoint(&self) -> Result<Option<KeptCheckpoint>, StoreError> {
        self.inner().newest_checkpoint().await
    }

    async fn exported(&self, destination: &str) -> Result<u64, StoreError> {
        self.inner().exported(destination).await
    }

    async fn advance_export(&self, destination: &str, next: u64) -> Result<(), StoreError> {
        self.inner().advance_export(destination, next).await
    }
}
