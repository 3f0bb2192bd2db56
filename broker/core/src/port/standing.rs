//! How the record stands, at a glance: for metrics and readiness.

use async_trait::async_trait;

use super::StoreError;
use crate::time::Timestamp;

/// What is alive and what waits. Both answers are read from indexes over live grants alone: their cost does not grow
/// with the record.
#[async_trait]
pub trait Standing: Send + Sync + 'static {
    /// What has waited the longest.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn backlog(&self) -> Result<Backlog, StoreError>;

    /// How many grants are in each state that is not final. Its cost grows with their number.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn live(&self) -> Result<LiveGrants, StoreError>;
}

/// The oldest of each kind of work. An instant to come says that nothing waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// When the grant that is due first is, or was, due for a worker.
    pub due: Option<Timestamp>,
    /// When the grant that is over first is, or was, over by itself.
    pub over: Option<Timestamp>,
    /// When the end was asked for that has waited longest to be confirmed, or for its fence to stand.
    pub unconfirmed: Option<Timestamp>,
}

/// Grants by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveGrants {
    /// Recorded, not yet minted.
    pub pending: u64,
    /// In use.
    pub active: u64,
    /// Being undone, or waiting for their time to be over.
    pub revoking: u64,
}
