//! Backends: where credentials are minted. One file a kind.

mod aws;
pub mod azure;
mod common;
pub mod gcp;
pub mod github;
mod jwt;
pub mod kubernetes;
mod postgres;
pub mod vault;
mod x509;

use std::path::{Path, PathBuf};

use hallpass_core::credential::RevocationClass;
use hallpass_core::id::{BackendName, IssuerName};
use hallpass_core::port::SignatureAlgorithm;
use serde_json::Value;

pub(crate) use self::aws::is_region;
pub use self::aws::{AwsAuth, AwsBackend, AwsFence};
use self::azure::Azure;
use self::gcp::Gcp;
use self::github::GitHub;
use self::kubernetes::Kubernetes;
pub use self::postgres::{Login as PostgresLogin, Postgres};
use self::vault::Vault;
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
    /// Users of a PostgreSQL server.
    Postgres(Box<Postgres>),
    /// What HashiCorp Vault or OpenBao makes.
    Vault(Box<Vault>),
    /// Sessions of AWS roles.
    Aws(Box<AwsBackend>),
    /// Tokens of a cluster's service accounts.
    Kubernetes(Box<Kubernetes>),
    /// Tokens of an installation of a GitHub App.
    GitHub(Box<GitHub>),
    /// Access tokens of service accounts of Google Cloud.
    Gcp(Box<Gcp>),
    /// Access tokens of applications in Microsoft Entra.
    Azure(Box<Azure>),
}

impl BackendKind {
    /// The word used in configuration; also the name of the table of its parameters in a role.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Jwt { .. } => "jwt",
            Self::X509 { .. } => "x509",
            Self::Azure(_) => "azure",
            Self::Gcp(_) => "gcp",
            Self::GitHub(_) => "github",
            Self::Kubernetes(_) => "kubernetes",
            Self::Postgres(_) => "postgres",
            Self::Vault(_) => "vault",
            Self::Aws(_) => "aws",
        }
    }

    /// How a credential of a role with these parameters can be stopped.
    #[must_use]
    pub fn class(&self, parameters: &Value) -> RevocationClass {
        match self {
            Self::Azure(_) => RevocationClass::ExpiryOnly,
            // Nothing takes back what was signed.
            Self::Gcp(_) => RevocationClass::ExpiryOnly,
            // The token is revoked with itself.
            Self::GitHub(_) => RevocationClass::Hard,
            // The token is bound to a Secret of its own, which is deleted.
            Self::Kubernetes(_) => RevocationClass::Hard,
            // Verifiers consult the status list and the revocation list; nothing unsigns a signature.
            Self::Jwt { .. } | Self::X509 { .. } => RevocationClass::Fenced,
            // Its sessions are ended, and nobody logs in as it again.
            Self::Postgres(_) => RevocationClass::Hard,
            Self::Vault(_) => Vault::class(parameters),
            Self::Aws(settings) if settings.fence.is_some() => RevocationClass::Fenced,
            Self::Aws(_) => RevocationClass::ExpiryOnly,
        }
    }

    /// The server that its credentials are made at and known by, in one text: another text is another server. Empty for
    /// what is made here.
    #[must_use]
    pub fn server(&self) -> String {
        match self {
            Self::Jwt { .. } | Self::X509 { .. } => String::new(),
            Self::Postgres(postgres) => postgres.server(),
            Self::Vault(vault) => vault.server(),
            Self::Aws(settings) => settings.server(),
            Self::Kubernetes(settings) => settings.server.origin().ascii_serialization(),
            Self::GitHub(settings) => format!("{} {}", settings.api_url, settings.installation_id),
            Self::Gcp(settings) => settings.iam_credentials_url.origin().ascii_serialization(),
            Self::Azure(settings) => format!("{} {}", settings.authority, settings.tenant),
        }
    }

    /// The AWS role that its fences are set with, where it has one.
    #[must_use]
    pub fn fence_role(&self) -> Option<&str> {
        match self {
            Self::Aws(settings) => settings.fence.as_ref().map(|fence| fence.role_arn.as_str()),
            _ => None,
        }
    }

    /// The audience of the broker's own tokens towards such a backend: no role may give tokens for it.
    #[must_use]
    pub fn audience(&self) -> Option<String> {
        match self {
            Self::Azure(settings) => settings.own_token().map(|(audience, _)| audience.to_owned()),
            Self::Gcp(settings) => settings.own_token().map(|(audience, _)| audience.to_owned()),
            Self::GitHub(_) => None,
            Self::Kubernetes(settings) => settings.own_token().map(|(audience, _)| audience.to_owned()),
            Self::Vault(vault) => vault.audience().map(str::to_owned),
            Self::Aws(settings) => (settings.auth == AwsAuth::WebIdentity).then(|| settings.audience.clone()),
            Self::Jwt { .. } | Self::X509 { .. } | Self::Postgres(_) => None,
        }
    }
}

/// The kinds that can be configured.
const KINDS: &[&str] = &["jwt", "x509", "postgres", "vault", "aws", "kubernetes", "github", "gcp", "azure"];

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
        Some("jwt") => jwt::read(entry, findings),
        Some("x509") => x509::read(entry, base, findings),
        Some("azure") => azure::read(entry, base, findings),
        Some("gcp") => gcp::read(entry, base, findings),
        Some("github") => github::read(entry, base, findings),
        Some("kubernetes") => kubernetes::read(entry, base, findings),
        Some("postgres") => postgres::read(entry, base, findings),
        Some("vault") => vault::read(entry, base, findings),
        Some("aws") => aws::read(entry, findings),
        Some(kind) => {
            findings.push(entry.finding("kind", format!("there is no kind of backend {kind:?}; use {}", kinds())));
            None
        }
        None => {
            findings.push(entry.finding("kind", format!("is missing; use {}", kinds())));
            None
        }
    }
}

/// `"a", "b" or "c"`.
fn kinds() -> String {
    let quoted: Vec<_> = KINDS.iter().map(|kind| format!("{kind:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
