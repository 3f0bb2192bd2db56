//! What tests of verification share: an issuer that signs, one that serves, and settings for both.
#![expect(clippy::disallowed_methods, reason = "keys of tests need no reproducible randomness")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::error::Refusal;
use hallpass_core::id::IssuerName;
use hallpass_core::identity::{AcceptanceRules, PrincipalKind, Shown, VerifiedIdentity, VerifiedProof};
use hallpass_core::port::IdentityVerifier;
use hallpass_core::testing::{MockClock, received, sample};
use hallpass_core::time::{Clock, Ttl};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::oidc::OidcVerifier;
use crate::config::issuer::{Issuer, IssuerKind, JwsAlgorithm, KeyRefresh, KeySource};
use crate::outbound::{AllowHttp, Outbound};

pub(crate) const ISSUER: &str = "https://idp.test";
pub(crate) const AUDIENCE: &str = "https://broker.test";
pub(crate) const NOW: i64 = sample::NOW.as_secs();

/// A P-256 key that signs proofs.
pub(crate) struct TestKey {
    pub(crate) kid: String,
    pair: EcdsaKeyPair,
}

impl TestKey {
    pub(crate) fn new(kid: &str) -> Self {
        let rng = ring::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap();
        Self { kid: kid.to_owned(), pair }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y})
    }

    /// Signs whatever the parts say.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(&ring::rand::SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", encode(signature.as_ref()))
    }

    /// A good proof, with some header members and claims replaced or, by null, removed.
    pub(crate) fn proof(&self, header: Value, claims: Value) -> String {
        let mut good_header = json!({"alg": "ES256", "typ": "JWT", "kid": self.kid});
        let mut good_claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "repo:acme@111/app@222:ref:refs/heads/main",
            "iat": NOW, "nbf": NOW, "exp": NOW + 300, "jti": "proof-1",
        });
        for (good, changes) in [(&mut good_header, header), (&mut good_claims, claims)] {
            for (name, value) in changes.as_object().unwrap() {
                if value.is_null() {
                    good.as_object_mut().unwrap().remove(name);
                } else {
                    good[name] = value.clone();
                }
            }
        }
        self.sign(&good_header.to_string(), &good_claims.to_string())
    }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn key_set(keys: &[&TestKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// A strict CI issuer with these keys.
pub(crate) fn settings(keys: KeySource) -> Issuer {
    let github = [
        ("repository", "repository"),
        ("repository_id", "repository_id"),
        ("repository_owner_id", "repository_owner_id"),
        ("ref", "ref"),
        ("ref_protected", "ref_protected"),
        ("event", "event_name"),
        ("run", "run_id"),
        ("runner", "runner_environment"),
        ("environment", "environment"),
    ];
    Issuer {
        name: IssuerName::new("ci").unwrap(),
        kind: IssuerKind::Oidc,
        url: ISSUER.to_owned(),
        principal: PrincipalKind::Workload,
        keys,
        algorithms: vec![JwsAlgorithm::ES256, JwsAlgorithm::RS256],
        token_types: vec!["jwt".to_owned()],
        rules: AcceptanceRules {
            audiences: vec![AUDIENCE.to_owned()],
            leeway: Ttl::from_secs(30),
            max_age: Some(Ttl::from_hours(1)),
            max_lifetime: Ttl::from_hours(24),
            single_use: true,
            bounds_ttl: false,
        },
        provenance: github
            .map(|(field, claim)| (field.to_owned(), claim.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        refresh: KeyRefresh {
            max_age: Ttl::from_mins(10),
            min_interval: Ttl::from_secs(10),
            grace: Ttl::from_hours(1),
        },
    }
}

pub(crate) fn clock() -> Arc<MockClock> {
    Arc::new(MockClock::starting_at(sample::NOW))
}

pub(crate) fn verifier(settings: Issuer, clock: &Arc<MockClock>) -> OidcVerifier {
    let client = Arc::new(Outbound::new(None).unwrap());
    OidcVerifier::new(settings, Arc::clone(clock) as Arc<dyn Clock>, client, AllowHttp::Loopback).unwrap()
}

pub(crate) async fn verify(verifier: &OidcVerifier, token: &str) -> Result<VerifiedProof, Refusal> {
    verifier.verify(&received(token), sample::NOW).await
}

/// Verifies and judges, as a request does.
pub(crate) async fn accept(verifier: &OidcVerifier, token: &str) -> Result<VerifiedIdentity, Refusal> {
    VerifiedIdentity::accept(verify(verifier, token).await?, Shown::default(), None, sample::NOW)
}

/// Waits until something happens elsewhere; it must within seconds.
pub(crate) async fn eventually(happened: impl Fn() -> bool) {
    let wait = async {
        while !happened() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("it never happened");
}

/// How a served document behaves.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Status, headers, body.
    Answer(StatusCode, Vec<(&'static str, String)>, Vec<u8>),
    /// As `Answer` with 200, but 304 if asked with this `ETag`.
    Tagged(&'static str, String),
    /// Answers only when a permit is given.
    Gated(Arc<Semaphore>, String),
}

impl Behaviour {
    pub(crate) fn json(body: impl Into<String>) -> Self {
        Self::Answer(StatusCode::OK, Vec::new(), body.into().into_bytes())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(StatusCode::from_u16(status).unwrap(), Vec::new(), Vec::new())
    }
}

/// An HTTP server on loopback whose documents behave as told, and which counts who asks for what.
pub(crate) struct TestServer {
    pub(crate) origin: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    documents: Mutex<HashMap<String, Behaviour>>,
    asked: Mutex<Vec<String>>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::<Shared>::default();
        let app = axum::Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { origin, shared, task }
    }

    pub(crate) fn set(&self, path: &str, behaviour: Behaviour) {
        self.shared.documents.lock().unwrap().insert(path.to_owned(), behaviour);
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    shared.asked.lock().unwrap().push(uri.path().to_owned());
    let behaviour = shared.documents.lock().unwrap().get(uri.path()).cloned();
    match behaviour {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Behaviour::Answer(status, headers, body)) => {
            let mut response = (status, body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Some(Behaviour::Tagged(etag, body)) => {
            if headers.get("if-none-match").is_some_and(|asked| asked == etag) {
                StatusCode::NOT_MODIFIED.into_response()
            } else {
                ([("etag", etag)], body).into_response()
            }
        }
        Some(Behaviour::Gated(gate, body)) => {
            gate.acquire().await.unwrap().forget();
            body.into_response()
        }
    }
}

/// An issuer of some kind as it is by default, and what it says of a workload.
pub(crate) struct KindIssuer {
    pub(crate) key: TestKey,
    pub(crate) verifier: OidcVerifier,
    /// Claims of the shape that the real issuer's have.
    pub(crate) sample: Value,
}

impl KindIssuer {
    pub(crate) fn new(kind: IssuerKind, sample: &str) -> Self {
        let key = TestKey::new("one");
        let mut settings = settings(KeySource::Inline(key_set(&[&key])));
        let standard = kind.standard();
        settings.kind = kind;
        settings.provenance.clear();
        settings.rules.single_use = standard.single_use;
        settings.rules.max_age = standard.max_age;
        settings.rules.max_lifetime = standard.max_lifetime;
        let verifier = verifier(settings, &clock());
        Self { key, verifier, sample: serde_json::from_str(sample).unwrap() }
    }

    /// What is verified of the sample with some claims replaced or, by null, removed.
    pub(crate) async fn verified(&self, changes: Value) -> Result<VerifiedProof, Refusal> {
        let mut claims = self.sample.clone();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        if claims.get("jti").is_none() {
            claims["jti"] = Value::Null;
        }
        let proof = verify(&self.verifier, &self.key.proof(json!({}), claims)).await?;
        VerifiedIdentity::accept(proof, Shown::default(), None, sample::NOW).map(|identity| identity.proof().clone())
    }

    /// Why the sample with these changes is refused, and about which claim.
    pub(crate) async fn refusal(&self, changes: Value) -> (&'static str, String) {
        let refusal = self.verified(changes.clone()).await.expect_err(&changes.to_string());
        (refusal.reason.as_str(), refusal.parameter.unwrap_or_default())
    }
}
