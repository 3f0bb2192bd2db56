//! What callers send to `/v1/grants`. A field that is not known is an error, never ignored.

use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::time::Duration;

/// `POST /v1/grants`.
///
/// Only `role` is needed by the type; `purpose` is needed too, unless the role has a default for it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateGrant {
    /// Role wanted, such as `payments/prod/deploy`.
    pub role: String,
    /// Why, in words that an owner will understand later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// How long; the role's default when absent. Bounded by role, policy, backend and others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Ticket or change reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Narrows what the credential may do, in the backend's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// PKCS #10 request in PEM, so that the private key stays with the caller (x509); an SSH public key (ssh).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<String>,
    /// Asks to be decided by the permits for an exception.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<ExceptionRequest>,
    /// Signed statements about the change or the build behind the request: at most 8 DSSE envelopes, each as JSON text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<String>,
    /// Proof of who acts on the caller's behalf (RFC 8693 §4.1). Keys that are shown with the request are the actor's, and what
    /// is minted is bound to them; a proof of either that is bound (`cnf`) is accepted with its own key alone.
    #[serde(default, with = "super::secret::expose_optional", skip_serializing_if = "Option::is_none")]
    pub actor_token: Option<Secret>,
    /// Whether whoever shows the certificate of this connection acts on the caller's behalf, by an X.509-SVID, in place of
    /// an `actor_token`. The caller's own proof is then in `Authorization`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub actor_certificate: bool,
    /// Task of an agent that this grant belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Events that end the grant before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_when: Option<EndsWhen>,
    /// Id of the caller's earlier grant that this one replaces. It begins to end, with the cause `replaced`, when the
    /// new one becomes active; a request that fails leaves it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Whether the answer carries a receipt from the audit log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub receipt: bool,
}

impl CreateGrant {
    /// A request for `role` for the given `purpose`, and nothing else asked.
    #[must_use]
    pub fn new(role: impl Into<String>, purpose: impl Into<String>) -> Self {
        Self { role: role.into(), purpose: Some(purpose.into()), ..Self::default() }
    }

    /// Asks for this life.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Names a ticket or change.
    #[must_use]
    pub fn ticket(mut self, ticket: impl Into<String>) -> Self {
        self.ticket = Some(ticket.into());
        self
    }
}

/// Asks for a time-bound, reviewed deviation from policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExceptionRequest {
    /// Kind, such as `break_glass`.
    pub kind: String,
    /// Why, for the review that follows.
    pub reason: String,
}

/// Events that end a grant before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct EndsWhen {
    /// When the run that asked is over.
    #[serde(skip_serializing_if = "is_false")]
    pub run: bool,
    /// When the ticket is closed.
    #[serde(skip_serializing_if = "is_false")]
    pub ticket: bool,
    /// When the environment ends.
    #[serde(skip_serializing_if = "is_false")]
    pub environment: bool,
    /// When no heartbeat came for this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Duration>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// `POST /v1/grants/{id}/renew`. The proof must be fresh; no new credential is returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// How long from now; the role's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

/// `POST /v1/grants/{id}/revoke`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/grants/{id}/abandon`: gives up on undoing one grant by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AbandonRequest {
    /// Why it may be given up. Required: the credential may still work.
    pub reason: String,
}
