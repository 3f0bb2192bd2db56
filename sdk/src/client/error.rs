//! What can go wrong, typed by what a caller can do about it.

use std::fmt;
use std::time::Duration;

use super::proof::ProofError;
use crate::wire::{AccessRequest, Finding, Problem, TokenError};

/// A call that did not give what was asked. No error carries a proof or a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client cannot be built so.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// No proof could be had, so nothing was sent.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The broker refused, with a problem document (RFC 9457).
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The broker's OAuth side refused (RFC 6749 §5.2).
    #[error(transparent)]
    TokenRefused(Box<TokenRefusal>),
    /// Somebody must approve first; the request waits under this id.
    #[error("approval is needed: access request {} waits for it", .0.id)]
    ApprovalNeeded(Box<AccessRequest>),
    /// No whole answer came. Whether the broker acted is not known, unless connecting itself failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An answer that is not of the contract: most likely something between us and the broker spoke.
    #[error("answer {status} is not one of a Hallpass broker: {reason}")]
    Unexpected {
        /// HTTP status.
        status: u16,
        /// What is wrong with it; never its content.
        reason: String,
        /// `X-Request-Id`, where there is one.
        request_id: Option<String>,
    },
}

/// What an [`Error`] means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client is set up wrongly.
    Configuration,
    /// There is no proof, or it was not accepted.
    Proof,
    /// Policy said no, or wants an approval first.
    Denied,
    /// It does not exist, or is not the caller's to see.
    NotFound,
    /// The state of the thing does not allow it.
    Conflict,
    /// The request is wrong.
    Invalid,
    /// Broker or backend cannot be reached or cannot act now.
    Unavailable,
    /// Anything else.
    Other,
}

impl Error {
    /// What the error means for the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Configuration(_) => ErrorKind::Configuration,
            Self::Proof(_) => ErrorKind::Proof,
            Self::Refused(refusal) => kind_of_status(refusal.problem.status),
            Self::TokenRefused(refusal) => match refusal.error.error.as_str() {
                "invalid_target" | "access_denied" | "unauthorized_client" => ErrorKind::Denied,
                "invalid_client" => ErrorKind::Proof,
                "temporarily_unavailable" => ErrorKind::Unavailable,
                _ => kind_of_status(refusal.status),
            },
            Self::ApprovalNeeded(_) => ErrorKind::Denied,
            Self::Transport(_) => ErrorKind::Unavailable,
            Self::Unexpected { status, .. } => kind_of_status(*status),
        }
    }

    /// The broker's stable code for the refusal, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.problem.code),
            Self::TokenRefused(refusal) => Some(&refusal.error.error),
            _ => None,
        }
    }

    /// The places in the caller's own files that were wrong.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Refused(refusal) => &refusal.problem.findings,
            _ => &[],
        }
    }

    /// Whether the broker's audit log tells of the refusal. It does of what a step refused; of a name that is nobody's to
    /// see, of an endpoint that is not there, and of a caller that asks too often it has nothing.
    #[must_use]
    pub fn is_on_record(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.problem.step.is_some())
    }

    /// The request's id, where there is one: in the broker's traces, and in its audit log where [`Self::is_on_record`].
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(refusal.problem.request_id.as_str()).filter(|id| !id.is_empty()),
            Self::TokenRefused(refusal) => refusal.request_id.as_deref(),
            Self::Unexpected { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Proof,
        403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Conflict,
        400 | 405 | 413 | 415 | 422 | 428 => ErrorKind::Invalid,
        429 | 502 | 503 | 504 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// A refusal on `/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the broker said.
    pub problem: Problem,
    /// How long to wait before asking again, where it said so.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { title, code, detail, step, parameter, .. } = &self.problem;
        write!(f, "{title} ({code})")?;
        if !detail.is_empty() {
            write!(f, ": {detail}")?;
        }
        if let Some(step) = step {
            write!(f, "; refused by step {step}")?;
        }
        if let Some(parameter) = parameter {
            write!(f, "; see {parameter}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// A refusal on `/oauth2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRefusal {
    /// HTTP status.
    pub status: u16,
    /// What the broker said.
    pub error: TokenError,
    /// `X-Request-Id`.
    pub request_id: Option<String>,
    /// How long to wait before asking again, where it said so.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error.error_description {
            Some(description) => write!(f, "{}: {description}", self.error.error),
            None => f.write_str(&self.error.error),
        }
    }
}

impl std::error::Error for TokenRefusal {}

/// No whole answer came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Nothing was sent: no connection, or no TLS that we trust.
    #[error("the broker cannot be reached")]
    Connect(#[source] reqwest::Error),
    /// The deadline passed.
    #[error("no answer within the deadline")]
    Timeout(#[source] reqwest::Error),
    /// The exchange broke off.
    #[error("the connection broke off")]
    Interrupted(#[source] reqwest::Error),
    /// The answer is larger than any that the contract knows.
    #[error("the answer is too large")]
    TooLarge,
}

/// A client that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The broker's URL cannot be read.
    #[error("{url:?} is not a URL")]
    Url {
        /// What was given.
        url: String,
        /// Why not.
        #[source]
        source: url::ParseError,
    },
    /// The broker's URL is not `https://host[:port]`.
    #[error("the broker's URL must be an origin, such as https://hallpass.example")]
    NotAnOrigin,
    /// The broker's URL would carry secrets in the clear.
    #[error("plain http is allowed to this machine only: proofs and credentials would travel in the clear")]
    PlainHttp,
    /// What was given as a name or id cannot be one: it would address something else.
    #[error("{0:?} is not a name")]
    NotAName(String),
    /// The client's own certificate or its key cannot be read.
    #[error("the client certificate or its key is not PEM")]
    ClientCertificate,
    /// The extra certificates cannot be used.
    #[error("the extra CA is not one or more certificates in PEM")]
    Ca,
    /// The caller's own key cannot be used.
    #[error("the key to be bound to is no P-256 key (PKCS #8, PEM), or there is no randomness")]
    PossessionKey,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// HTTP cannot be set up.
    #[error("HTTP cannot be set up")]
    Http(#[source] reqwest::Error),
}
