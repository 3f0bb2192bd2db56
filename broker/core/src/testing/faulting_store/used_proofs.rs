//! Which proofs were used is read as it is behind the faults.

use async_trait::async_trait;

use super::FaultingStore;
use crate::port::{ProofUse, StoreError, UsedProofs};

#[async_trait]
impl UsedProofs for FaultingStore {
    async fn was_used(&self, proof: &ProofUse) -> Result<bool, StoreError> {
        self.inner().was_used(proof).await
    }
}
