//! Keys at rest and in use.
//!
//! Two kinds of keys live here and never mix. *Key-encryption keys* come from files beside the broker and protect what
//! the store keeps ([`KekSealer`]). *Signing keys* are made by the broker, kept in the store under a key-encryption
//! key, and used through the `Signer` port ([`KeyRing`]): whoever needs a signature knows the port and not the key.
//!
//! Private keys never leave this module: there is no accessor for one, and none of its types prints one.

mod entropy;
mod jwks;
mod keeper;
mod kek;
mod keyring;
mod life;
mod own_token;
mod sealer;
mod signer;
mod statement;
#[cfg(test)]
mod testing;

pub use entropy::SystemEntropy;
pub use jwks::Jwk;
pub use keeper::{Import, KeyChangeError, KeyKeeper, KeyView, Rotation};
pub use kek::{KeyEncryptionKeys, KeyFileError};
pub use keyring::{CertificationFailed, Certify, KeyRing, KeyRingError, seal_for_import};
pub use own_token::{OwnToken, OwnTokens};
pub use sealer::KekSealer;
pub use signer::{KeyRejected, LocalSigner};
pub use statement::Statements;
