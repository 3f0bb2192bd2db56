//! Every endpoint, once: its method and path, the listener it is for, what answers it, and what a request that nobody
//! could read would have done there.
//!
//! The routers are made from this table, and so are the lists that tests hold against it: an endpoint that is not here
//! does not exist, and one that is here without a row in `tests/tests/black_box/endpoints/rows.rs` fails a test,
//! as does one that [`super::openapi`] does not describe.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use hallpass_core::audit::AuditAction;
use hallpass_core::service::Lane;

use super::handlers::{
    audit, catalog, configuration, discovery, exchange, grants, identity, oauth, operations, pki, quarantines,
    revocations, status_lists,
};
use super::places::Room;
use super::router::{ApiState, Operations};

/// An endpoint, without what answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its method. `HEAD` comes with `GET`.
    pub method: &'static str,
    /// Its path, with `{name}` for each part that a caller fills in.
    pub path: &'static str,
    /// The listener that it is for.
    pub listener: Listener,
    /// Whose budgets it takes, and whose places unless it is a list.
    pub lane: Lane,
    /// Whether it answers with pages, or with whole documents: those have places of their own.
    pub(super) is_list: bool,
    /// What a refusal is recorded as, when no use-case has seen the request.
    pub(super) action: AuditAction,
}

impl Endpoint {
    /// Whose places it takes.
    pub(super) fn room(&self) -> Room {
        match (self.is_list, self.listener, self.lane) {
            (true, Listener::Admin, _) => Room::Oversight,
            (true, Listener::Api | Listener::Operations, _) => Room::Lists,
            (false, _, Lane::Control) => Room::Control,
            (false, _, Lane::Ordinary) => Room::Ordinary,
        }
    }
}

/// Which listener an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listener {
    /// Where workloads, verifiers and people connect.
    Api,
    /// Where operators act on what is everybody's. Without a listener of its own it is the API's.
    Admin,
    /// Where health and metrics are answered, without a proof.
    Operations,
}

/// Every endpoint of every listener.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let api = of_api().into_iter().map(|row| row.endpoint);
    api.chain(of_operations().into_iter().map(|row| row.endpoint)).collect()
}

pub(super) fn of_api() -> Vec<Row<Arc<ApiState>>> {
    vec![
        // Exchange, and what a verifier of credentials asks.
        post("/oauth2/token", exchange::exchange).records(AuditAction::GrantOpen),
        post("/oauth2/introspect", oauth::introspect),
        post("/oauth2/revoke", oauth::revoke).records(AuditAction::GrantRevoke).in_control(),
        get("/.well-known/oauth-authorization-server", discovery::authorization_server),
        get("/.well-known/openid-configuration", discovery::openid_configuration),
        get("/.well-known/jwks.json", discovery::jwks),
        get("/openapi.json", discovery::interface),
        get("/pki/ca.pem", pki::ca),
        get("/pki/crl.der", pki::crl),
        get("/pki/crl/{id}", pki::crl_of),
        get("/status-lists/{id}", status_lists::list),
        // Grants, by who holds them and who answers for them.
        post("/v1/grants", grants::open).records(AuditAction::GrantOpen),
        get("/v1/grants", grants::list).in_control().in_pages(),
        get("/v1/grants/{id}", grants::read).in_control(),
        delete("/v1/grants/{id}", grants::delete).records(AuditAction::GrantRevoke).in_control(),
        post("/v1/grants/{id}/renew", grants::renew).records(AuditAction::GrantRenew),
        post("/v1/grants/{id}/revoke", grants::revoke).records(AuditAction::GrantRevoke).in_control(),
        post("/v1/grants/{id}/heartbeat", grants::heartbeat),
        // What a caller is, may do, and may see of the bundle.
        get("/v1/whoami", identity::whoami),
        post("/v1/decisions", identity::decisions),
        get("/v1/roles", catalog::roles).in_pages(),
        get("/v1/roles/{*name}", catalog::role),
        get("/v1/owners", catalog::owners).in_pages(),
        get("/v1/owners/{name}", catalog::owner),
        // What is everybody's.
        post("/v1/grants/{id}/abandon", grants::abandon).records(AuditAction::GrantAbandon).on(Listener::Admin),
        post("/v1/revocations", revocations::begin).records(AuditAction::RevocationBegin).on(Listener::Admin),
        get("/v1/revocations", revocations::list).on(Listener::Admin).in_pages(),
        get("/v1/revocations/{id}", revocations::read).on(Listener::Admin),
        post("/v1/quarantines", quarantines::add).records(AuditAction::QuarantineAdd).on(Listener::Admin),
        get("/v1/quarantines", quarantines::list).on(Listener::Admin).in_pages(),
        get("/v1/quarantines/{id}", quarantines::read).on(Listener::Admin),
        delete("/v1/quarantines/{id}", quarantines::lift).records(AuditAction::QuarantineLift).on(Listener::Admin),
        get("/v1/audit", audit::list).on(Listener::Admin).in_pages(),
        get("/v1/audit/checkpoint", audit::checkpoint).on(Listener::Admin),
        get("/v1/audit/proof", audit::proof).on(Listener::Admin),
        get("/v1/configuration", configuration::read).on(Listener::Admin).in_pages(),
        put("/v1/configuration", configuration::put).records(AuditAction::ConfigurationPublish).on(Listener::Admin),
        get("/v1/configuration/revisions", configuration::revisions).on(Listener::Admin).in_pages(),
        get("/v1/configuration/revisions/{id}", configuration::revision).on(Listener::Admin).in_pages(),
        post("/v1/configuration/revisions/{id}/rollback", configuration::rollback)
            .records(AuditAction::ConfigurationPublish)
            .on(Listener::Admin),
    ]
}

pub(super) fn of_operations() -> Vec<Row<Arc<Operations>>> {
    vec![
        get("/healthz", operations::healthz).on(Listener::Operations),
        get("/readyz", operations::readyz).on(Listener::Operations),
        get("/metrics", operations::metrics).on(Listener::Operations),
    ]
}

/// An endpoint with what answers it.
pub(super) struct Row<S> {
    pub(super) endpoint: Endpoint,
    pub(super) handler: MethodRouter<S>,
}

impl<S> Row<S> {
    /// For another listener than the API's. What is for operators oversees.
    fn on(mut self, listener: Listener) -> Self {
        self.endpoint.listener = listener;
        match listener {
            Listener::Admin => self.in_control(),
            Listener::Api | Listener::Operations => self,
        }
    }

    /// Ends or oversees what is there: no flood of other requests takes its place.
    fn in_control(mut self) -> Self {
        self.endpoint.lane = Lane::Control;
        self
    }

    /// Answers with pages: no flood of them takes the place of anything else, nor as much memory as there is.
    fn in_pages(mut self) -> Self {
        self.endpoint.is_list = true;
        self
    }

    /// Another action than a read.
    fn records(mut self, action: AuditAction) -> Self {
        self.endpoint.action = action;
        self
    }
}

fn get<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(path: &'static str, handler: H) -> Row<S> {
    row("GET", path, on(MethodFilter::GET, handler))
}

fn post<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(path: &'static str, handler: H) -> Row<S> {
    row("POST", path, on(MethodFilter::POST, handler))
}

fn put<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(path: &'static str, handler: H) -> Row<S> {
    row("PUT", path, on(MethodFilter::PUT, handler))
}

fn delete<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(path: &'static str, handler: H) -> Row<S> {
    row("DELETE", path, on(MethodFilter::DELETE, handler))
}

fn row<S>(method: &'static str, path: &'static str, handler: MethodRouter<S>) -> Row<S> {
    let (listener, lane, action) = (Listener::Api, Lane::Ordinary, AuditAction::Read);
    Row { endpoint: Endpoint { method, path, listener, lane, is_list: false, action }, handler }
}

/// Finds the endpoint that a request was routed to.
#[derive(Debug, Default)]
pub(super) struct Directory(BTreeMap<&'static str, Vec<Endpoint>>);

impl Directory {
    pub(super) fn of<'a, S: 'a>(rows: impl IntoIterator<Item = &'a Row<S>>) -> Self {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Row { endpoint, .. } in rows {
            found.entry(endpoint.path).or_default().push(*endpoint);
        }
        Self(found)
    }

    /// The endpoint at the path that the router matched; none for a method that it does not have.
    pub(super) fn find(&self, method: &Method, route: &str) -> Option<&Endpoint> {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.0.get(route)?.iter().find(|endpoint| endpoint.method == method)
    }
}
