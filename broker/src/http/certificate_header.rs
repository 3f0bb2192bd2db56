//! The certificate of whoever a proxy that ends TLS passes a request on for.
//!
//! Anybody can write such a header, so it is believed of nobody by address alone: the proxy itself shows a certificate of
//! a configured authority with a configured name, on the very connection that the request came over. Of it the header is
//! read and its own certificate is nobody's proof; of anybody else the header is nothing, and that is written down.
//!
//! What is passed on is only what the caller showed the proxy. Whether anybody trustworthy signed it is judged as if it had
//! been shown to the broker.

use std::collections::HashSet;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::identity::ClientCertificate;
use hallpass_core::time::Timestamp;
use percent_encoding::percent_decode_str;
use rustls::crypto::ring as provider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::extensions::GeneralName;

use super::extract::Shown;
use super::failure::Unreadable;

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// The proxies that are believed about whose certificate was shown to them.
#[derive(Clone, Debug, Default)]
pub struct CertificateProxies(Option<Arc<Believed>>);

#[derive(Debug)]
struct Believed {
    header: CertificateHeader,
    authorities: Vec<TrustAnchor<'static>>,
    names: Vec<String>,
}

/// The header in which proxies pass a certificate on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateHeader {
    /// `X-Forwarded-Client-Cert`, as Envoy writes it.
    XForwardedClientCert,
    /// `Client-Cert` and `Client-Cert-Chain` (RFC 9440).
    ClientCert,
}

/// Why proxies cannot be believed.
#[derive(Debug, thiserror::Error)]
#[error("the authorities of the proxies' certificates are none: {0}")]
pub struct NoAuthorities(&'static str);

impl CertificateProxies {
    /// Proxies that show a certificate which one of these authorities signed (PEM) and which has one of these names, each
    /// a DNS name or a URI.
    ///
    /// # Errors
    /// [`NoAuthorities`].
    pub fn new(header: CertificateHeader, authorities: &[u8], names: Vec<String>) -> Result<Self, NoAuthorities> {
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            let certificate = certificate.map_err(|_| NoAuthorities("it is no PEM"))?;
            let anchor = webpki::anchor_from_trusted_cert(&certificate);
            anchors.push(anchor.map_err(|_| NoAuthorities("one is no certificate of an authority"))?.to_owned());
        }
        if anchors.is_empty() {
            return Err(NoAuthorities("there is no certificate in it"));
        }
        Ok(Self(Some(Arc::new(Believed { header, authorities: anchors, names }))))
    }

    /// The certificate of whoever asks, over a connection whose peer showed `own`.
    ///
    /// # Errors
    /// When a proxy that is believed passes on what cannot be read, or twice.
    pub(super) fn shown(
        &self,
        own: Option<Arc<ClientCertificate>>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Shown, Unreadable> {
        let mut own = own;
        if let (Some(believed), Some(peer)) = (&self.0, &own)
            && believed.has_name(peer.leaf())
        {
            if believed.is_signed(peer, now) {
                let certificate = believed.passed_on(headers)?.map(Arc::new);
                return Ok(Shown { certificate, ignored: None });
            }
            // A proxy that can be believed no longer passes requests on all the same. None of them is its own.
            own = None;
        }
        let named = [XFCC, CLIENT_CERT, CLIENT_CERT_CHAIN].into_iter().find(|name| headers.contains_key(name));
        let ignored = named.map(|name| {
            let detail = format!("`{name}` is believed of configured proxies alone, which prove who they are");
            Refusal::proof(Reason::UntrustedProxyHeader, detail).about(name.as_str())
        });
        Ok(Shown { certificate: own, ignored })
    }
}

impl Believed {
    /// Whether one of the authorities signed what the peer showed, and it is good now.
    fn is_signed(&self, peer: &ClientCertificate, now: Timestamp) -> bool {
        let der = CertificateDer::from(peer.leaf());
        let Ok(end_entity) = webpki::EndEntityCert::try_from(&der) else { return false };
        let intermediates: Vec<_> =
            peer.intermediates().iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let Ok(secs) = u64::try_from(now.as_secs()) else { return false };
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        let algorithms = provider::default_provider().signature_verification_algorithms.all;
        let usage = webpki::KeyUsage::client_auth();
        let verified =
            end_entity.verify_for_usage(algorithms, &self.authorities, &intermediates, at, usage, None, None);
        verified.is_ok()
    }

    /// Whether it has the name of such a proxy: of most who ask that is all that is looked at.
    fn has_name(&self, der: &[u8]) -> bool {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return false };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
        names.value.general_names.iter().any(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => self.names.iter().any(|known| known == name),
            _ => false,
        })
    }

    fn passed_on(&self, headers: &HeaderMap) -> Result<Option<ClientCertificate>, Unreadable> {
        let (chain, name) = match self.header {
            CertificateHeader::XForwardedClientCert => (text(headers, &XFCC)?.map(envoy), XFCC),
            CertificateHeader::ClientCert => {
                let above = text(headers, &CLIENT_CERT_CHAIN)?;
                let own = text(headers, &CLIENT_CERT)?;
                if own.is_none() && above.is_some() {
                    return Err(unreadable(&CLIENT_CERT_CHAIN));
                }
                (own.map(|own| rfc9440(own, above)), CLIENT_CERT)
            }
        };
        let Some(chain) = chain else { return Ok(None) };
        let shown = chain.and_then(ClientCertificate::new);
        let shown = shown.filter(|shown| has_one_order(shown.intermediates().iter().map(Vec::as_slice)));
        shown.ok_or_else(|| unreadable(&name)).map(Some)
    }
}

/// Whether each of these certificates, which are above another one, has a name of its own, so that there is one order in
/// which they can be above each other. What cannot be read is above nothing.
pub(crate) fn has_one_order<'a>(intermediates: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut subjects = HashSet::new();
    intermediates
        .filter_map(|der| x509_parser::parse_x509_certificate(der).ok())
        .all(|(_, certificate)| subjects.insert(certificate.subject().as_raw().to_vec()))
}

fn unreadable(name: &HeaderName) -> Unreadable {
    let detail = format!(
        "`{name}` does not say readably which one certificate was shown to the proxy; it replaces what its callers send"
    );
    Unreadable::syntax(name.as_str(), detail)
}

/// A header that is there once: whoever adds to one that its caller sent has not replaced it.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Unreadable> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| unreadable(name)),
        (Some(_), Some(_)) => Err(unreadable(name)),
    }
}

/// The certificates of an `X-Forwarded-Client-Cert` of exactly one element: with several, some are hearsay.
fn envoy(text: &str) -> Option<Vec<Vec<u8>>> {
    let (mut own, mut chain) = (None, None);
    for (key, value) in pairs(text)? {
        let place = match key.to_ascii_lowercase().as_str() {
            "cert" => &mut own,
            "chain" => &mut chain,
            _ => continue,
        };
        if place.replace(pem_chain(&value)?).is_some() {
            return None;
        }
    }
    match (own, chain) {
        (Some(own), Some(chain)) if own.len() == 1 && chain.first() == own.first() => Some(chain),
        (Some(own), None) if own.len() == 1 => Some(own),
        (None, Some(chain)) => Some(chain),
        _ => None,
    }
}

/// `Key=Value;Key="Value"`, where a comma outside of quotes begins another element.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let (mut key, mut value, mut in_value, mut quoted) = (String::new(), String::new(), false, false);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' if in_value => quoted = !quoted,
            '\\' if quoted => value.push(characters.next()?),
            ',' if !quoted => return None,
            ';' if !quoted => {
                pairs.push((std::mem::take(&mut key), std::mem::take(&mut value)));
                in_value = false;
            }
            '=' if !in_value => in_value = true,
            other if in_value => value.push(other),
            other => key.push(other),
        }
    }
    if quoted || !in_value {
        return None;
    }
    pairs.push((key, value));
    pairs.iter().all(|(key, _)| !key.is_empty()).then_some(pairs)
}

/// Percent-encoded PEM.
fn pem_chain(value: &str) -> Option<Vec<Vec<u8>>> {
    let pem: Vec<u8> = percent_decode_str(value).collect();
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!chain.is_empty()).then(|| chain.into_iter().map(|der| der.to_vec()).collect())
}

/// RFC 9440 §2.1: a byte sequence (RFC 8941 §3.3.5), and a list of them.
fn rfc9440(own: &str, above: Option<&str>) -> Option<Vec<Vec<u8>>> {
    let bytes = |item: &str| {
        let inner = item.trim().strip_prefix(':')?.strip_suffix(':')?;
        STANDARD.decode(inner).ok().filter(|der| !der.is_empty())
    };
    let above = above.into_iter().flat_map(|list| list.split(',')).map(bytes);
    std::iter::once(bytes(own)).chain(above).collect()
}

#[cfg(test)]
mod tests;
