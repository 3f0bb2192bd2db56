//! Sigstore's own verification library, on ring: the trusted roots that it verifies by, and the cryptography it asks for.
//!
//! Nothing here fetches anything: a trusted root is what configuration has. What a root has is asked of every bundle: where
//! it has a transparency log, a proof of inclusion; where it has a certificate transparency log, a timestamp of that.

use std::fmt;
use std::sync::Arc;

use hallpass_core::time::Timestamp;
use ring::digest::{self, Context};
use ring::signature as ring_signature;
use sigstore_verify::crypto::{CryptoProvider, Error as CryptoError, HashContext, SigningScheme};
use sigstore_verify::error::{CertificateError, TimestampError, TransparencyLogError};
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::bundle::SignatureContent;
use sigstore_verify::types::intoto::Statement;
use sigstore_verify::types::{Artifact, ArtifactDigest, Bundle, HashAlgorithm};
use sigstore_verify::{Error, IdentityMatcher, VerificationPolicy, VerificationResult, Verifier};

/// A trusted root (`application/vnd.dev.sigstore.trustedroot+json`): authorities, logs and timestamp authorities of one
/// Sigstore instance.
#[derive(Clone)]
pub struct Root {
    /// As it was written, by which two are the same.
    text: Arc<str>,
    verifier: Arc<Verifier>,
    has_log: bool,
    has_certificate_log: bool,
}

/// What a bundle is expected to be.
#[derive(Debug)]
pub struct Expected<'a> {
    /// What the caller read as signed.
    pub payload: &'a [u8],
    /// The name that the certificate must have.
    pub identity: IdentityMatcher,
    /// The OIDC issuer that told the authority of that identity.
    pub oidc_issuer: &'a str,
}

/// What is known of a signature that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The earliest of all times at which it is known to have been there.
    pub at: Timestamp,
    /// The code host's immutable id of the repository that the certificate's run was in.
    pub repository_id: Option<String>,
    /// URL of that repository.
    pub repository: Option<String>,
    /// Commit that the run was of.
    pub commit: Option<String>,
}

impl Root {
    /// Reads a trusted root.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        install();
        const FORM: &str = "is no trusted root of Sigstore: take the trusted_root.json of its TUF repository";
        let root = TrustedRoot::from_json(text).map_err(|error| format!("{FORM} ({error})"))?;
        if root.certificate_authorities.is_empty() {
            return Err("has no certificate authority: nobody could sign".to_owned());
        }
        if root.tlogs.is_empty() && root.timestamp_authorities.is_empty() {
            return Err(
                "has neither a transparency log nor a timestamp authority: nothing would tell of when a signature is, \
                        and its certificates live for minutes"
                    .to_owned(),
            );
        }
        let (has_log, has_certificate_log) = (!root.tlogs.is_empty(), !root.ctlogs.is_empty());
        let verifier = Verifier::new(&root).map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Self { text: text.into(), verifier: Arc::new(verifier), has_log, has_certificate_log })
    }

    /// Verifies a bundle: its chain to an authority at each time that a log or timestamp authority vouches for, the log's
    /// entry of this very signature, and the signature.
    ///
    /// # Errors
    /// What does not verify. Nothing of the bundle is repeated.
    pub fn verify(&self, bundle: &str, expected: &Expected<'_>) -> Result<Signature, &'static str> {
        const UNREADABLE: &str = "it is no bundle that Sigstore knows";
        let bundle = Bundle::from_json(bundle).map_err(|_| UNREADABLE)?;
        let SignatureContent::DsseEnvelope(envelope) = &bundle.content else { return Err(UNREADABLE) };
        // Two readers of one text: what this one verifies is what the other one read.
        if envelope.payload.as_bytes() != expected.payload {
            return Err("what it says can be read in two ways");
        }
        // The library leaves it to the bundle's version, which nobody signs: before v0.2 a log's promise was enough.
        let entries = &bundle.verification_material.tlog_entries;
        if self.has_log && entries.iter().any(|entry| entry.inclusion_proof.is_none()) {
            return Err("an entry of a log that it has is without `inclusionProof`");
        }
        let artifact = any_subject(expected.payload)
            .ok_or("none of its subjects has a `sha256` or `sha512`, without which Sigstore verifies nothing")?;
        let mut policy = VerificationPolicy::new(expected.identity.clone(), expected.oidc_issuer);
        if !self.has_log {
            policy = policy.skip_tlog_unsafe();
        }
        if !self.has_certificate_log {
            policy = policy.skip_sct();
        }
        let verified = self.verifier.verify(artifact, &bundle, &policy).map_err(|error| told(&error))?;
        self.signature(&verified).ok_or("it was not verified as a whole")
    }

    /// What is known, where everything was verified that this root has the means for.
    fn signature(&self, verified: &VerificationResult) -> Option<Signature> {
        let complete = verified.certificate_verified()
            && verified.identity_policy_checked()
            && verified.tlog_verified() == self.has_log
            && verified.sct_verified() == self.has_certificate_log;
        let at = verified.verified_timestamps().iter().min().filter(|_| complete)?;
        let claims = &verified.certificate()?.ci_claims;
        Some(Signature {
            at: Timestamp::from_secs(at.as_second()),
            repository_id: claims.source_repository_identifier.clone(),
            repository: claims.source_repository_uri.clone(),
            commit: claims.source_repository_digest.clone(),
        })
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Root").field(&self.text).finish()
    }
}

impl PartialEq for Root {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Root {}

/// Sigstore verifies that a bundle is about an artifact that somebody has. Nobody has one here, so it is asked about one that
/// the statement itself names.
fn any_subject(payload: &[u8]) -> Option<Artifact<'static>> {
    let statement: Statement = serde_json::from_slice(payload).ok()?;
    let digest =
        statement.subject.iter().find_map(|subject| match (&subject.digest.sha256, &subject.digest.sha512) {
            (Some(sha256), _) => ArtifactDigest::new(HashAlgorithm::Sha2256, sha256.as_bytes().to_vec()).ok(),
            (None, Some(sha512)) => ArtifactDigest::new(HashAlgorithm::Sha2512, sha512.as_bytes().to_vec()).ok(),
            (None, None) => None,
        })?;
    Some(Artifact::Digest(digest))
}

/// The kind of error, in our words: the library's repeat what the bundle says.
fn told(error: &Error) -> &'static str {
    match error {
        Error::IdentityMismatch { .. } => "its certificate is another signer's",
        Error::IssuerMismatch { .. } => "its certificate does not name the `oidc_issuer` that is configured",
        Error::SignatureInvalid(_) => "the key of its certificate did not sign it as it stands",
        Error::Certificate(CertificateError::ChainInvalid(_) | CertificateError::NoValidAuthority { .. }) => {
            "its certificate is not of an authority of the trusted root, valid when it signed and for signing code"
        }
        Error::Certificate(CertificateError::NotYetValid { .. } | CertificateError::Expired { .. }) => {
            "its certificate was not valid when it signed"
        }
        Error::Certificate(CertificateError::Sct(_)) => {
            "no log of certificates that the trusted root has knows its certificate"
        }
        Error::Certificate(_) => "its certificate cannot be read",
        Error::TransparencyLog(TransparencyLogError::UnknownLog { .. }) => {
            "it is in a log that the trusted root does not have"
        }
        Error::TransparencyLog(TransparencyLogError::EntryMismatch(_)) => "the log's entry is of something else",
        Error::TransparencyLog(TransparencyLogError::IntegratedTime(_)) => {
            "it went into the log when its certificate was not valid"
        }
        Error::TransparencyLog(_) => "what it has of a log does not verify by the trusted root",
        Error::Timestamp(TimestampError::NoVerifiedTimestamp(_)) => {
            "nothing that the trusted root has vouches for when it was signed: neither a log's promise nor a timestamp"
        }
        Error::Timestamp(_) => "a timestamp of it does not verify by the trusted root",
        Error::Bundle(_) | Error::InvalidBundle(_) | Error::UnsupportedBundle(_) | Error::Types(_) => {
            "its bundle lacks what its version must have, or has what is not known"
        }
        _ => "it does not verify",
    }
}

/// Makes ring the provider of the process. Calling it again changes nothing. The library panics without one, and so each
/// root, without which nothing is verified, sees to it.
fn install() {
    // The only error is that it is there already, and no other exists in this build.
    let _already_installed = sigstore_verify::crypto::install_default_provider(&Ring);
}

#[derive(Debug)]
struct Ring;

impl CryptoProvider for Ring {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>, CryptoError> {
        let algorithm = match algorithm {
            HashAlgorithm::Sha2256 => &digest::SHA256,
            HashAlgorithm::Sha2384 => &digest::SHA384,
            HashAlgorithm::Sha2512 => &digest::SHA512,
            _ => return Err(CryptoError::UnsupportedAlgorithm("ring has no such digest".to_owned())),
        };
        Ok(Box::new(Hashing(Context::new(algorithm))))
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let algorithm: &'static dyn ring_signature::VerificationAlgorithm = match scheme {
            SigningScheme::EcdsaP256Sha256 => &ring_signature::ECDSA_P256_SHA256_ASN1,
            SigningScheme::EcdsaP256Sha384 => &ring_signature::ECDSA_P256_SHA384_ASN1,
            SigningScheme::EcdsaP384Sha256 => &ring_signature::ECDSA_P384_SHA256_ASN1,
            SigningScheme::EcdsaP384Sha384 => &ring_signature::ECDSA_P384_SHA384_ASN1,
            SigningScheme::Ed25519 => &ring_signature::ED25519,
            SigningScheme::RsaPssSha256 => &ring_signature::RSA_PSS_2048_8192_SHA256,
            SigningScheme::RsaPssSha384 => &ring_signature::RSA_PSS_2048_8192_SHA384,
            SigningScheme::RsaPssSha512 => &ring_signature::RSA_PSS_2048_8192_SHA512,
            SigningScheme::RsaPkcs1Sha256 => &ring_signature::RSA_PKCS1_2048_8192_SHA256,
            SigningScheme::RsaPkcs1Sha384 => &ring_signature::RSA_PKCS1_2048_8192_SHA384,
            SigningScheme::RsaPkcs1Sha512 => &ring_signature::RSA_PKCS1_2048_8192_SHA512,
            _ => return Err(CryptoError::UnsupportedAlgorithm("ring has no such signature".to_owned())),
        };
        let verified = ring_signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature);
        verified.map_err(|_| CryptoError::Verification("the signature is not the key's".to_owned()))
    }

    /// Of statements, which are all that is verified here, the message is known.
    fn verify_prehashed(&self, _: SigningScheme, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), CryptoError> {
        Err(CryptoError::UnsupportedAlgorithm("ring signs no digests".to_owned()))
    }
}

struct Hashing(Context);

impl HashContext for Hashing {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}
