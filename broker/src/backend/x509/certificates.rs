//! The certificates of an authority: its own, and those above it up to a root.
//!
//! They come from the store (the self-signed root of first start) or from a file that somebody's offline root signed.
//! Both are held to the same rules, so that an authority that would issue certificates nobody can verify does not
//! start.

use hallpass_core::time::{Timestamp, Ttl};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::authority::AuthorityError;
use super::public_key::PublicKey;

/// Longest list of certificates, in bytes of PEM and in number.
pub(super) const MAX_LEN: usize = 64 * 1024;
const MAX_CERTIFICATES: usize = 5;

/// A checked path from an authority's certificate to its root.
#[derive(Debug)]
pub(super) struct Certificates {
    /// The authority's own first, the root last; one and the same where the authority is its own root.
    path: Vec<CertificateDer<'static>>,
    /// From when all of them are valid.
    pub(super) not_before: Timestamp,
    /// Until when all of them are valid, exclusive.
    pub(super) not_after: Timestamp,
}

impl Certificates {
    /// Reads and checks a path whose first certificate is of `public_key`.
    pub(super) fn read(pem: &str, public_key: &[u8], now: Timestamp) -> Result<Self, AuthorityError> {
        let malformed = |problem: &str| AuthorityError::Certificates(problem.to_owned());
        if pem.len() > MAX_LEN {
            return Err(malformed("the file is longer than a list of certificates would be"));
        }
        let path: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| malformed("not a list of certificates in PEM"))?;
        if path.is_empty() || path.len() > MAX_CERTIFICATES {
            let problem = format!("there must be 1 to {MAX_CERTIFICATES} certificates, and there are {}", path.len());
            return Err(AuthorityError::Certificates(problem));
        }
        let parsed = path.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        check_path(&parsed, public_key)?;

        let seconds = |at: x509_parser::time::ASN1Time| Timestamp::from_secs(at.timestamp());
        let not_before = parsed.iter().map(|cert| seconds(cert.validity().not_before)).max().unwrap_or(Timestamp::MAX);
        let last_second = parsed.iter().map(|cert| seconds(cert.validity().not_after)).min().unwrap_or(Timestamp::MIN);
        // RFC 5280 §4.1.2.5: the validity includes `notAfter` itself.
        let not_after = last_second.plus(Ttl::from_secs(1));
        if now < not_before || now >= not_after {
            return Err(AuthorityError::NotValidNow { not_before, not_after });
        }
        Ok(Self { path, not_before, not_after })
    }

    /// Whether there are several: an authority that is its own root has one.
    pub(super) fn are_under_another(pem: &str) -> bool {
        pem.matches("-----BEGIN CERTIFICATE-----").nth(1).is_some()
    }

    /// The public key of the first of these certificates, whatever else is in the text.
    pub(super) fn first_key(pem: &str) -> Option<Vec<u8>> {
        let first = CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok()?;
        let parsed = parse(&first).ok()?;
        PublicKey::of(parsed.public_key()).ok().map(|key| key.bytes().to_vec())
    }

    /// The authority's own certificate.
    pub(super) fn own(&self) -> Option<&CertificateDer<'static>> {
        self.path.first()
    }

    /// What a verifier that trusts the root needs besides a leaf, PEM.
    pub(super) fn intermediates(&self) -> String {
        let (_root, below) = self.path.split_last().unzip();
        to_pem(below.unwrap_or_default())
    }

    /// The root, PEM.
    pub(super) fn root(&self) -> String {
        to_pem(self.path.last())
    }

    /// All of them, the authority's own first, PEM.
    pub(super) fn all(&self) -> String {
        to_pem(&self.path)
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, AuthorityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(AuthorityError::Certificates("a certificate is malformed".to_owned())),
    }
}

/// RFC 5280 §6.1, as far as it concerns authorities among each other: each signed by the next, the last by itself.
fn check_path(path: &[X509Certificate<'_>], public_key: &[u8]) -> Result<(), AuthorityError> {
    let problem = |problem: String| Err(AuthorityError::Certificates(problem));
    for (below, certificate) in path.iter().enumerate() {
        let name = certificate.subject();
        let key = PublicKey::of(certificate.public_key())
            .map_err(|weak| AuthorityError::Certificates(format!("certificate of {name}: {weak}")))?;
        if below == 0 && key.bytes() != public_key {
            return Err(AuthorityError::OtherKey);
        }
        if name.iter().next().is_none() || name.iter().any(|rdn| rdn.iter().next().is_none()) {
            return problem("a certificate has no subject".to_owned());
        }
        let constraints = certificate.basic_constraints().ok().flatten().map(|extension| extension.value);
        let Some(constraints) = constraints.filter(|constraints| constraints.ca) else {
            return problem(format!("certificate of {name} is not an authority's (RFC 5280 §4.2.1.9)"));
        };
        if constraints.path_len_constraint.is_some_and(|length| (length as usize) < below) {
            return problem(format!("certificate of {name} allows no authority this far below it"));
        }
        let usage = certificate.key_usage().ok().flatten().map(|extension| extension.value);
        if !usage.is_some_and(|usage| usage.key_cert_sign() && (below > 0 || usage.crl_sign())) {
            return problem(format!("certificate of {name} lacks keyCertSign, or cRLSign for the first"));
        }
        let issuer = path.get(below + 1).unwrap_or(certificate);
        let issuer_key = PublicKey::of(issuer.public_key())
            .map_err(|weak| AuthorityError::Certificates(format!("certificate of {}: {weak}", issuer.subject())))?;
        let signed = issuer_key.verifies(
            &certificate.signature_algorithm,
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        );
        if certificate.issuer().as_raw() != issuer.subject().as_raw() || !signed {
            return problem(format!(
                "certificate of {name} is not signed by the one after it; list the authority's own first and its root \
                 last"
            ));
        }
    }
    Ok(())
}

fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    certificates.into_iter().map(|der| pem("CERTIFICATE", der)).collect()
}

/// RFC 7468.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    const LINE: usize = 64;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while let Some((line, after)) = rest.split_at_checked(LINE) {
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        out.push_str(rest);
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
