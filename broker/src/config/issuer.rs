//! Issuers: who signs the proofs that the broker accepts.

mod buildkite;
mod circleci;
mod github_actions;
mod gitlab;
mod google;
mod kind;
mod kubernetes;
mod oidc;
pub(crate) mod raw;
pub(crate) mod spiffe;
mod terraform_cloud;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hallpass_core::catalog::IssuerFacts;
use hallpass_core::id::IssuerName;
use hallpass_core::identity::{AcceptanceRules, PrincipalKind};
use hallpass_core::time::Ttl;

pub use self::kind::{IssuerKind, Standard};
pub use self::spiffe::{BundleSource, SpiffeIssuer};
use super::bundle::digest_of;

/// A configured issuer whose proofs are JWTs, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in policies, grants and the audit log.
    pub name: IssuerName,
    /// What it is.
    pub kind: IssuerKind,
    /// The `iss` of its proofs, compared byte for byte.
    pub url: String,
    /// What kind of caller its identities are.
    pub principal: PrincipalKind,
    /// Where its keys come from.
    pub keys: KeySource,
    /// What it signs with.
    pub algorithms: Vec<JwsAlgorithm>,
    /// `typ` headers that are acceptable: lower case, without `application/`. A proof without `typ` is acceptable.
    pub token_types: Vec<String>,
    /// What core enforces.
    pub rules: AcceptanceRules,
    /// Which claim fills which field of the provenance, by the field's wire name (`repository_id`, `ref`, …), where that
    /// is for the entry to say ([`IssuerKind::maps_claims`]).
    pub provenance: BTreeMap<String, String>,
    /// How its keys are kept fresh.
    pub refresh: KeyRefresh,
}

impl Issuer {
    /// What this revision says of the issuer, for comparing it with another.
    pub(crate) fn facts(&self) -> IssuerFacts {
        let (from, read) = ((&self.url, &self.keys, &self.algorithms), (&self.kind, &self.principal, &self.provenance));
        let trust = (from, read, &self.token_types, &self.rules);
        IssuerFacts { whole: digest_of(self), trust: digest_of(&trust) }
    }
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `{url}/.well-known/openid-configuration` names the `jwks_uri`.
    Discovery {
        /// Where `jwks_uri` may point besides the issuer's own origin: exact origins.
        jwks_origins: Vec<String>,
        /// Plain http, also to other hosts than loopback. Anybody on the path can then forge proofs.
        dangerous_allow_http: bool,
    },
    /// This URL, without discovery.
    JwksUri {
        /// Absolute URL.
        url: String,
        /// As in [`KeySource::Discovery`].
        dangerous_allow_http: bool,
    },
    /// These keys: the text of a JWK set.
    Inline(String),
    /// The keys in this file, read again when it changes.
    File(PathBuf),
}

/// How an issuer's keys are kept fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRefresh {
    /// Keys are fetched again after this long: a key that the issuer removed is refused within this time.
    pub max_age: Ttl,
    /// Never fetched more often than this, whatever key ids arrive; an unknown key id is remembered for as long.
    pub min_interval: Ttl,
    /// How long beyond `max_age` the last good keys serve while the issuer does not answer.
    pub grace: Ttl,
}

/// JWS algorithms that a proof may be signed with (RFC 7518 §3.1, RFC 8037). No HMAC and no `none`: the broker holds
/// no shared secrets with issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 §3.1 and RFC 8037")]
pub enum JwsAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl JwsAlgorithm {
    /// Every algorithm.
    pub const ALL: &'static [Self] = &[
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The JOSE name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The algorithm of this JOSE name, compared byte for byte.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.as_str() == name)
    }
}
