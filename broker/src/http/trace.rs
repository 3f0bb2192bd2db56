//! The span of a whole request, and the trace that it belongs to by W3C Trace Context.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, Method};
use hallpass_core::id::RequestId;
use hallpass_core::trace::TARGET;
use tracing::field::Empty;
use tracing::{Level, Span};

use super::failure::Failure;
use super::problem;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The span of a request; none where nobody collects any. What it says of the caller is where it asks.
pub(super) fn request(request: &Request, route: Option<&MatchedPath>, id: RequestId) -> Span {
    if !tracing::enabled!(target: TARGET, Level::TRACE) {
        return Span::none();
    }
    // Methods are named by callers: one that is not known is none of theirs to spread.
    let method = match *request.method() {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE => request.method().as_str(),
        _ => "_OTHER",
    };
    tracing::trace_span!(
        target: TARGET,
        "request",
        trace.id = %id,
        trace.parent = parent(request.headers()),
        http.request.method = method,
        http.route = route.map_or("none", MatchedPath::as_str),
        http.response.status_code = Empty,
        error.type = Empty,
        hallpass.request_id = %id,
    )
}

/// Says how it ended.
pub(super) fn answered(span: &Span, status: u16, failure: Option<&Failure>) {
    span.record("http.response.status_code", status);
    if let Some(failure) = failure {
        span.record("error.type", problem::code_of(failure));
    }
}

/// The one `traceparent`, if it is short enough to be one. Whoever collects takes it apart.
fn parent(headers: &HeaderMap) -> Option<&str> {
    /// Twice what the present version has: a later one may be longer.
    const LONGEST: usize = 110;
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().filter(|value| value.len() <= LONGEST)
}
