//! How the record stands is read as it is behind the faults.

use async_trait::async_trait;

use super::FaultingStore;
use crate::port::{Backlog, LiveGrants, Standing, StoreError};

#[async_trait]
impl Standing for FaultingStore {
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.inner().backlog().await
    }

    async fn live(&self) -> Result<LiveGrants, StoreError> {
        self.inner().live().await
    }
}
