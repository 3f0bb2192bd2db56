//! The domain of Hallpass: what a grant is, who may have one, and how it ends.
//!
//! This package holds types, ports, use-cases and worker ticks. It knows no transport, no database and no
//! cryptographic token format: those are adapters that implement the traits in [`port`]. Two rules shape it:
//!
//! * **Types carry the proof that a check was made.** A [`identity::Proof`] becomes a [`identity::VerifiedProof`] in an
//!   adapter, a [`identity::VerifiedIdentity`] only here, and a [`policy::Permit`] only by an allowing decision. What
//!   needs a permit cannot be called by somebody who forgot to decide.
//! * **Intent before effect.** What is about to happen is durable before a backend hears of it, so that a crash leaves
//!   work to finish and never a credential that nobody knows.

pub mod attestation;
pub mod audit;
pub mod binding;
pub mod catalog;
pub mod credential;
pub mod delegation;
pub mod entropy;
pub mod error;
pub mod finding;
pub mod grant;
pub mod id;
pub mod identity;
pub mod in_force;
mod measure;
pub mod owner;
pub mod policy;
pub mod port;
pub mod provenance;
pub mod quarantine;
pub mod rate;
pub mod request;
pub mod revocation;
pub mod role;
pub mod secret;
pub mod selector;
pub mod service;
pub mod spiffe;
pub mod time;
pub mod trace;
pub mod work;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
