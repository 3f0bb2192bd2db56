//! The operations listener: health, readiness, metrics. Nothing here is for callers of the API.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::{json, public};
use crate::http::desk::Part;
use crate::http::failure::Failure;
use crate::http::problem;
use crate::http::router::Operations;

/// Says that the process answers.
///
/// It asks nothing of the store: a restart would not mend that.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operations",
    responses((status = 200, description = "It does.", body = Report)),
    security(())
)]
pub(in crate::http) async fn healthz() -> Result<Response, Failure> {
    json(&Report { status: "ok", parts: Vec::new() })
}

/// Says whether requests can be served, part by part.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operations",
    responses(
        (status = 200, description = "They can.", body = Report),
        (status = 503, description = "They cannot.", body = Report)
    ),
    security(())
)]
pub(in crate::http) async fn readyz(State(operations): State<Arc<Operations>>) -> Result<Response, Failure> {
    let parts = operations.readiness.report().await;
    let ready = parts.iter().all(|part| part.ok);
    let mut response = json(&Report { status: if ready { "ready" } else { "not_ready" }, parts })?;
    if !ready {
        *response.status_mut() = problem::NOT_READY;
    }
    Ok(response)
}

#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Report {
    /// In a word.
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
}

/// Shows the metrics in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operations",
    responses((status = 200, description = "The page.", body = String, content_type = "text/plain")),
    security(())
)]
pub(in crate::http) async fn metrics(State(operations): State<Arc<Operations>>) -> Response {
    public("text/plain; version=0.0.4; charset=utf-8", "no-store", operations.metrics.render().await)
}
