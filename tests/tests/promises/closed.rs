//! Promises 5 and 12: any doubt is a refusal, doubt ends nothing, and everything is bounded.

use std::sync::Arc;

use hallpass_core::audit::AuditAction;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::grant::StateName;
use hallpass_core::policy::{Action, Obligations};
use hallpass_core::request::Origin;
use hallpass_core::service::{open, renew, revoke};
use hallpass_core::testing::{Call, Nature, Ruling, StoreFault, World, Write, received, sample};
use hallpass_core::time::{Clock, Ttl};

use crate::lab::{Lab, in_no_time, told_of};

const NATURES: [fn() -> Nature; 2] = [Nature::hard, Nature::local];

/// Nothing was made, and nothing is remembered as made.
async fn nothing_was_opened(lab: &Lab) {
    assert_eq!(lab.backend.journal().len(), 0, "no credential");
    assert!(lab.all_grants().await.is_empty(), "no grant");
}

#[test]
fn promise_5_fail_closed() {
    in_no_time(async {
        for nature in NATURES {
            for (ruling, recorded) in [(Ruling::Deny, "policy_denied"), (Ruling::Error, "policy_error")] {
                let lab = Lab::new(nature());
                lab.policy.rule(Action::Mint, None, ruling);
                let error = lab.open(&lab.request()).await.unwrap_err();
                assert_eq!(error.reason(), Reason::RoleNotAvailable, "one wording for every kind of no");
                nothing_was_opened(&lab).await;
                let log = lab.log().await;
                assert_eq!(log.last().unwrap().entry.reason.as_deref(), Some(recorded), "the log knows which");
            }

            let lab = Lab::new(nature());
            let proof = lab.proof(World::SUBJECT);
            lab.entropy.fail(true);
            let error = open::open(&lab.ports, &proof, &lab.request(), &lab.origin()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::EntropyUnavailable);
            lab.entropy.fail(false);
            nothing_was_opened(&lab).await;

            let lab = Lab::new(nature());
            lab.policy.rule(Action::Mint, None, Ruling::Deny);
            lab.store.fail(Write::Record, 0, StoreFault::Lost);
            let error = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::StoreUnavailable, "a refusal that cannot be recorded is no answer");

            let lab = Lab::new(nature());
            lab.governance.edit(|revision| {
                revision.catalog.owners.values_mut().for_each(|owner| Arc::make_mut(owner).active = false);
            });
            lab.open(&lab.request()).await.expect_err("nobody answers for the role");
            nothing_was_opened(&lab).await;

            let lab = Lab::new(nature());
            let away = Refusal::proof(Reason::JwksUnavailable, "no fresh keys");
            let token = received(&lab.verifier.refuse(away));
            let error = open::open(&lab.ports, &token, &lab.request(), &lab.origin()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::JwksUnavailable);
            nothing_was_opened(&lab).await;
        }
    });
}

#[test]
fn promise_5_a_clock_that_is_behind_opens_and_renews_nothing() {
    in_no_time(async {
        for nature in NATURES {
            let lab = Lab::new(Nature { extends: true, ..nature() });
            let opened = lab.open(&lab.request()).await.unwrap();
            lab.clock.advance(Ttl::from_secs(60));
            lab.open(&lab.request()).await.unwrap();
            let made = lab.backend.journal().len();
            lab.clock.step_wall_back(Ttl::from_secs(2));
            assert!(lab.open(&lab.request()).await.is_ok(), "two seconds are forgiven");
            lab.clock.step_wall_back(Ttl::from_secs(1));
            let error = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::ClockBehind);
            lab.restart().await;
            let error = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::ClockBehind, "the mark is durable");
            let (id, proof) = (opened.grant.record.id, lab.proof(World::SUBJECT));
            let error =
                renew::renew(&lab.ports, &proof, id, Some(Ttl::from_mins(30)), &lab.origin()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::ClockBehind);
            assert_eq!(
                lab.backend.calls(Call::Extend),
                usize::from(nature().effect == hallpass_core::credential::Effect::Local)
            );
            let ours = lab.backend.journal().len() - made;
            assert!(
                nature().class != hallpass_core::credential::RevocationClass::Hard || ours == 1,
                "no other was made"
            );
            let (log, holder) = (lab.log().await.len(), lab.proof(World::SUBJECT));
            let ended = revoke::revoke(&lab.ports, &holder, id, None, &lab.origin()).await.unwrap();
            assert_eq!(ended.state_name(), StateName::Revoking, "an end waits for no clock");
            assert_eq!(lab.log().await.len(), log + 1);
        }
    });
}

#[test]
fn promise_5_a_forward_step_of_the_clock_ends_nothing_until_it_is_confirmed() {
    in_no_time(async {
        for nature in NATURES {
            let lab = Lab::new(nature());
            let kept = lab.open(&lab.request()).await.unwrap().grant.record.id;
            let mut beating = lab.request();
            beating.heartbeat = Some(Ttl::from_secs(30));
            let beating = lab.open(&beating).await.unwrap().grant.record.id;
            let ending = lab.open(&lab.request()).await.unwrap().grant.record.id;
            let holder = lab.proof(World::SUBJECT);
            revoke::revoke(&lab.ports, &holder, ending, None, &lab.origin()).await.unwrap();

            lab.clock.step_wall(Ttl::from_hours(5));
            for _ in 0..3 {
                lab.step().await.unwrap();
                assert!(lab.sweep().await.unwrap().clock_stepped_by.is_some());
                lab.clock.advance(Ttl::from_secs(25));
            }
            for id in [kept, beating] {
                assert_eq!(lab.grant(id).await.state_name(), StateName::Active, "doubt ends nothing by itself");
            }
            let undone = lab.grant(ending).await.state_name();
            if nature().class == hallpass_core::credential::RevocationClass::Hard {
                assert_eq!(undone, StateName::Revoked, "what was asked for is still undone");
            }
            lab.confirm_clock();
            lab.settle().await;
            assert!(lab.all_grants().await.iter().all(|grant| grant.state_name().is_final()));
        }
    });
}

#[test]
fn promise_6_policy_proof_role_and_environment_bound_a_real_grant() {
    in_no_time(async {
        for nature in [Nature::hard, Nature::fenced, Nature::expiry_only, Nature::local] {
            let lab = Lab::new(Nature { max_life: Some(Ttl::from_mins(50)), ..nature() });
            let ends_after = |ttl: Option<u64>| {
                let mut request = lab.request();
                request.ttl = ttl.map(Ttl::from_secs);
                request
            };
            let life = |grant: &hallpass_core::grant::Grant| grant.end_at.since(grant.record.created_at).as_secs();
            assert_eq!(life(&lab.open(&ends_after(None)).await.unwrap().grant), 600, "the role's default");
            assert_eq!(life(&lab.open(&ends_after(Some(601))).await.unwrap().grant), 601, "the request");
            assert_eq!(life(&lab.open(&ends_after(Some(u64::MAX))).await.unwrap().grant), 3_000, "the backend");
            lab.edit_role(|role| role.ttl.max = Ttl::from_mins(40));
            assert_eq!(life(&lab.open(&ends_after(Some(3_000))).await.unwrap().grant), 2_400, "the role");
            let obligations = Obligations { max_ttl: Some(Ttl::from_mins(20)), ..Obligations::default() };
            lab.policy.rule(Action::Mint, None, Ruling::Allow(obligations));
            assert_eq!(life(&lab.open(&ends_after(Some(3_000))).await.unwrap().grant), 1_200, "the policy");
            let bounding = lab.proof_with(World::SUBJECT, |proof| proof.rules.bounds_ttl = true);
            let opened = open::open(&lab.ports, &bounding, &ends_after(Some(3_000)), &lab.origin()).await.unwrap();
            assert_eq!(life(&opened.grant), 300, "the proof");
            let zero = lab.open(&ends_after(Some(0))).await.unwrap_err();
            assert_eq!(zero.reason(), Reason::NoTimeLeft);
            for credential in lab.backend.journal() {
                assert!(credential.expires_at <= lab.grant(credential.grant).await.expires_at);
            }
        }
    });
}

// CASE API-017
#[test]
fn promise_12_refusals_of_unverified_proofs_are_bounded_and_the_rest_is_counted() {
    in_no_time(async {
        let lab = Lab::new(Nature::local());
        let forged = || received("ci|no-such-proof");
        for _ in 0..200 {
            open::open(&lab.ports, &forged(), &lab.request(), &lab.origin()).await.unwrap_err();
        }
        assert_eq!(lab.log().await.len(), 10, "a budget per source");
        let quiet = Origin { source: Some(std::net::IpAddr::from([192, 0, 2, 2])), ..lab.origin() };
        open::open(&lab.ports, &forged(), &lab.request(), &quiet).await.unwrap_err();
        assert_eq!(lab.log().await.len(), 11, "one source's noise silences no other");

        lab.store.fail(Write::Record, 0, StoreFault::Lost);
        lab.sweep().await.unwrap_err();
        lab.sweep().await.unwrap();
        let log = lab.log().await;
        let summary = &log.last().unwrap().entry;
        assert_eq!(summary.action, AuditAction::ProofRefusals);
        let counted = summary.detail.get("bad_signature").map(String::as_str);
        assert_eq!(counted, Some("190"), "what was held back is counted, even if it could not be written at first");

        let expired = lab.proof_with(World::SUBJECT, |proof| proof.expires_at = Some(sample::NOW));
        lab.clock.advance(Ttl::from_secs(30));
        let before = lab.log().await.len();
        for _ in 0..20 {
            open::open(&lab.ports, &expired, &lab.request(), &lab.origin()).await.unwrap_err();
        }
        assert_eq!(lab.log().await.len(), before + 20, "after the signature verified, each is told");
        assert!(lab.clock.now() > sample::NOW);
    });
}

#[test]
fn promise_12_refusals_of_one_identity_are_bounded_and_what_was_done_is_always_told() {
    in_no_time(async {
        let lab = Lab::new(Nature::local());
        lab.policy.rule(Action::Mint, None, Ruling::Deny);
        for _ in 0..200 {
            let refused = lab.open(&lab.request()).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::RoleNotAvailable, "whoever is refused is told each time");
        }
        assert_eq!(lab.log().await.len(), 120, "a budget per identity");
        assert_eq!(lab.ports.store.decisions(500).await.unwrap().len(), 120, "for decisions too");
        let quiet = lab.proof("repo:acme/other");
        open::open(&lab.ports, &quiet, &lab.request(), &lab.origin()).await.unwrap_err();
        assert_eq!(lab.log().await.len(), 121, "one identity's noise silences no other");
        let expired = lab.proof_with(World::SUBJECT, |proof| proof.expires_at = Some(sample::NOW));
        lab.clock.advance(Ttl::from_secs(30));
        open::open(&lab.ports, &expired, &lab.request(), &lab.origin()).await.unwrap_err();
        assert_eq!(lab.log().await.len(), 121, "whatever it is refused for");

        lab.policy.rule(Action::Mint, None, Ruling::Allow(Obligations::default()));
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap();
        assert_eq!(told_of(&lab.log().await, id).len(), 3, "opened, activated, ended");

        lab.store.fail(Write::Record, 0, StoreFault::Lost);
        lab.sweep().await.unwrap_err();
        lab.sweep().await.unwrap();
        let log = lab.log().await;
        let summary = &log.last().unwrap().entry;
        assert_eq!(summary.action, AuditAction::RequestRefusals);
        let counted = |reason: &str| summary.detail.get(reason).map(String::as_str);
        assert_eq!((counted("policy_denied"), counted("expired")), (Some("80"), Some("1")));
        assert_eq!(counted("most_by"), Some("ci:repo:acme/app"));
        lab.sweep().await.unwrap();
        assert_eq!(lab.log().await.len(), log.len(), "nothing was held back since");

        lab.clock.advance(Ttl::from_secs(60));
        lab.policy.rule(Action::Mint, None, Ruling::Deny);
        lab.open(&lab.request()).await.unwrap_err();
        assert_eq!(lab.log().await.len(), log.len() + 1, "a minute later there is room again");
    });
}
