//! The part of a store that knows which proofs were used.

use async_trait::async_trait;

use super::{ProofUse, StoreError};

/// Looks at the use of proofs without using them. What counts is what [`Store::open`](super::Store::open) finds.
#[async_trait]
pub trait UsedProofs: Send + Sync + 'static {
    /// Whether a proof was used before, in whatever idempotency key's scope.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn was_used(&self, proof: &ProofUse) -> Result<bool, StoreError>;
}
