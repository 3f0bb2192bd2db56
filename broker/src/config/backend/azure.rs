//! Backends of kind `azure`: access tokens of applications and managed identities in Microsoft Entra.
//!
//! ```toml
//! [[backend]]
//! name = "azure"
//! kind = "azure"
//! tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"   # or one of its domains
//! authority = "https://login.microsoftonline.com"   # .us, .partner.microsoftonline.cn: a sovereign cloud's own
//! audience = "api://AzureADTokenExchange"           # …USGov, …China: a sovereign cloud's own
//! algorithm = "RS256"                               # Entra takes no other: import a key
//! token_life = "90m"                                # how long the tenant's tokens live at most
//! ca_file = "…"                                     # then nobody else's certificate is trusted
//! timeout = "4s"
//! ```

use std::path::{Path, PathBuf};

use hallpass_core::id::BackendName;
use hallpass_core::port::SignatureAlgorithm;
use hallpass_core::time::Ttl;
use serde::Deserialize;
use url::Url;

use super::{Backend, BackendKind, common};
use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration};

/// Where the worldwide cloud's tokens are.
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// What federated credentials expect as `aud`, unless they say otherwise.
const AUDIENCE: &str = "api://AzureADTokenExchange";
/// 60 to 90 minutes, at random, unless a tenant's policy says otherwise: then between ten minutes and a day.
const TOKEN_LIFE: Bounded = Bounded { standard: Ttl::from_mins(90), min: Ttl::from_mins(10), max: Ttl::from_hours(24) };

/// A backend of kind `azure`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// The tenant's id, or one of its domains.
    pub tenant: String,
    /// Origin of the cloud's authority.
    pub authority: Url,
    /// What the broker's own token has as `aud`.
    pub audience: String,
    /// How it is signed.
    pub algorithm: SignatureAlgorithm,
    /// How long the tenant's tokens live at most.
    pub token_life: Ttl,
    /// The authorities of the server's certificate, PEM; nobody else is trusted then.
    pub ca_file: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Ttl,
}

impl Azure {
    /// The audience of the broker's own token and how it is signed.
    #[must_use]
    pub fn own_token(&self) -> Option<(&str, SignatureAlgorithm)> {
        Some((&self.audience, self.algorithm))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    tenant: String,
    authority: Option<String>,
    audience: Option<String>,
    algorithm: Option<String>,
    token_life: Option<Duration>,
    ca_file: Option<PathBuf>,
    timeout: Option<Duration>,
}

pub(super) fn read(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: Raw = entry.read(findings)?;
    let before = findings.len();
    let is_tenant = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let of_everybody = ["common", "organizations", "consumers"].contains(&raw.tenant.as_str());
    if of_everybody || raw.tenant.len() > 253 || !raw.tenant.contains(['-', '.']) || !raw.tenant.bytes().all(is_tenant)
    {
        findings.push(entry.finding("tenant", "is the tenant's id, or one of its domains"));
    }
    let authority = raw.authority.as_deref().unwrap_or(AUTHORITY);
    let authority = common::origin(entry, "authority", authority, findings);
    let audience = raw.audience.unwrap_or_else(|| AUDIENCE.to_owned());
    common::audience(entry, "audience", &audience, findings);
    let rs256 = SignatureAlgorithm::Rs256;
    let algorithm = common::algorithm(entry, "algorithm", raw.algorithm.as_deref(), rs256, findings);
    let ca_file = match raw.ca_file {
        Some(ca) => Some(entry.existing_file("ca_file", &ca, base, findings)?),
        None => None,
    };
    let token_life = TOKEN_LIFE.check(entry, "token_life", raw.token_life, findings);
    let timeout = common::timeout(entry, raw.timeout, findings);
    let kind = Azure { tenant: raw.tenant, authority: authority?, audience, algorithm, token_life, ca_file, timeout };
    (findings.len() == before).then(|| Backend { name: raw.name, kind: BackendKind::Azure(Box::new(kind)) })
}
