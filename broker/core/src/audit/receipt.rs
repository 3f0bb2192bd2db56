//! Receipts (C2SP tlog-proof): an entry's place, the hashes beside its way up the tree, and a checkpoint that includes it.
//! Together with the entry's leaf it shows, without asking anybody, that the entry was written down.

use std::fmt;
use std::str::FromStr;

use super::checkpoint::{CheckpointRejected, SignedCheckpoint};
use super::leaf::Leaf;
use super::note::VerifierKey;
use super::proof::{InclusionProof, ProofRejected};
use super::tree::TreeHash;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A tree of 2^64 leaves has as many levels.
const MAX_HASHES: usize = 64;

/// A receipt as it is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Place of the entry.
    pub sequence: u64,
    /// From the leaf's sibling up.
    pub hashes: Vec<TreeHash>,
    /// The signed note.
    pub checkpoint: String,
}

/// Why a receipt shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptRejected {
    /// It is none.
    #[error("it is not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// Its checkpoint cannot be believed.
    #[error("its checkpoint cannot be believed")]
    Checkpoint(#[from] CheckpointRejected),
    /// The leaf is of another place or another log.
    #[error("it is not about this entry")]
    OtherEntry,
    /// The hashes do not lead from the leaf to the root.
    #[error(transparent)]
    Proof(#[from] ProofRejected),
}

impl Receipt {
    /// Whether it shows that `leaf` is in the log whose checkpoints `key` verifies.
    ///
    /// # Errors
    /// [`ReceiptRejected`] when it does not.
    pub fn verify(&self, leaf: &Leaf, key: &VerifierKey) -> Result<SignedCheckpoint, ReceiptRejected> {
        let signed = SignedCheckpoint::open(&self.checkpoint, key)?;
        if leaf.sequence() != self.sequence {
            return Err(ReceiptRejected::OtherEntry);
        }
        let head = signed.checkpoint.head;
        let proof = InclusionProof { sequence: self.sequence, size: head.size, hashes: self.hashes.clone() };
        proof.verify(leaf.hash(), head.root)?;
        Ok(signed)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nindex {}", self.sequence)?;
        for hash in &self.hashes {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for Receipt {
    type Err = ReceiptRejected;

    fn from_str(text: &str) -> Result<Self, ReceiptRejected> {
        let malformed = ReceiptRejected::Malformed;
        let (proof, checkpoint) = text.split_once("\n\n").ok_or(malformed("it has no checkpoint"))?;
        let mut lines = proof.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(malformed("its first line is another"));
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).unwrap_or_default();
        let sequence = index.parse().ok().filter(|number: &u64| number.to_string() == index);
        let sequence = sequence.ok_or(malformed("it does not say the index of its entry"))?;
        let hashes: Result<Vec<TreeHash>, _> = lines.map(str::parse).collect();
        let hashes = hashes.map_err(|_| malformed("one of its lines is not a hash"))?;
        if hashes.len() > MAX_HASHES {
            return Err(malformed("it has more hashes than any tree has levels"));
        }
        Ok(Self { sequence, hashes, checkpoint: checkpoint.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::checkpoint::CheckpointSigner;
    use super::super::tree::tests::nodes;
    use super::super::tree::{Frontier, TreeHead};
    use super::*;
    use crate::testing::{TestSigner, sample};

    #[test]
    fn a_receipt_shows_its_entry_and_no_other() {
        let entries: Vec<Leaf> = (0..11).map(|n| Leaf::new(sample::id(1), n, &format!("{{\"n\":{n}}}"))).collect();
        let hashes: Vec<TreeHash> = entries.iter().map(Leaf::hash).collect();
        let mut frontier = Frontier::default();
        hashes.iter().for_each(|hash| drop(frontier.push(*hash)));
        let signer = CheckpointSigner::new("o", Arc::new(TestSigner::new(1))).unwrap();
        let checkpoint = signer.sign(frontier.head()).unwrap().note;
        for leaf in &entries {
            let proof = InclusionProof::make(leaf.sequence(), 11, &mut nodes(&hashes)).unwrap().unwrap();
            let receipt = Receipt { sequence: leaf.sequence(), hashes: proof.hashes, checkpoint: checkpoint.clone() };
            let text = receipt.to_string();
            let read: Receipt = text.parse().unwrap();
            assert_eq!(read, receipt);
            assert_eq!(read.verify(leaf, &signer.verifier_key()).unwrap().checkpoint.head.size, 11);
            let with_extra = text.replace("@v1\n", "@v1\nextra AAAA\n").parse();
            assert_eq!(with_extra, Ok(receipt.clone()));
            for other in entries.iter().filter(|other| *other != leaf) {
                assert!(read.verify(other, &signer.verifier_key()).is_err());
            }
            let edited = Leaf::new(sample::id(1), leaf.sequence(), "{}");
            assert_eq!(
                read.verify(&edited, &signer.verifier_key()),
                Err(ReceiptRejected::Proof(ProofRejected::OtherRoot))
            );
            let stranger = CheckpointSigner::new("o", Arc::new(TestSigner::new(2))).unwrap();
            let shorter = Receipt {
                checkpoint: stranger.sign(TreeHead { size: 1, root: leaf.hash() }).unwrap().note,
                hashes: Vec::new(),
                ..receipt
            };
            assert!(matches!(shorter.verify(leaf, &signer.verifier_key()), Err(ReceiptRejected::Checkpoint(_))));
        }
        for bad in [
            "",
            "c2sp.org/tlog-proof@v1\nindex 0\n",
            "c2sp.org/tlog-proof@v2\nindex 0\n\nx",
            "c2sp.org/tlog-proof@v1\nindex 00\n\nx",
        ] {
            assert!(bad.parse::<Receipt>().is_err(), "{bad:?}");
        }
    }
}
