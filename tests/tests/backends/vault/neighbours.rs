//! What OpenBao itself asks others for: a RabbitMQ server's users, a Kubernetes cluster's tokens, and whether a token of a
//! pod is good. OpenBao is real; those others answer here as their interfaces are documented: of RabbitMQ's management
//! API `PUT` and `DELETE /api/users/{name}` and `PUT /api/permissions/{vhost}/{name}`, of Kubernetes's `TokenRequest` and
//! `TokenReview`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::config::backend::vault::{Login, SecretSource};
use hallpass_core::credential::CredentialMaterial;
use hallpass_core::port::{CredentialBackend as _, IssueError, Undone};
use hallpass_core::time::Ttl;
use hallpass_tests::openbao::{OpenBao, authority};
use hallpass_tests::{eventually, unix_now};
use serde_json::{Value, json};

use super::{INSTANCE, Lab, POLICY, mint, order, token_role};

/// One of them.
struct Neighbour {
    origin: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// Users of RabbitMQ.
    users: BTreeSet<String>,
    /// Bodies of what was asked for.
    asked: Vec<(String, Value)>,
    /// Whether it answers with an error.
    is_unwell: bool,
}

impl Neighbour {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let heard = Arc::clone(&state);
        let answer = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).ok().or_else(|| token_request(&body)).unwrap_or(Value::Null);
            std::future::ready(heard.lock().unwrap().answer(&method, uri.path(), &headers, body))
        };
        let app = axum::Router::new().fallback(answer);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { origin, state, task }
    }

    fn users(&self) -> usize {
        self.state.lock().unwrap().users.len()
    }

    fn unwell(&self, is_unwell: bool) {
        self.state.lock().unwrap().is_unwell = is_unwell;
    }

    fn asked(&self, what: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(asked, _)| asked == what).map(|(_, body)| body.clone()).collect()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, headers: &HeaderMap, body: Value) -> Response {
        self.asked.push((format!("{method} {path}"), body.clone()));
        if self.is_unwell {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            // RabbitMQ knows its administrator by Basic.
            (_, ["api", "users" | "permissions", ..]) if !shown.starts_with("Basic ") => {
                StatusCode::UNAUTHORIZED.into_response()
            }
            ("PUT", ["api", "users", name]) => {
                self.users.insert((*name).to_owned());
                StatusCode::CREATED.into_response()
            }
            ("PUT", ["api", "permissions", _, name]) if self.users.contains(*name) => {
                StatusCode::CREATED.into_response()
            }
            ("DELETE", ["api", "users", name]) if self.users.remove(*name) => StatusCode::NO_CONTENT.into_response(),
            ("POST", ["api", "v1", "namespaces", "app", "serviceaccounts", "deployer", "token"]) => {
                let seconds = body["spec"]["expirationSeconds"].as_i64().unwrap_or(3_600);
                let ends_at = unix_now() + seconds;
                let token = unsigned(&json!({"exp": ends_at, "sub": "system:serviceaccount:app:deployer"}));
                let status = json!({"token": token, "expirationTimestamp": rfc3339(ends_at)});
                let kind =
                    json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": body["spec"]});
                let mut answer = kind;
                answer["status"] = status;
                (StatusCode::CREATED, Json(answer)).into_response()
            }
            ("POST", ["apis", "authentication.k8s.io", "v1", "tokenreviews"]) => {
                let is_good = body["spec"]["token"].as_str().is_some_and(|token| token.ends_with(".good"));
                let user = json!({"username": "system:serviceaccount:hallpass:broker", "uid": "4f2c", "groups": []});
                let status = if is_good {
                    json!({"authenticated": true, "user": user})
                } else {
                    json!({"authenticated": false})
                };
                let kind = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status});
                (StatusCode::CREATED, Json(kind)).into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// A `TokenRequest` as OpenBao writes it, in Kubernetes's protobuf
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>): of the spec, the audiences (1) and
/// the seconds (4).
fn token_request(body: &[u8]) -> Option<Value> {
    let within =
        |message: &[u8]| fields(message).into_iter().find(|(number, ..)| *number == 2).map(|(_, bytes, _)| bytes);
    let spec = fields(&within(&within(body.strip_prefix(b"k8s\0")?)?)?);
    let audiences = spec.iter().filter(|(number, ..)| *number == 1);
    let audiences: Vec<_> = audiences.map(|(_, text, _)| String::from_utf8_lossy(text).into_owned()).collect();
    let seconds = spec.iter().find(|(number, ..)| *number == 4).map(|(.., seconds)| *seconds);
    Some(json!({"spec": {"audiences": audiences, "expirationSeconds": seconds}}))
}

/// The fields of a message: the number of each, and its bytes or its whole number.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        let value = varint(&mut message);
        let bytes = if tag & 7 == 2 { message.split_off(..usize::try_from(value).unwrap()).unwrap() } else { &[] };
        fields.push((tag >> 3, bytes.to_vec(), value));
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *message.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn rfc3339(seconds: i64) -> String {
    hallpass_core::time::Timestamp::from_secs(seconds).to_rfc3339()
}

/// A token that nobody but the cluster verifies.
fn unsigned(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "RS256", "typ": "JWT"})), part(claims))
}

/// Lets the token role give this policy, too, which says this.
async fn allow(server: &OpenBao, name: &str, policy: &str) {
    server.write(&format!("sys/policies/acl/{name}"), &json!({"policy": policy})).await;
    let mut role = token_role();
    role["allowed_policies"] = json!(format!("app,db,{name}"));
    server.write("auth/token/roles/hallpass", &role).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_rabbitmq_is_gone_there_when_it_is_said_to_be() {
    let Some(lab) = Lab::open().await else { return };
    let queue = Neighbour::start().await;
    lab.server.mount("rabbitmq", "rabbitmq").await;
    let connection =
        json!({"connection_uri": queue.origin, "username": "bao", "password": "bao", "verify_connection": false});
    lab.server.write("rabbitmq/config/connection", &connection).await;
    let may = json!({"/": {"configure": "", "write": ".*", "read": ".*"}}).to_string();
    lab.server.write("rabbitmq/roles/app", &json!({"vhosts": may})).await;
    allow(&lab.server, "mq", "path \"rabbitmq/creds/app\" { capabilities = [\"read\"] }").await;
    let parameters = json!({"policies": ["mq"], "path": "rabbitmq/creds/app"});
    let (issued, handle) = lab.mint(&lab.order(1, parameters.clone())).await.unwrap();
    let (_, neighbour) = lab.mint(&lab.order(2, parameters.clone())).await.unwrap();
    assert!(!format!("{:?}", issued.material).contains("password\": \""), "it does not print");
    assert_eq!(queue.users(), 2);
    queue.unwell(true);
    for _ in 0..2 {
        let refused = lab.backend.revoke(&handle).await;
        assert!(refused.is_err(), "RabbitMQ has not heard of it: {refused:?}");
    }
    queue.unwell(false);
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert_eq!(queue.users(), 1, "and its neighbour's stays");
    // An answer that nobody heard: by the accessor alone.
    let lost = lab.order(3, parameters);
    let planned = lab.backend.plan(&lost).unwrap();
    let prepared = lab.backend.prepare(&lost, &planned).await.unwrap().unwrap();
    lab.backend.issue(&lost, &prepared).await.unwrap();
    assert_eq!(queue.users(), 2);
    assert_eq!(lab.backend.revoke(&prepared).await, Ok(Undone::Gone));
    assert_eq!(lab.backend.revoke(&neighbour).await, Ok(Undone::Gone));
    assert_eq!(queue.users(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_cluster_lives_no_longer_than_its_grant_and_has_the_roles_audiences() {
    let Some(lab) = Lab::open().await else { return };
    let cluster = Neighbour::start().await;
    lab.server.mount("kubernetes", "kubernetes").await;
    let known =
        json!({"kubernetes_host": cluster.origin, "service_account_jwt": "x.y.z", "disable_local_ca_jwt": true});
    lab.server.write("kubernetes/config", &known).await;
    let role =
        json!({"allowed_kubernetes_namespaces": ["app"], "service_account_name": "deployer", "token_max_ttl": "1h"});
    lab.server.write("kubernetes/roles/app", &role).await;
    allow(&lab.server, "k8s", "path \"kubernetes/creds/app\" { capabilities = [\"update\"] }").await;
    let parameters = json!({
        "policies": ["k8s"], "path": "kubernetes/creds/app", "server": "https://k8s.example",
        "data": {"kubernetes_namespace": "app", "audiences": ["https://app.example", "https://other.example"]},
    });
    let order = order(1, parameters, lab.clock.now(), Ttl::from_mins(20));
    let (issued, handle) = lab.mint(&order).await.unwrap();
    let CredentialMaterial::Kubernetes { token, server, .. } = &issued.material else { panic!("a token") };
    assert!(token.expose().split('.').count() == 3 && server.as_deref() == Some("https://k8s.example"));
    let asked = cluster.asked("POST /api/v1/namespaces/app/serviceaccounts/deployer/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["spec"]["audiences"], json!(["https://app.example", "https://other.example"]));
    let seconds = asked[0]["spec"]["expirationSeconds"].as_i64().unwrap();
    assert!((1_180..1_200).contains(&seconds), "what is left of it: {seconds}");
    assert!(issued.expires_at <= order.expires_at);
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::OnlyTime), "nothing but time ends it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_its_pod_lets_the_broker_in_where_the_cluster_says_that_it_is_good() {
    let Some(lab) = Lab::open().await else { return };
    let cluster = Neighbour::start().await;
    lab.server.write("sys/policies/acl/hallpass", &json!({"policy": POLICY})).await;
    lab.server.write("sys/auth/kubernetes", &json!({"type": "kubernetes"})).await;
    let known = json!({"kubernetes_host": cluster.origin, "token_reviewer_jwt": "x.y.z", "kubernetes_ca_cert": authority("cluster").pem()});
    lab.server.write("auth/kubernetes/config", &known).await;
    let role = json!({
        "bound_service_account_names": "broker", "bound_service_account_namespaces": "hallpass",
        "token_policies": ["hallpass"], "token_no_default_policy": true, "token_ttl": "1h",
    });
    lab.server.write("auth/kubernetes/role/hallpass", &role).await;
    let whose = json!({"namespace": "hallpass", "serviceaccount": {"name": "broker", "uid": "4f2c"}});
    let claims = json!({"iat": unix_now() - 10, "exp": unix_now() + 600, "sub": "system:serviceaccount:hallpass:broker", "kubernetes.io": whose});
    let token = unsigned(&claims);
    let (head, _) = token.rsplit_once('.').unwrap();
    let file = lab.folder.path().join("pod");
    let login =
        Login::Kubernetes { mount: "kubernetes".to_owned(), role: "hallpass".to_owned(), token_file: file.clone() };
    let backend = lab.another("vault", INSTANCE, |settings| settings.login = login);
    std::fs::write(&file, format!("{head}.forged")).unwrap();
    let refused = mint(&backend, &lab.order(1, json!({"policies": ["app"]}))).await.unwrap_err();
    assert!(!matches!(refused, IssueError::OutcomeUnknown { .. }), "{refused}");
    assert!(!refused.to_string().contains("forged"), "{refused}");
    // The kubelet writes a new one; it is read each time. After a failure the broker pauses before it tries again.
    std::fs::write(&file, format!("{head}.good")).unwrap();
    let order = lab.order(2, json!({"policies": ["app"]}));
    let (issued, handle) =
        eventually("it is let in", Duration::from_secs(20), async || mint(&backend, &order).await.ok()).await;
    assert_eq!(lab.get(super::token(&issued), "secret/app").await.0, 200);
    assert_eq!(backend.revoke(&handle).await, Ok(Undone::Gone));
    let reviewed = cluster.asked("POST /apis/authentication.k8s.io/v1/tokenreviews");
    assert!(reviewed.len() >= 2, "the cluster was asked: {reviewed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approle_by_the_environment_lets_the_broker_in() {
    let Some(lab) = Lab::open().await else { return };
    let given = |name: &str| std::env::var(name).expect("whoever runs tests gives it");
    lab.server.write("sys/policies/acl/hallpass", &json!({"policy": POLICY})).await;
    lab.server.write("sys/auth/approle", &json!({"type": "approle"})).await;
    let session = json!({"token_policies": ["hallpass"], "token_no_default_policy": true, "token_ttl": "1h"});
    lab.server.write("auth/approle/role/hallpass", &session).await;
    let role_id = json!({"role_id": given("CARGO_PKG_NAME")});
    lab.server.write("auth/approle/role/hallpass/role-id", &role_id).await;
    let secret_id = json!({"secret_id": given("CARGO_MANIFEST_DIR")});
    lab.server.write("auth/approle/role/hallpass/custom-secret-id", &secret_id).await;
    let by = |secret_id: &str| Login::Approle {
        mount: "approle".to_owned(),
        role_id: SecretSource::Env("CARGO_PKG_NAME".to_owned()),
        secret_id: SecretSource::Env(secret_id.to_owned()),
    };
    let backend = lab.another("vault", INSTANCE, |settings| settings.login = by("CARGO_MANIFEST_DIR"));
    mint(&backend, &lab.order(1, json!({"policies": ["app"]}))).await.unwrap();
    let without = lab.another("vault", INSTANCE, |settings| settings.login = by("HALLPASS_TESTS_NO_SUCH_VARIABLE"));
    let refused = mint(&without, &lab.order(2, json!({"policies": ["app"]}))).await.unwrap_err().to_string();
    assert!(refused.contains("HALLPASS_TESTS_NO_SUCH_VARIABLE"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_namespace_tokens_are_made_found_and_ended_there_and_nowhere_else() {
    let Some(lab) = Lab::open().await else { return };
    let server = &lab.server;
    server.write("sys/namespaces/team", &json!({})).await;
    server.write("team/sys/mounts/secret", &json!({"type": "kv", "options": {"version": "1"}})).await;
    server.write("team/secret/app", &json!({"flag": "the team's"})).await;
    let policy = "path \"secret/app\" { capabilities = [\"read\"] }";
    server.write("team/sys/policies/acl/app", &json!({"policy": policy})).await;
    server.write("team/sys/policies/acl/hallpass", &json!({"policy": POLICY})).await;
    server.write("team/auth/token/roles/hallpass", &token_role()).await;
    let session = json!({"policies": ["hallpass"], "no_default_policy": true});
    let session = server.write("team/auth/token/create", &session).await;
    let file = lab.folder.path().join("team");
    std::fs::write(&file, session["auth"]["client_token"].as_str().unwrap()).unwrap();
    let backend = lab.another("team", INSTANCE, |settings| {
        settings.namespace = Some("team".to_owned());
        settings.login = Login::TokenFile { token_file: file };
    });
    let parameters = json!({"policies": ["app"]});
    let (issued, handle) = mint(&backend, &lab.order(1, parameters.clone())).await.unwrap();
    let token = super::token(&issued);
    assert_eq!(lab.get(token, "team/secret/app").await.0, 200);
    assert_eq!(lab.get(token, "secret/app").await.0, 403, "it is of the namespace, and the root's secret is not its");
    // One whose making nobody heard of, and one outside under the same names.
    let lost = lab.order(2, parameters.clone());
    let planned = backend.plan(&lost).unwrap();
    backend.prepare(&lost, &planned).await.unwrap();
    let outside = lab.another("team", INSTANCE, |_| {});
    let (neighbour, _) = mint(&outside, &lab.order(2, parameters)).await.unwrap();
    let mine = async || {
        let items = backend.inventory().await.unwrap();
        items.into_iter().filter(|item| item.handle.is_some()).count()
    };
    assert_eq!(mine().await, 2);
    for handle in [&handle, &planned] {
        assert_eq!(backend.revoke(handle).await, Ok(Undone::Gone));
    }
    assert_eq!(mine().await, 0);
    assert_eq!(lab.get(token, "team/secret/app").await.0, 403);
    assert_eq!(lab.get(super::token(&neighbour), "secret/app").await.0, 200, "the root's own is none of it");
}
