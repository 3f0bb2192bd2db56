//! How a request fails, before anybody has decided what status that is.

use hallpass_core::audit::Actor;
use hallpass_core::error::{Reason, Refusal, ServiceError};

/// Why a request gets no answer of its own. The edge turns it into one.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// A use-case failed. What must be recorded of it is recorded.
    Service(Box<ServiceError>),
    /// The request could not be read; no use-case has seen it, and the edge records it.
    Unreadable(Unreadable),
    /// No such path.
    NoSuchEndpoint,
    /// No such method on this path.
    MethodNotAllowed,
    /// The request names another host than its connection does (RFC 9110 §7.4).
    Misdirected,
    /// Too many requests at once.
    Overloaded,
    /// It took too long.
    TimedOut,
    /// It came before the handshake was over, and somebody may send it again (RFC 8470).
    TooEarly,
    /// It shows a key by a proof that carries nothing fresh of the broker's (RFC 9449 §8).
    NonceWanted,
    /// It panicked.
    Crashed,
}

/// A request that could not be read.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    /// What kind of thing is wrong.
    pub(super) fault: Fault,
    /// What exactly.
    pub(super) refusal: Box<Refusal>,
    /// Who sent it, where that was proved.
    pub(super) actor: Option<Box<Actor>>,
}

/// What kind of thing is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not in the form that it claims to be in.
    Syntax,
    /// It is well-formed and says something that is not acceptable.
    Content,
    /// It is in a form that is not spoken here.
    MediaType,
    /// It is too large.
    TooLarge,
    /// Its body comes in too slowly.
    Slow,
    /// It asks for another OAuth grant type (RFC 6749 §5.2).
    GrantType,
}

impl Unreadable {
    pub(super) fn new(fault: Fault, refusal: Refusal) -> Self {
        Self { fault, refusal: Box::new(refusal), actor: None }
    }

    /// Not in the form that it claims to be in.
    pub(super) fn syntax(parameter: &str, detail: impl Into<String>) -> Self {
        Self::new(Fault::Syntax, Refusal::request(Reason::MalformedRequest, parameter, detail))
    }

    /// A value that is not acceptable.
    pub(super) fn content(parameter: &str, detail: impl Into<String>) -> Self {
        Self::new(Fault::Content, Refusal::request(Reason::MalformedRequest, parameter, detail))
    }

    /// A field that this version does not know or does not act on.
    pub(super) fn unknown_field(parameter: &str, detail: impl Into<String>) -> Self {
        Self::new(Fault::Content, Refusal::request(Reason::UnknownField, parameter, detail))
    }

    /// A body of another type than the endpoint speaks.
    pub(super) fn media_type(expected: &str) -> Self {
        let detail = format!("send the body as `{expected}`, unencoded");
        Self::new(Fault::MediaType, Refusal::request(Reason::MalformedRequest, "Content-Type", detail))
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::Service(Box::new(error))
    }
}
