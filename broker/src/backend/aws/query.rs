//! The query protocol of AWS: a form is posted, signed or not, and XML answers.

use std::sync::Arc;
use std::time::Duration;

use hallpass_core::time::Clock;
use reqwest::Method;
use serde::de::DeserializeOwned;
use url::Url;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::answers::ErrorResponse;
use super::signing::{self, FORM, Keys, Scope};
use crate::outbound::{AllowHttp, Call, Outbound};

/// Largest answer that is read: a page of entities is far below.
const MAX_BYTES: usize = 1024 * 1024;

/// A service of AWS at one endpoint.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) http: Arc<Outbound>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) endpoint: Url,
    /// Region that signatures are for.
    pub(super) region: String,
    /// As in signatures: `sts`, `iam`.
    pub(super) name: &'static str,
    /// Version of its interface.
    pub(super) version: &'static str,
    pub(super) deadline: Duration,
}

/// Why a call gave no result. Its texts are for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallFailed {
    /// Surely nothing was sent.
    #[error("{0}")]
    Unsent(String),
    /// What was sent may have arrived.
    #[error("{0}")]
    NoAnswer(String),
    /// AWS answered with an error.
    #[error("{code} (status {status}): {message}")]
    Answered {
        status: u16,
        /// Its name in AWS's documentation.
        code: String,
        message: String,
    },
}

impl CallFailed {
    /// Whether AWS answered with this error.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Answered { code, .. } if code == wanted)
    }
}

impl CallFailed {
    /// Whether AWS denied it because this action is not permitted, as far as its message tells.
    pub(super) fn names(&self, denied: &str) -> bool {
        matches!(self, Self::Answered { code, message, .. }
            if code.starts_with("AccessDenied") && message.contains(denied))
    }
}

/// What is sent with an action: names and values.
pub(super) type Parameters<'a> = Vec<(String, &'a str)>;

impl Service {
    /// Has an action done, signed by `keys` where it must be.
    pub(super) async fn call<A: DeserializeOwned>(
        &self,
        action: &str,
        parameters: &Parameters<'_>,
        keys: Option<&Keys>,
    ) -> Result<A, CallFailed> {
        let body = self.form(action, parameters);
        let signed = match keys {
            None => Vec::new(),
            Some(keys) => {
                let scope = Scope { region: &self.region, service: self.name };
                let signed = signing::headers(keys, scope, &self.endpoint, body.as_bytes(), self.clock.now());
                signed.ok_or_else(|| CallFailed::Unsent("the request cannot be signed at this time".to_owned()))?
            }
        };
        let mut headers: Vec<(&'static str, &str)> = vec![("accept", "application/xml")];
        headers.extend(signed.iter().map(|(name, value)| (*name, value.as_str())));
        let call = Call {
            method: Method::POST,
            url: &self.endpoint,
            content_type: FORM,
            headers: &headers,
            body: Zeroizing::new(body.as_bytes().to_vec()),
            max_bytes: MAX_BYTES,
            deadline: self.deadline,
            // The configuration takes plain http only for an endpoint on this machine.
            allow_http: AllowHttp::Loopback,
        };
        let reply = self.http.call(call).await.map_err(|error| {
            let text = format!("{action} at {}: {error}", self.name);
            if error.is_unsent() { CallFailed::Unsent(text) } else { CallFailed::NoAnswer(text) }
        })?;
        let text = std::str::from_utf8(&reply.body).unwrap_or_default();
        if reply.status == 200 {
            // Not the parser's error: it may quote what it could not read, and that may be a secret.
            let unreadable = |_| CallFailed::NoAnswer(format!("{action} at {}: the answer does not read", self.name));
            return quick_xml::de::from_str(text).map_err(unreadable);
        }
        let error = quick_xml::de::from_str::<ErrorResponse>(text).ok().and_then(|answer| answer.error);
        let (code, message) = error.map_or_else(
            || ("no error code".to_owned(), String::new()),
            |error| (error.code, error.message.unwrap_or_default()),
        );
        Err(CallFailed::Answered { status: reply.status, code, message: scrubbed(&message) })
    }

    /// Of the right size from the start, so that no partial copy of a token is left in memory.
    fn form(&self, action: &str, parameters: &Parameters<'_>) -> Zeroizing<String> {
        let length: usize = parameters.iter().map(|(name, value)| (name.len() + value.len()) * 3 + 2).sum();
        let mut form = Serializer::new(String::with_capacity(length + 256));
        form.append_pair("Action", action).append_pair("Version", self.version);
        for (name, value) in parameters {
            form.append_pair(name, value);
        }
        Zeroizing::new(form.finish())
    }
}

/// Bounded, on one line: somebody else wrote it, and it goes into the log.
fn scrubbed(message: &str) -> String {
    const MAX: usize = 500;
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX).collect()
}
