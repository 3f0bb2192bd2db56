//! The files of a bundle: which belong to it, and taking them from a folder or from a caller without being led elsewhere
//! or flooded.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hallpass_core::id::RoleName;
use hallpass_core::port::Files;

use crate::config::Finding;

/// Most files of a bundle.
pub(crate) const MAX_FILES: usize = 10_000;

/// Largest file of a bundle.
pub(crate) const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Largest bundle. All of it is held in memory while it is loaded, beside the one in force.
pub(crate) const MAX_BUNDLE_BYTES: usize = 16 * 1024 * 1024;

/// Deepest folder: a role's name has at most eight segments.
const MAX_DEPTH: usize = 9;

/// What a file of a bundle says, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Issuers,
    Attestors,
    Backends,
    Owners,
    Environments,
    Role(RoleName),
    Policy,
    Tests,
}

impl Section {
    /// The section of `path`, relative to the bundle, with `/`.
    ///
    /// # Errors
    /// Why there can be no such file: ignored, a misnamed `forbid` would stop nobody.
    pub(crate) fn of(path: &str) -> Result<Self, String> {
        match path {
            "issuers.toml" => return Ok(Self::Issuers),
            "attestors.toml" => return Ok(Self::Attestors),
            "backends.toml" => return Ok(Self::Backends),
            "owners.toml" => return Ok(Self::Owners),
            "environments.toml" => return Ok(Self::Environments),
            _ => {}
        }
        if let Some(role) = path.strip_prefix("roles/") {
            let name = role.strip_suffix(".toml").ok_or("files of roles end in .toml")?;
            return RoleName::new(name).map(Self::Role).map_err(|error| error.to_string());
        }
        if let Some(policy) = path.strip_prefix("policies/") {
            let flat = policy.ends_with(".cedar") && !policy.contains('/');
            return if flat { Ok(Self::Policy) } else { Err("policies are files policies/*.cedar".to_owned()) };
        }
        if let Some(test) = path.strip_prefix("tests/") {
            let flat = test.ends_with(".toml") && !test.contains('/');
            return if flat { Ok(Self::Tests) } else { Err("policy tests are files tests/*.toml".to_owned()) };
        }
        Err("no file of a bundle: there are issuers.toml, attestors.toml, backends.toml, owners.toml, environments.toml, \
             roles/**/*.toml, policies/*.cedar and tests/*.toml"
            .to_owned())
    }
}

/// A bundle's files as they are taken in, from wherever they come, within the bounds of every bundle.
#[derive(Default)]
struct Shelf {
    files: Files,
    bytes: usize,
}

impl Shelf {
    /// Whether one more file may be asked for.
    fn has_room(&self) -> Result<(), Refused> {
        if self.files.len() < MAX_FILES {
            return Ok(());
        }
        Err(Refused::All(format!("is one file too many: a bundle has at most {MAX_FILES}")))
    }

    /// Takes a file.
    fn put(&mut self, path: &str, text: String) -> Result<(), Refused> {
        self.has_room()?;
        Section::of(path).map_err(Refused::This)?;
        if text.len() > MAX_FILE_BYTES {
            return Err(Refused::This(too_large()));
        }
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > MAX_BUNDLE_BYTES {
            return Err(Refused::All(format!("makes the bundle larger than {MAX_BUNDLE_BYTES} bytes")));
        }
        self.files.insert(path.to_owned(), text);
        Ok(())
    }
}

/// Why a file is not taken in.
enum Refused {
    /// It is not acceptable.
    This(String),
    /// Nor is anything after it.
    All(String),
}

fn too_large() -> String {
    format!("is larger than {MAX_FILE_BYTES} bytes")
}

/// Takes in files that somebody sent, by path.
///
/// # Errors
/// Everything that is too large or does not belong into a bundle.
pub(crate) fn take(sent: Files) -> Result<Files, Vec<Finding>> {
    let mut shelf = Shelf::default();
    let mut findings = Vec::new();
    for (path, text) in sent {
        let (reason, last) = match shelf.put(&path, text) {
            Ok(()) => continue,
            Err(Refused::This(reason)) => (reason, false),
            Err(Refused::All(reason)) => (reason, true),
        };
        findings.push(finding(Path::new(&shown(&path)), reason));
        if last {
            break;
        }
    }
    if findings.is_empty() && shelf.files.is_empty() {
        findings.push(finding(Path::new("."), NOTHING.to_owned()));
    }
    if findings.is_empty() { Ok(shelf.files) } else { Err(findings) }
}

/// A path that somebody sent, as far as it is echoed.
fn shown(path: &str) -> String {
    const MAX_CHARS: usize = 300;
    path.chars().take(MAX_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

const NOTHING: &str = "has no file of a bundle";

/// Reads the files of the bundle in `folder`, by path.
///
/// Hidden files, `*.md`, and other files at the top that are neither TOML nor Cedar are no part of it.
///
/// # Errors
/// Everything that cannot be read or does not belong there.
pub(crate) fn read(folder: &Path) -> Result<Files, Vec<Finding>> {
    let root = folder.canonicalize().map_err(|error| vec![finding(folder, format!("cannot be read: {error}"))])?;
    let mut walk = Walk { root: &root, shelf: Shelf::default(), findings: Vec::new(), full: false };
    walk.folder(&root, "", 0);
    if walk.findings.is_empty() && walk.shelf.files.is_empty() {
        walk.findings.push(finding(folder, NOTHING.to_owned()));
    }
    if walk.findings.is_empty() { Ok(walk.shelf.files) } else { Err(walk.findings) }
}

struct Walk<'a> {
    root: &'a Path,
    shelf: Shelf,
    findings: Vec<Finding>,
    full: bool,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, within: &str, depth: usize) {
        let mut entries = Vec::new();
        match fs::read_dir(folder) {
            Ok(read) => {
                for entry in read.take(MAX_FILES + 1) {
                    match entry {
                        Ok(entry) => entries.push(entry.file_name()),
                        Err(error) => self.refuse(within, format!("cannot be read: {error}")),
                    }
                }
            }
            Err(error) => self.refuse(within, format!("cannot be read: {error}")),
        }
        entries.sort();
        for name in entries {
            let Some(name) = name.to_str() else {
                self.refuse(within, format!("has an entry whose name is not UTF-8: {name:?}"));
                continue;
            };
            if name.starts_with('.') || name.ends_with(".md") {
                continue;
            }
            let path = if within.is_empty() { name.to_owned() } else { format!("{within}/{name}") };
            self.entry(folder, name, &path, depth);
            if self.full {
                return;
            }
        }
    }

    fn entry(&mut self, folder: &Path, name: &str, path: &str, depth: usize) {
        // Links are followed only inside the bundle: Kubernetes mounts a configuration map as links to hidden folders
        // beside them, while a link that leaves could pull any file of the machine into error messages.
        let target = match folder.join(name).canonicalize() {
            Ok(target) if target.starts_with(self.root) => target,
            Ok(_) => return self.refuse(path, "is a symbolic link that leaves the bundle".to_owned()),
            Err(error) => return self.refuse(path, format!("cannot be read: {error}")),
        };
        if target.is_dir() {
            if folder.starts_with(&target) {
                return self.refuse(path, "is a symbolic link to a folder around it".to_owned());
            }
            match path {
                "roles" | "policies" | "tests" => self.folder(&target, path, depth + 1),
                // Public keys of issuers and attestors, named by them.
                "keys" => {}
                _ if depth == 0 => self.refuse(path, "no folder of a bundle: roles, policies, tests, keys".to_owned()),
                _ if depth >= MAX_DEPTH => self.refuse(path, "lies too deep".to_owned()),
                _ => self.folder(&target, path, depth + 1),
            }
            return;
        }
        if depth == 0 && !path.ends_with(".toml") && !path.ends_with(".cedar") {
            return;
        }
        match Section::of(path) {
            Ok(_) => self.file(&target, path),
            Err(reason) => self.refuse(path, reason),
        }
    }

    fn file(&mut self, target: &Path, path: &str) {
        let taken = self
            .shelf
            .has_room()
            .and_then(|()| read_bounded(target).map_err(Refused::This))
            .and_then(|text| self.shelf.put(path, text));
        match taken {
            Ok(()) => {}
            Err(Refused::This(reason)) => self.refuse(path, reason),
            Err(Refused::All(reason)) => {
                self.full = true;
                self.refuse(path, reason);
            }
        }
    }

    fn refuse(&mut self, path: &str, reason: String) {
        self.findings.push(finding(Path::new(if path.is_empty() { "." } else { path }), reason));
    }
}

/// Reads a regular file of bounded size.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_bounded(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // Asked before opening: to open a pipe would wait for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).map_err(unreadable)?.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

fn finding(file: &Path, reason: String) -> Finding {
    Finding { file: PathBuf::from(file), line: None, reason }
}
