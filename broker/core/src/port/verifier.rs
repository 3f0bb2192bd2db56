//! Verification of proofs.

use async_trait::async_trait;

use crate::error::Refusal;
use crate::identity::{Proof, VerifiedProof};
use crate::time::Timestamp;

/// Verifies the proofs of one configured issuer.
///
/// An implementation checks form, header, key and signature, and types the claims. It does not judge time or audience:
/// [`crate::identity::VerifiedIdentity::accept`] does, against the injected clock.
#[async_trait]
pub trait IdentityVerifier: Send + Sync {
    /// The configured issuer name.
    fn issuer(&self) -> &crate::id::IssuerName;

    /// Whether the *unverified* `iss` of a proof is, byte for byte, this issuer's. Causes no outbound traffic.
    fn accepts(&self, unverified_issuer: &str) -> bool;

    /// Verifies a proof whose unverified issuer was accepted.
    ///
    /// # Errors
    /// A [`Refusal`] at [`crate::error::Step::Proof`]. Its `detail` echoes nothing of the token unless the signature
    /// had verified.
    async fn verify(&self, proof: &Proof, now: Timestamp) -> Result<VerifiedProof, Refusal>;
}

/// Reads the one thing that must be known before verification: who claims to have signed.
pub trait ProofReader: Send + Sync {
    /// The *unverified* `iss` of a proof. It selects a configured issuer and nothing else.
    ///
    /// # Errors
    /// A [`Refusal`] when the proof is not in a form that has one.
    fn unverified_issuer(&self, proof: &Proof) -> Result<String, Refusal>;
}
