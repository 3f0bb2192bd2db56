mod ended;
mod log;
mod spares;
mod standing;
mod used_proofs;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::audit::{AuditEntry, RecordedEntry};
use crate::credential::Handle;
use crate::grant::Grant;
use crate::id::{DecisionId, GrantId, PolicyId, ReservationId, RevisionId, RoleName};
use crate::policy::Decision;
use crate::port::{
    Applied, AuditFilter, Change, DataKeyChange, DataKeyRecord, Families, Fenced, Files, GrantFilter, History,
    KeyChange, KeyRecord, Lineage, LineageKey, OpenOutcome, Opening, Page, PageRequest, Publication, PublishOutcome,
    Reserved, Restart, Restoration, RestoreRecord, Restored, RevisionRecord, Share, StatusRecord, Store, StoreError,
    StoredDataKey, StoredKey,
};
use crate::time::{Timestamp, Ttl};

/// Does `$call` as the fault says.
macro_rules! faulting {
    ($fault:expr, $call:expr) => {
        match $fault {
            Some(StoreFault::Lost) => Err(lost()),
            Some(StoreFault::AnswerLost) => $call.await.and(Err(lost())),
            None => $call.await,
        }
    };
}

mod commands;

/// A store in front of another that fails as it is told to.
pub struct FaultingStore {
    inner: Mutex<Option<Arc<dyn Store>>>,
    faults: Mutex<HashMap<Write, (usize, StoreFault)>>,
    meanwhile: Mutex<HashMap<Write, Meanwhile>>,
    epoch_ahead: AtomicU64,
}

/// What happens while a write is under way.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// A call that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// `open`.
    Open,
    /// `apply`.
    Apply,
    /// `record`.
    Record,
    /// `reserve_due`.
    Reserve,
    /// `expire_due`.
    Expire,
    /// `publish_revision`.
    Publish,
    /// `change_keys`.
    Keys,
    /// `change_data_keys`.
    DataKeys,
    /// `begin_revocation`.
    BeginRevocation,
    /// `follow_revocation`.
    FollowRevocation,
    /// `complete_revocation`.
    CompleteRevocation,
    /// `add_quarantine`.
    AddQuarantine,
    /// `restore`.
    Restore,
}

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Nothing is written.
    Lost,
    /// It is written, and the answer is lost.
    AnswerLost,
}

impl FaultingStore {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner: Mutex::new(Some(inner)),
            faults: Mutex::default(),
            meanwhile: Mutex::default(),
            epoch_ahead: AtomicU64::new(0),
        }
    }

    /// Closes the store behind it, and opens another.
    pub fn reopen(&self, open: impl FnOnce() -> Arc<dyn Store>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        *inner = None;
        *inner = Some(open());
    }

    fn inner(&self) -> Arc<dyn Store> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(inner.as_ref().expect("the store is open"))
    }

    /// Does `then`, once, when the next `write` is asked for, before it is done: the world moves at the worst moment.
    pub fn meanwhile(&self, write: Write, then: impl FnOnce() + Send + 'static) {
        self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).insert(write, Box::new(then));
    }

    /// Fails the write `write` after `passing` more of them have passed.
    pub fn fail(&self, write: Write, passing: usize, fault: StoreFault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).insert(write, (passing, fault));
    }

    /// Fails nothing any longer.
    pub fn heal(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The epoch moves, without waiting for it: for when the world moves at the worst moment.
    pub fn move_epoch_now(&self) {
        self.epoch_ahead.fetch_add(1, Ordering::SeqCst);
    }

    fn fault(&self, write: Write) -> Option<StoreFault> {
        let then = self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner).remove(&write);
        if let Some(then) = then {
            then();
        }
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let (passing, fault) = faults.get_mut(&write)?;
        if *passing > 0 {
            *passing -= 1;
            return None;
        }
        let fault = *fault;
        faults.remove(&write);
        Some(fault)
    }

    fn ahead(&self) -> u64 {
        self.epoch_ahead.load(Ordering::SeqCst)
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the test says so".to_owned())
}

#[async_trait]
impl Restart for FaultingStore {
    async fn resume(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.inner().resume(now).await
    }
}

#[async_trait]
impl Families for FaultingStore {
    async fn live_grant(&self, id: GrantId, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        self.inner().live_grant(id, now).await
    }
}

#[async_trait]
impl RestoreRecord for FaultingStore {
    async fn restore(&self, restoration: Restoration) -> Result<Restored, StoreError> {
        faulting!(self.fault(Write::Restore), self.inner().restore(restoration))
    }
}

#[async_trait]
impl KeyRecord for FaultingStore {
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.inner().keys().await
    }

    async fn change_keys(&self, change: KeyChange) -> Result<(), StoreError> {
        faulting!(self.fault(Write::Keys), self.inner().change_keys(change))
    }
}

#[async_trait]
impl DataKeyRecord for FaultingStore {
    async fn data_keys(&self) -> Result<Vec<StoredDataKey>, StoreError> {
        self.inner().data_keys().await
    }

    async fn sealed_otherwise(&self) -> Result<u64, StoreError> {
        self.inner().sealed_otherwise().await
    }

    async fn change_data_keys(&self, change: DataKeyChange) -> Result<Option<u64>, StoreError> {
        faulting!(self.fault(Write::DataKeys), self.inner().change_data_keys(change))
    }
}

#[async_trait]
impl StatusRecord for FaultingStore {
    async fn ended_early(&self, indexes: Range<u64>) -> Result<Option<Vec<u64>>, StoreError> {
        self.inner().ended_early(indexes).await
    }
}

#[async_trait]
impl Store for FaultingStore {
    async fn open(&self, mut opening: Opening) -> Result<OpenOutcome, StoreError> {
        let fault = self.fault(Write::Open);
        if opening.epoch < self.epoch() {
            return Ok(OpenOutcome::Moved);
        }
        opening.epoch = opening.epoch.saturating_sub(self.ahead());
        faulting!(fault, self.inner().open(opening))
    }

    async fn apply(&self, mut change: Change) -> Result<Applied, StoreError> {
        let fault = self.fault(Write::Apply);
        if change.epoch.is_some_and(|epoch| epoch < self.epoch()) {
            return Ok(Applied::Moved);
        }
        change.epoch = change.epoch.map(|epoch| epoch.saturating_sub(self.ahead()));
        faulting!(fault, self.inner().apply(change))
    }

    async fn record(&self, entries: Vec<AuditEntry>, decision: Option<Decision>) -> Result<(), StoreError> {
        faulting!(self.fault(Write::Record), self.inner().record(entries, decision))
    }

    async fn reserve_due(
        &self,
        now: Timestamp,
        hold: Ttl,
        reservation: ReservationId,
        share: &Share,
        limit: usize,
    ) -> Result<Vec<Reserved>, StoreError> {
        faulting!(self.fault(Write::Reserve), self.inner().reserve_due(now, hold, reservation, share, limit))
    }

    async fn release(&self, reservation: ReservationId) -> Result<(), StoreError> {
        self.inner().release(reservation).await
    }

    async fn expire_due(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        faulting!(self.fault(Write::Expire), self.inner().expire_due(now, limit))
    }

    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner().purge(now, limit).await
    }

    async fn grant(&self, id: GrantId) -> Result<Option<Grant>, StoreError> {
        self.inner().grant(id).await
    }

    async fn handle(&self, id: GrantId) -> Result<Option<Handle>, StoreError> {
        self.inner().handle(id).await
    }

    async fn grants(&self, filter: &GrantFilter, page: &PageRequest) -> Result<Page<Grant>, StoreError> {
        self.inner().grants(filter, page).await
    }

    async fn fenced(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<Fenced>, StoreError> {
        self.inner().fenced(backend_kind, now).await
    }

    async fn lineage(&self, key: &LineageKey, now: Timestamp) -> Result<Option<Lineage>, StoreError> {
        self.inner().lineage(key, now).await
    }

    async fn decision(&self, id: DecisionId) -> Result<Option<Decision>, StoreError> {
        self.inner().decision(id).await
    }

    async fn decisions(&self, limit: usize) -> Result<Vec<Decision>, StoreError> {
        self.inner().decisions(limit).await
    }

    async fn audit(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<RecordedEntry>, StoreError> {
        self.inner().audit(filter, page).await
    }

    fn next_status_index(&self) -> u64 {
        self.inner().next_status_index()
    }

    fn epoch(&self) -> u64 {
        self.inner().epoch().saturating_add(self.ahead())
    }

    async fn move_epoch(&self, entries: Vec<AuditEntry>) -> Result<u64, StoreError> {
        let moved = self.inner().move_epoch(entries).await?;
        Ok(moved.saturating_add(self.ahead()))
    }

    async fn check(&self, now: Timestamp) -> Result<(), StoreError> {
        self.inner().check(now).await
    }
}

#[async_trait]
impl History for FaultingStore {
    async fn publish_revision(&self, mut publication: Publication) -> Result<PublishOutcome, StoreError> {
        let fault = self.fault(Write::Publish);
        if publication.epoch.is_some_and(|epoch| epoch < self.epoch()) {
            return Ok(PublishOutcome::Moved);
        }
        publication.epoch = publication.epoch.map(|epoch| epoch.saturating_sub(self.ahead()));
        faulting!(fault, self.inner().publish_revision(publication))
    }

    async fn last_publication(&self) -> Result<Option<u64>, StoreError> {
        self.inner().last_publication().await
    }

    async fn active_revision(&self) -> Result<Option<RevisionRecord>, StoreError> {
        self.inner().active_revision().await
    }

    async fn revision(&self, id: &RevisionId) -> Result<Option<RevisionRecord>, StoreError> {
        self.inner().revision(id).await
    }

    async fn revision_files(&self, id: &RevisionId) -> Result<Option<Files>, StoreError> {
        self.inner().revision_files(id).await
    }

    async fn revisions(&self, page: &PageRequest) -> Result<Page<RevisionRecord>, StoreError> {
        self.inner().revisions(page).await
    }

    async fn live_grants_touched(&self, roles: &[RoleName], policies: &[PolicyId]) -> Result<u64, StoreError> {
        self.inner().live_grants_touched(roles, policies).await
    }
}
