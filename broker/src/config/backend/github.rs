//! Backends of kind `github`: tokens of an installation of a GitHub App.
//!
//! ```toml
//! [[backend]]
//! name = "github"
//! kind = "github"
//! app_id = "Iv23liABCDEF"                               # the App's client id, or its number
//! installation_id = 123456
//! private_key = { file = "/etc/hallpass/github-app.pem" }   # or { env = "GITHUB_APP_KEY" }; read again every few minutes
//! api_url = "https://api.github.com"                    # of a GitHub Enterprise Server: "https://<host>/api/v3"
//! ca_file = "…"                                         # then nobody else's certificate is trusted
//! timeout = "4s"
//! ```

use std::path::{Path, PathBuf};

use hallpass_core::id::BackendName;
use hallpass_core::time::Ttl;
use serde::Deserialize;
use url::Url;

use super::{Backend, BackendKind, common};
use crate::config::Finding;
use crate::config::document::{Document, Duration};

/// Where GitHub's API is, unless it is one's own server.
const API: &str = "https://api.github.com";

/// A backend of kind `github`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitHub {
    /// What paths are below.
    pub api_url: Url,
    /// The App's client id, or its number.
    pub app_id: String,
    /// Which of its installations.
    pub installation_id: u64,
    /// Where the App's private key is.
    pub private_key: KeySource,
    /// The authorities of the server's certificate, PEM; nobody else is trusted then.
    pub ca_file: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Ttl,
}

/// Where a private key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In this file, PEM.
    File(PathBuf),
    /// In this environment variable, PEM.
    Env(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: BackendName,
    #[serde(rename = "kind")]
    _kind: String,
    api_url: Option<String>,
    app_id: String,
    installation_id: u64,
    private_key: RawKey,
    ca_file: Option<PathBuf>,
    timeout: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    file: Option<PathBuf>,
    env: Option<String>,
}

pub(super) fn read(entry: &Document<'_>, base: Option<&Path>, findings: &mut Vec<Finding>) -> Option<Backend> {
    let raw: Raw = entry.read(findings)?;
    let before = findings.len();
    let api_url = common::base(entry, "api_url", raw.api_url.as_deref().unwrap_or(API), findings);
    let is_id =
        (1..=64).contains(&raw.app_id.len()) && raw.app_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    if !is_id {
        findings.push(entry.finding("app_id", "is the App's client id, such as \"Iv23liABCDEF\", or its number"));
    }
    if raw.installation_id == 0 {
        findings.push(entry.finding("installation_id", "is the number of the App's installation"));
    }
    let private_key = match (raw.private_key.file, raw.private_key.env) {
        (Some(file), None) => KeySource::File(entry.existing_file("private_key.file", &file, base, findings)?),
        (None, Some(_)) if base.is_none() => {
            let reason = "names what lies on the broker's machine, which only a bundle that lies there as a folder may";
            findings.push(entry.finding("private_key.env", reason));
            return None;
        }
        (None, Some(name)) => KeySource::Env(name),
        _ => {
            findings.push(entry.finding("private_key", "name where it is: { file = \"…\" } or { env = \"…\" }"));
            return None;
        }
    };
    let ca_file = match raw.ca_file {
        Some(ca) => Some(entry.existing_file("ca_file", &ca, base, findings)?),
        None => None,
    };
    let timeout = common::timeout(entry, raw.timeout, findings);
    let (app_id, installation_id) = (raw.app_id, raw.installation_id);
    let kind = GitHub { api_url: api_url?, app_id, installation_id, private_key, ca_file, timeout };
    (findings.len() == before).then(|| Backend { name: raw.name, kind: BackendKind::GitHub(Box::new(kind)) })
}
