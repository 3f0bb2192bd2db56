//! `[keys]`: where the key-encryption key is, and how signing keys are announced. No key is written in configuration.

use std::path::PathBuf;

use hallpass_core::time::Ttl;
use serde::Deserialize;
use url::Url;

use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration, beside};

/// `[keys]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The key-encryption key that wraps.
    pub active: KeySource,
    /// Those that did before it, which still unwrap.
    pub retired: Vec<KeySource>,
    /// How long a new signing key is published before it signs.
    pub announce: Ttl,
}

/// Where a key-encryption key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// In this environment variable.
    Env(String),
    /// In the Transit engine of Vault or OpenBao.
    Transit(Transit),
}

/// A key of a Transit engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transit {
    /// Origin of the server.
    pub address: Url,
    /// Where the engine is mounted.
    pub mount: String,
    /// The key's name.
    pub key: String,
    /// Its namespace, if any.
    pub namespace: Option<String>,
    /// File with the token.
    pub token_file: PathBuf,
    /// Further certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// Plain http is spoken too.
    pub plain_http: bool,
}

/// As long as relying parties keep a key set: those that still hold the old set would refuse what the new key signs.
const ANNOUNCE: Bounded = Bounded { standard: Ttl::from_hours(1), min: Ttl::ZERO, max: Ttl::from_hours(24 * 30) };

/// Where Transit is usually mounted.
const USUAL_MOUNT: &str = "transit";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeys {
    key_encryption_key_file: Option<PathBuf>,
    key_encryption_key_env: Option<String>,
    key_encryption_key_transit: Option<RawTransit>,
    #[serde(default)]
    retired_key_encryption_key_files: Vec<PathBuf>,
    #[serde(default)]
    retired_key_encryption_key_envs: Vec<String>,
    #[serde(default)]
    retired_key_encryption_key_transits: Vec<RawTransit>,
    announce: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTransit {
    address: String,
    key: String,
    token_file: PathBuf,
    mount: Option<String>,
    namespace: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    dangerous_allow_http: bool,
}

pub(super) fn read(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Keys> {
    let raw: RawKeys = section.read(findings)?;
    let mut reading = Reading { section, findings };
    let file = raw.key_encryption_key_file.map(|file| ("key_encryption_key_file", reading.file(&file)));
    let env = raw.key_encryption_key_env;
    let env = env.map(|name| ("key_encryption_key_env", reading.env("key_encryption_key_env", name)));
    let transit = raw.key_encryption_key_transit;
    let transit = transit.map(|raw| ("key_encryption_key_transit", reading.transit("key_encryption_key_transit", raw)));
    let mut named = [file, env, transit].into_iter().flatten();
    let active = named.next();
    for (second, _) in named {
        let first = active.as_ref().map(|(name, _)| *name).unwrap_or_default();
        let reason = format!(
            "{first} is given too, and one key wraps: name one of the two, and the one that is to be replaced as a \
             retired key (retired_{second}s or retired_{first}s)"
        );
        reading.findings.push(section.finding(second, reason));
    }
    if active.is_none() {
        let reason = "is missing: name key_encryption_key_file, key_encryption_key_env or key_encryption_key_transit";
        reading.findings.push(section.finding("key_encryption_key_file", reason));
    }
    let mut retired: Vec<(&str, Option<KeySource>)> = Vec::new();
    for file in &raw.retired_key_encryption_key_files {
        retired.push(("retired_key_encryption_key_files", reading.file(file)));
    }
    for name in raw.retired_key_encryption_key_envs {
        retired.push(("retired_key_encryption_key_envs", reading.env("retired_key_encryption_key_envs", name)));
    }
    for raw in raw.retired_key_encryption_key_transits {
        let field = "retired_key_encryption_key_transits";
        retired.push((field, reading.transit(field, raw)));
    }
    let active = active.and_then(|(name, source)| Some((name, source?)));
    for (field, source) in &retired {
        if let (Some(source), Some((name, active))) = (source, &active)
            && source == active
        {
            reading.findings.push(section.finding(field, format!("names {name} again: a retired key is another one")));
        }
    }
    let announce = ANNOUNCE.check(section, "announce", raw.announce, findings);
    Some(Keys { active: active?.1, retired: retired.into_iter().filter_map(|(_, source)| source).collect(), announce })
}

struct Reading<'a, 'b> {
    section: &'a Document<'b>,
    findings: &'a mut Vec<Finding>,
}

impl Reading<'_, '_> {
    fn file(&self, file: &std::path::Path) -> Option<KeySource> {
        Some(KeySource::File(beside(self.section.file(), file)))
    }

    fn env(&mut self, field: &str, name: String) -> Option<KeySource> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
            let reason = "is the name of an environment variable (letters, digits and _), not the key itself";
            self.findings.push(self.section.finding(field, reason));
            return None;
        }
        Some(KeySource::Env(name))
    }

    fn transit(&mut self, field: &str, raw: RawTransit) -> Option<KeySource> {
        let RawTransit { address, key, token_file, mount, namespace, ca_file, dangerous_allow_http: plain_http } = raw;
        let mut found = |name: &str, reason: &str| {
            self.findings.push(self.section.finding(&format!("{field}.{name}"), reason));
        };
        let origin = |url: &Url| {
            let scheme = url.scheme() == "https" || (url.scheme() == "http" && plain_http);
            let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            scheme && bare && url.host().is_some() && url.username().is_empty() && url.password().is_none()
        };
        let address = Url::parse(&address).ok().filter(origin);
        if address.is_none() {
            found(
                "address",
                "give the server's https origin, such as https://vault.example.com:8200; plain http takes \
                 dangerous_allow_http = true",
            );
        }
        let mount = mount.unwrap_or_else(|| USUAL_MOUNT.to_owned());
        let paths = [("mount", Some(&mount)), ("namespace", namespace.as_ref())];
        let wrong = paths.into_iter().filter(|(_, path)| path.is_some_and(|path| !path.split('/').all(is_name)));
        for (name, _) in wrong.collect::<Vec<_>>() {
            found(name, "give it without slashes around it, of letters, digits, - _ and .");
        }
        if !is_name(&key) {
            found("key", "give the key's name alone, of letters, digits, - _ and .");
        }
        let here = |path: PathBuf| beside(self.section.file(), &path);
        Some(KeySource::Transit(Transit {
            address: address?,
            mount,
            key,
            namespace,
            token_file: here(token_file),
            ca_file: ca_file.map(here),
            plain_http,
        }))
    }
}

/// One part of a path that means nothing but itself.
fn is_name(part: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&part.len()) && part.chars().all(word) && part != "." && part != ".."
}
