//! What the audit log says.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::time::Timestamp;

/// One entry of an audit log. `(log_id, sequence)` names it for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Log that it stands in; each replica appends to its own.
    pub log_id: String,
    /// Position in that log, from zero, without gaps.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// Who acted.
    pub actor: String,
    /// For whom, where that is another.
    #[serde(default)]
    pub on_behalf_of: Option<String>,
    /// What was done, such as `grant.open`.
    pub action: String,
    /// What it was done to.
    pub object: String,
    /// How it went.
    pub outcome: String,
    /// Stable reason code.
    #[serde(default)]
    pub reason: Option<String>,
    /// Id of the decision behind it.
    #[serde(default)]
    pub decision: Option<String>,
    /// Request that caused it, as in `X-Request-Id`.
    #[serde(default)]
    pub request_id: Option<String>,
    /// What ties several entries together.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// Whatever else was recorded. Never secret.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub detail: Map<String, Value>,
}

/// The query of `GET /v1/audit`. Every filter that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditQuery {
    /// Id of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Id of a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Where to go on, from [`super::Page::next_cursor`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most entries on a page, 500 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `GET /v1/audit/proof?entry=…` answered: an entry is in the log (RFC 9162 §2.1.3). Hashes are SHA-256 in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InclusionProof {
    /// Log that it is about.
    pub log_id: String,
    /// The entry's position.
    pub entry: u64,
    /// How many entries the log has that the proof is for.
    pub size: u64,
    /// The content of the entry's leaf; its hash is that of a zero byte and these bytes.
    pub leaf: String,
    /// The hash of the leaf.
    pub leaf_hash: String,
    /// Hashes beside the leaf's way up the tree, from its sibling on.
    pub hashes: Vec<String>,
    /// What they lead to.
    pub root: String,
    /// That root, signed: a checkpoint (C2SP tlog-checkpoint).
    pub checkpoint: String,
}

/// `GET /v1/audit/proof?from=…` answered: the log begins with what it was (RFC 9162 §2.1.4). Hashes are SHA-256 in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConsistencyProof {
    /// Log that it is about.
    pub log_id: String,
    /// How many entries it had.
    pub from: u64,
    /// How many entries it has that the proof is for.
    pub size: u64,
    /// Hashes from which both roots follow.
    pub hashes: Vec<String>,
    /// What it came to then.
    pub from_root: String,
    /// What it comes to now.
    pub root: String,
    /// The later root, signed: a checkpoint (C2SP tlog-checkpoint).
    pub checkpoint: String,
}

/// Shows that the opening of a grant is in the audit log, without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// Log that it is about.
    pub log_id: String,
    /// The entry's position in it.
    pub entry: u64,
    /// The content of the entry's leaf.
    pub leaf: String,
    /// Position, hashes and a signed checkpoint: a C2SP tlog-proof.
    pub proof: String,
}
