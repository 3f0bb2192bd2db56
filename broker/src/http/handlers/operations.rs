//! The operations listener: health, readiness, metrics. Nothing here is for callers of the API.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::{json, public};
use crate::http::desk::{Condition, Part};
use crate::http::failure::Failure;
use crate::http::measure;
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
    responses((status = 200, description = "It does.", body = Health)),
    security(())
)]
pub(in crate::http) async fn healthz() -> Result<Response, Failure> {
    json(&Health { status: "ok" })
}

/// Says whether the broker can do its work, whether it can issue, and how each part is.
///
/// It is ready as long as grants can be ended and asked about, also while nothing can be issued: `issuing` says that. A
/// part that is `degraded` is for somebody to look at.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operations",
    responses(
        (status = 200, description = "It can: `ready`, or `degraded` while some part is not as it should be.", body = Report),
        (status = 503, description = "It cannot: `not_ready`. Send it nothing.", body = Report)
    ),
    security(())
)]
pub(in crate::http) async fn readyz(State(operations): State<Arc<Operations>>) -> Result<Response, Failure> {
    let parts = operations.readiness.report().await;
    measure::parts(&parts);
    let worst = parts.iter().map(|part| part.status).max().unwrap_or(Condition::Ok);
    let status = match worst {
        Condition::Ok => "ready",
        Condition::Degraded => "degraded",
        Condition::Unready => "not_ready",
    };
    let issuing = parts.iter().all(Part::lets_issue);
    let mut response = json(&Report { status, issuing, parts })?;
    if worst == Condition::Unready {
        *response.status_mut() = problem::NOT_READY;
    }
    Ok(response)
}

#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Report {
    /// In a word.
    status: &'static str,
    /// Whether something can be issued to somebody.
    issuing: bool,
    parts: Vec<Part>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(in crate::http) struct Health {
    /// `ok`.
    status: &'static str,
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
