//! What a fence at a backend is rendered from: all that is over and may still work, and nothing else.

use std::sync::Arc;

use super::{apply, open, opening, opening_of};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, EXPIRY_SKEW, Ending, Grant};
use crate::id::GrantId;
use crate::port::{Ended, EndedGrant, EndedPage, FenceName, OpenOutcome, Opening, Quota, Quotas, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

/// Grant `n`, whose credential this fence is to hold.
fn fenced_by(store: &Arc<dyn Store>, n: u64, fence: FenceName<'_>) -> Opening {
    let mut opening = opening(store, n, NOW);
    opening.grant.record.backend_kind = fence.backend_kind.to_owned();
    opening.grant.record.fence = Some(fence.name.to_owned());
    opening
}

async fn ending(store: &Arc<dyn Store>, n: u64, at: u64) -> Grant {
    let grant = open(store, fenced_by(store, n, FENCE)).await;
    let ended = grant.begin_ending(Ending::by_broker(Cause::REQUESTED, later(at)), false).unwrap();
    apply(store, ended, AuditAction::GrantRevoke, later(at)).await
}

async fn fenced(store: &Arc<dyn Store>, n: u64, at: u64) -> Grant {
    let fenced = ending(store, n, at).await.fence(later(at)).unwrap();
    apply(store, fenced, AuditAction::GrantFence, later(at)).await
}

const FENCE: FenceName<'static> = FenceName { backend_kind: "jwt", name: "a role there" };
const ALL: EndedPage = EndedPage { after: None, limit: 100 };

fn ids(ended: &[EndedGrant]) -> Vec<GrantId> {
    ended.iter().map(|ended| ended.id).collect()
}

async fn all(store: &Arc<dyn Store>, fence: FenceName<'_>, now: Timestamp) -> Vec<EndedGrant> {
    let Ended { grants, next } = store.ended_alive(fence, now, ALL).await.unwrap();
    assert_eq!(next, None, "there are few");
    grants
}

/// What waits for its fence and what has it, with the handles; not what lives, is of another kind or fence, was given up
/// without a fence, or is over.
pub async fn what_is_over_and_may_still_work_is_told_with_its_handle(store: &Arc<dyn Store>) {
    open(store, fenced_by(store, 1, FENCE)).await;
    let waiting = ending(store, 2, 1).await;
    fenced(store, 3, 3).await;
    fenced(store, 4, 2).await;
    let given_up = |grant: Grant| grant.abandon(later(4), "ci:user:ada".to_owned(), "not needed".to_owned()).unwrap();
    apply(store, given_up(ending(store, 5, 1).await), AuditAction::GrantAbandon, later(4)).await;
    let with_fence = fenced(store, 6, 4).await;
    apply(store, given_up(with_fence), AuditAction::GrantAbandon, later(4)).await;
    let elsewhere = [FenceName { backend_kind: "x509", ..FENCE }, FenceName { name: "another role", ..FENCE }];
    for (n, elsewhere) in [7, 9].into_iter().zip(elsewhere) {
        let elsewhere = open(store, fenced_by(store, n, elsewhere)).await;
        let elsewhere = elsewhere.begin_ending(Ending::by_broker(Cause::REQUESTED, later(1)), false).unwrap();
        apply(store, elsewhere, AuditAction::GrantRevoke, later(1)).await;
    }
    let mut pending = opening_of(store, sample::pending(8, RevocationClass::Fenced, NOW), 8);
    pending.grant.record.fence = Some(FENCE.name.to_owned());
    let pending = open(store, pending).await;

    let ended = all(store, FENCE, later(5)).await;
    let expected = [2, 3, 4, 6].map(sample::id::<GrantId>);
    assert_eq!(ids(&ended), expected, "what is fenced and what waits");
    assert!(!ids(&ended).contains(&pending.record.id), "what is not over is not told");
    for (ended, n) in ended.iter().zip([2, 3, 4, 6]) {
        assert_eq!(ended.handle, Ok(sample::handle(n)));
        assert_eq!((ended.created_at, &ended.backend), (NOW, &waiting.record.backend));
        assert_eq!(ended.expires_at, waiting.expires_at);
    }
    let fenced_at: Vec<_> = ended.iter().map(|ended| ended.fenced_at).collect();
    assert_eq!(fenced_at, [None, Some(later(3)), Some(later(2)), Some(later(4))]);
    assert_eq!(ids(&all(store, elsewhere[1], later(5)).await), [sample::id(9)], "of each fence its own");
    let mut names = store.fences("jwt", later(5)).await.unwrap();
    names.sort();
    assert_eq!(names, [FENCE.name, "another role"]);

    let over = waiting.expires_at.plus(EXPIRY_SKEW);
    let last = Timestamp::from_millis(over.as_millis() - 1);
    assert_eq!(ids(&all(store, FENCE, last).await), expected, "a verifier's clock may be behind");
    assert_eq!(ids(&all(store, FENCE, over).await), [], "what is over is told no longer");
    assert_eq!(store.fences("jwt", over).await.unwrap(), Vec::<String>::new());
}

/// Part for part, whatever the size of a part, each once.
pub async fn what_a_fence_holds_is_told_in_parts(store: &Arc<dyn Store>) {
    for n in 1..=7 {
        ending(store, n, 1).await;
    }
    for limit in [1, 3, 7] {
        let (mut told, mut page) = (Vec::new(), EndedPage { after: None, limit });
        loop {
            let Ended { grants, next } = store.ended_alive(FENCE, later(2), page).await.unwrap();
            assert!(grants.len() <= limit);
            told.extend(ids(&grants));
            page.after = next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(told, (1..=7).map(sample::id).collect::<Vec<GrantId>>(), "{limit} at once");
    }
}

/// Whatever is alive, or over and not expired, has a place; one more is not opened, and nothing is consumed by it.
pub async fn a_fence_is_asked_to_hold_no_more_than_it_can(store: &Arc<dyn Store>) {
    let room_for = |n: u64, places: u32, fence| Opening {
        quotas: Quotas { fence: Some(places), ..Quotas::NONE },
        ..fenced_by(store, n, fence)
    };
    let over = async |opening| match store.open(opening).await.unwrap() {
        OpenOutcome::OverQuota(quota) => Some(quota),
        OpenOutcome::Opened(_) => None,
        other => panic!("neither opened nor without room: {other:?}"),
    };
    open(store, fenced_by(store, 1, FENCE)).await;
    ending(store, 2, 1).await;
    assert_eq!(over(room_for(3, 2, FENCE)).await, Some(Quota::Fence), "the one that is over keeps its place");
    let another = FenceName { name: "another role", ..FENCE };
    assert_eq!(over(room_for(4, 2, another)).await, None, "another fence has room");
    assert_eq!(over(room_for(5, 3, FENCE)).await, None, "with more room it is opened");
    assert_eq!(over(room_for(6, 3, FENCE)).await, Some(Quota::Fence));
    let without_limit = Opening { quotas: Quotas::NONE, ..fenced_by(store, 7, FENCE) };
    assert_eq!(over(without_limit).await, None, "where all older ones may be fenced there is always room");

    let mut pending = opening_of(store, sample::pending(8, RevocationClass::Fenced, NOW), 8);
    pending.grant.record.fence = Some("one place".to_owned());
    let pending = open(store, pending).await;
    let one_place = FenceName { name: "one place", ..FENCE };
    assert_eq!(over(room_for(9, 1, one_place)).await, Some(Quota::Fence), "what may be made has a place");
    let failed = pending.fail(Ending::by_broker(Cause::BACKEND_REFUSED, later(1))).unwrap();
    apply(store, failed, AuditAction::GrantFail, later(1)).await;
    assert_eq!(over(room_for(10, 1, one_place)).await, None, "what was never made has none");

    let expired = store.grant(sample::id(1)).await.unwrap().unwrap().expires_at.plus(EXPIRY_SKEW);
    let mut later = room_for(11, 1, FENCE);
    (later.grant.record.created_at, later.now) = (expired, expired);
    later.grant.expires_at = expired.plus(Ttl::from_mins(20));
    assert_eq!(over(later).await, None, "what has expired makes room, whether or not anybody has recorded it");
}
