//! Signatures, and secrets at rest.

use serde::{Deserialize, Serialize};

use crate::secret::SecretBytes;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256. JWS (RFC 7518 §3.4) encodes it fixed-width, X.509 as ASN.1.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519 (RFC 8032, RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 §3.3), for relying parties that know nothing else. Such keys are made
    /// elsewhere and imported.
    #[serde(rename = "RS256")]
    Rs256,
}

impl SignatureAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The JOSE name, also used in configuration and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    /// The algorithm of this JOSE name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// Signs with one key of the broker's own, wherever that key lives.
pub trait Signer: Send + Sync {
    /// `kid`: the key's RFC 7638 thumbprint.
    fn key_id(&self) -> &str;

    /// How it signs.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// The public key as raw bytes: an uncompressed P-256 point (65 bytes), 32 bytes of Ed25519, or an `RSAPublicKey`
    /// in DER (RFC 8017 §A.1.1).
    fn public_key(&self) -> &[u8];

    /// Signs `message`, encoded for JWS: `r || s` for ECDSA (RFC 7518 §3.4), 64 bytes for Ed25519,
    /// as long as the modulus for RSA.
    ///
    /// # Errors
    /// [`SigningFailed`] when the key cannot sign now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed>;
}

/// A key could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signing key failed")]
pub struct SigningFailed;

/// Where a sealed value lives. It is bound to its place: moved elsewhere it does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Table.
    pub table: &'a str,
    /// Primary key of the row.
    pub row: &'a str,
    /// Column.
    pub column: &'a str,
}

/// Seals secrets at rest: authenticated encryption under a data key, bound to the place.
pub trait Sealer: Send + Sync + 'static {
    /// Seals `plain` for `place`.
    ///
    /// # Errors
    /// [`SealError`] when randomness or the key fails.
    fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed for the same place, by any key in the list.
    ///
    /// # Errors
    /// [`SealError`] when the value was changed, moved, or sealed under a key that is not in the list.
    fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<SecretBytes, SealError>;

    /// Whether a value is sealed under the key that seals now, told by what it names itself. It may still not open.
    fn is_current(&self, sealed: &[u8]) -> bool;

    /// A keyed digest (HMAC-SHA-256, lower-case hexadecimal): lets a found credential be traced without storing it. None
    /// while there is no key: what anybody can write down must not pass for a digest.
    fn fingerprint(&self, input: &[u8]) -> Option<String>;
}

/// A secret could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The value was changed, moved to another place, or sealed under another key.
    #[error("a sealed value in {table}.{column} does not open: it was changed, moved, or sealed under another key")]
    DoesNotOpen {
        /// Table.
        table: String,
        /// Column.
        column: String,
    },
    /// The key or the random generator failed.
    #[error("sealing failed")]
    Failed,
}
