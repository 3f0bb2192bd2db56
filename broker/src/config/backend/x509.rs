//! Backends of kind `x509`.

use std::path::{Path, PathBuf};

use hallpass_core::id::BackendName;
use serde::Deserialize;

use super::{Backend, BackendKind};
use crate::config::Finding;
use crate::config::document::Document;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawX509 {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    trust_domain: String,
    ca_certificate_file: Option<PathBuf>,
}

pub(super) fn read(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: RawX509 = entry.read(findings)?;
    if !is_trust_domain(&raw.trust_domain) {
        let reason = "a trust domain has lower-case letters, digits, '.', '-' and '_', 255 at most";
        findings.push(entry.finding("trust_domain", reason));
        return None;
    }
    let ca_certificate_file = match raw.ca_certificate_file {
        None => None,
        Some(file) => Some(entry.existing_file("ca_certificate_file", &file, base, findings)?),
    };
    let kind = BackendKind::X509 { trust_domain: raw.trust_domain, ca_certificate_file };
    Some(Backend { name: raw.name, kind })
}

/// SPIFFE-ID §2.1.
fn is_trust_domain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}
