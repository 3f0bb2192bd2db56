//! Public keys of attestors: which are strong enough.

use std::path::PathBuf;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// RSA below this can be factored by those who can pay; above, each verification costs milliseconds of our time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The smallest public exponent (NIST SP 800-56B): with 3, padding bugs forge.
const RSA_MIN_EXPONENT: u64 = 65_537;

/// A key that statements are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestorKey {
    /// The file that it is in, where it is in one.
    pub file: Option<PathBuf>,
    /// What signs with it.
    pub kind: KeyKind,
    /// A point, or an `RSAPublicKey`.
    pub bytes: Vec<u8>,
}

/// What signs with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// ECDSA on P-384 with SHA-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA with SHA-256, PSS or PKCS #1 v1.5.
    Rsa,
}

impl AttestorKey {
    /// The one public key in a PEM text (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub(super) fn from_pem(pem: &str, file: Option<PathBuf>) -> Result<Self, String> {
        const FORM: &str = "is not one public key in PEM: -----BEGIN PUBLIC KEY-----";
        if pem.contains("PRIVATE KEY") {
            return Err("has a private key: take it out of the bundle, and out of use".to_owned());
        }
        let mut found = SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes());
        let (Some(Ok(der)), None) = (found.next(), found.next()) else { return Err(FORM.to_owned()) };
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(&der) else { return Err(FORM.to_owned()) };
        Ok(Self { file, ..Self::of(&info)? })
    }

    /// The key of a certificate, or of anything else that has one, where it is strong enough.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn of(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, String> {
        const FORM: &str = "has a malformed key";
        let kind = kind(info).ok_or("is of a kind that is not accepted: use P-256, P-384, Ed25519 or RSA")?;
        let bytes: &[u8] = &info.subject_public_key.data;
        let is_point = |length: usize| bytes.len() == length && bytes.first() == Some(&4);
        match kind {
            KeyKind::P256 if is_point(65) => {}
            KeyKind::P384 if is_point(97) => {}
            KeyKind::Ed25519 if bytes.len() == 32 => {}
            KeyKind::Rsa => strong_rsa(info)?,
            KeyKind::P256 | KeyKind::P384 | KeyKind::Ed25519 => return Err(FORM.to_owned()),
        }
        Ok(Self { file: None, kind, bytes: bytes.to_vec() })
    }
}

fn kind(info: &SubjectPublicKeyInfo<'_>) -> Option<KeyKind> {
    let algorithm = &info.algorithm;
    if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        // Named curves only: explicit parameters let a key bring a curve of its own (CVE-2020-0601).
        let curve = algorithm.parameters.as_ref()?.as_oid().ok()?;
        if curve == OID_EC_P256 {
            return Some(KeyKind::P256);
        }
        return (curve == OID_NIST_EC_P384).then_some(KeyKind::P384);
    }
    if algorithm.algorithm == OID_SIG_ED25519 {
        return Some(KeyKind::Ed25519);
    }
    (algorithm.algorithm == OID_PKCS1_RSAENCRYPTION).then_some(KeyKind::Rsa)
}

fn strong_rsa(info: &SubjectPublicKeyInfo<'_>) -> Result<(), String> {
    let Ok(ParsedKey::RSA(key)) = info.parsed() else { return Err("has a malformed RSA key".to_owned()) };
    let leading = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let significant = key.modulus.get(leading..).unwrap_or_default();
    let zeros = significant.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = significant.len().saturating_mul(8).saturating_sub(zeros);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("has an RSA key of {bits} bits; use {} to {}", RSA_BITS.start(), RSA_BITS.end()));
    }
    match key.try_exponent() {
        Ok(exponent) if exponent >= RSA_MIN_EXPONENT && exponent % 2 == 1 => Ok(()),
        _ => Err(format!("has an RSA key whose exponent is not an odd number from {RSA_MIN_EXPONENT}")),
    }
}
