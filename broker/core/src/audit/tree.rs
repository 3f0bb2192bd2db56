//! The Merkle tree over a log's entries (RFC 9162 §2.1, the tree of RFC 6962).
//!
//! A tree of `n` leaves is made of perfect subtrees, one for each bit that is set in `n`. To append, only their roots are
//! needed ([`Frontier`]): one hash for the leaf, and one more on average to join what has become perfect.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};

/// A hash of the tree: SHA-256. It is written in base64 (RFC 4648 §4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash([u8; Self::LENGTH]);

impl TreeHash {
    /// Its length in bytes.
    pub const LENGTH: usize = 32;

    /// The root of the tree without leaves: the hash of nothing.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self::digest(&[])
    }

    /// The hash of a leaf whose content is `parts`, one behind the other. Leaves and nodes begin differently, so that
    /// nobody can pass one for the other.
    #[must_use]
    pub fn of_leaf(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        parts.iter().for_each(|part| context.update(part));
        Self::finish(context)
    }

    /// The hash of the node above `left` and `right`.
    #[must_use]
    pub fn above(left: Self, right: Self) -> Self {
        Self::digest(&[&[1], &left.0, &right.0])
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    fn digest(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        Self::finish(context)
    }

    fn finish(context: Context) -> Self {
        let mut hash = [0; Self::LENGTH];
        hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(hash)
    }
}

impl From<[u8; TreeHash::LENGTH]> for TreeHash {
    fn from(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}

/// A text that is not the hash of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 hash in base64")]
pub struct InvalidHash;

impl FromStr for TreeHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidHash)?;
        bytes.try_into().map(Self).map_err(|_| InvalidHash)
    }
}

/// How large a tree is and what it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// How many leaves it has.
    pub size: u64,
    /// Its root.
    pub root: TreeHash,
}

/// A perfect subtree: the leaves from `index << height`, `1 << height` of them. At height 0 it is a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// How many levels above the leaves its root is.
    pub height: u8,
    /// How many subtrees of that height stand before it.
    pub index: u64,
}

impl Node {
    /// The height of a tile: of the subtrees on each multiple of it a store keeps the root. With 256 leaves to a tile, a
    /// proof reads a few hundred leaves and as many tiles, and there is one tile for 256 entries.
    pub const TILE_HEIGHT: u8 = 8;

    /// How many leaves a tile has, and how many tiles the one above it.
    pub const TILE_WIDTH: u64 = 1 << Self::TILE_HEIGHT;

    /// Whether it is a tile, or a tile of tiles.
    #[must_use]
    pub const fn is_tile(self) -> bool {
        self.height > 0 && self.height.is_multiple_of(Self::TILE_HEIGHT)
    }

    /// The perfect subtrees that a tree of `size` leaves is made of, the largest first.
    pub fn peaks(size: u64) -> impl Iterator<Item = Self> {
        (0_u8..64).rev().filter(move |height| size >> height & 1 == 1).map(move |height| Self {
            height,
            // What is before it: the larger ones.
            index: (size >> height) & !1,
        })
    }
}

/// What it takes to append to a tree: the roots of the perfect subtrees that it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The largest first.
    peaks: Vec<TreeHash>,
}

impl Frontier {
    /// The frontier of a tree of `size` leaves, whose subtrees are asked of `node`.
    ///
    /// # Errors
    /// The first of `node`.
    pub fn load<E>(size: u64, node: &mut impl FnMut(Node) -> Result<TreeHash, E>) -> Result<Self, E> {
        let peaks = Node::peaks(size).map(node).collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }

    /// How many leaves the tree has: the place of the next.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. Answers the tiles that it completes, the lowest first: mostly none.
    pub fn push(&mut self, leaf: TreeHash) -> Vec<(Node, TreeHash)> {
        let (mut hash, mut node) = (leaf, Node { height: 0, index: self.size });
        let mut tiles = Vec::new();
        while node.index & 1 == 1 {
            // There is one for each bit that is set, and this one is.
            let Some(left) = self.peaks.pop() else { break };
            hash = TreeHash::above(left, hash);
            node = Node { height: node.height.saturating_add(1), index: node.index >> 1 };
            if node.is_tile() {
                tiles.push((node, hash));
            }
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
        tiles
    }

    /// What the tree comes to.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        let root = self.peaks.iter().rev().copied().reduce(|right, left| TreeHash::above(left, right));
        TreeHead { size: self.size, root: root.unwrap_or_else(TreeHash::of_nothing) }
    }
}

/// The root of the tree over `leaves`, where they are so placed as a tree's own subtrees are: from 0, or as in a proof.
///
/// # Errors
/// The first of `node`.
pub fn root_of<E>(leaves: Range<u64>, node: &mut impl FnMut(Node) -> Result<TreeHash, E>) -> Result<TreeHash, E> {
    let Range { start, end } = leaves;
    let count = end.saturating_sub(start);
    if count == 0 {
        return Ok(TreeHash::of_nothing());
    }
    if count.is_power_of_two() {
        let height = u8::try_from(count.trailing_zeros()).unwrap_or(u8::MAX);
        return node(Node { height, index: start >> height });
    }
    let middle = start.saturating_add(split(count));
    Ok(TreeHash::above(root_of(start..middle, node)?, root_of(middle..end, node)?))
}

/// The largest power of two below `count`, of which there are two at least (RFC 9162 §2.1.1).
pub(super) fn split(count: u64) -> u64 {
    1 << count.saturating_sub(1).max(1).ilog2()
}

#[cfg(test)]
pub(super) mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// MTH of RFC 9162 §2.1.1, to the letter, over the leaves themselves.
    pub(in crate::audit) fn by_the_letter(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [] => TreeHash::of_nothing(),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                TreeHash::above(by_the_letter(&leaves[..k]), by_the_letter(&leaves[k..]))
            }
        }
    }

    pub(in crate::audit) fn leaves(count: usize) -> Vec<TreeHash> {
        (0..count).map(|n| TreeHash::of_leaf(&[format!("leaf {n}").as_bytes()])).collect()
    }

    /// Subtrees out of a list of leaves.
    pub(in crate::audit) fn nodes(leaves: &[TreeHash]) -> impl FnMut(Node) -> Result<TreeHash, Infallible> {
        |node| {
            let start = usize::try_from(node.index << node.height).unwrap();
            Ok(by_the_letter(&leaves[start..start + (1 << node.height)]))
        }
    }

    fn hex(hash: TreeHash) -> String {
        hash.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The leaves that the implementations of Certificate Transparency test with, and their roots.
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let contents: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let expected = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::default();
        assert_eq!(hex(frontier.head().root), expected[0]);
        for (content, expected) in contents.iter().zip(&expected[1..]) {
            frontier.push(TreeHash::of_leaf(&[content]));
            assert_eq!(hex(frontier.head().root), *expected);
        }
    }

    /// Around a tile's border; computed by another program.
    #[test]
    fn roots_of_larger_trees_are_known() {
        let known = [
            (255, "d71592a219d4067663eede247f9b54c3f9e0290682d55de09b495b07f1de41c9"),
            (256, "cf5effdb11d0927a2edf53b0e73c7837f659414e00537da5d90eb5c4c49ff274"),
            (257, "855b936aa00cb98b5114484249ad39d78a6be93623e26c01e8e487dc02184a5a"),
            (1000, "2ff33fb9d8f14f89ca306289633336a168ff3f4532e8f741a0019dcb4c1d60a1"),
        ];
        let (all, mut frontier) = (leaves(1000), Frontier::default());
        let mut known = known.into_iter().peekable();
        for leaf in all {
            frontier.push(leaf);
            if let Some((_, expected)) = known.next_if(|(size, _)| *size == frontier.size()) {
                assert_eq!(hex(frontier.head().root), expected, "{}", frontier.size());
            }
        }
        assert_eq!(known.next(), None);
    }

    #[test]
    fn every_tree_is_as_the_letter_of_the_standard_has_it_however_it_is_come_by() {
        let all = leaves(600);
        let mut frontier = Frontier::default();
        for (n, leaf) in all.iter().enumerate() {
            let tiles = frontier.push(*leaf);
            let size = n as u64 + 1;
            let expected: &[u8] = if size.is_multiple_of(256) { &[8] } else { &[] };
            assert_eq!(tiles.iter().map(|(node, _)| node.height).collect::<Vec<_>>(), expected);
            for (node, hash) in tiles {
                assert_eq!(Ok(hash), nodes(&all)(node));
            }
            let root = by_the_letter(&all[..=n]);
            assert_eq!(frontier.head(), TreeHead { size, root });
            assert_eq!(root_of(0..size, &mut nodes(&all)), Ok(root));
            assert_eq!(Frontier::load(size, &mut nodes(&all)).unwrap(), frontier, "as if it had never been away");
        }
    }

    #[test]
    fn tiles_of_tiles_are_completed_too() {
        let mut frontier = Frontier::default();
        let leaf = TreeHash::of_leaf(&[b"the same each time"]);
        let completed: Vec<Node> = (0..65_536 * 2).flat_map(|_| frontier.push(leaf)).map(|(node, _)| node).collect();
        assert_eq!(completed.len(), 512 + 2);
        assert_eq!(completed.iter().filter(|node| node.height == 16).count(), 2);
        assert!(completed.contains(&Node { height: 16, index: 1 }));
        assert!(completed.contains(&Node { height: 8, index: 511 }));
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let hash = TreeHash::of_leaf(&[b"x"]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "AAAA", hash.to_string().trim_end_matches('='), &format!("{hash} "), &"A".repeat(44)] {
            assert_eq!(bad.parse::<TreeHash>(), Err(InvalidHash), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn peaks_cover_the_tree_without_gaps(size in any::<u64>().prop_map(|size| size >> 2)) {
            let mut next = 0_u64;
            for node in Node::peaks(size) {
                prop_assert_eq!(node.index << node.height, next);
                next += 1 << node.height;
            }
            prop_assert_eq!(next, size);
        }
    }
}
