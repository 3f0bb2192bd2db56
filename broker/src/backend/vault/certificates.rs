//! Certificates of a PKI engine are fenced: its revocation list names them.

use serde::{Deserialize, Serialize};

use super::login::Broker;
use crate::outbound::vault::{Ask, VaultError};

/// Has the engine mounted at `mount` revoke a certificate, and makes sure that it says so of it.
pub(super) async fn revoke(broker: &Broker, mount: &str, serial: &str) -> Result<(), String> {
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
        (true, _) => Ok(()),
        (false, Some(error)) => Err(format!("{mount}/revoke: {error}")),
        (false, None) => Err("the certificate is not on the revocation list after it was revoked".to_owned()),
    }
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
}
