//! Backends of kind `gcp`: access tokens of service accounts of Google Cloud.
//!
//! ```toml
//! [[backend]]
//! name = "gcp"
//! kind = "gcp"
//! provider = "projects/123456789012/locations/global/workloadIdentityPools/hallpass/providers/hallpass"
//! audience = "https://iam.googleapis.com/projects/…"   # that of the broker's token; by default the provider's own
//! algorithm = "ES256"                                  # or "RS256"
//! max_life = "1h"                                      # up to "12h", where the organisation's policy allows it
//! universe_domain = "googleapis.com"
//! sts_url = "https://sts.googleapis.com"               # by default of the universe, as is
//! iam_credentials_url = "https://iamcredentials.googleapis.com"
//! ca_file = "…"                                        # then nobody else's certificate is trusted
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

/// The universe that everybody is in who is in no other.
const UNIVERSE: &str = "googleapis.com";
/// An hour, unless an organisation's policy allows more.
const MAX_LIFE: Bounded = Bounded { standard: Ttl::from_hours(1), min: Ttl::from_mins(1), max: Ttl::from_hours(12) };

/// A backend of kind `gcp`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcp {
    /// Resource name of the provider of the workload identity pool that trusts the broker.
    pub provider: String,
    /// The domain that its names of services end with.
    pub universe_domain: String,
    /// What the broker's own token has as `aud`.
    pub audience: String,
    /// How it is signed.
    pub algorithm: SignatureAlgorithm,
    /// How long a token may live.
    pub max_life: Ttl,
    /// Origin of the Security Token Service.
    pub sts_url: Url,
    /// Origin of the Service Account Credentials API.
    pub iam_credentials_url: Url,
    /// The authorities of their certificates, PEM; nobody else is trusted then.
    pub ca_file: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Ttl,
}

impl Gcp {
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
    provider: String,
    audience: Option<String>,
    algorithm: Option<String>,
    max_life: Option<Duration>,
    universe_domain: Option<String>,
    sts_url: Option<String>,
    iam_credentials_url: Option<String>,
    ca_file: Option<PathBuf>,
    timeout: Option<Duration>,
}

pub(super) fn read(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: Raw = entry.read(findings)?;
    let before = findings.len();
    if !is_provider(&raw.provider) {
        let reason = "must be \"projects/<number>/locations/global/workloadIdentityPools/<pool>/providers/<provider>\"";
        findings.push(entry.finding("provider", reason));
    }
    let universe = raw.universe_domain.as_deref().unwrap_or(UNIVERSE);
    let is_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    if universe.is_empty() || !universe.bytes().all(is_domain) {
        findings.push(entry.finding("universe_domain", format!("{universe:?} is no domain")));
    }
    // The provider's own name is what a pool expects where it names no audiences.
    let audience = raw.audience.unwrap_or_else(|| format!("https://iam.{universe}/{}", raw.provider));
    common::audience(entry, "audience", &audience, findings);
    let es256 = SignatureAlgorithm::Es256;
    let algorithm = common::algorithm(entry, "algorithm", raw.algorithm.as_deref(), es256, findings);
    if algorithm == SignatureAlgorithm::EdDsa {
        findings.push(entry.finding("algorithm", "Google Cloud takes tokens that are signed with ES256 or RS256"));
    }
    let sts = raw.sts_url.unwrap_or_else(|| format!("https://sts.{universe}"));
    let iam = raw.iam_credentials_url.unwrap_or_else(|| format!("https://iamcredentials.{universe}"));
    let sts_url = common::origin(entry, "sts_url", &sts, findings);
    let iam_credentials_url = common::origin(entry, "iam_credentials_url", &iam, findings);
    let ca_file = match raw.ca_file {
        Some(ca) => Some(entry.existing_file("ca_file", &ca, base, findings)?),
        None => None,
    };
    let max_life = MAX_LIFE.check(entry, "max_life", raw.max_life, findings);
    let timeout = common::timeout(entry, raw.timeout, findings);
    let kind = Gcp {
        universe_domain: universe.to_owned(),
        provider: raw.provider,
        audience,
        algorithm,
        max_life,
        sts_url: sts_url?,
        iam_credentials_url: iam_credentials_url?,
        ca_file,
        timeout,
    };
    (findings.len() == before).then(|| Backend { name: raw.name, kind: BackendKind::Gcp(Box::new(kind)) })
}

fn is_provider(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_id = |part: &str| {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (4..=32).contains(&part.len()) && part.bytes().all(allowed)
    };
    match text.split('/').collect::<Vec<_>>().as_slice() {
        ["projects", project, "locations", "global", "workloadIdentityPools", pool, "providers", provider] => {
            is_number(project) && is_id(pool) && is_id(provider)
        }
        _ => false,
    }
}
