//! The HTTP API of HashiCorp Vault, as OpenBao speaks it too: how it is asked, and what each way of not answering means.
//!
//! Whether a call that failed can have had an effect decides what its caller may say and do, so every failure is one of
//! three: refused, surely without effect, or not known. Several addresses are one cluster: the next one is asked where
//! the last one surely did nothing, or where it does no harm to ask twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hallpass_core::port::scrubbed;
use hallpass_core::secret::Secret;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::{AllowHttp, Call, Outbound, OutboundError};

/// Room for a request in bytes. Growing would leave what it held so far where it was.
const MAX_BODY: usize = 16 * 1024;

/// Where a server is, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultServer {
    /// Origins of the nodes of one cluster, in the order of preference; at least one.
    pub addresses: Vec<Url>,
    /// The namespace that everything is in, if any.
    pub namespace: Option<String>,
    /// Where plain http may go.
    pub allow_http: AllowHttp,
    /// How long one node may take.
    pub deadline: Duration,
    /// Longest answer in bytes.
    pub max_answer: usize,
}

/// Asks a server.
#[derive(Debug)]
pub struct VaultClient {
    server: VaultServer,
    outbound: Outbound,
    /// The address that answered last.
    preferred: AtomicUsize,
}

/// One call.
#[derive(Clone)]
pub struct Ask<'a> {
    /// How.
    pub method: Method,
    /// Below `/v1/`.
    pub path: &'a str,
    /// The query, where there is one.
    pub query: Option<&'static str>,
    /// As whom.
    pub token: Option<&'a Secret>,
    /// What; nothing where it is empty.
    pub body: Zeroizing<Vec<u8>>,
    /// Whether asking twice does no harm.
    pub is_repeatable: bool,
}

/// What a server answered that took the call: JSON, or nothing. Wiped when dropped.
pub struct Answered(Zeroizing<Vec<u8>>);

/// Why a call was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The server refuses, and did nothing.
    #[error("status {status}: {said}")]
    Refused {
        /// The status.
        status: u16,
        /// In the server's words, bounded, without what looks like a secret.
        said: String,
    },
    /// No call may go to that address; nothing was sent.
    #[error("its address: {0}")]
    Address(&'static str),
    /// Not reached, sealed, not active, or too busy: surely nothing was done.
    #[error("{0}")]
    Unavailable(String),
    /// It was sent, and what came of it is not known.
    #[error("{0}")]
    Unknown(String),
}

impl VaultError {
    /// Whether the server takes the token for no valid one, or for one that may not do this: it says the same of both.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403, said } if !said.contains("accessor"))
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let gone = ["invalid accessor", "invalid lease", "lease not found", "no token found"];
        matches!(self, Self::Refused { status: 400 | 403 | 404, said } if gone.iter().any(|word| said.contains(word)))
    }
}

impl<'a> Ask<'a> {
    /// Reads what is at `path`.
    #[must_use]
    pub fn read(path: &'a str) -> Self {
        let body = Zeroizing::default();
        Self { method: Method::GET, path, query: None, token: None, body, is_repeatable: true }
    }

    /// Lists what is below `path`.
    #[must_use]
    pub fn list(path: &'a str) -> Self {
        Self { query: Some("list=true"), ..Self::read(path) }
    }

    /// Writes `body` at `path`. It is not done twice, unless it is [`Ask::repeatable`].
    ///
    /// # Errors
    /// [`VaultError::Refused`] for what cannot be written as JSON.
    pub fn write(path: &'a str, body: &impl Serialize) -> Result<Self, VaultError> {
        let mut written = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        let unwritable = |_| VaultError::Refused { status: 400, said: "the request cannot be written".to_owned() };
        serde_json::to_writer(&mut *written, body).map_err(unwritable)?;
        Ok(Self { method: Method::POST, path, query: None, token: None, body: written, is_repeatable: false })
    }

    /// The same call, by whom this token is of.
    #[must_use]
    pub fn by(self, token: &'a Secret) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The same call, which does no harm when it is made twice.
    #[must_use]
    pub fn repeatable(self) -> Self {
        Self { is_repeatable: true, ..self }
    }
}

impl Answered {
    /// Reads the answer.
    ///
    /// # Errors
    /// The answer is none of the kind. It is not repeated: it may hold a credential.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, VaultError> {
        serde_json::from_slice(&self.0)
            .map_err(|_| VaultError::Unknown("it answered something else than was asked for".to_owned()))
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl VaultClient {
    /// A client of this server, reached by `outbound`.
    #[must_use]
    pub fn new(server: VaultServer, outbound: Outbound) -> Self {
        Self { server, outbound, preferred: AtomicUsize::new(0) }
    }

    /// Where it is.
    #[must_use]
    pub const fn server(&self) -> &VaultServer {
        &self.server
    }

    /// Asks the address that answered last, and the others where that is right.
    ///
    /// # Errors
    /// [`VaultError`], the last one of those addresses.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Answered, VaultError> {
        let addresses = &self.server.addresses;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failed = VaultError::Address("it has none");
        for n in 0..addresses.len() {
            let place = first.wrapping_add(n).checked_rem(addresses.len()).unwrap_or(0);
            let Some(address) = addresses.get(place) else { continue };
            match self.ask_at(address, &ask).await {
                Err(error @ VaultError::Unavailable(_)) => failed = error,
                Err(error @ VaultError::Unknown(_)) if ask.is_repeatable => failed = error,
                answered => {
                    self.preferred.store(place, Ordering::Relaxed);
                    return answered;
                }
            }
        }
        Err(failed)
    }

    async fn ask_at(&self, address: &Url, ask: &Ask<'_>) -> Result<Answered, VaultError> {
        let mut url = address.clone();
        url.set_path(&format!("/v1/{}", ask.path));
        url.set_query(ask.query);
        let mut headers = vec![("x-vault-request", "true")];
        headers.extend(ask.token.map(|token| ("x-vault-token", token.expose())));
        headers.extend(self.server.namespace.as_deref().map(|namespace| ("x-vault-namespace", namespace)));
        let call = Call {
            method: ask.method.clone(),
            url: &url,
            content_type: "application/json",
            headers: &headers,
            body: ask.body.clone(),
            max_bytes: self.server.max_answer,
            deadline: self.server.deadline,
            allow_http: self.server.allow_http,
        };
        let reply = self.outbound.call(call).await.map_err(unanswered)?;
        match reply.status {
            200 | 204 => Ok(Answered(reply.body)),
            status => Err(failure(status, &reply.body)),
        }
    }
}

fn unanswered(error: OutboundError) -> VaultError {
    match error {
        OutboundError::RefusedUrl(why) => VaultError::Address(why),
        error if error.is_unsent() => VaultError::Unavailable(error.to_string()),
        error => VaultError::Unknown(error.to_string()),
    }
}

/// What a status other than of success means (<https://developer.hashicorp.com/vault/api-docs#http-status-codes>).
fn failure(status: u16, body: &[u8]) -> VaultError {
    let said = said(body);
    let told = format!("status {status}: {said}");
    match status {
        // Too many requests; a node that is not active, of a cluster or of a secondary one; one that says who is.
        429 | 472 | 473 | 301 | 302 | 307 | 308 => VaultError::Unavailable(told),
        // Before anything of the request was looked at. A proxy before it answers 503, too, and knows less.
        500 | 503
            if ["sealed", "not initialized", "not active", "in standby"].iter().any(|word| said.contains(word)) =>
        {
            VaultError::Unavailable(told)
        }
        // Of something in between that waited too long (RFC 9110 §15.5.9): it may have passed the request on.
        408 => VaultError::Unknown(told),
        400..=499 => VaultError::Refused { status, said },
        _ => VaultError::Unknown(told),
    }
}

#[derive(Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

/// What the server says of a refusal, without what may be a secret.
fn said(body: &[u8]) -> String {
    let Errors { errors } = serde_json::from_slice(body).unwrap_or_default();
    let said = scrubbed(&errors.join("; "));
    if said.is_empty() { "it does not say why".to_owned() } else { said }
}

#[cfg(test)]
mod tests;
