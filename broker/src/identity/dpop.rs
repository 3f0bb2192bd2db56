//! Proofs of possession (RFC 9449 §4): a JWT over one request, signed by the key that it brings.
//!
//! The invariant: what is accepted was made for this method, this path of this broker, this token and this quarter of an
//! hour of this process, by whoever has the key. Nothing else in it is believed, and a key that it brings is good for
//! nothing but to be compared.

mod nonce;
mod target;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::binding::{Binding, BindingKey, Possession};
use hallpass_core::entropy::{Entropy, EntropyUnavailable};
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::port::{NotShown, PossessionVerifier, Presented, ProvedRequest};
use hallpass_core::time::{Timestamp, Ttl};
use ring::digest;

use self::nonce::Nonces;
use super::jose::UnverifiedJws;
use super::jose::json::{Json, Object};
use crate::config::issuer::JwsAlgorithm;

/// Longest proof that is looked at. One by a key of RSA with 4096 bits has 2 KiB.
const MAX_BYTES: usize = 8 * 1024;

/// Longest `jti`.
const MAX_ID_BYTES: usize = 255;

/// How old a proof may be. It is made for one request, so this forgives clocks that are behind: a longer time lets more
/// of them be used, and all that were used must be remembered for as long.
const MAX_AGE: Ttl = Ttl::from_secs(60);

/// How far ahead of ours the clock of whoever made it may be.
const LEEWAY: Ttl = Ttl::from_secs(30);

/// Algorithms that a proof may be signed with.
const ALGORITHMS: [JwsAlgorithm; 5] =
    [JwsAlgorithm::ES256, JwsAlgorithm::EdDSA, JwsAlgorithm::ES384, JwsAlgorithm::PS256, JwsAlgorithm::RS256];

/// Verifies proofs of possession.
#[derive(Debug)]
pub struct DpopVerifier {
    nonces: Option<Nonces>,
    started: Timestamp,
}

impl DpopVerifier {
    /// A verifier that began at `started`: it accepts no proof from before. With `nonces` each proof must carry what the
    /// broker gave; without, who made one may have made it ahead of time.
    ///
    /// # Errors
    /// [`EntropyUnavailable`].
    pub fn new(nonces: bool, entropy: &dyn Entropy, started: Timestamp) -> Result<Self, EntropyUnavailable> {
        Ok(Self { nonces: nonces.then(|| Nonces::new(entropy)).transpose()?, started })
    }

    fn check(&self, proof: &str, request: &ProvedRequest<'_>, now: Timestamp) -> Result<Possession, NotShown> {
        if proof.len() > MAX_BYTES {
            return Err(invalid(format!("it is longer than {MAX_BYTES} bytes")).into());
        }
        let jws = UnverifiedJws::parse(proof).map_err(|refusal| invalid(refusal.detail))?;
        if jws.unverified_header().token_type.as_deref() != Some("dpop+jwt") {
            return Err(invalid("its `typ` is not dpop+jwt").into());
        }
        let algorithm = jws.unverified_header().algorithm.filter(|algorithm| ALGORITHMS.contains(algorithm));
        let algorithm =
            algorithm.ok_or_else(|| invalid("its `alg` is none that proofs of possession are signed with"))?;
        let (signed, key) = jws.verify_by_own_key(algorithm).map_err(|refusal| invalid(refusal.detail))?;
        let claims = Claims(signed.members());
        let key = BindingKey::of_thumbprint(Binding::Dpop, key.thumbprint())
            .ok_or_else(|| invalid("its key has no thumbprint"))?;
        if claims.text("htm")? != request.method {
            return Err(invalid("its `htm` is not the method of the request").into());
        }
        if request.origin.is_empty() {
            let detail =
                "what this listener is called is not configured, and so it is not known what proofs are made for";
            return Err(invalid(detail).into());
        }
        if !target::is_same(claims.text("htu")?, request.origin, request.path) {
            return Err(invalid("its `htu` is not the URL of the request, by the broker's public URL").into());
        }
        self.check_token(&claims, request)?;
        let id = claims.text("jti")?;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(invalid(format!("its `jti` has not 1 to {MAX_ID_BYTES} bytes")).into());
        }
        let issued_at = claims.date("iat")?.ok_or_else(|| invalid("it has no `iat`"))?;
        let until = issued_at.plus(MAX_AGE);
        match (&self.nonces, claims.0.get("nonce").and_then(Json::as_text)) {
            (None, _) if issued_at <= self.started.plus(LEEWAY) => {
                return Err(
                    invalid("it may have been made before the broker started, when it could have been used").into()
                );
            }
            (None, _) => {}
            (Some(nonces), Some(nonce)) if nonces.is_fresh(nonce, now) => {}
            (Some(_), _) => return Err(NotShown::NonceWanted),
        }
        if now > until {
            return Err(invalid("its `iat` is too long ago; make one for each request").into());
        }
        if issued_at > now.plus(LEEWAY) {
            return Err(invalid("its `iat` is in the future").into());
        }
        if claims.date("exp")?.is_some_and(|expires_at| now >= expires_at.plus(LEEWAY)) {
            return Err(invalid("it has expired").into());
        }
        Ok(Possession::new(key, id, until))
    }

    /// `ath` (RFC 9449 §4.2): a proof that was made for one token is none for another.
    fn check_token(&self, claims: &Claims<'_>, request: &ProvedRequest<'_>) -> Result<(), NotShown> {
        let alone;
        let (tokens, required) = match request.token {
            None => return Ok(()),
            Some(Presented::AsAuthorization(token)) => {
                alone = [token];
                (alone.as_slice(), true)
            }
            Some(Presented::InBody(tokens)) => (tokens, false),
        };
        if !required && !claims.0.contains_key("ath") {
            return Ok(());
        }
        let hash = |token: &str| URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()));
        let named = claims.text("ath")?;
        if tokens.iter().any(|token| hash(token) == named) {
            return Ok(());
        }
        Err(invalid("its `ath` is not the SHA-256 of the token that it comes with").into())
    }
}

impl PossessionVerifier for DpopVerifier {
    fn verify(&self, proof: &str, request: &ProvedRequest<'_>, now: Timestamp) -> Result<Possession, NotShown> {
        self.check(proof, request, now)
    }

    fn nonce(&self, now: Timestamp) -> Option<String> {
        self.nonces.as_ref().map(|nonces| nonces.current(now))
    }

    fn algorithms(&self) -> Vec<&'static str> {
        ALGORITHMS.iter().map(|algorithm| algorithm.as_str()).collect()
    }
}

/// What a proof claims, by its own signature.
struct Claims<'a>(&'a Object);

impl<'a> Claims<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Invalid> {
        match self.0.get(name) {
            Some(Json::Text(text)) => Ok(text),
            Some(_) => Err(invalid(format!("its `{name}` is not a string"))),
            None => Err(invalid(format!("it has no `{name}`"))),
        }
    }

    /// A `NumericDate` (RFC 7519 §2), rounded down.
    fn date(&self, name: &str) -> Result<Option<Timestamp>, Invalid> {
        let seconds = match self.0.get(name) {
            None => return Ok(None),
            Some(Json::Unsigned(seconds)) => i64::try_from(*seconds).unwrap_or(i64::MAX),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "`as` saturates from a double, which is what is wanted"
            )]
            Some(Json::Float(seconds)) if seconds.is_sign_positive() => seconds.floor() as i64,
            Some(_) => return Err(invalid(format!("its `{name}` is not a number of seconds since 1970"))),
        };
        Ok(Some(Timestamp::from_secs(seconds)))
    }
}

/// A proof that does not hold, and why.
#[derive(Debug)]
struct Invalid(String);

fn invalid(why: impl Into<String>) -> Invalid {
    Invalid(why.into())
}

impl From<Invalid> for NotShown {
    fn from(invalid: Invalid) -> Self {
        // The details of tokens speak of proofs in general; this one has a name.
        let detail = format!("the DPoP proof does not hold: {}", invalid.0);
        Self::Refused(Box::new(Refusal::proof(Reason::PopInvalid, detail).about("DPoP")))
    }
}
