//! A key of the caller's own, shown with each call by a proof that is for that call alone (RFC 9449).

use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use url::Url;

use super::error::ConfigurationError;
use crate::wire::{Secret, Timestamp};

/// A P-256 key, and what the broker wants the next proof by it to carry.
///
/// A grant that is opened with it is bound to it, and so is a token of the broker's own (`cnf`): whoever takes one of them
/// away has nothing without the key. It is needed again to renew and to end what it opened.
pub struct PossessionKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    nonce: Mutex<Option<String>>,
}

impl PossessionKey {
    /// A fresh key that nobody else will ever have.
    ///
    /// # Errors
    /// [`ConfigurationError::PossessionKey`] without randomness.
    pub fn generate() -> Result<Self, ConfigurationError> {
        Self::generate_pem().map(|(key, _)| key)
    }

    /// A fresh key with its own text, to be kept where nobody else reads it.
    ///
    /// # Errors
    /// [`ConfigurationError::PossessionKey`] without randomness.
    pub fn generate_pem() -> Result<(Self, Secret), ConfigurationError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random());
        let der = made.map_err(|_| ConfigurationError::PossessionKey)?;
        let text = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        Ok((Self::from_der(der.as_ref())?, Secret::new(pem)))
    }

    /// A key from its text: PKCS #8 in PEM.
    ///
    /// # Errors
    /// [`ConfigurationError::PossessionKey`] for what is no P-256 key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ConfigurationError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| ConfigurationError::PossessionKey)?;
        Self::from_der(key.secret_pkcs8_der())
    }

    fn from_der(der: &[u8]) -> Result<Self, ConfigurationError> {
        let random = random();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
        let pair = pair.map_err(|_| ConfigurationError::PossessionKey)?;
        Ok(Self { pair, random, nonce: Mutex::new(None) })
    }

    /// Its SHA-256 thumbprint (RFC 7638), as `cnf.jkt` names it.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let (x, y) = self.coordinates();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
    }

    /// The value of `DPoP` for one request with `token` to `url`, at the time `now`: what a verifier of a bound token asks
    /// for. `nonce` is what that verifier wants it to carry, where it does.
    ///
    /// # Errors
    /// [`ConfigurationError::PossessionKey`] without randomness.
    pub fn proof(
        &self,
        method: &str,
        url: &Url,
        token: Option<&Secret>,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<String, ConfigurationError> {
        let mut id = [0; 16];
        self.random.fill(&mut id).map_err(|_| ConfigurationError::PossessionKey)?;
        let mut target = url.clone();
        target.set_query(None);
        target.set_fragment(None);
        let (x, y) = self.coordinates();
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}});
        let mut claims = json!({
            "jti": URL_SAFE_NO_PAD.encode(id), "htm": method, "htu": target.as_str(), "iat": now.as_offset_date_time().unix_timestamp(),
        });
        if let Value::Object(claims) = &mut claims {
            let hash = token.map(|token| URL_SAFE_NO_PAD.encode(digest(&SHA256, token.expose().as_bytes())));
            claims.extend(hash.map(|hash| ("ath".to_owned(), hash.into())));
            claims.extend(nonce.map(|nonce| ("nonce".to_owned(), nonce.into())));
        }
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature =
            self.pair.sign(&self.random, signed.as_bytes()).map_err(|_| ConfigurationError::PossessionKey)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What the broker wants the next proof to carry, as far as it has said so.
    pub(super) fn nonce(&self) -> Option<String> {
        self.nonce.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn take_nonce(&self, nonce: &str) {
        *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
    }

    fn coordinates(&self) -> (String, String) {
        let point = self.pair.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }
}

impl fmt::Debug for PossessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PossessionKey").field("thumbprint", &self.thumbprint()).finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "a key and the ids of its proofs must be nobody's to guess")]
fn random() -> SystemRandom {
    SystemRandom::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_when_it_is_read_back() {
        let (key, pem) = PossessionKey::generate_pem().unwrap();
        assert_eq!(PossessionKey::from_pem(pem.expose().as_bytes()).unwrap().thumbprint(), key.thumbprint());
        assert_ne!(PossessionKey::generate().unwrap().thumbprint(), key.thumbprint());
        assert!(PossessionKey::from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}
