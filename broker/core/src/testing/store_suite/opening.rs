//! Opening writes all or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{audit_about, audit_len, open, open_at_once, opening, opening_of, proof, read};
use crate::audit::AuditAction;
use crate::binding::{Binding, BindingKey};
use crate::catalog::EnvironmentClass;
use crate::credential::RevocationClass;
use crate::grant::Grant;
use crate::id::{DecisionId, EnvironmentName, GrantId, IssuerName, OwnerName, PolicyId};
use crate::identity::{AttributeValue, PrincipalKind};
use crate::policy::Obligations;
use crate::port::{OpenOutcome, Store, StoreError};
use crate::provenance::Provenance;
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

/// Grant, handle and decision come back as they were given; the store adds the lineage only.
pub async fn what_was_opened_is_read_back_whole(store: &Arc<dyn Store>) {
    let parent = open(store, opening(store, 1, NOW)).await;
    let classes = [RevocationClass::Hard, RevocationClass::Fenced, RevocationClass::ExpiryOnly];
    let pending = classes.map(|class| sample::pending(10 + class as u64, class, NOW));
    let active = classes.map(|class| sample::active(20 + class as u64, class, NOW));
    let mut full = everything_said(sample::active(30, RevocationClass::Hard, NOW));
    full.record.parent = Some(parent.record.id);
    full.record.actors = sample::actors(&["agent-2", "agent-1"]);
    let sparse = nothing_said(sample::pending(31, RevocationClass::Hard, NOW));
    for (n, grant) in (40_u64..).zip(pending.into_iter().chain(active).chain([full, sparse])) {
        let mut opening = opening_of(store, grant, n);
        opening.decision.query.principal.groups = vec![OwnerName::new("payments").unwrap()];
        opening.grant.record.decision.id = opening.decision.id;
        let (mut expected, decision) = (opening.grant.clone(), opening.decision.clone());
        let opened = open(store, opening).await;
        assert!(opened.record.lineage.is_some(), "the store assigns a lineage");
        expected.record.lineage = opened.record.lineage;
        assert_eq!(opened, expected);
        assert_eq!(read(store, expected.record.id).await, expected);
        assert_eq!(store.handle(expected.record.id).await.unwrap(), Some(sample::handle(n)));
        assert_eq!(store.decision(decision.id).await.unwrap(), Some(decision));
    }
}

/// What is not there is none, not an error.
pub async fn nothing_is_read_that_was_not_opened(store: &Arc<dyn Store>) {
    let (grant, decision): (GrantId, DecisionId) = (sample::id(9), sample::id(9));
    assert_eq!(store.grant(grant).await.unwrap(), None);
    assert_eq!(store.handle(grant).await.unwrap(), None);
    assert_eq!(store.decision(decision).await.unwrap(), None);
    assert_eq!(audit_len(store).await, 0);
}

/// A single-use proof that was used is refused, and nothing of the second opening is written.
pub async fn a_proof_opens_one_grant(store: &Arc<dyn Store>) {
    let mut first = opening(store, 1, NOW);
    first.proof_use = Some(proof("jti", NOW));
    open(store, first).await;
    let mut second = opening(store, 2, NOW);
    second.proof_use = Some(proof("jti", NOW));
    let (grant, decision) = (second.grant.record.id, second.decision.id);
    assert!(matches!(store.open(second).await, Ok(OpenOutcome::Replayed)));
    assert_eq!(store.grant(grant).await.unwrap(), None);
    assert_eq!(store.decision(decision).await.unwrap(), None);
    assert!(audit_about(store, grant).await.is_empty());
    let mut other = opening(store, 3, NOW);
    other.proof_use = Some(proof("another jti", NOW));
    open(store, other).await;
}

/// However they are batched, one wins.
pub async fn a_hundred_openings_with_one_proof_give_one_grant(store: &Arc<dyn Store>) {
    let openings = (1..=100).map(|n| {
        let mut opening = opening(store, n, NOW);
        opening.proof_use = Some(proof("jti", NOW));
        opening
    });
    let outcomes = open_at_once(store, openings.collect()).await;
    let opened = outcomes.iter().filter(|outcome| matches!(outcome, Ok(OpenOutcome::Opened(_)))).count();
    let replayed = outcomes.iter().filter(|outcome| matches!(outcome, Ok(OpenOutcome::Replayed))).count();
    assert_eq!((opened, replayed), (1, 99));
    assert_eq!(audit_len(store).await, 1);
}

/// A `jti` is unique within its issuer only (RFC 7519 §4.1.7).
pub async fn the_same_proof_id_of_another_issuer_is_another_proof(store: &Arc<dyn Store>) {
    for (n, issuer) in [(1, "ci"), (2, "other")] {
        let mut opening = opening(store, n, NOW);
        opening.proof_use = Some(proof("jti", NOW));
        opening.proof_use.as_mut().unwrap().issuer = IssuerName::new(issuer).unwrap();
        open(store, opening).await;
    }
}

/// Whatever refuses: proof, key and lineage are as before.
pub async fn a_refused_opening_consumes_nothing(store: &Arc<dyn Store>) {
    let with_both = |n: u64, jti: &str, scope: u8| {
        let mut opening = opening(store, n, NOW);
        opening.proof_use = Some(proof(jti, NOW));
        opening.idempotency = Some(super::key(scope, 1, NOW));
        opening
    };
    let mut moved = with_both(1, "jti-1", 1);
    moved.epoch = moved.epoch.wrapping_add(1);
    assert!(matches!(store.open(moved).await, Ok(OpenOutcome::Moved)));
    let mut elsewhere = with_both(1, "jti-1", 1);
    elsewhere.lineage.assumed_start = Some(Some(NOW.minus(Ttl::from_hours(5))));
    assert!(matches!(store.open(elsewhere).await, Ok(OpenOutcome::Moved)));
    let mut behind = with_both(1, "jti-1", 1);
    behind.now = NOW;
    let key = behind.lineage.key.clone();
    assert_eq!(store.lineage(&key, NOW).await.unwrap(), None, "no lineage was begun");
    assert_eq!(audit_len(store).await, 0);
    let first = open(store, behind).await;

    // A replay with a fresh key does not use up that key.
    assert!(matches!(store.open(with_both(2, "jti-1", 2)).await, Ok(OpenOutcome::Replayed)));
    let mut other_request = with_both(3, "jti-2", 2);
    other_request.idempotency.as_mut().unwrap().request_digest = [9; 32];
    open(store, other_request).await;
    assert_eq!(read(store, first.record.id).await.state, first.state, "and ended nothing");
}

/// What forbids sets of grants must not be overtaken by a decision made before it.
pub async fn an_opening_that_was_decided_before_the_epoch_moved_is_decided_again(store: &Arc<dyn Store>) {
    let late = opening(store, 1, NOW);
    let id = late.grant.record.id;
    store.move_epoch(Vec::new()).await.unwrap();
    assert!(matches!(store.open(late).await, Ok(OpenOutcome::Moved)));
    assert_eq!(store.grant(id).await.unwrap(), None);
    open(store, opening(store, 1, NOW)).await;
}

/// Two seconds are forgiven, more is not: a clock that was set back would revive what is over.
pub async fn a_clock_that_is_behind_opens_nothing(store: &Arc<dyn Store>) {
    open(store, opening(store, 1, NOW)).await;
    let back = |n: u64, millis: i64| opening(store, n, Timestamp::from_millis(NOW.as_millis() - millis));
    open(store, back(2, 2_000)).await;
    let refused = store.open(back(3, 2_001)).await;
    assert!(matches!(refused, Err(StoreError::ClockBehind { .. })), "{refused:?}");
    let refused = store.open(back(3, 90_000)).await;
    assert_eq!(refused.unwrap_err(), StoreError::ClockBehind { behind: Ttl::from_secs(90) });
    assert_eq!(store.grant(sample::id(3)).await.unwrap(), None);
    let looked = store.check(Timestamp::from_millis(NOW.as_millis() - 90_000)).await;
    assert_eq!(
        looked.unwrap_err(),
        StoreError::ClockBehind { behind: Ttl::from_secs(90) },
        "whoever only looks is told"
    );
    store.check(NOW.plus(Ttl::from_hours(9))).await.unwrap();
    open(store, opening(store, 3, NOW)).await;
}

/// Whatever shares its transaction is written all the same.
pub async fn an_opening_that_cannot_be_written_fails_alone(store: &Arc<dyn Store>) {
    let taken = open(store, opening(store, 1, NOW)).await;
    let mut openings: Vec<_> = (2..=40).map(|n| opening(store, n, NOW)).collect();
    for at in [5, 17, 18] {
        openings[at].grant.record.id = taken.record.id;
        openings[at].proof_use = Some(proof("of a poisoned one", NOW));
    }
    let outcomes = open_at_once(store, openings).await;
    for (at, outcome) in outcomes.iter().enumerate() {
        let poisoned = [5, 17, 18].contains(&at);
        assert_eq!(matches!(outcome, Ok(OpenOutcome::Opened(_))), !poisoned, "{at}: {outcome:?}");
        assert_eq!(outcome.is_err(), poisoned, "{at}: {outcome:?}");
    }
    assert_eq!(read(store, taken.record.id).await, taken);
    assert_eq!(audit_len(store).await, 1 + 36, "entries of those that were written");
    let mut again = opening(store, 50, NOW);
    again.proof_use = Some(proof("of a poisoned one", NOW));
    open(store, again).await;
}

/// Two grants with one index would share one bit of the status list.
pub async fn a_status_index_is_given_once(store: &Arc<dyn Store>) {
    let mut given: Vec<u64> = (0..50).map(|_| store.next_status_index()).collect();
    given.dedup();
    assert_eq!(given.len(), 50);
    let first = open(store, opening(store, 1, NOW)).await;
    let mut twin = opening(store, 2, NOW);
    twin.grant.record.status_index = first.record.status_index;
    assert!(store.open(twin).await.is_err(), "an index that a grant has cannot be another's");
    assert!(store.next_status_index() > first.record.status_index);
    let entries = audit_about(store, first.record.id).await;
    assert_eq!(entries.iter().map(|entry| entry.entry.action).collect::<Vec<_>>(), [AuditAction::GrantOpen]);
}

fn everything_said(mut grant: Grant) -> Grant {
    let text = |text: &str| Some(text.to_owned());
    let record = &mut grant.record;
    record.target = text("postgres at db.example");
    record.environment = Some(EnvironmentName::new("production").unwrap());
    record.environment_class = Some(EnvironmentClass::Production);
    record.stage = text("apply");
    record.tier = text("high");
    record.owner.contacts = vec!["a@example.com".to_owned(), "#payments".to_owned()];
    record.purpose = "deploy \"4f2c\" to prod — für Zoë \u{1f510}".to_owned();
    record.task = text("roll out the fix");
    record.holder.principal = PrincipalKind::Agent;
    record.holder.attributes = BTreeMap::from([
        ("list".to_owned(), AttributeValue::List(vec!["a".to_owned(), "b".to_owned()])),
        ("long".to_owned(), AttributeValue::Long(-7)),
        ("text".to_owned(), AttributeValue::Text("7".to_owned())),
        ("yes".to_owned(), AttributeValue::Bool(true)),
    ]);
    record.holder.binding_key = Some(BindingKey::new(Binding::Mtls, [7; 32]));
    record.holder.source = Some("2001:db8::7".parse().unwrap());
    record.provenance = Provenance {
        repository: text("acme/app"),
        repository_id: text("222"),
        repository_owner_id: text("111"),
        git_ref: text("refs/heads/main"),
        ref_protected: Some(false),
        commit: text("6dcb09b5b57875f334f61aebed695e2e4193db5e"),
        workflow: text("deploy"),
        workflow_ref: text("acme/app/.github/workflows/deploy.yml@refs/heads/main"),
        run: text("4242"),
        run_attempt: text("2"),
        job: text("roll-out"),
        actor: text("ada"),
        actor_id: text("1"),
        event: text("push"),
        pull_request: text("17"),
        environment: text("prod"),
        runner: text("self-hosted"),
        attestation_digests: vec!["sha256:aa".to_owned(), "sha256:bb".to_owned()],
    };
    record.attested = sample::attested();
    record.decision.determining = vec![PolicyId::new("a").unwrap(), PolicyId::new("b").unwrap()];
    record.decision.obligations = Obligations { max_ttl: Some(Ttl::from_mins(30)), binding: [Binding::Mtls].into() };
    record.terms.heartbeat = Some(Ttl::from_mins(1));
    record.terms.scope = vec!["read".to_owned(), "write".to_owned()];
    record.terms.parameters = serde_json::json!({"grants": ["SELECT"], "n": 1});
    record.replaces = Some(sample::id(77));
    record.signed_by = Some("own-1".to_owned());
    grant.last_seen_at = Some(NOW.plus(Ttl::from_secs(1)));
    grant
}

fn nothing_said(mut grant: Grant) -> Grant {
    let record = &mut grant.record;
    record.ticket = None;
    record.holder.proof_id = None;
    record.holder.proof_key_id = None;
    record.provenance = Provenance::default();
    record.decision.determining = Vec::new();
    grant
}
