//! What is made at a backend before the credential: nothing is minted under what nobody could undo, and none of it is left.

use hallpass_core::audit::AuditAction;
use hallpass_core::grant::StateName;
use hallpass_core::id::BackendName;
use hallpass_core::policy::BoundKind;
use hallpass_core::port::{Belongs, SpareRule};
use hallpass_core::request::GrantRequest;
use hallpass_core::service::open::{self, Opened};
use hallpass_core::service::revoke;
use hallpass_core::testing::{Call, Fault, Nature, StoreFault, World, Write};
use hallpass_core::time::Ttl;
use hallpass_core::work::care::{self, Care, Counted};

use crate::lab::{Lab, in_no_time, told_of};

fn preparing() -> Nature {
    Nature { prepares: true, ..Nature::hard() }
}

fn sparing(count: usize) -> Nature {
    Nature { spares: Some(SpareRule { count, life: Ttl::from_mins(10) }), ..preparing() }
}

fn tokens() -> BackendName {
    BackendName::new("tokens").unwrap()
}

async fn stock(lab: &Lab) {
    care::stock(&lab.ports, &tokens(), lab.backend.as_ref()).await.unwrap();
}

async fn reconcile(lab: &Lab, care: &Care) -> Counted {
    care::reconcile(&lab.ports, &tokens(), lab.backend.as_ref(), care).await.unwrap()
}

async fn end(lab: &Lab, opened: &Opened) {
    let id = opened.grant.record.id;
    revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap();
    lab.settle().await;
}

#[test]
fn what_undoes_a_credential_is_durable_before_the_credential_is() {
    in_no_time(async {
        let lab = Lab::new(preparing());
        let opened = lab.open(&lab.request()).await.unwrap();
        let id = opened.grant.record.id;
        let actions: Vec<_> = told_of(&lab.log().await, id).iter().map(|one| one.entry.action).collect();
        assert_eq!(format!("{actions:?}"), "[GrantOpen, GrantPrepare, GrantActivate]");
        let kept = lab.ports.store.handle(id).await.unwrap().unwrap();
        assert_eq!(kept.0.expose(), lab.backend.parents()[0].undo.as_bytes());
        assert_eq!(lab.backend.working().len(), 1);
        end(&lab, &opened).await;
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked);
        assert!(lab.backend.working().is_empty() && lab.backend.parents().is_empty());

        // It cannot be made durable: nothing is minted, and what was prepared does not stay.
        lab.store.fail(Write::Apply, 0, StoreFault::Lost);
        lab.open(&lab.request()).await.unwrap_err();
        lab.store.heal();
        lab.settle().await;
        assert_eq!(lab.backend.journal().len(), 1, "no second credential");
        assert!(lab.backend.parents().is_empty());
    });
}

#[test]
fn whatever_becomes_of_preparing_and_minting_nothing_is_left() {
    in_no_time(async {
        let silent = |done_after| Fault::Silent { waits: Ttl::from_secs(10), done_after };
        let faults = [
            Fault::Refused,
            Fault::Unavailable,
            Fault::AnswerLost,
            Fault::RequestLost,
            silent(None),
            silent(Some(Ttl::ZERO)),
            silent(Some(Ttl::from_secs(9))),
            // When whoever asked has long given up.
            silent(Some(Ttl::from_secs(16))),
        ];
        let natures = [preparing(), Nature { loses_what_is_late: true, ..preparing() }];
        let calls = [Call::Prepare, Call::Issue];
        for (nature, call) in natures.into_iter().flat_map(|nature| calls.map(|call| (nature, call))) {
            for fault in faults {
                let lab = Lab::new(nature);
                lab.backend.next(call, [Some(fault)]);
                lab.open(&lab.request()).await.unwrap_err();
                lab.settle().await;
                let what = format!("{call:?} {fault:?}");
                assert!(lab.backend.parents().is_empty(), "{what}");
                assert!(lab.backend.journal().iter().all(|one| one.ended_at.is_some()), "{what}");
                for grant in lab.all_grants().await {
                    let wanted = match (call, fault) {
                        // Nothing was ever there.
                        (Call::Prepare, Fault::Refused) => StateName::Failed,
                        _ => StateName::Revoked,
                    };
                    assert_eq!(grant.state_name(), wanted, "{what}");
                }
            }
        }
    });
}

#[test]
fn a_grant_takes_a_spare_and_ends_with_it() {
    in_no_time(async {
        let lab = Lab::new(sparing(2));
        stock(&lab).await;
        assert_eq!(lab.backend.parents().len(), 2);
        lab.clock.advance(Ttl::from_mins(1));
        let opened = lab.open(&lab.request()).await.unwrap();
        assert_eq!(lab.backend.calls(Call::Prepare), 0, "nothing had to be prepared");
        assert_eq!(opened.grant.record.terms.bounded_by, BoundKind::Spare);
        assert_eq!(opened.grant.record.terms.ttl, Ttl::from_mins(9), "what is left of the spare");
        assert_eq!(opened.grant.expires_at, lab.backend.parents()[0].expires_at, "the backend's end is not later");
        end(&lab, &opened).await;
        assert_eq!(lab.grant(opened.grant.record.id).await.state_name(), StateName::Revoked);
        assert!(lab.backend.working().is_empty());
        assert_eq!(lab.backend.parents().len(), 1, "the other spare is still there");
        stock(&lab).await;
        assert_eq!(lab.backend.parents().len(), 2, "there are as many again");
    });
}

#[test]
fn a_spare_that_would_outlive_its_grant_or_soon_end_is_not_taken() {
    in_no_time(async {
        let lab = Lab::new(sparing(1));
        stock(&lab).await;
        let short = GrantRequest { ttl: Some(Ttl::from_mins(5)), ..lab.request() };
        let opened = lab.open(&short).await.unwrap();
        assert_eq!(lab.backend.calls(Call::Prepare), 1, "it would have outlived the grant");
        assert_eq!(opened.grant.record.terms.ttl, Ttl::from_mins(5));
        let long = GrantRequest { ttl: Some(Ttl::from_mins(30)), ..lab.request() };
        let opened = lab.open(&long).await.unwrap();
        assert_eq!(lab.backend.calls(Call::Prepare), 2, "it would have ended far too early");
        assert_eq!(opened.grant.record.terms.ttl, Ttl::from_mins(30));
    });
}

#[test]
fn each_spare_goes_to_one_of_many_grants() {
    in_no_time(async {
        let lab = Lab::new(sparing(3));
        stock(&lab).await;
        let request = lab.request();
        let (a, b, c, d) = tokio::join!(lab.open(&request), lab.open(&request), lab.open(&request), lab.open(&request));
        let opened = [a, b, c, d].map(Result::unwrap);
        let handles = opened.iter().map(|opened| lab.ports.store.handle(opened.grant.record.id));
        let mut seen = std::collections::HashSet::new();
        for handle in handles {
            let handle = handle.await.unwrap().unwrap();
            assert!(seen.insert(handle.0.expose().to_vec()), "two grants under one parent");
        }
        assert_eq!(lab.backend.calls(Call::Prepare), 1, "three took a spare");
    });
}

#[test]
fn spares_that_are_of_no_use_any_more_are_undone() {
    in_no_time(async {
        let lab = Lab::new(sparing(3));
        stock(&lab).await;
        let first = lab.backend.parents();
        lab.edit_role(|role| role.digest = "another".to_owned());
        stock(&lab).await;
        let second = lab.backend.parents();
        assert_eq!((first.len(), second.len()), (3, 3));
        assert!(second.iter().all(|spare| !first.contains(spare)), "those of the role as it was are gone");
        lab.clock.advance(Ttl::from_mins(3));
        stock(&lab).await;
        let third = lab.backend.parents();
        assert_eq!(third.len(), 3);
        assert!(third.iter().all(|spare| !second.contains(spare)), "they were not fresh any more");
        lab.backend.change(|nature| nature.spares = None);
        stock(&lab).await;
        assert!(lab.backend.parents().is_empty());
    });
}

#[test]
fn spares_outlive_a_restart_and_the_room() {
    in_no_time(async {
        let lab = Lab::new(sparing(3));
        stock(&lab).await;
        lab.restart().await;
        let ports = hallpass_core::service::Ports { spares: Default::default(), ..lab.ports.clone() };
        care::stock(&ports, &tokens(), lab.backend.as_ref()).await.unwrap();
        assert_eq!(lab.backend.calls(Call::MakeSpare), 3, "none had to be made anew");
        open::open(&ports, &lab.proof(World::SUBJECT), &lab.request(), &lab.origin()).await.unwrap();
        assert_eq!(lab.backend.calls(Call::Prepare), 0);
    });
}

#[test]
fn what_nobody_answers_for_is_undone_and_nothing_else_is() {
    in_no_time(async {
        let lab = Lab::new(sparing(1));
        let care = Care::default();
        stock(&lab).await;
        let opened = lab.open(&lab.request()).await.unwrap();
        stock(&lab).await;
        // Made, and nobody heard of it.
        lab.backend.change(|nature| nature.spares = Some(SpareRule { count: 2, life: Ttl::from_mins(10) }));
        lab.backend.next(Call::MakeSpare, [Some(Fault::AnswerLost)]);
        care::stock(&lab.ports, &tokens(), lab.backend.as_ref()).await.unwrap_err();
        assert_eq!(lab.backend.parents().len(), 3);
        let seen = Counted { ours: 2, strays: 1, ..Counted::default() };
        assert_eq!(reconcile(&lab, &care).await, seen, "nothing is undone at first sight");
        assert_eq!(reconcile(&lab, &care).await, seen, "nor before it can no longer be on its way into the record");
        lab.clock.advance(lab.ports.limits.settling());
        assert_eq!(reconcile(&lab, &care).await, Counted { undone: 1, ..seen });
        assert_eq!(reconcile(&lab, &care).await, Counted { ours: 2, ..Counted::default() });
        assert_eq!(lab.backend.working().len(), 1, "the live grant's credential is left alone");
        let undone: Vec<_> =
            lab.log().await.into_iter().filter(|one| one.entry.action == AuditAction::ReconcileUndo).collect();
        assert_eq!(undone.len(), 1);

        // Its grant is over, and yet it is alive: somebody put the backend back.
        let id = opened.grant.record.id;
        end(&lab, &opened).await;
        lab.backend.plant(Belongs::ToGrant(id), "put-back", lab.ports.now().plus(Ttl::from_hours(1)));
        lab.backend.plant(Belongs::ToOthers, "by-hand", lab.ports.now().plus(Ttl::from_hours(1)));
        reconcile(&lab, &care).await;
        lab.clock.advance(lab.ports.limits.settling());
        let counted = reconcile(&lab, &care).await;
        assert_eq!((counted.undone, counted.others), (1, 1));
        let left = lab.backend.parents();
        assert!(left.iter().any(|one| one.undo == "parent:by-hand"), "what somebody else made is left alone");
        assert!(left.iter().all(|one| one.undo != "parent:put-back"));
    });
}
