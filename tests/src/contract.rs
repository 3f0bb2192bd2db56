//! A server over TLS that answers as somebody's documentation records, for services that cannot be started here.
//!
//! An *exchange* is a file below `tests/contracts/<kind>`: where it is from (`from`), the request that it is the answer
//! to, or the exchange whose request that is (`answers`), and the `response`. `<name>` in a request stands for any text,
//! and is the same text wherever it stands; in a response it stands for the text of that name. Every request must be one
//! of an exchange's, to the letter; that it is not is a *breach*, which fails the test at its end.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use regex::Regex;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::openbao::authority;

/// Texts by their names in an exchange.
pub type Texts = BTreeMap<String, String>;

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The response of this exchange.
    Response(String),
    /// Nothing: the connection breaks.
    Lost,
}

/// Chooses the turn for a request of the exchange of this name: it may read its texts, and add those of the response.
pub type Choose = dyn Fn(&str, &mut Texts) -> Turn + Send + Sync;

/// The server.
pub struct Contract {
    /// Where it is.
    pub origin: String,
    folder: TempDir,
    played: Arc<Played>,
    server: tokio::task::JoinHandle<()>,
}

/// What was asked, and what is to be answered.
struct Played {
    exchanges: BTreeMap<String, Exchange>,
    choose: Box<Choose>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: BTreeMap<String, VecDeque<Turn>>,
    asked: Vec<(String, Texts)>,
    breaches: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    from: Vec<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people")]
    note: String,
    request: Option<Request>,
    answers: Option<String>,
    response: Response,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    method: String,
    path: String,
    #[serde(default)]
    query: Texts,
    #[serde(default)]
    headers: Texts,
    body: Option<Value>,
    form: Option<Texts>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    status: u16,
    #[serde(default)]
    headers: Texts,
    body: Option<Value>,
}

impl Contract {
    /// A server with the exchanges of `kind`. `choose` answers what no [`Contract::next`] was said for.
    pub async fn start(kind: &str, choose: impl Fn(&str, &mut Texts) -> Turn + Send + Sync + 'static) -> Self {
        let exchanges = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts").join(kind));
        let played = Arc::new(Played { exchanges, choose: Box::new(choose), state: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("https://{}", listener.local_addr().expect("an address"));
        let authority = authority("contract");
        let folder = TempDir::with_prefix("hallpass-contract-").expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = certificate.signed_by(&key, &authority).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .expect("a certificate with its key");
        let (acceptor, serving) = (TlsAcceptor::from(Arc::new(tls)), Arc::clone(&played));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, played) = (acceptor.clone(), Arc::clone(&serving));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| answer(Arc::clone(&played), request));
                    // A connection that breaks is what some tests are about.
                    let served = auto::Builder::new(TokioExecutor::new());
                    drop(served.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { origin, folder, played, server }
    }

    /// The authorities of the server's certificate, PEM.
    #[must_use]
    pub fn authorities(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The folder of the server: for what else a test needs to put somewhere.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The next request of `exchange` is answered with the response of `other`.
    pub fn next(&self, exchange: &str, other: &str) {
        assert!(self.played.exchanges.contains_key(other), "there is no exchange {other}");
        self.turn(exchange, Turn::Response(other.to_owned()));
    }

    /// The next request of `exchange` is not answered.
    pub fn lose(&self, exchange: &str) {
        self.turn(exchange, Turn::Lost);
    }

    fn turn(&self, exchange: &str, turn: Turn) {
        self.played.state.lock().unwrap().next.entry(exchange.to_owned()).or_default().push_back(turn);
    }

    /// The exchanges that were asked for, with the texts of their requests.
    #[must_use]
    pub fn asked(&self) -> Vec<(String, Texts)> {
        self.played.state.lock().unwrap().asked.clone()
    }

    /// How often an exchange was asked for.
    #[must_use]
    pub fn times(&self, exchange: &str) -> usize {
        self.asked().iter().filter(|(name, _)| name == exchange).count()
    }

    /// The names of the exchanges whose response is that to the request of `exchange` gone wrong.
    #[must_use]
    pub fn errors_of(&self, exchange: &str) -> Vec<String> {
        let errors = self.played.exchanges.iter().filter(|(_, other)| other.answers.as_deref() == Some(exchange));
        errors.filter(|(_, other)| other.response.status >= 400).map(|(name, _)| name.clone()).collect()
    }

    /// The body of the response of an exchange, as it is recorded.
    #[must_use]
    pub fn recorded(&self, exchange: &str) -> String {
        self.played.exchanges[exchange].response.body.as_ref().map(Value::to_string).unwrap_or_default()
    }
}

impl Drop for Contract {
    fn drop(&mut self) {
        self.server.abort();
        let state = self.played.state.lock().unwrap();
        if !std::thread::panicking() {
            assert!(state.breaches.is_empty(), "requests that no exchange records:\n{}", state.breaches.join("\n"));
        }
    }
}

fn read(folder: &Path) -> BTreeMap<String, Exchange> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let exchanges = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a file");
        let exchange: Exchange = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(exchange.from.iter().any(|from| from.starts_with("https://")), "{name} does not say where it is from");
        assert_ne!(exchange.request.is_some(), exchange.answers.is_some(), "{name} has a request, or another's");
        (name, exchange)
    });
    exchanges.collect()
}

async fn answer(
    played: Arc<Played>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let Some((name, mut texts)) = recognise(&played, &head, &body) else {
        return Ok(response(404, &Texts::new(), "no exchange records this"));
    };
    let said = {
        let mut state = played.state.lock().unwrap();
        state.asked.push((name.clone(), texts.clone()));
        state.next.get_mut(&name).and_then(VecDeque::pop_front)
    };
    let turn = said.unwrap_or_else(|| (played.choose)(&name, &mut texts));
    let Turn::Response(name) = turn else { return Err(std::io::Error::other("the answer is lost")) };
    let chosen = &played.exchanges[&name].response;
    let body = chosen.body.as_ref().map(|body| filled(body, &texts).to_string()).unwrap_or_default();
    Ok(response(chosen.status, &chosen.headers, &body))
}

fn response(status: u16, headers: &Texts, body: &str) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(body.to_owned()))).expect("a response")
}

/// The exchange that the request is of, with its texts; a breach where it is of none.
fn recognise(played: &Played, head: &http::request::Parts, body: &[u8]) -> Option<(String, Texts)> {
    let mut nearest = String::new();
    for (name, exchange) in &played.exchanges {
        let Some(expected) = &exchange.request else { continue };
        let mut texts = Texts::new();
        let is_at = matches(&expected.path, head.uri.path(), &mut texts);
        if head.method.as_str() != expected.method || !is_at {
            continue;
        }
        match deviation(expected, head, body, &mut texts) {
            None => return Some((name.clone(), texts)),
            Some(why) => nearest.push_str(&format!("; it is not {name}: {why}")),
        }
    }
    let breach = format!("{} {}{nearest}", head.method, head.uri);
    played.state.lock().unwrap().breaches.push(breach);
    None
}

fn deviation(expected: &Request, head: &http::request::Parts, body: &[u8], texts: &mut Texts) -> Option<String> {
    let query = pairs(head.uri.query().unwrap_or_default().as_bytes());
    if !all_match(&expected.query, &query, texts) {
        return Some(format!("its query is {query:?}"));
    }
    for (name, value) in &expected.headers {
        let given = head.headers.get(name).and_then(|given| given.to_str().ok()).unwrap_or_default();
        if !matches(value, given, texts) {
            return Some(format!("its {name} is {given:?}"));
        }
    }
    match (&expected.body, &expected.form) {
        (Some(expected), _) => {
            let given: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
            (!same(expected, &given, texts)).then(|| format!("its body is {given}"))
        }
        (None, Some(expected)) => {
            let given = pairs(body);
            (!all_match(expected, &given, texts)).then(|| format!("its form is {given:?}"))
        }
        (None, None) => (!body.is_empty()).then(|| "it has a body".to_owned()),
    }
}

fn pairs(encoded: &[u8]) -> Texts {
    reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8_lossy(encoded)))
        .map(|url| url.query_pairs().into_owned().collect())
        .unwrap_or_default()
}

fn all_match(expected: &Texts, given: &Texts, texts: &mut Texts) -> bool {
    expected.keys().eq(given.keys())
        && expected.iter().zip(given.values()).all(|((_, expected), given)| matches(expected, given, texts))
}

fn same(expected: &Value, given: &Value, texts: &mut Texts) -> bool {
    match (expected, given) {
        (Value::String(expected), Value::String(given)) => matches(expected, given, texts),
        (Value::String(expected), Value::Number(given)) => matches(expected, &given.to_string(), texts),
        (Value::Array(expected), Value::Array(given)) => {
            expected.len() == given.len()
                && expected.iter().zip(given).all(|(expected, given)| same(expected, given, texts))
        }
        (Value::Object(expected), Value::Object(given)) => {
            expected.len() == given.len()
                && expected
                    .iter()
                    .all(|(key, expected)| given.get(key).is_some_and(|given| same(expected, given, texts)))
        }
        _ => expected == given,
    }
}

/// Whether `given` is `expected`, in which `<name>` stands for any text.
fn matches(expected: &str, given: &str, texts: &mut Texts) -> bool {
    let placeholder = Regex::new("<([a-z_]+)>").expect("a pattern");
    let mut pattern = String::from("(?s)^");
    let mut names = Vec::new();
    let mut end = 0;
    for found in placeholder.captures_iter(expected) {
        let whole = found.get(0).expect("all of it");
        pattern.push_str(&regex::escape(&expected[end..whole.start()]));
        pattern.push_str("(.+)");
        names.push(found[1].to_owned());
        end = whole.end();
    }
    pattern.push_str(&regex::escape(&expected[end..]));
    pattern.push('$');
    let Some(found) = Regex::new(&pattern).expect("a pattern").captures(given) else { return false };
    names.iter().enumerate().all(|(n, name)| {
        let text = &found[n + 1];
        texts.entry(name.clone()).or_insert_with(|| text.to_owned()) == text
    })
}

fn filled(value: &Value, texts: &Texts) -> Value {
    match value {
        Value::String(text) => {
            // `<name>` alone, where the text is a number or a whole value, is that.
            let whole = text.strip_prefix("<json:").and_then(|name| name.strip_suffix('>'));
            if let Some(json) = whole.and_then(|name| texts.get(name)) {
                return serde_json::from_str(json).expect("a JSON text");
            }
            let mut text = text.clone();
            for (name, value) in texts {
                text = text.replace(&format!("<{name}>"), value);
            }
            Value::String(text)
        }
        Value::Array(items) => items.iter().map(|item| filled(item, texts)).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), filled(value, texts))).collect(),
        other => other.clone(),
    }
}
