//! Verification of proofs, one kind of issuer a file.

pub mod jose;
pub mod jwks;
pub mod oidc;
pub mod ring_provider;

#[cfg(test)]
pub(crate) mod testing;
