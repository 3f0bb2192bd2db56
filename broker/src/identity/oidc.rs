//! Proofs of OpenID Connect issuers: JWTs that are verified with the keys the issuer publishes. What their claims mean is
//! for the kind of the issuer to say ([`super::profile`]).
//!
//! The order of the checks is part of the design. What costs little and tells an attacker nothing comes first: form,
//! issuer, type, algorithm, key, signature. Only then are claims typed and may a refusal repeat one. Time and audience
//! are core's to judge ([`hallpass_core::identity::VerifiedIdentity::accept`]).

pub(super) mod claims;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::id::IssuerName;
use hallpass_core::identity::{Proof, VerifiedProof};
use hallpass_core::port::IdentityVerifier;
use hallpass_core::time::{Clock, Timestamp};

pub use self::claims::is_provenance_field;
use self::claims::{ProvenanceMap, UnknownProvenanceField};
pub(super) use self::claims::{fill, texts};
use super::jose::{Header, UnverifiedJws};
use super::jwks::{KeyCache, KeysUnusable};
use super::profile::Profile;
use crate::config::issuer::{Issuer, JwsAlgorithm};
use crate::outbound::{AllowHttp, Outbound};

/// Verifies the proofs of one OpenID Connect issuer.
#[derive(Debug)]
pub struct OidcVerifier {
    settings: Issuer,
    profile: Option<&'static Profile>,
    provenance: ProvenanceMap,
    keys: KeyCache,
}

/// Why an issuer's settings cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerUnusable {
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeysUnusable),
    /// Its provenance names a field that does not exist.
    #[error(transparent)]
    Provenance(#[from] UnknownProvenanceField),
}

impl OidcVerifier {
    /// A verifier for an issuer. Nothing is fetched yet. `allow_http` is where plain http may go to fetch keys, unless
    /// the issuer's own setting allows more.
    ///
    /// # Errors
    /// [`IssuerUnusable`] when the settings cannot work.
    pub fn new(
        settings: Issuer,
        clock: Arc<dyn Clock>,
        client: Arc<Outbound>,
        allow_http: AllowHttp,
    ) -> Result<Self, IssuerUnusable> {
        let keys = KeyCache::new(&settings, clock, client, allow_http)?;
        let provenance = ProvenanceMap::new(&settings.provenance)?;
        Ok(Self { profile: Profile::of(settings.kind), settings, provenance, keys })
    }

    /// The issuer's keys, to fetch them ahead of the first request and to tell whether they can be had.
    #[must_use]
    pub fn keys(&self) -> &KeyCache {
        &self.keys
    }

    /// `typ` (RFC 8725 §3.11): a token of another kind, such as an access token for somebody else, is not a proof.
    fn check_type(&self, header: &Header) -> Result<(), Refusal> {
        match header.normal_token_type() {
            Some(token_type) if !self.settings.token_types.contains(&token_type) => {
                let detail = "the `typ` of the proof is none that is accepted from its issuer";
                Err(Refusal::proof(Reason::WrongTokenType, detail).about("typ"))
            }
            _ => Ok(()),
        }
    }

    /// `alg` (RFC 8725 §3.1): chosen by the operator, not by the token.
    fn check_algorithm(&self, header: &Header) -> Result<JwsAlgorithm, Refusal> {
        header.algorithm.filter(|algorithm| self.settings.algorithms.contains(algorithm)).ok_or_else(|| {
            let detail = "the `alg` of the proof is none that its issuer is configured to sign with";
            Refusal::proof(Reason::AlgNotAllowed, detail).about("alg")
        })
    }
}

#[async_trait]
impl IdentityVerifier for OidcVerifier {
    fn issuer(&self) -> &IssuerName {
        &self.settings.name
    }

    fn accepts(&self, unverified_issuer: &str) -> bool {
        unverified_issuer == self.settings.url
    }

    fn holds_key_of(&self, proof: &Proof) -> bool {
        let jws = proof.token().and_then(|token| UnverifiedJws::parse(token.expose()));
        jws.is_ok_and(|jws| {
            let header = jws.unverified_header();
            self.check_algorithm(header).is_ok_and(|algorithm| self.keys.holds(header.key_id.as_deref(), algorithm))
        })
    }

    async fn verify(&self, proof: &Proof, _now: Timestamp) -> Result<VerifiedProof, Refusal> {
        let jws = UnverifiedJws::parse(proof.token()?.expose())?;
        if !jws.unverified_issuer()?.is_some_and(|issuer| self.accepts(issuer)) {
            return Err(Refusal::proof(Reason::UnknownIssuer, "the issuer of the proof is not configured").about("iss"));
        }
        self.check_type(jws.unverified_header())?;
        let algorithm = self.check_algorithm(jws.unverified_header())?;
        let key = self.keys.find(jws.unverified_header().key_id.as_deref(), algorithm).await?;
        let fingerprint = self.profile.is_some_and(|profile| !profile.has_proof_ids).then(|| jws.fingerprint());
        let signed = jws.verify(&key, algorithm)?;
        let key_id = key.key_id().unwrap_or_else(|| key.thumbprint());
        let mut verified = claims::type_claims(&signed, &self.settings, self.profile, &self.provenance, key_id)
            .map_err(Refusal::after_signature)?;
        verified.proof_id = verified.proof_id.or(fingerprint);
        Ok(verified)
    }
}
