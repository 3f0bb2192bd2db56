//! How a failure is told: the one place that knows the status codes of errors.
//!
//! Three surfaces speak differently of the same failure. `/v1` answers problems (RFC 9457). `/oauth2/token` answers
//! RFC 6749 §5.2, where a proof that is not acceptable is `invalid_request` (RFC 8693 §2.2.2). The rest of `/oauth2`
//! has a caller that proves itself in a header, and says `401` when it does not (RFC 7662 §2.3, RFC 6750 §3.1).

pub(in crate::http) mod told;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use hallpass_core::error::{Reason, Refusal, ServiceError};
use hallpass_core::finding::Finding;
use hallpass_core::id::RequestId;
use hallpass_core::time::Ttl;
use hallpass_sdk::wire::{PROBLEM_JSON, Problem};
use http::StatusCode;
use serde::Serialize;

use super::failure::{Failure, Fault, Unreadable};
use super::wire;

/// Code and `error` of a request whose proof of possession wants another nonce (RFC 9449 §8).
const USE_NONCE: &str = "use_dpop_nonce";

/// Who is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// `/v1` and everything that is not OAuth.
    V1,
    /// `/oauth2/token`.
    Token,
    /// The other endpoints of `/oauth2`.
    OAuth,
}

impl Surface {
    /// The surface that a path belongs to, whether or not there is such a path.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/oauth2/token" => Self::Token,
            path if path.starts_with("/oauth2/") => Self::OAuth,
            _ => Self::V1,
        }
    }
}

/// A failure on its way to the edge, which knows the surface and the request's id and tells it.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The answer of `/readyz` while the broker can do nothing.
pub(super) const NOT_READY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// Tells `failure` on `surface`. Headers that an answer already has, such as `Allow`, are the edge's to keep.
pub(super) fn tell(failure: &Failure, surface: Surface, request_id: RequestId) -> Response {
    let told = Told::of(failure, surface);
    let (content_type, body) = match surface {
        Surface::V1 => (PROBLEM_JSON, told.as_problem(request_id)),
        Surface::Token | Surface::OAuth => ("application/json", told.as_oauth_error()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = told.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(after) = told.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if told.status == StatusCode::UNAUTHORIZED {
        // RFC 6750 §3.1: without any proof the challenge has no error code. RFC 9449 §7.1: about keys it is of that scheme.
        let challenge = match told.code {
            "proof_missing" => r#"Bearer realm="hallpass", DPoP realm="hallpass""#,
            USE_NONCE => r#"DPoP realm="hallpass", error="use_dpop_nonce""#,
            "pop_invalid" => r#"DPoP realm="hallpass", error="invalid_dpop_proof""#,
            "pop_required" | "pop_mismatch" => r#"DPoP realm="hallpass", error="invalid_token""#,
            _ => r#"Bearer realm="hallpass", error="invalid_token""#,
        };
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

/// Code of a failure, for metrics and logs.
pub(super) fn code_of(failure: &Failure) -> &'static str {
    Told::of(failure, Surface::V1).code
}

/// What is said of a failure.
struct Told<'a> {
    status: StatusCode,
    code: &'static str,
    /// `error` of RFC 6749 §5.2.
    oauth: &'static str,
    detail: &'a str,
    step: Option<&'static str>,
    parameter: Option<&'a str>,
    retry_after: Option<Ttl>,
    findings: &'a [Finding],
}

impl<'a> Told<'a> {
    fn of(failure: &'a Failure, surface: Surface) -> Self {
        let told = Self::of_failure(failure, surface);
        match (surface, told.status) {
            // OAuth's clients know one status for "later".
            (Surface::Token | Surface::OAuth, StatusCode::GATEWAY_TIMEOUT) => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, ..told }
            }
            _ => told,
        }
    }

    fn of_failure(failure: &'a Failure, surface: Surface) -> Self {
        match failure {
            Failure::Service(error) => Self::service(error, surface),
            Failure::Unreadable(unreadable) => Self::unreadable(unreadable, surface),
            Failure::NoSuchEndpoint => {
                Self::plain(StatusCode::NOT_FOUND, "not_found", "invalid_request", "there is no such endpoint")
            }
            Failure::MethodNotAllowed => Self::plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "invalid_request",
                "this endpoint does not have that method",
            ),
            Failure::Misdirected => Self::plain(
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected_request",
                "invalid_request",
                "the request names another host than its connection",
            ),
            Failure::Overloaded => Self {
                retry_after: Some(Ttl::from_secs(1)),
                ..Self::plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "overloaded",
                    "temporarily_unavailable",
                    "too many requests are at work; try again in a moment",
                )
            },
            Failure::TimedOut => Self {
                retry_after: Some(Ttl::from_secs(1)),
                ..Self::plain(
                    StatusCode::GATEWAY_TIMEOUT,
                    "timed_out",
                    "temporarily_unavailable",
                    "the request took too long; repeat it under its `Idempotency-Key`, without which what it opened is ended",
                )
            },
            Failure::TooEarly => Self::plain(
                StatusCode::TOO_EARLY,
                "too_early",
                "temporarily_unavailable",
                "the request came in early data, which anybody can send again; send it once more after the handshake",
            ),
            Failure::NonceWanted => {
                let status = match surface {
                    Surface::Token => StatusCode::BAD_REQUEST,
                    Surface::V1 | Surface::OAuth => StatusCode::UNAUTHORIZED,
                };
                let detail = "make another DPoP proof, with the `nonce` that this answer's `DPoP-Nonce` has";
                Self::plain(status, USE_NONCE, USE_NONCE, detail)
            }
            Failure::Crashed => Self::plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "server_error",
                "the broker failed; its log has more under the request's id",
            ),
        }
    }

    const fn plain(status: StatusCode, code: &'static str, oauth: &'static str, detail: &'static str) -> Self {
        Self { status, code, oauth, detail, step: None, parameter: None, retry_after: None, findings: &[] }
    }

    fn service(error: &'a ServiceError, surface: Surface) -> Self {
        match error {
            ServiceError::Refused(refusal) => Self::refused(refusal, surface),
            ServiceError::NotFound => Self::plain(
                StatusCode::NOT_FOUND,
                Reason::NotFound.as_str(),
                "invalid_request",
                "there is nothing of that name that you may see",
            ),
            ServiceError::Conflict { reason, detail, retry_after } => Self {
                status: StatusCode::CONFLICT,
                code: reason.as_str(),
                // With a time to wait, the same request will do; without one, it will not.
                oauth: if retry_after.is_some() { "temporarily_unavailable" } else { "invalid_request" },
                detail,
                step: None,
                parameter: None,
                retry_after: *retry_after,
                findings: &[],
            },
            ServiceError::Unavailable { reason, detail, retry_after } => Self {
                status: unavailable(*reason),
                code: reason.as_str(),
                oauth: "temporarily_unavailable",
                detail,
                step: None,
                parameter: None,
                retry_after: Some(*retry_after),
                findings: &[],
            },
            ServiceError::Backend { reason, detail } => Self {
                status: StatusCode::BAD_GATEWAY,
                code: reason.as_str(),
                oauth: "server_error",
                detail,
                step: Some("backend"),
                parameter: None,
                retry_after: None,
                findings: &[],
            },
        }
    }

    fn refused(refusal: &'a Refusal, surface: Surface) -> Self {
        let (status, oauth) = match surface {
            Surface::V1 => (refused(refusal.reason), "invalid_request"),
            Surface::Token => refused_exchange(refusal.reason),
            Surface::OAuth => refused_oauth(refusal.reason),
        };
        Self {
            status,
            code: refusal.reason.as_str(),
            oauth,
            detail: &refusal.detail,
            step: Some(shown_step(refusal)),
            parameter: refusal.parameter.as_deref().map(|parameter| shown_parameter(refusal, parameter, surface)),
            retry_after: refusal.retry_after,
            findings: &refusal.findings,
        }
    }

    fn unreadable(unreadable: &'a Unreadable, surface: Surface) -> Self {
        let told = Self::refused(&unreadable.refusal, surface);
        match unreadable.fault {
            Fault::Content => told,
            Fault::Syntax => Self { status: StatusCode::BAD_REQUEST, ..told },
            Fault::MediaType => Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, ..told },
            Fault::Slow => Self { status: StatusCode::REQUEST_TIMEOUT, code: "body_too_slow", ..told },
            Fault::TooLarge => Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..told },
            Fault::GrantType => Self { oauth: "unsupported_grant_type", ..told },
        }
    }

    fn as_problem(&self, request_id: RequestId) -> Vec<u8> {
        let problem = Problem {
            type_uri: format!("urn:hallpass:problem:{}", self.code),
            title: title(self.code),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail.to_owned(),
            request_id: request_id.to_string(),
            step: self.step.map(str::to_owned),
            parameter: self.parameter.map(str::to_owned),
            findings: wire::findings(self.findings),
        };
        serde_json::to_vec(&problem).unwrap_or_default()
    }

    fn as_oauth_error(&self) -> Vec<u8> {
        let description = permitted(self.detail);
        let error = OAuthError {
            error: self.oauth,
            error_description: &description,
            reason: self.code,
            step: self.step,
            parameter: self.parameter,
        };
        serde_json::to_vec(&error).unwrap_or_default()
    }
}

/// RFC 6749 §5.2 and, beside it, what a problem would say.
#[derive(Serialize)]
struct OAuthError<'a> {
    error: &'a str,
    error_description: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
}

/// The step, but where it would tell a role that does not exist from one that is another's.
fn shown_step(refusal: &Refusal) -> &'static str {
    match refusal.reason {
        Reason::RoleNotAvailable => "role",
        _ => refusal.step.as_str(),
    }
}

/// On the token endpoint the role stands in `audience`.
fn shown_parameter<'a>(refusal: &Refusal, parameter: &'a str, surface: Surface) -> &'a str {
    match (surface, refusal.reason, parameter) {
        (Surface::Token, Reason::RoleNotAvailable, "role") => "audience",
        _ => parameter,
    }
}

/// `role_not_available` → `Role not available`.
fn title(code: &str) -> String {
    let mut words = code.replace('_', " ");
    if let Some(first) = words.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// What `error_description` may contain (RFC 6749 §5.2): printable ASCII without `"` and `\`.
fn permitted(text: &str) -> String {
    let replaced = |c: char| match c {
        '"' | '`' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().map(replaced).collect()
}

/// The status of a refusal on `/v1`.
const fn refused(reason: Reason) -> StatusCode {
    match reason {
        Reason::NotAJws
        | Reason::BadEncoding
        | Reason::MalformedHeader
        | Reason::MalformedClaims
        | Reason::DuplicateMember
        | Reason::CritUnsupported
        | Reason::WrongTokenType
        | Reason::UnknownIssuer
        | Reason::AlgNotAllowed
        | Reason::AlgKeyMismatch
        | Reason::UnknownKid
        | Reason::WeakKey
        | Reason::BadSignature
        | Reason::MissingClaim
        | Reason::ClaimConflict
        | Reason::Expired
        | Reason::NotYetValid
        | Reason::TokenTooOld
        | Reason::LifetimeTooLong
        | Reason::WrongAudience
        | Reason::Replayed
        | Reason::IssuedBeforeRestore
        | Reason::PopRequired
        | Reason::PopInvalid
        | Reason::PopMismatch
        | Reason::NotAllowedActor
        | Reason::ProofMissing
        | Reason::GrantEnded
        | Reason::BadSpiffeId
        | Reason::BadSvid
        | Reason::AmbiguousIssuer
        | Reason::UntrustedProxyHeader => StatusCode::UNAUTHORIZED,
        Reason::TokenTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::RoleNotAvailable
        | Reason::OwnerUnresolved
        | Reason::PolicyDenied
        | Reason::PolicyError
        | Reason::ObligationUnmet
        | Reason::Quarantined => StatusCode::FORBIDDEN,
        Reason::MalformedRequest
        | Reason::UnknownField
        | Reason::MissingPurpose
        | Reason::PurposePattern
        | Reason::BadCsr
        | Reason::BadAttestation
        | Reason::AttestationMismatch
        | Reason::IdempotencyConflict
        | Reason::NoTimeLeft
        | Reason::BackendMinTtl
        | Reason::RevocationFloor
        | Reason::ScopeNotGranted
        | Reason::BackendRefused => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::IdempotencyPending
        | Reason::IdempotencyExhausted
        | Reason::CannotExtend
        | Reason::StateConflict
        | Reason::BeingRevoked => StatusCode::CONFLICT,
        Reason::NotFound => StatusCode::NOT_FOUND,
        Reason::InvalidConfiguration => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::WidensOwnRights => StatusCode::FORBIDDEN,
        Reason::ConfigurationFromFiles => StatusCode::CONFLICT,
        Reason::RevisionRequired => StatusCode::PRECONDITION_REQUIRED,
        Reason::RevisionMoved => StatusCode::PRECONDITION_FAILED,
        Reason::JwksUnavailable
        | Reason::BackendUnavailable
        | Reason::BackendOutcomeUnknown
        | Reason::StoreUnavailable
        | Reason::ClockBehind
        | Reason::EntropyUnavailable
        | Reason::SigningUnavailable
        | Reason::AuditBackpressure
        | Reason::RateLimited
        | Reason::QuotaExceeded => unavailable(reason),
    }
}

/// The status of what does not answer.
const fn unavailable(reason: Reason) -> StatusCode {
    match reason {
        Reason::RateLimited | Reason::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        Reason::BackendOutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Status and `error` of a refusal on `/oauth2/token`. A reason about the proof or the request is `invalid_request`
/// (RFC 8693 §2.2.2), one about the role or policy is `invalid_target`.
fn refused_exchange(reason: Reason) -> (StatusCode, &'static str) {
    match (reason, refused(reason)) {
        (Reason::PopInvalid, _) => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
        (_, StatusCode::FORBIDDEN) | (Reason::RevocationFloor, _) => (StatusCode::BAD_REQUEST, "invalid_target"),
        (Reason::ScopeNotGranted, _) => (StatusCode::BAD_REQUEST, "invalid_scope"),
        (_, status) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            (status, "temporarily_unavailable")
        }
        (_, status @ (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::CONFLICT)) => (status, "invalid_request"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

/// Status and `error` of a refusal on the rest of `/oauth2`.
fn refused_oauth(reason: Reason) -> (StatusCode, &'static str) {
    match (reason, refused(reason)) {
        (Reason::ProofMissing, status) => (status, "invalid_client"),
        (Reason::PopInvalid, status) => (status, "invalid_dpop_proof"),
        (_, status @ StatusCode::UNAUTHORIZED) => (status, "invalid_token"),
        (_, status @ StatusCode::FORBIDDEN) => (status, "access_denied"),
        _ => refused_exchange(reason),
    }
}

#[cfg(test)]
mod tests;
