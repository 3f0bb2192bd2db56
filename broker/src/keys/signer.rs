//! Signing with a key pair that is parsed once and kept: an ES256 signature costs microseconds, parsing the key for
//! each would double that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::port::{SignatureAlgorithm, Signer, SigningFailed};
use ring::digest;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::entropy::SystemEntropy;
use super::jwks::Jwk;

/// A signing key in this process's memory.
pub struct LocalSigner {
    pair: Pair,
    key_id: String,
    entropy: SystemEntropy,
}

enum Pair {
    Es256(Box<EcdsaKeyPair>),
    EdDsa(Box<Ed25519KeyPair>),
    Rs256(Box<RsaKeyPair>),
}

/// Bits of an RSA modulus. Below, NIST SP 800-131A does not allow signatures; above, ring signs with none.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

impl LocalSigner {
    /// Makes a new private key: PKCS #8 (RFC 5958), to be sealed at once.
    ///
    /// The system's generator is used and not an injected one: ring accepts no other.
    ///
    /// # Errors
    /// [`SigningFailed`] without randomness, and for RS256: ring makes no RSA keys, they are imported.
    pub fn generate(algorithm: SignatureAlgorithm) -> Result<Zeroizing<Vec<u8>>, SigningFailed> {
        let entropy = SystemEntropy::new();
        let document = match algorithm {
            SignatureAlgorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, entropy.for_signing())
            }
            SignatureAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(entropy.for_signing()),
            SignatureAlgorithm::Rs256 => return Err(SigningFailed),
        };
        document.map(|document| Zeroizing::new(document.as_ref().to_vec())).map_err(|_| SigningFailed)
    }

    /// Loads a private key: one that [`LocalSigner::generate`] made, or an RSA key that was imported.
    ///
    /// # Errors
    /// [`KeyRejected`] when `pkcs8` is not a consistent key pair of `algorithm`, or too short to sign with.
    pub fn from_pkcs8(algorithm: SignatureAlgorithm, pkcs8: &[u8]) -> Result<Self, KeyRejected> {
        let entropy = SystemEntropy::new();
        let pair = match algorithm {
            SignatureAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, entropy.for_signing())
                    .map(|pair| Pair::Es256(Box::new(pair)))
            }
            SignatureAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(|pair| Pair::EdDsa(Box::new(pair))),
            SignatureAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(|pair| Pair::Rs256(Box::new(pair))),
        }
        .map_err(|_| KeyRejected)?;
        Self::of(algorithm, pair, entropy)
    }

    /// Loads an RSA key of somebody else's service in PEM: PKCS #8, or PKCS #1, in which GitHub gives those of its Apps.
    ///
    /// # Errors
    /// [`KeyRejected`] when `pem` is no RSA key, or one that is too short to sign with.
    pub fn rsa_from_pem(pem: &[u8]) -> Result<Self, KeyRejected> {
        let pair = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyRejected)? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(KeyRejected),
        };
        let pair = pair.map(|pair| Pair::Rs256(Box::new(pair))).map_err(|_| KeyRejected)?;
        Self::of(SignatureAlgorithm::Rs256, pair, SystemEntropy::new())
    }

    fn of(algorithm: SignatureAlgorithm, pair: Pair, entropy: SystemEntropy) -> Result<Self, KeyRejected> {
        if let Pair::Rs256(pair) = &pair
            && !RSA_BITS.contains(&pair.public().modulus_len().saturating_mul(8))
        {
            return Err(KeyRejected);
        }
        let jwk = Jwk::of(algorithm, pair.public()).ok_or(KeyRejected)?;
        let thumbprint = digest::digest(&digest::SHA256, jwk.thumbprint_input().as_bytes());
        Ok(Self { pair, key_id: URL_SAFE_NO_PAD.encode(thumbprint), entropy })
    }
}

impl Pair {
    fn public(&self) -> &[u8] {
        match self {
            Self::Es256(pair) => pair.public_key().as_ref(),
            Self::EdDsa(pair) => pair.public_key().as_ref(),
            Self::Rs256(pair) => pair.public_key().as_ref(),
        }
    }
}

impl Signer for LocalSigner {
    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.pair {
            Pair::Es256(_) => SignatureAlgorithm::Es256,
            Pair::EdDsa(_) => SignatureAlgorithm::EdDsa,
            Pair::Rs256(_) => SignatureAlgorithm::Rs256,
        }
    }

    fn public_key(&self) -> &[u8] {
        self.pair.public()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        match &self.pair {
            Pair::Es256(pair) => pair
                .sign(self.entropy.for_signing(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SigningFailed),
            Pair::EdDsa(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, self.entropy.for_signing(), message, &mut signature);
                signed.map(|()| signature).map_err(|_| SigningFailed)
            }
        }
    }
}

impl std::fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalSigner")
            .field("algorithm", &self.algorithm())
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// A private key that is malformed, inconsistent, or of another algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key is malformed or of another algorithm")]
pub struct KeyRejected;

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};

    use super::*;

    fn signer(algorithm: SignatureAlgorithm) -> LocalSigner {
        LocalSigner::from_pkcs8(algorithm, &LocalSigner::generate(algorithm).unwrap()).unwrap()
    }

    #[test]
    fn signatures_verify_under_the_public_key_in_the_encoding_of_jws() {
        let (ecdsa, eddsa) = (signer(SignatureAlgorithm::Es256), signer(SignatureAlgorithm::EdDsa));
        let signature = ecdsa.sign(b"message").unwrap();
        assert_eq!(signature.len(), 64, "r and s side by side, RFC 7518 §3.4");
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ecdsa.public_key());
        public.verify(b"message", &signature).unwrap();
        assert!(public.verify(b"another", &signature).is_err());
        let signature = eddsa.sign(b"message").unwrap();
        UnparsedPublicKey::new(&ED25519, eddsa.public_key()).verify(b"message", &signature).unwrap();
    }

    #[test]
    fn an_rsa_key_signs_for_relying_parties_that_know_nothing_else() {
        let key = crate::keys::testing::rsa(3072);
        let rsa = LocalSigner::from_pkcs8(SignatureAlgorithm::Rs256, &key).unwrap();
        let signature = rsa.sign(b"message").unwrap();
        assert_eq!(signature.len(), 384);
        let public = UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, rsa.public_key());
        public.verify(b"message", &signature).unwrap();
        assert!(public.verify(b"another", &signature).is_err());
        assert!(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key).is_err());
        assert!(LocalSigner::generate(SignatureAlgorithm::Rs256).is_err(), "they are made elsewhere");
    }

    /// The key of RFC 7638 §3.1.
    #[test]
    fn the_thumbprint_of_an_rsa_key_is_that_of_the_rfcs_example() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj\
                 hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ\
                 vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let modulus = URL_SAFE_NO_PAD.decode(n.replace(char::is_whitespace, "")).unwrap();
        // RSAPublicKey ::= SEQUENCE { modulus, publicExponent }: lengths over 255 take two bytes.
        let integer = [&[0x02, 0x82, 0x01, 0x01, 0x00], modulus.as_slice()].concat();
        let content = [integer.as_slice(), &[0x02, 0x03, 0x01, 0x00, 0x01]].concat();
        let der = [&[0x30, 0x82, 0x01, u8::try_from(content.len() - 256).unwrap()], content.as_slice()].concat();
        let jwk = Jwk::of(SignatureAlgorithm::Rs256, &der).unwrap();
        let thumbprint = digest::digest(&digest::SHA256, jwk.thumbprint_input().as_bytes());
        assert_eq!(URL_SAFE_NO_PAD.encode(thumbprint), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_key_of_another_algorithm_is_rejected() {
        let pkcs8 = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
        assert!(LocalSigner::from_pkcs8(SignatureAlgorithm::EdDsa, &pkcs8).is_err());
        assert!(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, b"nonsense").is_err());
        assert!(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &pkcs8[..pkcs8.len() - 1]).is_err());
    }

    /// The key of RFC 8037 appendix A.1 and its thumbprint from A.3.
    #[test]
    fn the_key_id_is_the_thumbprint_of_rfc_7638() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let pkcs8 = [prefix.as_slice(), &seed].concat();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).unwrap();
        let jwk = Jwk::of(SignatureAlgorithm::EdDsa, pair.public_key().as_ref()).unwrap();
        let thumbprint = digest::digest(&digest::SHA256, jwk.thumbprint_input().as_bytes());
        assert_eq!(URL_SAFE_NO_PAD.encode(thumbprint), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_signer_prints_only_its_public_parts() {
        let printed = format!("{:?}", signer(SignatureAlgorithm::Es256));
        assert!(printed.starts_with("LocalSigner { algorithm: Es256, key_id: \""), "{printed}");
        assert!(printed.ends_with(".. }"), "{printed}");
        assert!(printed.len() < 120, "{printed}");
    }
}
