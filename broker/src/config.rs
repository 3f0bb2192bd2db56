//! Configuration: what people write, checked into types that cannot be wrong.
//!
//! Each section has one file with a `Raw…` type (as written, unknown keys refused) and a validated type that the rest
//! of the broker reads.

pub mod attestor;
pub mod backend;
pub mod bundle;
pub mod check;
mod document;
mod environment;
pub mod issuer;
pub mod matrix;
mod owner;
pub mod role;
pub mod server;
mod url;

use std::path::PathBuf;

pub use hallpass_core::finding::Finding;

/// The text of one policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// File, relative to the bundle.
    pub file: PathBuf,
    /// Cedar.
    pub text: String,
}
