//! `[bundle]` and `[store]`: what the broker reads and where it keeps its record.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Finding;
use crate::config::document::{Document, beside};

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
