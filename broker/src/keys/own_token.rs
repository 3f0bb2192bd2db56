//! Reads back the tokens that this broker minted: for introspection (RFC 7662), for revocation (RFC 7009), and where
//! one is offered as proof.
//!
//! Nothing of a token is believed, or parsed beyond its header, before its signature has verified under one of our own
//! keys. What it grants is for the record to say: a token that reads well may belong to a grant that has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::binding::{Binding, BindingKey};
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::id::{GrantId, IssuerName};
use hallpass_core::identity::{AcceptanceRules, AttributeValue, PrincipalKind, Proof, ProofForm, VerifiedProof};
use hallpass_core::port::{IdentityVerifier, SignatureAlgorithm, Signer};
use hallpass_core::provenance::Provenance;
use hallpass_core::time::{Timestamp, Ttl};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;

/// Longest token that is read. Ours are about 1 kB; static claims of a role can add 4 kB before encoding.
const MAX_TOKEN_LEN: usize = 16 * 1024;

/// Longest header that is read: `typ`, `alg` and a thumbprint.
const MAX_HEADER_LEN: usize = 512;

/// The type of the tokens that the broker mints (RFC 9068 §2.1).
const TOKEN_TYPE: &str = "at+jwt";

/// `sub` and `role` of an operator's token (`hallpass-broker operator-token`). No workload's token can have this `sub`:
/// it begins with the configured name of its issuer, and `hallpass` is reserved.
const OPERATOR: (&str, &str) = ("hallpass:operator", "hallpass/operator");

/// Verifies tokens of this broker's own.
pub struct OwnTokens {
    issuer: IssuerName,
    public_url: String,
    /// By `kid`. Whoever changes the keys puts others in their place.
    keys: Arc<ArcSwap<BTreeMap<String, VerificationKey>>>,
}

/// The public half of a key that signs tokens.
pub(super) struct VerificationKey {
    algorithm: SignatureAlgorithm,
    public: UnparsedPublicKey<Vec<u8>>,
}

impl VerificationKey {
    /// By its `kid`.
    pub(super) fn of(signer: &dyn Signer) -> (String, Self) {
        let verifier: &'static dyn VerificationAlgorithm = match signer.algorithm() {
            SignatureAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
            SignatureAlgorithm::EdDsa => &ED25519,
            SignatureAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let public = UnparsedPublicKey::new(verifier, signer.public_key().to_vec());
        (signer.key_id().to_owned(), Self { algorithm: signer.algorithm(), public })
    }

    /// Whether the two halves belong together, and verifiers take what comes of them.
    pub(super) fn verifies_what_it_signs(&self, signer: &dyn Signer) -> bool {
        const MESSAGE: &[u8] = b"hallpass: a key that is imported signs this once";
        signer.sign(MESSAGE).is_ok_and(|signature| self.public.verify(MESSAGE, &signature).is_ok())
    }
}

/// What a token of our own says. Its signature verified; whether its grant is alive is for the record to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnToken {
    /// The grant behind it (`jti`).
    pub grant: GrantId,
    /// `sub`, which is also its `client_id`.
    pub subject: String,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `scope`, as one text.
    pub scope: Option<String>,
    /// The role that was minted.
    pub role: String,
    /// Who answers for it.
    pub owner: String,
    /// `kid` of the key that signed.
    pub key_id: String,
    /// `act`: who acts for the subject.
    pub act: Option<serde_json::Value>,
    /// Key that it is bound to (`cnf`).
    pub binding_key: Option<BindingKey>,
}

impl OwnTokens {
    /// A reader of what `signers` signed under `public_url`.
    #[must_use]
    pub fn new<'a>(public_url: &str, signers: impl IntoIterator<Item = &'a dyn Signer>) -> Self {
        let keys = signers.into_iter().map(VerificationKey::of).collect();
        Self::by(public_url, Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// A reader of what the keys that are there at the time signed under `public_url`.
    pub(super) fn by(public_url: &str, keys: Arc<ArcSwap<BTreeMap<String, VerificationKey>>>) -> Self {
        Self { issuer: IssuerName::hallpass(), public_url: public_url.to_owned(), keys }
    }

    /// Verifies and reads a token. Time is not judged: an expired token can still be introspected and revoked.
    ///
    /// # Errors
    /// A [`Refusal`] of the proof that names the failed check and nothing of the token.
    pub fn read(&self, token: &str) -> Result<OwnToken, Refusal> {
        let refuse = |reason, detail: &str| Refusal::proof(reason, detail);
        if token.len() > MAX_TOKEN_LEN {
            return Err(refuse(Reason::TokenTooLarge, "the token is longer than this broker's tokens"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse(Reason::NotAJws, "a token has three parts joined by dots"));
        };
        let decoded = decode(header).filter(|header| header.len() <= MAX_HEADER_LEN);
        let (Some(header_bytes), Some(signature)) = (decoded, decode(signature)) else {
            return Err(refuse(Reason::BadEncoding, "a part of the token is not canonical base64url"));
        };
        let header: Header<'_> = serde_json::from_slice(&header_bytes)
            .map_err(|_| refuse(Reason::MalformedHeader, "the token's header is not one of this broker's"))?;
        if header.typ != TOKEN_TYPE {
            return Err(refuse(Reason::WrongTokenType, "the token's `typ` is not at+jwt"));
        }
        let keys = self.keys.load();
        let key = keys
            .get(header.kid)
            .ok_or_else(|| refuse(Reason::UnknownKid, "the token was not signed by a key of this broker"))?;
        if header.alg != key.algorithm.as_str() {
            return Err(refuse(Reason::AlgKeyMismatch, "the token's `alg` is not its key's"));
        }
        let message_len = token.len() - token.rsplit('.').next().map_or(0, str::len) - 1;
        let message = token.get(..message_len).unwrap_or_default();
        key.public
            .verify(message.as_bytes(), &signature)
            .map_err(|_| refuse(Reason::BadSignature, "the token's signature does not verify"))?;

        let refuse = |reason, detail: &str| Refusal::proof(reason, detail).after_signature();
        let claims = decode(claims)
            .ok_or_else(|| refuse(Reason::BadEncoding, "a part of the token is not canonical base64url"))?;
        let claims: Claims = serde_json::from_slice(&claims)
            .map_err(|_| refuse(Reason::MalformedClaims, "the token's claims are not those of this broker's tokens"))?;
        if claims.iss != self.public_url {
            return Err(refuse(Reason::UnknownIssuer, "the token was minted under another URL").about("iss"));
        }
        let binding_key = claims
            .cnf
            .map(|cnf| {
                cnf.key()
                    .ok_or_else(|| refuse(Reason::MalformedClaims, "the token's `cnf` is none that this broker writes"))
            })
            .transpose()?;
        Ok(OwnToken {
            grant: claims.jti,
            subject: claims.sub,
            audiences: match claims.aud {
                Audience::One(audience) => vec![audience],
                Audience::Many(audiences) => audiences,
            },
            issued_at: Timestamp::from_secs(claims.iat),
            expires_at: Timestamp::from_secs(claims.exp),
            scope: claims.scope,
            role: claims.role,
            owner: claims.owner,
            key_id: header.kid.to_owned(),
            act: claims.act,
            binding_key,
        })
    }
}

/// A token of our own as proof. It means this broker only if its audience is `public_url`; core checks that, and that
/// its grant is alive.
#[async_trait]
impl IdentityVerifier for OwnTokens {
    fn issuer(&self) -> &IssuerName {
        &self.issuer
    }

    fn accepts(&self, unverified_issuer: &str) -> bool {
        unverified_issuer == self.public_url
    }

    async fn verify(&self, proof: &Proof, _now: Timestamp) -> Result<VerifiedProof, Refusal> {
        let token = self.read(proof.token()?.expose())?;
        let principal = if (token.subject.as_str(), token.role.as_str()) == OPERATOR {
            PrincipalKind::Operator
        } else {
            PrincipalKind::Workload
        };
        // The broker's own identities are known by their short name, as their grants are.
        let own = token.subject.strip_prefix(IssuerName::RESERVED).and_then(|rest| rest.strip_prefix(':'));
        let subject = own.unwrap_or(&token.subject).to_owned();
        let attributes = BTreeMap::from([
            ("role".to_owned(), AttributeValue::Text(token.role)),
            ("owner".to_owned(), AttributeValue::Text(token.owner)),
        ]);
        Ok(VerifiedProof {
            form: ProofForm::Token,
            issuer: self.issuer.clone(),
            issuer_kind: IssuerName::RESERVED.into(),
            principal,
            subject,
            audiences: token.audiences,
            expires_at: Some(token.expires_at),
            not_before: None,
            issued_at: Some(token.issued_at),
            proof_id: Some(token.grant.to_string()),
            key_id: Some(token.key_id),
            binding_key: token.binding_key,
            attributes,
            provenance: Provenance::default(),
            grant: Some(token.grant),
            may_act: None,
            rules: AcceptanceRules {
                audiences: vec![self.public_url.clone()],
                // Our own clock signed it: nothing to forgive, but for the clocks of two replicas.
                leeway: Ttl::from_secs(2),
                max_age: None,
                max_lifetime: Ttl::from_hours(24),
                single_use: false,
                // What is minted with a credential must not outlive it.
                bounds_ttl: true,
            },
        })
    }
}

impl std::fmt::Debug for OwnTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnTokens").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

/// The header has these three members and no other: `crit`, `jku`, `jwk` and their kin are refused by not being known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    typ: &'a str,
    #[serde(borrow)]
    alg: &'a str,
    #[serde(borrow)]
    kid: &'a str,
}

/// The claims that are read. A role may have added others. Duplicates of these are errors.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    iat: i64,
    jti: GrantId,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    act: Option<serde_json::Value>,
    role: String,
    owner: String,
    #[serde(default)]
    cnf: Option<Confirmation>,
}

/// One key, and no other member: another way of confirming that is not understood must not be passed over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(default)]
    jkt: Option<String>,
    #[serde(default, rename = "x5t#S256")]
    certificate: Option<String>,
}

impl Confirmation {
    fn key(&self) -> Option<BindingKey> {
        match (&self.jkt, &self.certificate) {
            (Some(thumbprint), None) => BindingKey::of_thumbprint(Binding::Dpop, thumbprint),
            (None, Some(thumbprint)) => BindingKey::of_thumbprint(Binding::Mtls, thumbprint),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Canonical base64url without padding (RFC 7515 §2): one text for one value, so that a token has one spelling.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

#[cfg(test)]
mod tests {
    use hallpass_core::identity::{Shown, TokenType, VerifiedIdentity};
    use hallpass_core::secret::Secret;
    use hallpass_core::testing::sample;
    use hallpass_core::testing::sample::NOW;
    use hallpass_core::testing::verifier_suite;
    use serde_json::json;

    use super::*;
    use crate::keys::LocalSigner;

    const URL: &str = "https://broker.test";

    fn signer(algorithm: SignatureAlgorithm) -> LocalSigner {
        LocalSigner::from_pkcs8(algorithm, &LocalSigner::generate(algorithm).unwrap()).unwrap()
    }

    fn header(signer: &LocalSigner) -> String {
        json!({"typ": "at+jwt", "alg": signer.algorithm().as_str(), "kid": signer.key_id()}).to_string()
    }

    fn claims() -> serde_json::Value {
        json!({
            "iss": URL, "sub": "ci:repo:acme/app", "client_id": "ci:repo:acme/app", "aud": URL,
            "exp": NOW.as_secs() + 600, "iat": NOW.as_secs(), "jti": sample::id::<GrantId>(1),
            "role": "payments/prod/deploy", "owner": "payments", "scope": "a b", "team": "x",
        })
    }

    fn mint(signer: &LocalSigner, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes()).unwrap());
        format!("{message}.{signature}")
    }

    fn reason(tokens: &OwnTokens, token: &str) -> Reason {
        tokens.read(token).unwrap_err().reason
    }

    #[test]
    fn our_own_token_is_read_under_either_algorithm() {
        for algorithm in [SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa] {
            let signer = signer(algorithm);
            let tokens = OwnTokens::new(URL, [&signer as &dyn Signer]);
            let token = tokens.read(&mint(&signer, &header(&signer), &claims().to_string())).unwrap();
            assert_eq!(token.grant, sample::id::<GrantId>(1));
            assert_eq!(token.audiences, [URL]);
            assert_eq!(token.expires_at, NOW.plus(Ttl::from_mins(10)));
            assert_eq!(token.scope.as_deref(), Some("a b"));
            assert_eq!(token.key_id, signer.key_id());
        }
    }

    #[test]
    fn a_changed_token_is_refused_at_the_step_that_notices() {
        let (ours, other) = (signer(SignatureAlgorithm::Es256), signer(SignatureAlgorithm::Es256));
        let tokens = OwnTokens::new(URL, [&ours as &dyn Signer]);
        let (header, claims) = (header(&ours), claims().to_string());
        let good = mint(&ours, &header, &claims);
        let [h, c, s] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };

        assert_eq!(reason(&tokens, ""), Reason::NotAJws);
        assert_eq!(reason(&tokens, &format!("{h}.{c}")), Reason::NotAJws);
        assert_eq!(reason(&tokens, &format!("{good}.x")), Reason::NotAJws);
        assert_eq!(reason(&tokens, &format!("{h}.{c}.{}", "A".repeat(20_000))), Reason::TokenTooLarge);
        assert_eq!(reason(&tokens, &format!("{h}.{c}.{s}=")), Reason::BadEncoding);
        assert_eq!(reason(&tokens, &format!("{h}.{c}. {s}")), Reason::BadEncoding);
        assert_eq!(reason(&tokens, &format!("{h}.{c}.")), Reason::BadSignature);
        assert_eq!(reason(&tokens, &mint(&other, &header, &claims)), Reason::BadSignature);
        assert_eq!(reason(&tokens, &format!("{h}.{}.{s}", URL_SAFE_NO_PAD.encode("{}"))), Reason::BadSignature);
        assert!(!tokens.read(&mint(&other, &header, &claims)).unwrap_err().signature_verified);
    }

    #[test]
    fn a_header_that_we_do_not_write_is_refused() {
        let ours = signer(SignatureAlgorithm::Es256);
        let tokens = OwnTokens::new(URL, [&ours as &dyn Signer]);
        let kid = ours.key_id();
        let claims = claims().to_string();
        for (header, expected) in [
            (format!(r#"{{"typ":"JWT","alg":"ES256","kid":"{kid}"}}"#), Reason::WrongTokenType),
            (format!(r#"{{"typ":"at+jwt","alg":"none","kid":"{kid}"}}"#), Reason::AlgKeyMismatch),
            (format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{kid}"}}"#), Reason::AlgKeyMismatch),
            (r#"{"typ":"at+jwt","alg":"ES256","kid":"other"}"#.to_owned(), Reason::UnknownKid),
            (r#"{"typ":"at+jwt","alg":"ES256"}"#.to_owned(), Reason::MalformedHeader),
            (format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#), Reason::MalformedHeader),
            (format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{kid}","crit":[]}}"#), Reason::MalformedHeader),
            (format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{kid}","jku":"https://x"}}"#), Reason::MalformedHeader),
            (format!(r#"{{"typ":"at+jwt","alg":"ES256","alg":"ES256","kid":"{kid}"}}"#), Reason::MalformedHeader),
            (format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{kid}"}} x"#), Reason::MalformedHeader),
        ] {
            assert_eq!(reason(&tokens, &mint(&ours, &header, &claims)), expected, "{header}");
        }
    }

    #[test]
    fn claims_that_we_do_not_write_are_refused_even_under_our_signature() {
        let ours = signer(SignatureAlgorithm::Es256);
        let tokens = OwnTokens::new(URL, [&ours as &dyn Signer]);
        let header = header(&ours);
        let twice = claims().to_string().replacen('{', r#"{"sub":"somebody else","#, 1);
        assert_eq!(reason(&tokens, &mint(&ours, &header, &twice)), Reason::MalformedClaims);
        let mut elsewhere = claims();
        elsewhere["iss"] = json!("https://broker.test/");
        assert_eq!(reason(&tokens, &mint(&ours, &header, &elsewhere.to_string())), Reason::UnknownIssuer);
        for claim in ["iss", "sub", "aud", "exp", "iat", "jti", "role", "owner"] {
            let mut without = claims();
            without.as_object_mut().unwrap().remove(claim);
            let refusal = tokens.read(&mint(&ours, &header, &without.to_string())).unwrap_err();
            assert_eq!(refusal.reason, Reason::MalformedClaims, "{claim}");
            assert!(refusal.signature_verified);
        }
    }

    #[tokio::test]
    async fn what_every_verifier_keeps() {
        let (ours, other) = (signer(SignatureAlgorithm::Es256), signer(SignatureAlgorithm::Es256));
        let tokens = OwnTokens::new(URL, [&ours as &dyn Signer]);
        let mint = |signer: &LocalSigner, named: &LocalSigner, subject: &str| {
            let mut claims = claims();
            claims["sub"] = json!(subject);
            mint(signer, &header(named), &claims.to_string())
        };
        let issuer = verifier_suite::Issuer {
            verifier: &tokens,
            issuer: URL.to_owned(),
            good: Box::new(|subject, _| mint(&ours, &ours, subject)),
            unknown_key: Box::new(|subject, _| mint(&other, &other, subject)),
            wrong_key: Box::new(|subject, _| mint(&other, &ours, subject)),
            now: NOW,
        };
        // Not the part about `jti`: that of our own tokens is always the id of their grant.
        verifier_suite::accepts_its_issuer_byte_for_byte(&issuer);
        verifier_suite::a_changed_token_is_refused_wherever_it_was_changed(&issuer).await;
        verifier_suite::another_key_is_refused(&issuer).await;
        verifier_suite::what_is_no_token_is_refused(&issuer).await;
    }

    #[tokio::test]
    async fn our_own_token_is_a_proof_only_where_we_are_its_audience() {
        let ours = signer(SignatureAlgorithm::Es256);
        let tokens = OwnTokens::new(URL, [&ours as &dyn Signer]);
        assert!(tokens.accepts(URL));
        assert!(!tokens.accepts("https://broker.test/"));
        let proof = |claims: serde_json::Value| {
            let token = Secret::new(mint(&ours, &header(&ours), &claims.to_string()));
            Proof::of_token(token, TokenType::Bearer)
        };
        let verified = tokens.verify(&proof(claims()), NOW).await.unwrap();
        assert_eq!(verified.grant, Some(sample::id::<GrantId>(1)));
        assert_eq!(verified.principal, PrincipalKind::Workload);
        assert!(VerifiedIdentity::accept(verified, Shown::default(), None, NOW).is_ok());

        let mut elsewhere = claims();
        elsewhere["aud"] = json!("https://api.example");
        let verified = tokens.verify(&proof(elsewhere), NOW).await.unwrap();
        let refusal = VerifiedIdentity::accept(verified, Shown::default(), None, NOW).unwrap_err();
        assert_eq!(refusal.reason, Reason::WrongAudience);

        let mut operator = claims();
        operator["role"] = json!("hallpass/operator");
        let verified = tokens.verify(&proof(operator.clone()), NOW).await.unwrap();
        assert_eq!(verified.principal, PrincipalKind::Workload, "a role's name alone makes nobody an operator");
        operator["sub"] = json!("hallpass:operator");
        let verified = tokens.verify(&proof(operator), NOW).await.unwrap();
        assert_eq!((verified.principal, verified.subject.as_str()), (PrincipalKind::Operator, "operator"));
    }
}
