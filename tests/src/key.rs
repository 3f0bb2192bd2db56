//! Keys that sign proofs, as an issuer has them.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::component;

/// A private key with the name that it is published under.
#[derive(Debug)]
pub struct SigningKey {
    kid: String,
    pair: Pair,
    random: SystemRandom,
}

#[derive(Debug)]
enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

impl SigningKey {
    /// A fresh P-256 key.
    #[must_use]
    pub fn es256(kid: &str) -> Self {
        let random = random();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
        Self { kid: kid.to_owned(), pair: Pair::Es256(pair.expect("the key just made")), random }
    }

    /// A fresh Ed25519 key.
    #[must_use]
    pub fn eddsa(kid: &str) -> Self {
        let random = random();
        let document = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key just made");
        Self { kid: kid.to_owned(), pair: Pair::EdDsa(pair), random }
    }

    /// A fresh RSA key of 2048 bits, made by `openssl`; none where that is missing.
    #[must_use]
    pub fn rs256(kid: &str) -> Option<Self> {
        let arguments = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"];
        let output = Command::new(component::openssl()?).args(arguments).output().expect("openssl starts");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        let pair = RsaKeyPair::from_pkcs8(&output.stdout).expect("a PKCS #8 key");
        Some(Self { kid: kid.to_owned(), pair: Pair::Rs256(Box::new(pair)), random: random() })
    }

    /// An RSA key from a file: PKCS #8, PEM.
    ///
    /// # Panics
    /// When that is not what the file has.
    #[must_use]
    pub fn rs256_from(file: &Path, kid: &str) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_file(file).expect("a key in PEM");
        let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("an RSA key");
        Self { kid: kid.to_owned(), pair: Pair::Rs256(Box::new(pair)), random: random() }
    }

    /// The name that it is published under.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The JOSE name of its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
            Pair::Rs256(_) => "RS256",
        }
    }

    /// The public key as an issuer publishes it (RFC 7517).
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": B64.encode(x), "y": B64.encode(y)})
            }
            Pair::EdDsa(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": B64.encode(pair.public_key())}),
            Pair::Rs256(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                json!({"kty": "RSA", "n": B64.encode(n), "e": B64.encode(e)})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    /// A compact JWS (RFC 7515 §7.1) over these claims.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": self.kid}), claims)
    }

    /// The same with a header of the caller's making.
    #[must_use]
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let signature = match &self.pair {
            Pair::Es256(pair) => pair.sign(&self.random, input.as_bytes()).expect("a signature").as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, input.as_bytes(), &mut signature).expect("a signature");
                signature
            }
        };
        format!("{input}.{}", B64.encode(signature))
    }
}

/// Bytes that nobody can guess.
///
/// # Panics
/// When there is no randomness.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random().fill(&mut bytes).expect("the system has randomness");
    bytes
}

#[expect(clippy::disallowed_methods, reason = "an issuer's keys are random; no test depends on their value")]
fn random() -> SystemRandom {
    SystemRandom::new()
}
