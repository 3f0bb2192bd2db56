//! `GET /v1/audit`: what was written down.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hallpass_core::port::{AuditFilter, PageRequest};
use hallpass_core::service::inspect;
use hallpass_sdk::wire::{AuditEntry, Page};

use super::{json, readable};
use crate::http::extract::{Bearer, Context};
use crate::http::failure::Failure;
use crate::http::openapi;
use crate::http::query::Query;
use crate::http::router::ApiState;
use crate::http::wire;

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
    State(state): State<Arc<ApiState>>,
    Context(origin): Context,
    Bearer(proof): Bearer,
    Query(query): Query<(AuditFilter, PageRequest)>,
) -> Result<Response, Failure> {
    let (filter, page) = readable(&state, &proof, query, &origin).await?;
    let caller = inspect::caller(&state.ports, &proof, &origin).await?;
    let found = caller.audit(&state.ports, &filter, &page, &origin).await?;
    json(&Page { items: found.items.iter().map(wire::entry).collect(), next_cursor: found.next })
}
