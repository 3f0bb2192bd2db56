//! Logs and metrics. Logs go to standard error, one event a line.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::server::LogFormat;

/// Starts logging at `level` (a `tracing` filter directive such as `info`); `RUST_LOG` wins where it is set. A second
/// call changes nothing.
pub fn start_logging(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(level)).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Already installed: somebody embeds the broker and has its own.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Counts something that needs more than policy's word: who may do it can change what everybody may do.
pub fn privileged_action(action: &'static str, done: bool) {
    let outcome = if done { "done" } else { "refused" };
    metrics::counter!("hallpass_privileged_actions_total", "action" => action, "outcome" => outcome).increment(1);
}

/// Starts to collect metrics; the handle renders them in Prometheus' text format.
///
/// # Errors
/// When another recorder is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?.install_recorder()
}
