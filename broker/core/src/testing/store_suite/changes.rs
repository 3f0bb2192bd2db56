//! Changes are guarded by what was read.

use std::sync::Arc;

use super::{apply, at_once, audit_about, audit_len, entry_about, open, opening, opening_of, proof, read};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, Ending, Grant, StateName};
use crate::id::DecisionId;
use crate::port::{Applied, Change, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

fn asked(at: Timestamp) -> Ending {
    Ending { cause: Cause::REQUESTED, actor: Some("ci:user:ada".to_owned()), reason: Some("leaked".to_owned()), at }
}

/// State and evidence commit together.
pub async fn a_change_is_written_with_its_entry_and_its_decision(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let renewed = grant.extend(later(700), later(700)).unwrap();
    let mut change = Change::of(renewed.clone(), entry_about(renewed.record.id, AuditAction::GrantRenew, later(1)));
    change.decision = Some(sample::decision(50));
    change.epoch = Some(store.epoch());
    assert_eq!(store.apply(change).await.unwrap(), Applied::Done);
    assert_eq!(read(store, renewed.record.id).await, renewed);
    let actions: Vec<_> =
        audit_about(store, renewed.record.id).await.into_iter().map(|entry| entry.entry.action).collect();
    assert_eq!(actions, [AuditAction::GrantOpen, AuditAction::GrantRenew]);
    assert_eq!(store.decision(sample::id::<DecisionId>(50)).await.unwrap(), Some(sample::decision(50)));
}

/// Each way through the states, read back after each step.
pub async fn every_state_is_read_back_as_it_was_written(store: &Arc<dyn Store>) {
    type Step = Box<dyn Fn(Grant) -> Grant + Send + Sync>;
    let activate = || -> Step { Box::new(|grant| grant.activate(later(1), later(500), Some("f".repeat(64))).unwrap()) };
    let end = |fenced: bool| -> Step { Box::new(move |grant| grant.begin_ending(asked(later(2)), fenced).unwrap()) };
    let retry = || -> Step { Box::new(|grant| grant.retry(later(9), "the backend\tis away".to_owned()).unwrap()) };
    let over = later(3_600);
    let ways: Vec<(RevocationClass, Vec<Step>, StateName)> = vec![
        (RevocationClass::Hard, vec![Box::new(|grant| grant.fail(asked(later(1))).unwrap())], StateName::Failed),
        (
            RevocationClass::Hard,
            vec![activate(), end(false), retry(), retry(), Box::new(|grant| grant.confirm(later(20)).unwrap())],
            StateName::Revoked,
        ),
        (
            RevocationClass::Hard,
            vec![end(false), retry(), Box::new(|grant| grant.confirm(later(20)).unwrap())],
            StateName::Revoked,
        ),
        (
            RevocationClass::Fenced,
            vec![
                activate(),
                Box::new(|grant| grant.seen(later(2)).unwrap()),
                end(false),
                retry(),
                Box::new(|grant| grant.fence(later(10)).unwrap()),
                Box::new(move |grant| grant.expire(over).unwrap()),
            ],
            StateName::Expired,
        ),
        (
            RevocationClass::ExpiryOnly,
            vec![activate(), Box::new(move |grant| grant.expire(over).unwrap())],
            StateName::Expired,
        ),
        (
            RevocationClass::Fenced,
            vec![
                activate(),
                end(true),
                Box::new(|grant| grant.abandon(later(30), "ci:user:ada".to_owned(), "gone".to_owned()).unwrap()),
            ],
            StateName::Abandoned,
        ),
    ];
    for (n, (class, steps, last)) in (1_u64..).zip(ways) {
        let mut grant = open(store, opening_of(store, sample::pending(n, class, NOW), n)).await;
        for step in steps {
            grant = apply(store, step(grant), AuditAction::GrantRevoke, later(1)).await;
            assert_eq!(read(store, grant.record.id).await, grant);
        }
        assert_eq!(grant.state_name(), last);
    }
}

/// Somebody was faster: read again.
pub async fn a_change_from_another_version_conflicts_and_writes_nothing(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let first = apply(store, grant.clone().seen(later(1)).unwrap(), AuditAction::GrantRenew, later(1)).await;
    let entries = audit_len(store).await;
    let stale = grant.clone().begin_ending(asked(later(2)), true).unwrap();
    let mut ahead = first.clone().begin_ending(asked(later(2)), true).unwrap();
    ahead.version += 1;
    for late in [stale, ahead] {
        let mut change = Change::of(late, entry_about(grant.record.id, AuditAction::GrantRevoke, later(2)));
        change.decision = Some(sample::decision(60));
        change.handle = Some(sample::handle(99));
        assert_eq!(store.apply(change).await.unwrap(), Applied::Conflict);
    }
    assert_eq!(read(store, grant.record.id).await, first);
    assert_eq!(audit_len(store).await, entries);
    assert_eq!(store.decision(sample::id::<DecisionId>(60)).await.unwrap(), None);
    assert_eq!(store.handle(grant.record.id).await.unwrap(), Some(sample::handle(1)));
}

/// A change touches exactly one row, and makes none.
pub async fn a_change_to_what_is_not_there_conflicts(store: &Arc<dyn Store>) {
    let never = sample::active(1, RevocationClass::Fenced, NOW);
    let mut unborn = never.clone();
    unborn.version = 0;
    for change in [never.seen(later(1)).unwrap(), unborn] {
        let entry = entry_about(change.record.id, AuditAction::GrantRenew, later(1));
        assert_eq!(store.apply(Change::of(change, entry)).await.unwrap(), Applied::Conflict);
    }
    assert_eq!(store.grant(sample::id(1)).await.unwrap(), None);
}

/// Also when all are in one batch.
pub async fn of_many_changes_from_one_version_one_is_written(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let changes = (1..=30).map(|secs| {
        let (store, seen) = (Arc::clone(store), grant.clone().seen(later(secs)).unwrap());
        let entry = entry_about(seen.record.id, AuditAction::GrantRenew, later(secs));
        async move { store.apply(Change::of(seen, entry)).await }
    });
    let answers = at_once(changes).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Applied::Done)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Applied::Conflict)).count(), 29);
    assert_eq!(read(store, grant.record.id).await.version, grant.version + 1);
    assert_eq!(audit_len(store).await, 2);
}

/// A renewal must not overtake what forbids it. A change that nothing was decided for does not ask.
pub async fn a_change_that_was_decided_before_the_epoch_moved_is_decided_again(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let decided_at = store.epoch();
    store.move_epoch(Vec::new()).await.unwrap();
    let renewed = grant.clone().extend(later(700), later(700)).unwrap();
    let mut change = Change::of(renewed, entry_about(grant.record.id, AuditAction::GrantRenew, later(1)));
    change.epoch = Some(decided_at);
    assert_eq!(store.apply(change).await.unwrap(), Applied::Moved);
    assert_eq!(read(store, grant.record.id).await, grant);
    apply(store, grant.seen(later(1)).unwrap(), AuditAction::GrantRenew, later(1)).await;
}

/// Renewing uses up a single-use proof, and a renewal that conflicts does not.
pub async fn a_change_consumes_a_proof_once_and_only_when_it_is_written(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let with = |grant: &Grant, jti: &str| {
        let seen = grant.clone().seen(later(1)).unwrap();
        let mut change = Change::of(seen, entry_about(grant.record.id, AuditAction::GrantRenew, later(1)));
        change.proof_use = Some(proof(jti, NOW));
        change
    };
    let mut stale = with(&grant, "jti");
    stale.grant.version += 1;
    assert_eq!(store.apply(stale).await.unwrap(), Applied::Conflict);
    let first = with(&grant, "jti");
    let after = first.grant.clone();
    assert_eq!(store.apply(first).await.unwrap(), Applied::Done);
    assert_eq!(store.apply(with(&after, "jti")).await.unwrap(), Applied::Replayed);
    assert_eq!(read(store, grant.record.id).await, after);
    let mut opened = opening(store, 2, NOW);
    opened.proof_use = Some(proof("jti", NOW));
    assert!(matches!(store.open(opened).await, Ok(crate::port::OpenOutcome::Replayed)));
    assert_eq!(store.apply(with(&after, "another")).await.unwrap(), Applied::Done);
}

/// Only some backends know the handle before they answer.
pub async fn a_better_handle_takes_the_place_of_the_planned_one(store: &Arc<dyn Store>) {
    let pending = open(store, opening_of(store, sample::pending(1, RevocationClass::Hard, NOW), 1)).await;
    let active = pending.activate(later(1), later(500), None).unwrap();
    let mut change = Change::of(active.clone(), entry_about(active.record.id, AuditAction::GrantActivate, later(1)));
    change.handle = Some(sample::handle(77));
    assert_eq!(store.apply(change).await.unwrap(), Applied::Done);
    assert_eq!(store.handle(active.record.id).await.unwrap(), Some(sample::handle(77)));
    let ending = apply(store, active.begin_ending(asked(later(2)), false).unwrap(), AuditAction::GrantRevoke, later(2));
    let ending = ending.await;
    assert_eq!(store.handle(ending.record.id).await.unwrap(), Some(sample::handle(77)), "kept when none is given");
}
