//! `/v1/quarantines`: stopping new grants.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_core::error::ServiceError;
use hallpass_core::port::PageRequest;
use hallpass_core::service::{inspect, quarantine};
use hallpass_sdk::wire::{self as sdk, Page, QuarantineRequest};
use http::StatusCode;

use super::pages::{Listing, page};
use super::{json, made, readable};
use crate::http::extract::{Bearer, Context, Json, Named};
use crate::http::failure::Failure;
use crate::http::openapi::PageQuery;
use crate::http::router::ApiState;
use crate::http::wire;

type Api = State<Arc<ApiState>>;

/// `POST /v1/quarantines`.
///
/// Stops grants that are selected from being opened and renewed, as far as the caller may, from the next request on.
#[utoipa::path(
    post,
    path = "/v1/quarantines",
    operation_id = "add_quarantine",
    tag = "commands",
    request_body = QuarantineRequest,
    responses(
        (status = 201, description = "It is in force.", body = sdk::Quarantine,
            headers(("Location" = String, description = "Where it is read."))),
        (status = 409, description = "Too many quarantines are in force.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn add(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Json(body): Json<QuarantineRequest>,
) -> Result<Response, Failure> {
    let asked = readable(&state, &proof, body.and_then(|body| wire::quarantining(body.value)), &origin).await?;
    let added = quarantine::add(&state.ports, &proof, &asked, &origin).await?;
    let answer = json(&wire::quarantine(&added, state.ports.now()))?;
    Ok(made(answer, StatusCode::CREATED, wire::quarantine_path(added.id)))
}

/// `GET /v1/quarantines/{id}`.
#[utoipa::path(
    get,
    path = "/v1/quarantines/{id}",
    operation_id = "read_quarantine",
    tag = "commands",
    params(("id" = String, Path, description = "Id of the quarantine.")),
    responses((status = 200, description = "The quarantine.", body = sdk::Quarantine)),
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
    let found = caller.quarantine(&state.ports, id).await?;
    json(&wire::quarantine(&found, state.ports.now()))
}

/// `GET /v1/quarantines`.
#[utoipa::path(
    get,
    path = "/v1/quarantines",
    operation_id = "list_quarantines",
    tag = "commands",
    params(PageQuery),
    responses((status = 200, description = "One page, newest first.", body = Page<sdk::Quarantine>)),
    security(("proof" = []))
)]
pub(in crate::http) async fn list(State(state): Api, listing: Listing<PageRequest>) -> Result<Response, Failure> {
    let found = listing.caller.quarantines(&state.ports, &listing.wanted).await?;
    let now = state.ports.now();
    page(found, |one| wire::quarantine(&one, now))
}

/// `DELETE /v1/quarantines/{id}`.
#[utoipa::path(
    delete,
    path = "/v1/quarantines/{id}",
    operation_id = "lift_quarantine",
    tag = "commands",
    params(("id" = String, Path, description = "Id of the quarantine.")),
    responses((status = 200, description = "It is lifted, or was over already.", body = sdk::Quarantine)),
    security(("proof" = []))
)]
pub(in crate::http) async fn lift(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Named(id): Named,
) -> Result<Response, Failure> {
    let id = match id.parse() {
        Ok(id) => id,
        Err(_) => {
            inspect::caller(&state.ports, &proof, &origin).await?;
            return Err(ServiceError::NotFound.into());
        }
    };
    let lifted = quarantine::lift(&state.ports, &proof, id, &origin).await?;
    json(&wire::quarantine(&lifted, state.ports.now()))
}
