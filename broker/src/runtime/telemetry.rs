//! What the broker says of itself while it runs: logs on standard error, one event a line, and metrics.

pub mod metrics;
mod page;
pub mod traces;

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use page::Page;
use traces::Traces;

use crate::config::server::LogFormat;

/// Starts logging at `level` (a `tracing` filter directive such as `info`; `RUST_LOG` wins where it is set), and collecting
/// traces where they are wanted. A second call changes nothing.
pub fn start_logging(format: LogFormat, level: &str, traces: Option<Traces>) {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(level)).unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines);
    // Already installed: somebody embeds the broker and has its own.
    let _ = match traces {
        Some(traces) => registry.with(traces.with_filter(filter_fn(Traces::wants))).try_init(),
        None => registry.try_init(),
    };
}

/// Counts something that needs more than policy's word: who may do it can change what everybody may do.
pub fn privileged_action(action: &'static str, done: bool) {
    let outcome = if done { "done" } else { "refused" };
    ::metrics::counter!("hallpass_privileged_actions_total", "action" => action, "outcome" => outcome).increment(1);
}
