//! Spares are kept as they are behind the faults.

use async_trait::async_trait;

use super::FaultingStore;
use crate::id::{GrantId, SpareId};
use crate::port::{Spare, Spares, StoreError};

#[async_trait]
impl Spares for FaultingStore {
    async fn keep_spare(&self, spare: &Spare) -> Result<(), StoreError> {
        self.inner().keep_spare(spare).await
    }

    async fn spares(&self) -> Result<Vec<Spare>, StoreError> {
        self.inner().spares().await
    }

    async fn spare_taken_by(&self, id: SpareId) -> Result<Option<Option<GrantId>>, StoreError> {
        self.inner().spare_taken_by(id).await
    }

    async fn forget_spare(&self, id: SpareId) -> Result<bool, StoreError> {
        self.inner().forget_spare(id).await
    }
}
