//! What requests are counted by. Labels are words of ours, never of a caller: their number is bounded.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
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

/// The parts that are shown. What a later revision has no more must not be shown for ever as it was last.
static SHOWN: Mutex<BTreeSet<(&'static str, String)>> = Mutex::new(BTreeSet::new());

/// Shows how the parts were when somebody asked.
pub(super) fn parts(parts: &[Part]) {
    let issuing = parts.iter().all(Part::lets_issue);
    gauge!("hallpass_issuing").set(f64::from(u8::from(issuing)));
    let now: BTreeSet<_> = parts.iter().map(|part| (part.part, part.name.clone().unwrap_or_default())).collect();
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    for (part, name) in shown.difference(&now) {
        gauge!("hallpass_part_condition", "part" => *part, "name" => name.clone()).set(0.0);
    }
    *shown = now;
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

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_part_that_is_no_more_is_not_shown_as_it_was_last() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shows = |told: &[Part], lines: &[&str]| {
            metrics::with_local_recorder(&recorder, || parts(told));
            let page = recorder.handle().render();
            for line in lines {
                assert!(page.lines().any(|found| found == *line), "{line} is not in {page}");
            }
        };
        let issuer = |name: &str| Part::ok("issuer").named(name);
        let gone = issuer("gone").without_which_nothing_is_issued("away");
        shows(
            &[gone, issuer("ci")],
            &[r#"hallpass_part_condition{part="issuer",name="gone"} 1"#, "hallpass_issuing 0"],
        );
        shows(
            &[issuer("ci").in_condition(Condition::Unready, "away")],
            &[
                r#"hallpass_part_condition{part="issuer",name="gone"} 0"#,
                r#"hallpass_part_condition{part="issuer",name="ci"} 2"#,
                "hallpass_issuing 0",
            ],
        );
        shows(&[issuer("gone")], &[r#"hallpass_part_condition{part="issuer",name="ci"} 0"#, "hallpass_issuing 1"]);
    }
}
