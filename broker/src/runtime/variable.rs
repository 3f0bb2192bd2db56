//! A secret in the environment.

use std::os::unix::ffi::OsStringExt as _;

use zeroize::Zeroizing;

/// The value of the environment variable `name`.
#[must_use]
pub fn read(name: &str) -> Option<Zeroizing<Vec<u8>>> {
    std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec()))
}
