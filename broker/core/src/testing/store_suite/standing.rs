//! How the record stands is said of what is alive, and of nothing else.

use std::sync::Arc;

use super::{apply, open, opening, opening_of};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, EXPIRY_SKEW, Ending};
use crate::port::{Backlog, LiveGrants, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(seconds))
}

/// What waits is told by since when: due for a worker, over by itself, asked to end and not confirmed.
pub async fn the_oldest_of_what_waits_is_told(store: &Arc<dyn Store>) {
    assert_eq!(store.backlog().await.unwrap(), Backlog::default(), "nothing waits in an empty store");
    let fenced = open(store, opening(store, 1, NOW)).await;
    let hard = open(store, opening_of(store, sample::active(2, RevocationClass::Hard, NOW), 2)).await;
    let first = Backlog { due: Some(hard.end_at), over: Some(fenced.expires_at.plus(EXPIRY_SKEW)), unconfirmed: None };
    assert_eq!(store.backlog().await.unwrap(), first);

    let asked = Ending::by_broker(Cause::REQUESTED, later(20));
    let ending = apply(store, hard.begin_ending(asked, false).unwrap(), AuditAction::GrantRevoke, later(20)).await;
    let waiting = Backlog { due: Some(later(20)), unconfirmed: Some(later(20)), ..first };
    assert_eq!(store.backlog().await.unwrap(), waiting);

    let again = ending.retry(later(50), "no answer".to_owned()).unwrap();
    let again = apply(store, again, AuditAction::GrantRetry, later(30)).await;
    let retried = Backlog { due: Some(later(50)), ..waiting };
    assert_eq!(store.backlog().await.unwrap(), retried, "trying again does not make it younger");

    apply(store, again.confirm(later(51)).unwrap(), AuditAction::GrantConfirm, later(51)).await;
    assert_eq!(store.backlog().await.unwrap(), Backlog { due: None, unconfirmed: None, ..first });
}

/// A fence that stands has ended its credential: it waits for nobody.
pub async fn a_fence_that_stands_is_not_unconfirmed(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let asked = Ending::by_broker(Cause::REQUESTED, later(20));
    apply(store, grant.begin_ending(asked, true).unwrap(), AuditAction::GrantRevoke, later(20)).await;
    assert_eq!(store.backlog().await.unwrap().unconfirmed, None);
}

/// Live grants are counted by state, and what is over is not among them.
pub async fn live_grants_are_counted_by_state(store: &Arc<dyn Store>) {
    assert_eq!(store.live().await.unwrap(), LiveGrants::default());
    open(store, opening_of(store, sample::pending(1, RevocationClass::Hard, NOW), 1)).await;
    let over = open(store, opening(store, 2, NOW)).await;
    for n in 3..5 {
        open(store, opening_of(store, sample::active(n, RevocationClass::Hard, NOW), n)).await;
    }
    let ending = open(store, opening_of(store, sample::active(5, RevocationClass::Hard, NOW), 5)).await;
    let ending = ending.begin_ending(Ending::by_broker(Cause::REQUESTED, later(1)), false).unwrap();
    apply(store, ending, AuditAction::GrantRevoke, later(1)).await;
    assert_eq!(store.live().await.unwrap(), LiveGrants { pending: 1, active: 3, revoking: 1 });

    assert_eq!(store.expire_due(over.expires_at.plus(EXPIRY_SKEW), 10).await.unwrap(), 1);
    assert_eq!(store.live().await.unwrap(), LiveGrants { pending: 1, active: 2, revoking: 1 });
}
