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
