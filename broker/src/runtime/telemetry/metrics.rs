//! Every metric that the broker has: its name, kind, unit, meaning and labels.
//!
//! A label's values are words of the program or names of the configuration, never something that a caller chose: their
//! number is bounded. Tests hold this list against the names in the sources, the page of a running broker, the
//! dashboard and the alert rules.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with the unit at its end.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it says.
    pub meaning: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often a value lay where.
    Histogram {
        /// Upper bounds of its buckets.
        buckets: &'static [f64],
    },
}

/// From a millisecond to ten seconds: what a caller waits for.
const WAITS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From a hundredth of a second to an hour: what goes on behind a caller's back.
const LAGS: &[f64] = &[0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
/// Powers of two up to the largest batch.
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// At ten thousand requests a second, a few megabytes gather in this time.
const UPKEEP: Duration = Duration::from_secs(5);

const fn counter(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, meaning, labels }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, meaning, labels }
}

const fn histogram(
    name: &'static str,
    buckets: &'static [f64],
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram { buckets }, meaning, labels }
}

/// All of them.
pub const METRICS: &[Metric] = &[
    // What callers see.
    histogram("hallpass_http_request_seconds", WAITS, &["route", "status"], "Time that requests took, by route."),
    counter(
        "hallpass_exchanges_total",
        &["outcome", "step", "reason"],
        "Requests for a credential: issued, refused at a step for a reason, or failed.",
    ),
    histogram(
        "hallpass_issuance_seconds",
        WAITS,
        &["backend_kind"],
        "Time from a request for a credential that was granted until its credential was there.",
    ),
    counter(
        "hallpass_token_parameters_ignored_total",
        &[],
        "Parameters of token requests that nobody knows: a client that misspells one shows here.",
    ),
    gauge(
        "hallpass_tls_certificate_expires_seconds",
        &["listener"],
        "When the certificate of a listener expires, in seconds since 1970.",
    ),
    counter(
        "hallpass_proxy_requests_unattributed_total",
        &["why"],
        "Requests of trusted proxies that do not say whose they are: the header is missing, or unreadable.",
    ),
    counter("hallpass_connections_refused_total", &[], "Connections that were closed because too many were open."),
    counter("hallpass_issuer_key_fetches_total", &["issuer", "outcome"], "Fetches of an issuer's keys."),
    // Grants and their ends.
    gauge("hallpass_grants", &["state"], "Grants in each state that is not final."),
    counter("hallpass_grants_undelivered_total", &[], "Grants whose credential reached nobody, and that were ended."),
    counter("hallpass_grants_end_requested_total", &[], "Ends that callers asked for."),
    counter("hallpass_grants_ended_by_revocations_total", &[], "Grants whose end a revocation of a set began."),
    counter("hallpass_revocations_completed_total", &[], "Revocations of sets that reached their end."),
    counter("hallpass_grants_expired_total", &[], "Grants whose time ran out."),
    histogram(
        "hallpass_revocation_lag_seconds",
        LAGS,
        &["class"],
        "Time from the end that was asked for, or due, until it was confirmed or verifiers refused the credential.",
    ),
    gauge(
        "hallpass_revocation_unconfirmed_oldest_seconds",
        &[],
        "How long the end has waited that has waited longest to be confirmed, or for its fence to stand.",
    ),
    // Workers.
    counter("hallpass_worker_steps_total", &[], "Steps that workers took for due grants."),
    gauge(
        "hallpass_due_oldest_seconds",
        &[],
        "How long the grant has been due for a worker that has been due longest.",
    ),
    gauge("hallpass_over_oldest_seconds", &[], "How long the grant has been over that has waited longest to be ended."),
    // Backends.
    counter(
        "hallpass_backend_calls_total",
        &["backend", "call", "outcome"],
        "Calls to a backend: ok, refused, unavailable, outcome_unknown, or given_up by whoever waited.",
    ),
    histogram("hallpass_backend_call_seconds", WAITS, &["backend", "call"], "Time that calls to a backend took."),
    gauge(
        "hallpass_backend_failing_calls",
        &["backend"],
        "Calls to a backend that failed since the last that did not.",
    ),
    gauge(
        "hallpass_backend_inventory",
        &["backend", "what"],
        "What is alive at a backend: ours; stray, of ours without a live grant; others'; and doors to the same target.",
    ),
    gauge(
        "hallpass_aws_unfenced_sessions",
        &["backend"],
        "Sessions of AWS roles that are over and still work: their roles have no room for the fence.",
    ),
    counter(
        "hallpass_aws_fences_set_again_total",
        &["backend"],
        "Fences of AWS roles that somebody changed and that were set again.",
    ),
    counter(
        "hallpass_backend_strays_undone_total",
        &["backend"],
        "What was alive at a backend without a live grant, and was undone.",
    ),
    // The store.
    histogram("hallpass_store_commit_seconds", WAITS, &[], "Time that a batch of changes took until it was durable."),
    histogram("hallpass_store_batch_operations", BATCHES, &[], "Changes that shared one durable transaction."),
    counter("hallpass_store_commit_failures_total", &[], "Batches that could not be written."),
    gauge("hallpass_store_queue_depth", &[], "Changes that wait to be written."),
    gauge("hallpass_store_wal_pages", &[], "Length of the write-ahead log, in pages of 4 KiB."),
    // Evidence and keys.
    counter("hallpass_audit_entries_total", &[], "Entries of the audit log."),
    gauge(
        "hallpass_audit_export_lag",
        &["destination"],
        "Entries that a destination of the audit log has not taken yet.",
    ),
    counter(
        "hallpass_privileged_actions_total",
        &["action", "outcome"],
        "Actions that can change what everybody may do: reloads, operators' tokens, publications.",
    ),
    gauge(
        "hallpass_signing_key_age_seconds",
        &["purpose", "algorithm", "key"],
        "Age of each signing key that is kept.",
    ),
    counter("hallpass_key_changes_total", &["change", "purpose"], "Changes of the broker's own keys."),
    // The broker.
    counter("hallpass_trace_spans_total", &["outcome"], "Spans for traces: sent to the collector, or dropped."),
    gauge(
        "hallpass_part_condition",
        &["part", "name"],
        "How each part was when readiness was last asked for: 0 ok or no more there, 1 degraded, 2 unready.",
    ),
    gauge("hallpass_issuing", &[], "Whether something could be issued when readiness was last asked for: 0 or 1."),
    gauge("hallpass_build_info", &["version"], "Always 1; its label says which version runs."),
];

/// Starts to collect metrics; the handle renders them in Prometheus' text format. First thing in a process: what is
/// counted before is lost.
///
/// # Errors
/// When another recorder is installed already.
pub fn start() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram { buckets } = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    let handle = builder.install_recorder()?;
    METRICS.iter().for_each(Metric::describe);
    metrics::gauge!("hallpass_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Tidies up what was collected, now and then: values of histograms are kept one by one until somebody does, and a
/// broker that nobody scrapes would keep them for ever.
pub async fn keep_up(handle: PrometheusHandle, stopped: impl Future<Output = ()>) {
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(UPKEEP) => handle.run_upkeep(),
        }
    }
}

impl Metric {
    /// Gives it its help text, and its zero where it has no labels: a rate over what is not there yet is not zero.
    fn describe(&self) {
        let unit = if self.name.ends_with("_seconds") { metrics::Unit::Seconds } else { metrics::Unit::Count };
        let bare = self.labels.is_empty();
        match self.kind {
            Kind::Counter => {
                metrics::describe_counter!(self.name, unit, self.meaning);
                if bare {
                    metrics::counter!(self.name).increment(0);
                }
            }
            Kind::Gauge => {
                metrics::describe_gauge!(self.name, unit, self.meaning);
                if bare {
                    metrics::gauge!(self.name).set(0.0);
                }
            }
            Kind::Histogram { .. } => metrics::describe_histogram!(self.name, unit, self.meaning),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_metric_is_named_once_and_by_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with("hallpass_"), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(metric.meaning.ends_with('.') && !metric.meaning.contains('\n'), "{name}: {}", metric.meaning);
            if let Kind::Histogram { buckets } = metric.kind {
                assert!(buckets.is_sorted(), "{name}");
            }
        }
    }
}
