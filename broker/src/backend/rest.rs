//! Asking an API that speaks JSON over HTTPS, for the backends that have no client of their own.
//!
//! An answer is never printed: what comes back may hold the very credential that was asked for.

use std::time::Duration;

use hallpass_core::port::IssueError;
use hallpass_core::secret::Secret;
use hallpass_core::time::Ttl;
use reqwest::Method;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::outbound::{AllowHttp, Call, Outbound, OutboundError};

/// Longest answer in bytes: a page of an inventory is what takes most.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

/// An API at one origin.
pub(super) struct Api {
    outbound: Outbound,
    base: Url,
    deadline: Duration,
}

/// One question.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// The parts of the path, as they are before they are encoded.
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Body,
}

/// What is sent along. Wiped when it was sent.
pub(super) enum Body {
    None,
    Json(Zeroizing<Vec<u8>>),
    Form(Zeroizing<Vec<u8>>),
}

/// An answer, whatever its status.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) retry_after: Option<Ttl>,
    body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unanswered {
    /// Surely nothing was sent.
    #[error("{0}")]
    Unsent(String),
    /// What was sent may have arrived.
    #[error("{0}")]
    Lost(String),
    /// It was answered, with more than is read.
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLarge,
}

impl Api {
    /// The API below `base`. Plain http is spoken to this machine only.
    pub(super) const fn new(outbound: Outbound, base: Url, deadline: Duration) -> Self {
        Self { outbound, base, deadline }
    }

    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answered, Unanswered> {
        let url = self.url(ask.path, ask.query);
        let (content_type, body) = match ask.body {
            Body::None => ("", Zeroizing::default()),
            Body::Json(body) => ("application/json", body),
            Body::Form(body) => ("application/x-www-form-urlencoded", body),
        };
        let call = Call {
            method: ask.method,
            url: &url,
            content_type,
            headers: ask.headers,
            body,
            max_bytes: MAX_ANSWER,
            deadline: self.deadline,
            allow_http: AllowHttp::Loopback,
        };
        match self.outbound.call(call).await {
            Ok(reply) => Ok(Answered { status: reply.status, retry_after: reply.retry_after, body: reply.body }),
            Err(OutboundError::TooLarge(_)) => Err(Unanswered::TooLarge),
            Err(error) if error.is_unsent() => Err(Unanswered::Unsent(error.to_string())),
            Err(error) => Err(Unanswered::Lost(error.to_string())),
        }
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        // It fails for URLs without a host only, and none of those is configured.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

impl Body {
    /// As JSON. Of what cannot be written nothing is sent.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, Unanswered> {
        let body = serde_json::to_vec(value).map_err(|error| Unanswered::Unsent(error.to_string()))?;
        Ok(Self::Json(Zeroizing::new(body)))
    }

    /// As a form (RFC 6749 §B). The buffer is large enough from the start, so that no copy of a part is left behind.
    pub(super) fn form(fields: &[(&str, &str)]) -> Self {
        let length = fields.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
        let mut form = url::form_urlencoded::Serializer::new(String::with_capacity(length));
        form.extend_pairs(fields);
        Self::Form(Zeroizing::new(form.finish().into_bytes()))
    }
}

impl Answered {
    /// What it says, where it says that. Why it does not is not told: that would repeat it.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// A part of an answer that is secret.
pub(super) struct Text(Secret);

impl Text {
    pub(super) fn expose(&self) -> &str {
        self.0.expose()
    }

    pub(super) fn into_secret(self) -> Secret {
        self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl From<Unanswered> for IssueError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Unsent(internal) => Self::Unavailable { internal },
            Unanswered::Lost(internal) => Self::OutcomeUnknown { internal },
            Unanswered::TooLarge => Self::OutcomeUnknown { internal: unanswered.to_string() },
        }
    }
}
