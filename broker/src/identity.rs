//! Verification of proofs, one kind of issuer a file.

pub mod jose;
pub mod jwks;
pub mod oidc;
