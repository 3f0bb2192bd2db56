//! The audit log, decisions, and what governs: keys, the epoch.

use std::sync::Arc;

use super::{apply, at_once, audit_about, audit_len, audit_of, entry_about, open, opening, proof};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::{Reason, Refusal};
use crate::id::DecisionId;
use crate::policy::Outcome;
use crate::port::{AuditFilter, Change, PageRequest, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

fn read_by_broker(n: u64) -> AuditEntry {
    AuditEntry::success(later(n), Actor::Broker, AuditAction::Read, AuditObject::Broker).in_request(sample::id(n))
}

/// From 0, one after the other, in one log, whatever came at once and whatever of it failed.
pub async fn entries_have_places_without_gaps(store: &Arc<dyn Store>) {
    let taken = open(store, opening(store, 1, NOW)).await;
    let calls = (2..=60).map(|n| {
        let mut opening = opening(store, n, NOW);
        if n % 7 == 0 {
            opening.grant.record.id = taken.record.id;
        }
        if n % 3 == 0 {
            opening.proof_use = Some(proof("the same", NOW));
        }
        let store = Arc::clone(store);
        async move {
            if n % 5 == 0 {
                store.record(vec![read_by_broker(n)], None).await
            } else {
                store.open(opening).await.map(|_| ())
            }
        }
    });
    at_once(calls).await;
    let entries = audit_of(store, &AuditFilter::default()).await;
    let places: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
    assert_eq!(places, (0..places.len() as u64).collect::<Vec<_>>());
    assert!(entries.iter().all(|entry| entry.log == entries[0].log), "one log");
}

/// Evidence of what did not happen would be worse than none.
pub async fn entries_of_a_refused_change_are_not_written(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let stale = Change::of(grant, entry_about(sample::id(1), AuditAction::GrantRevoke, NOW));
    store.apply(stale).await.unwrap();
    assert_eq!(audit_len(store).await, 1);
}

/// As they were given, about one grant or about several.
pub async fn entries_are_found_by_request_and_by_grant(store: &Arc<dyn Store>) {
    let refusal = Refusal::proof(Reason::Expired, "the proof\nexpired").about("exp").because("kid 7");
    let actor = Actor::Unverified { source: Some("192.0.2.1".to_owned()) };
    let mut full =
        AuditEntry::denied(NOW, actor, AuditAction::ProofVerify, AuditObject::Role { name: "x".into() }, &refusal)
            .in_request(sample::id(70))
            .by_decision(sample::id(71));
    full.correlation_id = Some("run 4242".to_owned());
    full.on_behalf_of = Some(Actor::LocalAdministrator);
    let both = AuditObject::Grants { ids: vec![sample::id(1), sample::id(2)] };
    let several = AuditEntry::success(NOW, Actor::Broker, AuditAction::GrantExpire, both);
    let given = vec![
        full.clone(),
        several.clone(),
        entry_about(sample::id(1), AuditAction::GrantOpen, NOW),
        entry_about(sample::id(2), AuditAction::GrantOpen, NOW),
    ];
    store.record(given.clone(), None).await.unwrap();
    let entries = |recorded: Vec<crate::audit::RecordedEntry>| -> Vec<AuditEntry> {
        recorded.into_iter().map(|recorded| recorded.entry).collect()
    };
    assert_eq!(entries(audit_of(store, &AuditFilter::default()).await), given);
    let request = AuditFilter { request_id: Some(sample::id(70)), grant: None };
    assert_eq!(entries(audit_of(store, &request).await), [full]);
    assert_eq!(entries(audit_about(store, sample::id(1)).await), [several.clone(), given[2].clone()]);
    let of_both = AuditFilter { request_id: given[3].request_id, grant: Some(sample::id(2)) };
    assert_eq!(entries(audit_of(store, &of_both).await), [given[3].clone()]);
    let of_neither = AuditFilter { request_id: Some(sample::id(70)), grant: Some(sample::id(2)) };
    assert!(audit_of(store, &of_neither).await.is_empty());
    assert!(audit_about(store, sample::id(3)).await.is_empty());
}

/// Every entry once.
pub async fn entries_are_paged_oldest_first(store: &Arc<dyn Store>) {
    store.record((1..=20).map(read_by_broker).collect(), None).await.unwrap();
    for limit in [1, 6, 19, 20, 21] {
        let mut page = PageRequest { cursor: None, limit };
        let mut places = Vec::new();
        loop {
            let got = store.audit(&AuditFilter::default(), &page).await.unwrap();
            assert!(got.items.len() <= limit);
            places.extend(got.items.iter().map(|entry| entry.sequence));
            let Some(next) = got.next else { break };
            page.cursor = Some(next);
        }
        assert_eq!(places, (0..20).collect::<Vec<u64>>(), "{limit}");
    }
}

/// Refusals too, with everything that went in.
pub async fn decisions_are_read_back_newest_first(store: &Arc<dyn Store>) {
    open(store, opening(store, 1, NOW)).await;
    let mut denied = sample::decision(2);
    denied.verdict.outcome = Outcome::Deny;
    denied.verdict.determining = Vec::new();
    denied.query.context.provenance = crate::provenance::Provenance::default();
    store.record(vec![read_by_broker(1)], Some(denied.clone())).await.unwrap();
    assert_eq!(store.decisions(10).await.unwrap(), [denied.clone(), sample::decision(1)]);
    assert_eq!(store.decisions(1).await.unwrap(), [denied.clone()]);
    assert_eq!(store.decision(sample::id::<DecisionId>(2)).await.unwrap(), Some(denied));
}

/// The number and its entries are one commit.
pub async fn moving_the_epoch_tells_of_itself(store: &Arc<dyn Store>) {
    let before = store.epoch();
    let moved = store.move_epoch(vec![read_by_broker(1), read_by_broker(2)]).await.unwrap();
    assert!(moved > before);
    assert_eq!(store.epoch(), moved);
    assert_eq!(audit_len(store).await, 2);
    let calls = (0..10).map(|_| {
        let store = Arc::clone(store);
        async move { store.move_epoch(Vec::new()).await }
    });
    let mut epochs: Vec<u64> = at_once(calls).await.into_iter().map(Result::unwrap).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, (moved + 1..=moved + 10).collect::<Vec<_>>(), "each move is its own");
    assert_eq!(store.epoch(), moved + 10);
}

/// And a check changes nothing that can be read.
pub async fn a_healthy_store_says_so(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let epoch = store.epoch();
    for _ in 0..3 {
        store.check(Timestamp::MAX).await.unwrap();
    }
    assert_eq!(store.epoch(), epoch);
    assert_eq!(audit_len(store).await, 1);
    apply(store, grant.seen(later(1)).unwrap(), AuditAction::GrantRenew, later(1)).await;
}
