//! Envelopes of signed statements: DSSE v1 (secure-systems-lab/dsse, `envelope.md` and `protocol.md`), alone or in a bundle
//! with what it is verified by (sigstore/protobuf-specs, `sigstore_bundle.proto`).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};

use crate::config::attestor::{AttestorKey, KeyKind};
use crate::identity::jose::json::{Document, Json, Object};

/// Longest envelope. A statement of a build with its dependencies takes a few kilobytes.
const MAX_BYTES: usize = 32 * 1024;

/// Most signatures of an envelope: each is tried with each key.
const MAX_SIGNATURES: usize = 4;

/// Most certificates of a bundle, its leaf included: more are never needed, and each may have to be tried.
const MAX_CERTIFICATES: usize = 6;

/// Most entries of logs, and most timestamps, of a bundle: each costs some signatures.
const MAX_WITNESSES: usize = 4;

/// The one type of payload: an in-toto statement (in-toto attestation framework, `envelope.md`).
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// What was signed, with its signatures, none of which has been verified.
#[derive(Debug)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
    certified: Option<Certified>,
}

/// The certificate that a bundle has, none of which has been verified.
#[derive(Debug)]
pub struct Certified {
    /// The signer's, in DER.
    pub leaf: Vec<u8>,
    /// Those of authorities, in DER.
    pub intermediates: Vec<Vec<u8>>,
    /// The whole bundle.
    pub bundle: String,
}

impl Envelope {
    /// Reads an envelope, or the one in a Sigstore bundle. Members that are not known are passed over, as the specification
    /// asks; nothing of them is signed.
    ///
    /// # Errors
    /// What is wrong. Nothing of the text is repeated.
    pub fn read(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("it is longer than {MAX_BYTES} bytes"));
        }
        let document = Document::parse(text.as_bytes()).map_err(|error| format!("it is no envelope: {error}"))?;
        let members = match document.members.get("dsseEnvelope") {
            None => &document.members,
            Some(Json::Object(inner)) => inner,
            Some(_) => return Err("its `dsseEnvelope` is no object".to_owned()),
        };
        if text_of(members, "payloadType")? != PAYLOAD_TYPE {
            return Err(format!("its `payloadType` is not {PAYLOAD_TYPE}"));
        }
        let payload = decoded(text_of(members, "payload")?).ok_or("its `payload` is not base64")?;
        let Some(Json::List(signatures)) = members.get("signatures") else {
            return Err("its `signatures` is no array".to_owned());
        };
        if !(1..=MAX_SIGNATURES).contains(&signatures.len()) {
            return Err(format!("it has none, or more than {MAX_SIGNATURES} signatures"));
        }
        // `keyid` is a hint that nobody signed, and there are few keys: each is tried.
        let signature = |signature: &Json| match signature {
            Json::Object(members) => decoded(text_of(members, "sig").ok()?),
            _ => None,
        };
        let signatures: Option<Vec<_>> = signatures.iter().map(signature).collect();
        let signatures = signatures.ok_or("a signature has no `sig` in base64")?;
        Ok(Self { payload, signatures, certified: certified(&document.members, text)? })
    }

    /// The certificate that came with it.
    #[must_use]
    pub fn certified(&self) -> Option<&Certified> {
        self.certified.as_ref()
    }

    /// Whether `key` made one of the signatures.
    #[must_use]
    pub fn is_signed_by(&self, key: &AttestorKey) -> bool {
        let signed = pre_authentication_encoding(PAYLOAD_TYPE, &self.payload);
        let algorithms: &[&'static dyn VerificationAlgorithm] = match key.kind {
            KeyKind::P256 => &[&ECDSA_P256_SHA256_ASN1],
            KeyKind::P384 => &[&ECDSA_P384_SHA384_ASN1],
            KeyKind::Ed25519 => &[&ED25519],
            KeyKind::Rsa => &[&RSA_PSS_2048_8192_SHA256, &RSA_PKCS1_2048_8192_SHA256],
        };
        self.signatures.iter().any(|signature| {
            let verifies = |algorithm: &&'static dyn VerificationAlgorithm| {
                UnparsedPublicKey::new(*algorithm, &key.bytes).verify(&signed, signature).is_ok()
            };
            algorithms.iter().any(verifies)
        })
    }

    /// What was signed, as it stands.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// `sha256:` and the digest of the payload.
    #[must_use]
    pub fn digest(&self) -> String {
        let hex: String = digest(&SHA256, &self.payload).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }
}

/// The certificate of a bundle: `certificate` since v0.3, and before the first of `x509CertificateChain`.
fn certified(bundle: &Object, text: &str) -> Result<Option<Certified>, String> {
    let Some(material) = bundle.get("verificationMaterial") else { return Ok(None) };
    let Json::Object(material) = material else { return Err("its `verificationMaterial` is no object".to_owned()) };
    let stamps = match material.get("timestampVerificationData") {
        Some(Json::Object(data)) => data.get("rfc3161Timestamps"),
        _ => None,
    };
    for (name, witnesses) in [("tlogEntries", material.get("tlogEntries")), ("rfc3161Timestamps", stamps)] {
        if matches!(witnesses, Some(Json::List(witnesses)) if witnesses.len() > MAX_WITNESSES) {
            return Err(format!("its `{name}` has more than {MAX_WITNESSES} entries"));
        }
    }
    let certificates = match (material.get("certificate"), material.get("x509CertificateChain")) {
        (None, None) => return Ok(None),
        (Some(Json::Object(certificate)), None) => vec![raw_bytes(certificate)],
        (None, Some(Json::Object(chain))) => match chain.get("certificates") {
            Some(Json::List(chain)) if (1..=MAX_CERTIFICATES).contains(&chain.len()) => {
                let one = |certificate: &Json| match certificate {
                    Json::Object(certificate) => raw_bytes(certificate),
                    _ => None,
                };
                chain.iter().map(one).collect()
            }
            _ => return Err(format!("its `x509CertificateChain` has no certificate, or more than {MAX_CERTIFICATES}")),
        },
        _ => return Err("it has a `certificate` and an `x509CertificateChain`, or one that is no object".to_owned()),
    };
    let certificates: Option<Vec<_>> = certificates.into_iter().collect();
    let mut certificates = certificates.ok_or("a certificate of it has no `rawBytes` in base64")?.into_iter();
    let leaf = certificates.next().ok_or("it has no certificate")?;
    Ok(Some(Certified { leaf, intermediates: certificates.collect(), bundle: text.to_owned() }))
}

fn raw_bytes(certificate: &Object) -> Option<Vec<u8>> {
    decoded(text_of(certificate, "rawBytes").ok()?)
}

/// What is signed: type and payload with their lengths, so that neither can be read as a part of the other.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn text_of<'a>(members: &'a Object, name: &str) -> Result<&'a str, String> {
    members.get(name).and_then(Json::as_text).ok_or_else(|| format!("it has no text `{name}`"))
}

/// Either alphabet, as the specification has it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}
