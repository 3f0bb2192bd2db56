//! Proofs of SPIFFE workloads: X.509-SVIDs that were shown in a TLS handshake, and JWT-SVIDs.
//!
//! The invariant: an identity of a trust domain is verified by that domain's own bundle and no other. Whatever else is
//! written in an SVID, an `iss` or a common name, is not looked at.
//!
//! Both forms give the same subject, the SPIFFE ID, and are not the same holder: what was opened by a certificate is
//! renewed and ended by a certificate of the same ID alone, since a JWT-SVID is a bearer token that others may have seen.
//! It is bound to the ID and not to the certificate's thumbprint: SVIDs and their keys are replaced within the hour, and
//! whoever the trust domain gives the next one is the same workload.

mod jwt_svid;
mod reader;
#[cfg(test)]
mod tests;
mod verified;
mod x509_svid;

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::id::IssuerName;
use hallpass_core::identity::{AttributeValue, Attributes, Evidence, Proof, VerifiedProof};
use hallpass_core::port::IdentityVerifier;
use hallpass_core::spiffe::{SpiffeId, TrustDomain};
use hallpass_core::time::{Clock, Timestamp};

pub use self::reader::ProofForms;
use self::verified::VerifiedChains;
use super::jwks::{KeyCache, KeysUnusable};
use crate::config::issuer::SpiffeIssuer;
use crate::outbound::{AllowHttp, Outbound};

/// Verifies the proofs of one trust domain.
#[derive(Debug)]
pub struct SpiffeVerifier {
    settings: SpiffeIssuer,
    bundle: KeyCache,
    verified: VerifiedChains,
}

impl SpiffeVerifier {
    /// A verifier for a trust domain. Nothing is fetched yet.
    ///
    /// # Errors
    /// [`KeysUnusable`] when the settings cannot work.
    pub fn new(
        settings: SpiffeIssuer,
        clock: Arc<dyn Clock>,
        client: Arc<Outbound>,
        allow_http: AllowHttp,
    ) -> Result<Self, KeysUnusable> {
        let bundle = KeyCache::of_bundle(&settings, clock, client, allow_http)?;
        Ok(Self { settings, bundle, verified: VerifiedChains::default() })
    }

    /// The trust bundle, to fetch it ahead of the first request and to tell whether it can be had.
    #[must_use]
    pub fn bundle(&self) -> &KeyCache {
        &self.bundle
    }

    /// What policy may know of either form.
    fn attributes(&self, id: &SpiffeId, form: &'static str) -> Attributes {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        Attributes::from([
            ("svid".to_owned(), text(form)),
            ("trust_domain".to_owned(), text(id.trust_domain().as_str())),
            ("path".to_owned(), text(id.path())),
            // For policies to see: what is shown again and again may have been seen by others.
            ("single_use".to_owned(), AttributeValue::Bool(form == "jwt" && self.settings.rules.single_use)),
        ])
    }
}

#[async_trait]
impl IdentityVerifier for SpiffeVerifier {
    fn issuer(&self) -> &IssuerName {
        &self.settings.name
    }

    /// An `iss` is nobody's of a trust domain.
    fn accepts(&self, _unverified_issuer: &str) -> bool {
        false
    }

    fn trust_domain(&self) -> Option<&TrustDomain> {
        Some(&self.settings.trust_domain)
    }

    async fn verify(&self, proof: &Proof, now: Timestamp) -> Result<VerifiedProof, Refusal> {
        let not_accepted = |form| {
            let detail = format!("the trust domain's {form} are not accepted as proofs");
            Refusal::proof(Reason::WrongTokenType, detail)
        };
        match &proof.evidence {
            Evidence::Token { .. } if !self.settings.jwt_svids => Err(not_accepted("JWT-SVIDs")),
            Evidence::Token { token, .. } => self.verify_jwt(token.expose()).await,
            Evidence::Certificate(_) if !self.settings.x509_svids => Err(not_accepted("X.509-SVIDs")),
            Evidence::Certificate(certificate) => self.verify_x509(certificate, now).await,
        }
    }
}
