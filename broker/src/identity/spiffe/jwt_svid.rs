//! JWT-SVIDs (SPIFFE JWT-SVID §2 to §6).

use hallpass_core::error::{Reason, Refusal};
use hallpass_core::identity::{ProofForm, VerifiedProof};
use hallpass_core::provenance::Provenance;
use hallpass_core::spiffe::SpiffeId;

use super::SpiffeVerifier;
use crate::config::issuer::spiffe::KIND;
use crate::identity::jose::{Header, UnverifiedJws};
use crate::identity::oidc::claims;

impl SpiffeVerifier {
    /// What costs little comes first; nothing of the token is repeated before its signature has verified.
    pub(super) async fn verify_jwt(&self, token: &str) -> Result<VerifiedProof, Refusal> {
        let jws = UnverifiedJws::parse(token)?;
        let unverified = jws.unverified_spiffe_id()?;
        if *unverified.trust_domain() != self.settings.trust_domain {
            let detail = "the `sub` of the proof is of another trust domain than its verifier";
            return Err(Refusal::proof(Reason::UnknownIssuer, detail).about("sub"));
        }
        check_header(jws.unverified_header())?;
        let algorithm = jws.unverified_header().algorithm;
        let algorithm =
            algorithm.filter(|algorithm| self.settings.algorithms.contains(algorithm)).ok_or_else(|| {
                let detail = "the `alg` of the proof is none that its trust domain is configured to sign with";
                Refusal::proof(Reason::AlgNotAllowed, detail).about("alg")
            })?;
        let Some(key_id) = jws.unverified_header().key_id.clone() else {
            let detail = "the header of a JWT-SVID names its key in `kid`";
            return Err(Refusal::proof(Reason::UnknownKid, detail).about("kid"));
        };
        let key = self.bundle.find(Some(&key_id), algorithm).await?;
        let signed = jws.verify(&key, algorithm)?;
        let members = signed.members();
        let typed = || {
            claims::refuse_delegated(members)?;
            let id = signed_id(members.get("sub").and_then(|sub| sub.as_text()))?;
            // What the broker knows of an SVID takes the place of claims that are called the same.
            let mut attributes = claims::attributes(members)?;
            attributes.extend(self.attributes(&id, "jwt"));
            Ok(VerifiedProof {
                form: ProofForm::Token,
                issuer: self.settings.name.clone(),
                issuer_kind: KIND.into(),
                principal: self.settings.principal,
                subject: id.as_str().to_owned(),
                audiences: claims::audiences(members)?,
                expires_at: claims::numeric_date(members, "exp", f64::floor)?,
                not_before: claims::numeric_date(members, "nbf", f64::ceil)?,
                issued_at: claims::numeric_date(members, "iat", f64::floor)?,
                proof_id: claims::proof_id(members)?,
                key_id: Some(key_id),
                binding_key: claims::binding_key(members)?,
                attributes,
                provenance: Provenance::default(),
                grant: None,
                may_act: claims::may_act(members)?,
                rules: self.settings.rules.clone(),
            })
        };
        typed().map_err(Refusal::after_signature)
    }
}

/// §2: `alg`, `kid` and `typ`, and no other; `typ`, where there is one, is `JWT` or `JOSE`.
fn check_header(header: &Header) -> Result<(), Refusal> {
    if header.has_others {
        let detail = "the header of a JWT-SVID has `alg`, `kid` and `typ` and no other member";
        return Err(Refusal::proof(Reason::MalformedHeader, detail));
    }
    match header.token_type.as_deref() {
        None | Some("JWT" | "JOSE") => Ok(()),
        Some(_) => {
            let detail = "the `typ` of a JWT-SVID is \"JWT\" or \"JOSE\"";
            Err(Refusal::proof(Reason::WrongTokenType, detail).about("typ"))
        }
    }
}

fn signed_id(subject: Option<&str>) -> Result<SpiffeId, Refusal> {
    let bad = |detail: String| Refusal::proof(Reason::BadSpiffeId, detail).about("sub");
    let subject = subject.ok_or_else(|| bad("`sub` is not a string".to_owned()))?;
    SpiffeId::parse(subject).map_err(|rule| bad(format!("`sub` is no SPIFFE ID: {rule}")))
}
