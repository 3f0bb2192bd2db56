//! `POST /v1/decisions`: what would be decided, without minting or consuming a proof.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grant::{RevocationClass, Terms};
use super::secret::Secret;
use super::time::{Duration, Timestamp};

/// A question to policy.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// Role asked about.
    pub role: String,
    /// Purpose that would be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Life that would be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Ticket that would be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// What the credential would be narrowed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// Proof of who would act on the caller's behalf, as there. It is not used up.
    #[serde(default, with = "super::secret::expose_optional", skip_serializing_if = "Option::is_none")]
    pub actor_token: Option<Secret>,
    /// Whether whoever shows the certificate of this connection would act, as there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub actor_certificate: bool,
    /// Task of an agent that would be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Grant whose place the new one would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Signed statements that would come with the request, as there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<String>,
    /// Action asked about; `mint` when absent.
    #[serde(default = "mint")]
    pub action: String,
}

fn mint() -> String {
    "mint".to_owned()
}

impl DecisionRequest {
    /// Whether `role` could be minted for the caller.
    #[must_use]
    pub fn mint(role: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            purpose: None,
            ttl: None,
            ticket: None,
            scope: Vec::new(),
            actor_token: None,
            actor_certificate: false,
            task: None,
            replaces: None,
            attestations: Vec::new(),
            action: mint(),
        }
    }
}

/// What asking for the credential would come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DecisionAnswer {
    /// Allow or deny.
    pub outcome: Outcome,
    /// Digest of the policy revision that decided.
    pub policy_revision: String,
    /// Ids of the policies that determined the outcome.
    #[serde(default)]
    pub determining_policies: Vec<String>,
    /// The strictest of what those policies demand, by annotation name.
    #[serde(default)]
    pub obligations: BTreeMap<String, Value>,
    /// The resulting terms, when allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// How the credential could be stopped, when allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<RevocationClass>,
    /// When the broker would begin to end it, if it were opened now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at: Option<Timestamp>,
    /// The latest instant at which it could work, if it were opened now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The latest end that renewing could reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_expires_at: Option<Timestamp>,
    /// Stable code of the refusal, when denied: the one that asking for the credential would meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The refusal in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Allow or deny. There is no third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A permit held, no forbid did, and nothing else is in the way.
    Allow,
    /// Anything else.
    Deny,
}
