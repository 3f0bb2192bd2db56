//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::port::{SignatureAlgorithm, Signer};
use serde::Serialize;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;

/// One public signature key. It has no field that could hold a private part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    kty: &'static str,
    #[serde(flatten)]
    key: Key,
    #[serde(rename = "use")]
    public_key_use: &'static str,
    alg: &'static str,
    kid: String,
}

/// The members that a kind of key has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Key {
    /// RFC 7518 §6.2.1.
    Ec { crv: &'static str, x: String, y: String },
    /// RFC 8037 §2.
    Okp { crv: &'static str, x: String },
    /// RFC 7518 §6.3.1.
    Rsa { n: String, e: String },
}

impl Jwk {
    /// The key that verifies what `signer` signs.
    #[must_use]
    pub fn of_signer(signer: &dyn Signer) -> Option<Self> {
        let jwk = Self::of(signer.algorithm(), signer.public_key())?;
        Some(Self { kid: signer.key_id().to_owned(), ..jwk })
    }

    /// A key from raw bytes, as [`Signer::public_key`] gives them; its `kid` is empty.
    pub(super) fn of(algorithm: SignatureAlgorithm, public: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (kty, key) = match algorithm {
            SignatureAlgorithm::Es256 => {
                // SEC 1 §2.3.3: 0x04 ‖ X ‖ Y.
                let (x, y) = public.strip_prefix(&[4])?.split_at_checked(32)?;
                (y.len() == 32).then_some(())?;
                ("EC", Key::Ec { crv: "P-256", x: text(x), y: text(y) })
            }
            SignatureAlgorithm::EdDsa => {
                (public.len() == 32).then_some(())?;
                ("OKP", Key::Okp { crv: "Ed25519", x: text(public) })
            }
            SignatureAlgorithm::Rs256 => {
                let ([], key) = RSAPublicKey::from_der(public).ok()? else { return None };
                // DER puts a zero before a leading one-bit; the JWK has none (RFC 7518 §2, Base64urlUInt).
                let number = |bytes: &[u8]| bytes.get(bytes.iter().take_while(|byte| **byte == 0).count()..).map(text);
                ("RSA", Key::Rsa { n: number(key.modulus)?, e: number(key.exponent)? })
            }
        };
        Some(Self { kty, key, public_key_use: "sig", alg: algorithm.as_str(), kid: String::new() })
    }

    /// What the thumbprint is the digest of: the required members in lexicographic order, no spaces (RFC 7638 §3).
    pub(super) fn thumbprint_input(&self) -> String {
        let kty = self.kty;
        match &self.key {
            Key::Ec { crv, x, y } => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
            Key::Okp { crv, x } => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
            Key::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"{kty}","n":"{n}"}}"#),
        }
    }
}

/// A JWK set (RFC 7517 §5).
#[derive(Debug, Serialize)]
pub(super) struct JwkSet {
    pub(super) keys: Vec<Jwk>,
}
