//! From which change, and by which run, a credential was asked for.

use serde::{Deserialize, Serialize};

/// What a proof says of the change and the run behind a request (the term is SLSA's).
///
/// Every field is optional: an issuer fills what it vouches for. Ids are immutable at the code host, names are not;
/// policy should bind to ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provenance {
    /// Repository as `owner/name`. May be renamed, transferred or recreated.
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
    /// Pull or merge request number; [`Provenance::UNNUMBERED`] where the issuer does not say which it is.
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

impl Provenance {
    /// Stands for the number of a pull or merge request of which nothing but that it is one is said.
    pub const UNNUMBERED: &'static str = "unnumbered";
}
