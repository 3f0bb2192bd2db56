//! What is governed, as the world sees it.

use std::time::Duration;

use hallpass_core::finding::Finding;
use hallpass_core::port::{BundleSource, Files, RevisionRecord};
use hallpass_core::service::configuration::{Changes, Published, Shown};
use hallpass_sdk::wire;
use similar::TextDiff;

use super::at;

/// The bundle in force.
pub(in crate::http) fn configuration(shown: Shown, source: BundleSource) -> wire::Configuration {
    wire::Configuration {
        source: source.as_str().to_owned(),
        publication: revision(&shown.record),
        files: shown.files.unwrap_or_default(),
    }
}

/// A publication.
pub(in crate::http) fn revision(record: &RevisionRecord) -> wire::Revision {
    wire::Revision {
        revision: record.id.to_string(),
        published_at: at(record.published_at),
        author: record.author.clone(),
        approvers: record.approvers.clone(),
        parent: record.parent.as_ref().map(ToString::to_string),
        commit: record.commit.clone(),
        occasion: record.occasion.map(|occasion| occasion.as_str().to_owned()),
    }
}

/// What was published, or would be.
pub(in crate::http) fn publication(published: Published) -> wire::Publication {
    let Changes { added, changed, removed } = published.changes;
    wire::Publication {
        revision: published.revision.to_string(),
        replaces: published.replaces.to_string(),
        published: published.published,
        changes: wire::FileChanges { added, changed, removed },
        warnings: findings(&published.warnings),
        widening: findings(&published.widening),
        touched: wire::Touched {
            roles: published.touched.roles.iter().map(ToString::to_string).collect(),
            policies: published.touched.policies.iter().map(ToString::to_string).collect(),
            live_grants: published.touched.live_grants,
        },
    }
}

/// Most findings that are told. A bundle has ten thousand files, and each can be wrong from end to end.
const MAX_FINDINGS: usize = 1_000;

/// Longest reason that is told: what is wrong may be quoted in it.
const MAX_REASON_CHARS: usize = 500;

/// What was found, bounded.
pub(in crate::http) fn findings(found: &[Finding]) -> Vec<wire::Finding> {
    let told = found.iter().take(MAX_FINDINGS).map(|finding| wire::Finding {
        file: finding.file.display().to_string(),
        line: finding.line.and_then(|line| u64::try_from(line).ok()),
        reason: finding.reason.chars().take(MAX_REASON_CHARS).collect(),
    });
    let more = found.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0);
    let rest = more.map(|more| wire::Finding { file: ".".to_owned(), line: None, reason: format!("and {more} more") });
    told.chain(rest).collect()
}

/// Most files of which the lines are compared; more than that, nobody reads.
const MAX_COMPARED: usize = 1_000;

/// How long one file's lines may be compared: what is left then is told as one change. Comparing takes quadratic time
/// for texts that have nothing in common.
const COMPARING: Duration = Duration::from_millis(20);

/// Longest path in a header of a diff.
const CONTEXT_LINES: usize = 3;

/// What leads from the files `before` to the files `after`. Takes time: call it where blocking is allowed.
pub(in crate::http) fn difference(from: String, changes: &Changes, before: &Files, after: &Files) -> wire::Difference {
    let of = |paths: &[String], change: &str| -> Vec<(String, String)> {
        paths.iter().map(|path| (path.clone(), change.to_owned())).collect()
    };
    let mut differing =
        [of(&changes.added, "added"), of(&changes.changed, "changed"), of(&changes.removed, "removed")].concat();
    differing.sort();
    let files = differing.into_iter().enumerate().map(|(at, (path, change))| {
        let diff = (at < MAX_COMPARED).then(|| unified(&path, before.get(&path), after.get(&path)));
        wire::FileDifference { path, change, diff }
    });
    wire::Difference { from, files: files.collect() }
}

/// As `diff -u` has it; a side that is not there is `/dev/null`.
fn unified(path: &str, before: Option<&String>, after: Option<&String>) -> String {
    let name = |side: &str, text: Option<&String>| match text {
        Some(_) => format!("{side}/{path}"),
        None => "/dev/null".to_owned(),
    };
    let texts = [before, after].map(|text| text.map(String::as_str).unwrap_or_default());
    let diff = TextDiff::configure().timeout(COMPARING).diff_lines(texts[0], texts[1]);
    let mut unified = diff.unified_diff();
    unified.context_radius(CONTEXT_LINES).header(&name("a", before), &name("b", after)).to_string()
}

#[cfg(test)]
mod tests {
    use hallpass_core::time::Clock as _;

    use super::*;

    fn files(texts: &[(&str, &str)]) -> Files {
        texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_difference_reads_as_a_unified_diff_of_each_file() {
        let before = files(&[("a.toml", "one\ntwo\nthree\n"), ("gone.toml", "x\n"), ("same.toml", "y\n")]);
        let after = files(&[("a.toml", "one\n2\nthree\n"), ("new.toml", "z\n"), ("same.toml", "y\n")]);
        let told = difference("0".repeat(64), &Changes::between(&before, &after), &before, &after);
        let text: Vec<_> = told
            .files
            .iter()
            .map(|file| format!("{} {}\n{}", file.change, file.path, file.diff.as_ref().unwrap()))
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn what_is_told_is_bounded() {
        let finding = Finding { file: "x".into(), line: None, reason: "y".repeat(10_000) };
        let told = findings(&vec![finding; 1_500]);
        assert_eq!((told.len(), told[0].reason.len()), (1_001, 500));
        assert_eq!(told[1_000].reason, "and 500 more");
        let (one, other) = ("a\nb\n".repeat(100_000), "c\nd\n".repeat(100_000));
        let clock = crate::runtime::clock::SystemClock::start();
        let started = clock.monotonic();
        assert!(!unified("x", Some(&one), Some(&other)).is_empty());
        let taken = clock.monotonic().saturating_sub(started);
        assert!(taken < Duration::from_secs(20), "comparing has a deadline");
    }
}
