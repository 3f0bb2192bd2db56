//! A real OIDC issuer on loopback, whose answers a test can bend: slow, broken, hostile, rotated.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, StatusCode, Uri};
use hyper::body::Frame;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Interval;

use crate::key::random_bytes;
use crate::{Journal, SigningKey, unix_now};

/// What an issuer publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// The JWK set.
    Keys,
}

/// How it answers when asked for a document.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// As it should: the document, with an `ETag`; `304` when that matches.
    Normal,
    /// It accepts the request and never answers.
    Hang,
    /// It answers with this status and no body.
    Status(u16),
    /// It sends this many bytes that never become JSON.
    Huge(usize),
    /// It sends this body in place of the document.
    Body(String),
    /// It says `304 Not Modified`, whatever was asked.
    NotModified,
    /// It points elsewhere.
    Redirect(String),
    /// It sends the document, a byte every 100 ms.
    Drip,
}

/// A request that the issuer received.
#[derive(Clone, Debug)]
pub struct Request {
    /// Path and query as received.
    pub target: String,
    /// `If-None-Match`, where sent.
    pub if_none_match: Option<String>,
    /// The status answered; none where it hangs.
    pub status: Option<u16>,
}

/// The issuer. It ends when dropped.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    requests: Journal<Request>,
    published: Mutex<Published>,
}

#[derive(Debug)]
struct Published {
    discovery: Value,
    keys: Value,
    discovery_behaviour: Behaviour,
    keys_behaviour: Behaviour,
    cache_control: Option<String>,
}

impl Issuer {
    /// Starts an issuer that publishes these keys.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        Self::publishing(json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})).await
    }

    /// Starts an issuer that publishes this key set, whatever it is.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn publishing(keys: Value) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let published = Published {
            discovery: json!({
                "issuer": url,
                "jwks_uri": format!("{url}/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256", "RS256", "EdDSA"],
            }),
            keys,
            discovery_behaviour: Behaviour::Normal,
            keys_behaviour: Behaviour::Normal,
            cache_control: None,
        };
        let shared = Arc::new(Shared { requests: Journal::default(), published: Mutex::new(published) });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("the issuer serves");
        });
        Self { url, shared, server }
    }

    /// Its name: the value of `iss`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How it answers for one document from now on.
    pub fn behave(&self, document: Document, behaviour: Behaviour) {
        let mut published = self.shared.published();
        match document {
            Document::Discovery => published.discovery_behaviour = behaviour,
            Document::Keys => published.keys_behaviour = behaviour,
        }
    }

    /// Publishes these keys in place of the old ones.
    pub fn rotate(&self, keys: &[&SigningKey]) {
        self.publish(Document::Keys, json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}));
    }

    /// Publishes another document.
    pub fn publish(&self, document: Document, content: Value) {
        let mut published = self.shared.published();
        match document {
            Document::Discovery => published.discovery = content,
            Document::Keys => published.keys = content,
        }
    }

    /// What it publishes as discovery document, to be published again with changes.
    #[must_use]
    pub fn discovery(&self) -> Value {
        self.shared.published().discovery.clone()
    }

    /// The `Cache-Control` that it sends with its documents.
    pub fn cache_control(&self, value: &str) {
        self.shared.published().cache_control = Some(value.to_owned());
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.entries()
    }

    /// How often the key set was asked for.
    #[must_use]
    pub fn key_requests(&self) -> usize {
        self.shared.requests.count(|request| request.target == "/jwks")
    }

    /// Claims that a broker trusting this issuer accepts for five minutes.
    #[must_use]
    pub fn claims(&self, audience: &str, subject: &str) -> Value {
        let now = unix_now();
        let id = URL_SAFE_NO_PAD.encode(random_bytes::<16>());
        json!({"iss": self.url, "aud": audience, "sub": subject, "iat": now, "nbf": now, "exp": now + 300, "jti": id})
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let asked = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let response = respond(&shared, uri.path(), asked.as_deref());
    shared.requests.record(Request {
        target: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
        if_none_match: asked,
        status: response.as_ref().map(|response| response.status().as_u16()),
    });
    match response {
        Some(response) => response,
        None => std::future::pending().await,
    }
}

/// The answer; none where it hangs.
fn respond(shared: &Shared, path: &str, asked: Option<&str>) -> Option<Response> {
    let published = shared.published();
    let (behaviour, document) = match path {
        "/.well-known/openid-configuration" => (&published.discovery_behaviour, &published.discovery),
        "/jwks" => (&published.keys_behaviour, &published.keys),
        _ => return Some(bodiless(StatusCode::NOT_FOUND)),
    };
    let body = match behaviour {
        Behaviour::Hang => return None,
        Behaviour::Status(status) => return Some(bodiless(StatusCode::from_u16(*status).expect("a status"))),
        Behaviour::NotModified => return Some(bodiless(StatusCode::NOT_MODIFIED)),
        Behaviour::Redirect(to) => {
            let mut response = bodiless(StatusCode::FOUND);
            response.headers_mut().insert(LOCATION, to.parse().expect("a header value"));
            return Some(response);
        }
        Behaviour::Huge(length) => format!("{{\"keys\":[\"{}", "a".repeat(*length)),
        Behaviour::Body(body) => body.clone(),
        Behaviour::Normal | Behaviour::Drip => document.to_string(),
    };
    let hash = STANDARD.encode(digest(&SHA256, body.as_bytes()));
    let etag = format!("\"{hash}\"");
    let mut response = if asked == Some(etag.as_str()) {
        bodiless(StatusCode::NOT_MODIFIED)
    } else {
        let drips = matches!(behaviour, Behaviour::Drip);
        let body = if drips { Body::new(Drip::of(body.into())) } else { Body::from(body) };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a header value"));
        response
    };
    response.headers_mut().insert(ETAG, etag.parse().expect("a header value"));
    if let Some(value) = &published.cache_control {
        response.headers_mut().insert(CACHE_CONTROL, value.parse().expect("a header value"));
    }
    Some(response)
}

/// A body that comes byte by byte.
struct Drip {
    left: Bytes,
    tick: Interval,
}

impl Drip {
    fn of(left: Bytes) -> Self {
        Self { left, tick: tokio::time::interval(Duration::from_millis(100)) }
    }
}

impl HttpBody for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.tick.poll_tick(context));
        let next = self.left.len().min(1);
        let byte = self.left.split_to(next);
        Poll::Ready((!byte.is_empty()).then(|| Ok(Frame::data(byte))))
    }
}

fn bodiless(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
