//! Keys at rest and in use.
//!
//! Three kinds of keys live here and never mix. *Key-encryption keys* are elsewhere: in a file, in the environment, in
//! Vault's Transit engine ([`LocalKek`], [`TransitKek`]). One of them wraps the *data key* ([`DataKeys`]), which seals
//! what the store keeps ([`DataKeySealer`]). *Signing keys* are made by the broker, kept in the store under the data
//! key, and used through the `Signer` port ([`KeyRing`]): whoever needs a signature knows the port and not the key.
//!
//! Private keys never leave this module: there is no accessor for one, and none of its types prints one.

mod data_keys;
mod entropy;
mod jwks;
mod keeper;
mod kek;
mod keyring;
mod life;
mod own_token;
mod sealer;
mod secret_key;
mod signer;
mod statement;
#[cfg(test)]
mod testing;
mod transit;

pub use data_keys::{DataKeyError, DataKeyKeeper, DataKeys, KeyEncryptionKeys, NamedTwice, Rewrapped};
pub use entropy::SystemEntropy;
pub use jwks::Jwk;
pub use keeper::{
    CertificateRequest, Certification, Import, Judge, KeyChangeError, KeyKeeper, KeyView, MakeRequest, Rotation,
};
pub use kek::{KeyFileError, KeyVariableError, LocalKek};
pub use keyring::{CertificationFailed, Certify, KeyRing, KeyRingError, seal_for_import};
pub use own_token::{OwnToken, OwnTokens};
pub use sealer::DataKeySealer;
pub use signer::{KeyRejected, LocalSigner};
pub use statement::Statements;
pub use transit::{TransitKek, TransitSettings};
