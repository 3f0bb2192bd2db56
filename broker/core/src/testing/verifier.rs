use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{Reason, Refusal};
use crate::id::IssuerName;
use crate::identity::{Proof, TokenType, VerifiedProof};
use crate::port::{IdentityVerifier, ProofReader, UnverifiedSource};
use crate::secret::Secret;
use crate::time::Timestamp;

/// A verifier whose tokens are keys into a table: `<issuer>|<key>`.
#[derive(Debug)]
pub struct FixedVerifier {
    issuer: IssuerName,
    proofs: Mutex<HashMap<String, Result<VerifiedProof, Refusal>>>,
}

impl FixedVerifier {
    /// A verifier of the issuer `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { issuer: IssuerName::new(name).unwrap(), proofs: Mutex::default() }
    }

    /// A token that verifies as `proof`.
    pub fn sign(&self, proof: VerifiedProof) -> String {
        self.put(Ok(proof))
    }

    /// A token that is refused.
    pub fn refuse(&self, refusal: Refusal) -> String {
        self.put(Err(refusal))
    }

    fn put(&self, outcome: Result<VerifiedProof, Refusal>) -> String {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        let token = format!("{}|{}", self.issuer, proofs.len());
        proofs.insert(token.clone(), outcome);
        token
    }
}

/// A token, as it is received.
#[must_use]
pub fn received(token: &str) -> Proof {
    Proof::of_token(Secret::new(token.to_owned()), TokenType::Jwt)
}

#[async_trait]
impl IdentityVerifier for FixedVerifier {
    fn issuer(&self) -> &IssuerName {
        &self.issuer
    }

    fn accepts(&self, unverified_issuer: &str) -> bool {
        unverified_issuer == self.issuer.as_str()
    }

    async fn verify(&self, proof: &Proof, _now: Timestamp) -> Result<VerifiedProof, Refusal> {
        let proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = || Err(Refusal::proof(Reason::BadSignature, "the signature does not verify"));
        proofs.get(proof.token()?.expose()).cloned().unwrap_or_else(unknown)
    }
}

/// Reads the issuer of a [`FixedVerifier`]'s token.
#[derive(Clone, Copy, Debug)]
pub struct FixedReader;

impl ProofReader for FixedReader {
    fn read(&self, proof: &Proof) -> Result<UnverifiedSource, Refusal> {
        let not_a_token = || Refusal::proof(Reason::NotAJws, "not a token");
        let (issuer, _) = proof.token()?.expose().split_once('|').ok_or_else(not_a_token)?;
        Ok(UnverifiedSource {
            unverified_issuer: Some(issuer.to_owned()),
            unverified_trust_domain: Err(Refusal::proof(Reason::BadSpiffeId, "not a SPIFFE ID")),
        })
    }
}
