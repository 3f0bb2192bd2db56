//! The routers: the API for callers, and the operations listener for those who run the broker. Which path is whose is
//! said in [`super::endpoints`].
//!
//! The two routers share no path. What is for operators is not reachable where workloads connect, and the reverse.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use hallpass_core::port::PossessionVerifier;
use hallpass_core::service::Ports;
use hallpass_core::service::configuration::Publishing;
use tokio_util::task::TaskTracker;

use super::certificate_header::CertificateProxies;
use super::desk::{MetricsPage, Pki, PublicKeys, Readiness, StatusLists, TokenDesk};
use super::edge::{Edge, guard};
use super::endpoints::{self, Directory, Listener, Row};
use super::extract::Here;
use super::failure::Failure;
use super::forwarded::Proxies;
use super::limits::HttpLimits;
use super::places::{Bounds, Places};
use super::wire::Origins;

/// What the API's handlers work with.
pub struct ApiState {
    /// The domain's ports.
    pub ports: Ports,
    /// Origin that callers reach the broker at, without path or trailing slash. Every URL in an answer begins with it.
    pub public_url: String,
    /// Origin that operators reach what is everybody's at: the same where they have no listener of their own, and empty
    /// where they have one and what it is called is not known.
    pub admin_url: String,
    /// Limits of requests.
    pub limits: HttpLimits,
    /// Who is believed about where a request comes from.
    pub proxies: Proxies,
    /// Who is believed about whose certificate was shown.
    pub certificate_proxies: CertificateProxies,
    /// Reads tokens that the broker minted.
    pub tokens: Arc<dyn TokenDesk>,
    /// Verifies that a caller has a key.
    pub possession: Arc<dyn PossessionVerifier>,
    /// Whether callers may show a certificate, which what they are given is bound to (RFC 8705).
    pub takes_certificates: bool,
    /// Keys that verify those tokens.
    pub keys: Arc<dyn PublicKeys>,
    /// The built-in certificate authority, where a backend has one.
    pub pki: Option<Arc<dyn Pki>>,
    /// Lists of the tokens that were ended early.
    pub status_lists: Arc<dyn StatusLists>,
    /// What publishing works with, where bundles are published.
    pub publishing: Option<Arc<Publishing>>,
    /// Runs what must not end with its connection. Shutdown closes it and waits for it.
    pub tasks: TaskTracker,
}

impl ApiState {
    /// Where links begin.
    pub(super) fn origins(&self) -> Origins<'_> {
        Origins { public: &self.public_url, admin: &self.admin_url }
    }
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

/// The API listener's router, where operators have no listener of their own.
pub fn api(state: Arc<ApiState>) -> Router {
    let here = state.public_url.clone();
    of_state(state, &here, endpoints::of_api())
}

/// The API listener's router, where operators have their own.
pub fn callers(state: Arc<ApiState>) -> Router {
    let here = state.public_url.clone();
    of_state(state, &here, of_listener(Listener::Api))
}

/// The router of the operators' own listener. It has no path in common with [`callers`].
pub fn admin(state: Arc<ApiState>) -> Router {
    let here = state.admin_url.clone();
    of_state(state, &here, of_listener(Listener::Admin))
}

fn of_listener(listener: Listener) -> Vec<Row<Arc<ApiState>>> {
    endpoints::of_api().into_iter().filter(|row| row.endpoint.listener == listener).collect()
}

/// A router of these rows, which is reached at `here`.
fn of_state(state: Arc<ApiState>, here: &str, rows: Vec<Row<Arc<ApiState>>>) -> Router {
    let edge = Arc::new(Edge {
        endpoints: Directory::of(&rows),
        ports: state.ports.clone(),
        proxies: state.proxies.clone(),
        certificate_proxies: state.certificate_proxies.clone(),
        counts_sources: true,
        places: Places::new(&state.limits, &state.proxies.shared_sources()),
        timeout: state.limits.request_timeout,
        tls: state.public_url.starts_with("https://"),
        here: Here(here.into()),
        possession: Some(Arc::clone(&state.possession)),
    });
    routes(rows)
        .with_state(state)
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(edge, guard))
}

/// The operations listener's router.
pub fn operations(state: Arc<Operations>) -> Router {
    /// Probes and one scraper: more at once is a mistake.
    const PLACES: Bounds = Bounds { all: 64, each: 64 };
    /// A probe that waits longer has failed.
    const TIMEOUT: Duration = Duration::from_secs(10);
    let rows = endpoints::of_operations();
    let edge = Arc::new(Edge {
        endpoints: Directory::of(&rows),
        ports: state.ports.clone(),
        proxies: Proxies::default(),
        certificate_proxies: CertificateProxies::default(),
        counts_sources: false,
        places: Places::new(&HttpLimits { in_flight: PLACES, ..HttpLimits::default() }, &[]),
        timeout: TIMEOUT,
        tls: false,
        here: Here("".into()),
        possession: None,
    });
    routes(rows)
        .with_state(state)
        .fallback(no_such_endpoint)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(edge, guard))
}

fn routes<S: Clone + Send + Sync + 'static>(rows: Vec<Row<S>>) -> Router<S> {
    rows.into_iter().fold(Router::new(), |router, row| router.route(row.endpoint.path, row.handler))
}

async fn no_such_endpoint() -> Failure {
    Failure::NoSuchEndpoint
}

async fn method_not_allowed() -> Failure {
    Failure::MethodNotAllowed
}
