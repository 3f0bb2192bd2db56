//! `[audit]`: how the log proves itself, and where it goes.

use std::path::PathBuf;

use hallpass_core::audit::note::VerifierKey;
use hallpass_core::time::Ttl;
use serde::Deserialize;
use url::Url;

use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration, beside};

/// `[audit]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// How the log calls itself in its checkpoints; the public URL's host and the log's id, where it is not written.
    pub origin: Option<String>,
    /// Where the newest checkpoint is kept beside the store.
    pub checkpoint_file: Option<PathBuf>,
    /// How often a checkpoint is signed while the log grows.
    pub checkpoint_every: Ttl,
    /// Where the log is taken to as it grows.
    pub exports: Vec<Export>,
}

/// One destination of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Where it is.
    pub destination: Destination,
    /// How many entries may wait before nothing is issued any more.
    pub max_lag: u64,
}

/// Where the log is taken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file of JSON lines.
    File {
        /// Which.
        path: PathBuf,
    },
    /// The process's standard output.
    Stdout,
    /// A collector that takes newline-delimited JSON by POST.
    Https {
        /// Where.
        url: Url,
        /// File with a bearer token.
        token_file: Option<PathBuf>,
        /// Further certificate authorities, PEM.
        ca_file: Option<PathBuf>,
        /// Plain http is spoken too.
        plain_http: bool,
    },
}

impl Destination {
    /// What it is remembered as.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File { path } => format!("file:{}", path.display()),
            Self::Stdout => "stdout".to_owned(),
            Self::Https { url, .. } => format!("https:{url}"),
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { origin: None, checkpoint_file: None, checkpoint_every: CHECKPOINT_EVERY.standard, exports: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAudit {
    origin: Option<String>,
    checkpoint_file: Option<PathBuf>,
    checkpoint_every: Option<Duration>,
    #[serde(default)]
    export: Vec<RawExport>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum RawExport {
    File {
        path: PathBuf,
        max_lag: Option<u64>,
    },
    Stdout {
        max_lag: Option<u64>,
    },
    Https {
        url: String,
        max_lag: Option<u64>,
        token_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
        #[serde(default)]
        dangerous_allow_http: bool,
    },
}

/// More than a collector's restart takes at the highest rate; fewer would stop issuance for a hiccup.
const MAX_LAG: u64 = 100_000;

const CHECKPOINT_EVERY: Bounded =
    Bounded { standard: Ttl::from_mins(1), min: Ttl::from_secs(1), max: Ttl::from_hours(1) };

pub(super) fn read(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Audit> {
    let raw: RawAudit = section.read(findings)?;
    if raw.origin.as_ref().is_some_and(|origin| VerifierKey::new(origin, &[0; 32]).is_err()) {
        let reason =
            "names the log in its checkpoints: write it like a URL without its scheme, without a space or plus";
        findings.push(section.finding("origin", reason));
    }
    let exports: Vec<_> = raw.export.into_iter().filter_map(|raw| export(section, raw, findings)).collect();
    let mut names: Vec<_> = exports.iter().map(|export| export.destination.name()).collect();
    names.sort_unstable();
    if let Some([twice, ..]) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        findings.push(section.finding("export", format!("{twice} is there twice")));
    }
    Some(Audit {
        exports,
        origin: raw.origin,
        checkpoint_file: raw.checkpoint_file.map(|file| beside(section.file(), &file)),
        checkpoint_every: CHECKPOINT_EVERY.check(section, "checkpoint_every", raw.checkpoint_every, findings),
    })
}

fn export(section: &Document<'_>, raw: RawExport, findings: &mut Vec<Finding>) -> Option<Export> {
    let here = |path: PathBuf| beside(section.file(), &path);
    let (destination, max_lag) = match raw {
        RawExport::File { path, max_lag } => (Destination::File { path: here(path) }, max_lag),
        RawExport::Stdout { max_lag } => (Destination::Stdout, max_lag),
        RawExport::Https { url, max_lag, token_file, ca_file, dangerous_allow_http: plain_http } => {
            let fits = |url: &Url| {
                let scheme = url.scheme() == "https" || (url.scheme() == "http" && plain_http);
                scheme && url.host().is_some() && url.username().is_empty() && url.password().is_none()
            };
            let Some(url) = Url::parse(&url).ok().filter(fits) else {
                let reason = "url: give an https URL without a user name; plain http takes dangerous_allow_http = true";
                findings.push(section.finding("export", reason));
                return None;
            };
            let (token_file, ca_file) = (token_file.map(here), ca_file.map(here));
            (Destination::Https { url, token_file, ca_file, plain_http }, max_lag)
        }
    };
    let max_lag = max_lag.unwrap_or(MAX_LAG);
    if max_lag == 0 {
        findings.push(section.finding("export", "max_lag: 0 would stop issuance at each entry; give at least 1"));
    }
    Some(Export { destination, max_lag })
}
