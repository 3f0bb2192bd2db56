//! Roles and the owners that answer for them.

use serde::{Deserialize, Serialize};

use super::grant::RevocationClass;
use super::time::{Duration, Timestamp};

/// `GET /v1/roles/{name}`: a named, owned description of a credential that may be minted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Role {
    /// Path-like name, such as `payments/prod/deploy`.
    pub name: String,
    /// Digest of the definition, as recorded with each grant.
    #[serde(default)]
    pub digest: Option<String>,
    /// Where it stands in its life.
    #[serde(default)]
    pub state: RoleState,
    /// Team that answers for it.
    pub owner: String,
    /// What the credential is for.
    #[serde(default)]
    pub description: String,
    /// Backend that mints.
    pub backend: String,
    /// Environment that the credential reaches.
    #[serde(default)]
    pub environment: Option<String>,
    /// How long a credential may live.
    pub ttl: TtlRule,
    /// What a caller must say of its purpose.
    #[serde(default)]
    pub purpose: PurposeRule,
    /// What revoking one of its credentials achieves.
    #[serde(default)]
    pub revocation_class: Option<RevocationClass>,
    /// The weakest revocation class that the role accepts.
    #[serde(default)]
    pub revocation_floor: Option<RevocationClass>,
    /// How often the owner must confirm that it is still needed.
    #[serde(default)]
    pub review_every: Option<Duration>,
    /// When it is next due for review.
    #[serde(default)]
    pub review_at: Option<Timestamp>,
    /// What it does in a pipeline: `read`, `plan`, `apply`, …
    #[serde(default)]
    pub stage: Option<String>,
    /// How much harm it could do, as the organisation ranks it.
    #[serde(default)]
    pub tier: Option<String>,
}

/// Where a role stands in its life. Only an active role mints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RoleState {
    /// Asked for, not yet agreed.
    Proposed,
    /// In use.
    #[default]
    Active,
    /// Held back for now.
    Suspended,
    /// Gone for good.
    Retired,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Default and longest life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TtlRule {
    /// Used when a request names none.
    pub default: Duration,
    /// Never exceeded.
    pub max: Duration,
}

/// What a caller must say of its purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PurposeRule {
    /// Whether a request must give one.
    pub required: bool,
    /// Used when a request gives none.
    pub default: Option<String>,
    /// Pattern that the whole purpose must match.
    pub pattern: Option<String>,
}

/// `GET /v1/owners/{name}`: a team that answers for roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Owner {
    /// Stable name.
    pub name: String,
    /// How to reach it.
    #[serde(default)]
    pub contacts: Vec<String>,
    /// Identities that belong to it.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Whether it still answers. Roles of an inactive owner cannot be minted.
    pub active: bool,
    /// Who takes over when it ends.
    #[serde(default)]
    pub successor: Option<String>,
    /// When somebody last confirmed this entry.
    #[serde(default)]
    pub verified_at: Option<Timestamp>,
}

/// One member of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// Issuer that the member proves itself with.
    pub issuer: String,
    /// Subject at that issuer.
    pub subject: String,
    /// Accounts at code hosts, such as `github:1234567`, that are the same person's.
    #[serde(default)]
    pub accounts: Vec<String>,
}
