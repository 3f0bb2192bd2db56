//! A key-encryption key in the Transit engine of HashiCorp Vault or OpenBao, which never leaves it.
//!
//! The engine wraps and unwraps the data key (`transit/encrypt`, `transit/decrypt`), at the start and when keys are
//! wrapped anew; nothing that a caller waits for asks it. A call has a deadline, a size cap and no redirects.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_core::port::{DataKeyId, KekError, KeyEncryptionKey, Wrapping};
use hallpass_core::secret::{Secret, SecretBytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use url::Url;
use zeroize::Zeroizing;

use crate::outbound::{AllowHttp, Call, Outbound, OutboundError};

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest answer in bytes: a wrapped key of 32 bytes takes some 200.
const MAX_ANSWER: usize = 64 * 1024;
/// Room for a request in bytes: that to wrap a key, which nothing may be left of, takes some 150.
const MAX_BODY: usize = 1024;
/// Longest token in bytes: Vault's batch tokens are a few hundred.
const MAX_TOKEN: u64 = 8 * 1024;
/// How much of what the engine says of a refusal is passed on.
const MAX_SAID: usize = 200;

/// A key of a Transit engine.
#[derive(Debug)]
pub struct TransitKek {
    name: String,
    settings: TransitSettings,
    outbound: Outbound,
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
        Self { name, settings, outbound }
    }

    async fn ask<T: DeserializeOwned>(&self, operation: &str, body: &(impl Serialize + Sync)) -> Result<T, KekError> {
        let TransitSettings { address, mount, key, namespace, token_file, allow_http } = &self.settings;
        let mut url = address.clone();
        let path = format!("/v1/{mount}/{operation}/{key}");
        url.set_path(&path);
        let token = token(token_file).await?;
        let mut headers = vec![("x-vault-request", "true"), ("x-vault-token", token.expose())];
        headers.extend(namespace.as_deref().map(|namespace| ("x-vault-namespace", namespace)));
        // Large enough from the start: growing would leave what it held so far where it was.
        let mut written = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        serde_json::to_writer(&mut *written, body).map_err(|_| KekError::Failed)?;
        let call = Call {
            url: &url,
            headers: &headers,
            body: written,
            max_bytes: MAX_ANSWER,
            deadline: DEADLINE,
            allow_http: *allow_http,
        };
        let reply = self.outbound.call(call).await.map_err(unavailable)?;
        if reply.status == 200 {
            let answer: Answer<T> = serde_json::from_slice(&reply.body)
                .map_err(|_| KekError::Unavailable(format!("{operation} answered something else than Transit does")))?;
            return Ok(answer.data);
        }
        let said = said(&reply.body);
        Err(match reply.status {
            400 if operation == "decrypt" => KekError::DoesNotOpen(said),
            400 => KekError::Refused(format!("{operation}: {said}")),
            403 => KekError::Refused(format!(
                "the token of {} is not valid, or its policies do not permit update on {mount}/{operation}/{key} ({said})",
                token_file.display()
            )),
            404 => KekError::Missing(format!("{mount}/{operation}/{key}: {said}")),
            status => KekError::Unavailable(format!("status {status}: {said}")),
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

#[derive(Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
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

/// What the server says of a refusal: words of its own about a request that it repeats nothing of.
fn said(body: &[u8]) -> String {
    let Errors { errors } = serde_json::from_slice(body).unwrap_or_default();
    let said = errors.join("; ");
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID).collect();
    if said.trim().is_empty() { "it does not say why".to_owned() } else { said.trim().to_owned() }
}

fn unavailable(error: OutboundError) -> KekError {
    match error {
        OutboundError::RefusedUrl(reason) => KekError::Refused(format!("its address: {reason}")),
        error => KekError::Unavailable(error.to_string()),
    }
}

async fn token(file: &Path) -> Result<Secret, KekError> {
    let refused = |why: &str| KekError::Refused(format!("the token file {}: {why}", file.display()));
    let opened = tokio::fs::File::open(file).await.map_err(|error| refused(&error.to_string()))?;
    let mut text = Zeroizing::new(Vec::with_capacity(512));
    opened.take(MAX_TOKEN + 1).read_to_end(&mut text).await.map_err(|error| refused(&error.to_string()))?;
    let token = text.trim_ascii();
    let fits = !token.is_empty() && text.len() as u64 <= MAX_TOKEN && token.iter().all(u8::is_ascii_graphic);
    let token = std::str::from_utf8(token).ok().filter(|_| fits);
    token.map(|token| Secret::new(token.to_owned())).ok_or_else(|| refused("holds no token: one line, the token alone"))
}

#[cfg(test)]
mod tests;
