//! Verification of proofs.

use async_trait::async_trait;

use crate::error::Refusal;
use crate::identity::{Proof, VerifiedProof};
use crate::spiffe::TrustDomain;
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

    /// The trust domain whose SVIDs it verifies, where it is of SPIFFE. Such proofs need no `iss`, and one that they have
    /// means nothing.
    fn trust_domain(&self) -> Option<&TrustDomain> {
        None
    }

    /// Whether the key that a proof names is among those held now. Causes no outbound traffic. It is asked where several
    /// issuers have the same `iss`, so that the one whose key it is verifies without anybody waiting for the others.
    fn holds_key_of(&self, _proof: &Proof) -> bool {
        true
    }

    /// Verifies a proof whose unverified issuer was accepted, or whose unverified trust domain is this issuer's.
    ///
    /// # Errors
    /// A [`Refusal`] at [`crate::error::Step::Proof`]. Its `detail` echoes nothing of the token unless the signature
    /// had verified.
    async fn verify(&self, proof: &Proof, now: Timestamp) -> Result<VerifiedProof, Refusal>;
}

/// Reads what must be known before verification: who claims to have signed.
pub trait ProofReader: Send + Sync {
    /// Whom a proof claims to come from.
    ///
    /// # Errors
    /// A [`Refusal`] when the proof is not in a form that says so.
    fn read(&self, proof: &Proof) -> Result<UnverifiedSource, Refusal>;
}

/// Whom a proof claims to come from. Nothing of it is known to be true: it selects configured issuers and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedSource {
    /// `iss`. A certificate has none.
    pub unverified_issuer: Option<String>,
    /// The trust domain of the SPIFFE ID that it names, or why it names none.
    pub unverified_trust_domain: Result<TrustDomain, Refusal>,
}
