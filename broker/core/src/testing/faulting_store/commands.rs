use std::sync::Arc;

use async_trait::async_trait;

use super::{FaultingStore, StoreFault, Write, lost};
use crate::audit::{Actor, AuditEntry};
use crate::grant::Grant;
use crate::id::{GrantId, QuarantineId, RevocationId};
use crate::in_force::InForce;
use crate::policy::Decision;
use crate::port::{
    Added, Beginning, Begun, Count, Followed, Page, PageRequest, QuarantineOrder, QuarantineStore, RevocationStore,
    Store as _, StoreError,
};
use crate::quarantine::{Lifted, Quarantine};
use crate::revocation::{Likeness, Progress, Reach, Revocation};
use crate::selector::Selector;
use crate::time::Timestamp;

#[async_trait]
impl RevocationStore for FaultingStore {
    fn in_force(&self) -> Arc<InForce> {
        self.inner().in_force()
    }

    async fn likenesses(&self) -> Result<Vec<Likeness>, StoreError> {
        self.inner().likenesses().await
    }

    async fn count_selected(&self, selector: &Selector, reach: &Reach) -> Result<Vec<Count>, StoreError> {
        self.inner().count_selected(selector, reach).await
    }

    async fn first_selected(&self, selector: &Selector, reach: &Reach, limit: usize) -> Result<Vec<Grant>, StoreError> {
        self.inner().first_selected(selector, reach, limit).await
    }

    async fn begin_revocation(&self, mut beginning: Beginning) -> Result<Begun, StoreError> {
        let fault = self.fault(Write::BeginRevocation);
        if beginning.epoch < self.epoch() {
            return Ok(Begun::Moved);
        }
        beginning.epoch = beginning.epoch.saturating_sub(self.ahead());
        faulting!(fault, self.inner().begin_revocation(beginning))
    }

    async fn follow_revocation(
        &self,
        id: RevocationId,
        fenced_kinds: &[String],
        now: Timestamp,
    ) -> Result<Followed, StoreError> {
        faulting!(self.fault(Write::FollowRevocation), self.inner().follow_revocation(id, fenced_kinds, now))
    }

    async fn measure_revocation(&self, id: RevocationId) -> Result<(), StoreError> {
        self.inner().measure_revocation(id).await
    }

    async fn revoked_grants(&self, id: RevocationId) -> Result<Vec<GrantId>, StoreError> {
        self.inner().revoked_grants(id).await
    }

    async fn complete_revocation(
        &self,
        id: RevocationId,
        grants_digest: [u8; 32],
        now: Timestamp,
        entry: AuditEntry,
    ) -> Result<(), StoreError> {
        let fault = self.fault(Write::CompleteRevocation);
        faulting!(fault, self.inner().complete_revocation(id, grants_digest, now, entry))
    }

    async fn revocation(&self, id: RevocationId) -> Result<Option<Revocation>, StoreError> {
        self.inner().revocation(id).await
    }

    async fn revocation_progress(&self, id: RevocationId) -> Result<Progress, StoreError> {
        self.inner().revocation_progress(id).await
    }

    async fn revocations(&self, author: Option<&Actor>, page: &PageRequest) -> Result<Page<Revocation>, StoreError> {
        self.inner().revocations(author, page).await
    }
}

#[async_trait]
impl QuarantineStore for FaultingStore {
    async fn add_quarantine(&self, order: QuarantineOrder, epoch: u64) -> Result<Added, StoreError> {
        let fault = self.fault(Write::AddQuarantine);
        if epoch < self.epoch() {
            return Ok(Added::Moved);
        }
        faulting!(fault, self.inner().add_quarantine(order, epoch.saturating_sub(self.ahead())))
    }

    async fn lift_quarantine(
        &self,
        id: QuarantineId,
        lifted: Lifted,
        entry: AuditEntry,
        decisions: Vec<Decision>,
    ) -> Result<bool, StoreError> {
        self.inner().lift_quarantine(id, lifted, entry, decisions).await
    }

    async fn lift_ended_quarantines(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.inner().lift_ended_quarantines(now).await
    }

    async fn quarantine(&self, id: QuarantineId) -> Result<Option<Quarantine>, StoreError> {
        self.inner().quarantine(id).await
    }

    async fn quarantines(&self, author: Option<&Actor>, page: &PageRequest) -> Result<Page<Quarantine>, StoreError> {
        self.inner().quarantines(author, page).await
    }
}
