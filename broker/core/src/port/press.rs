//! From the files of a bundle to a revision in force.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Files, NamedFiles, OnceRecorded};
use crate::catalog::Revision;
use crate::finding::Finding;

/// Makes revisions out of bundles.
#[async_trait]
pub trait Press: Send + Sync + 'static {
    /// The revision that `files` make. It is not in force yet.
    ///
    /// # Errors
    /// [`CompileError`].
    async fn compile(&self, files: Files) -> Result<Candidate, CompileError>;
}

/// A revision that could be in force.
pub struct Candidate {
    /// The revision.
    pub revision: Arc<Revision>,
    /// Its content.
    pub files: Files,
    /// What it names beside itself, as it was when it was read.
    pub named: NamedFiles,
    /// What is not wrong with it and yet will refuse requests.
    pub warnings: Vec<Finding>,
    /// Puts it into force for every request that begins from now on.
    pub put_in_force: OnceRecorded,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("revision", &self.revision.id).finish_non_exhaustive()
    }
}

/// Why no revision can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// Everything that is wrong with the files.
    Invalid(Vec<Finding>),
    /// Something that is not in the files failed; trying again later can help.
    Unavailable(String),
}

/// Where bundles come from; exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleSource {
    /// A folder, published at start and on SIGHUP. Whoever may change the folder may publish.
    Files,
    /// The API. Policy says who may publish.
    Api,
}

impl BundleSource {
    /// The word used in configuration and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Api => "api",
        }
    }
}
