//! `hallpass-broker check`: everything that is wrong with a server file and a bundle, before anything runs on them.

use std::fmt;
use std::path::Path;

use super::Finding;
use super::bundle::Bundle;
use super::issuer::{Issuer, KeySource};
use super::server::ServerConfig;

/// The file of a bundle that says whose proofs count.
const ISSUERS: &str = "issuers.toml";

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// Everything that is wrong or would refuse requests; empty when all is well.
    pub findings: Vec<Finding>,
    /// What is easy to get wrong in policies. It is not wrong in itself.
    pub advice: Vec<Finding>,
    /// The server file, where it was given and can be used.
    pub server: Option<ServerConfig>,
    /// The bundle, where it can be used.
    pub bundle: Option<Bundle>,
}

impl Report {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

/// Checks the bundle in `bundle_dir` with its policy tests, and `server_file` where there is one.
///
/// Stricter than loading: what loads and yet refuses requests, such as a role whose owner is gone, is a finding too.
#[must_use]
pub fn check(server_file: Option<&Path>, bundle_dir: &Path) -> Report {
    let mut findings = Vec::new();
    let server = server_file.and_then(|file| kept(ServerConfig::load(file), &mut findings));
    let mut of_bundle = Vec::new();
    let bundle = kept(Bundle::load(bundle_dir), &mut of_bundle);
    if let Some(bundle) = &bundle {
        of_bundle.extend(bundle.warnings.iter().cloned());
        if let Some(server) = &server {
            of_bundle.extend(own_issuer(&server.server.public_url, bundle));
        }
        of_bundle.extend(bundle.issuers.iter().flat_map(|issuer| plain_http(issuer, bundle)));
    }
    findings.extend(of_bundle.into_iter().map(|finding| in_folder(finding, bundle_dir)));
    let advice = bundle.iter().flat_map(|bundle| bundle.advice.iter().cloned());
    let advice = advice.map(|finding| in_folder(finding, bundle_dir)).collect();
    Report { findings, advice, server, bundle }
}

/// A finding of a bundle, as seen from where its folder is. One about the folder itself has its whole path already.
#[must_use]
pub fn in_folder(finding: Finding, folder: &Path) -> Finding {
    if finding.file == folder { finding } else { Finding { file: folder.join(&finding.file), ..finding } }
}

/// Where an issuer's keys would be fetched by plain http, which a broker that serves does on this machine neither. (One
/// that plays with everything embedded does, and so the bundle loads.)
fn plain_http(issuer: &Issuer, bundle: &Bundle) -> Vec<Finding> {
    let (option, fetched) = match &issuer.keys {
        KeySource::JwksUri { url, dangerous_allow_http: false } => ("jwks_uri", vec![url.clone()]),
        KeySource::Discovery { jwks_origins, dangerous_allow_http: false } if issuer.url.starts_with("https:") => {
            ("jwks_origins", jwks_origins.clone())
        }
        KeySource::Discovery { dangerous_allow_http: false, .. } => ("url", vec![issuer.url.clone()]),
        _ => return Vec::new(),
    };
    let text = bundle.files.get(ISSUERS).map(String::as_str).unwrap_or_default();
    let line_of = |url: &str| {
        let quoted = [format!("\"{url}\""), format!("'{url}'")];
        (1..).zip(text.lines()).find(|(_, line)| quoted.iter().any(|url| line.contains(url))).map(|(line, _)| line)
    };
    let finding = |url: String| {
        let reason = format!(
            "{option}: {url:?} of the issuer {:?} is plain http: `serve` fetches no keys over it; use https, or say \
             dangerous_allow_http = true",
            issuer.name.as_str()
        );
        Finding { file: ISSUERS.into(), line: line_of(&url), reason }
    };
    fetched.into_iter().filter(|url| url.starts_with("http:")).map(finding).collect()
}

fn kept<T>(result: Result<T, Vec<Finding>>, findings: &mut Vec<Finding>) -> Option<T> {
    result.map_err(|found| findings.extend(found)).ok()
}

/// An issuer that is the broker itself: its tokens are accepted by a path of their own, not by trusting oneself.
fn own_issuer(public_url: &str, bundle: &Bundle) -> Option<Finding> {
    let issuer = bundle.issuers.iter().find(|issuer| issuer.url == public_url)?;
    let reason = format!("the issuer {:?} has the broker's own public_url", issuer.name.as_str());
    Some(Finding { file: ISSUERS.into(), line: None, reason })
}
