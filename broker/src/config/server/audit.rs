//! `[audit]`: how the log proves itself, and where it goes.

use std::path::PathBuf;

use hallpass_core::audit::note::VerifierKey;
use hallpass_core::time::Ttl;
use serde::Deserialize;

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
}

impl Default for Audit {
    fn default() -> Self {
        Self { origin: None, checkpoint_file: None, checkpoint_every: CHECKPOINT_EVERY.standard }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAudit {
    origin: Option<String>,
    checkpoint_file: Option<PathBuf>,
    checkpoint_every: Option<Duration>,
}

const CHECKPOINT_EVERY: Bounded =
    Bounded { standard: Ttl::from_mins(1), min: Ttl::from_secs(1), max: Ttl::from_hours(1) };

pub(super) fn read(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Audit> {
    let raw: RawAudit = section.read(findings)?;
    if raw.origin.as_ref().is_some_and(|origin| VerifierKey::new(origin, &[0; 32]).is_err()) {
        let reason =
            "names the log in its checkpoints: write it like a URL without its scheme, without a space or plus";
        findings.push(section.finding("origin", reason));
    }
    Some(Audit {
        origin: raw.origin,
        checkpoint_file: raw.checkpoint_file.map(|file| beside(section.file(), &file)),
        checkpoint_every: CHECKPOINT_EVERY.check(section, "checkpoint_every", raw.checkpoint_every, findings),
    })
}
