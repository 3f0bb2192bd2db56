//! Who signs statements about changes and builds: `[[attestor]]` of `attestors.toml`.

mod certificate;
mod key;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hallpass_core::attestation::AccountsOf;
use hallpass_core::id::{AttestorName, IssuerName};
use hallpass_core::time::Ttl;
use serde::Deserialize;

use self::certificate::RawCertificates;
pub use self::certificate::{CertifiedSigner, Certifier, SignerName};
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
    /// What it is known by.
    pub known_by: KnownBy,
    /// Builders that it may speak of, compared byte for byte; for [`AttestorKind::SlsaProvenance`] alone.
    pub builders: Vec<String>,
    /// Code hosts whose accounts its statements may name, and who else names those.
    pub accounts_of: AccountsOf,
    /// How old its statements may be.
    pub max_age: Option<Ttl>,
}

/// What an attestor is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// Keys that it signs with.
    Keys(Vec<AttestorKey>),
    /// Certificates of the keys that it signs with.
    Certificates(Box<CertifiedSigner>),
}

impl KnownBy {
    /// Keys that it signs with, where it is known by them.
    #[must_use]
    pub fn keys(&self) -> &[AttestorKey] {
        match self {
            Self::Keys(keys) => keys,
            Self::Certificates(_) => &[],
        }
    }

    /// Files that say what it is known by.
    #[must_use]
    pub fn files(&self) -> Vec<&PathBuf> {
        match self {
            Self::Keys(keys) => keys.iter().filter_map(|key| key.file.as_ref()).collect(),
            Self::Certificates(signer) => signer.files.iter().collect(),
        }
    }
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
    keys: Option<Vec<RawText>>,
    certificates: Option<RawCertificates>,
    #[serde(default)]
    builders: Vec<String>,
    #[serde(default)]
    accounts_of: BTreeMap<String, Vec<IssuerName>>,
    max_age: Option<Duration>,
}

/// A text, or the file that it is in.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a key, a certificate or a trusted root is what it says, as a text, or { file = \"…\" }")]
enum RawText {
    Inline(String),
    File(RawFile),
}

impl RawText {
    /// The text and the file that it is in, where it is in one.
    fn read(
        self,
        entry: &Document<'_>,
        key: &str,
        base: Option<&Path>,
        findings: &mut Vec<Finding>,
    ) -> Option<(Option<PathBuf>, String)> {
        let path = match self {
            Self::Inline(text) => return Some((None, text)),
            Self::File(RawFile { file }) => entry.existing_file(key, &file, base, findings)?,
        };
        match read_bounded(&path) {
            Ok(text) => Some((Some(path), text)),
            Err(reason) => {
                findings.push(entry.finding(key, format!("{}: {reason}", path.display())));
                None
            }
        }
    }
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
        let is_certified = matches!(attestor.known_by, KnownBy::Certificates(_));
        if is_certified && attestors.iter().any(|other| other.known_by == attestor.known_by) {
            let reason =
                "another attestor is known by the same: a signer is one attestor, who vouches for one kind of thing";
            findings.push(entry.finding("certificates", reason));
        }
        for key in attestor.known_by.keys() {
            count = count.saturating_add(1);
            if !known.insert(key.bytes.clone()) {
                let reason = "one of them is there already: a key is one attestor's, who vouches for one kind of thing";
                findings.push(entry.finding("keys", reason));
            }
        }
        count = count.saturating_add(usize::from(is_certified));
        if count > MAX_KEYS {
            let reason = format!("all attestors together have more than {MAX_KEYS}");
            findings.push(entry.finding(if is_certified { "certificates" } else { "keys" }, reason));
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
    if let Some(host) = raw.accounts_of.keys().find(|host| host.is_empty() || host.contains(':')) {
        let reason = format!("{host:?} is no code host: it is what stands before the colon of its accounts");
        findings.push(entry.finding("accounts_of", reason));
    }
    if let Some(unknown) = raw.accounts_of.values().flatten().find(|issuer| !issuers.has(issuer.as_str())) {
        let reason = format!("{:?} is no issuer of issuers.toml", unknown.as_str());
        findings.push(entry.finding("accounts_of", reason));
    }
    let max_age = raw.max_age.map(|Duration(ttl)| ttl);
    if max_age == Some(Ttl::ZERO) {
        findings.push(entry.finding("max_age", "leaves no time to offer a statement"));
    }
    let known_by = match (raw.keys, raw.certificates) {
        (Some(keys), None) => {
            if keys.is_empty() {
                findings.push(entry.finding("keys", "name at least one"));
            }
            KnownBy::Keys(keys.into_iter().filter_map(|key| read_key(entry, key, base, findings)).collect())
        }
        (None, Some(raw)) => KnownBy::Certificates(Box::new(certificate::read(entry, raw, base, findings)?)),
        (Some(_), Some(_)) => {
            findings.push(entry.finding("certificates", "an attestor is known by `keys` or by these: make two of it"));
            return None;
        }
        (None, None) => {
            findings.push(entry.finding("name", "it has neither `keys` nor `certificates`: nobody could sign for it"));
            return None;
        }
    };
    Some(Attestor { name: raw.name, kind, known_by, builders: raw.builders, accounts_of: raw.accounts_of, max_age })
}

fn read_key(
    entry: &Document<'_>,
    key: RawText,
    base: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<AttestorKey> {
    let (file, pem) = key.read(entry, "keys", base, findings)?;
    match AttestorKey::from_pem(&pem, file.clone()) {
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
        let good =
            entry(&format!("kind = \"review\"\n{keys}\naccounts_of = {{ github = [\"ci\"] }}\nmax_age = \"1h\""));
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
            (wrong("keys = [{ path = \"a\" }]"), "a key, a certificate or a trusted root is"),
            (wrong(&format!("keys = [{KEY:?}, {KEY:?}]")), "4: keys: one of them is there already"),
            (wrong(&format!("{keys}\nbuilders = [\"b\"]")), "5: builders: a review has no builder"),
            (
                wrong(&format!("{keys}\naccounts_of = {{ github = [\"other\"] }}")),
                "5: accounts_of: \"other\" is no issuer",
            ),
            (
                wrong(&format!("{keys}\naccounts_of = {{ \"github:1\" = [] }}")),
                "5: accounts_of: \"github:1\" is no code host",
            ),
            (wrong(&format!("{keys}\naccounts_of = [\"ci\"]")), "expected a map"),
            (wrong(&format!("{keys}\nmax_age = 0")), "5: max_age: leaves no time"),
            (wrong(&format!("{keys}\nmaxage = 0")), "unknown field `maxage`"),
            (wrong("max_age = \"1h\""), "2: name: it has neither `keys` nor `certificates`"),
            (entry(&format!("kind = \"slsa-provenance\"\n{keys}")), "builders: name at least one"),
            (build.replace("builder.test", "*"), "5: builders: a builder is compared byte for byte"),
            (format!("{good}{good}"), "the attestor \"reviews\" is there already"),
            ("[[issuer]]\n".to_owned(), "unknown key \"issuer\""),
        ] {
            let found = findings(&text);
            assert!(found.iter().any(|finding| finding.contains(said)), "{said}: {found:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_certificates_is_named_with_its_field() {
        let (own, other) = (authority("acme"), authority("other"));
        let root = include_str!("../identity/fixtures/sigstore/public-good-root.json");
        let leaf = leaf();
        let certified = |more: &str| entry(&format!("kind = \"review\"\ncertificates = {{ {more} }}"));
        let name = "identity = \"https://ci.test/review.yml\"";
        let good = certified(&format!("{name}, authorities = [{own:?}, {other:?}]"));
        assert_eq!(findings(&good), Vec::<String>::new());
        let issuer = "oidc_issuer = \"https://issuer.test\"";
        let sigstore = certified(&format!("{name}, {issuer}, trusted_root = {root:?}, repository_id = \"222\""));
        assert_eq!(findings(&sigstore), Vec::<String>::new());
        let second = |text: &str| text.replace("\"reviews\"", "\"others\"");
        assert_eq!(findings(&format!("{good}{}", second(&sigstore))), Vec::<String>::new());
        for (text, said) in [
            (certified(&format!("authorities = [{own:?}]")), "missing field `identity`"),
            (certified(name), "4: certificates: `authorities` or `trusted_root`: name one of them"),
            (certified(&format!("{name}, authorities = []")), "4: certificates: `authorities` names 1 to 8"),
            (certified(&format!("{name}, authorities = [{own:?}], trusted_root = {root:?}")), "name one of them"),
            (certified(&format!("{name}, authorities = [\"x\"]")), "`authorities` is not one certificate in PEM"),
            (certified(&format!("{name}, authorities = [{:?}]", format!("{own}{other}"))), "is not one certificate"),
            (
                certified(&format!("{name}, authorities = [{leaf:?}]")),
                "`authorities` it is no certificate of an authority",
            ),
            (certified(&format!("{name}, authorities = [\"-----BEGIN PRIVATE KEY-----\"]")), "has a private key"),
            (
                certified(&format!("{name}, authorities = [{{ file = \"keys/ca.pem\" }}]")),
                "names a file of the broker's",
            ),
            (certified(&format!("{name}, {issuer}, authorities = [{own:?}]")), "`oidc_issuer` is of Sigstore's"),
            (certified(&format!("{name}, trusted_root = {root:?}")), "`oidc_issuer` is needed"),
            (certified(&format!("{name}, {issuer}, trusted_root = \"{{}}\"")), "`trusted_root` is no trusted root"),
            (certified(&format!("identity = \"\", authorities = [{own:?}]")), "`identity` is no name"),
            (
                certified(&format!("identity = \"https://*\", authorities = [{own:?}]")),
                "`identity` is compared byte for byte",
            ),
            (
                certified(&format!("identity = \"ci.test\", {issuer}, trusted_root = {root:?}")),
                "`identity` is a host, and",
            ),
            (certified(&format!("{name}, authority = [{own:?}]")), "unknown field `authority`"),
            (format!("{good}{}", second(&good)), "another attestor is known by the same"),
            (format!("{}keys = [{KEY:?}]\n", good), "certificates: an attestor is known by `keys` or by these"),
        ] {
            let found = findings(&text);
            assert!(found.iter().any(|finding| finding.contains(said)), "{said}: {found:?}");
        }
    }

    #[test]
    fn the_documentations_attestors_are_read() {
        let text = include_str!("../../../deploy/attestations/README.md");
        let (_, after) = text.split_once("```toml\n").unwrap();
        let (text, _) = after.split_once("```").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        let root = include_str!("../identity/fixtures/sigstore/public-good-root.json");
        std::fs::write(keys.join("trusted_root.json"), root).unwrap();
        std::fs::write(keys.join("review-ca.pem"), authority("acme")).unwrap();
        let mut findings = Vec::new();
        let document = Document::parse(Path::new("attestors.toml"), text).unwrap();
        let issuers = Document::parse(Path::new("issuers.toml"), "[[issuer]]\nname = \"ci\"\n").unwrap();
        let declared = Declared::of(Some(&issuers), "issuer", false);
        let attestors = read(&document, &declared, Some(folder.path()), &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        let files: Vec<_> = attestors.iter().flat_map(|attestor| attestor.known_by.files()).collect();
        assert_eq!(files, [&keys.join("trusted_root.json"), &keys.join("review-ca.pem")]);
    }

    fn authority(name: &str) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn leaf() -> String {
        rcgen::CertificateParams::default().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }
}
