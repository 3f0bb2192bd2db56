//! Promise 8: state and evidence commit together.

use hallpass_core::audit::{AuditAction, AuditOutcome};
use hallpass_core::service::{renew, revoke};
use hallpass_core::testing::{Call, Fault, Nature, StoreFault, World, Write};
use hallpass_core::time::Ttl;

use crate::lab::{Lab, in_no_time, told_of};

#[test]
fn promise_8_state_and_evidence_commit_together() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        lab.clock.advance(Ttl::from_secs(60));
        let holder = lab.proof(World::SUBJECT);
        renew::renew(&lab.ports, &holder, id, None, &lab.origin()).await.unwrap();
        lab.backend.next(Call::Revoke, [Some(Fault::Unavailable)]);
        revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, Some("enough".to_owned()), &lab.origin())
            .await
            .unwrap();
        lab.step().await.unwrap();
        lab.settle().await;

        let log = lab.log().await;
        let story: Vec<_> = told_of(&log, id).iter().map(|one| (one.entry.action, one.entry.outcome)).collect();
        assert_eq!(
            story,
            [
                (AuditAction::GrantOpen, AuditOutcome::Success),
                (AuditAction::GrantActivate, AuditOutcome::Success),
                (AuditAction::GrantRenew, AuditOutcome::Success),
                (AuditAction::GrantRenew, AuditOutcome::Success),
                (AuditAction::GrantRevoke, AuditOutcome::Success),
                (AuditAction::GrantRetry, AuditOutcome::Failure),
                (AuditAction::GrantConfirm, AuditOutcome::Success),
            ]
        );
        for (place, entry) in (0_u64..).zip(&log) {
            assert_eq!(entry.sequence, place, "no gaps");
        }
    });
}

#[test]
fn promise_8_a_write_that_fails_leaves_neither_state_nor_evidence() {
    in_no_time(async {
        let lab = Lab::new(Nature::hard());
        let id = lab.open(&lab.request()).await.unwrap().grant.record.id;
        let (before, log) = (lab.grant(id).await, lab.log().await.len());
        lab.store.fail(Write::Apply, 0, StoreFault::Lost);
        revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap_err();
        assert_eq!((lab.grant(id).await, lab.log().await.len()), (before, log));
        lab.store.fail(Write::Apply, 0, StoreFault::AnswerLost);
        revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap_err();
        assert_eq!(lab.log().await.len(), log + 1, "done and told, though nobody heard");
        let again = revoke::revoke(&lab.ports, &lab.proof(World::SUBJECT), id, None, &lab.origin()).await.unwrap();
        assert_eq!(lab.log().await.len(), log + 1, "asking again changes nothing and tells nothing");
        assert_eq!(again, lab.grant(id).await);
    });
}

#[tokio::test]
async fn what_a_backend_says_itself_is_in_the_log_and_not_in_what_the_caller_is_told() {
    for nature in [Nature::hard(), Nature::local(), Nature { prepares: true, ..Nature::hard() }] {
        let lab = Lab::new(nature);
        lab.backend.next(Call::Prepare, [Some(Fault::Refused)]);
        lab.backend.next(Call::Issue, [Some(Fault::Refused)]);
        let told = lab.open(&lab.request()).await.map(drop).unwrap_err();
        let told = format!("{told} {told:?}");
        assert!(told.contains("the backend says no") && !told.contains("4711"), "{told}");
        let log = lab.log().await;
        assert!(log.iter().any(|entry| format!("{entry:?}").contains("account 4711 may not")), "{log:?}");
    }
}
