//! Signers that are known by certificates: by those of an authority of one's own, and by Sigstore's.
//!
//! The name is looked at first, unverified, so that only certificates that claim to be a configured signer's cost anything;
//! then everything is verified, the name with it.

use hallpass_core::time::Timestamp;
use rustls::crypto::ring as provider;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::envelope::{Certified, Envelope};
use crate::config::attestor::{AttestorKey, CertifiedSigner, Certifier, SignerName};
use crate::identity::jwks::Authority;
use crate::identity::x509::{parsed, signing_intermediates, unix};
use crate::sigstore::{Expected, Signature};

/// `id-kp-codeSigning`, 1.3.6.1.5.5.7.3.3 (RFC 5280 §4.2.1.12), as webpki takes it: without tag and length. A certificate for
/// TLS of the same name and authority is somebody else's to hold.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

const NOT_FOR_CODE: &str = "its certificate is not for signing code (extended key usage)";

/// What a verified certificate tells of its signer, beside the name. Of a key nothing is known.
#[derive(Debug, Default)]
pub(super) struct Signer {
    /// When the signature was there, where anything tells.
    at: Option<Timestamp>,
    repository: Option<String>,
    commit: Option<String>,
}

impl Signer {
    /// Whether what provenance says of the source is what the authority was told of the run. Whoever can run a step of a
    /// build can write its provenance, and cannot write its certificate.
    pub(super) fn agrees(&self, repository: Option<&str>, commit: Option<&str>) -> Result<(), String> {
        for (what, certified, said) in [("repository", &self.repository, repository), ("commit", &self.commit, commit)]
        {
            if let (Some(certified), Some(said)) = (certified, said)
                && certified != said
            {
                return Err(format!(
                    "it is about the {what} {said:?}, and its certificate is of a run of {certified:?}"
                ));
            }
        }
        Ok(())
    }

    /// Of when it is: as it says, and never later than it was signed.
    pub(super) fn earliest(&self, said: Option<Timestamp>) -> Option<Timestamp> {
        said.into_iter().chain(self.at).min()
    }
}

/// Whether the signer signed it, or why that does not show; `None` where its certificate is somebody else's, or it has none.
pub(super) fn verify(
    envelope: &Envelope,
    signer: &CertifiedSigner,
    now: Timestamp,
) -> Option<Result<Signer, &'static str>> {
    let certified = envelope.certified()?;
    let leaf = parsed(&certified.leaf)?;
    if !is_named(&leaf, certified, &signer.name) {
        return None;
    }
    Some(match &signer.certifier {
        Certifier::Authorities(authorities) => {
            by_authority(envelope, &leaf, certified, authorities, now).map(|()| Signer::default())
        }
        Certifier::Sigstore { root, oidc_issuer, repository_id } => {
            let identity = signer.name.matcher()?;
            let expected = Expected { payload: envelope.payload(), identity, oidc_issuer };
            let verified = root.verify(&certified.bundle, &expected);
            verified.and_then(|signature| by_sigstore(signature, repository_id.as_deref()))
        }
    })
}

/// Exactly one name, read alike by both parsers as far as both read that kind.
fn is_named(leaf: &X509Certificate<'_>, certified: &Certified, name: &SignerName) -> bool {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return false };
    let der = CertificateDer::from(certified.leaf.as_slice());
    let Ok(end_entity) = webpki::EndEntityCert::try_from(&der) else { return false };
    match (names.value.general_names.as_slice(), name) {
        ([GeneralName::URI(found)], SignerName::Uri(name)) => {
            found == name && end_entity.valid_uri_names().eq([name.as_str()])
        }
        ([GeneralName::DNSName(found)], SignerName::Dns(name)) => {
            found == name && end_entity.valid_dns_names().eq([name.as_str()])
        }
        ([GeneralName::RFC822Name(found)], SignerName::Email(name)) => found == name,
        _ => false,
    }
}

fn by_authority(
    envelope: &Envelope,
    leaf: &X509Certificate<'_>,
    certified: &Certified,
    authorities: &[Authority],
    now: Timestamp,
) -> Result<(), &'static str> {
    let at = unix(now).ok_or("the time cannot be told")?;
    let der = CertificateDer::from(certified.leaf.as_slice());
    let end_entity = webpki::EndEntityCert::try_from(&der).map_err(|_| "its certificate cannot be read")?;
    let intermediates: Vec<_> =
        certified.intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors: Vec<TrustAnchor<'_>> = authorities.iter().filter_map(|one| one.anchor_at(at).cloned()).collect();
    end_entity
        .verify_for_usage(
            provider::default_provider().signature_verification_algorithms.all,
            &anchors,
            &intermediates,
            at,
            // Many an authority says nothing of what those below it are for; the leaf has to, below.
            webpki::KeyUsage::required_if_present(CODE_SIGNING),
            None,
            Some(&signing_intermediates),
        )
        .map_err(|error| told(&error))?;
    let extended = leaf.extended_key_usage().map_err(|_| "its certificate has a repeated extension")?;
    if !extended.is_some_and(|extended| extended.value.code_signing) {
        return Err(NOT_FOR_CODE);
    }
    let usage = leaf.key_usage().map_err(|_| "its certificate has a repeated extension")?;
    let signs = usage.is_some_and(|usage| {
        usage.value.digital_signature() && !usage.value.key_cert_sign() && !usage.value.crl_sign()
    });
    if !signs {
        return Err("the key of its certificate is not for signatures, or for more than those of statements");
    }
    let key =
        AttestorKey::of(leaf.public_key()).map_err(|_| "the key of its certificate is weak, or of an unknown kind")?;
    if !envelope.is_signed_by(&key) {
        return Err("the key of its certificate did not sign it as it stands");
    }
    Ok(())
}

fn by_sigstore(signature: Signature, repository_id: Option<&str>) -> Result<Signer, &'static str> {
    let Signature { at, repository_id: found, repository, commit } = signature;
    match (found.as_deref(), repository_id) {
        (found, asked) if found == asked => Ok(Signer { at: Some(at), repository, commit }),
        // A workflow that others may call has one name wherever it runs.
        (Some(_), None) => Err("its certificate is of a run in a repository: say in which one (`repository_id`)"),
        _ => Err("its certificate is of a run in another repository"),
    }
}

fn told(error: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => {
            "its certificate, or one of its chain, has expired, and nothing tells of when it signed"
        }
        E::CertNotValidYet { .. } => "its certificate, or one of its chain, is not valid yet",
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => {
            "its certificate is not of an authority that is trusted here"
        }
        E::RequiredEkuNotFoundContext(_) => NOT_FOR_CODE,
        E::CaUsedAsEndEntity => "its certificate is one of an authority",
        E::NameConstraintViolation => "an authority of its chain has name constraints that it does not keep",
        E::PathLenConstraintViolated => "an authority of its chain has one below it that it must not have",
        E::EndEntityUsedAsCa => "a certificate of its chain signs others and may not",
        _ => "the chain of its certificate does not verify",
    }
}

#[cfg(test)]
mod authority_tests;
#[cfg(test)]
mod sigstore_tests;
