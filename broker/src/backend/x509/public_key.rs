//! Public keys and signatures of certificates and requests: what is strong enough, and whether a signature holds.
//!
//! One allow-list serves certificate requests of workloads and the certificates above an intermediate authority.

use rcgen::PublicKeyData;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// RSA below this can be factored with means that states have today (NIST SP 800-131A).
const RSA_MIN_BITS: usize = 2048;

/// RSA above this only costs: each verification grows with the square of the length.
const RSA_MAX_BITS: usize = 4096;

/// The smallest public exponent (NIST SP 800-56B): with 1 a signature proves nothing, with 3 padding bugs forge.
const RSA_MIN_EXPONENT: u64 = 65_537;

/// A public key that is strong enough to be certified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    kind: Kind,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl PublicKey {
    /// Takes a key from a request or a certificate.
    ///
    /// # Errors
    /// What is wrong with the key and what would be right, for its owner.
    pub(super) fn of(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, String> {
        let kind = kind(info).ok_or("its key is of a kind that is not accepted: use P-256, P-384, Ed25519 or RSA")?;
        let bytes: &[u8] = &info.subject_public_key.data;
        match kind {
            Kind::P256 => uncompressed(bytes, 65)?,
            Kind::P384 => uncompressed(bytes, 97)?,
            Kind::Ed25519 if bytes.len() == 32 => {}
            Kind::Ed25519 => return Err("its Ed25519 key does not have 32 bytes".to_owned()),
            Kind::Rsa => strong_rsa(info)?,
        }
        Ok(Self { kind, bytes: bytes.to_vec() })
    }

    /// Whether `signature` over `message` holds under this key. SHA-1 and MD5 are not known, so do not hold.
    pub(super) fn verifies(&self, algorithm: &AlgorithmIdentifier<'_>, message: &[u8], signature: &[u8]) -> bool {
        let oid = &algorithm.algorithm;
        let verifier: &'static dyn VerificationAlgorithm = match self.kind {
            Kind::P256 if *oid == OID_SIG_ECDSA_WITH_SHA256 => &ECDSA_P256_SHA256_ASN1,
            Kind::P256 if *oid == OID_SIG_ECDSA_WITH_SHA384 => &ECDSA_P256_SHA384_ASN1,
            Kind::P384 if *oid == OID_SIG_ECDSA_WITH_SHA256 => &ECDSA_P384_SHA256_ASN1,
            Kind::P384 if *oid == OID_SIG_ECDSA_WITH_SHA384 => &ECDSA_P384_SHA384_ASN1,
            Kind::Ed25519 if *oid == OID_SIG_ED25519 => &ED25519,
            Kind::Rsa if *oid == OID_PKCS1_SHA256WITHRSA => &RSA_PKCS1_2048_8192_SHA256,
            Kind::Rsa if *oid == OID_PKCS1_SHA384WITHRSA => &RSA_PKCS1_2048_8192_SHA384,
            Kind::Rsa if *oid == OID_PKCS1_SHA512WITHRSA => &RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        UnparsedPublicKey::new(verifier, &self.bytes).verify(message, signature).is_ok()
    }

    /// The key's bytes: a point, or an `RSAPublicKey`.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.kind {
            Kind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Kind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Kind::Ed25519 => &rcgen::PKCS_ED25519,
            Kind::Rsa => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

fn kind(info: &SubjectPublicKeyInfo<'_>) -> Option<Kind> {
    let algorithm = &info.algorithm;
    if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        // Named curves only: explicit parameters let a request bring a curve of its own (CVE-2020-0601).
        let curve = algorithm.parameters.as_ref()?.as_oid().ok()?;
        if curve == OID_EC_P256 {
            return Some(Kind::P256);
        }
        return (curve == OID_NIST_EC_P384).then_some(Kind::P384);
    }
    if algorithm.algorithm == OID_SIG_ED25519 {
        return Some(Kind::Ed25519);
    }
    (algorithm.algorithm == OID_PKCS1_RSAENCRYPTION).then_some(Kind::Rsa)
}

/// SEC 1 §2.3.3. That the point is on the curve shows when its signature verifies.
fn uncompressed(point: &[u8], length: usize) -> Result<(), String> {
    if point.len() == length && point.first() == Some(&4) {
        return Ok(());
    }
    Err("its elliptic-curve point is not in uncompressed form".to_owned())
}

fn strong_rsa(info: &SubjectPublicKeyInfo<'_>) -> Result<(), String> {
    let Ok(ParsedKey::RSA(key)) = info.parsed() else {
        return Err("its RSA key is malformed".to_owned());
    };
    let leading_zero_bytes = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let significant = key.modulus.get(leading_zero_bytes..).unwrap_or_default();
    let leading_zero_bits = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (significant.len() * 8).saturating_sub(leading_zero_bits);
    if !(RSA_MIN_BITS..=RSA_MAX_BITS).contains(&bits) {
        return Err(format!("its RSA key has {bits} bits; use {RSA_MIN_BITS} to {RSA_MAX_BITS}"));
    }
    match key.try_exponent() {
        Ok(exponent) if exponent >= RSA_MIN_EXPONENT && exponent % 2 == 1 => Ok(()),
        _ => Err(format!("its RSA key's public exponent is not an odd number from {RSA_MIN_EXPONENT}")),
    }
}
