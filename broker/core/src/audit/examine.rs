//! Examines an exported log against checkpoints, without the broker and without its store: each line is made again from
//! the content of its leaf, the tree is built over all of them, and what it comes to is held against what was signed.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::event;
use super::leaf::Leaf;
use super::strict;
use super::tree::{Frontier, TreeHash};
use crate::id::LogId;

/// Findings that are told one by one; a log with more is told by their number.
const MAX_FINDINGS: usize = 100;

/// An examination under way: lines are given to it in their order.
#[derive(Debug)]
pub struct Examination {
    checkpoint: Checkpoint,
    earlier: Vec<Checkpoint>,
    log: Option<LogId>,
    lines: u64,
    /// The place that comes next.
    next: u64,
    frontier: Frontier,
    /// What the log came to at the lengths that were signed.
    came_to: BTreeMap<u64, TreeHash>,
    findings: Vec<Finding>,
    untold: u64,
}

/// How an examination ended.
#[derive(Debug)]
pub struct Examined {
    /// Lines that were read.
    pub lines: u64,
    /// What is wrong; nothing, when the log is what was signed.
    pub findings: Vec<Finding>,
    /// Further findings that are not among them.
    pub untold: u64,
}

/// Something that is not as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A line that is no exported entry.
    Unreadable {
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A line with an entry of another log.
    OtherLog {
        /// Which line, from 1.
        line: u64,
        /// The log that it is of.
        log: LogId,
    },
    /// Entries that are not where they belong.
    Missing {
        /// Which line, from 1.
        line: u64,
        /// The first that is missing.
        first: u64,
        /// The last that is missing.
        last: u64,
    },
    /// An entry where another belongs.
    OutOfPlace {
        /// Which line, from 1.
        line: u64,
        /// The entry that stands there.
        entry: u64,
        /// The entry that belongs there.
        expected: u64,
    },
    /// A line that says something else than the content of its leaf.
    Embellished {
        /// Which line, from 1.
        line: u64,
        /// Its entry.
        entry: u64,
        /// Where they differ.
        field: String,
    },
    /// An entry that no checkpoint covers.
    Uncovered {
        /// The first of them.
        entry: u64,
        /// How many the checkpoint covers.
        size: u64,
    },
    /// The log ends too soon.
    Truncated {
        /// Entries that there are.
        entries: u64,
        /// Entries that were signed.
        size: u64,
    },
    /// One of these entries is not what was signed.
    Changed {
        /// The first that it can be.
        first: u64,
        /// The last that it can be.
        last: u64,
    },
    /// A checkpoint that was signed before tells of a longer log.
    Shortened {
        /// How long the log was.
        earlier: u64,
        /// How long the checkpoint says it is.
        size: u64,
    },
    /// The log is signed, and is not the continuation of what was signed before.
    Forked {
        /// How many entries were signed before.
        earlier: u64,
    },
    /// The earlier checkpoint is of another log.
    OtherOrigin {
        /// Its origin.
        origin: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { line, why } => write!(f, "line {line} is not an exported entry: {why}"),
            Self::OtherLog { line, log } => write!(f, "line {line} has an entry of another log, {log}"),
            Self::Missing { line, first, last } if first == last => {
                write!(f, "entry {first} is missing before line {line}: it was deleted or moved")
            }
            Self::Missing { line, first, last } => {
                write!(f, "entries {first} to {last} are missing before line {line}: they were deleted or moved")
            }
            Self::OutOfPlace { line, entry, expected } => {
                write!(f, "line {line} has entry {entry} where entry {expected} belongs: it was moved or inserted")
            }
            Self::Embellished { line, entry, field } => write!(
                f,
                "entry {entry} (line {line}) was edited: `{field}` is not what follows from its raw_data, or raw_data was changed"
            ),
            Self::Uncovered { entry, size } => write!(
                f,
                "entry {entry} and what follows it is not signed: the checkpoint covers {size} entries; they were \
                 inserted, or the checkpoint is an older one"
            ),
            Self::Truncated { entries, size } => {
                write!(f, "the log ends after {entries} entries, and {size} were signed: its end was cut off")
            }
            Self::Changed { first, last } if first == last => {
                write!(f, "entry {first} is not the one that was signed: it was edited, or another put in its place")
            }
            Self::Changed { first, last } => write!(
                f,
                "at least one of the entries {first} to {last} is not the one that was signed: it was edited, moved, \
                 inserted or put in the place of another"
            ),
            Self::Shortened { earlier, size } => write!(
                f,
                "the log had {earlier} entries when the earlier checkpoint was signed, and now it has {size}: it was cut \
                 off, or put back"
            ),
            Self::Forked { earlier } => write!(
                f,
                "the log was forked: its first {earlier} entries are not those that the earlier checkpoint was signed over"
            ),
            Self::OtherOrigin { origin } => write!(f, "the earlier checkpoint is of another log, {origin}"),
        }
    }
}

impl Examination {
    /// Begins to examine a log that `checkpoint` was signed over, and before it each of `earlier`.
    #[must_use]
    pub fn new(checkpoint: Checkpoint, earlier: Vec<Checkpoint>) -> Self {
        // An origin that was not chosen otherwise ends with the log's id.
        let log = checkpoint.origin.rsplit('/').next().and_then(|id| id.parse().ok());
        let mut examination = Self {
            checkpoint,
            earlier,
            log,
            lines: 0,
            next: 0,
            frontier: Frontier::default(),
            came_to: BTreeMap::new(),
            findings: Vec::new(),
            untold: 0,
        };
        examination.mark();
        examination
    }

    /// Examines the next line, without its end.
    pub fn line(&mut self, text: &str) {
        self.lines = self.lines.saturating_add(1);
        let line = self.lines;
        match self.leaf_of(text) {
            Ok(leaf) => self.leaf(&leaf),
            Err(why) => {
                self.find(Finding::Unreadable { line, why });
                // Whatever it was, it took a place.
                self.next = self.next.saturating_add(1);
            }
        }
    }

    /// A line whose text cannot even be had, such as one that is too long or not UTF-8.
    pub fn unreadable(&mut self, why: String) {
        self.lines = self.lines.saturating_add(1);
        self.next = self.next.saturating_add(1);
        self.find(Finding::Unreadable { line: self.lines, why });
    }

    /// Ends it.
    #[must_use]
    pub fn end(mut self) -> Examined {
        let size = self.checkpoint.head.size;
        // With a finding about a line, what the log comes to is nobody's word.
        if self.findings.is_empty() && self.untold == 0 {
            if self.frontier.size() < size {
                self.find(Finding::Truncated { entries: self.frontier.size(), size });
            } else {
                self.compare();
            }
        }
        let earlier = std::mem::take(&mut self.earlier);
        for earlier in earlier {
            if earlier.origin != self.checkpoint.origin {
                self.find(Finding::OtherOrigin { origin: earlier.origin });
            } else if earlier.head.size > size {
                self.find(Finding::Shortened { earlier: earlier.head.size, size });
            }
        }
        Examined { lines: self.lines, findings: self.findings, untold: self.untold }
    }

    /// The leaf of a line, if the line is what is made of it.
    fn leaf_of(&mut self, text: &str) -> Result<Leaf, String> {
        let found = strict::parse(text)?;
        let raw = found.get("raw_data").and_then(Value::as_str).ok_or("it has no raw_data")?;
        let leaf = Leaf::parse(raw.to_owned()).map_err(|error| format!("its raw_data is {error}"))?;
        let expected = event::of(&leaf).map_err(|error| error.to_string())?;
        if let Some(field) = difference(&expected, &found) {
            let (line, entry) = (self.lines, leaf.sequence());
            self.find(Finding::Embellished { line, entry, field });
        }
        Ok(leaf)
    }

    fn leaf(&mut self, leaf: &Leaf) {
        let (line, entry, expected) = (self.lines, leaf.sequence(), self.next);
        if *self.log.get_or_insert(leaf.log()) != leaf.log() {
            self.find(Finding::OtherLog { line, log: leaf.log() });
            return;
        }
        if entry < expected {
            self.find(Finding::OutOfPlace { line, entry, expected });
            return;
        }
        if entry > expected {
            self.find(Finding::Missing { line, first: expected, last: entry.saturating_sub(1) });
        }
        if entry == self.checkpoint.head.size {
            self.find(Finding::Uncovered { entry, size: entry });
        }
        self.next = entry.saturating_add(1);
        self.frontier.push(leaf.hash());
        self.mark();
    }

    /// Keeps what the log comes to here, if it was signed here.
    fn mark(&mut self) {
        let size = self.frontier.size();
        let signed = [&self.checkpoint].into_iter().chain(&self.earlier).any(|signed| signed.head.size == size);
        if signed {
            self.came_to.insert(size, self.frontier.head().root);
        }
    }

    /// Holds what the log came to against what was signed, and narrows down where it began to differ.
    fn compare(&mut self) {
        let holds = |signed: &Checkpoint| self.came_to.get(&signed.head.size) == Some(&signed.head.root);
        let (size, newest_holds) = (self.checkpoint.head.size, holds(&self.checkpoint));
        let mut earlier: Vec<_> = self.earlier.iter().filter(|signed| signed.head.size <= size).collect();
        earlier.sort_by_key(|signed| signed.head.size);
        let broken = earlier.iter().find(|signed| !holds(signed)).map(|signed| signed.head.size);
        match broken {
            // The newest is signed over just these entries, and the earlier one is not.
            Some(earlier) if newest_holds => self.find(Finding::Forked { earlier }),
            None if newest_holds => {}
            broken => {
                let until = broken.unwrap_or(size);
                let sound = earlier.iter().filter(|signed| signed.head.size < until && holds(signed));
                let first = sound.map(|signed| signed.head.size).max().unwrap_or(0);
                self.find(Finding::Changed { first, last: until.saturating_sub(1) });
            }
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.untold = self.untold.saturating_add(1);
        }
    }
}

/// Where two values first differ, as a path with dots.
fn difference(expected: &Value, found: &Value) -> Option<String> {
    let (Value::Object(expected), Value::Object(found)) = (expected, found) else {
        return (expected != found).then(String::new);
    };
    let names = expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name)));
    for name in names {
        let below = match (expected.get(name), found.get(name)) {
            (Some(expected), Some(found)) => difference(expected, found),
            _ => Some(String::new()),
        };
        if let Some(below) = below {
            let name: String = name.chars().take(100).collect();
            return Some(if below.is_empty() { name } else { format!("{name}.{below}") });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tree::TreeHead;
    use super::*;
    use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
    use crate::testing::sample::{self, NOW};

    fn leaf(n: u64) -> Leaf {
        let entry = AuditEntry::success(NOW, Actor::Broker, AuditAction::Read, AuditObject::Broker);
        let entry = entry.with("n", &n.to_string());
        Leaf::new(sample::id(1), n, &serde_json::to_string(&entry).unwrap())
    }

    fn lines(count: u64) -> Vec<String> {
        (0..count).map(|n| event::line_of(&leaf(n)).unwrap()).collect()
    }

    fn signed(count: u64) -> Checkpoint {
        let mut frontier = Frontier::default();
        (0..count).for_each(|n| drop(frontier.push(leaf(n).hash())));
        Checkpoint { origin: format!("host/audit/{}", leaf(0).log()), head: frontier.head() }
    }

    fn findings(lines: &[String], checkpoint: Checkpoint, earlier: Vec<Checkpoint>) -> Vec<Finding> {
        let mut examination = Examination::new(checkpoint, earlier);
        lines.iter().for_each(|line| examination.line(line));
        examination.end().findings
    }

    #[test]
    fn a_log_that_is_what_was_signed_has_no_findings() {
        for size in [0, 1, 2, 20] {
            assert_eq!(findings(&lines(size), signed(size), (0..=size).map(signed).collect()), []);
        }
        let spaced = lines(1).iter().map(|line| line.replace("\":", "\" : ")).collect::<Vec<_>>();
        assert!(spaced[0].contains("\"time\" : "));
        assert_eq!(findings(&lines(1), signed(1), Vec::new()), [], "how it is spaced is nobody's word");
    }

    #[test]
    fn each_way_to_tamper_is_found_and_named() {
        let (whole, checkpoint) = (lines(20), signed(20));
        let found = |lines: &[String]| findings(lines, checkpoint.clone(), Vec::new());

        let mut edited = whole.clone();
        edited[7] = edited[7].replace("\"time\":", "\"time\":1");
        let embellished = |field: &str| Finding::Embellished { line: 8, entry: 7, field: field.to_owned() };
        assert_eq!(found(&edited), [embellished("time")]);
        edited[7] = whole[7].replace(r#"\"n\":\"7\""#, r#"\"n\":\"8\""#);
        assert_eq!(found(&edited), [embellished("metadata.uid")]);
        edited[7] = whole[7].replacen('{', r#"{"extra":1,"#, 1);
        assert_eq!(found(&edited), [embellished("extra")]);
        edited[7] = whole[7].replacen('{', r#"{"time":1,"#, 1);
        assert!(matches!(found(&edited)[..], [Finding::Unreadable { line: 8, .. }]));
        let entry = leaf(7).entry().replace("\"7\"", "\"8\"");
        edited[7] = event::line_of(&Leaf::new(sample::id(1), 7, &entry)).unwrap();
        assert_eq!(found(&edited), [Finding::Changed { first: 0, last: 19 }]);
        let narrowed = findings(&edited, checkpoint.clone(), vec![signed(5), signed(10), signed(7), signed(8)]);
        assert_eq!(narrowed, [Finding::Changed { first: 7, last: 7 }], "checkpoints in between narrow it down");

        let mut deleted = whole.clone();
        deleted.remove(7);
        assert_eq!(found(&deleted), [Finding::Missing { line: 8, first: 7, last: 7 }]);
        let mut swapped = whole.clone();
        swapped.swap(3, 4);
        let expected =
            [Finding::Missing { line: 4, first: 3, last: 3 }, Finding::OutOfPlace { line: 5, entry: 3, expected: 5 }];
        assert_eq!(found(&swapped), expected);
        let mut repeated = whole.clone();
        repeated.insert(9, whole[2].clone());
        assert_eq!(found(&repeated), [Finding::OutOfPlace { line: 10, entry: 2, expected: 9 }]);
        assert_eq!(found(&lines(21)), [Finding::Uncovered { entry: 20, size: 20 }]);
        assert_eq!(found(&whole[..18]), [Finding::Truncated { entries: 18, size: 20 }]);
        let shortened = findings(&whole[..18], signed(18), vec![checkpoint.clone()]);
        assert_eq!(shortened, [Finding::Shortened { earlier: 20, size: 18 }]);

        let other = Checkpoint { head: TreeHead { size: 10, root: TreeHash::of_nothing() }, ..checkpoint.clone() };
        assert_eq!(findings(&whole, checkpoint.clone(), vec![other]), [Finding::Forked { earlier: 10 }]);
        let other = Checkpoint { origin: "another".to_owned(), ..signed(10) };
        assert_eq!(
            findings(&whole, checkpoint.clone(), vec![other]),
            [Finding::OtherOrigin { origin: "another".to_owned() }]
        );
        let mut moved = whole.clone();
        moved[7] = event::line_of(&Leaf::new(sample::id(2), 7, leaf(7).entry())).unwrap();
        assert!(matches!(found(&moved)[0], Finding::OtherLog { line: 8, .. }));
        assert_eq!(found(&["nonsense".to_owned()]).len(), 1);
        for finding in found(&swapped) {
            assert!(finding.to_string().len() > 20, "in words");
        }
    }

    #[test]
    fn a_log_that_is_all_wrong_is_told_in_bounded_words() {
        let mut examination = Examination::new(signed(20), Vec::new());
        (0..1_000).for_each(|_| examination.line("nonsense"));
        let examined = examination.end();
        assert_eq!((examined.findings.len(), examined.untold, examined.lines), (MAX_FINDINGS, 900, 1_000));
    }
}
