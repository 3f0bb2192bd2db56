//! A broker whose every part a test owns, behind its router.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request};
use hallpass_broker::http::desk::{
    Condition, OwnToken, Part, Pki, PublicKeys, Published, Readiness, StatusLists, TokenDesk,
};
use hallpass_broker::http::forwarded::Proxies;
use hallpass_broker::http::{ApiState, Connection, HttpLimits, Operations, api, operations};
use hallpass_broker::identity::dpop::DpopVerifier;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::error::ServiceError;
use hallpass_core::id::{BackendName, GrantId};
use hallpass_core::port::{
    AuditFilter, CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError,
    PageRequest, RevokeError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::Secret;
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::{FaultingBackend, MockClock, Nature, SeededEntropy, TestSealer, World};
use hallpass_core::time::{Timestamp, Ttl};
use hallpass_sqlite::SqliteStore;
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub(crate) const URL: &str = "https://hallpass.example";
pub(crate) const EXCHANGE: &str = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange\
    &subject_token_type=urn:ietf:params:oauth:token-type:jwt&audience=payments/prod/deploy&purpose=deploy+4f2c";

pub(crate) struct House {
    pub(crate) world: World,
    pub(crate) api: Router,
    pub(crate) operations: Router,
    pub(crate) tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

impl House {
    /// A broker whose backend mints by a signature.
    pub(crate) fn open() -> Self {
        Self::with(Nature::local(), |_| ())
    }

    pub(crate) fn with(nature: Nature, change: impl FnOnce(&mut ApiState)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(TestSealer::new(1));
        let store = SqliteStore::open(&folder.path().join("db"), sealer.clone(), sample::id(99)).unwrap();
        let clock = Arc::new(MockClock::starting_at(NOW));
        let world = World::new(Arc::new(store), sealer, clock, nature);
        let tokens = Arc::new(OneToken(Arc::clone(&world.backend)));
        world.governance.edit(|revision| {
            revision.backends.insert(BackendName::new("tokens").unwrap(), tokens);
        });
        let tasks = TaskTracker::new();
        let mut state = ApiState {
            ports: world.ports.clone(),
            public_url: URL.to_owned(),
            admin_url: URL.to_owned(),
            limits: HttpLimits::default(),
            proxies: Proxies::default(),
            certificate_proxies: Default::default(),
            tokens: Arc::new(Desk),
            possession: Arc::new(DpopVerifier::new(true, &SeededEntropy::new(7), NOW).unwrap()),
            takes_certificates: false,
            keys: Arc::new(Keys),
            pki: Some(Arc::new(Authority)),
            status_lists: Arc::new(Lists),
            publishing: None,
            tasks: tasks.clone(),
        };
        change(&mut state);
        let operations = operations(Arc::new(Operations {
            ports: world.ports.clone(),
            readiness: Arc::new(Ready(true)),
            metrics: Arc::new(|| "hallpass_up 1\n".to_owned()),
        }));
        Self { api: api(Arc::new(state)), operations, world, tasks, _folder: folder }
    }

    /// A fresh proof of who opens grants here.
    pub(crate) fn proof(&self) -> String {
        self.world.proof(World::SUBJECT).token().unwrap().expose().to_owned()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::read(self.api.clone().oneshot(request).await.unwrap()).await
    }

    /// A call of `/v1` with a proof.
    pub(crate) async fn call(&self, method: &str, path: &str, proof: &str, body: Option<Value>) -> Answer {
        self.send(request(method, path, Some(proof), body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &self.proof(), None).await
    }

    /// A form to `/oauth2`.
    pub(crate) async fn form(&self, path: &str, proof: Option<&str>, form: impl Into<String>) -> Answer {
        self.send(form_request(path, proof, form.into())).await
    }

    /// An exchange, with what `more` adds to it.
    pub(crate) async fn exchange(&self, more: &str) -> Answer {
        self.form("/oauth2/token", None, format!("{EXCHANGE}&subject_token={}{more}", encoded(&self.proof()))).await
    }

    /// Opens a grant; answers the proof that opened it and its id.
    pub(crate) async fn grant(&self) -> (String, String) {
        let proof = self.proof();
        let opened = self.call("POST", "/v1/grants", &proof, Some(wanted())).await;
        assert_eq!(opened.status, 201, "{}", opened.text);
        (proof, opened.body["grant"]["id"].as_str().unwrap().to_owned())
    }

    /// Reasons that the audit log has for a request, oldest first.
    pub(crate) async fn reasons(&self, answer: &Answer) -> Vec<String> {
        let request_id = Some(answer.header("x-request-id").parse().unwrap());
        let filter = AuditFilter { request_id, grant: None };
        let page = PageRequest { cursor: None, limit: 100 };
        let entries = self.world.ports.store.audit(&filter, &page).await.unwrap().items;
        entries.into_iter().filter_map(|recorded| recorded.entry.reason).collect()
    }

    pub(crate) async fn state(&self, id: &str) -> &'static str {
        self.world.grant(id.parse().unwrap()).await.state_name().as_str()
    }

    /// Waits for what outlives its connection.
    pub(crate) async fn idle(&self) {
        self.tasks.close();
        tokio::time::timeout(std::time::Duration::from_secs(10), self.tasks.wait()).await.expect("tasks end");
        self.tasks.reopen();
    }
}

pub(crate) fn wanted() -> Value {
    serde_json::json!({"role": World::ROLE, "purpose": "deploy 4f2c to prod"})
}

pub(crate) fn request(method: &str, path: &str, proof: Option<&str>, body: Option<Value>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(proof) = proof {
        request = request.header("authorization", format!("Bearer {proof}"));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    from_somewhere(request.body(body).unwrap())
}

pub(crate) fn form_request(path: &str, proof: Option<&str>, form: String) -> Request<Body> {
    let mut request =
        Request::builder().method("POST").uri(path).header("content-type", "application/x-www-form-urlencoded");
    if let Some(proof) = proof {
        request = request.header("authorization", format!("Bearer {proof}"));
    }
    from_somewhere(request.body(Body::from(form)).unwrap())
}

fn from_somewhere(mut request: Request<Body>) -> Request<Body> {
    let peer = SocketAddr::from(([192, 0, 2, 7], 4711));
    request.extensions_mut().insert(Connection { peer, server_name: None, certificate: None });
    request
}

pub(crate) fn encoded(token: &str) -> String {
    token.replace('|', "%7C")
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn read(response: axum::response::Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1_000_000).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Self { status: parts.status.as_u16(), headers: parts.headers, text, body }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn said(&self, member: &str) -> &str {
        self.body[member].as_str().unwrap_or_default()
    }
}

/// What the testing kit's backend makes, as one token: `own.<grant>`.
struct OneToken(Arc<FaultingBackend>);

#[async_trait]
impl CredentialBackend for OneToken {
    fn kind(&self) -> &'static str {
        "jwt"
    }

    fn effect(&self) -> Effect {
        self.0.effect()
    }

    fn class(&self, role: &Role) -> RevocationClass {
        self.0.class(role)
    }

    fn min_life(&self, role: &Role) -> Ttl {
        self.0.min_life(role)
    }

    fn max_life(&self, role: &Role) -> Option<Ttl> {
        self.0.max_life(role)
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        true
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        self.0.validate(role)
    }

    fn scope(&self, _: &Role, asked: &[String]) -> Result<Vec<String>, IssueError> {
        Ok(asked.to_vec())
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        self.0.plan(order)
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let issued = self.0.issue(order, handle).await?;
        let material = CredentialMaterial::Jwt { token: Secret::new(format!("own.{}", order.grant)) };
        Ok(IssuedCredential { material, ..issued })
    }

    async fn extend(&self, handle: &Handle, until: Timestamp) -> Result<Timestamp, ExtendError> {
        self.0.extend(handle, until).await
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        self.0.revoke(handle).await
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        self.0.inventory().await
    }

    fn inventory_scope(&self) -> InventoryScope {
        self.0.inventory_scope()
    }
}

struct Desk;

impl TokenDesk for Desk {
    fn read(&self, token: &str) -> Option<OwnToken> {
        let grant: GrantId = token.strip_prefix("own.")?.parse().ok()?;
        Some(OwnToken {
            act: None,
            grant,
            subject: "ci:repo:acme/app".to_owned(),
            audiences: vec!["https://api.example".to_owned()],
            client_id: Some("ci:repo:acme/app".to_owned()),
            scope: None,
            token_id: Some(grant.to_string()),
            issued_at: NOW,
            expires_at: NOW.plus(Ttl::from_mins(10)),
            key_id: "own-key".to_owned(),
            binding_key: None,
        })
    }
}

struct Keys;

impl PublicKeys for Keys {
    fn jwks(&self) -> Bytes {
        Bytes::from_static(b"{\"keys\":[]}")
    }

    fn algorithms(&self) -> Vec<&'static str> {
        vec!["ES256"]
    }
}

struct Authority;

#[async_trait]
impl Pki for Authority {
    fn ca_pem(&self) -> String {
        "-----BEGIN CERTIFICATE-----\n".to_owned()
    }

    async fn crl(&self, key_id: Option<&str>) -> Result<Option<Published>, ServiceError> {
        let known = key_id.is_none_or(|key_id| key_id == "the-key");
        Ok(known.then(|| Published { bytes: Bytes::from_static(&[0x30]), etag: "\"crl\"".to_owned() }))
    }
}

/// There is a list 7.
struct Lists;

#[async_trait]
impl StatusLists for Lists {
    async fn list(&self, number: u64) -> Result<Option<Published>, ServiceError> {
        Ok((number == 7).then(|| Published { bytes: Bytes::from_static(b"a.b.c"), etag: "\"seven\"".to_owned() }))
    }
}

pub(crate) struct Ready(pub(crate) bool);

#[async_trait]
impl Readiness for Ready {
    async fn report(&self) -> Vec<Part> {
        let detail = (!self.0).then(|| "it is read-only".to_owned());
        let status = if self.0 { Condition::Ok } else { Condition::Unready };
        vec![Part { status, detail, ..Part::ok("store") }]
    }
}

/// The members of an object, sorted.
pub(crate) fn members(value: &Value) -> Vec<&str> {
    let members: BTreeMap<&str, ()> = value.as_object().unwrap().keys().map(|name| (name.as_str(), ())).collect();
    members.into_keys().collect()
}
