//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6.2, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::port::{SignatureAlgorithm, Signer};
use serde::Serialize;

/// One public signature key. It has no field that could hold a private part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Jwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(rename = "use")]
    public_key_use: &'static str,
    alg: &'static str,
    kid: String,
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
        let (kty, crv, x, y) = match algorithm {
            SignatureAlgorithm::Es256 => {
                // SEC 1 §2.3.3: 0x04 ‖ X ‖ Y.
                let (x, y) = public.strip_prefix(&[4])?.split_at_checked(32)?;
                (y.len() == 32).then_some(())?;
                ("EC", "P-256", URL_SAFE_NO_PAD.encode(x), Some(URL_SAFE_NO_PAD.encode(y)))
            }
            SignatureAlgorithm::EdDsa => {
                (public.len() == 32).then_some(())?;
                ("OKP", "Ed25519", URL_SAFE_NO_PAD.encode(public), None)
            }
        };
        Some(Self { kty, crv, x, y, public_key_use: "sig", alg: algorithm.as_str(), kid: String::new() })
    }

    /// What the thumbprint is the digest of: the required members in lexicographic order, no spaces (RFC 7638 §3).
    pub(super) fn thumbprint_input(&self) -> String {
        let Self { kty, crv, x, .. } = self;
        match &self.y {
            Some(y) => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#),
            None => format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#),
        }
    }
}

/// A JWK set (RFC 7517 §5).
#[derive(Debug, Serialize)]
pub(super) struct JwkSet {
    pub(super) keys: Vec<Jwk>,
}
