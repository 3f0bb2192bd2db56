//! What status lists are made of.

use std::sync::Arc;

use super::{apply, open, opening, opening_of};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, EXPIRY_SKEW, Ending, Grant};
use crate::port::Store;
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(seconds))
}

async fn ended(store: &Arc<dyn Store>, n: u64, fenced: bool) -> Grant {
    let ending = Ending::by_broker(Cause::REQUESTED, later(1));
    let grant = open(store, opening(store, n, NOW)).await.begin_ending(ending, fenced).unwrap();
    apply(store, grant, AuditAction::GrantRevoke, later(1)).await
}

/// Whoever forgives a minute must not find valid again what was refused: not when it is over either.
pub async fn what_ended_early_keeps_its_place_in_the_list(store: &Arc<dyn Store>) {
    let alive = open(store, opening(store, 1, NOW)).await;
    let fenced = ended(store, 2, true).await;
    // Undoing has not begun: it is inactive all the same.
    let ending = ended(store, 3, false).await;
    let given_up = ended(store, 4, true).await;
    let given_up = given_up.abandon(later(2), "ci:user:ada".to_owned(), "no longer needed".to_owned()).unwrap();
    let given_up = apply(store, given_up, AuditAction::GrantAbandon, later(2)).await;
    let pending = sample::pending(5, RevocationClass::Hard, NOW);
    let pending = open(store, opening_of(store, pending, 5)).await;

    let index = |grant: &Grant| grant.record.status_index;
    let refused = [index(&fenced), index(&ending), index(&given_up)];
    let all = 0..index(&pending) + 1;
    assert_eq!(store.ended_early(all.clone()).await.unwrap(), Some(refused.to_vec()));
    assert!(!refused.contains(&index(&alive)) && !refused.contains(&index(&pending)));
    let narrow = index(&ending)..index(&given_up);
    assert_eq!(store.ended_early(narrow).await.unwrap(), Some(vec![index(&ending)]));

    let over = alive.expires_at.max(fenced.expires_at).plus(EXPIRY_SKEW);
    assert!(store.expire_due(over, 10).await.unwrap() >= 2);
    let listed = store.ended_early(all).await.unwrap().unwrap();
    assert!(listed.contains(&index(&fenced)), "{listed:?}");
    assert!(!listed.contains(&index(&alive)), "what ended with its credential needs no list: {listed:?}");
}

/// A verifier that asks for a list which no token names is told so.
pub async fn a_list_that_no_grant_is_in_is_none(store: &Arc<dyn Store>) {
    assert_eq!(store.ended_early(0..100).await.unwrap(), None, "an empty store has no list");
    let index = open(store, opening(store, 1, NOW)).await.record.status_index;
    assert_eq!(store.ended_early(0..index + 1).await.unwrap(), Some(Vec::new()));
    assert_eq!(store.ended_early(index..index + 100).await.unwrap(), Some(Vec::new()));
    assert_eq!(store.ended_early(index + 1..index + 100).await.unwrap(), None);
}
