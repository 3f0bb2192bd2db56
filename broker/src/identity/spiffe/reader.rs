//! Whom a proof claims to come from, whatever its form.

use hallpass_core::error::Refusal;
use hallpass_core::identity::{Evidence, Proof};
use hallpass_core::port::{ProofReader, UnverifiedSource};

use super::x509_svid;
use crate::identity::jose::JwsReader;

/// Reads tokens and certificates.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProofForms;

impl ProofReader for ProofForms {
    fn read(&self, proof: &Proof) -> Result<UnverifiedSource, Refusal> {
        match &proof.evidence {
            Evidence::Token { .. } => JwsReader.read(proof),
            Evidence::Certificate(certificate) => Ok(UnverifiedSource {
                unverified_issuer: None,
                unverified_trust_domain: x509_svid::unverified_id(certificate).map(|id| id.trust_domain().clone()),
            }),
        }
    }
}
