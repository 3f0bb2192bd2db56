//! The answers of STS and IAM, as far as they are read (their API references name every element).

use hallpass_core::secret::Secret;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ErrorResponse {
    pub(super) error: Option<ErrorDetail>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ErrorDetail {
    pub(super) code: String,
    pub(super) message: Option<String>,
}

/// Of `AssumeRole` and `AssumeRoleWithWebIdentity`.
#[derive(Debug, Deserialize)]
pub(super) struct Assumed {
    #[serde(rename = "AssumeRoleResult", alias = "AssumeRoleWithWebIdentityResult")]
    pub(super) result: AssumedResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AssumedResult {
    pub(super) credentials: Credentials,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Credentials {
    pub(super) access_key_id: String,
    #[serde(deserialize_with = "secret")]
    pub(super) secret_access_key: Secret,
    #[serde(deserialize_with = "secret")]
    pub(super) session_token: Secret,
    pub(super) expiration: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Caller {
    #[serde(rename = "GetCallerIdentityResult")]
    pub(super) result: CallerResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CallerResult {
    pub(super) arn: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GotRole {
    #[serde(rename = "GetRoleResult")]
    pub(super) result: GotRoleResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GotRoleResult {
    pub(super) role: Role,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Role {
    pub(super) role_id: String,
    /// JSON, percent-encoded.
    pub(super) assume_role_policy_document: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct GotRolePolicy {
    #[serde(rename = "GetRolePolicyResult")]
    pub(super) result: GotRolePolicyResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GotRolePolicyResult {
    /// JSON, percent-encoded.
    pub(super) policy_document: String,
}

/// An answer that says nothing but that it was done.
#[derive(Debug, Deserialize)]
pub(super) struct Done {}

#[derive(Debug, Deserialize)]
pub(super) struct ListedRolePolicies {
    #[serde(rename = "ListRolePoliciesResult")]
    pub(super) result: ListedRolePoliciesResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedRolePoliciesResult {
    pub(super) policy_names: Members<String>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) marker: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ListedAttachedPolicies {
    #[serde(rename = "ListAttachedRolePoliciesResult")]
    pub(super) result: ListedAttachedPoliciesResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedAttachedPoliciesResult {
    pub(super) attached_policies: Members<AttachedPolicy>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AttachedPolicy {
    pub(super) policy_arn: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ListedEntities {
    #[serde(rename = "ListEntitiesForPolicyResult")]
    pub(super) result: ListedEntitiesResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedEntitiesResult {
    #[serde(default)]
    pub(super) policy_users: Members<PolicyUser>,
    #[serde(default)]
    pub(super) policy_roles: Members<PolicyRole>,
    #[serde(default)]
    pub(super) is_truncated: bool,
    pub(super) marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyUser {
    pub(super) user_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyRole {
    pub(super) role_name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ListedAccessKeys {
    #[serde(rename = "ListAccessKeysResult")]
    pub(super) result: ListedAccessKeysResult,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedAccessKeysResult {
    pub(super) access_key_metadata: Members<AccessKey>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AccessKey {
    pub(super) access_key_id: String,
    pub(super) status: String,
}

/// How AWS writes a list.
#[derive(Debug, Deserialize)]
pub(super) struct Members<T> {
    #[serde(rename = "member", default = "Vec::new")]
    pub(super) members: Vec<T>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { members: Vec::new() }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}
