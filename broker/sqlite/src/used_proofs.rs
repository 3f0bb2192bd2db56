//! Which proofs were used, without using one.

use async_trait::async_trait;
use hallpass_core::port::{ProofUse, StoreError, UsedProofs};

use crate::SqliteStore;
use crate::rows::proof;

#[async_trait]
impl UsedProofs for SqliteStore {
    async fn was_used(&self, proof: &ProofUse) -> Result<bool, StoreError> {
        let proof = proof.clone();
        self.readers.read(move |connection| Ok(!proof::may_be_used(connection, &proof, None)?)).await
    }
}
