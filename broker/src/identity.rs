//! Verification of proofs, one kind of issuer a file.

pub mod attestation;
pub mod buildkite;
pub mod circleci;
pub mod dpop;
pub mod github_actions;
pub mod gitlab;
pub mod google;
pub mod jose;
pub mod jwks;
pub mod kubernetes;
pub mod oidc;
pub mod profile;
pub mod ring_provider;
pub mod spiffe;
pub mod terraform_cloud;
mod x509;

#[cfg(test)]
pub(crate) mod testing;
