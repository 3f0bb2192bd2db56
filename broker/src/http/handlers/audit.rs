//! `/v1/audit`: what was written down, and the proof that nothing of it was changed.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use hallpass_core::port::{AuditFilter, PageRequest};
use hallpass_core::service::inspect;
use hallpass_sdk::wire::{AuditEntry, Page};

use super::pages::{Listing, page};
use super::{json, readable};
use crate::http::extract::{Bearer, Context};
use crate::http::failure::Failure;
use crate::http::openapi;
use crate::http::query::{ProofWanted, Query};
use crate::http::router::ApiState;
use crate::http::wire;

type Api = State<Arc<ApiState>>;

/// Reads the audit log, oldest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_audit",
    tag = "audit",
    params(openapi::AuditQuery),
    responses((status = 200, description = "One page.", body = Page<AuditEntry>)),
    security(("proof" = []))
)]
pub(in crate::http) async fn list(
    State(state): Api,
    listing: Listing<(AuditFilter, PageRequest)>,
) -> Result<Response, Failure> {
    let (filter, wanted) = &listing.wanted;
    let found = listing.caller.audit(&state.ports, filter, wanted, &listing.origin).await?;
    page(found, |entry| wire::entry(&entry))
}

/// Gives what the audit log has come to, signed: a checkpoint (C2SP tlog-checkpoint), as the tools of transparency logs
/// read it.
///
/// Whoever keeps one can tell later whether anything before it was changed. The key that verifies it is in
/// `/.well-known/oauth-authorization-server`.
#[utoipa::path(
    get,
    path = "/v1/audit/checkpoint",
    operation_id = "audit_checkpoint",
    tag = "audit",
    responses((status = 200, description = "The signed note.", body = String, content_type = "text/plain; charset=utf-8")),
    security(("proof" = []))
)]
pub(in crate::http) async fn checkpoint(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
) -> Result<Response, Failure> {
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let signed = caller.checkpoint(&state.ports, &origin).await?;
    let mut response = Response::new(signed.note.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// Proves that an entry is in the audit log (`entry`), or that the log begins with what it was (`from`).
#[utoipa::path(
    get,
    path = "/v1/audit/proof",
    operation_id = "audit_proof",
    tag = "audit",
    params(openapi::ProofQuery),
    responses((status = 200, description = "The proof that was asked for.", body = openapi::AuditProof)),
    security(("proof" = []))
)]
pub(in crate::http) async fn proof(
    State(state): Api,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Query(query): Query<ProofWanted>,
) -> Result<Response, Failure> {
    let wanted = readable(&state, &proof, query, &origin).await?;
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let log = state.ports.store.log_id();
    match wanted {
        ProofWanted::Inclusion { entry, size } => {
            let included = caller.inclusion(&state.ports, entry, size, &origin).await?;
            json(&openapi::AuditProof::Inclusion(wire::inclusion(&included)))
        }
        ProofWanted::Consistency { from, size } => {
            let extended = caller.consistency(&state.ports, from, size, &origin).await?;
            json(&openapi::AuditProof::Consistency(wire::consistency(log, &extended)))
        }
    }
}
