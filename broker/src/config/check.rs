//! `hallpass-broker check`: everything that is wrong with a server file and a bundle, before anything runs on them.

use std::fmt;
use std::path::Path;

use super::Finding;
use super::bundle::Bundle;
use super::server::ServerConfig;

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// Everything that is wrong or would refuse requests; empty when all is well.
    pub findings: Vec<Finding>,
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
    }
    findings.extend(of_bundle.into_iter().map(|finding| Finding { file: bundle_dir.join(&finding.file), ..finding }));
    Report { findings, server, bundle }
}

fn kept<T>(result: Result<T, Vec<Finding>>, findings: &mut Vec<Finding>) -> Option<T> {
    result.map_err(|found| findings.extend(found)).ok()
}

/// An issuer that is the broker itself: its tokens are accepted by a path of their own, not by trusting oneself.
fn own_issuer(public_url: &str, bundle: &Bundle) -> Option<Finding> {
    let issuer = bundle.issuers.iter().find(|issuer| issuer.url == public_url)?;
    let reason = format!("the issuer {:?} has the broker's own public_url", issuer.name.as_str());
    Some(Finding { file: "issuers.toml".into(), line: None, reason })
}
