//! Around every request: its id, its place among the others, its time, and how its failure is told.
//!
//! One layer does all of it. On the hot path each further layer would cost as much as the routing itself.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;
use hallpass_core::audit::AuditAction;
use hallpass_core::error::{Refusal, ServiceError};
use hallpass_core::id::RequestId;
use hallpass_core::port::PossessionVerifier;
use hallpass_core::request::Origin;
use hallpass_core::service::{Lane, Ports, rates, unread};
use tracing::Instrument as _;

use super::certificate_header::CertificateProxies;
use super::endpoints::Directory;
use super::extract::{Connection, Context, DPOP, Here, Shown};
use super::failure::{Failure, Unreadable};
use super::forwarded::Proxies;
use super::measure::{self, Outcome};
use super::places::{Places, Room};
use super::problem::{self, Surface};
use super::trace;

/// Gives a nonce (RFC 9449 §8.1).
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// Says that a request came before the handshake was over (RFC 8470 §5.1).
const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the edge needs to know.
pub(super) struct Edge {
    pub(super) endpoints: Directory,
    pub(super) ports: Ports,
    pub(super) proxies: Proxies,
    pub(super) certificate_proxies: CertificateProxies,
    /// Whether each source has a budget of requests.
    pub(super) counts_sources: bool,
    pub(super) places: Places,
    pub(super) timeout: Duration,
    /// Whether browsers should insist on TLS: only where callers reach the broker by it.
    pub(super) tls: bool,
    /// Where callers reach it.
    pub(super) here: Here,
    /// Says what the next proof of possession must carry, where such proofs are taken.
    pub(super) possession: Option<Arc<dyn PossessionVerifier>>,
}

/// Answers every request, whatever happens within.
pub(super) async fn guard(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let started = edge.ports.clock.monotonic();
    let surface = Surface::of(request.uri().path());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let endpoint = route.as_ref().and_then(|route| edge.endpoints.find(request.method(), route.as_str()));
    let action = endpoint.map_or(AuditAction::Read, |endpoint| endpoint.action);
    let lane = endpoint.map_or(Lane::Ordinary, |endpoint| endpoint.lane);
    let room = endpoint.map_or(Room::Ordinary, |endpoint| endpoint.room());
    let shows_key = request.headers().contains_key(DPOP);
    let chunked = request.version() < Version::HTTP_2 && request.headers().contains_key(TRANSFER_ENCODING);
    let origin = edge.origin_of(&request);
    let mut ignored = None;
    let context = *origin.as_ref().unwrap_or_else(|refused| &refused.1);

    let span = trace::request(&request, route.as_ref(), context.request_id);
    let outcome = match origin {
        Ok(origin) => {
            request.extensions_mut().insert(Context(origin));
            request.extensions_mut().insert(edge.here.clone());
            match edge.counted(lane, action, &origin).await {
                Ok(()) => match edge.shown(&request) {
                    Ok(shown) => {
                        ignored.clone_from(&shown.ignored);
                        request.extensions_mut().insert(shown);
                        edge.run(room, &origin, request, next).instrument(span.clone()).await
                    }
                    Err(unreadable) => Err(unreadable.into()),
                },
                Err(error) => Err(error.into()),
            }
        }
        // Whoever is behind a proxy must not get around its budget by a header that nobody can read: it is the proxy's.
        Err(refused) => match edge.counted(lane, action, &context).await {
            Ok(()) => Err(refused.0),
            Err(error) => Err(error.into()),
        },
    };
    let (mut response, failure) = match outcome {
        Ok(mut response) => match response.extensions_mut().remove::<Failure>() {
            None => (response, None),
            Some(failure) => {
                let failure = edge.recorded(failure, action, &context).await;
                (told(&failure, surface, context.request_id, response.headers()), Some(failure))
            }
        },
        Err(failure) => {
            let failure = edge.recorded(failure, action, &context).await;
            (told(&failure, surface, context.request_id, &HeaderMap::new()), Some(failure))
        }
    };
    if let Some(refusal) = ignored {
        edge.note_ignored(&refusal, failure.as_ref(), action, &context).await;
    }
    edge.dress(response.headers_mut(), context.request_id);
    if shows_key {
        edge.give_nonce(response.headers_mut());
    }
    if chunked {
        // RFC 9112 §6.1: a request with both lengths was read by one of them; whoever read the other sees another next
        // request on this connection. The parser hides which requests had both.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let elapsed = edge.ports.clock.monotonic().saturating_sub(started);
    let mints = action == AuditAction::GrantOpen;
    measure::request(&Outcome {
        route: route.as_ref(),
        mints,
        response: &response,
        failure: failure.as_ref(),
        elapsed,
    });
    trace::answered(&span, response.status().as_u16(), failure.as_ref());
    if response.status().is_server_error() {
        let code = failure.as_ref().map_or("", problem::code_of);
        tracing::warn!(request_id = %context.request_id, status = response.status().as_u16(), code, "a request failed");
    }
    response
}

impl Edge {
    async fn run(&self, room: Room, origin: &Origin, mut request: Request, next: Next) -> Result<Response, Failure> {
        if is_misdirected(&request) {
            return Err(Failure::Misdirected);
        }
        // Our own listener takes no early data. Whoever says it passes some on is believed: that can only refuse.
        if request.headers().contains_key(EARLY_DATA) && !request.method().is_safe() {
            return Err(Failure::TooEarly);
        }
        let place = self.places.take(room, origin.source).ok_or(Failure::Overloaded)?;
        let turns = self.places.turns(room);
        let is_list = turns.is_some();
        if let Some(turns) = turns {
            request.extensions_mut().insert(turns);
        }
        let answer = tokio::time::timeout(self.timeout, survived(next.run(request)));
        let response = answer.await.unwrap_or(Err(Failure::TimedOut))?;
        Ok(if is_list { response.map(|body| place.held_by(body)) } else { response })
    }

    /// Id and source. Where there are none, the failure comes with what there is instead: a nil id, the peer's address.
    fn origin_of(&self, request: &Request) -> Result<Origin, Box<(Failure, Origin)>> {
        let peer = request.extensions().get::<Connection>().map(|connection| connection.peer.ip().to_canonical());
        let request_id = self.ports.fresh_id::<RequestId>().map_err(|error| {
            let nil = Origin { request_id: uuid::Uuid::nil().into(), source: peer };
            Box::new((ServiceError::from(error).into(), nil))
        })?;
        let source = peer.map(|peer| self.proxies.source(peer, request.headers())).transpose();
        match source {
            Ok(source) => Ok(Origin { request_id, source }),
            Err(unreadable) => Err(Box::new((unreadable.into(), Origin { request_id, source: peer }))),
        }
    }

    /// The certificate of whoever asks. That of a proxy which passes on what somebody else asks is not: it would stand for
    /// everybody behind it.
    fn shown(&self, request: &Request) -> Result<Shown, Unreadable> {
        let connection = request.extensions().get::<Connection>();
        let passed_on =
            connection.is_some_and(|connection| self.proxies.pass_on(connection.peer.ip(), request.headers()));
        let own = connection.and_then(|connection| connection.certificate.clone());
        let shown = self.certificate_proxies.shown(own.clone(), request.headers(), self.ports.now())?;
        let is_own = |certificate: &Arc<_>| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, certificate));
        let certificate = shown.certificate.filter(|certificate| !(passed_on && is_own(certificate)));
        Ok(Shown { certificate, ..shown })
    }

    /// Writes down that a header with a certificate was nothing, unless the request was refused for it, which is written
    /// down already. That the record cannot be made is no failure of a request that does not rest on it.
    async fn note_ignored(&self, refusal: &Refusal, failure: Option<&Failure>, action: AuditAction, origin: &Origin) {
        let is_told = |failure: &Failure| match failure {
            Failure::Unreadable(unreadable) => unreadable.refusal.reason == refusal.reason,
            _ => false,
        };
        if failure.is_some_and(is_told) {
            return;
        }
        if let Err(error) = unread::record(&self.ports, action, None, refusal, origin).await {
            tracing::warn!(%error, "a header that was ignored is not recorded");
        }
    }

    /// Before anything of the request is read: a source that asks too often costs no more than to be told so.
    async fn counted(&self, lane: Lane, action: AuditAction, origin: &Origin) -> Result<(), ServiceError> {
        if self.counts_sources { rates::source(&self.ports, lane, action, origin).await } else { Ok(()) }
    }

    /// What no use-case has seen is recorded here. A record that cannot be made is the worse failure of the two.
    async fn recorded(&self, failure: Failure, action: AuditAction, origin: &Origin) -> Failure {
        let Failure::Unreadable(unreadable) = failure else { return failure };
        let (actor, refusal) = (unreadable.actor.as_deref().cloned(), unreadable.refusal.as_ref());
        match unread::record(&self.ports, action, actor, refusal, origin).await {
            Ok(()) => Failure::Unreadable(unreadable),
            Err(error) => error.into(),
        }
    }

    /// What the caller's next proof of possession must carry (RFC 9449 §8.2). Not in an answer that others are given, too.
    fn give_nonce(&self, headers: &mut HeaderMap) {
        let nonce = self.possession.as_ref().and_then(|possession| possession.nonce(self.ports.now()));
        let nonce = nonce.and_then(|nonce| HeaderValue::try_from(nonce).ok());
        let is_kept = headers.get(CACHE_CONTROL).is_some_and(|value| value != "no-store");
        if let Some(nonce) = nonce.filter(|_| !is_kept) {
            headers.insert(DPOP_NONCE, nonce);
        }
    }

    /// Headers of every answer. A credential can be in any of them, unless its handler knows better.
    fn dress(&self, headers: &mut HeaderMap, request_id: RequestId) {
        if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
            headers.insert(X_REQUEST_ID, id);
        }
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if self.tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
    }
}

/// The answer, or that there was a panic. Its message is on standard error; nobody else is told it.
async fn survived(answer: impl Future<Output = Response>) -> Result<Response, Failure> {
    let mut answer = pin!(answer);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Failure::Crashed)),
    })
    .await
}

/// The failure as an answer that keeps what the router knew, such as `Allow`.
fn told(failure: &Failure, surface: Surface, request_id: RequestId, known: &HeaderMap) -> Response {
    let mut response = problem::tell(failure, surface, request_id);
    let headers = response.headers_mut();
    for (name, value) in known {
        if name != CONTENT_TYPE && name != CONTENT_LENGTH {
            headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    response
}

/// Whether the request names another host than its connection was made to (RFC 9110 §7.4), or two hosts at once
/// (RFC 9112 §3.2): in front of us somebody may have decided by the other one.
fn is_misdirected(request: &Request) -> bool {
    let Some(connection) = request.extensions().get::<Connection>() else { return false };
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    if hosts.next().is_some() || matches!((host, authority), (Some(a), Some(b)) if !a.eq_ignore_ascii_case(b)) {
        return true;
    }
    let named = authority.or(host).map(name_of).unwrap_or_default();
    connection.server_name.as_deref().is_some_and(|server_name| !named.eq_ignore_ascii_case(server_name))
}

/// `host:port` → `host`.
fn name_of(authority: &str) -> String {
    let parsed = authority.parse::<Uri>().ok();
    parsed.as_ref().and_then(Uri::host).unwrap_or(authority).trim_end_matches('.').to_owned()
}
