//! What others signed about a change or a build, as the world sees it.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// A signed statement that came with the request for a grant, and what it said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Attestation {
    /// `sha256:` and the digest of what was signed. Grants can be selected by it.
    pub digest: String,
    /// Who signed it, by configured name.
    pub attestor: String,
    /// `slsa-provenance`, `review` or `plan`.
    pub kind: String,
    /// When what it tells of happened, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Who built it; of provenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// URL of the source; of provenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The commit that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Digests of what was built; of provenance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Who made the change, as `<host>:<account id>` or `<issuer>:<subject>`; of reviews and plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Who agreed to it; of reviews and plans.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// `sha256:` and the digest of the plan; of reviews and plans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<String>,
}
