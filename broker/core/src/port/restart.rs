//! What a broker asks of its store when it starts.

use async_trait::async_trait;

use super::StoreError;
use crate::time::Timestamp;

/// Starting again on what is there.
#[async_trait]
pub trait Restart: Send + Sync + 'static {
    /// Counts the silence of every holder from `now` ([`Grant::resume`](crate::grant::Grant::resume)): while no broker ran,
    /// nobody could give a sign of life. Asked once, before anything is served. Answers how many grants wait for one.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn resume(&self, now: Timestamp) -> Result<usize, StoreError>;
}
