//! The data keys at rest: each wrapped by a key-encryption key, and named by every value that is sealed under it.

use async_trait::async_trait;

use super::{DataKeyId, StoreError, Wrapping};
use crate::audit::AuditEntry;
use crate::time::Timestamp;

/// The part of the record that keeps data keys, and what is sealed under them.
#[async_trait]
pub trait DataKeyRecord: Send + Sync {
    /// All data keys, the oldest first. The newest seals.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn data_keys(&self) -> Result<Vec<StoredDataKey>, StoreError>;

    /// How many values are sealed under another key than the one that seals now. Reads all of them.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn sealed_otherwise(&self) -> Result<u64, StoreError>;

    /// Makes a change of the data keys with the entries that tell of it, all or nothing. Answers how many values were
    /// sealed anew; none where the keys are not those any more that the change was made for, and nothing was written.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn change_data_keys(&self, change: DataKeyChange) -> Result<Option<u64>, StoreError>;
}

/// What becomes of data keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataKeyChange {
    /// A new key, or one that is here already in its new wrapping.
    pub put: Option<StoredDataKey>,
    /// The wrapping whose place `put` takes, as it was read; none where `put` is a new key. Of two that were made for the
    /// same one, the second is written nowhere: whoever made it was not told of the first.
    pub in_place_of: Option<Wrapping>,
    /// Keys that go: nothing may be sealed under them after `reseals`.
    pub remove: Vec<DataKeyId>,
    /// Whether every value that is sealed under another key than the one that seals now is sealed anew under that one. It
    /// is one transaction: while it runs nothing else is written.
    pub reseals: bool,
    /// What tells of it.
    pub entries: Vec<AuditEntry>,
}

/// A data key at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDataKey {
    /// Its id.
    pub id: DataKeyId,
    /// The key, wrapped.
    pub wrapping: Wrapping,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was wrapped like this.
    pub wrapped_at: Timestamp,
}
