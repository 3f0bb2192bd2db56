//! Stands between the broker and a server that it calls, and writes down everything that was made there: whatever the
//! broker is told, forgets, or never hears because it was killed.
//!
//! A test can bend what is answered. What the server did stays done, and what it really answered is what is written down.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Journal;

/// Longest message that is passed on.
const LONGEST: usize = 16 * 1024 * 1024;

/// A call that was passed on, and what the server answered.
#[derive(Clone, Debug)]
pub struct Passed {
    /// The method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// `X-Vault-Token`, where sent.
    pub token: Option<String>,
    /// What was asked.
    pub asked: String,
    /// The status.
    pub status: u16,
    /// What was answered.
    pub answered: String,
}

/// Another answer than the server's, for some calls.
pub type Bend = Box<dyn Fn(&Passed) -> Option<String> + Send + Sync>;

/// Passes calls on. It ends when this is dropped.
#[derive(Debug)]
pub struct Relay {
    url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    passed: Journal<Passed>,
    bend: Mutex<Option<Bend>>,
}

impl Relay {
    /// One before the server at the origin `upstream`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: crate::broker::client(),
            passed: Journal::default(),
            bend: Mutex::default(),
        });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { url, shared, server }
    }

    /// Its origin.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything that was passed on, oldest answer first.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        self.shared.passed.entries()
    }

    /// From now on answers what this gives, where it gives something.
    pub fn bend(&self, bend: impl Fn(&Passed) -> Option<String> + Send + Sync + 'static) {
        *self.shared.bend.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(bend));
    }

    /// Answers as the server does.
    pub fn straighten(&self) {
        *self.shared.bend.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    // Whoever asked may be dead before the answer is there: it is written down all the same.
    let passed = tokio::spawn(async move { shared.pass_on(request).await }).await;
    passed.ok().flatten().unwrap_or_else(|| answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), String::new()))
}

impl Shared {
    async fn pass_on(&self, request: Request) -> Option<Response> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, LONGEST).await.ok()?;
        let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let mut passing = self.client.request(parts.method.clone(), format!("{}{path}", self.upstream));
        // The name of the host, too: it is part of what AWS's signatures are over.
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != http::header::CONTENT_LENGTH) {
            passing = passing.header(name, value);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let response = passing.body(body.clone()).send().await.ok()?;
        let (status, headers) = (response.status(), response.headers().clone());
        let token = parts.headers.get("x-vault-token").map(|token| text(token.as_bytes()));
        let answered = response.text().await.ok()?;
        let method = parts.method.to_string();
        let passed = Passed { method, path, token, asked: text(&body), status: status.as_u16(), answered };
        self.passed.record(passed.clone());
        let bent = {
            let bend = self.bend.lock().unwrap_or_else(PoisonError::into_inner);
            bend.as_ref().and_then(|bend| bend(&passed))
        };
        Some(answer(status, &headers, bent.unwrap_or(passed.answered)))
    }
}

fn answer(status: StatusCode, headers: &HeaderMap, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    if let Some(kind) = headers.get(http::header::CONTENT_TYPE) {
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind.clone());
    }
    response
}

#[tokio::test]
async fn what_was_answered_is_written_down_even_where_something_else_is_passed_on() {
    let issuer = crate::Issuer::start(&[]).await;
    let relay = Relay::before(issuer.url()).await;
    let client = crate::broker::client();
    let get = async || client.get(format!("{}/jwks", relay.url())).send().await.expect("an answer").text().await;
    let plain = get().await.expect("a text");
    assert!(plain.contains("keys"), "{plain}");
    relay.bend(|passed| passed.path.starts_with("/jwks").then(|| passed.answered[..4].to_owned()));
    assert_eq!(get().await.expect("a text"), plain[..4]);
    relay.straighten();
    assert_eq!(get().await.expect("a text"), plain);
    assert!(relay.passed().iter().all(|passed| passed.answered == plain && passed.status == 200));
    assert_eq!(relay.passed().len(), 3);
}
