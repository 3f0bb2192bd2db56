//! What is ended is read as it is behind the faults.

use async_trait::async_trait;

use super::FaultingStore;
use crate::port::{EndedGrant, EndedGrants, StoreError};
use crate::time::Timestamp;

#[async_trait]
impl EndedGrants for FaultingStore {
    async fn ended_alive(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<EndedGrant>, StoreError> {
        self.inner().ended_alive(backend_kind, now).await
    }
}
