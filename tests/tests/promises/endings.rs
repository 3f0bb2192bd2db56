//! Promises 2, 3 and 4: every credential dies on time, nothing due is forgotten, and endings are told as they were.

use hallpass_core::audit::AuditAction;
use hallpass_core::credential::RevocationClass;
use hallpass_core::error::Reason;
use hallpass_core::grant::{Cause, GrantState, StateName};
use hallpass_core::policy::{Action, Outcome};
use hallpass_core::service::{abandon, heartbeat, open, revoke};
use hallpass_core::testing::{Call, Fault, Nature, World, Write};
use hallpass_core::time::{Clock, Ttl};

use crate::lab::{Lab, in_no_time, told_of};

const NATURES: [fn() -> Nature; 4] = [Nature::hard, Nature::fenced, Nature::expiry_only, Nature::local];

#[test]
fn promise_2_every_credential_dies_on_time_even_if_the_broker_never_runs_again() {
    in_no_time(async {
        for nature in NATURES {
            for min_life in [1, 600, 900, 3_600] {
                // The intent takes as long as it may to record, the answer as long as it may to come.
                for (store_takes, backend_takes) in [(0, 0), (5, 9), (5, 10)] {
                    let lab = Lab::new(Nature { min_life: Ttl::from_secs(min_life), ..nature() });
                    let clock = std::sync::Arc::clone(&lab.clock);
                    lab.store.meanwhile(Write::Open, move || clock.advance(Ttl::from_secs(store_takes)));
                    lab.backend.next(Call::Issue, [Some(Fault::Slow(Ttl::from_secs(backend_takes)))]);
                    let opened = lab.open(&lab.request()).await;
                    for credential in lab.backend.journal() {
                        let grants = lab.all_grants().await;
                        let Some(grant) = grants.iter().find(|one| one.record.id == credential.grant) else {
                            assert!(opened.is_err(), "minted here, and never left");
                            continue;
                        };
                        assert!(credential.expires_at <= grant.expires_at, "{credential:?} outlives {grant:?}");
                        assert!(grant.expires_at <= grant.record.terms.expires_at, "only ever made earlier");
                        assert!(grant.end_at <= grant.expires_at);
                        lab.clock.advance(grant.expires_at.since(lab.clock.now()).plus(Ttl::from_secs(1)));
                        assert!(lab.backend.working().is_empty(), "no worker ran, and it is dead");
                    }
                }
            }
        }
    });
}

#[test]
fn promise_2_a_credential_that_outlives_what_was_asked_for_is_not_returned() {
    in_no_time(async {
        for nature in NATURES {
            let lab = Lab::new(nature());
            // Beyond what the worst case leaves room for.
            lab.backend.next(Call::Issue, [Some(Fault::Overlong(Ttl::from_secs(60)))]);
            let error = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::BackendRefused);
            let recorded = lab.all_grants().await;
            if nature().effect == hallpass_core::credential::Effect::Remote {
                let lives_until = lab.backend.journal()[0].expires_at;
                assert!(recorded[0].expires_at >= lives_until, "the record says how long it can really work");
            }
            lab.settle().await;
            assert!(lab.backend.working().is_empty() || recorded.is_empty());
        }
    });
}

#[test]
fn promise_2_a_ttl_under_the_least_life_is_refused_unless_the_class_is_hard() {
    in_no_time(async {
        for nature in NATURES {
            let lab = Lab::new(Nature { min_life: Ttl::from_secs(900), ..nature() });
            let mut request = lab.request();
            request.ttl = Some(Ttl::from_secs(899));
            let answer = lab.open(&request).await;
            match nature().class {
                RevocationClass::Hard => {
                    let grant = answer.unwrap().grant;
                    assert_eq!(grant.end_at, grant.record.created_at.plus(Ttl::from_secs(899)));
                    assert!(lab.backend.journal()[0].expires_at <= grant.expires_at);
                }
                _ => assert_eq!(answer.unwrap_err().reason(), Reason::BackendMinTtl),
            }
        }
    });
}

#[test]
fn promise_3_nothing_due_is_forgotten() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        // The backend is away for a week. There is no attempt after which we stop.
        lab.backend.always(Call::Revoke, Some(Fault::Unavailable));
        lab.clock.advance(Ttl::from_mins(10));
        let away_until = lab.clock.now().plus(Ttl::from_hours(7 * 24));
        let mut longest_wait = Ttl::ZERO;
        while lab.clock.now() < away_until {
            lab.step().await.unwrap();
            let due = lab.grant(id).await.due_at().expect("it stays due");
            longest_wait = longest_wait.max(due.since(lab.clock.now()));
            lab.clock.advance(due.since(lab.clock.now()).plus(Ttl::from_secs(1)));
            if lab.clock.now().as_secs() % 50 == 0 {
                lab.restart().await;
            }
        }
        assert!(lab.backend.calls(Call::Revoke) > 1_500, "{} tries in a week", lab.backend.calls(Call::Revoke));
        assert!(longest_wait <= Ttl::from_mins(5), "{longest_wait}");
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoking);
        lab.backend.always(Call::Revoke, None);
        lab.settle().await;
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked);
    });
}

#[test]
fn promise_3_a_crash_between_intent_and_answer_leaves_work_and_no_credential() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        // The backend made it, and the broker was gone before it could write anything down.
        lab.backend.next(Call::Issue, [Some(Fault::AnswerLost)]);
        lab.backend.next(Call::Revoke, [Some(Fault::Unavailable)]);
        lab.store.fail(Write::Apply, 0, hallpass_core::testing::StoreFault::Lost);
        lab.open(&lab.request()).await.unwrap_err();
        assert_eq!(lab.all_grants().await[0].state_name(), StateName::Pending);
        assert_eq!(lab.backend.working().len(), 1);
        lab.restart().await;
        lab.clock.advance(lab.ports.limits.pending_deadline());
        lab.settle().await;
        assert!(lab.backend.journal()[0].ended_at.is_some());
        assert_eq!(lab.all_grants().await[0].state_name(), StateName::Revoked);
    });
}

#[test]
fn promise_3_a_credential_made_after_the_first_undo_is_undone_too() {
    in_no_time(async {
        for nature in [Nature::hard(), Nature::fenced()] {
            for done_after in 0..12 {
                let lab = Lab::new(nature);
                let done_after = Some(Ttl::from_secs(done_after * 2));
                lab.backend.next(Call::Issue, [Some(Fault::Silent { waits: Ttl::from_secs(10), done_after })]);
                let error = lab.open(&lab.request()).await.unwrap_err();
                assert_eq!(error.reason(), Reason::BackendOutcomeUnknown);
                lab.step().await.unwrap();
                let first = lab.all_grants().await.pop().unwrap();
                assert!(
                    matches!(first.state, GrantState::Revoking { fenced_at: None, .. }),
                    "the first undo is not believed yet: {first:?}"
                );
                lab.clock.advance(lab.ports.limits.settling());
                lab.step().await.unwrap();
                assert!(lab.backend.working().is_empty(), "{:?} made after {done_after:?}", nature.class);
                lab.settle().await;
                let hard = nature.class == RevocationClass::Hard;
                let wanted = if hard { StateName::Revoked } else { StateName::Expired };
                assert_eq!(lab.grant(first.record.id).await.state_name(), wanted);
            }
        }
    });
}

#[test]
fn promise_3_one_grant_that_cannot_be_undone_keeps_no_other_from_its_end() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        for _ in 0..40 {
            lab.open(&lab.request()).await.unwrap();
        }
        lab.clock.advance(Ttl::from_mins(10));
        lab.step().await.unwrap();
        // Nothing answers, each until its deadline: those that wait for their turn give it back rather than overstay.
        let silent = Fault::Silent { waits: Ttl::from_secs(1), done_after: None };
        lab.backend.next(Call::Revoke, std::iter::repeat_n(Some(silent), 40));
        lab.step().await.unwrap();
        let asked = lab.backend.calls(Call::Revoke);
        assert!(asked < 30, "{asked} calls in one tick, some of them after the hold had no time left for a call");
        lab.settle().await;
        assert!(lab.all_grants().await.iter().all(|grant| grant.state_name() == StateName::Revoked));
    });
}

#[test]
fn promise_4_a_fence_is_said_to_stand_when_every_verifier_has_heard_of_it_and_not_before() {
    in_no_time(async {
        let within = Ttl::from_secs(10);
        let lab = Lab::new(Nature { fences_within: within, ..Nature::fenced() });
        let opened = lab.open(&lab.request()).await.unwrap();
        let id = opened.grant.record.id;
        lab.clock.advance(Ttl::from_secs(30));
        let holder = lab.proof(World::SUBJECT);
        revoke::revoke(&lab.ports, &holder, id, Some("done".to_owned()), &lab.origin()).await.unwrap();
        let asked_at = lab.clock.now();
        for _ in 0..3 {
            lab.step().await.unwrap();
            lab.clock.advance(Ttl::from_secs(3));
        }
        let GrantState::Revoking { fenced_at: None, retry_at, last_error, .. } = lab.grant(id).await.state else {
            panic!("not yet fenced");
        };
        assert_eq!(retry_at, asked_at.plus(within));
        assert!(last_error.is_some_and(|error| error.contains("every verifier")), "it says what it waits for");
        assert_eq!(lab.backend.calls(Call::Revoke), 1, "nobody asks before");
        lab.clock.advance(Ttl::from_secs(1));
        lab.step().await.unwrap();
        let GrantState::Revoking { fenced_at: Some(fenced_at), last_error: None, .. } = lab.grant(id).await.state
        else {
            panic!("fenced");
        };
        assert_eq!(fenced_at, asked_at.plus(within));
        assert!(lab.backend.working().is_empty());
    });
}

#[test]
fn promise_4_what_is_told_of_an_ending_that_fails_holds_no_secret_of_the_backends() {
    in_no_time(async {
        const WORDS: &str =
            "permission denied: 'hvs.CANARYcanaryCANARYcanary' at https://root:canary@vault.test, try again";
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        lab.backend.next(Call::Revoke, [Some(Fault::Says(WORDS))]);
        let holder = lab.proof(World::SUBJECT);
        revoke::revoke(&lab.ports, &holder, id, None, &lab.origin()).await.unwrap();
        lab.step().await.unwrap();
        let GrantState::Revoking { attempts: 1, last_error: Some(told), .. } = lab.grant(id).await.state else {
            panic!("it failed once: {:?}", lab.grant(id).await.state);
        };
        assert_eq!(told, "permission denied: […] at […] try again", "the control: the rest is told");
        let log = format!("{:?}", told_of(&lab.log().await, id));
        assert!(log.contains("permission denied") && !log.to_lowercase().contains("canary"), "{log}");
        lab.settle().await;
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked);
    });
}

#[test]
fn promise_4_what_only_a_lost_answer_could_have_named_is_never_said_to_be_revoked() {
    in_no_time(async {
        let lab = Lab::new(Nature { answers_handle: true, min_life: Ttl::from_hours(1), ..Nature::hard() });
        lab.backend.next(Call::Issue, [Some(Fault::AnswerLost)]);
        lab.open(&lab.request()).await.unwrap_err();
        let [grant] = lab.all_grants().await.try_into().expect("one intent");
        let id = grant.record.id;
        for _ in 0..5 {
            lab.step().await.unwrap();
            lab.clock.advance(Ttl::from_mins(10));
        }
        let GrantState::Revoking { retry_at, last_error, .. } = lab.grant(id).await.state else {
            panic!("it may still work: {:?}", lab.backend.working());
        };
        assert_eq!(lab.backend.working().len(), 1, "it does");
        assert!(last_error.is_some_and(|error| error.contains("time does")));
        assert_eq!(lab.backend.calls(Call::Revoke), 1, "asking again would change nothing");
        lab.clock.advance(retry_at.since(lab.clock.now()));
        lab.step().await.unwrap();
        assert_eq!(lab.grant(id).await.state_name(), StateName::Expired);
        assert!(lab.backend.working().is_empty(), "its time is over");

        // The positive control: where the answer came, it is undone and said to be.
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let holder = lab.proof(World::SUBJECT);
        revoke::revoke(&lab.ports, &holder, id, Some("done".to_owned()), &lab.origin()).await.unwrap();
        lab.settle().await;
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked);
    });
}

#[test]
fn promise_4_honest_endings() {
    in_no_time(async {
        for nature in NATURES {
            let lab = Lab::new(nature());
            let opened = lab.open(&lab.request()).await.unwrap();
            let id = opened.grant.record.id;
            lab.clock.advance(Ttl::from_secs(30));
            let holder = lab.proof(World::SUBJECT);
            let revoked =
                revoke::revoke(&lab.ports, &holder, id, Some("done".to_owned()), &lab.origin()).await.unwrap();
            assert_eq!(revoked.state_name(), StateName::Revoking, "asked for is not done");
            lab.step().await.unwrap();
            let now = lab.clock.now();
            let grant = lab.grant(id).await;
            let is_local = nature().effect == hallpass_core::credential::Effect::Local;
            match (nature().class, &grant.state) {
                (RevocationClass::Hard, GrantState::Revoked { confirmed_at, .. }) => {
                    assert_eq!(*confirmed_at, now);
                    assert!(lab.backend.working().is_empty());
                }
                (RevocationClass::Fenced, GrantState::Revoking { fenced_at: Some(fenced_at), .. }) => {
                    assert_eq!(*fenced_at, now);
                    assert!(is_local || lab.backend.working().is_empty());
                    let fenced = lab.ports.store.fenced(&grant.record.backend_kind, now).await.unwrap();
                    assert_eq!(fenced.iter().map(|one| one.id).collect::<Vec<_>>(), [id], "verifiers are told");
                }
                (RevocationClass::ExpiryOnly, GrantState::Revoking { fenced_at: None, .. }) => {
                    assert_eq!(lab.backend.working().len(), 1, "it still works, and is not said to be gone");
                    assert_eq!(lab.backend.calls(Call::Revoke), 0, "there is nothing to call for it");
                }
                (class, state) => panic!("{class:?} ends as {state:?}"),
            }
            lab.settle().await;
            let wanted = if nature().class == RevocationClass::Hard { StateName::Revoked } else { StateName::Expired };
            let ended = lab.grant(id).await;
            assert_eq!(ended.state_name(), wanted);
            if wanted == StateName::Expired {
                assert!(lab.clock.now() >= ended.expires_at, "never said before it is so");
            }
        }
    });
}

#[test]
fn promise_4_what_an_operator_gives_up_on_is_abandoned_and_never_revoked() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let operator = || lab.proof("user:ada");
        let why = || Some("the cluster is gone".to_owned());
        let early = abandon::abandon(&lab.ports, &operator(), id, why(), &lab.origin()).await;
        assert_eq!(early.unwrap_err().reason(), Reason::StateConflict, "only what is ending");
        lab.backend.always(Call::Revoke, Some(Fault::Unavailable));
        revoke::revoke(&lab.ports, &operator(), id, None, &lab.origin()).await.unwrap();
        lab.step().await.unwrap();
        let silent = abandon::abandon(&lab.ports, &operator(), id, None, &lab.origin()).await;
        assert_eq!(silent.unwrap_err().reason(), Reason::MalformedRequest, "only with a reason");
        abandon::abandon(&lab.ports, &operator(), id, why(), &lab.origin()).await.unwrap();
        lab.backend.always(Call::Revoke, None);
        lab.settle().await;
        let GrantState::Abandoned { ending, .. } = lab.grant(id).await.state else { panic!("abandoned") };
        assert_eq!(ending.reason, why());
        assert_eq!(ending.actor.as_deref(), Some("ci:user:ada"));
    });
}

#[test]
fn a_heartbeat_counts_from_when_there_is_something_to_hold() {
    in_no_time(async {
        for nature in NATURES {
            let lab = Lab::new(nature());
            let mut request = lab.request();
            request.heartbeat = Some(Ttl::from_secs(5));
            let slow = nature().effect == hallpass_core::credential::Effect::Remote;
            lab.backend.next(Call::Issue, [slow.then_some(Fault::Slow(Ttl::from_secs(9)))]);
            let id = lab.open(&request).await.expect("a slow backend costs the holder no heartbeat").grant.record.id;
            for _ in 0..3 {
                lab.clock.advance(Ttl::from_secs(4));
                lab.step().await.unwrap();
                heartbeat::heartbeat(&lab.ports, &lab.proof(World::SUBJECT), id, &lab.origin()).await.unwrap();
            }
            lab.clock.advance(Ttl::from_secs(5));
            let late = heartbeat::heartbeat(&lab.ports, &lab.proof(World::SUBJECT), id, &lab.origin()).await;
            assert_eq!(late.unwrap_err().reason(), Reason::StateConflict, "too late is not alive");
            lab.step().await.unwrap();
            let grant = lab.grant(id).await;
            let GrantState::Revoking { ending, .. } = &grant.state else { panic!("{:?}", grant.state) };
            assert_eq!(ending.cause.as_str(), "heartbeat_missed");
        }
    });
}

#[test]
fn a_broker_that_was_down_ends_no_grant_whose_holder_lives() {
    in_no_time(async {
        for nature in NATURES {
            let lab = Lab::new(nature());
            let mut request = lab.request();
            request.heartbeat = Some(Ttl::from_secs(45));
            let [alive, silent] = [lab.open(&request).await, lab.open(&request).await].map(|opened| opened.unwrap());
            let [alive, silent] = [alive, silent].map(|opened| opened.grant.record.id);
            lab.clock.advance(Ttl::from_mins(5));
            assert!(!lab.grant(alive).await.is_live(lab.clock.now()), "nobody was heard for five minutes");

            assert_eq!(lab.restart().await, 2);
            for _ in 0..3 {
                lab.step().await.unwrap();
                for id in [alive, silent] {
                    let grant = lab.grant(id).await;
                    assert!(grant.is_live(lab.clock.now()), "introspection and the worker agree: {grant:?}");
                }
                heartbeat::heartbeat(&lab.ports, &lab.proof(World::SUBJECT), alive, &lab.origin()).await.unwrap();
                lab.clock.advance(Ttl::from_secs(14));
            }
            lab.clock.advance(Ttl::from_secs(3));
            lab.step().await.unwrap();
            assert!(lab.grant(alive).await.is_live(lab.clock.now()));
            let ended = lab.grant(silent).await;
            let GrantState::Revoking { ending, .. } = &ended.state else { panic!("{:?}", ended.state) };
            assert_eq!(ending.cause, Cause::HEARTBEAT_MISSED, "within a minute of the start");
        }
    });
}

#[test]
fn only_the_holder_gives_signs_of_life() {
    in_no_time(async {
        let lab = Lab::new(Nature::local());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let other_run = lab.proof_with(World::SUBJECT, |proof| proof.provenance.run = Some("4243".to_owned()));
        for not_the_holder in [lab.proof("user:ada"), other_run] {
            let answer = heartbeat::heartbeat(&lab.ports, &not_the_holder, id, &lab.origin()).await;
            assert_eq!(answer.unwrap_err().reason(), Reason::NotFound);
        }
    });
}

#[test]
fn an_end_keeps_the_decision_that_allowed_it_and_consumes_no_proof() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let evaluated = lab.grant(id).await.record.decision.id;
        let holder = lab.proof(World::SUBJECT);
        lab.backend.always(Call::Revoke, Some(Fault::Unavailable));
        revoke::revoke(&lab.ports, &holder, id, None, &lab.origin()).await.unwrap();
        lab.step().await.unwrap();
        let why = Some("the cluster is gone".to_owned());
        abandon::abandon(&lab.ports, &holder, id, why, &lab.origin()).await.unwrap();
        let log = lab.log().await;
        for (action, decided) in
            [(AuditAction::GrantRevoke, Action::Revoke), (AuditAction::GrantAbandon, Action::Abandon)]
        {
            let told = told_of(&log, id).into_iter().find(|one| one.entry.action == action).expect("an entry");
            let decision = told.entry.decision.expect("an entry names its decision");
            let decision = lab.ports.store.decision(decision).await.unwrap().expect("which is kept");
            assert_eq!((decision.query.action, decision.verdict.outcome), (decided, Outcome::Allow));
        }
        assert_eq!(lab.grant(id).await.record.decision.id, evaluated, "what opened it stays what opened it");
        open::open(&lab.ports, &holder, &lab.request(), &lab.origin()).await.expect("the proof was not consumed");

        let again = lab.open(&lab.request()).await.unwrap().grant.record.id;
        revoke::revoke_by_credential(&lab.ports, &holder, None, again, &lab.origin()).await.unwrap();
        let log = lab.log().await;
        let told = told_of(&log, again).into_iter().find(|one| one.entry.action == AuditAction::GrantRevoke);
        assert!(told.expect("an entry").entry.decision.is_some());
        let log = log.len();
        revoke::revoke(&lab.ports, &holder, again, None, &lab.origin()).await.unwrap();
        assert_eq!(lab.log().await.len(), log, "what changes nothing is not told");
    });
}

#[tokio::test]
async fn an_end_begins_while_another_call_to_its_backend_hangs() {
    let lab = Lab::new(Nature::hard());
    let (first, second) = (lab.open(&lab.request()).await.unwrap(), lab.open(&lab.request()).await.unwrap());
    let (first, second) = (first.grant.record.id, second.grant);
    revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), first, None, &lab.origin()).await.unwrap();
    lab.backend.next(Call::Revoke, [Some(Fault::Held)]);
    let meanwhile = async {
        while lab.backend.calls(Call::Revoke) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(lab.begin().await.unwrap().taken, 0, "what is ending already is not looked at");
        lab.clock.advance(second.end_at.since(lab.clock.now()));
        assert_eq!(lab.begin().await.unwrap().stepped, 1);
        assert_eq!(lab.grant(second.record.id).await.state_name(), StateName::Revoking, "it is said at once");
        assert_eq!(lab.grant(first).await.state_name(), StateName::Revoking, "nothing else is said");
        assert_eq!(lab.backend.calls(Call::Revoke), 1, "and nobody is called for that");
        lab.backend.release();
    };
    let (stepped, ()) = tokio::join!(lab.step(), meanwhile);
    assert_eq!(stepped.unwrap().stepped, 1);
    lab.settle().await;
    for id in [first, second.record.id] {
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked);
    }
}
