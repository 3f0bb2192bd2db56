//! Renewing: a later end within every bound, and a record that is never earlier than the truth.

use std::collections::BTreeSet;
use std::sync::Arc;

use hallpass_core::attestation::Vouched;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::grant::StateName;
use hallpass_core::id::{AttestorName, PolicyId, RevisionId};
use hallpass_core::policy::{Action, Obligations, Outcome, PolicyQuery, Principal, Resource, Verdict};
use hallpass_core::port::{AttestationVerifier, EvaluationError, PolicyEngine, PolicyFacts, Remainder};
use hallpass_core::service::{heartbeat, renew, revoke};
use hallpass_core::testing::{Call, Fault, Nature, Ruling, ScriptedPolicy, StoreFault, World, Write, sample};
use hallpass_core::time::{Clock, Timestamp, Ttl};

use crate::lab::{Lab, in_no_time};

const EXTENDING: [fn() -> Nature; 3] = [
    Nature::hard,
    || Nature { extends: true, ..Nature::fenced() },
    || Nature { extends: true, ..Nature::expiry_only() },
];

#[test]
fn renewing_never_passes_a_bound_nor_shortens() {
    in_no_time(async {
        for nature in EXTENDING {
            let lab = Lab::new(nature());
            let opened = lab.open(&lab.request()).await.unwrap().grant;
            let (id, mut end_at) = (opened.record.id, opened.end_at);
            let refused = loop {
                lab.clock.advance(Ttl::from_mins(4));
                let proof = lab.proof(World::SUBJECT);
                match renew::renew(&lab.ports, &proof, id, Some(Ttl::from_mins(9)), &lab.origin()).await {
                    Ok(grant) => {
                        assert!(grant.end_at >= end_at && grant.end_at <= opened.record.terms.max_expires_at);
                        assert!(lab.backend.journal()[0].expires_at <= grant.expires_at);
                        end_at = grant.end_at;
                    }
                    Err(error) => break error,
                }
            };
            assert_eq!(refused.reason(), Reason::NoTimeLeft);
            assert_eq!(end_at, opened.record.created_at.plus(Ttl::from_hours(1)), "all of it, and no more");
        }
    });
}

#[test]
fn renewing_keeps_what_bounds_it_now() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let created = lab.clock.now();
        let proof = || lab.proof(World::SUBJECT);
        let obligations = Obligations { max_ttl: Some(Ttl::from_mins(12)), ..Obligations::default() };
        lab.policy.rule(Action::Renew, None, Ruling::Allow(obligations));
        let ttl = Some(Ttl::from_mins(30));
        let grant = renew::renew(&lab.ports, &proof(), id, ttl, &lab.origin()).await.unwrap();
        assert_eq!(grant.end_at, created.plus(Ttl::from_mins(12)), "an obligation counts from creation");
        lab.policy.rule(Action::Renew, None, Ruling::Allow(Obligations::default()));
        lab.edit_role(|role| role.max_continuous = Some(Ttl::from_mins(14)));
        let grant = renew::renew(&lab.ports, &proof(), id, ttl, &lab.origin()).await.unwrap();
        assert_eq!(grant.end_at, created.plus(Ttl::from_mins(14)), "a limit that the role has since got");
        for ruling in [Ruling::Deny, Ruling::Error] {
            lab.policy.rule(Action::Renew, None, ruling);
            renew::renew(&lab.ports, &proof(), id, ttl, &lab.origin()).await.unwrap_err();
            assert_eq!(lab.grant(id).await.state_name(), StateName::Active, "not renewed is not ended");
        }
    });
}

#[test]
fn promise_2_a_renewal_whose_answer_is_lost_leaves_no_credential_that_outlives_its_record() {
    in_no_time(async {
        for nature in EXTENDING {
            let silent = Fault::Silent { waits: Ttl::from_secs(10), done_after: Some(Ttl::ZERO) };
            for (backend, store) in [
                (Some(Fault::AnswerLost), None),
                (Some(silent), None),
                (Some(Fault::RequestLost), None),
                (Some(Fault::Refused), None),
                (Some(Fault::Overlong(Ttl::from_secs(45))), None),
                (None, Some((0, StoreFault::Lost))),
                (None, Some((0, StoreFault::AnswerLost))),
                (None, Some((1, StoreFault::Lost))),
                (None, Some((1, StoreFault::AnswerLost))),
            ] {
                let lab = Lab::new(nature());
                let opened = lab.open(&lab.request()).await.unwrap().grant;
                let id = opened.record.id;
                lab.clock.advance(Ttl::from_mins(5));
                lab.backend.next(Call::Extend, [backend]);
                if let Some((passing, fault)) = store {
                    lab.store.fail(Write::Apply, passing, fault);
                }
                let proof = lab.proof(World::SUBJECT);
                let answer = renew::renew(&lab.ports, &proof, id, None, &lab.origin()).await;
                let (grant, credential) = (lab.grant(id).await, lab.backend.journal().remove(0));
                assert!(credential.expires_at <= grant.expires_at, "{backend:?} {store:?}: {credential:?} {grant:?}");
                if answer.is_err() && store.is_none_or(|(passing, _)| passing == 0) {
                    assert_eq!(grant.end_at, opened.end_at, "the end that was recorded stands");
                }
                if backend == Some(Fault::Refused) {
                    assert_eq!(grant.expires_at, opened.expires_at, "what surely had no effect is taken back");
                }
                lab.settle().await;
                assert!(lab.backend.working().is_empty());
            }
        }
    });
}

#[tokio::test]
async fn a_sign_of_life_while_renewing_costs_neither() {
    let lab = Lab::new(Nature::hard());
    let opened = lab.open(&lab.request()).await.unwrap().grant;
    let (id, proof, beat) = (opened.record.id, lab.proof(World::SUBJECT), lab.proof(World::SUBJECT));
    lab.clock.advance(Ttl::from_mins(5));
    lab.backend.next(Call::Extend, [Some(Fault::Held)]);
    let origin = lab.origin();
    let renewing = renew::renew(&lab.ports, &proof, id, None, &origin);
    let beating = async {
        while lab.backend.calls(Call::Extend) == 0 {
            tokio::task::yield_now().await;
        }
        let beat = heartbeat::heartbeat(&lab.ports, &beat, id, &origin).await;
        lab.backend.release();
        beat
    };
    let (renewed, beat) = tokio::join!(renewing, beating);
    assert!(beat.is_ok());
    assert!(renewed.unwrap().end_at > opened.end_at);
}

#[tokio::test]
async fn a_renewal_that_meets_a_revocation_does_not_bring_the_grant_back() {
    for nature in EXTENDING {
        let lab = Lab::new(nature());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let (proof, ender, origin) = (lab.proof(World::SUBJECT), lab.proof(World::SUBJECT), lab.origin());
        lab.clock.advance(Ttl::from_mins(5));
        lab.backend.next(Call::Extend, [Some(Fault::Held)]);
        let renewing = renew::renew(&lab.ports, &proof, id, None, &origin);
        let ending = async {
            while lab.backend.calls(Call::Extend) == 0 {
                tokio::task::yield_now().await;
            }
            let ended = revoke::revoke(&lab.ports, &ender, id, None, &origin).await;
            lab.backend.release();
            ended
        };
        let (renewed, ended) = tokio::join!(renewing, ending);
        assert_eq!(renewed.unwrap_err().reason(), Reason::StateConflict);
        assert!(ended.is_ok());
        let (grant, credential) = (lab.grant(id).await, lab.backend.journal().remove(0));
        assert!(credential.expires_at <= grant.expires_at, "the record knows how long it may still work");
        lab.settle().await;
        assert!(lab.backend.working().is_empty());
    }
}

#[test]
fn a_proof_renews_once() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        lab.clock.advance(Ttl::from_mins(1));
        let proof = lab.proof(World::SUBJECT);
        renew::renew(&lab.ports, &proof, id, None, &lab.origin()).await.unwrap();
        lab.clock.advance(Ttl::from_mins(1));
        let replayed = renew::renew(&lab.ports, &proof, id, None, &lab.origin()).await.unwrap_err();
        assert_eq!(replayed.reason(), Reason::Replayed);
        assert_eq!(lab.backend.calls(Call::Extend), 1, "a replay has no effect at the backend either");
    });
}

#[test]
fn what_cannot_be_extended_is_a_conflict_and_stays_as_it_was() {
    in_no_time(async {
        for nature in [Nature::local(), Nature { extends: false, ..Nature::hard() }] {
            let lab = Lab::new(nature);
            let opened = lab.open(&lab.request()).await.unwrap().grant;
            lab.clock.advance(Ttl::from_mins(1));
            let proof = lab.proof(World::SUBJECT);
            let answer = renew::renew(&lab.ports, &proof, opened.record.id, None, &lab.origin()).await;
            assert_eq!(answer.unwrap_err().reason(), Reason::CannotExtend);
            let after = lab.grant(opened.record.id).await;
            assert_eq!((after.end_at, after.expires_at), (opened.end_at, opened.expires_at));
        }
    });
}

/// Whatever is offered, a review and a plan were.
struct ReviewAndPlan;

impl AttestationVerifier for ReviewAndPlan {
    fn verify(&self, offered: &[String], _: Timestamp) -> Result<Vec<Vouched>, Refusal> {
        let statements = if offered.is_empty() { Vec::new() } else { sample::attested().statements };
        let vouched = |statement| Vouched { statement, accounts_of: [("github".to_owned(), Vec::new())].into() };
        Ok(statements.into_iter().map(vouched).collect())
    }
}

/// Opens and renews where there is a review of the plan, and else as it is told.
struct AsksForReview(Arc<ScriptedPolicy>);

impl PolicyEngine for AsksForReview {
    fn decide(&self, query: &PolicyQuery) -> Result<Verdict, EvaluationError> {
        let mut verdict = self.0.decide(query)?;
        let is_asked = matches!(query.action, Action::Mint | Action::Renew);
        if is_asked && !query.context.change.as_ref().is_some_and(|change| change.plan_reviewed) {
            verdict.outcome = Outcome::Deny;
        }
        Ok(verdict)
    }

    fn revision(&self) -> &RevisionId {
        self.0.revision()
    }

    fn schema_version(&self) -> u32 {
        self.0.schema_version()
    }

    fn policies(&self) -> Vec<PolicyFacts> {
        self.0.policies()
    }

    fn could_concern(&self, policy: &PolicyId, principal: &Principal) -> bool {
        self.0.could_concern(policy, principal)
    }

    fn could_permit(&self, principal: &Principal, action: Action, resource: &Resource) -> bool {
        self.0.could_permit(principal, action, resource)
    }

    fn left_open(&self, query: &PolicyQuery) -> Result<Remainder, EvaluationError> {
        self.0.left_open(query)
    }

    fn telling_lives(&self, action: Action) -> BTreeSet<Ttl> {
        self.0.telling_lives(action)
    }
}

#[test]
fn what_an_attestor_signed_renews_nothing_once_it_is_trusted_no_more() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let attestor = |name: &str| AttestorName::new(name).unwrap();
        lab.governance.edit(|revision| {
            revision.policy = Arc::new(AsksForReview(Arc::clone(&lab.policy)));
            revision.attestors = Arc::new(ReviewAndPlan);
            for name in ["reviews", "plans", "builds"] {
                revision.catalog.attestors.insert(attestor(name), "settings".to_owned());
            }
        });
        let mut request = lab.request();
        let error = lab.open(&request).await.unwrap_err();
        assert_eq!(error.reason(), Reason::RoleNotAvailable, "the policy asks for it");
        request.attestations = vec!["signed".to_owned()];
        let id = lab.open(&request).await.unwrap().grant.record.id;
        let renew = async || {
            lab.clock.advance(Ttl::from_mins(4));
            let proof = lab.proof(World::SUBJECT);
            let renewed = renew::renew(&lab.ports, &proof, id, Some(Ttl::from_mins(9)), &lab.origin()).await;
            renewed.map(drop).map_err(|error| error.reason())
        };
        assert_eq!(renew().await, Ok(()));
        // One that signed none of it, and other settings of one that did.
        lab.governance.edit(|revision| {
            revision.catalog.attestors.remove(&attestor("builds"));
            revision.catalog.attestors.insert(attestor("reviews"), "others".to_owned());
        });
        assert_eq!(renew().await, Ok(()));
        for gone in ["reviews", "plans"] {
            let edit = |is_there: bool| {
                lab.governance.edit(|revision| {
                    let attestors = &mut revision.catalog.attestors;
                    if is_there {
                        attestors.insert(attestor(gone), "settings".to_owned());
                    } else {
                        attestors.remove(&attestor(gone));
                    }
                });
            };
            edit(false);
            assert_eq!(renew().await, Err(Reason::PolicyDenied), "{gone}");
            assert_eq!(lab.grant(id).await.state_name(), StateName::Active, "not renewed is not ended");
            edit(true);
            assert_eq!(renew().await, Ok(()), "{gone}");
        }
    });
}
