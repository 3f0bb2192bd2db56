//! Signatures for `jsonwebtoken` on ring.
//!
//! `jsonwebtoken` brings no ring backend, but lets one be plugged in. This one verifies only: the broker signs through
//! its own `Signer` port. There is no HMAC on purpose: the broker shares no secret with an issuer, so that no public key
//! can be mistaken for one (RFC 8725 §2.1). ES512 does not exist in ring; issuers that sign with it are not supported.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, Result};
use jsonwebtoken::jwk::{EllipticCurve, ThumbprintHash};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature as ring_signature;
use signature::Verifier;

use crate::config::issuer::JwsAlgorithm;

/// The provider. `main` makes it the default of the process, so that no use of `jsonwebtoken` can find another or none.
pub static RING: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: new_verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: no_ec_components,
        ed_pub_components_from_private_key: |_, _| Err(unsupported()),
        compute_digest: digest,
    },
};

/// Makes [`RING`] the default of the process. Calling it again changes nothing.
pub fn install() {
    // The only error is that a provider is already installed, and no other exists in this build.
    let _already_installed = RING.install_default();
}

/// Whether `signature` is `key`'s over `message`. The key must be of the algorithm's family.
#[must_use]
pub(super) fn verify(algorithm: JwsAlgorithm, key: &DecodingKey, message: &[u8], signature: &Vec<u8>) -> bool {
    (RING.verifier_factory)(&jsonwebtoken_algorithm(algorithm), key)
        .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match (primitive(self.algorithm), self.key.kind()) {
            (Some(Primitive::Rsa(parameters)), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                ring_signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Some(Primitive::Curve(algorithm)), DecodingKeyKind::SecretOrDer(point)) => {
                ring_signature::UnparsedPublicKey::new(algorithm, point).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

enum Primitive {
    Rsa(&'static ring_signature::RsaParameters),
    Curve(&'static dyn ring_signature::VerificationAlgorithm),
}

/// ECDSA signatures are fixed-length `r || s` (RFC 7518 §3.4): DER is refused. RSA moduli below 2048 bits are refused.
fn primitive(algorithm: Algorithm) -> Option<Primitive> {
    Some(match algorithm {
        Algorithm::RS256 => Primitive::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Primitive::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Primitive::Rsa(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Primitive::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Primitive::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Primitive::Rsa(&ring_signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Primitive::Curve(&ring_signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Primitive::Curve(&ring_signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Primitive::Curve(&ring_signature::ED25519),
        _ => return None,
    })
}

const fn jsonwebtoken_algorithm(algorithm: JwsAlgorithm) -> Algorithm {
    match algorithm {
        JwsAlgorithm::RS256 => Algorithm::RS256,
        JwsAlgorithm::RS384 => Algorithm::RS384,
        JwsAlgorithm::RS512 => Algorithm::RS512,
        JwsAlgorithm::PS256 => Algorithm::PS256,
        JwsAlgorithm::PS384 => Algorithm::PS384,
        JwsAlgorithm::PS512 => Algorithm::PS512,
        JwsAlgorithm::ES256 => Algorithm::ES256,
        JwsAlgorithm::ES384 => Algorithm::ES384,
        JwsAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

fn new_verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() || algorithm.family() == AlgorithmFamily::Hmac {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(unsupported())
}

fn no_ec_components(_: &[u8], _: Algorithm) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>)> {
    Err(unsupported())
}

fn digest(input: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &ring::digest::SHA256,
        ThumbprintHash::SHA384 => &ring::digest::SHA384,
        ThumbprintHash::SHA512 => &ring::digest::SHA512,
        _ => return Err(unsupported()),
    };
    Ok(ring::digest::digest(algorithm, input).as_ref().to_vec())
}

fn unsupported() -> Error {
    ErrorKind::UnsupportedAlgorithm.into()
}
