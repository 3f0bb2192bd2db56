//! `[telemetry]`: what the broker says of itself while it runs.

use std::path::PathBuf;

use ::url::Url;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::config::Finding;
use crate::config::document::{Document, beside};
use crate::config::url;

/// `[telemetry]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which are written: a level, or directives such as `info,hallpass_broker=debug`.
    pub log_level: String,
    /// Where traces go, if anywhere.
    pub traces: Option<TraceSettings>,
}

/// Where traces go, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// Where batches are posted: the collector's `/v1/traces`.
    pub endpoint: Url,
    /// File with the whole value of its `Authorization` header, such as `Bearer …` or `Basic …`.
    pub authorization_file: Option<PathBuf>,
    /// Further certificate authorities for it.
    pub ca_file: Option<PathBuf>,
    /// Plain http also to another machine: anybody on the path can read what is sent.
    pub plain_http: bool,
    /// Of a hundred requests that belong to no trace yet, so many begin one.
    pub sample_percent: u8,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::default(), log_level: "info".to_owned(), traces: None }
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
    traces: Option<RawTraces>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTraces {
    endpoint: String,
    sample_percent: Option<u8>,
    authorization_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    dangerous_allow_http: bool,
}

/// What a broker of moderate size can send of, and a collector keep, without anybody thinking of it.
const SAMPLE_PERCENT: u8 = 10;

pub(super) fn read(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Telemetry> {
    let raw: RawTelemetry = section.read(findings)?;
    let log_level = raw.log_level.unwrap_or_else(|| Telemetry::default().log_level);
    if let Err(error) = EnvFilter::try_new(&log_level) {
        findings.push(section.finding("log_level", format!("{log_level:?}: {error}")));
    }
    let traces = raw.traces.and_then(|traces| read_traces(section, traces, findings));
    Some(Telemetry { log_format: raw.log_format, log_level, traces })
}

fn read_traces(section: &Document<'_>, raw: RawTraces, findings: &mut Vec<Finding>) -> Option<TraceSettings> {
    let sample_percent = raw.sample_percent.unwrap_or(SAMPLE_PERCENT);
    if sample_percent > 100 {
        findings.push(section.finding("traces.sample_percent", format!("{sample_percent} is not between 0 and 100")));
    }
    match url::check(&raw.endpoint, raw.dangerous_allow_http) {
        Ok(endpoint) => {
            let here = |file: PathBuf| beside(section.file(), &file);
            let (authorization_file, ca_file) = (raw.authorization_file.map(here), raw.ca_file.map(here));
            let plain_http = raw.dangerous_allow_http;
            Some(TraceSettings { endpoint, authorization_file, ca_file, plain_http, sample_percent })
        }
        Err(reason) => {
            findings.push(section.finding("traces.endpoint", reason));
            None
        }
    }
}
