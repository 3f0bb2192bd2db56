//! `[telemetry]`: what the broker says of itself while it runs.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::config::Finding;
use crate::config::document::Document;

/// `[telemetry]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which are written: a level, or directives such as `info,hallpass_broker=debug`.
    pub log_level: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::default(), log_level: "info".to_owned() }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line, for collectors.
    #[default]
    Json,
    /// For people.
    Text,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTelemetry {
    #[serde(default)]
    log_format: LogFormat,
    log_level: Option<String>,
}

pub(super) fn read(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Telemetry> {
    let raw: RawTelemetry = section.read(findings)?;
    let log_level = raw.log_level.unwrap_or_else(|| Telemetry::default().log_level);
    if let Err(error) = EnvFilter::try_new(&log_level) {
        findings.push(section.finding("log_level", format!("{log_level:?}: {error}")));
    }
    Some(Telemetry { log_format: raw.log_format, log_level })
}
