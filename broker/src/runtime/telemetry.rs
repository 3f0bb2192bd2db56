//! What the broker says of itself while it runs: logs on standard error, one event a line, and metrics.

pub mod metrics;
mod page;

use tracing_subscriber::EnvFilter;

pub use page::Page;

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
    ::metrics::counter!("hallpass_privileged_actions_total", "action" => action, "outcome" => outcome).increment(1);
}
