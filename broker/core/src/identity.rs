//! From bytes that claim something to an identity that was verified.
//!
//! `Proof` (received) → [`VerifiedProof`] (an adapter checked the signature) → [`VerifiedIdentity`] (this module
//! checked time, audience and age against the injected clock). Only this module makes the last.

mod workload;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::binding::{Binding, BindingKey, Possession};
use crate::delegation::MayAct;
use crate::error::{Reason, Refusal};
use crate::grant::GrantRecord;
use crate::id::{GrantId, IssuerName};
use crate::provenance::Provenance;
use crate::secret::Secret;
use crate::time::{Timestamp, Ttl};

pub use self::workload::workload_type;

/// Evidence of identity as it was received: nothing about it is known to be true.
#[derive(Debug)]
pub struct Proof {
    /// What was presented.
    pub evidence: Evidence,
    /// The certificate of the connection that it came over, whoever signed it. It is there for proofs that are bound to
    /// a certificate (RFC 8705 §3): by itself it proves nothing but that its key is at the other end.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The key that was shown with it by a DPoP proof: for the request, so that all proofs of one request share it.
    pub possession: Option<Arc<Possession>>,
}

/// What is presented as proof.
#[derive(Debug)]
pub enum Evidence {
    /// A token.
    Token {
        /// The token.
        token: Secret,
        /// What the caller says that it is (RFC 8693 §3).
        token_type: TokenType,
    },
    /// A certificate whose key the other end has shown possession of: an X.509-SVID, if a trust domain signed it.
    Certificate(Arc<ClientCertificate>),
}

impl Proof {
    /// A token that came over a connection without a certificate.
    #[must_use]
    pub fn of_token(token: Secret, token_type: TokenType) -> Self {
        Self { evidence: Evidence::Token { token, token_type }, certificate: None, possession: None }
    }

    /// A certificate whose key the other end has shown possession of.
    #[must_use]
    pub fn of_certificate(certificate: Arc<ClientCertificate>) -> Self {
        Self {
            evidence: Evidence::Certificate(Arc::clone(&certificate)),
            certificate: Some(certificate),
            possession: None,
        }
    }

    /// The token.
    ///
    /// # Errors
    /// A [`Refusal`] for a proof that is none: who verifies tokens verifies nothing else.
    pub fn token(&self) -> Result<&Secret, Refusal> {
        match &self.evidence {
            Evidence::Token { token, .. } => Ok(token),
            Evidence::Certificate(_) => {
                Err(Refusal::proof(Reason::WrongTokenType, "the proof is a certificate, and its issuer signs tokens"))
            }
        }
    }

    /// The same with the key that was shown with it, where one was.
    #[must_use]
    pub fn with_possession(self, possession: Option<Arc<Possession>>) -> Self {
        Self { possession, ..self }
    }

    /// What was shown along with it.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let certificate = self.certificate.as_ref();
        Shown {
            dpop: self.possession.as_ref().map(|shown| shown.key()),
            certificate: certificate.map(|shown| BindingKey::new(Binding::Mtls, shown.sha256())),
            token_type: match &self.evidence {
                Evidence::Token { token_type, .. } => Some(*token_type),
                Evidence::Certificate(_) => None,
            },
            by_another: false,
        }
    }

    /// SHA-256 of what was presented: of the token, or of the certificate itself.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        match &self.evidence {
            Evidence::Token { token, .. } => sha256(token.expose().as_bytes()),
            Evidence::Certificate(certificate) => certificate.sha256(),
        }
    }
}

/// A certificate, and those above it, that the other end of a connection sent and whose key it has. Whether anybody
/// trustworthy signed it is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    chain: Vec<Vec<u8>>,
    sha256: [u8; 32],
    chain_sha256: [u8; 32],
}

impl ClientCertificate {
    /// Most certificates in a chain, its own included. Chains of trust domains have two or three. Whoever made more of
    /// them, each with the name of every other's issuer, would have a verifier try all of their orders, before anybody
    /// knows who it is.
    pub const MAX_CHAIN: usize = 4;

    /// Most bytes of a chain. It is kept with its connection and read for each request.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// A chain in DER, the certificate itself first. None of an empty one, nor of one beyond the bounds.
    #[must_use]
    pub fn new(chain: Vec<Vec<u8>>) -> Option<Self> {
        let bytes = chain.iter().fold(0_usize, |sum, one| sum.saturating_add(one.len()));
        if chain.len() > Self::MAX_CHAIN || bytes > Self::MAX_BYTES {
            return None;
        }
        let leaf_sha256 = sha256(chain.first()?);
        // The digests of its certificates, one behind the other: where each ends is thus beyond doubt.
        let chain_sha256 = sha256(&chain.iter().map(|one| sha256(one)).collect::<Vec<_>>().concat());
        Some(Self { chain, sha256: leaf_sha256, chain_sha256 })
    }

    /// The certificate itself, in DER.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// What was sent with it, in DER.
    #[must_use]
    pub fn intermediates(&self) -> &[Vec<u8>] {
        self.chain.get(1..).unwrap_or_default()
    }

    /// SHA-256 of the certificate itself.
    #[must_use]
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// SHA-256 that stands for the whole chain: another chain has another.
    #[must_use]
    pub const fn chain_sha256(&self) -> [u8; 32] {
        self.chain_sha256
    }

    /// SHA-256 of the certificate itself, in base64url: `x5t#S256` (RFC 8705 §3.1).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sha256)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest.as_ref());
    sha256
}

/// What a proof is, by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofForm {
    /// A token: whoever has it can send it, so it says whom it is meant for.
    Token,
    /// A certificate: its key took part in a handshake with this broker, so it names no audience.
    Certificate,
}

/// What a caller says that a token is (RFC 8693 §3). It selects no verification path: the issuer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// `urn:ietf:params:oauth:token-type:jwt`.
    Jwt,
    /// `urn:ietf:params:oauth:token-type:id_token`.
    IdToken,
    /// `urn:ietf:params:oauth:token-type:access_token`.
    AccessToken,
    /// A bearer token in an `Authorization` header, whose type nobody says.
    Bearer,
    /// A token in an `Authorization` header under the scheme of tokens that are bound to a key (RFC 9449 §7.1).
    Dpop,
}

/// Attributes of an identity, as the issuer kind typed them.
pub type Attributes = BTreeMap<String, AttributeValue>;

/// One typed attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// Text.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

/// What kind of caller an identity is, in policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A CI job or a service.
    #[default]
    Workload,
    /// A person who administers.
    Operator,
    /// An agent that acts for a person or a job.
    Agent,
}

impl PrincipalKind {
    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Operator => "operator",
            Self::Agent => "agent",
        }
    }
}

/// An issuer's settings that core enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptanceRules {
    /// Audiences that mean this broker. A proof must name at least one of them.
    pub audiences: Vec<String>,
    /// Clock difference that is tolerated on `exp`, `nbf` and `iat`.
    pub leeway: Ttl,
    /// Longest time since `iat`, where the issuer's tokens must be fresh; then `iat` is required.
    pub max_age: Option<Ttl>,
    /// Longest time from `iat` to `exp` (from now, without `iat`): a token valid for years is not a proof of now.
    pub max_lifetime: Ttl,
    /// Whether each proof can mint once only; then `jti` is required.
    pub single_use: bool,
    /// Whether a credential must not outlive the proof it was minted for.
    pub bounds_ttl: bool,
}

/// What an adapter verified cryptographically: the issuer said this. Whether it is still true is for
/// [`VerifiedIdentity::accept`] to say.
#[derive(Clone, Debug)]
pub struct VerifiedProof {
    /// What it is.
    pub form: ProofForm,
    /// Configured issuer that signed.
    pub issuer: IssuerName,
    /// The issuer's kind, such as `oidc`.
    pub issuer_kind: Cow<'static, str>,
    /// What kind of caller the issuer's identities are.
    pub principal: PrincipalKind,
    /// `sub`.
    pub subject: String,
    /// `aud`, always as a list. A certificate has none.
    pub audiences: Vec<String>,
    /// `exp`, rounded down.
    pub expires_at: Option<Timestamp>,
    /// `nbf`, rounded up.
    pub not_before: Option<Timestamp>,
    /// `iat`, rounded down.
    pub issued_at: Option<Timestamp>,
    /// `jti`.
    pub proof_id: Option<String>,
    /// `kid` of the key that verified.
    pub key_id: Option<String>,
    /// Key that its issuer bound it to (`cnf`, RFC 7800 §3.1): whoever sends it must show possession of that key. None for
    /// bearer proofs.
    pub binding_key: Option<BindingKey>,
    /// Typed attributes.
    pub attributes: Attributes,
    /// Change and run behind the proof.
    pub provenance: Provenance,
    /// The grant behind a proof that this broker minted itself.
    pub grant: Option<GrantId>,
    /// The only one who may act for the subject, where the issuer said so: then the proof is good with that one's alone.
    pub may_act: Option<MayAct>,
    /// The issuer's settings.
    pub rules: AcceptanceRules,
}

/// What was shown along with a proof: keys whose possession was proved with this very request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The key of a DPoP proof.
    pub dpop: Option<BindingKey>,
    /// The certificate of the connection, whoever signed it.
    pub certificate: Option<BindingKey>,
    /// What the token was said to be.
    pub token_type: Option<TokenType>,
    /// Whether the proof is sent by somebody else, who acts for whoever it is of. What is shown is then that one's, and binds
    /// that one; a proof that is bound itself is good with its own key all the same (RFC 7800 §3: whoever presents it has the
    /// key), be it that both are of one workload, or that the one it is of made a DPoP proof for this very request.
    pub by_another: bool,
}

impl Shown {
    /// Confirms that the key of something that is bound to one was shown.
    ///
    /// # Errors
    /// A [`Refusal`] that says how that key is shown.
    pub fn confirm(self, bound_to: BindingKey) -> Result<(), Refusal> {
        self.binding(Some(bound_to)).map(drop)
    }

    /// The key that whoever sent a proof is bound to: the one that the proof is bound to, or else one that was shown. A
    /// DPoP proof is made for the purpose, and goes before a certificate.
    fn binding(self, bound_to: Option<BindingKey>) -> Result<Option<BindingKey>, Refusal> {
        let refuse = |reason, detail: &str| Err(Refusal::proof(reason, detail).about("cnf"));
        let Some(key) = bound_to else {
            if self.token_type == Some(TokenType::Dpop) {
                // RFC 9449 §7.1: what is sent under this scheme is bound to the key of the proof.
                return refuse(Reason::PopMismatch, "the token is bound to no key; send it as `Authorization: Bearer`");
            }
            return Ok(if self.by_another { None } else { self.dpop.or(self.certificate) });
        };
        let (shown, how) = match key.binding() {
            // RFC 9449 §7.2: as a bearer token it would work for whoever has it.
            Binding::Dpop if self.token_type == Some(TokenType::Bearer) => {
                let detail =
                    "the token is bound to a key; send it as `Authorization: DPoP` with a DPoP proof by that key";
                return refuse(Reason::PopRequired, detail);
            }
            Binding::Dpop => (self.dpop, "a DPoP proof"),
            Binding::Mtls if self.dpop.is_some() && !self.by_another => {
                let detail =
                    "the proof is bound to a client certificate, and cannot be bound to a second key; leave `DPoP` out";
                return refuse(Reason::PopMismatch, detail);
            }
            Binding::Mtls | Binding::Svid => (self.certificate, "the client certificate of the connection"),
        };
        match shown {
            Some(shown) if shown == key => Ok(Some(key)),
            _ if self.by_another => {
                let detail = format!(
                    "the proof of whoever is acted for is bound to a key, and works for nobody who does not show it, whoever \
                     may act: show that key by {how}, or have that one ask for a proof that is bound to no key, and that \
                     names the actor in `may_act` if its issuer can say so"
                );
                refuse(if shown.is_some() { Reason::PopMismatch } else { Reason::PopRequired }, &detail)
            }
            Some(_) => refuse(Reason::PopMismatch, &format!("the proof is bound to another key than that of {how}")),
            None => refuse(Reason::PopRequired, &format!("the proof is bound to a key; show that key by {how}")),
        }
    }
}

/// An identity whose proof verified and holds now.
#[derive(Clone, Debug)]
pub struct VerifiedIdentity {
    proof: VerifiedProof,
    binding: Option<BindingKey>,
    shown_key: Option<BindingKey>,
    expires_at: Timestamp,
    source: Option<IpAddr>,
    multi_audience: bool,
}

impl VerifiedIdentity {
    /// Checks what an issuer said against what was shown along with it, against the clock and against the issuer's
    /// settings: binding, expiry, validity, age, lifetime, audience (RFC 7519 §4.1, RFC 8725bis §3). Single use is consumed
    /// later, by the store, in the transaction of the grant.
    ///
    /// # Errors
    /// A [`Refusal`] of the proof that names the claim.
    pub fn accept(proof: VerifiedProof, shown: Shown, source: Option<IpAddr>, now: Timestamp) -> Result<Self, Refusal> {
        let shown_key = shown.binding(proof.binding_key)?;
        let binding = match proof.form {
            ProofForm::Token => shown_key,
            // An X.509-SVID is renewed every hour: who holds a grant is the workload, by any of them, and not by a token that
            // says the same name.
            ProofForm::Certificate => {
                let own = shown.dpop.filter(|_| !shown.by_another);
                own.or_else(|| Some(BindingKey::of_svid(&proof.subject)))
            }
        };
        let rules = &proof.rules;
        if proof.subject.is_empty() {
            return Err(missing("sub"));
        }
        let expires_at = proof.expires_at.ok_or_else(|| missing("exp"))?;
        if proof.not_before.is_some_and(|nbf| expires_at < nbf) {
            return Err(Refusal::proof(Reason::MalformedClaims, "`exp` lies before `nbf`").about("exp"));
        }
        if rules.max_age.is_some() && proof.issued_at.is_none() {
            return Err(missing("iat"));
        }
        if now >= expires_at.plus(rules.leeway) {
            return Err(Refusal::proof(Reason::Expired, format!("the proof expired at {expires_at}")).about("exp"));
        }
        if let Some(at) = proof.not_before.filter(|nbf| *nbf > now.plus(rules.leeway)) {
            return Err(Refusal::proof(Reason::NotYetValid, format!("the proof is not valid before {at}")).about("nbf"));
        }
        if let Some(at) = proof.issued_at.filter(|iat| *iat > now.plus(rules.leeway)) {
            let detail = format!("the proof says it was issued at {at}, which is in the future");
            return Err(Refusal::proof(Reason::NotYetValid, detail).about("iat"));
        }
        if proof.issued_at.is_some_and(|iat| expires_at < iat) {
            return Err(Refusal::proof(Reason::MalformedClaims, "`exp` lies before `iat`").about("exp"));
        }
        let lifetime_end = proof.issued_at.unwrap_or(now).plus(rules.max_lifetime);
        if expires_at > lifetime_end {
            let detail = format!("the proof is valid for longer than the {} allowed to its issuer", rules.max_lifetime);
            return Err(Refusal::proof(Reason::LifetimeTooLong, detail).about("exp"));
        }
        if let (Some(max_age), Some(issued_at)) = (rules.max_age, proof.issued_at)
            && now > issued_at.plus(max_age).plus(rules.leeway)
        {
            let detail = format!("the proof was issued at {issued_at}, more than {max_age} ago; ask for a fresh one");
            return Err(Refusal::proof(Reason::TokenTooOld, detail).about("iat"));
        }
        let is_meant_for_us = proof.form == ProofForm::Certificate
            || proof.audiences.iter().any(|audience| rules.audiences.contains(audience));
        if !is_meant_for_us {
            let detail = format!("the proof is meant for {:?}, which is not this broker", proof.audiences);
            return Err(Refusal::proof(Reason::WrongAudience, detail).about("aud"));
        }
        if rules.single_use && proof.proof_id.as_ref().is_none_or(String::is_empty) {
            return Err(missing("jti"));
        }
        let multi_audience = proof.audiences.len() > 1;
        Ok(Self { proof, binding, shown_key, expires_at, source, multi_audience })
    }

    /// Refuses a proof for single use that may have been used before `restored_at`, when the record of such uses was put
    /// back to an older one. Judged by `iat`, with the leeway that it was accepted with; without `iat` by whether its
    /// lifetime let it be accepted then.
    ///
    /// # Errors
    /// A [`Refusal`] that says which proof would do.
    pub fn confirm_unused_before(&self, restored_at: Timestamp) -> Result<(), Refusal> {
        let rules = &self.proof.rules;
        let (last_use, parameter) = match self.proof.issued_at {
            Some(_) => (restored_at.plus(rules.leeway), "iat"),
            None => (restored_at.plus(rules.leeway).plus(rules.max_lifetime), "exp"),
        };
        if !rules.single_use || self.proof.issued_at.unwrap_or(self.expires_at) > last_use {
            return Ok(());
        }
        let detail = format!(
            "the broker's record was put back to an older one, and whether this proof was used before is not known; ask \
             your issuer for one whose `{parameter}` is after {last_use}"
        );
        Err(Refusal::proof(Reason::IssuedBeforeRestore, detail).about(parameter))
    }

    /// Whoever holds `grant`, behind a credential of it that served as proof, for as long as that credential works.
    /// `multi_audience` is of the proof that the grant was opened by: it is no better for having been exchanged.
    #[must_use]
    pub fn behind_credential_of(mut self, grant: &GrantRecord, multi_audience: bool) -> Self {
        self.multi_audience |= multi_audience;
        let holder = grant.holder.clone();
        let proof = &mut self.proof;
        proof.issuer = holder.issuer;
        proof.issuer_kind = Cow::Owned(holder.issuer_kind);
        proof.principal = holder.principal;
        proof.subject = holder.subject;
        proof.attributes = holder.attributes;
        proof.proof_id = holder.proof_id;
        proof.key_id = holder.proof_key_id;
        self.binding = holder.binding_key;
        proof.provenance = grant.provenance.clone();
        self
    }

    /// Configured issuer.
    #[must_use]
    pub fn issuer(&self) -> &IssuerName {
        &self.proof.issuer
    }

    /// Everything that the issuer said.
    #[must_use]
    pub fn proof(&self) -> &VerifiedProof {
        &self.proof
    }

    /// The key that it is bound to: its possession was shown, and must be shown again by whoever holds what it is given.
    #[must_use]
    pub fn binding_key(&self) -> Option<BindingKey> {
        self.binding
    }

    /// The key whose possession was shown, that a token is bound to which it is given: the one that it is bound to itself, or
    /// that of its X.509-SVID.
    #[must_use]
    pub fn shown_key(&self) -> Option<BindingKey> {
        self.shown_key
    }

    /// Subject at the issuer.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.proof.subject
    }

    /// When the proof stops to be one, without leeway: leeway forgives clocks and must not lengthen a grant.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Until when a record of this proof's use must be kept to refuse a replay: past the last instant at which the
    /// proof could be accepted, with an hour to spare for clocks and for operators who restore backups.
    #[must_use]
    pub fn replay_horizon(&self) -> Timestamp {
        self.expires_at.plus(self.proof.rules.leeway).plus(REPLAY_RECORD_MARGIN)
    }

    /// Address that the request came from.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Whether the proof names other audiences besides this broker: whoever else received it could have sent it. So does one
    /// that was got with such a proof.
    #[must_use]
    pub fn multi_audience(&self) -> bool {
        self.multi_audience
    }
}

/// How long a replay record outlives the proof: shorter, and a clock that steps back would accept a proof twice.
const REPLAY_RECORD_MARGIN: Ttl = Ttl::from_hours(1);

fn missing(claim: &'static str) -> Refusal {
    Refusal::proof(Reason::MissingClaim, format!("the proof has no `{claim}`")).about(claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample::{self, NOW};

    /// A proof as it is, accepted at the instant at which it was issued.
    fn accepted(change: impl FnOnce(&mut VerifiedProof)) -> VerifiedIdentity {
        let mut proof = sample::proof("repo:acme/app", "jti");
        change(&mut proof);
        VerifiedIdentity::accept(proof, Shown::default(), None, NOW).unwrap()
    }

    fn later(secs: u64) -> Timestamp {
        NOW.plus(Ttl::from_secs(secs))
    }

    #[test]
    fn a_proof_that_may_have_been_used_before_a_restore_is_told_from_one_that_cannot_have_been() {
        let dated = accepted(|_| ());
        let leeway = dated.proof().rules.leeway;
        // By a clock that is ahead by the leeway it was accepted just before the record was put back.
        let (last, first) = (NOW.minus(leeway), NOW.minus(leeway).minus(Ttl::from_secs(1)));
        let refusal = dated.confirm_unused_before(last).unwrap_err();
        assert_eq!((refusal.reason, refusal.parameter.as_deref()), (Reason::IssuedBeforeRestore, Some("iat")));
        assert!(refusal.detail.contains(&NOW.to_string()), "it says which would do: {}", refusal.detail);
        assert_eq!(dated.confirm_unused_before(first), Ok(()));
        assert!(dated.confirm_unused_before(later(60)).is_err());

        // Without a date, by how long proofs may live: until then it could have been accepted already.
        let undated = accepted(|proof| proof.issued_at = None);
        let longest = leeway.plus(undated.proof().rules.max_lifetime);
        let last = undated.expires_at().minus(longest);
        assert_eq!(undated.confirm_unused_before(last).unwrap_err().parameter.as_deref(), Some("exp"));
        assert_eq!(undated.confirm_unused_before(last.minus(Ttl::from_secs(1))), Ok(()));

        let anew = accepted(|proof| proof.rules.single_use = false);
        assert_eq!(anew.confirm_unused_before(later(60)), Ok(()), "it may be shown again anyway");
    }

    #[test]
    fn a_proof_that_is_bound_is_accepted_from_whoever_shows_its_key_and_from_nobody_else() {
        let key = |binding, octet| Some(BindingKey::new(binding, [octet; 32]));
        let (dpop, other) = (key(Binding::Dpop, 1), key(Binding::Dpop, 2));
        let (certificate, another) = (key(Binding::Mtls, 1), key(Binding::Mtls, 2));
        let shown = |dpop, certificate, token_type| Shown { dpop, certificate, token_type, by_another: false };
        let by_another = |dpop, certificate| Shown { by_another: true, ..shown(dpop, certificate, None) };
        let (bearer, under_dpop) = (Some(TokenType::Bearer), Some(TokenType::Dpop));
        for (bound_to, shown, expected) in [
            (None, Shown::default(), Ok(None)),
            (None, shown(None, None, bearer), Ok(None)),
            (None, shown(dpop, None, bearer), Ok(dpop)),
            (None, shown(None, certificate, bearer), Ok(certificate)),
            (None, shown(dpop, certificate, None), Ok(dpop)),
            (None, shown(dpop, None, under_dpop), Err(Reason::PopMismatch)),
            (dpop, shown(dpop, None, None), Ok(dpop)),
            (dpop, shown(dpop, certificate, under_dpop), Ok(dpop)),
            (dpop, shown(dpop, None, bearer), Err(Reason::PopRequired)),
            (dpop, shown(None, None, bearer), Err(Reason::PopRequired)),
            (dpop, Shown::default(), Err(Reason::PopRequired)),
            (dpop, shown(other, None, under_dpop), Err(Reason::PopMismatch)),
            (dpop, shown(None, certificate, None), Err(Reason::PopRequired)),
            (certificate, shown(None, certificate, bearer), Ok(certificate)),
            (certificate, shown(None, another, bearer), Err(Reason::PopMismatch)),
            (certificate, shown(None, None, bearer), Err(Reason::PopRequired)),
            (certificate, shown(dpop, certificate, None), Err(Reason::PopMismatch)),
            // What somebody else shows binds that one, and shows a key of the subject's all the same.
            (None, by_another(dpop, certificate), Ok(None)),
            (dpop, by_another(dpop, None), Ok(dpop)),
            (dpop, by_another(dpop, certificate), Ok(dpop)),
            (dpop, by_another(other, certificate), Err(Reason::PopMismatch)),
            (dpop, by_another(None, certificate), Err(Reason::PopRequired)),
            (certificate, by_another(dpop, certificate), Ok(certificate)),
            (certificate, by_another(dpop, another), Err(Reason::PopMismatch)),
            (certificate, by_another(dpop, None), Err(Reason::PopRequired)),
        ] {
            let proof = VerifiedProof { binding_key: bound_to, ..sample::proof("repo:acme/app", "jti") };
            let accepted = VerifiedIdentity::accept(proof, shown, None, NOW);
            let accepted = accepted.map(|identity| identity.binding_key()).map_err(|refusal| refusal.reason);
            assert_eq!(accepted, expected, "{bound_to:?} {shown:?}");
        }
    }

    #[test]
    fn a_workload_keeps_what_it_holds_when_its_svid_is_renewed_and_by_no_token_of_its_name() {
        let accept = |form, octet: u8| {
            let proof = VerifiedProof { form, ..sample::proof("spiffe://td.test/a", "jti") };
            let certificate = Some(BindingKey::new(Binding::Mtls, [octet; 32]));
            VerifiedIdentity::accept(proof, Shown { certificate, ..Shown::default() }, None, NOW).unwrap()
        };
        let (first, renewed) = (accept(ProofForm::Certificate, 1), accept(ProofForm::Certificate, 2));
        assert_eq!(first.binding_key(), Some(BindingKey::of_svid("spiffe://td.test/a")));
        assert_eq!(first.binding_key(), renewed.binding_key());
        assert_ne!(first.shown_key(), renewed.shown_key(), "a token is bound to the certificate of its day");
        assert_ne!(first.binding_key(), accept(ProofForm::Token, 1).binding_key());
    }
}
