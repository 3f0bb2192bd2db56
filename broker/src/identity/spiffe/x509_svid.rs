//! X.509-SVIDs (SPIFFE X509-SVID §2 to §5), by their chains: that the other end has the key was shown in the handshake.
//!
//! They are judged for each request and not for each connection: a bundle changes, and a certificate ends, while
//! connections stay. Signatures are verified again where one of those can have changed the outcome ([`super::verified`]). Names are read from the very bytes that the chain is verified over, by two parsers that must agree;
//! what only one of them reads is nobody's name.

use std::fmt::Write as _;

use hallpass_core::error::{Reason, Refusal};
use hallpass_core::identity::{AcceptanceRules, AttributeValue, ClientCertificate, ProofForm, VerifiedProof};
use hallpass_core::provenance::Provenance;
use hallpass_core::spiffe::SpiffeId;
use hallpass_core::time::{Timestamp, Ttl};
use rustls::crypto::ring as provider;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::SpiffeVerifier;
use crate::config::issuer::spiffe::KIND;
use crate::identity::jwks::KeySet;
use crate::identity::x509::{parsed, signing_intermediates, unix};

/// The SPIFFE ID that a certificate has, of which nothing is verified: exactly one URI among its names (§2).
pub(super) fn unverified_id(certificate: &ClientCertificate) -> Result<SpiffeId, Refusal> {
    let refuse = |detail: &str| bad_svid(certificate, detail);
    let der = CertificateDer::from(certificate.leaf());
    let parsed = parsed(certificate.leaf()).ok_or_else(|| refuse("the certificate cannot be read"))?;
    let names = parsed.subject_alternative_name().map_err(|_| refuse("the certificate has a repeated extension"))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    let [uri] = uris.as_slice() else {
        return Err(refuse("an X.509-SVID has exactly one URI among its names, its SPIFFE ID"));
    };
    let end_entity = webpki::EndEntityCert::try_from(&der).map_err(|_| refuse("the certificate cannot be read"))?;
    if !end_entity.valid_uri_names().eq([*uri]) {
        return Err(refuse("the names of the certificate can be read in two ways"));
    }
    SpiffeId::parse(uri).map_err(|rule| refuse(&format!("the URI of the certificate is no SPIFFE ID: {rule}")))
}

impl SpiffeVerifier {
    pub(super) async fn verify_x509(
        &self,
        certificate: &ClientCertificate,
        now: Timestamp,
    ) -> Result<VerifiedProof, Refusal> {
        let refuse = |detail: &str| bad_svid(certificate, detail);
        let id = unverified_id(certificate)?;
        if *id.trust_domain() != self.settings.trust_domain {
            return Err(refuse("the certificate is of another trust domain than its verifier"));
        }
        let leaf = parsed(certificate.leaf()).ok_or_else(|| refuse("the certificate cannot be read"))?;
        let at = unix(now).ok_or_else(|| refuse("the time cannot be told"))?;
        let bundle = self.bundle.current().await?;
        if !self.verified.have(certificate, &bundle, now) {
            let bundle = match chain(certificate, &bundle, at) {
                Ok(()) => bundle,
                Err(first) => {
                    // An authority that began since the bundle was fetched; within the bounds of every fetch.
                    self.bundle.refresh().await;
                    let newer = self.bundle.current().await?;
                    if newer.authorities() == bundle.authorities() {
                        return Err(refuse(&first));
                    }
                    chain(certificate, &newer, at).map_err(|why| refuse(&why))?;
                    newer
                }
            };
            if let Some(until) = first_end(certificate, &bundle, at) {
                self.verified.remember(certificate, &bundle, now, until);
            }
        }
        // From here on its trust domain has signed it.
        let refuse = |detail: &str| refuse(detail).after_signature();
        check_leaf(&leaf, &id).map_err(refuse)?;
        let validity = leaf.validity();
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let (not_before, not_after) = (Timestamp::from_secs(not_before), Timestamp::from_secs(not_after));
        if not_after > not_before.plus(self.settings.x509_max_lifetime) {
            let longest = self.settings.x509_max_lifetime;
            let detail = format!("the certificate is valid for longer than the {longest} allowed to its trust domain");
            return Err(refuse(&detail).recorded_as(Reason::LifetimeTooLong));
        }
        let mut attributes = self.attributes(&id, "x509");
        let (serial, sha256) = (hex(leaf.raw_serial()), hex(&certificate.sha256()));
        attributes.insert("x509_serial".to_owned(), AttributeValue::Text(serial.clone()));
        attributes.insert("x509_sha256".to_owned(), AttributeValue::Text(sha256));
        let authority = leaf.issuer().to_string();
        Ok(VerifiedProof {
            form: ProofForm::Certificate,
            issuer: self.settings.name.clone(),
            issuer_kind: KIND.into(),
            principal: self.settings.principal,
            subject: id.as_str().to_owned(),
            audiences: Vec::new(),
            expires_at: Some(not_after),
            not_before: Some(not_before),
            issued_at: None,
            proof_id: Some(serial),
            key_id: Some(authority_key(&leaf).unwrap_or(authority)),
            // Nobody bound it to a key: it has one.
            binding_key: None,
            attributes,
            provenance: Provenance::default(),
            grant: None,
            may_act: None,
            rules: AcceptanceRules {
                // The chain was judged at this very moment, without leeway; how long it may be valid, just above.
                leeway: Ttl::ZERO,
                max_age: None,
                max_lifetime: self.settings.x509_max_lifetime,
                // It is shown with every request of its connection.
                single_use: false,
                ..self.settings.rules.clone()
            },
        })
    }
}

/// Whether the chain ends in an authority of this bundle, now, for a TLS client.
pub(super) fn chain(certificate: &ClientCertificate, bundle: &KeySet, at: UnixTime) -> Result<(), String> {
    let der = CertificateDer::from(certificate.leaf());
    let end_entity = webpki::EndEntityCert::try_from(&der).map_err(|_| "the certificate cannot be read".to_owned())?;
    let intermediates: Vec<_> =
        certificate.intermediates().iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        bundle.authorities().iter().filter_map(|authority| authority.anchor_at(at).cloned()).collect();
    if anchors.is_empty() {
        return Err("the bundle of its trust domain has no authority that is valid now".to_owned());
    }
    end_entity
        .verify_for_usage(
            provider::default_provider().signature_verification_algorithms.all,
            &anchors,
            &intermediates,
            at,
            webpki::KeyUsage::client_auth(),
            None,
            Some(&signing_intermediates),
        )
        .map(drop)
        .map_err(|error| told(&error))
}

/// When the first ends of anything that the chain can rest on: its certificates, whether it needs them or not, and every
/// authority that is valid now. None where one of its certificates is not valid now, on which it then does not rest.
fn first_end(certificate: &ClientCertificate, bundle: &KeySet, at: UnixTime) -> Option<Timestamp> {
    let now = Timestamp::from_secs(i64::try_from(at.as_secs()).ok()?);
    let validity = |der: &Vec<u8>| {
        let validity = parsed(der)?.validity().clone();
        Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
    };
    let mut first: Option<Timestamp> = None;
    let leaf = certificate.leaf().to_vec();
    for der in std::iter::once(&leaf).chain(certificate.intermediates()) {
        let (begins, ends) = validity(der)?;
        let (begins, ends) = (Timestamp::from_secs(begins), Timestamp::from_secs(ends));
        if now < begins || ends < now {
            return None;
        }
        first = Some(first.map_or(ends, |first| first.min(ends)));
    }
    let authorities = bundle.authorities().iter().filter(|authority| authority.anchor_at(at).is_some());
    let ends = authorities.map(|authority| authority.not_after()).min()?;
    first.map(|first| first.min(ends))
}

/// §4: what a leaf is, and what it must not be able to do.
fn check_leaf(leaf: &X509Certificate<'_>, id: &SpiffeId) -> Result<(), &'static str> {
    if id.path().is_empty() {
        return Err("the certificate has the SPIFFE ID of a trust domain, which is no workload");
    }
    let basic = leaf.basic_constraints().map_err(|_| "the certificate has a repeated extension")?;
    if basic.is_some_and(|basic| basic.value.ca) {
        return Err("the certificate is one of an authority");
    }
    let usage = leaf.key_usage().map_err(|_| "the certificate has a repeated extension")?;
    let usage = usage.ok_or("the certificate does not say what its key is for")?;
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err("the key of the certificate may sign certificates or revocation lists");
    }
    if !usage.value.digital_signature() {
        return Err("the key of the certificate is not for digital signatures");
    }
    let extended = leaf.extended_key_usage().map_err(|_| "the certificate has a repeated extension")?;
    if extended.is_some_and(|extended| !extended.value.client_auth) {
        return Err("the certificate is not for TLS clients");
    }
    Ok(())
}

fn told(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => "a certificate of the chain has expired",
        E::CertNotValidYet { .. } => "a certificate of the chain is not valid yet",
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => {
            "the chain does not end in an authority of its trust domain's bundle"
        }
        E::RequiredEkuNotFoundContext(_) => "the certificate is not for TLS clients",
        E::CaUsedAsEndEntity => "the certificate is one of an authority",
        E::NameConstraintViolation => "an authority of the chain has name constraints that it does not keep",
        E::PathLenConstraintViolated => "an authority of the chain has one below it that it must not have",
        E::EndEntityUsedAsCa => "a certificate of the chain signs others and may not",
        _ => return format!("the chain does not verify: {error}"),
    }
    .to_owned()
}

/// A refusal that tells the audit log which certificate it was.
fn bad_svid(certificate: &ClientCertificate, detail: &str) -> Refusal {
    let serial = parsed(certificate.leaf()).map_or("?".to_owned(), |leaf| hex(leaf.raw_serial()));
    let which = format!("serial {serial}, SHA-256 {}", hex(&certificate.sha256()));
    Refusal::proof(Reason::BadSvid, detail).because(which)
}

/// The key identifier of whoever signed it: the name of a key that can be distrusted.
fn authority_key(leaf: &X509Certificate<'_>) -> Option<String> {
    leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(identifier) => {
            identifier.key_identifier.as_ref().map(|key| hex(key.0))
        }
        _ => None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
