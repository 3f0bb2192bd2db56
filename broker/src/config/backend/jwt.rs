//! Backends of kind `jwt`.

use hallpass_core::id::BackendName;
use hallpass_core::port::SignatureAlgorithm;
use serde::Deserialize;

use super::{Backend, BackendKind};
use crate::config::Finding;
use crate::config::document::Document;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJwt {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    algorithm: Option<String>,
}

pub(super) fn read(entry: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: RawJwt = entry.read(findings)?;
    let algorithm = match raw.algorithm.as_deref() {
        None => Some(SignatureAlgorithm::Es256),
        Some(name) => SignatureAlgorithm::parse(name),
    };
    let Some(algorithm) = algorithm else {
        findings.push(entry.finding("algorithm", "the broker signs with \"ES256\", \"EdDSA\" or \"RS256\""));
        return None;
    };
    Some(Backend { name: raw.name, kind: BackendKind::Jwt { algorithm } })
}
