//! `/v1/revocations`: ending sets of grants.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_core::error::ServiceError;
use hallpass_core::port::PageRequest;
use hallpass_core::service::{inspect, revoke_set};
use hallpass_sdk::wire::{self as sdk, Page, RevocationRequest};
use http::StatusCode;

use super::pages::{Listing, page};
use super::{idempotency, json, made, readable};
use crate::http::extract::{Bearer, Context, IdempotencyKey, Json, Named};
use crate::http::failure::Failure;
use crate::http::measure;
use crate::http::openapi::PageQuery;
use crate::http::router::ApiState;
use crate::http::wire;

type Api = State<Arc<ApiState>>;

/// `POST /v1/revocations`.
///
/// Ends every grant that is selected and that the caller may end. It holds when this is answered: from then on what is
/// selected is treated as ended, and nothing that is selected is opened or renewed until the revocation is complete.
#[utoipa::path(
    post,
    path = "/v1/revocations",
    operation_id = "revoke_set",
    tag = "commands",
    params(
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "Makes a repetition of the same request safe: it is answered with the same revocation."),
    ),
    request_body = RevocationRequest,
    responses(
        (status = 200, description = "What would end: of a dry run.", body = sdk::RevocationPreview),
        (status = 202, description = "It holds, and its grants follow.", body = sdk::SetRevocation,
            headers(("Location" = String, description = "Where its progress is read."))),
        (status = 409,
            description = "No place is left for the quarantine that would come with it. Nothing is revoked: lift a quarantine, \
                or leave `quarantine` out.")
    ),
    security(("proof" = []))
)]
pub(in crate::http) async fn begin(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<RevocationRequest>,
) -> Result<Response, Failure> {
    let asked = body.and_then(|body| {
        let idempotency = idempotency(key, [b"revocation".as_slice(), &body.raw]);
        wire::revoke_set(body.value, idempotency)
    });
    let (asked, dry_run) = readable(&state, &proof, asked, &origin).await?;
    if dry_run {
        let preview = revoke_set::preview(&state.ports, &proof, &asked, &origin).await?;
        return json(&wire::preview(&preview, state.origins()));
    }
    let begun = revoke_set::revoke_set(&state.ports, &proof, &asked, &origin).await?;
    measure::end_requested();
    let answer = json(&wire::begun(&begun))?;
    Ok(made(answer, StatusCode::ACCEPTED, wire::revocation_path(begun.revocation.id)))
}

/// `GET /v1/revocations/{id}`.
#[utoipa::path(
    get,
    path = "/v1/revocations/{id}",
    operation_id = "read_revocation",
    tag = "commands",
    params(("id" = String, Path, description = "Id of the revocation.")),
    responses((status = 200, description = "How far it has come.", body = sdk::SetRevocation)),
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
    let standing = caller.revocation(&state.ports, id).await?;
    json(&wire::standing(standing))
}

/// `GET /v1/revocations`.
#[utoipa::path(
    get,
    path = "/v1/revocations",
    operation_id = "list_revocations",
    tag = "commands",
    params(PageQuery),
    responses((status = 200, description = "One page, newest first.", body = Page<sdk::SetRevocation>)),
    security(("proof" = []))
)]
pub(in crate::http) async fn list(State(state): Api, listing: Listing<PageRequest>) -> Result<Response, Failure> {
    let found = listing.caller.revocations(&state.ports, &listing.wanted).await?;
    page(found, wire::standing)
}
