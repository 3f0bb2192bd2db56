//! Certificate requests (PKCS #10, RFC 2986): the public key is taken, with proof that its owner has the private one.
//!
//! Everything else that a request says – its subject, the names and extensions that it asks for – is ignored: names
//! come from the verified identity and the role. A request that asks to be `admin` is not refused for it and gains
//! nothing by it.

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::public_key::PublicKey;

/// Longest request that is read: an RSA-4096 request with a few extensions has 3 kB.
const MAX_LEN: usize = 16 * 1024;

/// The public key of a request whose signature proves possession of the private key (RFC 2986 §3).
///
/// # Errors
/// What is wrong and what would be right, for the caller.
pub(super) fn public_key(pem: &str) -> Result<PublicKey, String> {
    if pem.len() > MAX_LEN {
        return Err(format!("the certificate request is longer than {MAX_LEN} bytes"));
    }
    if pem.matches("-----BEGIN ").count() != 1 {
        return Err("`csr` must be one PEM block CERTIFICATE REQUEST".to_owned());
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "`csr` must be one PEM block CERTIFICATE REQUEST")?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|_| "the certificate request is malformed")?;
    if !rest.is_empty() {
        return Err("the certificate request is followed by other bytes".to_owned());
    }
    let info = &request.certification_request_info;
    let key = PublicKey::of(&info.subject_pki).map_err(|problem| format!("the certificate request: {problem}"))?;
    if !key.verifies(&request.signature_algorithm, info.raw, &request.signature_value.data) {
        return Err("the certificate request is not signed by its own key with SHA-256 or stronger".to_owned());
    }
    Ok(key)
}
