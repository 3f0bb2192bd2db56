//! Where the time of a request goes. Spans of this target are for traces: no log shows them, and while nobody collects
//! them each costs a look at a flag.
//!
//! What they say of a request is in the words of the configuration: never a token, a claim or a caller's text.

use tracing::Span;

/// The target of every span that is for a trace.
pub const TARGET: &str = "hallpass::trace";

/// Finding out who calls.
pub(crate) fn verify() -> Span {
    tracing::trace_span!(target: TARGET, "verify")
}

/// Asking the policy.
pub(crate) fn decide(action: &'static str) -> Span {
    tracing::trace_span!(target: TARGET, "decide", hallpass.action = action)
}

/// Making a change durable.
pub(crate) fn store() -> Span {
    tracing::trace_span!(target: TARGET, "store")
}

/// Having a backend make a credential.
pub(crate) fn mint(backend_kind: &'static str) -> Span {
    tracing::trace_span!(target: TARGET, "mint", hallpass.backend_kind = backend_kind)
}
