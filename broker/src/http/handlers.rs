//! One file a resource; each handler parses, calls one service, and maps.

pub(super) mod audit;
pub(super) mod catalog;
pub(super) mod configuration;
pub(super) mod discovery;
pub(super) mod exchange;
pub(super) mod grants;
pub(super) mod identity;
pub(super) mod oauth;
pub(super) mod operations;
mod pages;
pub(super) mod pki;
pub(super) mod quarantines;
pub(super) mod revocations;
pub(super) mod status_lists;

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hallpass_core::audit::Actor;
use hallpass_core::error::ServiceError;
use hallpass_core::grant::Grant;
use hallpass_core::id::GrantId;
use hallpass_core::identity::{Proof, TokenType};
use hallpass_core::request::{Idempotency, Origin};
use hallpass_core::secret::Secret;
use hallpass_core::service::inspect::{Caller, caller};
use hallpass_sdk::wire;
use serde::Serialize;
use tracing::Instrument as _;

use super::desk::Published;
use super::failure::{Failure, Unreadable};
use super::router::ApiState;

/// Entity tags of one request that are compared: a cache has a handful of a document's versions at most.
const MAX_ENTITY_TAGS: usize = 16;

/// A JSON answer.
fn json(value: &impl Serialize) -> Result<Response, Failure> {
    let bytes = bytes_of(value)?;
    Ok(json_body(Body::from(bytes)))
}

/// `response` with the status of something that was made, and where that is read.
fn made(mut response: Response, status: StatusCode, place: String) -> Response {
    *response.status_mut() = status;
    response.headers_mut().extend(HeaderValue::try_from(place).ok().map(|place| (LOCATION, place)));
    response
}

fn json_body(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn bytes_of(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Failure::Crashed
    })
}

/// Something public that may be kept for a short while.
fn public(content_type: &'static str, cache_control: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    response
}

/// Something signed and public, or that it has not changed since the caller got it (RFC 9110 §13.1.2).
fn published(
    content_type: &'static str,
    cache_control: &'static str,
    published: Published,
    asked: &HeaderMap,
) -> Response {
    let named = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tags = named.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    let unchanged = tags.take(MAX_ENTITY_TAGS).any(|tag| tag == published.etag || tag == "*");
    let mut response = if unchanged {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
        response
    } else {
        public(content_type, cache_control, published.bytes)
    };
    if let Ok(etag) = HeaderValue::try_from(published.etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

/// What was read of a request, once its sender has proved who it is. Nobody else is told what is wrong with it.
async fn readable<T>(
    state: &ApiState,
    proof: &Proof,
    read: Result<T, Unreadable>,
    origin: &Origin,
) -> Result<T, Failure> {
    match read {
        Ok(value) => Ok(value),
        Err(mut unreadable) => {
            let caller = caller(&state.ports, proof, origin).await?;
            unreadable.actor = Some(Box::new(Actor::from(caller.identity())));
            Err(unreadable.into())
        }
    }
}

/// The proof of whoever acts for the caller: whose it is, its issuer says. Whoever calls is whoever acts, so that what is shown
/// with the request is that one's.
fn acting(token: Option<wire::Secret>, by_certificate: bool, caller: &Proof) -> Result<Option<Proof>, Unreadable> {
    let refuse = |detail: &str| Err(Unreadable::content("actor_certificate", detail));
    let actor = match (token, by_certificate) {
        (None, false) => return Ok(None),
        (Some(token), false) => Proof::of_token(Secret::new(token.expose().to_owned()), TokenType::Jwt),
        (Some(_), true) => return refuse("one acts: by `actor_token`, or by the certificate of the connection"),
        (None, true) => match &caller.certificate {
            Some(certificate) => Proof::of_certificate(Arc::clone(certificate)),
            None => return refuse("no certificate was shown over this connection, so nobody acts by one"),
        },
    };
    Ok(Some(Proof { certificate: caller.certificate.clone(), possession: caller.possession.clone(), ..actor }))
}

/// The id of a grant in a path. One in another spelling is answered as one that does not exist: after the proof.
async fn grant_id(state: &ApiState, proof: &Proof, text: &str, origin: &Origin) -> Result<GrantId, Failure> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => {
            let _: Caller = caller(&state.ports, proof, origin).await?;
            Err(ServiceError::NotFound.into())
        }
    }
}

/// The receipt for a grant that was opened, where it was asked for. If there is none the grant is ended: its handover is
/// dropped with the error.
async fn receipt(state: &ApiState, grant: &Grant, wanted: bool) -> Result<Option<wire::Receipt>, Failure> {
    if !wanted {
        return Ok(None);
    }
    let receipt = hallpass_core::service::receipt::receipt(&state.ports, grant.record.id).await?;
    Ok(Some(super::wire::receipt(&receipt)))
}

/// Runs `work` to its end, whatever becomes of the caller meanwhile: the server drops a handler whose connection is gone,
/// wherever it stands.
async fn to_its_end<T: Send + 'static>(
    state: &ApiState,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Failure> {
    let (hand, taken) = tokio::sync::oneshot::channel();
    let to_end = async move {
        // With nobody to take it, the outcome is dropped: it is on record.
        let _ = hand.send(work.await);
    };
    state.tasks.spawn(to_end.in_current_span());
    taken.await.map_err(|_| Failure::Crashed)
}

/// A caller's idempotency key with the digest of what it asks for.
fn idempotency<'a>(key: Option<String>, parts: impl IntoIterator<Item = &'a [u8]>) -> Option<Idempotency> {
    let key = key?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let request_digest = context.finish().as_ref().try_into().unwrap_or_default();
    Some(Idempotency { key, request_digest })
}
