//! Backends: where credentials are minted.

use std::path::PathBuf;

use hallpass_core::id::BackendName;
use hallpass_core::port::SignatureAlgorithm;

/// A configured backend, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name in roles.
    pub name: BackendName,
    /// Its kind with its settings.
    pub kind: BackendKind,
}

/// The kinds of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Access tokens signed by the broker (RFC 9068).
    Jwt {
        /// How they are signed, unless a role says otherwise.
        algorithm: SignatureAlgorithm,
    },
    /// Certificates signed by the built-in authority.
    X509 {
        /// SPIFFE trust domain of the certificates' URI names.
        trust_domain: String,
        /// Where the authority is an intermediate of somebody's own root: a PEM file with its certificate first, then
        /// every further one up to and including the root. Without it the authority is its own root.
        ca_certificate_file: Option<PathBuf>,
    },
}
