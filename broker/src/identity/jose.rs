//! Strict reading of compact JWS (RFC 7515 §7.1, RFC 7519, RFC 8725).
//!
//! The invariant: a token has one spelling and one reading. It is read once, strictly, and nothing that was read is a
//! fact until [`UnverifiedJws::verify`] has turned it into [`SignedClaims`].

pub mod json;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::identity::Proof;
use hallpass_core::port::{ProofReader, UnverifiedSource};
use hallpass_core::spiffe::SpiffeId;

use self::json::{Document, Json, JsonError, Object};
use super::jwks::VerificationKey;
use super::ring_provider;
use crate::config::issuer::JwsAlgorithm;

/// Longest token that is looked at. CI tokens have 1 to 3 KiB, tokens of directories with many groups up to 12. It is
/// checked before anything is split or decoded: a larger number lets strangers buy work with bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token that was read, and of which nothing is known to be true.
#[derive(Clone, Debug)]
pub struct UnverifiedJws<'t> {
    header: Header,
    /// The key that the header brings.
    own_key: Option<Object>,
    claims: Document,
    signing_input: &'t str,
    signature: Vec<u8>,
}

/// The header members that mean something here (RFC 7515 §4.1). Others are ignored, as §4 demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `alg`, where it is one that the broker knows.
    pub algorithm: Option<JwsAlgorithm>,
    /// `typ`.
    pub token_type: Option<String>,
    /// `kid`.
    pub key_id: Option<String>,
    /// Whether there is any other member than these three.
    pub has_others: bool,
    /// The first header that offers or locates a key. It is never followed, and no token that has one is accepted.
    offers_key: Option<&'static str>,
}

/// Claims whose signature verified under a key of their issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedClaims(Object);

impl SignedClaims {
    /// The claims.
    #[must_use]
    pub fn members(&self) -> &Object {
        &self.0
    }
}

impl<'t> UnverifiedJws<'t> {
    /// Reads a token.
    ///
    /// # Errors
    /// A [`Refusal`] that names the failed check and repeats nothing of the token.
    pub fn parse(token: &'t str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            let detail = format!("the proof is longer than {MAX_TOKEN_BYTES} bytes");
            return Err(Refusal::proof(Reason::TokenTooLarge, detail));
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or_else(not_a_jws)?;
        let (header, payload) = signing_input.split_once('.').ok_or_else(not_a_jws)?;
        if header.is_empty() || payload.is_empty() {
            return Err(not_a_jws());
        }
        if payload.contains('.') {
            // An unencoded payload may hold dots (RFC 7797 §5.2); then the header must say so in `crit`, and the
            // refusal can be as exact. Anything else with other than three parts is simply not a compact JWS.
            let told_by_header = Header::read(header).err().filter(|refusal| refusal.reason == Reason::CritUnsupported);
            return Err(told_by_header.unwrap_or_else(not_a_jws));
        }
        let (header, own_key) = Header::read(header)?;
        let claims = Document::parse(&decode(payload)?).map_err(|error| match error {
            JsonError::DuplicateMember => Refusal::proof(Reason::DuplicateMember, "a claim appears twice"),
            other => Refusal::proof(Reason::MalformedClaims, format!("the claims cannot be read: {other}")),
        })?;
        Ok(Self { header, own_key, claims, signing_input, signature: decode(signature)? })
    }

    /// The header, of which nothing is verified.
    #[must_use]
    pub fn unverified_header(&self) -> &Header {
        &self.header
    }

    /// `iss`, unverified (RFC 7519 §4.1.1): it selects a configured issuer and nothing else.
    ///
    /// # Errors
    /// A [`Refusal`] when it is not a string.
    pub fn unverified_issuer(&self) -> Result<Option<&str>, Refusal> {
        match self.claims.members.get("iss") {
            Some(Json::Text(issuer)) => Ok(Some(issuer)),
            Some(_) => Err(Refusal::proof(Reason::MalformedClaims, "`iss` is not a string").about("iss")),
            None => Ok(None),
        }
    }

    /// `sub` as a SPIFFE ID, unverified (JWT-SVID §3.1).
    ///
    /// # Errors
    /// A [`Refusal`] when it is none.
    pub fn unverified_spiffe_id(&self) -> Result<SpiffeId, Refusal> {
        match self.claims.members.get("sub") {
            Some(Json::Text(subject)) => SpiffeId::parse(subject).map_err(|rule| {
                let detail = format!("the `sub` of a proof without a configured `iss` is a SPIFFE ID: {rule}");
                Refusal::proof(Reason::BadSpiffeId, detail).about("sub")
            }),
            Some(_) => Err(Refusal::proof(Reason::BadSpiffeId, "`sub` is not a string").about("sub")),
            None => Err(Refusal::proof(Reason::MissingClaim, "the proof has no `sub`").about("sub")),
        }
    }

    /// What tells this proof from every other, where its issuer gives it no id: a digest of what is signed. It is of one
    /// spelling, so that no other token says the same; a second signature over it is the same proof.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.signing_input.as_bytes());
        format!("sha256:{}", URL_SAFE_NO_PAD.encode(digest))
    }

    /// Verifies the signature over the bytes as they were received.
    ///
    /// # Errors
    /// A [`Refusal`]: the signature does not verify; or it does, and the token offers a key of its own or hides
    /// control characters, which no issuer has a reason to do.
    pub fn verify(self, key: &VerificationKey, algorithm: JwsAlgorithm) -> Result<SignedClaims, Refusal> {
        if !ring_provider::verify(algorithm, key.decoding_key(), self.signing_input.as_bytes(), &self.signature) {
            return Err(Refusal::proof(Reason::BadSignature, "the signature does not verify"));
        }
        if let Some(member) = self.header.offers_key {
            // RFC 8725 §3.10. Judged after the signature so that an attacker's key is reported for what it is.
            let detail = format!("the header member `{member}` is not accepted");
            return Err(Refusal::proof(Reason::MalformedHeader, detail).about(member).after_signature());
        }
        self.signed()
    }

    /// Verifies the signature by the key that the header brings (`jwk`, RFC 7515 §4.1.3). It proves that whoever made the
    /// token has that key, and nothing about whose it is.
    ///
    /// # Errors
    /// A [`Refusal`]: there is no such key, or none that can be taken; another one is offered beside it; or the signature
    /// does not verify.
    pub(super) fn verify_by_own_key(self, algorithm: JwsAlgorithm) -> Result<(SignedClaims, VerificationKey), Refusal> {
        if let Some(member) = self.header.offers_key.filter(|member| *member != JWK) {
            return Err(malformed_header(format!("the header member `{member}` is not accepted")).about(member));
        }
        let jwk = self
            .own_key
            .as_ref()
            .ok_or_else(|| malformed_header("the header has no `jwk`, or none that is an object"))?;
        let key = VerificationKey::presented(jwk)
            .map_err(|why| malformed_header(format!("the `jwk` cannot be taken: {why}")))?;
        if !key.verifies(algorithm) {
            return Err(malformed_header("the `alg` is for another type of key than the `jwk`"));
        }
        if !ring_provider::verify(algorithm, key.decoding_key(), self.signing_input.as_bytes(), &self.signature) {
            return Err(Refusal::proof(Reason::BadSignature, "the signature does not verify by its own `jwk`"));
        }
        Ok((self.signed()?, key))
    }

    fn signed(self) -> Result<SignedClaims, Refusal> {
        if self.claims.has_control_characters {
            let detail = "a claim contains a control character";
            return Err(Refusal::proof(Reason::MalformedClaims, detail).after_signature());
        }
        Ok(SignedClaims(self.claims.members))
    }
}

/// The header member with a key of its own.
const JWK: &str = "jwk";

impl Header {
    /// A header, and the key that it brings.
    fn read(part: &str) -> Result<(Self, Option<Object>), Refusal> {
        let Document { mut members, has_control_characters } =
            Document::parse(&decode(part)?).map_err(|error| match error {
                JsonError::DuplicateMember => Refusal::proof(Reason::DuplicateMember, "a header member appears twice"),
                other => malformed_header(format!("the header cannot be read: {other}")),
            })?;
        if members.contains_key("crit") {
            let detail = "the header marks extensions as critical; none is understood (RFC 7515 §4.1.11)";
            return Err(Refusal::proof(Reason::CritUnsupported, detail).about("crit"));
        }
        if let Some(member) = ["enc", "zip"].into_iter().find(|member| members.contains_key(*member)) {
            let detail = "the proof is encrypted or compressed; it must be a signed JWT";
            return Err(Refusal::proof(Reason::NotAJws, detail).about(member));
        }
        if members.contains_key("b64") {
            return Err(malformed_header("the header member `b64` is not accepted (RFC 7797 §7)").about("b64"));
        }
        let text = |member: &'static str| match members.get(member) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(malformed_header(format!("the header member `{member}` is not a string")).about(member)),
        };
        let algorithm = text("alg")?.ok_or_else(|| malformed_header("the header has no `alg`").about("alg"))?;
        let (token_type, key_id) = (text("typ")?, text("kid")?);
        if text("cty")?.is_some_and(|content| media_type(content).eq_ignore_ascii_case("jwt")) {
            let detail = "the proof wraps another token; send the inner one (RFC 7519 §5.2)";
            return Err(Refusal::proof(Reason::MalformedClaims, detail).about("cty"));
        }
        // A `kid` with control characters is left to fail as a key that nobody publishes.
        if has_control_characters && !key_id.is_some_and(has_control_character) {
            return Err(malformed_header("the header contains a control character"));
        }
        let header = Self {
            algorithm: JwsAlgorithm::parse(algorithm),
            token_type: token_type.map(str::to_owned),
            key_id: key_id.map(str::to_owned),
            has_others: members.keys().any(|member| !["alg", "typ", "kid"].contains(&member.as_str())),
            // Its own key last: it alone may be meant.
            offers_key: ["jku", "x5u", "x5c", JWK].into_iter().find(|member| members.contains_key(*member)),
        };
        let own_key = match members.remove(JWK) {
            Some(Json::Object(key)) => Some(key),
            _ => None,
        };
        Ok((header, own_key))
    }

    /// `typ` in lower case without `application/`, as RFC 7515 §4.1.9 has media types compared.
    #[must_use]
    pub fn normal_token_type(&self) -> Option<String> {
        self.token_type.as_deref().map(|typ| media_type(typ).to_ascii_lowercase())
    }
}

/// Reads the issuer that a token names, to find who can verify it.
#[derive(Clone, Copy, Debug, Default)]
pub struct JwsReader;

impl ProofReader for JwsReader {
    fn read(&self, proof: &Proof) -> Result<UnverifiedSource, Refusal> {
        let jws = UnverifiedJws::parse(proof.token()?.expose())?;
        Ok(UnverifiedSource {
            unverified_issuer: jws.unverified_issuer()?.map(str::to_owned),
            unverified_trust_domain: jws.unverified_spiffe_id().map(|id| id.trust_domain().clone()),
        })
    }
}

/// Decodes base64url in its one canonical spelling: no padding, unused bits zero, no other characters (RFC 7515 §2).
pub(super) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

pub(super) fn has_control_character(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    decode_base64url(part).ok_or_else(|| {
        let detail = "a part of the proof is not canonical base64url without padding (RFC 7515 §2)";
        Refusal::proof(Reason::BadEncoding, detail)
    })
}

fn media_type(text: &str) -> &str {
    const PREFIX: &str = "application/";
    match text.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => text.get(PREFIX.len()..).unwrap_or_default(),
        _ => text,
    }
}

fn not_a_jws() -> Refusal {
    Refusal::proof(Reason::NotAJws, "the proof is not a compact JWS: three base64url parts joined by dots")
}

fn malformed_header(detail: impl Into<String>) -> Refusal {
    Refusal::proof(Reason::MalformedHeader, detail)
}
