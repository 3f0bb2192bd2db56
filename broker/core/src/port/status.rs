//! Which credentials ended before their time, for lists that verifiers read without asking about any single one.

use std::ops::Range;

use async_trait::async_trait;

use super::StoreError;

/// The part of the record that status lists are made of.
#[async_trait]
pub trait StatusRecord: Send + Sync {
    /// The status indexes within `indexes` whose grants ended, or began to end, before their credentials expire, in
    /// ascending order. `None` when no grant has, or may have had, an index as high as the first of `indexes`: there is no such list.
    ///
    /// A grant stays among them after its credential expired: a verifier whose clock is behind, or that forgives a
    /// minute, must not find valid again what it was told to refuse. So are indexes without a grant that may have been
    /// given out before an older copy was put back ([`RestoreRecord`](super::RestoreRecord)): their grants are lost.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn ended_early(&self, indexes: Range<u64>) -> Result<Option<Vec<u64>>, StoreError>;
}
