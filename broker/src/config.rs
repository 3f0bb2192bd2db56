//! Configuration: what people write, checked into types that cannot be wrong.
//!
//! Each section has one file with a `Raw…` type (as written, unknown keys refused) and a validated type that the rest
//! of the broker reads.

pub mod backend;
pub mod bundle;
pub mod check;
mod document;
mod environment;
pub mod issuer;
mod owner;
pub mod role;
pub mod server;
mod url;

use std::fmt;
use std::path::PathBuf;

/// Something wrong in a file, with the place to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// File, relative to the bundle or as given on the command line.
    pub file: PathBuf,
    /// Line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.reason),
            None => write!(f, "{}: {}", self.file.display(), self.reason),
        }
    }
}

/// The text of one policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// File, relative to the bundle.
    pub file: PathBuf,
    /// Cedar.
    pub text: String,
}
