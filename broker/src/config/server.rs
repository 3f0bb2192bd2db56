//! The server file, `hallpass.toml`: how one broker runs. What is governed is in the bundle.

mod audit;
mod keys;
mod limits;
mod listener;
mod storage;
mod telemetry;
#[cfg(test)]
mod tests;

pub use audit::{Audit, Destination, Export};
pub use keys::{KeySource, Keys, Transit};
pub use limits::Limits;
pub use listener::{Admin, CertificateHeader, CertificateProxies, OwnCertificate, ProxyHeader, Server, Tls};
pub use storage::{BundleSource, Store};
pub use telemetry::{LogFormat, Telemetry, TraceSettings};

use std::path::Path;

use super::Finding;
use super::bundle::read_bounded;
use super::document::Document;

/// A server file in which nothing is wrong. Relative paths in it are seen from its own folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// `[server]`.
    pub server: Server,
    /// `[bundle]`.
    pub bundle: BundleSource,
    /// `[store]`.
    pub store: Store,
    /// `[keys]`.
    pub keys: Keys,
    /// `[audit]`.
    pub audit: Audit,
    /// `[limits]`.
    pub limits: Limits,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
}

const SECTIONS: &[&str] = &["server", "bundle", "store", "keys", "audit", "limits", "telemetry"];

impl ServerConfig {
    /// Loads the server file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(file: &Path) -> Result<Self, Vec<Finding>> {
        let unreadable = |reason| vec![Finding { file: file.to_owned(), line: None, reason }];
        Self::parse(file, &read_bounded(file).map_err(unreadable)?)
    }

    /// Reads the text of a server file; `file` is its name in findings, and its folder the start of relative paths.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<Finding>> {
        let document = Document::parse(file, text)?;
        let mut findings = Vec::new();
        for (key, line) in document.keys().filter(|(key, _)| !SECTIONS.contains(key)) {
            let reason = format!("unknown key {key:?}: there are [{}]", SECTIONS.join("], ["));
            findings.push(Finding { file: file.to_owned(), line: Some(line), reason });
        }
        let server = required(&document, "server", listener::read, &mut findings);
        let bundle = required(&document, "bundle", storage::read_bundle, &mut findings);
        let store = required(&document, "store", storage::read_store, &mut findings);
        let keys = required(&document, "keys", keys::read, &mut findings);
        let audit = optional(&document, "audit", audit::read, &mut findings);
        let limits = optional(&document, "limits", limits::read, &mut findings);
        let telemetry = optional(&document, "telemetry", telemetry::read, &mut findings);
        let config = || {
            Some(Self {
                server: server?,
                bundle: bundle?,
                store: store?,
                keys: keys?,
                audit: audit?,
                limits: limits?,
                telemetry: telemetry?,
            })
        };
        findings.sort();
        findings.dedup();
        config().filter(|_| findings.is_empty()).ok_or(findings)
    }
}

type Read<T> = fn(&Document<'_>, &mut Vec<Finding>) -> Option<T>;

fn required<T>(document: &Document<'_>, key: &str, read: Read<T>, findings: &mut Vec<Finding>) -> Option<T> {
    match document.child(key) {
        Some(section) => read(&section, findings),
        None => {
            let reason = format!("[{key}] is missing");
            findings.push(Finding { file: document.file().to_owned(), line: None, reason });
            None
        }
    }
}

fn optional<T: Default>(document: &Document<'_>, key: &str, read: Read<T>, findings: &mut Vec<Finding>) -> Option<T> {
    match document.child(key) {
        Some(section) => read(&section, findings),
        None if document.keys().any(|(found, _)| found == key) => {
            findings.push(document.finding(key, format!("is a section: write [{key}]")));
            None
        }
        None => Some(T::default()),
    }
}
