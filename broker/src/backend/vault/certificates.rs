//! Certificates of a PKI engine are fenced: its revocation list names them.
//!
//! Being revoked is not being on the list: an engine that was told to rebuild its lists in its own time publishes the
//! certificate hours later, and one whose lists are disabled never does. So the published list itself is read, of the
//! issuer that the certificate is of, before anything is said of it.

use hallpass_core::time::Ttl;
use serde::{Deserialize, Serialize};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::login::Broker;
use crate::outbound::vault::{Ask, VaultError};

/// How soon the list is read again of an engine that rebuilds it in its own time.
pub(super) const ASKED_AGAIN: Ttl = Ttl::from_secs(30);

/// Has the engine mounted at `mount` revoke a certificate, and makes sure that it says so of it. Answers whether the list
/// that it publishes names it, too.
pub(super) async fn revoke(broker: &Broker, mount: &str, serial: &str) -> Result<bool, String> {
    let path = format!("{mount}/revoke");
    let body = ToRevoke { serial_number: serial };
    let ask = Ask::write(&path, &body).map_err(|error| error.to_string())?.repeatable();
    let refused = match broker.ask(ask).await {
        Ok(_) => None,
        // It says so of one that has expired, too.
        Err(error @ VaultError::Refused { .. }) => Some(error),
        Err(error) => return Err(format!("{path}: {error}")),
    };
    let path = format!("{mount}/cert/{serial}");
    let answered = broker.ask(Ask::read(&path)).await.map_err(|error| format!("{path}: {error}"))?;
    let Read { data } = answered.read().map_err(|error| error.to_string())?;
    match (data.revocation_time > 0, refused) {
        (true, _) => is_published(broker, mount, serial, data.issuer_id.as_deref()).await,
        (false, Some(error)) => Err(format!("{mount}/revoke: {error}")),
        (false, None) => Err("the certificate is not said to be revoked after it was".to_owned()),
    }
}

/// Whether the list of this issuer, or of the mount's usual one, has the serial number.
async fn is_published(broker: &Broker, mount: &str, serial: &str, issuer: Option<&str>) -> Result<bool, String> {
    let wanted = number(serial).ok_or_else(|| "the certificate's serial number does not read".to_owned())?;
    let issuer = issuer.filter(|issuer| issuer.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let path = format!("{mount}/issuer/{}/crl", issuer.filter(|issuer| !issuer.is_empty()).unwrap_or("default"));
    let answered = broker.ask(Ask::read(&path)).await.map_err(|error| format!("{path}: {error}"))?;
    let List { data } = answered.read().map_err(|error| error.to_string())?;
    let unreadable = || format!("{path}: the revocation list does not read");
    let (_, pem) = parse_x509_pem(data.crl.as_bytes()).map_err(|_| unreadable())?;
    let (_, list) = CertificateRevocationList::from_der(&pem.contents).map_err(|_| unreadable())?;
    let is_there = list.iter_revoked_certificates().any(|revoked| {
        let listed = revoked.raw_serial();
        listed.iter().skip_while(|byte| **byte == 0).eq(wanted.iter().skip_while(|byte| **byte == 0))
    });
    Ok(is_there)
}

/// `17:67:16:b0` as bytes.
fn number(serial: &str) -> Option<Vec<u8>> {
    serial.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

#[derive(Serialize)]
struct ToRevoke<'a> {
    serial_number: &'a str,
}

#[derive(Deserialize)]
struct Read {
    data: Certificate,
}

#[derive(Deserialize)]
struct Certificate {
    #[serde(default)]
    revocation_time: i64,
    /// Only said of one that is revoked.
    #[serde(default)]
    issuer_id: Option<String>,
}

#[derive(Deserialize)]
struct List {
    data: Published,
}

#[derive(Deserialize)]
struct Published {
    crl: String,
}
