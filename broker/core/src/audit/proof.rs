//! Proofs about a log's tree, made and verified (RFC 9162 §2.1.3 and §2.1.4): that an entry stands at its place in it, and
//! that a larger tree begins with all of a smaller one.

use std::ops::Range;

use super::tree::{Node, TreeHash, root_of, split};

/// Shows that a leaf stands at its place in a tree. From the leaf's sibling up to below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Place of the leaf.
    pub sequence: u64,
    /// How many leaves the tree has.
    pub size: u64,
    /// The hashes beside its way up.
    pub hashes: Vec<TreeHash>,
}

/// Shows that a tree begins with all leaves of a smaller one, in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// How many leaves the smaller tree has.
    pub from: u64,
    /// How many leaves the larger tree has.
    pub size: u64,
    /// The hashes from which both roots follow.
    pub hashes: Vec<TreeHash>,
}

/// A proof does not show what it is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofRejected {
    /// It asks for a leaf, or a smaller tree, that the tree cannot have.
    #[error("the proof is of something that the tree does not have")]
    OutOfRange,
    /// It has too many hashes or too few.
    #[error("the proof does not have the length that its tree asks for")]
    WrongLength,
    /// It leads to another root.
    #[error("the proof leads to another root")]
    OtherRoot,
}

impl InclusionProof {
    /// The proof for the leaf at `sequence` in the tree of `size` leaves, whose subtrees are asked of `node`. `None` where
    /// that tree has no such leaf.
    ///
    /// # Errors
    /// The first of `node`.
    pub fn make<E>(
        sequence: u64,
        size: u64,
        node: &mut impl FnMut(Node) -> Result<TreeHash, E>,
    ) -> Result<Option<Self>, E> {
        if sequence >= size {
            return Ok(None);
        }
        // From the root down, what is left aside at each turn.
        let mut aside = Vec::new();
        let Range { mut start, mut end } = 0..size;
        while end.saturating_sub(start) > 1 {
            let middle = start.saturating_add(split(end.saturating_sub(start)));
            if sequence < middle {
                aside.push(middle..end);
                end = middle;
            } else {
                aside.push(start..middle);
                start = middle;
            }
        }
        let hashes = aside.into_iter().rev().map(|leaves| root_of(leaves, node)).collect::<Result<_, _>>()?;
        Ok(Some(Self { sequence, size, hashes }))
    }

    /// Whether it shows that `leaf` is in the tree whose root is `root` (RFC 9162 §2.1.3.2).
    ///
    /// # Errors
    /// [`ProofRejected`] when it does not.
    pub fn verify(&self, leaf: TreeHash, root: TreeHash) -> Result<(), ProofRejected> {
        if self.sequence >= self.size {
            return Err(ProofRejected::OutOfRange);
        }
        let (mut at, mut last) = (self.sequence, self.size.saturating_sub(1));
        let mut hash = leaf;
        for beside in &self.hashes {
            if last == 0 {
                return Err(ProofRejected::WrongLength);
            }
            if at & 1 == 1 || at == last {
                hash = TreeHash::above(*beside, hash);
                // The last of an uneven row goes up alone.
                while at & 1 == 0 && at != 0 {
                    (at, last) = (at >> 1, last >> 1);
                }
            } else {
                hash = TreeHash::above(hash, *beside);
            }
            (at, last) = (at >> 1, last >> 1);
        }
        if last != 0 {
            return Err(ProofRejected::WrongLength);
        }
        if hash == root { Ok(()) } else { Err(ProofRejected::OtherRoot) }
    }
}

impl ConsistencyProof {
    /// The proof that the tree of `size` leaves begins with the tree of `from` leaves. `None` where the smaller one is the
    /// larger. Nothing has to be shown for a tree without leaves, or for the same tree.
    ///
    /// # Errors
    /// The first of `node`.
    pub fn make<E>(
        from: u64,
        size: u64,
        node: &mut impl FnMut(Node) -> Result<TreeHash, E>,
    ) -> Result<Option<Self>, E> {
        if from > size {
            return Ok(None);
        }
        let mut aside = Vec::new();
        let (mut start, mut end) = (0, size);
        if from != 0 && from != size {
            // Down to the subtree that ends where the smaller tree ends. It is the smaller tree itself, whose root the
            // verifier knows, when nothing stands before it.
            while end != from {
                let middle = start + split(end.saturating_sub(start));
                if from <= middle {
                    aside.push(middle..end);
                    end = middle;
                } else {
                    aside.push(start..middle);
                    start = middle;
                }
            }
            if start != 0 {
                aside.push(start..end);
            }
        }
        let hashes = aside.into_iter().rev().map(|leaves| root_of(leaves, node)).collect::<Result<_, _>>()?;
        Ok(Some(Self { from, size, hashes }))
    }

    /// Whether it shows that the tree with root `root` begins with the tree with root `from_root` (RFC 9162 §2.1.4.2).
    ///
    /// # Errors
    /// [`ProofRejected`] when it does not.
    pub fn verify(&self, from_root: TreeHash, root: TreeHash) -> Result<(), ProofRejected> {
        if self.from > self.size {
            return Err(ProofRejected::OutOfRange);
        }
        if self.from == 0 || self.from == self.size {
            if !self.hashes.is_empty() {
                return Err(ProofRejected::WrongLength);
            }
            let same = if self.from == 0 { TreeHash::of_nothing() } else { root };
            return if from_root == same { Ok(()) } else { Err(ProofRejected::OtherRoot) };
        }
        let (mut at, mut last) = (self.from.saturating_sub(1), self.size.saturating_sub(1));
        while at & 1 == 1 {
            (at, last) = (at >> 1, last >> 1);
        }
        let mut hashes = self.hashes.iter().copied();
        let begin = if self.from.is_power_of_two() { Some(from_root) } else { hashes.next() };
        let Some(begin) = begin else { return Err(ProofRejected::WrongLength) };
        let (mut smaller, mut larger) = (begin, begin);
        for beside in hashes {
            if last == 0 {
                return Err(ProofRejected::WrongLength);
            }
            if at & 1 == 1 || at == last {
                smaller = TreeHash::above(beside, smaller);
                larger = TreeHash::above(beside, larger);
                while at & 1 == 0 && at != 0 {
                    (at, last) = (at >> 1, last >> 1);
                }
            } else {
                larger = TreeHash::above(larger, beside);
            }
            (at, last) = (at >> 1, last >> 1);
        }
        if last != 0 {
            return Err(ProofRejected::WrongLength);
        }
        if smaller == from_root && larger == root { Ok(()) } else { Err(ProofRejected::OtherRoot) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::tests::{by_the_letter, leaves, nodes};
    use super::*;

    /// PATH of RFC 9162 §2.1.3.1, to the letter.
    fn path(m: usize, d: &[TreeHash]) -> Vec<TreeHash> {
        if d.len() <= 1 {
            return Vec::new();
        }
        let k = (d.len() - 1).ilog2();
        let k = 1_usize << k;
        if m < k {
            [path(m, &d[..k]), vec![by_the_letter(&d[k..])]].concat()
        } else {
            [path(m - k, &d[k..]), vec![by_the_letter(&d[..k])]].concat()
        }
    }

    /// SUBPROOF of RFC 9162 §2.1.4.1, to the letter.
    fn subproof(m: usize, d: &[TreeHash], whole: bool) -> Vec<TreeHash> {
        if m == d.len() {
            return if whole { Vec::new() } else { vec![by_the_letter(d)] };
        }
        let k = 1_usize << (d.len() - 1).ilog2();
        if m <= k {
            [subproof(m, &d[..k], whole), vec![by_the_letter(&d[k..])]].concat()
        } else {
            [subproof(m - k, &d[k..], false), vec![by_the_letter(&d[..k])]].concat()
        }
    }

    const SIZES: usize = 66;

    #[test]
    fn every_leaf_of_every_small_tree_has_the_standards_proof_and_it_holds() {
        let all = leaves(SIZES);
        for size in 1..=SIZES {
            let root = by_the_letter(&all[..size]);
            for at in 0..size {
                let proof = InclusionProof::make(at as u64, size as u64, &mut nodes(&all)).unwrap().unwrap();
                assert_eq!(proof.hashes, path(at, &all[..size]), "{at} of {size}");
                assert_eq!(proof.verify(all[at], root), Ok(()), "{at} of {size}");
                assert!(proof.verify(all[(at + 1) % SIZES], root).is_err(), "another leaf");
                assert_eq!(proof.verify(all[at], TreeHash::of_nothing()), Err(ProofRejected::OtherRoot));
            }
            let beyond = InclusionProof::make(size as u64, size as u64, &mut nodes(&all)).unwrap();
            assert_eq!(beyond, None);
        }
    }

    #[test]
    fn every_small_tree_is_shown_to_begin_with_every_smaller_one() {
        let all = leaves(SIZES);
        for size in 0..=SIZES {
            let root = by_the_letter(&all[..size]);
            for from in 0..=size {
                let from_root = by_the_letter(&all[..from]);
                let proof = ConsistencyProof::make(from as u64, size as u64, &mut nodes(&all)).unwrap().unwrap();
                if from > 0 {
                    assert_eq!(proof.hashes, subproof(from, &all[..size], true), "{from} in {size}");
                }
                assert_eq!(proof.verify(from_root, root), Ok(()), "{from} in {size}");
                let other = TreeHash::of_leaf(&[b"another"]);
                assert!(proof.verify(other, root).is_err(), "{from} in {size}");
                assert!(from == 0 || proof.verify(from_root, other).is_err(), "{from} in {size}");
            }
            let beyond = ConsistencyProof::make(size as u64 + 1, size as u64, &mut nodes(&all)).unwrap();
            assert_eq!(beyond, None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_proof_that_was_changed_anywhere_shows_nothing(
            (size, from, at) in (2..900_usize).prop_flat_map(|size| (Just(size), 1..size, 0..size)),
            change in any::<prop::sample::Index>(),
        ) {
            let all = leaves(size);
            let (root, from_root) = (by_the_letter(&all), by_the_letter(&all[..from]));
            let node = &mut nodes(&all);
            let inclusion = InclusionProof::make(at as u64, size as u64, node).unwrap().unwrap();
            let consistency = ConsistencyProof::make(from as u64, size as u64, node).unwrap().unwrap();
            prop_assert_eq!(inclusion.verify(all[at], root), Ok(()));
            prop_assert_eq!(consistency.verify(from_root, root), Ok(()));

            let other = TreeHash::of_leaf(&[b"another"]);
            let mutations = |hashes: &[TreeHash]| {
                let mut mutations = vec![[hashes, &[other]].concat(), hashes[1..].to_vec(), hashes[..hashes.len() - 1].to_vec()];
                let mut changed = hashes.to_vec();
                changed[change.index(hashes.len())] = other;
                mutations.push(changed);
                mutations
            };
            for hashes in mutations(&inclusion.hashes) {
                let changed = InclusionProof { hashes, ..inclusion.clone() }.verify(all[at], root).is_err();
                prop_assert!(changed);
            }
            for hashes in mutations(&consistency.hashes) {
                let changed = ConsistencyProof { hashes, ..consistency.clone() }.verify(from_root, root).is_err();
                prop_assert!(changed);
            }
            for sequence in (0..size as u64).filter(|sequence| *sequence != at as u64).take(8) {
                let changed = InclusionProof { sequence, ..inclusion.clone() }.verify(all[at], root).is_err();
                prop_assert!(changed);
            }
            let changed = InclusionProof { sequence: size as u64, ..inclusion }.verify(all[at], root).is_err();
                prop_assert!(changed);
        }
    }
}
