//! Who signs statements about changes and builds: `[[attestor]]` of `attestors.toml`.

mod key;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hallpass_core::id::{AttestorName, IssuerName};
use hallpass_core::time::Ttl;
use serde::Deserialize;

pub use self::key::{AttestorKey, KeyKind};
use super::Finding;
use super::bundle::read_bounded;
use super::document::{Declared, Document, Duration};

/// Most keys of all attestors together. Each signature of each statement may have to be tried with each of them.
const MAX_KEYS: usize = 32;

/// Somebody whose signed statements count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestor {
    /// Its name.
    pub name: AttestorName,
    /// What it may vouch for.
    pub kind: AttestorKind,
    /// Keys that it signs with.
    pub keys: Vec<AttestorKey>,
    /// Builders that it may speak of, compared byte for byte; for [`AttestorKind::SlsaProvenance`] alone.
    pub builders: Vec<String>,
    /// Issuers whose proofs name, as `actor_id`, accounts of the code host whose accounts its statements name.
    pub accounts_of: Vec<IssuerName>,
    /// How old its statements may be.
    pub max_age: Option<Ttl>,
}

/// What an attestor may vouch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttestorKind {
    /// How artifacts were built (SLSA Build Provenance v1).
    SlsaProvenance,
    /// Who agreed to a change.
    Review,
    /// What is going to be done with a change.
    Plan,
}

impl AttestorKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::SlsaProvenance, Self::Review, Self::Plan];

    /// The word used in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SlsaProvenance => "slsa-provenance",
            Self::Review => "review",
            Self::Plan => "plan",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttestor {
    name: AttestorName,
    kind: String,
    keys: Vec<RawKey>,
    #[serde(default)]
    builders: Vec<String>,
    #[serde(default)]
    accounts_of: Vec<IssuerName>,
    max_age: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a key is a public key in PEM, or { file = \"…\" }")]
enum RawKey {
    Inline(String),
    File(RawFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    file: PathBuf,
}

/// The attestors of `attestors.toml`. Files of keys are sought beside it, below `base`.
pub(crate) fn read(
    document: &Document<'_>,
    issuers: &Declared,
    base: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Vec<Attestor> {
    let mut attestors: Vec<Attestor> = Vec::new();
    let (mut known, mut count) = (BTreeSet::new(), 0_usize);
    for entry in document.entries("attestor", findings) {
        let Some(attestor) = read_one(&entry, issuers, base, findings) else { continue };
        if attestors.iter().any(|other| other.name == attestor.name) {
            findings.push(entry.finding("name", format!("the attestor {:?} is there already", attestor.name.as_str())));
        }
        for key in &attestor.keys {
            count = count.saturating_add(1);
            if !known.insert(key.bytes.clone()) {
                let reason = "one of them is there already: a key is one attestor's, who vouches for one kind of thing";
                findings.push(entry.finding("keys", reason));
            }
        }
        if count > MAX_KEYS {
            let reason = format!("all attestors together have more than {MAX_KEYS}");
            findings.push(entry.finding("keys", reason));
            break;
        }
        attestors.push(attestor);
    }
    attestors
}

fn read_one(
    entry: &Document<'_>,
    issuers: &Declared,
    base: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<Attestor> {
    let raw: RawAttestor = entry.read(findings)?;
    let Some(kind) = AttestorKind::ALL.iter().copied().find(|kind| kind.as_str() == raw.kind) else {
        let known: Vec<_> = AttestorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let reason = format!("there is no kind of attestor {:?}; there are {}", raw.kind, known.join(", "));
        findings.push(entry.finding("kind", reason));
        return None;
    };
    let is_of_builds = kind == AttestorKind::SlsaProvenance;
    if is_of_builds && raw.builders.is_empty() {
        findings.push(entry.finding("builders", "name at least one: whoever holds the key could speak for any other"));
    }
    if raw.builders.iter().any(|builder| builder.trim().is_empty() || builder.contains('*')) {
        findings.push(entry.finding("builders", "a builder is compared byte for byte: no pattern, and not empty"));
    }
    if !is_of_builds && !raw.builders.is_empty() {
        findings.push(entry.finding("builders", format!("a {} has no builder: leave this out", kind.as_str())));
    }
    if is_of_builds && !raw.accounts_of.is_empty() {
        findings.push(entry.finding("accounts_of", "provenance names no people: leave this out"));
    }
    if let Some(unknown) = raw.accounts_of.iter().find(|issuer| !issuers.has(issuer.as_str())) {
        let reason = format!("{:?} is no issuer of issuers.toml", unknown.as_str());
        findings.push(entry.finding("accounts_of", reason));
    }
    let max_age = raw.max_age.map(|Duration(ttl)| ttl);
    if max_age == Some(Ttl::ZERO) {
        findings.push(entry.finding("max_age", "leaves no time to offer a statement"));
    }
    if raw.keys.is_empty() {
        findings.push(entry.finding("keys", "name at least one"));
    }
    let keys = raw.keys.into_iter().filter_map(|key| read_key(entry, key, base, findings)).collect();
    Some(Attestor { name: raw.name, kind, keys, builders: raw.builders, accounts_of: raw.accounts_of, max_age })
}

fn read_key(
    entry: &Document<'_>,
    key: RawKey,
    base: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<AttestorKey> {
    let (file, read) = match key {
        RawKey::Inline(pem) => (None, Ok(pem)),
        RawKey::File(RawFile { file }) => {
            let path = entry.existing_file("keys", &file, base, findings)?;
            let read = read_bounded(&path);
            (Some(path), read)
        }
    };
    match read.and_then(|pem| AttestorKey::from_pem(&pem, file.clone())) {
        Ok(key) => Some(key),
        Err(reason) => {
            let which = file.map(|file| format!("{}: ", file.display())).unwrap_or_default();
            findings.push(entry.finding("keys", format!("{which}{reason}")));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErJwaCmYsP/iELF8y79m5MKFRTVQq\nvvUZnNgWFk8yevk4tUjD0L0WhzT7acghUQAbs5u/DUX0aRuxR/OgW4gtIQ==\n-----END PUBLIC KEY-----";

    /// The findings of an `attestors.toml`, each as `line: reason`.
    fn findings(text: &str) -> Vec<String> {
        let file = Path::new("attestors.toml");
        let mut findings = Vec::new();
        let document = Document::parse(file, text).unwrap();
        let issuers = "[[issuer]]\nname = \"ci\"\n";
        let issuers = Document::parse(Path::new("issuers.toml"), issuers).unwrap();
        read(&document, &Declared::of(Some(&issuers), "issuer", false), None, &mut findings);
        findings.iter().map(|finding| format!("{}: {}", finding.line.unwrap_or_default(), finding.reason)).collect()
    }

    fn entry(more: &str) -> String {
        format!("[[attestor]]\nname = \"reviews\"\n{more}\n")
    }

    #[test]
    fn what_an_attestor_gets_wrong_is_named_with_its_line() {
        let keys = format!("keys = [{KEY:?}]");
        let good = entry(&format!("kind = \"review\"\n{keys}\naccounts_of = [\"ci\"]\nmax_age = \"1h\""));
        assert_eq!(findings(&good), Vec::<String>::new());
        let build = entry(&format!("kind = \"slsa-provenance\"\n{keys}\nbuilders = [\"https://builder.test\"]"));
        assert_eq!(findings(&build), Vec::<String>::new());
        let wrong = |more: &str| entry(&format!("kind = \"review\"\n{more}"));
        for (text, said) in [
            (entry(&format!("kind = \"reviews\"\n{keys}")), "3: kind: there is no kind of attestor \"reviews\""),
            (wrong("keys = []"), "4: keys: name at least one"),
            (wrong("keys = [\"none\"]"), "4: keys: is not one public key in PEM"),
            (wrong("keys = [\"-----BEGIN PRIVATE KEY-----\"]"), "4: keys: has a private key"),
            (wrong("keys = [{ file = \"keys/a.pem\" }]"), "4: keys: names a file of the broker's machine"),
            (wrong("keys = [{ path = \"a\" }]"), "a key is a public key in PEM, or { file"),
            (wrong(&format!("keys = [{KEY:?}, {KEY:?}]")), "4: keys: one of them is there already"),
            (wrong(&format!("{keys}\nbuilders = [\"b\"]")), "5: builders: a review has no builder"),
            (wrong(&format!("{keys}\naccounts_of = [\"other\"]")), "5: accounts_of: \"other\" is no issuer"),
            (wrong(&format!("{keys}\nmax_age = 0")), "5: max_age: leaves no time"),
            (wrong(&format!("{keys}\nmaxage = 0")), "unknown field `maxage`"),
            (entry(&format!("kind = \"slsa-provenance\"\n{keys}")), "builders: name at least one"),
            (build.replace("builder.test", "*"), "5: builders: a builder is compared byte for byte"),
            (format!("{good}{good}"), "the attestor \"reviews\" is there already"),
            ("[[issuer]]\n".to_owned(), "unknown key \"issuer\""),
        ] {
            let found = findings(&text);
            assert!(found.iter().any(|finding| finding.contains(said)), "{said}: {found:?}");
        }
    }
}
