//! How many live grants there may be at once, whatever happens around them.

use std::sync::Arc;

use super::{apply, at_once, audit_len, key, open, opening, opening_of, proof, read};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, EXPIRY_SKEW, Ending, StateName};
use crate::port::{OpenOutcome, Opening, Quota, Quotas, Replaced, Store, StoreError};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn of_role(most: u32) -> Quotas {
    Quotas { role: Some(most), ..Quotas::NONE }
}

fn of_owner(most: u32) -> Quotas {
    Quotas { owner: Some(most), ..Quotas::NONE }
}

/// Grant `n` of `role`, within these quotas.
fn within(store: &Arc<dyn Store>, n: u64, role: &str, quotas: Quotas) -> Opening {
    let mut grant = sample::active(n, RevocationClass::Fenced, NOW);
    grant.record.role = role.parse().unwrap();
    Opening { quotas, ..opening_of(store, grant, n) }
}

async fn is_over(store: &Arc<dyn Store>, opening: Opening) -> Option<Quota> {
    match store.open(opening).await.unwrap() {
        OpenOutcome::OverQuota(quota) => Some(quota),
        OpenOutcome::Opened(_) => None,
        other => panic!("neither opened nor over a quota: {other:?}"),
    }
}

/// What was opened before anybody asked about a quota counts, and what nobody sets is not looked at.
pub async fn a_role_has_no_more_live_grants_than_it_may(store: &Arc<dyn Store>) {
    open(store, within(store, 1, "a/b", Quotas::NONE)).await;
    open(store, within(store, 2, "a/b", of_role(2))).await;
    assert_eq!(is_over(store, within(store, 3, "a/b", of_role(2))).await, Some(Quota::Role));
    assert_eq!(is_over(store, within(store, 4, "a/c", of_role(2))).await, None, "another role has room");
    assert_eq!(is_over(store, within(store, 5, "a/b", of_role(3))).await, None, "a larger quota holds at once");
    assert_eq!(is_over(store, within(store, 6, "a/b", Quotas::NONE)).await, None);
    assert_eq!(is_over(store, within(store, 7, "a/b", of_role(4))).await, Some(Quota::Role));
}

/// An owner cannot spread what it may not have over many roles.
pub async fn an_owners_roles_together_have_no_more_than_they_may(store: &Arc<dyn Store>) {
    open(store, within(store, 1, "a/b", of_owner(2))).await;
    open(store, within(store, 2, "a/c", of_owner(2))).await;
    assert_eq!(is_over(store, within(store, 3, "a/d", of_owner(2))).await, Some(Quota::Owner));
    let mut other = within(store, 4, "a/d", of_owner(2));
    other.grant.record.owner.name = "platform".parse().unwrap();
    assert_eq!(is_over(store, other).await, None, "another owner has room");
}

/// By hand, by a backend's refusal, by time, by a repeated request, by a successor.
pub async fn whatever_ends_a_grant_makes_room_for_another(store: &Arc<dyn Store>) {
    let later = NOW.plus(Ttl::from_secs(1));
    let first = open(store, opening(store, 1, NOW)).await;
    let full = |n: u64, at: Timestamp| Opening { quotas: of_role(1), ..opening(store, n, at) };
    assert_eq!(is_over(store, full(2, NOW)).await, Some(Quota::Role));
    let ending = first.begin_ending(Ending::by_broker(Cause::REQUESTED, later), true).unwrap();
    let ending = apply(store, ending, AuditAction::GrantRevoke, later).await;

    let pending = sample::pending(3, RevocationClass::Hard, NOW);
    let pending = open(store, Opening { quotas: of_role(1), ..opening_of(store, pending, 3) }).await;
    assert_eq!(is_over(store, full(4, NOW)).await, Some(Quota::Role), "a pending one counts");
    // What is over by itself was no longer counted: it makes room once.
    assert_eq!(store.expire_due(ending.expires_at.plus(EXPIRY_SKEW), 10).await.unwrap(), 1);
    assert_eq!(is_over(store, full(5, later)).await, Some(Quota::Role));
    let failed = pending.fail(Ending::by_broker(Cause::BACKEND_REFUSED, later)).unwrap();
    apply(store, failed, AuditAction::GrantFail, later).await;

    let third = open(store, full(6, NOW)).await;
    assert_eq!(store.expire_due(third.expires_at.plus(EXPIRY_SKEW), 10).await.unwrap(), 1);

    let keyed = |n: u64| Opening { idempotency: Some(key(1, 1, NOW)), ..full(n, NOW) };
    let fourth = open(store, keyed(7)).await;
    open(store, keyed(8)).await;
    assert_eq!(read(store, fourth.record.id).await.state_name(), StateName::Revoking);
    assert_eq!(is_over(store, full(9, NOW)).await, Some(Quota::Role));
    let fifth = Replaced { id: sample::active(8, RevocationClass::Fenced, NOW).record.id, fenced_by_record: true };
    open(store, Opening { replaced: Some(fifth), ..full(10, NOW) }).await;
    assert_eq!(read(store, fifth.id).await.state_name(), StateName::Revoking);
    assert_eq!(is_over(store, full(11, NOW)).await, Some(Quota::Role));
}

/// The proof is good for when there is room.
pub async fn an_opening_over_its_quota_consumes_nothing(store: &Arc<dyn Store>) {
    let first = open(store, opening(store, 1, NOW)).await;
    let asked = |n: u64| Opening {
        quotas: of_role(1),
        proof_use: Some(proof("p", NOW)),
        idempotency: Some(key(1, 1, NOW)),
        ..opening(store, n, NOW)
    };
    let entries = audit_len(store).await;
    assert_eq!(is_over(store, asked(2)).await, Some(Quota::Role));
    assert_eq!(audit_len(store).await, entries);
    let ending = first.begin_ending(Ending::by_broker(Cause::REQUESTED, NOW), true).unwrap();
    apply(store, ending, AuditAction::GrantRevoke, NOW).await;
    assert_eq!(is_over(store, asked(3)).await, None);
}

/// Openings are written together; one that fails takes neither the others nor a place of theirs.
pub async fn what_fails_beside_an_opening_is_not_counted(store: &Arc<dyn Store>) {
    open(store, Opening { quotas: of_role(100), ..opening(store, 1, NOW) }).await;
    let calls = (10..40_u64).map(|n| {
        let mut opening = Opening { quotas: of_role(11), ..opening(store, n, NOW) };
        if n % 3 != 0 {
            // A parent that is not there: the store finds out half-way.
            opening.grant.record.parent = Some(sample::id(9_999));
        }
        let store = Arc::clone(store);
        async move { store.open(opening).await }
    });
    let outcomes: Vec<Result<OpenOutcome, StoreError>> = at_once(calls).await;
    let opened = outcomes.iter().filter(|outcome| matches!(outcome, Ok(OpenOutcome::Opened(_)))).count();
    assert_eq!(opened, 10);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 20);
    assert_eq!(is_over(store, Opening { quotas: of_role(11), ..opening(store, 50, NOW) }).await, Some(Quota::Role));
    assert_eq!(is_over(store, Opening { quotas: of_role(12), ..opening(store, 51, NOW) }).await, None);
}

/// The count is taken in the transaction that writes.
pub async fn of_many_openings_at_once_no_more_than_the_quota_succeed(store: &Arc<dyn Store>) {
    let calls = (0..60_u64).map(|n| {
        let opening = Opening { quotas: of_role(7), ..opening(store, n, NOW) };
        let store = Arc::clone(store);
        async move { store.open(opening).await }
    });
    let outcomes: Vec<Result<OpenOutcome, StoreError>> = at_once(calls).await;
    let opened = outcomes.iter().filter(|outcome| matches!(outcome, Ok(OpenOutcome::Opened(_)))).count();
    let over = outcomes.iter().filter(|outcome| matches!(outcome, Ok(OpenOutcome::OverQuota(Quota::Role)))).count();
    assert_eq!((opened, over), (7, 53));
}
