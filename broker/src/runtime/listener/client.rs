//! Which client certificates a handshake takes: any that is sound and whose key the client shows possession of.
//!
//! Whether anybody trustworthy signed it is judged above TLS, for each request: bundles change and certificates end while
//! connections stay, a session that resumes has no handshake that could look again, and a token can be bound to a
//! certificate that nobody signed but its holder (RFC 8705 §2.2). So nothing here is an identity yet.

use std::sync::Arc;

use hallpass_core::identity::ClientCertificate;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::http::certificate_header::has_one_order;

/// Asks for a certificate, and makes do without.
#[derive(Debug)]
pub(super) struct AnySoundCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnySoundCertificate {
    pub(super) const fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { algorithms }
    }
}

impl ClientCertVerifier for AnySoundCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hint: a client is to show what it has.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = intermediates.iter().fold(end_entity.len(), |sum, one| sum.saturating_add(one.len()));
        let is_bounded = intermediates.len() < ClientCertificate::MAX_CHAIN && bytes <= ClientCertificate::MAX_BYTES;
        if !is_bounded || !has_one_order(intermediates.iter().map(AsRef::as_ref)) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What the client showed in its handshake, or in the one that this session resumes.
pub(super) fn certificate_of(session: &rustls::ServerConnection) -> Option<Arc<ClientCertificate>> {
    let chain = session.peer_certificates()?.iter().map(|certificate| certificate.to_vec()).collect();
    ClientCertificate::new(chain).map(Arc::new)
}
