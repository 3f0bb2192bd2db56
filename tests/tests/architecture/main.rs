//! The rules of the house, checked: which package may depend on which, and which file may name what.
//!
//! Every rule is a function from text to [`Breach`]es, so that it is shown to fail on a small sample besides being held
//! against the sources. A breach names file and line, and says what to do instead.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test says that something is wrong"
)]

mod metrics;
mod packages;
mod promtool;
mod rules;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    place: String,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Fails with the whole list: whoever mends one breach wants to see the others too.
#[track_caller]
fn assert_kept(rule: &str, breaches: &[Breach]) {
    let list: String = breaches.iter().map(|breach| format!("\n  {breach}")).collect();
    assert!(breaches.is_empty(), "{rule}{list}");
}

/// The workspace's root.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package lies in the workspace").to_path_buf()
}
