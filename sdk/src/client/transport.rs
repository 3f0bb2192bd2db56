//! One bounded exchange over HTTP. Nothing of a body gets into an error.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::de::DeserializeOwned;
use url::Url;
use zeroize::Zeroizing;

use super::error::{Error, Refusal, TokenRefusal, TransportError};
use crate::wire::{Problem, TokenError};

/// Five hundred grants, the largest page there is, fit well; an endless answer must not fill our memory.
pub(crate) const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The largest bundle, escaped as JSON, fits well.
pub(crate) const MAX_LARGE_ANSWER_BYTES: usize = 48 * 1024 * 1024;

pub(crate) struct Transport {
    http: reqwest::Client,
}

/// An answer, whatever its status.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// What the next proof of possession must carry.
    pub(crate) nonce: Option<String>,
    request_id: Option<String>,
    body: Zeroizing<Vec<u8>>,
}

impl Transport {
    pub(crate) fn new(http: reqwest::Client) -> Self {
        Self { http }
    }

    pub(crate) fn request(&self, method: reqwest::Method, url: Url) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply, TransportError> {
        self.send_for(request, MAX_ANSWER_BYTES).await
    }

    /// Sends for an answer of at most `max_answer_bytes`.
    pub(crate) async fn send_for(
        &self,
        request: reqwest::RequestBuilder,
        max_answer_bytes: usize,
    ) -> Result<Reply, TransportError> {
        let mut response = request.send().await.map_err(classify)?;
        let status = response.status().as_u16();
        let retry_after = header(response.headers(), RETRY_AFTER.as_str())
            .and_then(|seconds| seconds.parse().ok())
            .map(Duration::from_secs);
        let request_id = header(response.headers(), "x-request-id").map(str::to_owned);
        let nonce = header(response.headers(), "dpop-nonce").map(str::to_owned);
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(classify)? {
            if body.len().saturating_add(chunk.len()) > max_answer_bytes {
                return Err(TransportError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, retry_after, nonce, request_id, body })
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn classify(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if error.is_connect() {
        TransportError::Connect(error)
    } else if error.is_timeout() {
        TransportError::Timeout(error)
    } else {
        TransportError::Interrupted(error)
    }
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it asks for the same once more, with a proof of possession that carries the nonce that came with it.
    pub(crate) fn wants_nonce(&self) -> bool {
        const CODE: &str = "use_dpop_nonce";
        let says = |value: Option<&serde_json::Value>| value.and_then(|value| value.as_str()) == Some(CODE);
        matches!(self.status, 400 | 401)
            && self.nonce.is_some()
            && serde_json::from_slice::<serde_json::Value>(&self.body)
                .is_ok_and(|said| says(said.get("code")) || says(said.get("error")))
    }

    /// The body of a success as `T`, or the refusal that it is.
    pub(crate) fn into<T: DeserializeOwned>(self) -> Result<T, Error> {
        if !self.is_success() {
            return Err(self.into_refusal());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            // serde_json's own message quotes the value that it met, which may be a secret.
            let (kind, line, column) = (error.classify(), error.line(), error.column());
            self.unexpected(format!("{kind:?} error in its JSON at line {line}, column {column}"))
        })
    }

    /// The body of a success as text, or the refusal that it is.
    pub(crate) fn into_text(self) -> Result<String, Error> {
        if !self.is_success() {
            return Err(self.into_refusal());
        }
        let text = std::str::from_utf8(&self.body).map(str::to_owned);
        text.map_err(|_| self.unexpected("it is not text".to_owned()))
    }

    /// The body of a success as it is, or the refusal that it is.
    pub(crate) fn into_bytes(self) -> Result<Zeroizing<Vec<u8>>, Error> {
        if self.is_success() { Ok(self.body) } else { Err(self.into_refusal()) }
    }

    /// Takes a success without reading its body.
    pub(crate) fn into_nothing(self) -> Result<(), Error> {
        if self.is_success() { Ok(()) } else { Err(self.into_refusal()) }
    }

    pub(crate) fn into_refusal(self) -> Error {
        if let Ok(problem) = serde_json::from_slice::<Problem>(&self.body) {
            // The status line is what the broker acted on; the member only repeats it (RFC 9457 §3.1.2).
            let mut problem = Problem { status: self.status, ..problem };
            if let (true, Some(id)) = (problem.request_id.is_empty(), &self.request_id) {
                problem.request_id.clone_from(id);
            }
            return Error::Refused(Box::new(Refusal { problem, retry_after: self.retry_after }));
        }
        if let Ok(error) = serde_json::from_slice::<TokenError>(&self.body) {
            return Error::TokenRefused(Box::new(TokenRefusal {
                status: self.status,
                error,
                request_id: self.request_id,
                retry_after: self.retry_after,
            }));
        }
        let reason = match self.status {
            300..400 => "it redirects, and proofs do not follow redirects",
            _ => "it has no problem document",
        };
        self.unexpected(reason.to_owned())
    }

    fn unexpected(&self, reason: String) -> Error {
        Error::Unexpected { status: self.status, reason, request_id: self.request_id.clone() }
    }
}
