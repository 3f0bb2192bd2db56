//! Whether a proof was used is told without using it.

use std::sync::Arc;

use super::{open, opening};
use crate::port::{ProofUse, Store};
use crate::testing::sample::NOW;
use crate::time::Ttl;

/// Asking uses nothing.
pub async fn a_proof_is_told_to_be_used_once_a_grant_was_opened_with_it(store: &Arc<dyn Store>) {
    let first = opening(store, 1, NOW);
    let used = ProofUse {
        issuer: first.grant.record.holder.issuer.clone(),
        proof_id: "used".to_owned(),
        keep_until: NOW.plus(Ttl::from_hours(1)),
    };
    let other = ProofUse { proof_id: "other".to_owned(), ..used.clone() };
    for _ in 0..2 {
        assert!(!store.was_used(&used).await.unwrap());
    }
    open(store, crate::port::Opening { proof_use: Some(used.clone()), ..first }).await;
    assert!(store.was_used(&used).await.unwrap());
    assert!(!store.was_used(&other).await.unwrap());
}
