//! What a leaf of the log's tree says: one entry and its place.
//!
//! The content is `{"log":"<log id>","sequence":<place>,"entry":<the entry as it was written down>}`, UTF-8 without a
//! space between the parts. It binds the place, so that an entry that was moved, within its log or to another, is another
//! leaf; and it is all that a line of an export needs to carry for its hash to be computed again.

use std::fmt::Write as _;
use std::ops::Range;

use super::tree::TreeHash;
use crate::id::LogId;

/// An entry at its place, in the bytes that the tree is built of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    log: LogId,
    sequence: u64,
    text: String,
    /// Where in the text the entry stands.
    entry: Range<usize>,
}

/// A text that is not the content of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the content of a leaf: {{\"log\":\"…\",\"sequence\":…,\"entry\":{{…}}}}")]
pub struct InvalidLeaf;

const LOG: &str = "{\"log\":\"";
const SEQUENCE: &str = "\",\"sequence\":";
const ENTRY: &str = ",\"entry\":";
const END: &str = "}";

impl Leaf {
    /// The leaf of `entry`, an entry's canonical JSON, at the place `sequence` of `log`.
    #[must_use]
    pub fn new(log: LogId, sequence: u64, entry: &str) -> Self {
        let mut text = before_entry(log, sequence, entry.len());
        let start = text.len();
        text.push_str(entry);
        let entry = start..text.len();
        text.push_str(END);
        Self { log, sequence, text, entry }
    }

    /// The hash of the leaf that [`Leaf::new`] makes of the same, without making it.
    #[must_use]
    pub fn hash_of(log: LogId, sequence: u64, entry: &[u8]) -> TreeHash {
        TreeHash::of_leaf(&[before_entry(log, sequence, 0).as_bytes(), entry, END.as_bytes()])
    }

    /// Reads a leaf's content.
    ///
    /// # Errors
    /// [`InvalidLeaf`] for anything that [`Leaf::new`] does not write.
    pub fn parse(text: String) -> Result<Self, InvalidLeaf> {
        let parts = || {
            let rest = text.strip_prefix(LOG)?;
            let (log, rest) = rest.split_once(SEQUENCE)?;
            let (sequence, rest) = rest.split_once(ENTRY)?;
            let entry = rest.strip_suffix(END)?;
            Some((log.parse().ok()?, sequence.parse().ok()?, entry))
        };
        let (log, sequence, entry) = parts().ok_or(InvalidLeaf)?;
        let leaf = Self::new(log, sequence, entry);
        // One spelling: a sequence such as `+07` is none.
        if leaf.text == text { Ok(leaf) } else { Err(InvalidLeaf) }
    }

    /// Which log it is of.
    #[must_use]
    pub const fn log(&self) -> LogId {
        self.log
    }

    /// Its place.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its content.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The entry's canonical JSON.
    #[must_use]
    pub fn entry(&self) -> &str {
        self.text.get(self.entry.clone()).unwrap_or_default()
    }

    /// Its hash in the tree.
    #[must_use]
    pub fn hash(&self) -> TreeHash {
        TreeHash::of_leaf(&[self.text.as_bytes()])
    }
}

fn before_entry(log: LogId, sequence: u64, room: usize) -> String {
    let mut text = String::with_capacity(96_usize.saturating_add(room));
    // Writing to a String does not fail.
    let _ = write!(text, "{LOG}{log}{SEQUENCE}{sequence}{ENTRY}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;

    #[test]
    fn a_leaf_binds_log_and_place() {
        let leaf = Leaf::new(sample::id(1), 7, r#"{"a":1}"#);
        let log: LogId = sample::id(1);
        assert_eq!(leaf.text(), format!(r#"{{"log":"{log}","sequence":7,"entry":{{"a":1}}}}"#));
        assert_eq!(leaf.entry(), r#"{"a":1}"#);
        assert_eq!(leaf.hash(), Leaf::hash_of(log, 7, br#"{"a":1}"#));
        for other in
            [Leaf::new(sample::id(2), 7, r#"{"a":1}"#), Leaf::new(log, 8, r#"{"a":1}"#), Leaf::new(log, 7, "{}")]
        {
            assert_ne!(other.hash(), leaf.hash());
        }
        assert_eq!(Leaf::parse(leaf.text().to_owned()), Ok(leaf));
    }

    #[test]
    fn a_leaf_has_one_spelling() {
        let good = Leaf::new(sample::id(1), 7, r#"{"a":1}"#).text().to_owned();
        for bad in [
            String::new(),
            good.replace(":7,", ":07,"),
            good.replace(":7,", ":+7,"),
            good.replace(":7,", ": 7,"),
            good.replace(":7,", ":-7,"),
            good.replace(":7,", ":18446744073709551616,"),
            good.replace("\"log\"", " \"log\""),
            good.trim_end_matches('}').to_owned(),
            good.to_uppercase(),
        ] {
            assert_eq!(Leaf::parse(bad.clone()), Err(InvalidLeaf), "{bad}");
        }
    }
}
