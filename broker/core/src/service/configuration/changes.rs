//! What differs between two bundles, by file.

use crate::audit::AuditEntry;
use crate::port::Files;

/// Paths of the files that differ, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Only the later one has these.
    pub added: Vec<String>,
    /// Both have these, with other content.
    pub changed: Vec<String>,
    /// Only the earlier one has these.
    pub removed: Vec<String>,
}

impl Changes {
    /// What leads from `before` to `after`.
    #[must_use]
    pub fn between(before: &Files, after: &Files) -> Self {
        let added = after.keys().filter(|path| !before.contains_key(*path)).cloned().collect();
        let removed = before.keys().filter(|path| !after.contains_key(*path)).cloned().collect();
        let differs = |(path, text): &(&String, &String)| before.get(*path).is_some_and(|earlier| earlier != *text);
        let changed = after.iter().filter(differs).map(|(path, _)| path.clone()).collect();
        Self { added, changed, removed }
    }

    /// Says so in an audit entry: how many of each, and their names as far as an entry holds them.
    pub(super) fn tell(&self, entry: AuditEntry) -> AuditEntry {
        self.told_as(["added", "changed", "removed"], entry)
    }

    /// The same of files that a bundle only names.
    pub(super) fn tell_named(&self, entry: AuditEntry) -> AuditEntry {
        self.told_as(["named_added", "named_changed", "named_removed"], entry)
    }

    fn told_as(&self, names: [&str; 3], entry: AuditEntry) -> AuditEntry {
        names
            .into_iter()
            .zip([&self.added, &self.changed, &self.removed])
            .filter(|(_, paths)| !paths.is_empty())
            .fold(entry, |entry, (name, paths)| entry.with(name, &format!("{}: {}", paths.len(), paths.join(" "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_differs_is_in_one_of_the_lists() {
        let files = |texts: &[(&str, &str)]| -> Files {
            texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
        };
        let before = files(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = files(&[("b", "1"), ("c", "2"), ("d", "1")]);
        let changes = Changes::between(&before, &after);
        assert_eq!(
            (changes.added, changes.changed, changes.removed),
            (vec!["d".into()], vec!["c".into()], vec!["a".into()])
        );
        assert_eq!(Changes::between(&after, &after), Changes::default());
    }
}
