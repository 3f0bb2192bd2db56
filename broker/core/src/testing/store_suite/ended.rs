//! What a fence at a backend is rendered from: all that is over and may still work, and nothing else.

use std::sync::Arc;

use super::{apply, open, opening, opening_of};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, EXPIRY_SKEW, Ending, Grant};
use crate::id::GrantId;
use crate::port::{EndedGrant, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

async fn ending(store: &Arc<dyn Store>, n: u64, at: u64) -> Grant {
    let grant = open(store, opening(store, n, NOW)).await;
    let ended = grant.begin_ending(Ending::by_broker(Cause::REQUESTED, later(at)), false).unwrap();
    apply(store, ended, AuditAction::GrantRevoke, later(at)).await
}

async fn fenced(store: &Arc<dyn Store>, n: u64, at: u64) -> Grant {
    let fenced = ending(store, n, at).await.fence(later(at)).unwrap();
    apply(store, fenced, AuditAction::GrantFence, later(at)).await
}

fn ids(ended: &[EndedGrant]) -> Vec<GrantId> {
    ended.iter().map(|ended| ended.id).collect()
}

/// What waits for its fence and what has it, with the handles, the fenced first; not what lives, is of another kind,
/// was given up without a fence, or is over.
pub async fn what_is_over_and_may_still_work_is_told_with_its_handle(store: &Arc<dyn Store>) {
    open(store, opening(store, 1, NOW)).await;
    let waiting = ending(store, 2, 1).await;
    let second = fenced(store, 3, 3).await;
    let first = fenced(store, 4, 2).await;
    let given_up = |grant: Grant| grant.abandon(later(4), "ci:user:ada".to_owned(), "not needed".to_owned()).unwrap();
    apply(store, given_up(ending(store, 5, 1).await), AuditAction::GrantAbandon, later(4)).await;
    let with_fence = fenced(store, 6, 4).await;
    apply(store, given_up(with_fence), AuditAction::GrantAbandon, later(4)).await;
    let mut elsewhere = opening(store, 7, NOW);
    elsewhere.grant.record.backend_kind = "x509".to_owned();
    let elsewhere = open(store, elsewhere).await;
    let elsewhere = elsewhere.begin_ending(Ending::by_broker(Cause::REQUESTED, later(1)), false).unwrap();
    apply(store, elsewhere, AuditAction::GrantRevoke, later(1)).await;
    let pending = open(store, opening_of(store, sample::pending(8, RevocationClass::Fenced, NOW), 8)).await;

    let ended = store.ended_alive("jwt", later(5)).await.unwrap();
    let expected = [4, 3, 6, 2].map(sample::id::<GrantId>);
    assert_eq!(ids(&ended), expected, "the fenced first, then what waits");
    assert!(!ids(&ended).contains(&pending.record.id), "what is not over is not told");
    for (ended, n) in ended.iter().zip([4, 3, 6, 2]) {
        assert_eq!(ended.handle, Ok(sample::handle(n)));
        assert_eq!((ended.created_at, &ended.backend), (NOW, &waiting.record.backend));
        assert_eq!(ended.expires_at, waiting.expires_at);
    }
    assert_eq!(
        ended.iter().map(|ended| ended.fenced_at).collect::<Vec<_>>(),
        [Some(later(2)), Some(later(3)), Some(later(4)), None]
    );
    assert_eq!((first.expires_at, second.expires_at), (waiting.expires_at, waiting.expires_at));

    let over = waiting.expires_at.plus(EXPIRY_SKEW);
    let last = Timestamp::from_millis(over.as_millis() - 1);
    assert_eq!(ids(&store.ended_alive("jwt", last).await.unwrap()), expected, "a verifier's clock may be behind");
    assert_eq!(ids(&store.ended_alive("jwt", over).await.unwrap()), [], "what is over is told no longer");
}
