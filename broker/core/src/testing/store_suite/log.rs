//! The tree over the audit log, and what is proved with it.

use std::sync::Arc;

use super::{at_once, audit_of, entry_about, open, opening};
use crate::audit::tree::{Frontier, TreeHash, TreeHead};
use crate::audit::{AuditAction, CheckpointSigner, Leaf};
use crate::port::{AuditFilter, Change, KeptCheckpoint, Store};
use crate::testing::TestSigner;
use crate::testing::sample::{self, NOW};
use crate::time::Ttl;

/// Appends `count` entries, many to a call.
async fn append(store: &Arc<dyn Store>, count: u64) {
    let entry = |n| entry_about(sample::id(n), AuditAction::Read, NOW);
    for start in (0..count).step_by(100) {
        let entries = (start..count.min(start + 100)).map(entry).collect();
        store.record(entries, None).await.unwrap();
    }
}

async fn leaves(store: &Arc<dyn Store>) -> Vec<Leaf> {
    let mut leaves: Vec<Leaf> = Vec::new();
    loop {
        let more = store.leaves(leaves.len() as u64, 150).await.unwrap();
        if more.is_empty() {
            return leaves;
        }
        leaves.extend(more);
    }
}

/// The heads that a log of these leaves has had, from the empty one on.
fn heads(leaves: &[Leaf]) -> Vec<TreeHead> {
    let mut frontier = Frontier::default();
    let mut heads = vec![frontier.head()];
    for leaf in leaves {
        frontier.push(leaf.hash());
        heads.push(frontier.head());
    }
    heads
}

/// A leaf is an entry of the list, at its place, in this log.
pub async fn the_tree_is_built_over_the_entries_as_they_are_read(store: &Arc<dyn Store>) {
    assert_eq!(store.tree_head(), Frontier::default().head());
    append(store, 20).await;
    open(store, opening(store, 1, NOW)).await;
    let (leaves, entries) = (leaves(store).await, audit_of(store, &AuditFilter::default()).await);
    assert_eq!((leaves.len(), entries.len()), (21, 21));
    for (leaf, recorded) in leaves.iter().zip(&entries) {
        assert_eq!((leaf.log(), leaf.sequence()), (recorded.log, recorded.sequence));
        assert_eq!(leaf.entry(), serde_json::to_string(&recorded.entry).unwrap());
    }
    assert_eq!(leaves[0].log(), store.log_id());
    assert_eq!(store.tree_head(), heads(&leaves)[21]);
    assert_eq!(store.log_size(), 21);
}

/// What was refused, or failed, left no leaf.
pub async fn the_tree_stands_at_what_is_committed_and_no_further(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let head = store.tree_head();
    store.apply(Change::of(grant.clone(), entry_about(sample::id(1), AuditAction::GrantRevoke, NOW))).await.unwrap();
    let again = opening(store, 1, NOW);
    store.open(again).await.unwrap_err();
    assert_eq!(store.tree_head(), head);
    let calls = (2..=60).map(|n| {
        let mut opening = opening(store, n, NOW);
        if n % 7 == 0 {
            opening.grant.record.id = grant.record.id;
        }
        let store = Arc::clone(store);
        async move { store.open(opening).await }
    });
    at_once(calls).await;
    let leaves = leaves(store).await;
    assert_eq!(store.tree_head(), heads(&leaves)[leaves.len()]);
}

/// Over several tiles, whole and begun.
pub async fn every_entry_is_shown_to_be_in_the_log_at_every_length_since(store: &Arc<dyn Store>) {
    append(store, 700).await;
    let leaves = leaves(store).await;
    let heads = heads(&leaves);
    for size in [1, 2, 3, 255, 256, 257, 511, 512, 513, 699, 700] {
        for at in [0, 1, 2, 100, 254, 255, 256, 300, 511, 512, 513, 698, 699] {
            let found = store.inclusion(at, size).await.unwrap();
            if at >= size {
                assert_eq!(found, None, "{at} of {size}");
                continue;
            }
            let (proof, root) = found.unwrap();
            let (leaf, head) = (&leaves[at as usize], heads[size as usize]);
            assert_eq!((proof.sequence, proof.size, root), (at, size, head.root));
            assert_eq!(proof.verify(leaf.hash(), head.root), Ok(()), "{at} of {size}");
            assert!(proof.verify(TreeHash::of_leaf(&[b"another"]), head.root).is_err());
        }
    }
    assert_eq!(store.inclusion(0, 701).await.unwrap(), None, "it has not had so many");
}

/// For lengths on and off the borders of tiles.
pub async fn the_log_is_shown_to_begin_with_what_it_was(store: &Arc<dyn Store>) {
    append(store, 600).await;
    let heads = heads(&leaves(store).await);
    for size in [0, 1, 7, 256, 300, 512, 600] {
        assert_eq!(store.root_at(size).await.unwrap(), Some(heads[size as usize].root), "{size}");
        for from in [0, 1, 5, 7, 128, 255, 256, 257, 511, 512, 599, 600] {
            let found = store.consistency(from, size).await.unwrap();
            if from > size {
                assert_eq!(found, None, "{from} in {size}");
                continue;
            }
            let (from_root, root) = (heads[from as usize].root, heads[size as usize].root);
            assert_eq!(found.unwrap().verify(from_root, root), Ok(()), "{from} in {size}");
        }
    }
    assert_eq!(store.consistency(1, 601).await.unwrap(), None);
    assert_eq!(store.root_at(601).await.unwrap(), None);
}

/// From where it is said, no more than is said.
pub async fn leaves_are_read_in_their_order(store: &Arc<dyn Store>) {
    append(store, 30).await;
    for (from, limit, expected) in [(0, 10, 0..10), (5, 3, 5..8), (28, 10, 28..30), (30, 10, 0..0), (9_000, 1, 0..0)] {
        let read = store.leaves(from, limit).await.unwrap();
        let places: Vec<u64> = read.iter().map(Leaf::sequence).collect();
        assert_eq!(places, expected.collect::<Vec<u64>>(), "{from}, {limit}");
    }
}

/// The longest log's, however old it is.
pub async fn the_newest_checkpoint_is_read_back_as_it_was_kept(store: &Arc<dyn Store>) {
    let signer = CheckpointSigner::new("example.com/log", Arc::new(TestSigner::new(1))).unwrap();
    assert_eq!(store.newest_checkpoint().await.unwrap(), None);
    for n in 0..5 {
        append(store, 3).await;
        let signed = signer.sign(store.tree_head()).unwrap();
        let at = NOW.plus(Ttl::from_hours(20 * n));
        for anchored in [true, false, n % 2 == 0] {
            store.keep_checkpoint(signed.clone(), at, anchored).await.unwrap();
            let kept =
                KeptCheckpoint { head: signed.checkpoint.head, note: signed.note.clone(), anchored: Some(anchored) };
            assert_eq!(store.newest_checkpoint().await.unwrap(), Some(kept));
        }
    }
}

/// Each destination for itself.
pub async fn how_far_an_export_has_come_is_remembered_and_never_goes_back(store: &Arc<dyn Store>) {
    assert_eq!(store.exported("file:a").await.unwrap(), 0);
    for (next, remembered) in [(5, 5), (9, 9), (7, 9)] {
        store.advance_export("file:a", next).await.unwrap();
        assert_eq!(store.exported("file:a").await.unwrap(), remembered);
    }
    assert_eq!(store.exported("file:b").await.unwrap(), 0);
}
