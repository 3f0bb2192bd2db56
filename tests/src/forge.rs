//! Proofs that no library would make, forged by `tests/cases/forge.py` from the recipes of the catalogue.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Issuer, component};

/// A forge with fresh keys.
#[derive(Debug)]
pub struct Forge {
    python: PathBuf,
    folder: TempDir,
}

/// The tokens of one case.
#[derive(Clone, Debug, Deserialize)]
pub struct Forged {
    /// Name of the issuer that the case is about.
    pub issuer: String,
    /// The role that is asked for.
    pub role: String,
    /// The token of the case.
    pub token: String,
    /// A good token of the same issuer for the same role: if this is refused, the case says nothing.
    pub control: String,
}

impl Forge {
    /// A forge, where Python and its packages are there.
    #[must_use]
    pub fn new() -> Option<Self> {
        let folder = TempDir::with_prefix("hallpass-forge-").expect("a temporary folder");
        let forge = Self { python: component::python()?, folder };
        forge.run("keys");
        Some(forge)
    }

    /// The key set of each issuer, by the issuer's name.
    #[must_use]
    pub fn key_sets(&self) -> BTreeMap<String, Value> {
        serde_json::from_str(&self.run("key-sets")).expect("the forge writes JSON")
    }

    /// The tokens of every case with a recipe, by the case's id, for issuers at these addresses.
    #[must_use]
    pub fn tokens(&self, issuers: &BTreeMap<String, Issuer>) -> BTreeMap<String, Forged> {
        let urls: BTreeMap<_, _> = issuers.iter().map(|(name, issuer)| (name, issuer.url())).collect();
        let file = self.folder.path().join("issuers.json");
        fs::write(file, serde_json::to_string(&urls).expect("a map of texts")).expect("the folder can be written");
        serde_json::from_str(&self.run("tokens")).expect("the forge writes JSON")
    }

    fn run(&self, command: &str) -> String {
        let script = component::root().join("tests/cases/forge.py");
        let mut python = Command::new(&self.python);
        python.arg(script).arg(command).arg(self.folder.path());
        let output = python.output().expect("Python starts");
        assert!(output.status.success(), "forge.py {command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the forge writes UTF-8")
    }
}

/// Where the catalogue lies.
#[must_use]
pub fn catalogue() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases/catalogue.json"))
}
