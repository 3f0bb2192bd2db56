//! Each step fails once, each step runs twice: what comes out is the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallpass_core::grant::StateName;
use hallpass_core::port::CredentialBackend;
use hallpass_core::service::revoke;
use hallpass_core::testing::{Call, Fault, FaultingBackend, Nature, StoreFault, World, Write};
use hallpass_core::time::Ttl;

use crate::lab::{Lab, in_no_time, told_of};

const NATURES: [fn() -> Nature; 5] =
    [Nature::hard, Nature::fenced, Nature::expiry_only, Nature::local, || Nature { prepares: true, ..Nature::hard() }];

#[test]
fn each_write_of_a_grants_life_can_fail_once() {
    in_no_time(async {
        for nature in NATURES {
            for write in [Write::Open, Write::Apply, Write::Reserve, Write::Expire] {
                for passing in 0..5 {
                    for fault in [StoreFault::Lost, StoreFault::AnswerLost] {
                        let lab = Lab::new(nature());
                        lab.store.fail(write, passing, fault);
                        let what = format!("{:?} {write:?} {passing} {fault:?}", nature().class);
                        let opened = lab.open(&lab.request()).await;
                        if let Ok(opened) = &opened {
                            let holder = lab.proof(World::SUBJECT);
                            let id = opened.grant.record.id;
                            let _ = revoke::revoke(&lab.ports, &holder, id, None, &lab.origin()).await;
                        }
                        for _ in 0..4 {
                            let _ = lab.step().await;
                            let _ = lab.sweep().await;
                            lab.clock.advance(Ttl::from_secs(20));
                        }
                        lab.store.heal();
                        lab.restart().await;
                        lab.settle().await;
                        let remote = nature().effect == hallpass_core::credential::Effect::Remote;
                        assert!(!remote || lab.backend.working().is_empty(), "{what}");
                        for grant in lab.all_grants().await {
                            assert!(grant.state_name().is_final(), "{what}: {grant:?}");
                        }
                        if remote {
                            let hard = nature().class == hallpass_core::credential::RevocationClass::Hard;
                            assert!(!hard || lab.backend.journal().iter().all(|one| one.ended_at.is_some()), "{what}");
                        }
                    }
                }
            }
        }
    });
}

// CASE REV-005
#[test]
fn undoing_fails_any_number_of_times_in_any_way() {
    in_no_time(async {
        let silent = |done_after| Fault::Silent { waits: Ttl::from_secs(10), done_after };
        for fault in [
            Fault::Refused,
            Fault::Unavailable,
            Fault::AnswerLost,
            Fault::RequestLost,
            silent(None),
            silent(Some(Ttl::ZERO)),
        ] {
            for times in [1, 2, 70] {
                let lab = Lab::new(Nature::hard());
                let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
                revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap();
                lab.backend.next(Call::Revoke, std::iter::repeat_n(Some(fault), times));
                lab.settle().await;
                assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked, "{fault:?} {times} times");
                assert_eq!(lab.backend.calls(Call::Revoke), times + 1);
                assert!(lab.backend.journal()[0].ended_at.is_some());
            }
        }
    });
}

#[tokio::test]
async fn ticks_that_run_beside_each_other_take_each_step_once() {
    for nature in NATURES {
        let lab = Lab::new(nature());
        for _ in 0..20 {
            let opened = lab.open(&lab.request()).await.unwrap();
            let holder = lab.proof(World::SUBJECT);
            revoke::revoke(&lab.ports, &holder, opened.grant.record.id, None, &lab.origin()).await.unwrap();
        }
        for _ in 0..4 {
            let (a, b, c, d) = tokio::join!(lab.step(), lab.step(), lab.sweep(), lab.step());
            let taken: usize = [a, b, d].into_iter().map(|tick| tick.unwrap().stepped).sum();
            assert!(taken <= 20, "{taken} steps for 20 grants");
            c.unwrap();
            lab.clock.advance(Ttl::from_mins(11));
        }
        lab.settle().await;
        let log = lab.log().await;
        let class = nature().class;
        for grant in lab.all_grants().await {
            // Opened, perhaps prepared, active, ending begun, and one or two more to its end: each told once.
            let told = told_of(&log, grant.record.id).len();
            let fenced_by_a_call = class == hallpass_core::credential::RevocationClass::Fenced
                && nature().effect == hallpass_core::credential::Effect::Remote;
            let one_more = fenced_by_a_call || nature().prepares;
            assert_eq!(told, if one_more { 5 } else { 4 }, "{grant:?}");
        }
        if class == hallpass_core::credential::RevocationClass::Hard {
            assert_eq!(lab.backend.calls(Call::Revoke), 20);
        }
    }
}

#[test]
fn a_backend_that_was_replaced_under_its_name_confirms_nothing() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let other = FaultingBackend::new(Arc::clone(&lab.clock), Nature { kind: "another", ..Nature::hard() });
        let other: Arc<dyn CredentialBackend> = Arc::new(other);
        let mut mine = BTreeMap::new();
        lab.governance.edit(|revision| mine = std::mem::take(&mut revision.backends));
        revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap();
        lab.step().await.unwrap();
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoking, "nobody is there to confirm");
        lab.governance
            .edit(|revision| revision.backends = mine.keys().map(|name| (name.clone(), Arc::clone(&other))).collect());
        lab.clock.advance(Ttl::from_mins(5));
        lab.step().await.unwrap();
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoking, "a stranger's word confirms nothing");
        lab.governance.edit(|revision| revision.backends = mine);
        lab.settle().await;
        assert_eq!(lab.grant(id).await.state_name(), StateName::Revoked);
    });
}
