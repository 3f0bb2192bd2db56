//! Why something was refused, and how a use-case fails. Transport turns these into status codes in one place.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::time::Ttl;

/// Which step of a request refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The request itself: its shape and its parameters.
    Request,
    /// The proof: its form, its signature, its claims.
    Proof,
    /// The role, its owner and its purpose rule.
    Role,
    /// The policy decision.
    Policy,
    /// The terms that a credential could have: its life and its revocation class.
    Terms,
    /// The backend that mints.
    Backend,
    /// The bundle that is to be published.
    Configuration,
}

impl Step {
    /// The word used on the wire and in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Proof => "proof",
            Self::Role => "role",
            Self::Policy => "policy",
            Self::Terms => "terms",
            Self::Backend => "backend",
            Self::Configuration => "configuration",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why a request was refused or failed. Codes are stable: people alert on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code used on the wire and in the audit log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

reasons! {
    // The form of a proof.
    /// Longer than the broker reads.
    TokenTooLarge = "token_too_large",
    /// Not three base64url parts joined by dots.
    NotAJws = "not_a_jws",
    /// A part is not canonical base64url without padding.
    BadEncoding = "bad_encoding",
    /// The header is not one strict JSON object of the expected members.
    MalformedHeader = "malformed_header",
    /// The claims are not one strict JSON object of the expected types.
    MalformedClaims = "malformed_claims",
    /// A member appears twice.
    DuplicateMember = "duplicate_member",
    /// A `crit` header: no critical extension is understood.
    CritUnsupported = "crit_unsupported",
    /// The kind of token is not acceptable here.
    WrongTokenType = "wrong_token_type",
    // Who signed it.
    /// No configured issuer has this name.
    UnknownIssuer = "unknown_issuer",
    /// The issuer does not sign with this algorithm.
    AlgNotAllowed = "alg_not_allowed",
    /// The key named is of another algorithm.
    AlgKeyMismatch = "alg_key_mismatch",
    /// The issuer publishes no such key.
    UnknownKid = "unknown_kid",
    /// The key is too weak or malformed.
    WeakKey = "weak_key",
    /// The signature does not verify.
    BadSignature = "bad_signature",
    /// The issuer's keys cannot be had, or not freshly enough.
    JwksUnavailable = "jwks_unavailable",
    // What it says.
    /// A required claim is absent or empty.
    MissingClaim = "missing_claim",
    /// Two claims contradict each other.
    ClaimConflict = "claim_conflict",
    /// Past its expiry.
    Expired = "expired",
    /// Not valid yet.
    NotYetValid = "not_yet_valid",
    /// Issued too long ago.
    TokenTooOld = "token_too_old",
    /// Valid for longer than the issuer's setting allows.
    LifetimeTooLong = "lifetime_too_long",
    /// Meant for somebody else.
    WrongAudience = "wrong_audience",
    /// Used before.
    Replayed = "replayed",
    /// May have been used before: the record of such uses was put back to an older one.
    IssuedBeforeRestore = "issued_before_restore",
    /// Bound to a key whose possession was not shown.
    PopRequired = "pop_required",
    /// The proof of possession of a key does not hold for this request.
    PopInvalid = "pop_invalid",
    /// Possession was shown of another key than the one that it is bound to.
    PopMismatch = "pop_mismatch",
    /// Says that somebody acts for another; delegation is not configured.
    NotAllowedActor = "not_allowed_actor",
    /// No proof was given.
    ProofMissing = "proof_missing",
    /// The credential that was used as proof has ended.
    GrantEnded = "grant_ended",
    /// The name of the workload is no SPIFFE ID.
    BadSpiffeId = "bad_spiffe_id",
    /// The certificate is no X.509-SVID of its trust domain, or not now.
    BadSvid = "bad_svid",
    /// Several configured issuers could have signed it.
    AmbiguousIssuer = "ambiguous_issuer",
    /// The header that a proxy passes a certificate on in came from somebody who is no such proxy.
    UntrustedProxyHeader = "untrusted_proxy_header",
    // The request.
    /// A parameter is missing, repeated, or has the wrong form.
    MalformedRequest = "malformed_request",
    /// A field that this version does not know or does not act on.
    UnknownField = "unknown_field",
    /// No purpose, or one that says nothing.
    MissingPurpose = "missing_purpose",
    /// The purpose does not match the role's pattern.
    PurposePattern = "purpose_pattern",
    /// An attestation does not verify, is not what its signer may vouch for, or is too old.
    BadAttestation = "bad_attestation",
    /// An attestation is about another change than the proof, or than another attestation.
    AttestationMismatch = "attestation_mismatch",
    /// The certificate request is malformed, unsigned or asks with a weak key.
    BadCsr = "bad_csr",
    /// The same idempotency key came with another request.
    IdempotencyConflict = "idempotency_conflict",
    /// The first request with this idempotency key is still running.
    IdempotencyPending = "idempotency_pending",
    /// This idempotency key has been repeated too often.
    IdempotencyExhausted = "idempotency_exhausted",
    // The decision.
    /// The role is unknown, or not this identity's.
    RoleNotAvailable = "role_not_available",
    /// The role's owner does not resolve.
    OwnerUnresolved = "owner_unresolved",
    /// Policy said no.
    PolicyDenied = "policy_denied",
    /// Policy could not be evaluated.
    PolicyError = "policy_error",
    /// Policy asks for something this request cannot give, such as an approval.
    ObligationUnmet = "obligation_unmet",
    /// A revocation that is running selects this grant.
    BeingRevoked = "being_revoked",
    /// A quarantine stops grants like this.
    Quarantined = "quarantined",
    // The terms.
    /// No time is left under some bound.
    NoTimeLeft = "no_time_left",
    /// The backend cannot make a credential that short.
    BackendMinTtl = "backend_min_ttl",
    /// A scope was asked for that the role does not give.
    ScopeNotGranted = "scope_not_granted",
    /// The backend's revocation is weaker than the role accepts.
    RevocationFloor = "revocation_floor",
    // What happened later.
    /// The backend refused.
    BackendRefused = "backend_refused",
    /// The backend does not answer.
    BackendUnavailable = "backend_unavailable",
    /// The backend's answer was lost or late; the credential, if there is one, is being undone.
    BackendOutcomeUnknown = "backend_outcome_unknown",
    /// The backend cannot extend a credential; open a new grant.
    CannotExtend = "cannot_extend",
    /// The grant is not in a state that allows this.
    StateConflict = "state_conflict",
    /// The store does not answer.
    StoreUnavailable = "store_unavailable",
    /// The broker's clock is behind.
    ClockBehind = "clock_behind",
    /// The system's random generator failed.
    EntropyUnavailable = "entropy_unavailable",
    /// A signing key failed.
    SigningUnavailable = "signing_unavailable",
    /// Nothing there, or not the caller's to see.
    NotFound = "not_found",
    /// The audit log is not taken away as fast as it grows.
    AuditBackpressure = "audit_backpressure",
    /// Too many at once or in a short time.
    RateLimited = "rate_limited",
    // The configuration.
    /// The bundle has something wrong in it.
    InvalidConfiguration = "invalid_configuration",
    /// The publication would widen the publisher's own rights.
    WidensOwnRights = "widens_own_rights",
    /// Bundles come from files, not over the API.
    ConfigurationFromFiles = "configuration_from_files",
    /// The request does not say which revision it is meant to replace.
    RevisionRequired = "revision_required",
    /// Another revision is in force than the one that the request is meant to replace.
    RevisionMoved = "revision_moved",
    /// The owner or the role has as many live grants as it may have.
    QuotaExceeded = "quota_exceeded",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A refusal, with its two audiences kept apart: the caller and the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which step refused.
    pub step: Step,
    /// Stable code.
    pub reason: Reason,
    /// The claim or parameter of the caller's own that was wrong.
    pub parameter: Option<String>,
    /// What was wrong and what would be right, for the caller. Never another's configuration or a policy's text;
    /// before a signature has verified, nothing of the token either.
    pub detail: String,
    /// The full reason, for the audit log only.
    pub internal: Option<String>,
    /// The code for the audit log, where the caller must not learn which of two reasons it was.
    pub audit_reason: Option<Reason>,
    /// Whether the proof's signature had verified: such refusals are audited each, earlier ones within a budget.
    pub signature_verified: bool,
    /// The places in the caller's own files that were wrong.
    pub findings: Vec<Finding>,
    /// When the same request could do, where that is known.
    pub retry_after: Option<Ttl>,
}

impl Refusal {
    /// A refusal at `step` for `reason`.
    #[must_use]
    pub fn new(step: Step, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            step,
            reason,
            parameter: None,
            detail: detail.into(),
            internal: None,
            audit_reason: None,
            signature_verified: false,
            findings: Vec::new(),
            retry_after: None,
        }
    }

    /// A refusal of the proof.
    #[must_use]
    pub fn proof(reason: Reason, detail: impl Into<String>) -> Self {
        Self::new(Step::Proof, reason, detail)
    }

    /// A refusal of the request's own shape.
    #[must_use]
    pub fn request(reason: Reason, parameter: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Step::Request, reason, detail).about(parameter)
    }

    /// Names the claim or parameter that was wrong.
    #[must_use]
    pub fn about(mut self, parameter: impl Into<String>) -> Self {
        self.parameter = Some(parameter.into());
        self
    }

    /// Adds what only the audit log may know.
    #[must_use]
    pub fn because(mut self, internal: impl Into<String>) -> Self {
        self.internal = Some(internal.into());
        self
    }

    /// Says that the proof's signature had verified.
    #[must_use]
    pub fn after_signature(mut self) -> Self {
        self.signature_verified = true;
        self
    }

    /// Adds the places in the caller's own files that were wrong.
    #[must_use]
    pub fn with_findings(mut self, findings: Vec<Finding>) -> Self {
        self.findings = findings;
        self
    }

    /// Says when the same request could do.
    #[must_use]
    pub fn after(mut self, wait: Ttl) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Gives the audit log another code than the caller.
    #[must_use]
    pub fn recorded_as(mut self, reason: Reason) -> Self {
        self.audit_reason = Some(reason);
        self
    }
}

/// How a use-case fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Refused: repeating the same request will not help.
    #[error("refused at {}: {}", .0.step.as_str(), .0.reason)]
    Refused(Refusal),
    /// Nothing there, or not the caller's to see.
    #[error("not found")]
    NotFound,
    /// The thing is in a state that does not allow this.
    #[error("conflict: {reason}")]
    Conflict {
        /// Stable code.
        reason: Reason,
        /// What is in the way, for the caller.
        detail: String,
        /// When trying again could help.
        retry_after: Option<Ttl>,
    },
    /// A part of the broker or a backend does not answer; trying again later can help.
    #[error("unavailable: {reason}")]
    Unavailable {
        /// Stable code.
        reason: Reason,
        /// What is unwell, for the caller.
        detail: String,
        /// When trying again could help.
        retry_after: Ttl,
    },
    /// The backend refused or answered something unusable.
    #[error("backend: {reason}")]
    Backend {
        /// Stable code.
        reason: Reason,
        /// Which backend and why, without its internals.
        detail: String,
    },
}

impl ServiceError {
    /// Stable code of the failure.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Refused(refusal) => refusal.reason,
            Self::NotFound => Reason::NotFound,
            Self::Conflict { reason, .. } | Self::Unavailable { reason, .. } | Self::Backend { reason, .. } => *reason,
        }
    }

    /// A part that does not answer; worth trying again in a second.
    #[must_use]
    pub fn unavailable(reason: Reason, detail: impl Into<String>) -> Self {
        Self::Unavailable { reason, detail: detail.into(), retry_after: Ttl::from_secs(1) }
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<crate::entropy::EntropyUnavailable> for ServiceError {
    fn from(error: crate::entropy::EntropyUnavailable) -> Self {
        Self::unavailable(Reason::EntropyUnavailable, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_codes_are_unique() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
