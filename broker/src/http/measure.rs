//! What requests are counted by. Labels are words of ours, never of a caller: their number is bounded.

use std::time::Duration;

use axum::extract::MatchedPath;
use axum::response::Response;
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::grant::Grant;
use metrics::{counter, gauge, histogram};

use super::desk::{Condition, Part};
use super::failure::Failure;
use super::problem;

/// One request and its answer.
pub(super) struct Outcome<'a> {
    pub(super) route: Option<&'a MatchedPath>,
    /// Whether a credential was asked for.
    pub(super) mints: bool,
    pub(super) response: &'a Response,
    pub(super) failure: Option<&'a Failure>,
    pub(super) elapsed: Duration,
}

/// Counts a request, and an exchange where it was one.
pub(super) fn request(outcome: &Outcome<'_>) {
    let route = outcome.route.map_or("none", MatchedPath::as_str);
    let status = outcome.response.status();
    histogram!("hallpass_http_request_seconds", "route" => route.to_owned(), "status" => class(status.as_u16()))
        .record(outcome.elapsed);
    if let Some(failure) = outcome.failure.filter(|_| outcome.mints) {
        let result = if status.is_server_error() { "failed" } else { "refused" };
        let (reason, step) = (reason_of(failure), step_of(failure));
        counter!("hallpass_exchanges_total", "outcome" => result, "reason" => reason, "step" => step).increment(1);
    }
}

/// Counts a publication that was asked for, and whether it was made.
pub(super) fn privileged(action: &'static str, done: bool) {
    crate::runtime::telemetry::privileged_action(action, done);
}

/// Shows how the parts were when somebody asked.
pub(super) fn parts(parts: &[Part]) {
    for Part { part, name, status, .. } in parts {
        let level = match status {
            Condition::Ok => 0.0,
            Condition::Degraded => 1.0,
            Condition::Unready => 2.0,
        };
        gauge!("hallpass_part_condition", "part" => *part, "name" => name.clone().unwrap_or_default()).set(level);
    }
}

/// Counts a grant that was opened, and how long that took.
pub(super) fn opened(grant: &Grant, elapsed: Duration) {
    counter!("hallpass_exchanges_total", "outcome" => "issued", "reason" => "", "step" => "").increment(1);
    histogram!("hallpass_issuance_seconds", "backend_kind" => grant.record.backend_kind.clone()).record(elapsed);
}

/// Counts a grant whose credential reached nobody.
pub(super) fn undelivered() {
    counter!("hallpass_grants_undelivered_total").increment(1);
}

/// Counts a grant that somebody asked to end.
pub(super) fn end_requested() {
    counter!("hallpass_grants_end_requested_total").increment(1);
}

/// Counts parameters that nobody knows (RFC 6749 §3.2 has them ignored): a client that misspells one shows here.
pub(super) fn ignored_parameters(count: usize) {
    if count > 0 {
        counter!("hallpass_token_parameters_ignored_total").increment(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// The code that the audit log has, which is the more exact one where the caller must not learn which of two it was.
fn reason_of(failure: &Failure) -> &'static str {
    let refusal = match failure {
        Failure::Service(error) => match error.as_ref() {
            ServiceError::Refused(refusal) => Some(refusal),
            _ => None,
        },
        Failure::Unreadable(unreadable) => Some(unreadable.refusal.as_ref()),
        _ => None,
    };
    refusal.and_then(|refusal| refusal.audit_reason).map_or_else(|| problem::code_of(failure), Reason::as_str)
}

fn step_of(failure: &Failure) -> &'static str {
    match failure {
        Failure::Service(error) => match error.as_ref() {
            ServiceError::Refused(refusal) => refusal.step.as_str(),
            ServiceError::Backend { .. } => "backend",
            _ => "",
        },
        Failure::Unreadable(unreadable) => unreadable.refusal.step.as_str(),
        _ => "",
    }
}

const fn class(status: u16) -> &'static str {
    match status {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
