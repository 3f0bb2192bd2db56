//! One call: which proof it carries, whether it may be repeated, and what its answer is.

use std::sync::Arc;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::Client;
use super::error::{ConfigurationError, Error, TransportError};
use super::proof::{Proof, ProofError};
use super::retry::{Repeat, idempotency_key};
use super::transport::{MAX_ANSWER_BYTES, MAX_LARGE_ANSWER_BYTES, Reply};
use crate::wire::Secret;

/// A call to the broker, before it is tried.
pub(super) struct Call {
    method: Method,
    url: Url,
    body: Body,
    repeat: Repeat,
    consumes_proof: bool,
    proof_in_body: Option<&'static str>,
    if_match: Option<String>,
    max_answer_bytes: usize,
}

enum Body {
    Empty,
    Json(Vec<u8>),
    Form(Vec<(&'static str, Secret)>),
}

impl Call {
    pub(super) fn get(url: Url) -> Self {
        Self::new(Method::GET, url, Body::Empty, Repeat::Safe)
    }

    pub(super) fn post(url: Url) -> Self {
        Self::new(Method::POST, url, Body::Empty, Repeat::Safe)
    }

    /// A call of another method that may be repeated.
    pub(super) fn with_method(method: Method, url: Url) -> Self {
        Self::new(method, url, Body::Empty, Repeat::Safe)
    }

    pub(super) fn delete(url: Url) -> Self {
        Self::new(Method::DELETE, url, Body::Empty, Repeat::Safe)
    }

    fn new(method: Method, url: Url, body: Body, repeat: Repeat) -> Self {
        Self {
            method,
            url,
            body,
            repeat,
            consumes_proof: false,
            proof_in_body: None,
            if_match: None,
            max_answer_bytes: MAX_ANSWER_BYTES,
        }
    }

    /// The answer may hold a whole bundle.
    pub(super) fn large(mut self) -> Self {
        self.max_answer_bytes = MAX_LARGE_ANSWER_BYTES;
        self
    }

    /// Only what has this tag may be replaced (RFC 9110 §13.1.1).
    pub(super) fn if_match(mut self, tag: &str) -> Self {
        self.if_match = Some(format!("\"{tag}\""));
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        self.body = Body::Json(serde_json::to_vec(body).map_err(|error| Error::Unexpected {
            status: 0,
            reason: format!("the request cannot be written as JSON: {error}"),
            request_id: None,
        })?);
        Ok(self)
    }

    pub(super) fn form(mut self, fields: Vec<(&'static str, Secret)>) -> Self {
        self.body = Body::Form(fields);
        self
    }

    /// The proof goes into this form field, and not into `Authorization`.
    pub(super) fn proof_as(mut self, field: &'static str) -> Self {
        self.proof_in_body = Some(field);
        self
    }

    /// The call repeats under an idempotency key.
    pub(super) fn keyed(mut self) -> Self {
        self.repeat = Repeat::Keyed;
        self
    }

    /// The call may consume a single-use proof, and has no key to repeat it under.
    pub(super) fn consumes(mut self) -> Self {
        self.consumes_proof = true;
        self.repeat = Repeat::Unsent;
        self
    }

    /// The call is not sent again once anything of it was sent.
    pub(super) fn once(mut self) -> Self {
        self.repeat = Repeat::Unsent;
        self
    }
}

impl Client {
    /// `/v1/grants/…` under the broker's URL, each segment escaped.
    pub(super) fn url(&self, segments: &[&str]) -> Result<Url, Error> {
        // A segment of dots would be taken away when the URL is normalised, and another resource addressed.
        if let Some(segment) = segments.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(ConfigurationError::NotAName((*segment).to_owned()).into());
        }
        let mut url = self.inner.base.clone();
        url.path_segments_mut().map_err(|()| ConfigurationError::NotAnOrigin)?.pop_if_empty().extend(segments);
        Ok(url)
    }

    pub(super) async fn answer<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        self.reply(call).await?.into()
    }

    /// The answer to a call, whatever its status.
    pub(super) async fn reply(&self, call: Call) -> Result<Reply, Error> {
        let (held, transport) = (&self.inner.proof, &self.inner.transport);
        if call.consumes_proof {
            let proof = held.consume(transport).await?;
            return self.try_with(&call, &proof).await;
        }
        let proof = held.present(transport).await?;
        let reply = self.try_with(&call, &proof).await?;
        if reply.status == 401 && held.discard(&proof).await {
            let fresh = held.present(transport).await?;
            return self.try_with(&call, &fresh).await;
        }
        Ok(reply)
    }

    /// The proof that what is opened is for, and that of whoever acts for it, where that is another.
    pub(super) async fn openers(&self) -> Result<(Arc<Proof>, Option<Arc<Proof>>), ProofError> {
        let transport = &self.inner.transport;
        let own = self.inner.proof.consume(transport).await?;
        match &self.inner.acts_for {
            None => Ok((own, None)),
            Some(subject) => Ok((subject.consume(transport).await?, Some(own))),
        }
    }

    /// A proof that is bound to a key is sent with a proof of that key, or not at all.
    fn can_show(&self, proof: &Proof) -> Result<(), ProofError> {
        let Some(thumbprint) = proof.unverified_thumbprint() else { return Ok(()) };
        match &self.inner.possession {
            Some(key) if key.thumbprint() == thumbprint => Ok(()),
            _ => Err(ProofError::Bound(thumbprint.to_owned())),
        }
    }

    /// Every try carries the same proof and the same key: the broker takes a single-use proof twice only then.
    pub(super) async fn try_with(&self, call: &Call, proof: &Proof) -> Result<Reply, Error> {
        if call.proof_in_body.is_some() && !proof.is_token() {
            return Err(ProofError::NotAToken.into());
        }
        self.can_show(proof)?;
        let key = match call.repeat {
            Repeat::Keyed => Some(idempotency_key().map_err(|_| Error::Unexpected {
                status: 0,
                reason: "the operating system gives no randomness for an idempotency key".to_owned(),
                request_id: None,
            })?),
            Repeat::Safe | Repeat::Unsent => None,
        };
        let mut tried = 0_u32;
        loop {
            tried = tried.saturating_add(1);
            let outcome: Result<Reply, TransportError> = match self.try_once(call, proof, key.as_deref()).await? {
                // Nothing was done yet: the broker told which nonce it wants.
                Ok(reply) if reply.wants_nonce() => self.try_once(call, proof, key.as_deref()).await?,
                outcome => outcome,
            };
            match self.inner.retry.wait(tried, call.repeat, &outcome) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Ok(outcome?),
            }
        }
    }

    async fn try_once(
        &self,
        call: &Call,
        proof: &Proof,
        key: Option<&str>,
    ) -> Result<Result<Reply, TransportError>, ConfigurationError> {
        let mut request = self.inner.transport.request(call.method.clone(), call.url.clone());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(tag) = &call.if_match {
            request = request.header("if-match", tag);
        }
        let in_header = (call.proof_in_body.is_none() && proof.is_token()).then(|| proof.token());
        if let Some(token) = in_header {
            // RFC 9449 §7.1: a token that is bound to a key is no bearer token.
            let scheme = if proof.unverified_thumbprint().is_some() { "DPoP" } else { "Bearer" };
            request = request.header("authorization", format!("{scheme} {}", token.expose()));
        }
        if let Some(key) = &self.inner.possession {
            let (nonce, now) = (key.nonce(), (self.inner.clock)());
            let shown = key.proof(call.method.as_str(), &call.url, in_header, nonce.as_deref(), now)?;
            request = request.header("dpop", shown);
        }
        request = match &call.body {
            Body::Empty => request,
            Body::Json(json) => request.header("content-type", "application/json").body(json.clone()),
            Body::Form(fields) => {
                let mut pairs: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.expose())).collect();
                if let Some(field) = call.proof_in_body {
                    pairs.push((field, proof.token().expose()));
                }
                request.form(&pairs)
            }
        };
        let outcome = self.inner.transport.send_for(request, call.max_answer_bytes).await;
        if let (Some(key), Ok(Reply { nonce: Some(nonce), .. })) = (&self.inner.possession, &outcome) {
            key.take_nonce(nonce);
        }
        Ok(outcome)
    }
}
