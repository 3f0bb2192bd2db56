//! What is asked of every chain of certificates that is not a TLS handshake's to judge.

use hallpass_core::time::Timestamp;
use rustls_pki_types::UnixTime;
use x509_parser::prelude::X509Certificate;

/// A certificate in DER, and nothing behind it.
pub(super) fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// The time as webpki takes it.
pub(super) fn unix(now: Timestamp) -> Option<UnixTime> {
    let secs = u64::try_from(now.as_secs()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs)))
}

/// RFC 5280 §6.1.4 (n), SPIFFE X509-SVID §4.3: webpki looks at the CA bit of an intermediate and not at its key usage.
pub(super) fn signing_intermediates(path: &webpki::VerifiedPath<'_>) -> Result<(), webpki::Error> {
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let signs = parsed(&der).is_some_and(|certificate| {
            certificate.key_usage().is_ok_and(|usage| usage.is_some_and(|usage| usage.value.key_cert_sign()))
        });
        if !signs {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    Ok(())
}
