//! Which path is whose: the API for callers, and the operations listener for those who run the broker.
//!
//! The two routers share no path. What is for operators is not reachable where workloads connect, and the reverse.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use hallpass_core::service::Ports;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::desk::{MetricsPage, Pki, PublicKeys, Readiness, TokenDesk};
use super::edge::{Edge, guard};
use super::failure::Failure;
use super::handlers::{audit, catalog, discovery, exchange, grants, identity, oauth, operations, pki};
use super::limits::HttpLimits;

/// What the API's handlers work with.
pub struct ApiState {
    /// The domain's ports.
    pub ports: Ports,
    /// Origin that callers reach the broker at, without path or trailing slash. Every URL in an answer begins with it.
    pub public_url: String,
    /// Limits of requests.
    pub limits: HttpLimits,
    /// Reads tokens that the broker minted.
    pub tokens: Arc<dyn TokenDesk>,
    /// Keys that verify those tokens.
    pub keys: Arc<dyn PublicKeys>,
    /// The built-in certificate authority, where a backend has one.
    pub pki: Option<Arc<dyn Pki>>,
    /// Runs what must not end with its connection. Shutdown closes it and waits for it.
    pub tasks: TaskTracker,
}

/// What the operations listener's handlers work with.
pub struct Operations {
    /// The domain's ports; for request ids and time.
    pub ports: Ports,
    /// How the parts are.
    pub readiness: Arc<dyn Readiness>,
    /// The metrics page.
    pub metrics: Arc<dyn MetricsPage>,
}

/// The API listener's router.
pub fn api(state: Arc<ApiState>) -> Router {
    let edge = Arc::new(Edge {
        ports: state.ports.clone(),
        places: Semaphore::new(state.limits.max_in_flight),
        timeout: state.limits.request_timeout,
        tls: state.public_url.starts_with("https://"),
    });
    Router::new()
        .route("/oauth2/token", post(exchange::exchange))
        .route("/oauth2/introspect", post(oauth::introspect))
        .route("/oauth2/revoke", post(oauth::revoke))
        .route("/.well-known/oauth-authorization-server", get(discovery::authorization_server))
        .route("/.well-known/openid-configuration", get(discovery::openid_configuration))
        .route("/.well-known/jwks.json", get(discovery::jwks))
        .route("/pki/ca.pem", get(pki::ca))
        .route("/pki/crl.der", get(pki::crl))
        .route("/v1/grants", post(grants::open).get(grants::list))
        .route("/v1/grants/{id}", get(grants::read).delete(grants::delete))
        .route("/v1/grants/{id}/renew", post(grants::renew))
        .route("/v1/grants/{id}/revoke", post(grants::revoke))
        .route("/v1/grants/{id}/abandon", post(grants::abandon))
        .route("/v1/grants/{id}/heartbeat", post(grants::heartbeat))
        .route("/v1/whoami", get(identity::whoami))
        .route("/v1/decisions", post(identity::decisions))
        .route("/v1/roles", get(catalog::roles))
        .route("/v1/roles/{*name}", get(catalog::role))
        .route("/v1/owners", get(catalog::owners))
        .route("/v1/owners/{name}", get(catalog::owner))
        .route("/v1/audit", get(audit::list))
        .with_state(state)
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(edge, guard))
}

/// The operations listener's router.
pub fn operations(state: Arc<Operations>) -> Router {
    /// Probes and one scraper: more at once is a mistake.
    const PLACES: usize = 64;
    /// A probe that waits longer has failed.
    const TIMEOUT: Duration = Duration::from_secs(10);
    let edge =
        Arc::new(Edge { ports: state.ports.clone(), places: Semaphore::new(PLACES), timeout: TIMEOUT, tls: false });
    Router::new()
        .route("/healthz", get(operations::healthz))
        .route("/readyz", get(operations::readyz))
        .route("/metrics", get(operations::metrics))
        .with_state(state)
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(edge, guard))
}

async fn no_such_endpoint() -> Failure {
    Failure::NoSuchEndpoint
}

async fn method_not_allowed() -> Failure {
    Failure::MethodNotAllowed
}
