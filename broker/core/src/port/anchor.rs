//! A place outside the store for the newest checkpoint.

use async_trait::async_trait;

/// Keeps the newest checkpoint where the store's files are not, so that a database that is put back is noticed.
#[async_trait]
pub trait Anchor: Send + Sync + 'static {
    /// The signed note that is kept, if there is one.
    ///
    /// # Errors
    /// [`AnchorFailed`].
    async fn read(&self) -> Result<Option<String>, AnchorFailed>;

    /// Puts another in its place, whole or not at all.
    ///
    /// # Errors
    /// [`AnchorFailed`]; then the one before is still there.
    async fn keep(&self, note: &str) -> Result<(), AnchorFailed>;
}

/// The place cannot be read or written; the text says which and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AnchorFailed(pub String);
