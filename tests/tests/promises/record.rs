//! Promises 1 and 11: no credential without a record, and one record for what was asked for once.

use hallpass_core::credential::Effect;
use hallpass_core::error::Reason;
use hallpass_core::grant::{Cause, GrantState, StateName};
use hallpass_core::policy::Action;
use hallpass_core::port::LineageClaim;
use hallpass_core::request::Idempotency;
use hallpass_core::service::open;
use hallpass_core::testing::{Call, Fault, Nature, Ruling, StoreFault, World, Write};
use hallpass_core::time::{Clock, Ttl};

use crate::lab::{Lab, in_no_time, secret, told_of};

#[test]
fn promise_1_no_credential_without_a_record() {
    in_no_time(async {
        for nature in [Nature::hard(), Nature::fenced(), Nature::expiry_only(), Nature::local()] {
            let lab = Lab::new(nature);
            let opened = lab.open(&lab.request()).await.unwrap();
            let stored = lab.grant(opened.grant.record.id).await;
            assert_eq!(stored, opened.grant, "what the caller was told is what is stored");
            assert_eq!(stored.state_name(), StateName::Active);
            assert_eq!(lab.backend.journal().len(), 1);
            assert_eq!(lab.backend.journal()[0].secret, secret(&opened));
            let decision = lab.ports.store.decision(stored.record.decision.id).await.unwrap();
            assert!(decision.is_some(), "with the decision behind it");
        }
    });
}

#[test]
fn promise_1_a_remote_backend_is_not_called_before_the_intent_is_durable() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        lab.store.fail(Write::Open, 0, StoreFault::Lost);
        let error = lab.open(&lab.request()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::StoreUnavailable);
        assert_eq!(lab.backend.calls(Call::Issue), 0, "the backend heard nothing");
        assert!(lab.all_grants().await.is_empty());

        lab.store.fail(Write::Open, 0, StoreFault::AnswerLost);
        lab.open(&lab.request()).await.unwrap_err();
        assert_eq!(lab.backend.calls(Call::Issue), 0, "not even when only the answer of the store was lost");
        lab.settle().await;
        assert!(lab.all_grants().await.iter().all(|grant| grant.state_name() == StateName::Revoked));
    });
}

#[test]
fn promise_1_no_credential_is_returned_before_its_grant_is_durably_active() {
    in_no_time(async {
        for fault in [StoreFault::Lost, StoreFault::AnswerLost] {
            let lab = Lab::new(Nature::hard());
            lab.store.fail(Write::Apply, 0, fault);
            let error = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::StoreUnavailable);
            assert!(lab.backend.working().is_empty(), "what nobody got is undone at once");
            lab.settle().await;
            assert_eq!(lab.all_grants().await[0].state_name(), StateName::Revoked);

            let lab = Lab::new(Nature::local());
            lab.store.fail(Write::Open, 0, fault);
            assert!(lab.open(&lab.request()).await.is_err(), "what was minted here does not leave");
        }
    });
}

#[test]
fn promise_1_a_late_answer_is_never_returned() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let late = lab.ports.limits.pending_deadline();
        lab.backend.next(Call::Issue, [Some(Fault::Slow(late))]);
        let error = lab.open(&lab.request()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::StateConflict, "late, though no worker has looked yet");
        assert!(lab.backend.working().is_empty());
        lab.settle().await;
        assert_eq!(lab.all_grants().await[0].state_name(), StateName::Revoked);

        let mut short = lab.request();
        short.ttl = Some(Ttl::from_secs(3));
        lab.backend.next(Call::Issue, [Some(Fault::Slow(Ttl::from_secs(4)))]);
        lab.open(&short).await.expect_err("nor is one whose end has passed meanwhile");
        assert!(lab.backend.working().is_empty());

        let lab = Lab::new(Nature::local());
        for (ttl, heartbeat) in [(Some(5), None), (None, Some(5))] {
            let mut short = lab.request();
            (short.ttl, short.heartbeat) = (ttl.map(Ttl::from_secs), heartbeat.map(Ttl::from_secs));
            lab.backend.next(Call::Issue, [Some(Fault::Slow(Ttl::from_secs(5)))]);
            let answer = lab.open(&short).await;
            assert!(answer.is_ok_and(|opened| opened.grant.is_live(lab.clock.now())) == heartbeat.is_some());
        }
    });
}

// CASE REV-002
#[tokio::test]
async fn promise_1_an_answer_that_finds_its_grant_ending_is_dropped_and_undone() {
    let lab = Lab::new(Nature { answers_handle: true, ..Nature::hard() });
    lab.backend.next(Call::Issue, [Some(Fault::Held)]);
    let request = lab.request();
    let asking = lab.open(&request);
    let ending = async {
        while lab.backend.calls(Call::Issue) == 0 {
            tokio::task::yield_now().await;
        }
        let pending = lab.all_grants().await.pop().expect("the intent is durable before the call");
        lab.clock.advance(lab.ports.limits.pending_deadline());
        assert_eq!(lab.step().await.unwrap().stepped, 1, "the worker gives up waiting");
        lab.backend.next(Call::Revoke, [Some(Fault::Unavailable)]);
        lab.backend.release();
        pending.record.id
    };
    let (answer, id) = tokio::join!(asking, ending);
    assert_eq!(answer.unwrap_err().reason(), Reason::StateConflict);
    assert_eq!(lab.backend.working().len(), 1, "it exists, and could not be undone at once");
    lab.settle().await;
    assert!(lab.backend.working().is_empty(), "the worker learned the handle that only the answer had brought");
    assert!(lab.backend.journal()[0].ended_at.is_some(), "and killed it, rather than wait");
    assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked);
}

#[test]
fn promise_1_every_failure_on_the_way_leaves_a_record_or_nothing_at_all() {
    in_no_time(async {
        for answers_handle in [false, true] {
            for fault in [
                Fault::Refused,
                Fault::Unavailable,
                Fault::AnswerLost,
                Fault::RequestLost,
                Fault::Silent { waits: Ttl::from_secs(10), done_after: None },
                Fault::Silent { waits: Ttl::from_secs(10), done_after: Some(Ttl::ZERO) },
                Fault::Silent { waits: Ttl::from_secs(10), done_after: Some(Ttl::from_secs(10)) },
                Fault::Overlong(Ttl::from_secs(30)),
            ] {
                if answers_handle && fault != Fault::Refused && !matches!(fault, Fault::Overlong(_)) {
                    // A backend that alone knows how to undo and whose answer is lost is one that time must end.
                    continue;
                }
                let lab = Lab::new(Nature { answers_handle, ..Nature::hard() });
                lab.backend.next(Call::Issue, [Some(fault)]);
                lab.open(&lab.request()).await.expect_err("no credential");
                lab.settle().await;
                let grant = lab.all_grants().await.pop().expect("a record");
                let wanted = if fault == Fault::Refused { StateName::Failed } else { StateName::Revoked };
                assert_eq!(grant.state_name(), wanted, "{fault:?}");
                let journal = lab.backend.journal();
                assert!(journal.iter().all(|one| one.ended_at.is_some()), "{fault:?} leaves nothing behind");
            }
        }
        let lab = Lab::new(Nature::hard());
        lab.backend.next(Call::Plan, [Some(Fault::Refused)]);
        lab.open(&lab.request()).await.unwrap_err();
        assert!(lab.all_grants().await.is_empty(), "what could not even be planned needs no record");
    });
}

#[test]
fn promise_11_at_most_one_live_grant_per_idempotency_key() {
    in_no_time(async {
        for nature in [Nature::hard(), Nature::local()] {
            let lab = Lab::new(nature);
            let mut request = lab.request();
            request.idempotency = Some(Idempotency { key: "k".to_owned(), request_digest: [1; 32] });
            let proof = lab.proof(World::SUBJECT);
            let mut ids = Vec::new();
            for _ in 0..4 {
                let opened = open::open(&lab.ports, &proof, &request, &lab.origin()).await.unwrap();
                ids.push(opened.grant.record.id);
                let live = lab.all_grants().await.into_iter().filter(|one| one.is_live(lab.clock.now())).count();
                assert_eq!(
                    live, 1,
                    "the same single-use proof with the same key gives one more, and ends the one before"
                );
            }
            let exhausted = open::open(&lab.ports, &proof, &request, &lab.origin()).await.unwrap_err();
            assert_eq!(exhausted.reason(), Reason::IdempotencyExhausted);
            request.idempotency = Some(Idempotency { key: "k".to_owned(), request_digest: [2; 32] });
            let other = open::open(&lab.ports, &proof, &request, &lab.origin()).await.unwrap_err();
            assert_eq!(other.reason(), Reason::IdempotencyConflict);
            request.idempotency = None;
            let replay = open::open(&lab.ports, &proof, &request, &lab.origin()).await.unwrap_err();
            assert_eq!(replay.reason(), Reason::Replayed, "without the key it is a replay");
            let log = lab.log().await;
            for id in &ids[..3] {
                let told = told_of(&log, *id);
                let superseded = told.iter().filter(|one| one.entry.reason.as_deref() == Some("superseded")).count();
                assert_eq!(superseded, 1, "each ending by a repeat is told once");
            }
        }
    });
}

#[tokio::test]
async fn promise_11_the_same_key_while_the_first_is_pending_is_a_conflict() {
    let lab = Lab::new(Nature::hard());
    lab.backend.next(Call::Issue, [Some(Fault::Held)]);
    let mut request = lab.request();
    request.idempotency = Some(Idempotency { key: "k".to_owned(), request_digest: [1; 32] });
    let (proof, origin) = (lab.proof(World::SUBJECT), lab.origin());
    let first = open::open(&lab.ports, &proof, &request, &origin);
    let second = async {
        while lab.backend.calls(Call::Issue) == 0 {
            tokio::task::yield_now().await;
        }
        let answer = open::open(&lab.ports, &proof, &request, &origin).await;
        lab.backend.release();
        answer
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok());
    assert_eq!(second.unwrap_err().reason(), Reason::IdempotencyPending);
    assert_eq!(lab.backend.journal().len(), 1);
}

// CASE MNT-109
#[test]
fn promise_9_a_policy_that_changes_while_it_is_asked_decides_again() {
    in_no_time(async {
        // After the revision was read, before anything else: the old policy must not open a grant at the new epoch.
        for nature in [Nature::hard(), Nature::local()] {
            let lab = Lab::new(nature);
            let (policy, store) = (std::sync::Arc::clone(&lab.policy), std::sync::Arc::clone(&lab.store));
            lab.governance.after_next_reading(move |governance| {
                let stricter = hallpass_core::testing::ScriptedPolicy::new('b');
                stricter.rule(Action::Mint, None, Ruling::Deny);
                let _ = policy;
                governance.edit(|revision| revision.policy = std::sync::Arc::new(stricter));
                store.move_epoch_now();
            });
            let error = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::RoleNotAvailable);
            assert!(lab.all_grants().await.is_empty());
        }
        // While the backend works.
        for edit in 0..4 {
            let lab = Lab::new(Nature::hard());
            let (policy, store) = (std::sync::Arc::clone(&lab.policy), std::sync::Arc::clone(&lab.store));
            let governance = std::sync::Arc::clone(&lab.governance);
            lab.store.meanwhile(Write::Apply, move || {
                match edit {
                    0 => policy.rule(Action::Mint, None, Ruling::Deny),
                    1 => policy.rule(Action::Mint, None, Ruling::Error),
                    2 => governance.edit(|revision| revision.catalog.owners.clear()),
                    _ => governance.edit(|revision| revision.verifiers.clear()),
                }
                store.move_epoch_now();
            });
            lab.open(&lab.request()).await.expect_err("what is no longer allowed is not returned");
            assert!(lab.backend.working().is_empty());
        }
        // And a world that moved without touching it changes nothing.
        let lab = Lab::new(Nature::hard());
        let store = std::sync::Arc::clone(&lab.store);
        lab.store.meanwhile(Write::Apply, move || store.move_epoch_now());
        assert!(lab.open(&lab.request()).await.is_ok());
    });
}

#[test]
fn a_chain_of_re_exchanges_never_passes_max_continuous() {
    in_no_time(async {
        let lab = Lab::new(Nature::local());
        lab.edit_role(|role| role.max_continuous = Some(Ttl::from_hours(2)));
        let began = lab.clock.now();
        let mut last = began;
        let mut refused = None;
        for _ in 0..40 {
            match lab.open(&lab.request()).await {
                Ok(opened) => last = last.max(opened.grant.expires_at),
                Err(error) => {
                    refused = Some(error.reason());
                    break;
                }
            }
            lab.clock.advance(Ttl::from_mins(7));
            let _ = lab.sweep().await.unwrap();
        }
        assert_eq!(refused, Some(Reason::NoTimeLeft));
        assert_eq!(last, began.plus(Ttl::from_hours(2)), "all of it can be used, and no more");
        lab.clock.advance(LineageClaim::PAUSE);
        while lab.clock.now() <= last.plus(LineageClaim::PAUSE) {
            assert_eq!(
                lab.open(&lab.request()).await.unwrap_err().reason(),
                Reason::NoTimeLeft,
                "a short pause is none"
            );
            lab.clock.advance(Ttl::from_mins(10));
        }
        assert!(lab.open(&lab.request()).await.is_ok(), "after a pause a new chain begins");
    });
}

#[test]
fn a_grant_that_is_replaced_ends_when_its_successor_is_active_and_not_before() {
    in_no_time(async {
        for nature in [Nature::hard(), Nature::fenced(), Nature::local()] {
            let lab = Lab::new(nature);
            let first = lab.open(&lab.request()).await.unwrap().grant.record.id;
            let mut request = lab.request();
            request.replaces = Some(first);
            lab.backend.next(Call::Issue, [Some(Fault::Unavailable)]);
            lab.open(&request).await.expect_err("no credential");
            lab.step().await.unwrap();
            let left = lab.grant(first).await;
            assert!(left.is_live(lab.clock.now()), "a failed mint must not leave its caller with nothing: {left:?}");

            let second = lab.open(&request).await.unwrap().grant;
            assert!(second.is_live(lab.clock.now()));
            assert_eq!(second.record.replaces, Some(first));
            let ended = lab.grant(first).await;
            let GrantState::Revoking { ending, fenced_at, .. } = &ended.state else { panic!("{:?}", ended.state) };
            assert_eq!(ending.cause, Cause::REPLACED);
            assert_eq!(fenced_at.is_some(), nature.effect == Effect::Local, "where the record is the fence");
            if nature.effect == Effect::Remote {
                lab.step().await.unwrap();
                assert_eq!(lab.backend.working().len(), 1, "the worker has undone the one that was replaced");
            }
        }
    });
}
