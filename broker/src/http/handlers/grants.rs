//! `/v1/grants`: opening, reading, renewing and ending.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_core::error::ServiceError;
use hallpass_core::grant::Grant;
use hallpass_core::port::{GrantFilter, PageRequest};
use hallpass_core::service::{abandon, heartbeat, inspect, renew, revoke};
use hallpass_sdk::wire::{
    self as sdk, AbandonRequest, CreateGrant, CreateGrantResponse, GrantQuery, Page, RenewRequest, RevokeRequest,
};
use http::StatusCode;

use super::pages::{Listing, written};
use super::{acting, bytes_of, grant_id, idempotency, json, json_body, made, readable, receipt};
use crate::http::extract::{Bearer, Context, IdempotencyKey, Json, Named};
use crate::http::failure::{Failure, Unreadable};
use crate::http::issuance::{Issued, issue};
use crate::http::measure;
use crate::http::router::ApiState;
use crate::http::wire;

type Api = State<Arc<ApiState>>;

/// Opens a grant and hands its credential out, this once.
#[utoipa::path(
    post,
    path = "/v1/grants",
    operation_id = "open_grant",
    tag = "grants",
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "Makes a repetition of the same request safe: the earlier grant is ended, a fresh one opened."),
    ),
    request_body = CreateGrant,
    responses(
        (status = 201, description = "The grant and its credential.", body = CreateGrantResponse,
            headers(("Location" = String, description = "Where the grant is read."))),
        (status = 409, description = "The key is in use, or the grant ended meanwhile."),
        (status = 502, description = "The backend refused.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn open(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<CreateGrant>,
) -> Result<Response, Failure> {
    let asked = body.and_then(|mut body| {
        let actor = acting(body.value.actor_token.take(), body.value.actor_certificate, &proof)?;
        let idempotency = idempotency(key, [b"grant".as_slice(), &body.raw]);
        Ok((actor, body.value.receipt, wire::grant_request(body.value, idempotency)?))
    });
    let (actor, with_receipt, request) = readable(&state, &proof, asked, &origin).await?;
    let Issued { grant, credential, handover } = issue(&state, proof, actor, request, origin).await?;
    let receipt = receipt(&state, &grant, with_receipt).await?;
    let grant = wire::grant(&grant, state.origins());
    let place = format!("{}/v1/grants/{}", state.public_url, grant.id);
    let answer = CreateGrantResponse { grant, credential: wire::credential(credential), receipt };
    let response = json_body(handover.body(bytes_of(&answer)?));
    Ok(made(response, StatusCode::CREATED, place))
}

/// Reads a grant: who, why, whose, what, from which change, by which rule, until when, and how it ends.
#[utoipa::path(
    get,
    path = "/v1/grants/{id}",
    operation_id = "read_grant",
    tag = "grants",
    params(("id" = String, Path, description = "Id of the grant.")),
    responses((status = 200, description = "The grant.", body = sdk::Grant)),
    security(("proof" = []))
)]
pub(in crate::http) async fn read(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(id): Named,
) -> Result<Response, Failure> {
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let id = id.parse().map_err(|_| ServiceError::NotFound)?;
    let grant = caller.grant(&state.ports, id, &origin).await?;
    json(&wire::grant(&grant, state.origins()))
}

/// Lists the grants that match and that the caller may read, newest first.
#[utoipa::path(
    get,
    path = "/v1/grants",
    operation_id = "list_grants",
    tag = "grants",
    params(GrantQuery),
    responses((status = 200, description = "One page.", body = Page<sdk::Grant>)),
    security(("proof" = []))
)]
pub(in crate::http) async fn list(
    State(state): Api,
    listing: Listing<(GrantFilter, PageRequest)>,
) -> Result<Response, Failure> {
    let (filter, page) = &listing.wanted;
    let write = |grant: &Grant| bytes_of(&wire::grant(grant, state.origins()));
    written(listing.caller.grants(&state.ports, filter, page, write).await?)
}

/// Moves a grant's end, by a fresh proof of its holder and a fresh decision.
///
/// No new credential is made. `409` where the backend cannot extend the one that is out.
#[utoipa::path(
    post,
    path = "/v1/grants/{id}/renew",
    operation_id = "renew_grant",
    tag = "grants",
    params(("id" = String, Path, description = "Id of the grant.")),
    request_body = Option<RenewRequest>,
    responses(
        (status = 200, description = "The grant with its later end.", body = sdk::Grant),
        (status = 409, description = "It cannot be extended."),
        (status = 502, description = "The backend refused.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn renew(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(id): Named,
    body: Option<Json<RenewRequest>>,
) -> Result<Response, Failure> {
    let id = grant_id(&state, &proof, &id, &origin).await?;
    let asked = readable(&state, &proof, or_default(body), &origin).await?;
    let grant = renew::renew(&state.ports, &proof, id, asked.ttl.map(wire::life), &origin).await?;
    json(&wire::grant(&grant, state.origins()))
}

/// Ends a grant, with a reason. Idempotent.
#[utoipa::path(
    post,
    path = "/v1/grants/{id}/revoke",
    operation_id = "revoke_grant",
    tag = "grants",
    params(("id" = String, Path, description = "Id of the grant.")),
    request_body = Option<RevokeRequest>,
    responses(
        (status = 200, description = "It has ended.", body = sdk::Grant),
        (status = 202, description = "It is ending.", body = sdk::Grant),
        (status = 409, description = "It cannot end now.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn revoke(
    state: Api,
    context: Context,
    Bearer(proof): Bearer,
    Named(id): Named,
    body: Option<Json<RevokeRequest>>,
) -> Result<Response, Failure> {
    let id = grant_id(&state, &proof, &id, &context.0).await?;
    let asked = readable(&state, &proof, or_default(body), &context.0).await?;
    let grant = revoke::revoke(&state.ports, &proof, id, asked.reason, &context.0).await?;
    ending(&state, &grant)
}

/// Ends a grant without a reason. Idempotent.
#[utoipa::path(
    delete,
    path = "/v1/grants/{id}",
    operation_id = "delete_grant",
    tag = "grants",
    params(("id" = String, Path, description = "Id of the grant.")),
    responses(
        (status = 200, description = "It has ended.", body = sdk::Grant),
        (status = 202, description = "It is ending.", body = sdk::Grant),
        (status = 409, description = "It cannot end now.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn delete(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(id): Named,
) -> Result<Response, Failure> {
    let id = grant_id(&state, &proof, &id, &origin).await?;
    let grant = revoke::revoke(&state.ports, &proof, id, None, &origin).await?;
    ending(&state, &grant)
}

/// Gives up on ending a grant, by an operator's hand and with a reason.
///
/// Its credential may still work: it ends as `abandoned`, never as `revoked`.
#[utoipa::path(
    post,
    path = "/v1/grants/{id}/abandon",
    operation_id = "abandon_grant",
    tag = "grants",
    params(("id" = String, Path, description = "Id of the grant.")),
    request_body = AbandonRequest,
    responses(
        (status = 200, description = "It is given up.", body = sdk::Grant),
        (status = 409, description = "It is not ending.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn abandon(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(id): Named,
    Json(body): Json<AbandonRequest>,
) -> Result<Response, Failure> {
    let id = grant_id(&state, &proof, &id, &origin).await?;
    let asked = readable(&state, &proof, body, &origin).await?.value;
    let grant = abandon::abandon(&state.ports, &proof, id, Some(asked.reason), &origin).await?;
    json(&wire::grant(&grant, state.origins()))
}

/// Says that a grant's holder is still there.
///
/// A grant that was opened with `ends_when.heartbeat` ends when this is not heard for so long.
#[utoipa::path(
    post,
    path = "/v1/grants/{id}/heartbeat",
    operation_id = "heartbeat",
    tag = "grants",
    params(("id" = String, Path, description = "Id of the grant.")),
    responses(
        (status = 200, description = "It was heard.", body = sdk::Grant),
        (status = 409, description = "The grant has ended.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn heartbeat(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(id): Named,
) -> Result<Response, Failure> {
    let id = grant_id(&state, &proof, &id, &origin).await?;
    let grant = heartbeat::heartbeat(&state.ports, &proof, id, &origin).await?;
    json(&wire::grant(&grant, state.origins()))
}

/// The grant, with the status that says whether it has ended or is ending.
fn ending(state: &ApiState, grant: &Grant) -> Result<Response, Failure> {
    measure::end_requested();
    let mut response = json(&wire::grant(grant, state.origins()))?;
    if !grant.state_name().is_final() {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

/// What the body says, or nothing where there is none.
fn or_default<T: Default>(body: Option<Json<T>>) -> Result<T, Unreadable> {
    body.map_or_else(|| Ok(T::default()), |Json(read)| read.map(|read| read.value))
}
