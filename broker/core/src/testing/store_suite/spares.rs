//! What backends prepared ahead of any grant.

use std::sync::Arc;

use super::{open, opening, proof};
use crate::id::{BackendName, RoleName, SpareId};
use crate::port::{OpenOutcome, Opening, Spare, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(seconds))
}

pub(super) fn spare(n: u64) -> Spare {
    Spare {
        id: sample::id(n),
        backend: BackendName::new("vault").unwrap(),
        role: RoleName::new("payments/prod/deploy").unwrap(),
        role_digest: "d".repeat(64),
        handle: sample::handle(n),
        expires_at: later(600 + n),
    }
}

fn with(store: &Arc<dyn Store>, n: u64, spare: SpareId) -> Opening {
    Opening { spare: Some(spare), ..opening(store, n, NOW) }
}

async fn free(store: &Arc<dyn Store>) -> Vec<SpareId> {
    store.spares().await.unwrap().into_iter().map(|spare| spare.id).collect()
}

/// With its handle, sealed at rest as every handle is.
pub async fn a_spare_is_read_back_as_it_was_kept(store: &Arc<dyn Store>) {
    assert!(free(store).await.is_empty());
    for n in [2, 1] {
        store.keep_spare(&spare(n)).await.unwrap();
    }
    let read = store.spares().await.unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", [spare(1), spare(2)]), "what ends first is first");
    assert_eq!(read[0].handle, spare(1).handle);
    assert_eq!(store.spare_taken_by(spare(1).id).await.unwrap(), Some(None));
    assert_eq!(store.spare_taken_by(sample::id(9)).await.unwrap(), None);
    store.keep_spare(&spare(1)).await.expect_err("an id is kept once");
}

/// Whoever comes second decides again, and consumes nothing.
pub async fn a_spare_goes_to_one_grant(store: &Arc<dyn Store>) {
    store.keep_spare(&spare(1)).await.unwrap();
    let first = open(store, with(store, 1, spare(1).id)).await;
    assert!(free(store).await.is_empty());
    assert_eq!(store.spare_taken_by(spare(1).id).await.unwrap(), Some(Some(first.record.id)));
    let second = Opening { proof_use: Some(proof("once", NOW)), ..with(store, 2, spare(1).id) };
    assert!(matches!(store.open(second).await.unwrap(), OpenOutcome::Moved));
    let unknown = with(store, 3, sample::id(9));
    assert!(matches!(store.open(unknown).await.unwrap(), OpenOutcome::Moved));
    let again = Opening { proof_use: Some(proof("once", NOW)), ..opening(store, 2, NOW) };
    open(store, again).await;
}

/// It is still there for the next.
pub async fn a_refused_opening_takes_no_spare(store: &Arc<dyn Store>) {
    store.keep_spare(&spare(1)).await.unwrap();
    open(store, Opening { proof_use: Some(proof("once", NOW)), ..opening(store, 1, NOW) }).await;
    let replayed = Opening { proof_use: Some(proof("once", NOW)), ..with(store, 2, spare(1).id) };
    assert!(matches!(store.open(replayed).await.unwrap(), OpenOutcome::Replayed));
    assert_eq!(free(store).await, [spare(1).id]);
}

/// What was taken is remembered for as long as a backend may know it.
pub async fn a_spare_is_forgotten_when_nobody_took_it_and_purged_when_it_is_long_over(store: &Arc<dyn Store>) {
    for n in [1, 2] {
        store.keep_spare(&spare(n)).await.unwrap();
    }
    open(store, with(store, 1, spare(1).id)).await;
    assert!(!store.forget_spare(spare(1).id).await.unwrap(), "a grant has it");
    assert!(store.forget_spare(spare(2).id).await.unwrap());
    assert!(!store.forget_spare(spare(2).id).await.unwrap(), "it is gone");
    assert!(free(store).await.is_empty());
    store.purge(later(900), 100).await.unwrap();
    assert!(store.spare_taken_by(spare(1).id).await.unwrap().is_some(), "its backend may still know it");
    store.purge(later(600 + 2 + 3_600), 100).await.unwrap();
    assert_eq!(store.spare_taken_by(spare(1).id).await.unwrap(), None);
}
