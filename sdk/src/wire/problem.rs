//! How `/v1` says no (RFC 9457).

use serde::{Deserialize, Serialize};

/// Media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal or failure on `/v1`. `code` is stable; `title` and `detail` are for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Stable URI of the kind of problem.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind of problem, in words.
    pub title: String,
    /// HTTP status, repeated.
    pub status: u16,
    /// Stable short name of the kind of problem.
    pub code: String,
    /// What is wrong with this request.
    #[serde(default)]
    pub detail: String,
    /// Where the full reason stands in the audit log.
    #[serde(default)]
    pub request_id: String,
    /// Which step refused, such as `authenticate` or `decide`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Which claim or parameter of the caller's own was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The places in the caller's own files that were wrong, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// Something wrong in a file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// Path, relative to the bundle.
    pub file: String,
    /// Line, from 1, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is wrong, and what would be right.
    pub reason: String,
}
