//! Opening, reading, renewing and ending grants.

use serde::Serialize;
use serde_json::Value;

use super::Client;
use super::call::Call;
use super::error::Error;
use super::proof::Proof;
use crate::wire::{
    AbandonRequest, AccessRequestResponse, CreateGrant, CreateGrantResponse, Grant, GrantQuery, Page, RenewRequest,
    RevokeRequest,
};

/// What is asked for, with the proof of whoever acts.
#[derive(Serialize)]
struct Opening<'a> {
    #[serde(flatten)]
    request: &'a CreateGrant,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor_certificate: Option<bool>,
}

impl<'a> Opening<'a> {
    fn of(request: &'a CreateGrant, actor: Option<&'a Proof>) -> Self {
        let by_token = actor.filter(|actor| actor.is_token());
        Self {
            request,
            actor_token: by_token.map(|actor| actor.token().expose()),
            actor_certificate: (actor.is_some() && by_token.is_none()).then_some(true),
        }
    }
}

impl Client {
    /// `POST /v1/grants`: opens a grant and returns its credential, once.
    ///
    /// A single-use proof is consumed. The call repeats under one idempotency key: an earlier try that did open a grant
    /// is undone by the broker when the next one opens another.
    ///
    /// # Errors
    /// [`Error::ApprovalNeeded`] where somebody must agree first; else any [`Error`].
    pub async fn create_grant(&self, request: &CreateGrant) -> Result<CreateGrantResponse, Error> {
        let (proof, actor) = self.openers().await?;
        let call = Call::post(self.url(&["v1", "grants"])?).json(&Opening::of(request, actor.as_deref()))?.keyed();
        let reply = self.try_with(&call, &proof).await?;
        if reply.status == 202 {
            let waiting: AccessRequestResponse = reply.into()?;
            return Err(Error::ApprovalNeeded(Box::new(waiting.access_request)));
        }
        reply.into()
    }

    /// `GET /v1/grants/{id}`: everything a grant can answer.
    ///
    /// # Errors
    /// Any [`Error`]; a grant that the caller may not see is not found.
    pub async fn grant(&self, id: &str) -> Result<Grant, Error> {
        self.answer(Call::get(self.url(&["v1", "grants", id])?)).await
    }

    /// `GET /v1/grants`: one page of the grants that match and that the caller may see.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn grants(&self, query: &GrantQuery) -> Result<Page<Grant>, Error> {
        let mut url = self.url(&["v1", "grants"])?;
        if let Ok(Value::Object(fields)) = serde_json::to_value(query) {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in &fields {
                match value {
                    Value::String(text) => pairs.append_pair(name, text),
                    other => pairs.append_pair(name, &other.to_string()),
                };
            }
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        self.answer(Call::get(url)).await
    }

    /// `POST /v1/grants/{id}/renew`: a later end for the same credential, with a fresh proof and a fresh decision.
    ///
    /// # Errors
    /// Any [`Error`]; a conflict where the backend cannot extend.
    pub async fn renew(&self, id: &str, request: &RenewRequest) -> Result<Grant, Error> {
        let call = Call::post(self.url(&["v1", "grants", id, "renew"])?).json(request)?.consumes();
        self.answer(call).await
    }

    /// `POST /v1/grants/{id}/revoke`: begins to end a grant. Ending one that is over already is no error.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn revoke(&self, id: &str, request: &RevokeRequest) -> Result<Grant, Error> {
        self.answer(Call::post(self.url(&["v1", "grants", id, "revoke"])?).json(request)?).await
    }

    /// `POST /v1/grants/{id}/heartbeat`: the holder is still alive.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn heartbeat(&self, id: &str) -> Result<Grant, Error> {
        self.answer(Call::post(self.url(&["v1", "grants", id, "heartbeat"])?)).await
    }

    /// `POST /v1/grants/{id}/abandon`: gives up on undoing one grant by hand.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn abandon(&self, id: &str, request: &AbandonRequest) -> Result<Grant, Error> {
        self.answer(Call::post(self.url(&["v1", "grants", id, "abandon"])?).json(request)?.once()).await
    }
}
