//! What several kinds of backends have in common.

use hallpass_core::port::SignatureAlgorithm;
use hallpass_core::time::Ttl;
use url::Url;

use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration};
use crate::config::url::{check, check_origin};

/// How long a backend may take for one call. A grant has ten seconds for all of them.
const TIMEOUT: Bounded = Bounded { standard: Ttl::from_secs(4), min: Ttl::from_secs(1), max: Ttl::from_secs(8) };
/// Longest audience.
const MAX_AUDIENCE: usize = 255;

pub(super) fn timeout(entry: &Document<'_>, written: Option<Duration>, findings: &mut Vec<Finding>) -> Ttl {
    TIMEOUT.check(entry, "timeout", written, findings)
}

/// An origin, or what is to be called below one, at `key`.
pub(super) fn origin(entry: &Document<'_>, key: &str, text: &str, findings: &mut Vec<Finding>) -> Option<Url> {
    check_origin(text, false).map_err(|why| findings.push(entry.finding(key, why))).ok()
}

/// The same with a path.
pub(super) fn base(entry: &Document<'_>, key: &str, text: &str, findings: &mut Vec<Finding>) -> Option<Url> {
    check(text, false).map_err(|why| findings.push(entry.finding(key, why))).ok()
}

/// How the broker's own token is signed: ES256, unless something else is written.
pub(super) fn algorithm(
    entry: &Document<'_>,
    key: &str,
    written: Option<&str>,
    standard: SignatureAlgorithm,
    findings: &mut Vec<Finding>,
) -> SignatureAlgorithm {
    let Some(name) = written else { return standard };
    SignatureAlgorithm::parse(name).unwrap_or_else(|| {
        findings.push(entry.finding(key, "the broker signs with \"ES256\", \"EdDSA\" or \"RS256\""));
        standard
    })
}

pub(super) fn audience(entry: &Document<'_>, key: &str, audience: &str, findings: &mut Vec<Finding>) {
    let fits = (1..=MAX_AUDIENCE).contains(&audience.len()) && audience.chars().all(|c| c.is_ascii_graphic());
    if !fits {
        let reason = format!("an audience has 1 to {MAX_AUDIENCE} characters, and no blanks");
        findings.push(entry.finding(key, reason));
    }
}
