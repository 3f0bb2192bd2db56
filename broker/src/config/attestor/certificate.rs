//! Attestors that are known by certificates: whose name those must have, and who may give them out.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use sigstore_verify::IdentityMatcher;

use super::super::Finding;
use super::super::document::Document;
use super::RawText;
use crate::identity::jwks::Authority;
use crate::sigstore::Root;

/// Most authorities of one attestor. Each chain may have to be tried with each of them.
const MAX_AUTHORITIES: usize = 8;

/// Longest name, the longest URL that is anybody's.
const MAX_NAME_BYTES: usize = 512;

/// A signer that is known by its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedSigner {
    /// The one name that its certificates have.
    pub name: SignerName,
    /// Who gives them out.
    pub certifier: Certifier,
    /// Files of what is configured of it.
    pub files: Vec<PathBuf>,
}

/// A name in a certificate, compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerName {
    /// A URI: a workflow, a SPIFFE ID.
    Uri(String),
    /// Somebody's address.
    Email(String),
    /// A host.
    Dns(String),
}

/// Who gives out certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certifier {
    /// Authorities of one's own. Nothing tells when a statement was signed, so the certificate must be valid when it is offered.
    Authorities(Vec<Authority>),
    /// A Sigstore instance: certificates live for minutes, and a log or a timestamp authority tells when they were used.
    Sigstore {
        /// Its authorities and logs.
        root: Root,
        /// Who told it the name.
        oidc_issuer: String,
        /// The code host's immutable id of the repository that the signing run must be in, where it is in one.
        repository_id: Option<String>,
    },
}

impl SignerName {
    /// What kind of name it is shows from its form.
    fn read(text: String) -> Result<Self, &'static str> {
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(|one| one.is_control() || one == ' ') {
            return Err("is no name that a certificate has: a URI, an address or a host");
        }
        if text.contains('*') {
            return Err("is compared byte for byte: no pattern");
        }
        Ok(match text.as_str() {
            uri if uri.contains("://") => Self::Uri(text),
            email if email.contains('@') => Self::Email(text),
            _ => Self::Dns(text),
        })
    }

    /// As Sigstore's library takes it; it knows no hosts.
    #[must_use]
    pub fn matcher(&self) -> Option<IdentityMatcher> {
        match self {
            Self::Uri(name) => Some(IdentityMatcher::Uri(name.clone())),
            Self::Email(name) => Some(IdentityMatcher::Email(name.clone())),
            Self::Dns(_) => None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificates {
    identity: String,
    authorities: Option<Vec<RawText>>,
    trusted_root: Option<RawText>,
    oidc_issuer: Option<String>,
    repository_id: Option<String>,
}

/// The table `certificates` of an attestor.
pub(super) fn read(
    entry: &Document<'_>,
    raw: RawCertificates,
    base: Option<&Path>,
    findings: &mut Vec<Finding>,
) -> Option<CertifiedSigner> {
    let refuse = |field: &str, reason: &str, findings: &mut Vec<Finding>| {
        findings.push(entry.finding("certificates", format!("`{field}` {reason}")));
    };
    let name = SignerName::read(raw.identity).map_err(|reason| refuse("identity", reason, findings)).ok();
    let mut files = Vec::new();
    let certifier = match (raw.authorities, raw.trusted_root) {
        (Some(authorities), None) => {
            for (field, given) in [("oidc_issuer", &raw.oidc_issuer), ("repository_id", &raw.repository_id)] {
                if given.is_some() {
                    refuse(field, "is of Sigstore's certificates: leave it out, or name a `trusted_root`", findings);
                }
            }
            if !(1..=MAX_AUTHORITIES).contains(&authorities.len()) {
                refuse("authorities", &format!("names 1 to {MAX_AUTHORITIES} certificates"), findings);
            }
            let mut read = Vec::new();
            for text in authorities {
                let (file, text) = text.read(entry, "certificates", base, findings)?;
                let named = file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
                match authority(&text) {
                    Ok(authority) => read.push(authority),
                    Err(reason) => refuse("authorities", &format!("{named}{reason}"), findings),
                }
                files.extend(file);
            }
            Certifier::Authorities(read)
        }
        (None, Some(text)) => {
            let (file, text) = text.read(entry, "certificates", base, findings)?;
            files.extend(file);
            let root = Root::parse(&text).map_err(|reason| refuse("trusted_root", &reason, findings)).ok();
            let Some(oidc_issuer) = raw.oidc_issuer.filter(|issuer| issuer.contains("://")) else {
                refuse("oidc_issuer", "is needed: the URL of whoever tells Sigstore that name", findings);
                return None;
            };
            if matches!(name, Some(SignerName::Dns(_))) {
                refuse("identity", "is a host, and Sigstore's certificates have a URI or an address", findings);
            }
            Certifier::Sigstore { root: root?, oidc_issuer, repository_id: raw.repository_id }
        }
        _ => {
            refuse("authorities", "or `trusted_root`: name one of them", findings);
            return None;
        }
    };
    Some(CertifiedSigner { name: name?, certifier, files })
}

fn authority(pem: &str) -> Result<Authority, String> {
    const FORM: &str = "is not one certificate in PEM: -----BEGIN CERTIFICATE-----";
    if pem.contains("PRIVATE KEY") {
        return Err("has a private key: take it out of the bundle, and out of use".to_owned());
    }
    let mut found = CertificateDer::pem_slice_iter(pem.as_bytes());
    let (Some(Ok(der)), None) = (found.next(), found.next()) else { return Err(FORM.to_owned()) };
    Authority::from_der(&der).map_err(str::to_owned)
}
