//! The part of a store that knows what is derived from what.

use async_trait::async_trait;

use super::StoreError;
use crate::grant::Grant;
use crate::id::GrantId;
use crate::time::Timestamp;

/// Grants and what they are derived from.
#[async_trait]
pub trait Families: Send + Sync {
    /// The grant `id`, if its credential works at `now`: it lives, and so does everything that it is derived from, at any
    /// height, also by what has been commanded and has not reached the rows ([`crate::in_force::InForce::is_live`]).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn live_grant(&self, id: GrantId, now: Timestamp) -> Result<Option<Grant>, StoreError>;
}
