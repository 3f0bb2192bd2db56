//! A key-encryption key in the Transit engine of HashiCorp Vault or OpenBao, which never leaves it.
//!
//! The engine wraps and unwraps the data key (`transit/encrypt`, `transit/decrypt`), at the start and when keys are
//! wrapped anew; nothing that a caller waits for asks it. A call has a deadline, a size cap and no redirects.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::port::{DataKeyId, KekError, KeyEncryptionKey, Wrapping};
use hallpass_core::secret::SecretBytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::outbound::vault::{Ask, VaultClient, VaultError, VaultServer};
use crate::outbound::{AllowHttp, Outbound, token_file};

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest answer in bytes: a wrapped key of 32 bytes takes some 200.
const MAX_ANSWER: usize = 64 * 1024;

/// A key of a Transit engine.
#[derive(Debug)]
pub struct TransitKek {
    name: String,
    settings: TransitSettings,
    client: VaultClient,
}

/// Which key of which engine, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitSettings {
    /// Origin of the server.
    pub address: Url,
    /// Where the engine is mounted.
    pub mount: String,
    /// The key's name there. It must be of a kind that authenticates associated data, such as `aes256-gcm96`.
    pub key: String,
    /// The namespace that it is in, if any.
    pub namespace: Option<String>,
    /// A file with the token. Read for each call, so that it may be renewed or changed.
    pub token_file: PathBuf,
    /// Where plain http may go.
    pub allow_http: AllowHttp,
}

impl TransitKek {
    /// The key of these settings, reached by `outbound`.
    #[must_use]
    pub fn new(settings: TransitSettings, outbound: Outbound) -> Self {
        let namespace = settings.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let name = format!("transit:{namespace}{}/{}", settings.mount, settings.key);
        let server = VaultServer {
            addresses: vec![settings.address.clone()],
            namespace: settings.namespace.clone(),
            allow_http: settings.allow_http,
            deadline: DEADLINE,
            max_answer: MAX_ANSWER,
        };
        Self { name, settings, client: VaultClient::new(server, outbound) }
    }

    async fn ask<T: DeserializeOwned>(&self, operation: &str, body: &(impl Serialize + Sync)) -> Result<T, KekError> {
        let TransitSettings { mount, key, token_file, .. } = &self.settings;
        let path = format!("{mount}/{operation}/{key}");
        let token = token_file::read(token_file).await.map_err(KekError::Refused)?;
        // Wrapping twice gives two wrappings, of which the one that is answered is kept.
        let ask = Ask::write(&path, body).map_err(|_| KekError::Failed)?.by(&token).repeatable();
        let failed = match self.client.ask(ask).await {
            Ok(answered) => {
                return answered.read().map(|Answer { data }| data).map_err(|_| {
                    KekError::Unavailable(format!("{operation} answered something else than Transit does"))
                });
            }
            Err(failed) => failed,
        };
        Err(match failed {
            VaultError::Refused { status: 400, said } if operation == "decrypt" => KekError::DoesNotOpen(said),
            VaultError::Refused { status: 400, said } => KekError::Refused(format!("{operation}: {said}")),
            VaultError::Refused { status: 403, said } => KekError::Refused(format!(
                "the token of {} is not valid, or its policies do not permit update on {path} ({said})",
                token_file.display()
            )),
            VaultError::Refused { status: 404, said } => KekError::Missing(format!("{path}: {said}")),
            VaultError::Address(why) => KekError::Refused(format!("its address: {why}")),
            failed => KekError::Unavailable(failed.to_string()),
        })
    }
}

#[async_trait]
impl KeyEncryptionKey for TransitKek {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self) -> String {
        let TransitSettings { address, mount, key, .. } = &self.settings;
        format!("the Transit key {mount}/{key} at {}", address.origin().ascii_serialization())
    }

    async fn wrap_key(&self, id: DataKeyId, key: &SecretBytes) -> Result<Wrapping, KekError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        let body = ToEncrypt { plaintext: &plaintext, associated_data: &associated(id) };
        let Encrypted { ciphertext } = self.ask("encrypt", &body).await?;
        let version = version(&ciphertext)
            .ok_or_else(|| KekError::Unavailable("encrypt answered no ciphertext of the form vault:v1:…".to_owned()))?;
        Ok(Wrapping { kek: self.name.clone(), version, wrapped: ciphertext.into_bytes() })
    }

    async fn unwrap_key(&self, id: DataKeyId, wrapping: &Wrapping) -> Result<SecretBytes, KekError> {
        let changed = || KekError::DoesNotOpen("it is no ciphertext of Transit".to_owned());
        let ciphertext = std::str::from_utf8(&wrapping.wrapped).map_err(|_| changed())?;
        let body = ToDecrypt { ciphertext, associated_data: &associated(id) };
        let Decrypted { plaintext } = self.ask("decrypt", &body).await?;
        let plaintext = Zeroizing::new(plaintext);
        STANDARD.decode(plaintext.as_bytes()).map(SecretBytes::new).map_err(|_| changed())
    }
}

/// What is to be wrapped, borrowed: a copy that nobody wipes would be the key.
#[derive(Serialize)]
struct ToEncrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct ToDecrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

/// What the ciphertext is bound to: no other ciphertext of the same key passes for this data key.
fn associated(id: DataKeyId) -> String {
    STANDARD.encode(format!("hallpass data key v1 {id}"))
}

/// `vault:v3:…` → `3`.
fn version(ciphertext: &str) -> Option<String> {
    let (version, _) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    version.parse::<u32>().ok().map(|version| version.to_string())
}

#[cfg(test)]
mod tests;
