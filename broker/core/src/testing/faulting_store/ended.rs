//! What is ended is read as it is behind the faults.

use async_trait::async_trait;

use super::FaultingStore;
use crate::port::{Ended, EndedGrants, EndedPage, FenceName, StoreError};
use crate::time::Timestamp;

#[async_trait]
impl EndedGrants for FaultingStore {
    async fn ended_alive(&self, fence: FenceName<'_>, now: Timestamp, page: EndedPage) -> Result<Ended, StoreError> {
        self.inner().ended_alive(fence, now, page).await
    }

    async fn fences(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<String>, StoreError> {
        self.inner().fences(backend_kind, now).await
    }
}
