//! Roles: named, owned descriptions of credentials that may be minted.

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::credential::RevocationClass;
use crate::id::{BackendName, EnvironmentName, OwnerName, RoleName};
use crate::time::{Timestamp, Ttl};

/// A named, owned description of a credential that may be minted.
#[derive(Clone, Debug)]
pub struct Role {
    /// Path-like name.
    pub name: RoleName,
    /// Digest of the role's definition, recorded with each grant: lower-case hexadecimal SHA-256.
    pub digest: String,
    /// Team that answers for it.
    pub owner: OwnerName,
    /// What the credential is for, for people.
    pub description: String,
    /// Backend that mints.
    pub backend: BackendName,
    /// Environment that the credential reaches.
    pub environment: Option<EnvironmentName>,
    /// How long a credential may live.
    pub ttl: TtlRule,
    /// What a caller must say of its purpose.
    pub purpose: PurposeRule,
    /// How often the owner must confirm that the role is still needed.
    pub review_every: Option<Ttl>,
    /// When the role is next due for review.
    pub review_at: Option<Timestamp>,
    /// The weakest revocation class that the role accepts.
    pub revocation_floor: Option<RevocationClass>,
    /// Longest time that one workload may hold this role by re-exchanging without a pause.
    pub max_continuous: Option<Ttl>,
    /// Most grants of this role that may be live at once.
    pub max_live: Option<u32>,
    /// Where the role stands in its life.
    pub state: RoleState,
    /// What the role does in a pipeline: `read`, `plan`, `apply`, …
    pub stage: Option<String>,
    /// How much harm the role could do, as the organisation ranks it.
    pub tier: Option<String>,
    /// What the credential reaches, in the backend's words, for people and reports.
    pub target: Option<String>,
    /// The table of the backend's kind, as written; the backend validates it at load and reads it at issue.
    pub parameters: serde_json::Value,
}

/// Default and longest life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlRule {
    /// Used when a request names none.
    pub default: Ttl,
    /// Never exceeded.
    pub max: Ttl,
}

/// What a caller must say of its purpose.
#[derive(Clone, Debug, Default)]
pub struct PurposeRule {
    /// Used when a request gives none; with it the purpose is not required.
    pub default: Option<String>,
    /// Pattern that the whole purpose must match.
    pub pattern: Option<Regex>,
}

/// Where a role stands in its life. Only an active role mints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl RoleState {
    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Retired => "retired",
        }
    }
}
