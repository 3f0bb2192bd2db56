//! `kind = "spiffe"`: a trust domain. Its workloads prove themselves by X.509-SVIDs and JWT-SVIDs, and its trust bundle
//! (SPIFFE Trust Domain and Bundle §4) has the keys that sign them.
//!
//! One entry is one trust domain with one bundle: bundles of several are never put together, or the authority of one
//! could sign in the name of another.

use std::path::{Path, PathBuf};

use hallpass_core::catalog::IssuerFacts;
use hallpass_core::id::IssuerName;
use hallpass_core::identity::{AcceptanceRules, PrincipalKind};
use hallpass_core::spiffe::TrustDomain;
use hallpass_core::time::Ttl;
use serde::Deserialize;

use super::{JwsAlgorithm, KeyRefresh};
use crate::config::Finding;
use crate::config::bundle::digest_of;
use crate::config::document::{Bounded, Document, Duration};
use crate::config::url;

/// The word for the kind in configuration, policy, grants and the audit log.
pub(crate) const KIND: &str = "spiffe";

/// A configured trust domain, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeIssuer {
    /// Its name in policies, grants and the audit log.
    pub name: IssuerName,
    /// The trust domain whose IDs it gives.
    pub trust_domain: TrustDomain,
    /// What kind of caller its identities are.
    pub principal: PrincipalKind,
    /// Where its trust bundle comes from.
    pub bundle: BundleSource,
    /// Whether X.509-SVIDs are proofs.
    pub x509_svids: bool,
    /// Whether JWT-SVIDs are proofs.
    pub jwt_svids: bool,
    /// What JWT-SVIDs may be signed with.
    pub algorithms: Vec<JwsAlgorithm>,
    /// What core enforces of JWT-SVIDs.
    pub rules: AcceptanceRules,
    /// Longest validity of an X.509-SVID.
    pub x509_max_lifetime: Ttl,
    /// How its bundle is kept fresh: by the hint in it, within these bounds.
    pub refresh: KeyRefresh,
}

impl SpiffeIssuer {
    /// What this revision says of the trust domain, for comparing it with another.
    pub(crate) fn facts(&self) -> IssuerFacts {
        let from = (&self.trust_domain, &self.bundle, &self.algorithms);
        let read = (&self.principal, self.x509_svids, self.jwt_svids, self.x509_max_lifetime);
        IssuerFacts { whole: digest_of(self), trust: digest_of(&(from, read, &self.rules)) }
    }
}

/// Where a trust bundle comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleSource {
    /// This text.
    Inline(String),
    /// This file, read again when it changes.
    File(PathBuf),
    /// A bundle endpoint, authenticated as web servers are (SPIFFE Federation §5.2.1).
    HttpsWeb {
        /// Absolute URL. No other is ever asked.
        url: String,
        /// Plain http, also to other hosts than loopback. Anybody on the path can then sign in the domain's name.
        dangerous_allow_http: bool,
    },
    /// The Workload API at this Unix socket.
    WorkloadApi(PathBuf),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpiffe {
    name: IssuerName,
    #[serde(rename = "kind")]
    _kind: String,
    trust_domain: String,
    #[serde(default)]
    audiences: Vec<String>,
    svids: Option<Vec<Svid>>,
    bundle: Option<String>,
    bundle_file: Option<PathBuf>,
    bundle_endpoint: Option<String>,
    bundle_endpoint_profile: Option<String>,
    workload_api: Option<String>,
    #[serde(default)]
    dangerous_allow_http: bool,
    algorithms: Option<Vec<String>>,
    single_use: Option<bool>,
    leeway: Option<Duration>,
    max_age: Option<Duration>,
    max_lifetime: Option<Duration>,
    x509_max_lifetime: Option<Duration>,
    #[serde(default)]
    bounds_ttl: bool,
    #[serde(default)]
    principal: PrincipalKind,
    bundle_max_age: Option<Duration>,
    bundle_min_interval: Option<Duration>,
    bundle_grace: Option<Duration>,
}

/// The two forms of an SVID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Svid {
    X509,
    Jwt,
}

/// What JWT-SVIDs may be signed with (JWT-SVID §2.1), as far as the broker verifies it.
const ALGORITHMS: &[JwsAlgorithm] = &[
    JwsAlgorithm::RS256,
    JwsAlgorithm::RS384,
    JwsAlgorithm::RS512,
    JwsAlgorithm::ES256,
    JwsAlgorithm::ES384,
    JwsAlgorithm::PS256,
    JwsAlgorithm::PS384,
    JwsAlgorithm::PS512,
];

/// Clock difference that is tolerated on JWT-SVIDs. None is on certificates.
const LEEWAY: Bounded = Bounded { standard: Ttl::from_secs(30), min: Ttl::ZERO, max: Ttl::from_secs(120) };

/// Longest life of a JWT-SVID. Agents give minutes; one that is valid for a day is a password.
const MAX_LIFETIME: Bounded =
    Bounded { standard: Ttl::from_hours(1), min: Ttl::from_secs(1), max: Ttl::from_hours(24) };

/// Longest validity of an X.509-SVID. Agents renew them at half their life, an hour or a day; one that is valid for years
/// has a key that somebody keeps in a file.
const X509_MAX_LIFETIME: Bounded =
    Bounded { standard: Ttl::from_hours(25), min: Ttl::from_secs(1), max: Ttl::from_hours(24 * 31) };

/// How long a bundle is believed at most, whatever its hint says. An authority that was removed because its key leaked
/// signs for that long.
const BUNDLE_MAX_AGE: Bounded =
    Bounded { standard: Ttl::from_mins(5), min: Ttl::from_secs(1), max: Ttl::from_hours(24) };

/// How often a bundle is fetched at most, whatever its hint says and whatever key ids arrive.
const BUNDLE_MIN_INTERVAL: Bounded =
    Bounded { standard: Ttl::from_secs(10), min: Ttl::from_secs(1), max: Ttl::from_hours(1) };

/// How long an old bundle serves while its source is away. Whoever can keep it away keeps a removed authority alive.
const BUNDLE_GRACE: Bounded = Bounded { standard: Ttl::from_hours(1), min: Ttl::ZERO, max: Ttl::from_hours(24) };

/// The trust domains of `issuers.toml`. Files of bundles are sought beside it, below `base`.
pub(crate) fn read(document: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Vec<SpiffeIssuer> {
    let mut all: Vec<SpiffeIssuer> = Vec::new();
    // What is no list of tables is told by whoever reads the others.
    for entry in document.entries("issuer", &mut Vec::new()).iter().filter(|entry| is_one(entry)) {
        let Some(issuer) = read_one(entry, base, findings) else { continue };
        if let Some(other) = all.iter().find(|other| other.trust_domain == issuer.trust_domain) {
            let reason =
                format!("the issuer {:?} is this trust domain: an identity must belong to one", other.name.as_str());
            findings.push(entry.finding("trust_domain", reason));
        }
        if all.iter().any(|other| other.name == issuer.name) {
            findings.push(entry.finding("name", format!("the issuer {:?} is there already", issuer.name.as_str())));
        }
        all.push(issuer);
    }
    all
}

/// Whether an entry is of this kind.
pub(crate) fn is_one(entry: &Document<'_>) -> bool {
    entry.text_at("kind") == Some(KIND)
}

fn read_one(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<SpiffeIssuer> {
    let raw: RawSpiffe = entry.read(findings)?;
    let before = findings.len();
    if raw.name.as_str() == IssuerName::RESERVED {
        findings.push(entry.finding("name", "\"hallpass\" is the broker itself; choose another name"));
    }
    let trust_domain = TrustDomain::new(raw.trust_domain.clone());
    if let Err(rule) = &trust_domain {
        let reason = format!("write the bare name, such as \"prod.example.org\": {rule}");
        findings.push(entry.finding("trust_domain", reason));
    }
    let svids = raw.svids.clone().unwrap_or_else(|| vec![Svid::X509, Svid::Jwt]);
    if svids.is_empty() {
        findings.push(entry.finding("svids", "name \"x509\", \"jwt\" or both: with neither nobody proves anything"));
    }
    let jwt_svids = svids.contains(&Svid::Jwt);
    if jwt_svids && raw.audiences.is_empty() {
        let reason = "name at least one audience that means this broker, or accept no JWT-SVIDs: svids = [\"x509\"]";
        findings.push(entry.finding("audiences", reason));
    }
    if raw.audiences.iter().any(|audience| audience.trim().is_empty() || audience.contains('*')) {
        findings.push(entry.finding("audiences", "an audience is compared byte for byte: no pattern, and not empty"));
    }
    let refresh = KeyRefresh {
        max_age: BUNDLE_MAX_AGE.check(entry, "bundle_max_age", raw.bundle_max_age, findings),
        min_interval: BUNDLE_MIN_INTERVAL.check(entry, "bundle_min_interval", raw.bundle_min_interval, findings),
        grace: BUNDLE_GRACE.check(entry, "bundle_grace", raw.bundle_grace, findings),
    };
    if refresh.min_interval > refresh.max_age {
        let reason = "is longer than bundle_max_age: bundles would always be too old";
        findings.push(entry.finding("bundle_min_interval", reason));
    }
    let issuer = SpiffeIssuer {
        bundle: bundle(entry, &raw, base, findings)?,
        algorithms: algorithms(entry, raw.algorithms.as_deref(), findings),
        rules: AcceptanceRules {
            audiences: raw.audiences,
            leeway: LEEWAY.check(entry, "leeway", raw.leeway, findings),
            max_age: raw.max_age.map(|Duration(ttl)| ttl),
            max_lifetime: MAX_LIFETIME.check(entry, "max_lifetime", raw.max_lifetime, findings),
            // Workloads present one JWT-SVID again and again, and few have a `jti`.
            single_use: raw.single_use.unwrap_or(false),
            bounds_ttl: raw.bounds_ttl,
        },
        x509_max_lifetime: X509_MAX_LIFETIME.check(entry, "x509_max_lifetime", raw.x509_max_lifetime, findings),
        x509_svids: svids.contains(&Svid::X509),
        jwt_svids,
        name: raw.name,
        trust_domain: trust_domain.ok()?,
        principal: raw.principal,
        refresh,
    };
    (findings.len() == before).then_some(issuer)
}

fn bundle(
    entry: &Document<'_>,
    raw: &RawSpiffe,
    base: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<BundleSource> {
    let given = [
        ("bundle", raw.bundle.is_some()),
        ("bundle_file", raw.bundle_file.is_some()),
        ("bundle_endpoint", raw.bundle_endpoint.is_some()),
        ("workload_api", raw.workload_api.is_some()),
    ];
    let given: Vec<_> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    let one = match given.as_slice() {
        [one] => *one,
        [] => {
            let reason = "is missing: a trust domain has a bundle_file, a bundle_endpoint, a workload_api or a bundle";
            findings.push(entry.finding("bundle_file", reason));
            return None;
        }
        [_, second, ..] => {
            let reason = format!("a bundle comes from one place, and there are {}", given.join(", "));
            findings.push(entry.finding(second, reason));
            return None;
        }
    };
    match (raw.bundle_endpoint_profile.as_deref(), one) {
        (None | Some("https_web"), "bundle_endpoint") | (None, _) => {}
        (Some("https_spiffe"), "bundle_endpoint") => {
            let reason = "this version does not support \"https_spiffe\": serve the bundle with a certificate of a web \
                          authority (\"https_web\"), or give a bundle_file that is kept up to date";
            findings.push(entry.finding("bundle_endpoint_profile", reason));
        }
        (Some(_), "bundle_endpoint") => {
            findings.push(entry.finding("bundle_endpoint_profile", "there is \"https_web\""));
        }
        (Some(_), _) => {
            findings.push(entry.finding("bundle_endpoint_profile", "is about a bundle_endpoint, and there is none"));
        }
    }
    if let Some(text) = &raw.bundle {
        return Some(BundleSource::Inline(text.clone()));
    }
    if let Some(file) = &raw.bundle_file {
        return entry.existing_file("bundle_file", file, base, findings).map(BundleSource::File);
    }
    if let Some(url) = &raw.bundle_endpoint {
        if let Err(reason) = url::check(url, raw.dangerous_allow_http) {
            findings.push(entry.finding("bundle_endpoint", reason));
        }
        return Some(BundleSource::HttpsWeb { url: url.clone(), dangerous_allow_http: raw.dangerous_allow_http });
    }
    let socket = raw.workload_api.as_deref().unwrap_or_default();
    let Some(path) = url::unix_socket(socket) else {
        let reason =
            "write the socket of the agent as \"unix:///run/spire/agent.sock\": the broker asks over no network";
        findings.push(entry.finding("workload_api", reason));
        return None;
    };
    if base.is_none() {
        let reason = "names a socket of the broker's machine, which only a bundle that lies there as a folder may";
        findings.push(entry.finding("workload_api", reason));
        return None;
    }
    Some(BundleSource::WorkloadApi(path))
}

fn algorithms(entry: &Document<'_>, written: Option<&[String]>, findings: &mut Vec<Finding>) -> Vec<JwsAlgorithm> {
    let Some(written) = written else { return ALGORITHMS.to_vec() };
    if written.is_empty() {
        findings.push(entry.finding("algorithms", "name at least one"));
    }
    let known: Vec<_> = ALGORITHMS.iter().map(|algorithm| algorithm.as_str()).collect();
    let mut algorithms = Vec::with_capacity(written.len());
    for name in written {
        match JwsAlgorithm::parse(name).filter(|algorithm| ALGORITHMS.contains(algorithm)) {
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let reason = format!("{name:?} is none that JWT-SVIDs are verified with: {}", known.join(", "));
                findings.push(entry.finding("algorithms", reason));
            }
        }
    }
    algorithms
}
