//! Who asks, and from which change.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::time::Timestamp;

/// A verified workload or operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Identity {
    /// Name of the configured issuer that vouches for it.
    pub issuer: String,
    /// What kind of thing it is, such as `workload` or `operator`.
    pub kind: String,
    /// Subject at that issuer, compared byte for byte.
    pub subject: String,
    /// What else the issuer says of it.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub attributes: Map<String, Value>,
}

/// Somebody who acts for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Acting {
    /// Name of the configured issuer that vouches for it.
    pub issuer: String,
    /// What kind of thing it is, such as `agent`.
    pub kind: String,
    /// Subject at that issuer.
    pub subject: String,
}

/// A key that somebody is bound to: who has it shows it with each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Binding {
    /// How it is shown: `dpop` (RFC 9449) or `mtls` (RFC 8705).
    pub by: String,
    /// Its SHA-256 thumbprint in base64url: of the JWK (RFC 7638), or of the certificate.
    pub thumbprint: String,
}

/// What a proof says of the change and the run behind a request (the term is SLSA's).
///
/// Every field is optional: an issuer fills what it vouches for. Ids are immutable at the code host, names are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Provenance {
    /// Repository as `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Immutable id of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// Immutable id of the repository's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_owner_id: Option<String>,
    /// Git reference, such as `refs/heads/main`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Whether the code host protects that reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_protected: Option<bool>,
    /// Commit that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Name of the workflow or pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// File and reference of the workflow that defines the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_ref: Option<String>,
    /// Id of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Attempt of that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<String>,
    /// Job within the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Name of the account that started the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Immutable id of that account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<String>,
    /// Event that started the run, such as `push` or `pull_request`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Pull or merge request number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<String>,
    /// Deployment environment that the job runs in, as the code host knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Kind of runner, such as `github-hosted` or `self-hosted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// Digests of verified build attestations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attestation_digests: Vec<String>,
}

/// `GET /v1/whoami`: what the broker sees of the caller's proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    /// Name of the configured issuer that vouches for the caller.
    pub issuer: String,
    /// What kind of thing the caller is, such as `workload` or `operator`.
    pub kind: String,
    /// Subject at that issuer.
    pub subject: String,
    /// What else the issuer says of the caller.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub attributes: Map<String, Value>,
    /// From which change and run the caller asks.
    #[serde(default)]
    pub provenance: Provenance,
    /// Key that the caller is bound to: its possession was shown with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// The proof itself, without its content.
    pub proof: ProofSummary,
    /// Groups that the caller belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A proof without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProofSummary {
    /// Its id: the `jti`, or a digest where the issuer gives none.
    pub id: String,
    /// Id of the key that signed it.
    #[serde(default)]
    pub key_id: Option<String>,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Whom it is meant for.
    #[serde(default)]
    pub audiences: Vec<String>,
}
