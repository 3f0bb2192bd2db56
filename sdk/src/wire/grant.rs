//! The durable record of a credential: who asked, why, by which rule, until when and how it ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attestation::Attestation;
use super::audit::Receipt;
use super::credential::Credential;
use super::identity::{Acting, Binding, Identity, Provenance};
use super::time::{Duration, Timestamp};

/// A grant. `null` in an optional field means that it has not happened or does not apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: GrantState,
    /// Role that it is of, such as `payments/prod/deploy`.
    pub role: String,
    /// Name of the backend that mints.
    pub backend: String,
    /// Environment that the credential reaches.
    #[serde(default)]
    pub environment: Option<String>,
    /// Name of the team that answers for the role, when the grant was decided.
    pub owner: String,
    /// How to reach that team, as of the same moment.
    #[serde(default)]
    pub owner_contacts: Vec<String>,
    /// Why it was wanted, in words.
    pub purpose: String,
    /// Ticket or change reference.
    #[serde(default)]
    pub ticket: Option<String>,
    /// What an agent was asked to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What the credential reaches, in the backend's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Who asked.
    pub identity: Identity,
    /// `jti` of the proof that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_id: Option<String>,
    /// Id of the key that verified that proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_key_id: Option<String>,
    /// Key that its holder is bound to: nobody renews or ends it as its holder who does not show it. A token of the broker's
    /// own is bound to it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,
    /// From which change and run.
    #[serde(default)]
    pub provenance: Provenance,
    /// By which rule.
    pub decision: DecisionSummary,
    /// Who agreed.
    #[serde(default)]
    pub approvals: Vec<Approval>,
    /// On what terms.
    #[serde(default)]
    pub terms: Terms,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When its credential was handed out.
    #[serde(default)]
    pub activated_at: Option<Timestamp>,
    /// When the broker begins to end it.
    pub end_at: Timestamp,
    /// Latest instant at which the credential can still work.
    pub expires_at: Timestamp,
    /// Renewal never goes past this.
    #[serde(default)]
    pub max_expires_at: Option<Timestamp>,
    /// When it was over.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Why it ended or is ending. An open set of words.
    #[serde(default)]
    pub cause: Option<String>,
    /// When its holder was last heard of.
    #[serde(default)]
    pub last_seen_at: Option<Timestamp>,
    /// How it can be stopped, and how far that has come.
    pub revocation: Revocation,
    /// What was signed about the change or the build behind it, and came with the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<Attestation>,
    /// Who acts for `identity`, the one who holds the credential first (RFC 8693 §4.1). Empty where nobody does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Acting>,
    /// Grant that it was delegated from: it ends when that does.
    #[serde(default)]
    pub parent: Option<String>,
    /// Grant that it took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Related resources: relation to URL.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

/// Where a grant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// Recorded, not yet minted.
    Pending,
    /// Its credential is out and works.
    Active,
    /// Being undone; see [`Revocation`] for whether the credential may still work.
    Revoking,
    /// Undone, and the backend confirmed it.
    Revoked,
    /// Its time ran out.
    Expired,
    /// The backend refused before any effect.
    Failed,
    /// An operator gave up on undoing it, with a reason.
    Abandoned,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

impl GrantState {
    /// The word used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Unknown => "unknown",
        }
    }

    /// Whether nothing more will happen to the grant.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::Failed | Self::Abandoned)
    }
}

/// The decision behind a grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DecisionSummary {
    /// Id of the recorded decision, as in the audit log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Digest of the policy revision that decided.
    pub policy_revision: String,
    /// Ids of the policies that determined the outcome.
    pub determining_policies: Vec<String>,
    /// The strictest of what those policies demand, by annotation name.
    pub obligations: BTreeMap<String, Value>,
}

/// One person's word for a grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approval {
    /// Who approved.
    pub approver: Identity,
    /// When.
    pub time: Timestamp,
    /// Digest of exactly what was approved.
    #[serde(default)]
    pub digest: Option<String>,
}

/// What was granted, after every bound was applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Terms {
    /// How long the credential may live.
    pub ttl: Option<Duration>,
    /// Which bound won, by its name in `bounds`.
    pub bound: Option<String>,
    /// Every bound on the life, by name, such as `request`, `role`, `policy`.
    pub bounds: BTreeMap<String, Duration>,
    /// Scope of the credential.
    pub scope: Vec<String>,
    /// The grant ends when no sign of life came for this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Duration>,
    /// The backend's parameters as rendered for this grant. Never secret.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub parameters: Map<String, Value>,
}

/// How a credential can be stopped, and how far that has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Revocation {
    /// What revoking achieves.
    pub class: RevocationClass,
    /// When a rule began to hold the credential (class `fenced`).
    #[serde(default)]
    pub fenced_at: Option<Timestamp>,
    /// When the backend confirmed that it is gone.
    #[serde(default)]
    pub confirmed_at: Option<Timestamp>,
    /// How often undoing has been tried.
    #[serde(default)]
    pub attempts: u64,
    /// When it is tried again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// What the last try failed with.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Seconds for which the credential has been able, or will be able, to work after it should have ended.
    #[serde(default)]
    pub exposure_seconds: Option<u64>,
}

/// What revoking a credential achieves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RevocationClass {
    /// The backend kills it now.
    Hard,
    /// A rule that verifiers consult holds it until it expires.
    Fenced,
    /// Nothing but time ends it.
    ExpiryOnly,
    /// A class that this version does not know.
    #[serde(other)]
    Unknown,
}

impl RevocationClass {
    /// The word used on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Fenced => "fenced",
            Self::ExpiryOnly => "expiry_only",
            Self::Unknown => "unknown",
        }
    }
}

/// `201` of `POST /v1/grants`: the only time that the credential is seen.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateGrantResponse {
    /// The record.
    pub grant: Grant,
    /// The credential.
    pub credential: Credential,
    /// What shows that the opening is in the audit log, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// `202` of `POST /v1/grants`: somebody must agree first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessRequestResponse {
    /// The waiting request.
    pub access_request: AccessRequest,
}

/// A request that waits for approval. Approved, it is claimed with a fresh proof and becomes a grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AccessRequest {
    /// Its id.
    pub id: String,
    /// Where it stands, such as `pending`, `approved` or `rejected`.
    #[serde(default)]
    pub state: Option<String>,
    /// Everything else that the broker says of it.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub details: Map<String, Value>,
}
