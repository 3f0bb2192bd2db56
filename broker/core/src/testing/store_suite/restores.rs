//! An older copy that was put back is gone on from once, and nothing is believed of what came after it.

use std::sync::Arc;

use super::revocations::{beginning, operator};
use super::spares::spare;
use super::{audit_of, open, opening, opening_of};
use crate::audit::{AuditAction, AuditEntry, AuditObject};
use crate::credential::RevocationClass;
use crate::in_force::InForce;
use crate::port::{AuditFilter, Begun, Opening, Restoration, Store, StoreError};
use crate::selector::Selector;
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

fn keeping(at: Timestamp) -> Restoration {
    let entry = AuditEntry::success(at, operator(), AuditAction::AuditAccept, AuditObject::Broker);
    Restoration { at, ending: None, lost_entries: 0, entry }
}

async fn ending(store: &Arc<dyn Store>, n: u64, at: Timestamp) -> Restoration {
    Restoration { ending: Some(beginning(store, n, Selector::all(), at).await), ..keeping(at) }
}

async fn told(store: &Arc<dyn Store>) -> Vec<AuditEntry> {
    let entries = audit_of(store, &AuditFilter::default()).await.into_iter().map(|recorded| recorded.entry);
    entries.filter(|entry| matches!(entry.action, AuditAction::AuditAccept | AuditAction::RevocationBegin)).collect()
}

/// State and evidence in one commit: the revocation holds, the epoch has moved, the entry tells of both.
pub async fn a_restore_ends_what_the_copy_holds_from_its_commit_on(store: &Arc<dyn Store>) {
    let active = open(store, opening(store, 1, NOW)).await;
    let pending = open(store, opening_of(store, sample::pending(2, RevocationClass::Hard, NOW), 2)).await;
    assert_eq!(store.in_force().restored_at, None);
    let epoch = store.epoch();
    let restored = store.restore(ending(store, 7, later(9)).await).await.unwrap();
    assert_eq!((restored.number, restored.at, restored.revocation), (1, later(9), Some(sample::id(7))));
    let in_force = store.in_force();
    assert_eq!(in_force.restored_at, Some(later(9)));
    assert_eq!([&active, &pending].map(|grant| in_force.ends(grant)), [restored.revocation; 2]);
    assert!(store.epoch() > epoch);
    assert_eq!(store.revocation(sample::id(7)).await.unwrap().unwrap().completed, None);
    let told = told(store).await;
    let actions: Vec<_> = told.iter().map(|entry| entry.action).collect();
    assert_eq!(actions, [AuditAction::RevocationBegin, AuditAction::AuditAccept]);
    assert_eq!(told[1].detail["revocation"], restored.revocation.unwrap().to_string());
    assert_eq!(told[1].detail["restore"], "1");
}

/// A grant that is lost may have taken it.
pub async fn a_spare_of_an_older_copy_goes_to_nobody(store: &Arc<dyn Store>) {
    for n in [1, 2] {
        store.keep_spare(&spare(n)).await.unwrap();
    }
    open(store, Opening { spare: Some(spare(1).id), ..opening(store, 1, NOW) }).await;
    assert_eq!(store.spares().await.unwrap().len(), 1);
    store.restore(keeping(later(1))).await.unwrap();
    assert!(store.spares().await.unwrap().is_empty());
    assert_eq!(store.spare_taken_by(spare(2).id).await.unwrap(), None, "the inventory takes it for a stray");
    assert!(store.spare_taken_by(spare(1).id).await.unwrap().is_some(), "it is known whose this one is");
}

/// Whoever asks again after a crash gets what is recorded. Once something else is in the log it is another restore, and
/// so it is where the grants were kept and are to end now.
pub async fn a_restore_is_recorded_once_until_something_follows_it(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let kept = store.restore(keeping(later(1))).await.unwrap();
    assert_eq!((kept.number, kept.revocation), (1, None));
    assert_eq!(store.in_force().ends(&grant), None);
    let (size, index) = (store.log_size(), store.next_status_index());
    assert_eq!(store.restore(keeping(later(2))).await.unwrap(), kept);
    assert_eq!((store.log_size(), store.next_status_index()), (size, index + 1), "nothing was written");

    let ended = store.restore(ending(store, 7, later(3)).await).await.unwrap();
    assert_eq!((ended.number, ended.revocation), (2, Some(sample::id(7))));
    assert_eq!(store.restore(ending(store, 8, later(4)).await).await.unwrap(), ended);
    assert_eq!(store.revocation(sample::id(8)).await.unwrap(), None);

    store.record(vec![keeping(later(5)).entry], None).await.unwrap();
    let again = store.restore(ending(store, 9, later(6)).await).await.unwrap();
    assert_eq!((again.number, again.at, again.revocation), (3, later(6), Some(sample::id(9))));
    assert_eq!(store.in_force().restored_at, Some(later(6)));
}

/// Of the indexes that may have been given out in what is lost, none is given again, and all count as ended: also one
/// below the copy's highest, whose grant was under way when the copy was made.
pub async fn status_indexes_that_may_have_been_given_out_are_given_up(store: &Arc<dyn Store>) {
    let first = open(store, opening(store, 1, NOW)).await.record.status_index;
    let under_way = store.next_status_index();
    let last = open(store, opening(store, 2, NOW)).await.record.status_index;
    let lost = last + 1;
    assert_eq!(store.ended_early(first..lost).await.unwrap(), Some(vec![]));
    assert_eq!(store.ended_early(lost..lost + 1).await.unwrap(), None);

    let restoration = Restoration { lost_entries: 1_000, ..keeping(later(9)) };
    let given_up = restoration.indexes_given_up(NOW);
    assert!(given_up > 9 * 100_000 + 1_000, "more than a broker opens in that time: {given_up}");
    store.restore(restoration).await.unwrap();
    assert_eq!(store.ended_early(first..lost + 2).await.unwrap(), Some(vec![under_way, lost, lost + 1]));
    let next = last + 1 + given_up;
    assert_eq!(store.ended_early(next - 2..next + 9).await.unwrap(), Some(vec![next - 2, next - 1]));
    assert_eq!(store.ended_early(next..next + 9).await.unwrap(), None);
    let fresh = open(store, opening(store, 3, later(9))).await.record.status_index;
    assert_eq!(fresh, next, "what is opened now is past all of them");
    assert_eq!(store.ended_early(next - 1..next + 9).await.unwrap(), Some(vec![next - 1]), "and is good");
}

/// Whoever has to go on from a copy in which every place is taken must not be kept from it; and a clock by which nothing
/// could be opened dates no restore.
pub async fn a_restore_waits_for_no_place_and_for_no_clock_that_is_behind(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    for n in 0..InForce::MAX_REVOCATIONS_OF_ONE as u64 {
        let begun = store.begin_revocation(beginning(store, 10 + n, Selector::all(), NOW).await).await.unwrap();
        assert_eq!(begun, Begun::Begun);
    }
    let full = store.begin_revocation(beginning(store, 30, Selector::all(), NOW).await).await.unwrap();
    assert_eq!(full, Begun::TooMany);
    let behind = store.restore(ending(store, 31, NOW.minus(Ttl::from_secs(3))).await).await;
    assert!(matches!(behind, Err(StoreError::ClockBehind { .. })), "{behind:?}");
    assert_eq!(store.in_force().restored_at, None);
    store.restore(ending(store, 32, NOW).await).await.unwrap();
    assert!(store.in_force().ends(&grant).is_some());
}
