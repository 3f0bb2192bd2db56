//! Accepts connections and serves a router on them, each within limits.
//!
//! A stranger can open connections, keep them, begin handshakes, and send headers byte by byte, all without a proof. So
//! each of these has a number or a time it cannot exceed, and none of them holds up the accepting of the others. HTTP/2 is
//! spoken where TLS negotiated it (ALPN): telling the versions apart by their first bytes would mean to wait for bytes
//! from whoever sends none.

mod client;
mod idle;
mod patience;
mod tls;

use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::http::Connection;
use crate::http::sources::{Queues, Sources};

use self::idle::Activity;
use self::patience::Patient;

pub use tls::{Certificates, ClientCertificates, Looked, TlsFilesError};

/// Limits of a listener's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Most connections at once. More wait in the kernel's queue.
    pub max_connections: usize,
    /// Most connections at once of one source: an IPv4 address or an IPv6 network of 64 bits. More are closed at once.
    pub max_connections_per_source: usize,
    /// Networks whose addresses are no source of their own: many callers come through each.
    pub shared_sources: Vec<IpNet>,
    /// Most TLS handshakes at once: each costs a signature.
    pub max_handshakes: usize,
    /// Most of them of one source. More wait for these, and not for those of others.
    pub max_handshakes_per_source: usize,
    /// How long a TLS handshake may take, the wait for its turn included.
    pub handshake_timeout: Duration,
    /// How long the head of an HTTP/1 request may take to arrive; also how long an idle HTTP/1 connection is kept, and how
    /// long the peer of an idle HTTP/2 connection may take to leave.
    pub header_read_timeout: Duration,
    /// How long an HTTP/2 connection without requests is kept before its peer is told to leave, whether or not it answers
    /// pings.
    pub idle_timeout: Duration,
    /// How long a peer may take to take what it is sent.
    pub write_timeout: Duration,
    /// Largest head of an HTTP/1 request (of 100 headers at most), and largest header list of an HTTP/2 one. At least
    /// 8 KiB.
    pub max_header_bytes: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How often a silent HTTP/2 peer is asked whether it is there, and how long it has to answer.
    pub keep_alive: Duration,
    /// How long requests have to finish when the listener stops.
    pub drain: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: 8_192,
            max_connections_per_source: 1_024,
            shared_sources: Vec::new(),
            max_handshakes: 512,
            max_handshakes_per_source: 64,
            handshake_timeout: Duration::from_secs(5),
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            max_header_bytes: 32 * 1024,
            max_streams: 128,
            keep_alive: Duration::from_secs(20),
            drain: Duration::from_secs(20),
        }
    }
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every connection finished what it was doing.
    Wholly,
    /// The time was over and so many connections were cut.
    Cut(usize),
}

/// Serves `router` on `listener` until `shutdown` resolves, then lets requests finish for [`ListenerLimits::drain`].
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    limits: ListenerLimits,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let server = Arc::new(Server {
        router,
        tls: tls.map(TlsAcceptor::from),
        handshakes: Semaphore::new(limits.max_handshakes),
        handshakes_of_sources: Arc::new(Queues::new(limits.max_handshakes_per_source, limits.shared_sources.clone())),
        http: http(&limits),
        handshake_timeout: limits.handshake_timeout,
        idle_timeout: limits.idle_timeout,
        leave_timeout: limits.header_read_timeout,
        write_timeout: limits.write_timeout,
        stop: CancellationToken::new(),
    });
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let sources = Arc::new(Sources::new(limits.max_connections_per_source, limits.shared_sources));
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // Fails only once the semaphore is closed, which nobody does.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, accept(&listener).await)
        };
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            (place, (stream, peer)) = accepted => {
                let Some(of_source) = sources.enter(peer.ip()) else {
                    metrics::counter!("hallpass_connections_refused_total").increment(1);
                    tracing::debug!(%peer, "its source has as many connections as it may");
                    continue;
                };
                let (server, cut) = (Arc::clone(&server), cut.clone());
                connections.spawn(async move {
                    let _places = (place, of_source);
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = server.connection(stream, peer) => {}
                    }
                });
            }
        }
    }
    drop(listener);
    server.stop.cancel();
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_ok() {
        return Drained::Wholly;
    }
    let open = limits.max_connections.saturating_sub(places.available_permits());
    cut.cancel();
    connections.wait().await;
    tracing::warn!(connections = open, "connections were cut: their requests did not finish in time");
    Drained::Cut(open)
}

/// What every connection needs.
struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    handshakes: Semaphore,
    handshakes_of_sources: Arc<Queues>,
    http: auto::Builder<TokioExecutor>,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    leave_timeout: Duration,
    write_timeout: Duration,
    /// Every connection is to finish what it is doing.
    stop: CancellationToken,
}

impl Server {
    /// One connection, to its end.
    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        // Answers are small and written whole: waiting for more to send with them only delays them.
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, self.write_timeout);
        let Some(tls) = &self.tls else {
            return self.answer_http1(stream, Connection { peer, server_name: None, certificate: None }).await;
        };
        let handshake = async {
            // Its own first: what waits for that takes no turn of another.
            let _turn_of_source = self.handshakes_of_sources.turn(peer.ip()).await;
            let _turn = self.handshakes.acquire().await.ok()?;
            tls.accept(stream).await.ok()
        };
        // Most failures here are scanners; a line for each would fill a disk.
        let Ok(Some(stream)) = tokio::time::timeout(self.handshake_timeout, handshake).await else {
            tracing::debug!(%peer, "a TLS handshake failed");
            return;
        };
        let (_, session) = stream.get_ref();
        let server_name = session.server_name().map(Arc::from);
        let connection = Connection { peer, server_name, certificate: client::certificate_of(session) };
        match session.alpn_protocol() {
            Some(b"h2") => self.answer_http2(stream, connection).await,
            _ => self.answer_http1(stream, connection).await,
        }
    }

    /// An idle one ends by itself: the head of its next request takes too long.
    async fn answer_http1<S>(&self, stream: S, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let service = service_fn(move |request| call(&router, &connection, request));
        let http = self.http.clone().http1_only();
        let served = pin!(http.serve_connection(TokioIo::new(stream), service));
        finish(served, self.stop.cancelled(), |served| served.graceful_shutdown()).await;
    }

    /// Pings keep one alive, so being idle has a limit of its own. Whoever is told to leave has a part in it: to have sent
    /// its preface (RFC 9113 §3.4), to answer a ping, to take what it asked for. One that does none of that is cut.
    async fn answer_http2<S>(&self, stream: S, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (activity, peer) = (Activity::new(), connection.peer);
        let (router, requests) = (self.router.clone(), activity.clone());
        let service = service_fn(move |request| {
            let (work, answered) = (requests.begin(), call(&router, &connection, request));
            async move {
                let _work = work;
                answered.await
            }
        });
        let http = self.http.clone().http2_only();
        let served = pin!(http.serve_connection(TokioIo::new(stream), service));
        let until = async {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = activity.idle_for(self.idle_timeout) => {}
            }
        };
        tokio::select! {
            () = finish(served, until, |served| served.graceful_shutdown()) => {}
            () = activity.idle_for(self.idle_timeout.saturating_add(self.leave_timeout)) => {
                tracing::debug!(%peer, "an idle HTTP/2 connection was cut");
            }
        }
    }
}

fn call(
    router: &Router,
    connection: &Connection,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(connection.clone());
    let mut router = router.clone();
    async move { router.call(request).await }
}

/// Serves a connection until it ends, or lets it finish what it is doing when `until` resolves.
async fn finish<C, E>(mut served: Pin<&mut C>, until: impl Future<Output = ()>, wind_down: impl FnOnce(Pin<&mut C>))
where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = until => {
            wind_down(served.as_mut());
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Waits for a connection. Errors are the connection's own, or mean that descriptors ran out: then accepting pauses.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    const PAUSE: Duration = Duration::from_millis(50);
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn http(limits: &ListenerLimits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(limits.max_header_bytes);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive);
    http
}

#[cfg(test)]
mod tests;
