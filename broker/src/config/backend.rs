//! Backends: where credentials are minted.

use std::path::{Path, PathBuf};

use hallpass_core::credential::RevocationClass;
use hallpass_core::id::{BackendName, IssuerName};
use hallpass_core::port::SignatureAlgorithm;
use serde::Deserialize;

use super::Finding;
use super::document::Document;

/// A configured backend, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name in roles.
    pub name: BackendName,
    /// Its kind with its settings.
    pub kind: BackendKind,
}

/// The kinds of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Access tokens signed by the broker (RFC 9068).
    Jwt {
        /// How they are signed, unless a role says otherwise.
        algorithm: SignatureAlgorithm,
    },
    /// Certificates signed by the built-in authority.
    X509 {
        /// SPIFFE trust domain of the certificates' URI names.
        trust_domain: String,
        /// Where the authority is an intermediate of somebody's own root: a PEM file with its certificate first, then
        /// every further one up to and including the root. Without it the authority is its own root.
        ca_certificate_file: Option<PathBuf>,
    },
}

impl BackendKind {
    /// The word used in configuration; also the name of the table of its parameters in a role.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Jwt { .. } => "jwt",
            Self::X509 { .. } => "x509",
        }
    }

    /// How the credentials of this kind can be stopped.
    #[must_use]
    pub const fn class(&self) -> RevocationClass {
        match self {
            // Verifiers consult the status list and the revocation list; nothing unsigns a signature.
            Self::Jwt { .. } | Self::X509 { .. } => RevocationClass::Fenced,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJwt {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    algorithm: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawX509 {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    trust_domain: String,
    ca_certificate_file: Option<PathBuf>,
}

/// Kinds of the configuration contract that this version cannot mint with.
const NOT_SUPPORTED: &[&str] = &["vault", "aws", "gcp", "azure", "github", "kubernetes", "postgres"];

/// The backends of `backends.toml`. Files that they name are sought below `base`.
pub(crate) fn read(document: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Vec<Backend> {
    let mut backends: Vec<Backend> = Vec::new();
    for entry in document.entries("backend", findings) {
        let Some(backend) = read_one(&entry, base, findings) else { continue };
        if backend.name.as_str() == IssuerName::RESERVED {
            findings.push(entry.finding("name", "\"hallpass\" is the broker itself; choose another name"));
        }
        if backends.iter().any(|other| other.name == backend.name) {
            findings.push(entry.finding("name", format!("the backend {:?} is there already", backend.name.as_str())));
        }
        backends.push(backend);
    }
    backends
}

fn read_one(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    match entry.text_at("kind") {
        Some("jwt") => {
            let raw: RawJwt = entry.read(findings)?;
            let algorithm = match raw.algorithm.as_deref() {
                None => Some(SignatureAlgorithm::Es256),
                Some(name) => SignatureAlgorithm::parse(name),
            };
            let Some(algorithm) = algorithm else {
                findings.push(entry.finding("algorithm", "the broker signs with \"ES256\", \"EdDSA\" or \"RS256\""));
                return None;
            };
            Some(Backend { name: raw.name, kind: BackendKind::Jwt { algorithm } })
        }
        Some("x509") => {
            let raw: RawX509 = entry.read(findings)?;
            if !is_trust_domain(&raw.trust_domain) {
                let reason = "a trust domain has lower-case letters, digits, '.', '-' and '_', 255 at most";
                findings.push(entry.finding("trust_domain", reason));
                return None;
            }
            let ca_certificate_file = match raw.ca_certificate_file {
                None => None,
                Some(file) => Some(entry.existing_file("ca_certificate_file", &file, base, findings)?),
            };
            let kind = BackendKind::X509 { trust_domain: raw.trust_domain, ca_certificate_file };
            Some(Backend { name: raw.name, kind })
        }
        Some(kind) if NOT_SUPPORTED.contains(&kind) => {
            findings.push(entry.finding("kind", format!("this version does not support backends of kind {kind:?}")));
            None
        }
        Some(kind) => {
            findings
                .push(entry.finding("kind", format!("there is no kind of backend {kind:?}; use \"jwt\" or \"x509\"")));
            None
        }
        None => {
            findings.push(entry.finding("kind", "is missing; use \"jwt\" or \"x509\""));
            None
        }
    }
}

/// SPIFFE-ID §2.1.
fn is_trust_domain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}
