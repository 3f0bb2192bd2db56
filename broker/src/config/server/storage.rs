//! `[bundle]`, `[store]` and `[keys]`: what the broker reads and what it keeps.

use std::path::{Path, PathBuf};

use hallpass_core::time::Ttl;
use serde::Deserialize;

use crate::config::Finding;
use crate::config::document::{Bounded, Document, Duration, beside};

/// `[bundle]`, validated: where bundles come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleSource {
    /// A folder, published at start and on SIGHUP.
    Files {
        /// The folder.
        path: PathBuf,
    },
    /// The API. What was published last is in force after a restart too.
    Api {
        /// Folder of the bundle that the very first start publishes.
        bootstrap: Option<PathBuf>,
    },
}

impl BundleSource {
    /// The folder that a bundle is read from, sooner or later.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Files { path } => Some(path),
            Self::Api { bootstrap } => bootstrap.as_deref(),
        }
    }
}

/// `[store]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Database file.
    pub path: PathBuf,
}

/// `[keys]`, validated. Keys are in files of their own; configuration only says where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The key that seals.
    pub key_encryption_key_file: PathBuf,
    /// Keys that sealed before it, which still open.
    pub retired_key_encryption_key_files: Vec<PathBuf>,
    /// How long a new signing key is published before it signs.
    pub announce: Ttl,
}

/// As long as relying parties keep a key set: those that still hold the old set would refuse what the new key signs.
const ANNOUNCE: Bounded = Bounded { standard: Ttl::from_hours(1), min: Ttl::ZERO, max: Ttl::from_hours(24 * 30) };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBundle {
    source: Option<String>,
    path: Option<PathBuf>,
    bootstrap: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeys {
    key_encryption_key_file: PathBuf,
    #[serde(default)]
    retired_key_encryption_key_files: Vec<PathBuf>,
    announce: Option<Duration>,
}

pub(super) fn read_bundle(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<BundleSource> {
    let RawBundle { source, path, bootstrap } = section.read(findings)?;
    let beside = |path: PathBuf| beside(section.file(), &path);
    match source.as_deref().unwrap_or("files") {
        "files" => {
            if bootstrap.is_some() {
                findings.push(section.finding("bootstrap", "is for source = \"api\"; files have a path"));
            }
            if path.is_none() {
                findings.push(section.finding("path", "is missing: the folder of the bundle"));
            }
            Some(BundleSource::Files { path: beside(path?) })
        }
        "api" => {
            if path.is_some() {
                let reason = "is for source = \"files\"; what the very first start publishes is `bootstrap`";
                findings.push(section.finding("path", reason));
            }
            Some(BundleSource::Api { bootstrap: bootstrap.map(beside) })
        }
        other => {
            findings.push(section.finding("source", format!("there is no source {other:?}; use \"files\" or \"api\"")));
            None
        }
    }
}

pub(super) fn read_store(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Store> {
    let raw: RawStore = section.read(findings)?;
    Some(Store { path: beside(section.file(), &raw.path) })
}

pub(super) fn read_keys(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<Keys> {
    let raw: RawKeys = section.read(findings)?;
    if raw.retired_key_encryption_key_files.contains(&raw.key_encryption_key_file) {
        let reason = "names key_encryption_key_file again: a retired key is another one";
        findings.push(section.finding("retired_key_encryption_key_files", reason));
    }
    let retired = raw.retired_key_encryption_key_files.iter();
    Some(Keys {
        key_encryption_key_file: beside(section.file(), &raw.key_encryption_key_file),
        retired_key_encryption_key_files: retired.map(|file| beside(section.file(), file)).collect(),
        announce: ANNOUNCE.check(section, "announce", raw.announce, findings),
    })
}
