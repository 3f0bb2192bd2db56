//! `[bundle]`, `[store]` and `[keys]`: what the broker reads and what it keeps.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::Finding;
use crate::config::document::{Document, beside};

/// `[bundle]`, validated: the bundle is files, published at start and on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleSource {
    /// Folder of the bundle.
    pub path: PathBuf,
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
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBundle {
    source: Option<String>,
    path: PathBuf,
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
}

pub(super) fn read_bundle(section: &Document<'_>, findings: &mut Vec<Finding>) -> Option<BundleSource> {
    if section.text_at("source") == Some("api") {
        findings.push(section.finding("source", "this version does not support \"api\"; use \"files\""));
        return None;
    }
    let raw: RawBundle = section.read(findings)?;
    if let Some(other) = raw.source.filter(|source| source != "files") {
        findings.push(section.finding("source", format!("there is no source {other:?}; use \"files\"")));
    }
    Some(BundleSource { path: beside(section.file(), &raw.path) })
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
    })
}
