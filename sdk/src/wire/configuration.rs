//! What is governed: the bundle in force, its history, and putting another one into force.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::problem::Finding;
use super::time::Timestamp;

/// `GET /v1/configuration`: the bundle in force. Its revision is the answer's `ETag`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Configuration {
    /// Where bundles come from: `files` or `api`.
    pub source: String,
    /// Its last publication.
    #[serde(flatten)]
    pub publication: Revision,
    /// Text by path, relative to the bundle.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// One publication of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Revision {
    /// Digest of the content.
    pub revision: String,
    /// When it was published.
    pub published_at: Timestamp,
    /// Who published it: `issuer:subject`, or `hallpass:local-administrator`.
    #[serde(default)]
    pub author: Option<String>,
    /// Who else agreed.
    #[serde(default)]
    pub approvers: Option<Vec<String>>,
    /// The revision before it.
    #[serde(default)]
    pub parent: Option<String>,
    /// Source commit, as far as the publisher's proof told it.
    #[serde(default)]
    pub commit: Option<String>,
    /// What it was published by: `start`, `reload`, `bootstrap`, `api` or `rollback`.
    #[serde(default)]
    pub occasion: Option<String>,
}

/// `GET /v1/configuration/revisions/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevisionDetail {
    /// Its last publication.
    #[serde(flatten)]
    pub publication: Revision,
    /// Text by path; none where it is no longer kept, or where a difference was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, String>>,
    /// What leads to it from the revision that `diff` named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// What leads from one revision to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Difference {
    /// The revision that it starts from.
    pub from: String,
    /// The files that differ, by path.
    pub files: Vec<FileDifference>,
}

/// How one file differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDifference {
    /// Path, relative to the bundle.
    pub path: String,
    /// `added`, `changed` or `removed`.
    pub change: String,
    /// A unified diff; none where there are too many files that differ.
    #[serde(default)]
    pub diff: Option<String>,
}

/// `PUT /v1/configuration`, with `If-Match` naming the revision that it replaces: the whole bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutConfiguration {
    /// Text by path, relative to the bundle.
    pub files: BTreeMap<String, String>,
}

/// What was published, or, with `dry_run`, what publishing would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Publication {
    /// Digest of the content.
    pub revision: String,
    /// The revision that it replaces.
    pub replaces: String,
    /// Whether this call put it into force: not a dry run, and not where it was in force already.
    pub published: bool,
    /// The files that differ.
    pub changes: FileChanges,
    /// What is not wrong with it and yet will refuse requests.
    #[serde(default)]
    pub warnings: Vec<Finding>,
    /// Everything by which it would widen the publisher's own rights, and would therefore be refused.
    #[serde(default)]
    pub widening: Vec<Finding>,
    /// What it bears on.
    pub touched: Touched,
}

/// The files that differ between two revisions, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileChanges {
    /// New ones.
    #[serde(default)]
    pub added: Vec<String>,
    /// With other content.
    #[serde(default)]
    pub changed: Vec<String>,
    /// No longer there.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// What a publication bears on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Touched {
    /// Roles that are new, gone or changed.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Policies that are new, gone or changed.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Pending and active grants of those roles or allowed by those policies.
    #[serde(default)]
    pub live_grants: u64,
}
