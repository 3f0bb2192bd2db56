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

/// `GET /healthz`: the process answers. It asks nothing of the store: a restart would not mend that.
pub(in crate::http) async fn healthz() -> Result<Response, Failure> {
    json(&Report { status: "ok", parts: Vec::new() })
}

/// `GET /readyz`: whether requests can be served, part by part.
pub(in crate::http) async fn readyz(State(operations): State<Arc<Operations>>) -> Result<Response, Failure> {
    let parts = operations.readiness.report().await;
    let ready = parts.iter().all(|part| part.ok);
    let mut response = json(&Report { status: if ready { "ready" } else { "not_ready" }, parts })?;
    if !ready {
        *response.status_mut() = problem::NOT_READY;
    }
    Ok(response)
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
}

/// `GET /metrics`: Prometheus' text format.
pub(in crate::http) async fn metrics(State(operations): State<Arc<Operations>>) -> Response {
    public("text/plain; version=0.0.4; charset=utf-8", "no-store", operations.metrics.render())
}
