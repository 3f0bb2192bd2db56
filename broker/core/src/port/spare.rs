//! Spares: what backends prepared ahead of any grant, so that a request need not wait for it.

use async_trait::async_trait;

use super::StoreError;
use crate::credential::Handle;
use crate::id::{BackendName, GrantId, RoleName, SpareId};
use crate::time::Timestamp;

/// The part of the record that keeps spares. One is taken in the transaction that opens its grant
/// ([`Opening::spare`](super::Opening)).
#[async_trait]
pub trait Spares: Send + Sync {
    /// Keeps a spare that nobody has taken yet.
    ///
    /// # Errors
    /// [`StoreError`]; then it is not kept.
    async fn keep_spare(&self, spare: &Spare) -> Result<(), StoreError>;

    /// All spares that nobody has taken.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn spares(&self) -> Result<Vec<Spare>, StoreError>;

    /// The grant that took a spare; the inner none where nobody did, the outer where no such spare is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn spare_taken_by(&self, id: SpareId) -> Result<Option<Option<GrantId>>, StoreError>;

    /// Forgets a spare that nobody has taken. `false` where somebody has, or it is not kept.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn forget_spare(&self, id: SpareId) -> Result<bool, StoreError>;
}

/// Something prepared ahead.
#[derive(Debug)]
pub struct Spare {
    /// Its id, which the backend knows too.
    pub id: SpareId,
    /// Where it was prepared.
    pub backend: BackendName,
    /// For which role.
    pub role: RoleName,
    /// Digest of the role as it was: of another definition it is of no use.
    pub role_digest: String,
    /// What to mint with, and undo by. Sealed in the store.
    pub handle: Handle,
    /// When the backend ends it.
    pub expires_at: Timestamp,
}
