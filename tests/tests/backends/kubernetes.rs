//! Kubernetes, by what its documentation records: there is no API server here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::backend::kubernetes::KubernetesBackend;
use hallpass_broker::config::backend::kubernetes::{Kubernetes, KubernetesLogin};
use hallpass_core::credential::{CredentialMaterial, Handle, IssueOrder};
use hallpass_core::port::{Belongs, CredentialBackend, IssueError, ItemKind, RevokeError, SignatureAlgorithm, Undone};
use hallpass_core::testing::{MockClock, backend_suite, sample};
use hallpass_core::time::{Timestamp, Ttl};
use hallpass_tests::contract::{Contract, Texts, Turn};
use hallpass_tests::unix_now;
use serde_json::{Value, json};

use crate::clouds::{self, INSTANCE, kind_of};

/// How many Secrets of a page.
const PAGE: usize = 2;

/// The Secrets of a cluster, and what is to go wrong.
#[derive(Default)]
pub(crate) struct Cluster {
    made: usize,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// The answer to the next request of this exchange is lost, after it had its effect.
    loses: Option<&'static str>,
    /// Somebody's finalizer holds what is deleted.
    holds_deleted: bool,
    /// Tokens live for so much longer than is told.
    lengthens: i64,
    /// Secrets are so huge that more of them at once are more than anybody reads.
    most_at_once: Option<usize>,
    /// When it is, if not the instant at which sample time stands.
    now: Option<fn() -> i64>,
}

pub(crate) struct Secret {
    uid: String,
    mark: String,
    grant: String,
}

impl Cluster {
    /// One whose clock goes.
    pub(crate) fn in_real_time() -> Self {
        Self { now: Some(unix_now), ..Self::default() }
    }

    pub(crate) fn answer(&mut self, exchange: &str, texts: &mut Texts) -> Turn {
        let response = self.respond(exchange, texts);
        if self.loses == Some(exchange) {
            self.loses = None;
            return Turn::Lost;
        }
        Turn::Response(response.to_owned())
    }

    fn respond(&mut self, exchange: &str, texts: &mut Texts) -> &'static str {
        match exchange {
            "secret-create" => {
                let name = format!("hallpass-{}", texts["grant"]);
                if self.secrets.contains_key(&name) {
                    return "secret-create-409";
                }
                self.made += 1;
                let uid = format!("5a9b0a2e-0000-4000-8000-{:012}", self.made);
                texts.insert("uid".to_owned(), uid.clone());
                self.put(&name, &uid, &texts["mark"], &texts["grant"]);
                "secret-create"
            }
            "token-request" => {
                if self.secrets.get(&texts["name"]).is_none_or(|secret| secret.uid != texts["uid"]) {
                    return "token-request-409";
                }
                let now = self.now.map_or(sample::NOW.as_secs(), |now| now());
                let ends_at = now + texts["seconds"].parse::<i64>().unwrap();
                let claims =
                    json!({"exp": ends_at + self.lengthens, "kubernetes.io": {"secret": {"uid": texts["uid"]}}});
                let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
                texts.insert("token".to_owned(), token);
                texts.insert("expires_at".to_owned(), Timestamp::from_secs(ends_at).to_rfc3339());
                "token-request"
            }
            "secret-delete" => match self.secrets.get(&texts["name"]) {
                None => "secret-delete-404",
                Some(secret) if secret.uid != texts["uid"] => "secret-delete-409",
                Some(_) => {
                    if !self.holds_deleted {
                        self.secrets.remove(&texts["name"]);
                    }
                    "secret-delete"
                }
            },
            "secret-get" => match self.secrets.get(&texts["name"]) {
                None => "secret-get-404",
                Some(Secret { uid, mark, grant }) => {
                    for (name, text) in [("uid", uid), ("mark", mark), ("grant", grant)] {
                        texts.insert(name.to_owned(), text.clone());
                    }
                    "secret-get"
                }
            },
            "secret-list" | "secret-list-continued" => {
                let begin: usize = texts.get("continue").map_or(0, |at| at.trim_start_matches("at-").parse().unwrap());
                let items: Vec<Value> =
                    self.secrets.iter().skip(begin).take(PAGE).map(|(name, secret)| item(name, secret)).collect();
                self.pad(texts);
                let (end, last) = (begin + items.len(), begin + items.len() >= self.secrets.len());
                texts.insert("items".to_owned(), Value::from(items).to_string());
                texts.insert("next".to_owned(), if last { String::new() } else { format!("at-{end}") });
                // What has further pages is recorded with the first request only.
                if exchange == "secret-list" || !last { "secret-list" } else { "secret-list-continued" }
            }
            "token-secret-list" => {
                self.pad(texts);
                "token-secret-list"
            }
            other => panic!("nobody answers {other}"),
        }
    }

    fn pad(&self, texts: &mut Texts) {
        let asked: usize = texts["limit"].parse().unwrap();
        let is_huge = self.most_at_once.is_some_and(|most| asked > most);
        texts.insert("padding".to_owned(), "x".repeat(if is_huge { 3 << 20 } else { 0 }));
    }

    fn put(&mut self, name: &str, uid: &str, mark: &str, grant: &str) {
        let (uid, mark, grant) = (uid.to_owned(), mark.to_owned(), grant.to_owned());
        self.secrets.insert(name.to_owned(), Secret { uid, mark, grant });
    }
}

fn item(name: &str, secret: &Secret) -> Value {
    json!({"metadata": {"name": name, "uid": secret.uid, "labels": {"hallpass/instance": secret.mark},
        "annotations": {"hallpass/grant": secret.grant}}})
}

struct Lab {
    contract: Contract,
    cluster: Arc<Mutex<Cluster>>,
    clock: Arc<MockClock>,
    backend: KubernetesBackend,
}

pub(crate) fn parameters() -> Value {
    json!({"namespace": "payments", "service_account": "deployer", "audiences": ["https://kubernetes.default.svc"]})
}

impl Lab {
    async fn open() -> Self {
        let cluster = Arc::new(Mutex::new(Cluster::default()));
        let serving = Arc::clone(&cluster);
        let contract =
            Contract::start("kubernetes", move |exchange, texts| serving.lock().unwrap().answer(exchange, texts)).await;
        let clock = clouds::clock();
        let login = KubernetesLogin::Jwt { audience: "prod-eu".to_owned(), algorithm: SignatureAlgorithm::Es256 };
        let backend = backend(&contract, login, &clock);
        Self { contract, cluster, clock, backend }
    }

    fn order(&self, n: u64) -> IssueOrder {
        clouds::order(n, parameters(), Ttl::from_mins(30))
    }

    fn cluster(&self) -> std::sync::MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }
}

fn backend(contract: &Contract, login: KubernetesLogin, clock: &Arc<MockClock>) -> KubernetesBackend {
    let settings = Kubernetes {
        server: contract.origin.parse().unwrap(),
        ca_file: Some(contract.authorities()),
        namespaces: vec!["payments".to_owned()],
        login,
        advertise: true,
        timeout: Ttl::from_secs(5),
    };
    let (outbound, identity) = (clouds::outbound(contract), clouds::identity("prod-eu", clock));
    let authorities = std::fs::read_to_string(contract.authorities()).unwrap();
    KubernetesBackend::new(
        clouds::name("prod-eu"),
        INSTANCE,
        settings,
        Some(authorities),
        outbound,
        identity,
        Arc::clone(clock) as _,
    )
}

#[tokio::test]
async fn it_keeps_what_every_backend_keeps() {
    let lab = Lab::open().await;
    let order: backend_suite::Order<'_> =
        Box::new(|n, issued_at, expires_at| clouds::lasting(n, parameters(), issued_at, expires_at));
    backend_suite::all(&backend_suite::Minter { backend: &lab.backend, order, now: sample::NOW }).await;
}

#[tokio::test]
async fn a_token_is_bound_to_a_secret_of_its_grant_alone_and_ends_with_it() {
    let lab = Lab::open().await;
    let order = lab.order(1);
    let (issued, handle) = clouds::mint(&lab.backend, &order).await.unwrap();
    let CredentialMaterial::Kubernetes { token, server, ca } = issued.material else { panic!("of kind kubernetes") };
    assert_eq!(server.as_deref(), Some(lab.contract.origin.as_str()));
    assert!(ca.unwrap().contains("BEGIN CERTIFICATE"));
    assert_eq!(issued.expires_at, sample::NOW.plus(Ttl::from_secs(30 * 60 - 2)), "less what the call may take");
    let asked = lab.contract.asked();
    let names: Vec<_> = asked.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["secret-create", "token-request"]);
    let (created, requested) = (&asked[0].1, &asked[1].1);
    assert_eq!(created["grant"], order.grant.to_string());
    assert_eq!(created["broker"], INSTANCE);
    assert_eq!((created["owner"].as_str(), created["role"].as_str()), ("payments", "payments/prod/deploy"));
    assert_eq!(requested["name"], format!("hallpass-{}", order.grant));
    assert_eq!((requested["account"].as_str(), requested["namespace"].as_str()), ("deployer", "payments"));
    assert!(token.expose().contains('.'));

    let bearer = created["bearer"].split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(bearer).unwrap()).unwrap();
    assert_eq!((claims["sub"].as_str(), claims["aud"].as_str()), (Some("hallpass:broker:prod-eu"), Some("prod-eu")));

    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert!(lab.cluster().secrets.is_empty());
    assert_eq!(lab.contract.times("secret-delete"), 1);
    assert_eq!(lab.contract.times("secret-get"), 1, "that it is gone is looked at");
}

#[tokio::test]
async fn every_documented_error_means_what_it_says_and_tells_nothing_of_the_cluster() {
    let lab = Lab::open().await;
    let expected = |name: &str| match name.rsplit('-').next().unwrap() {
        "401" | "403" | "404" | "422" => "refused",
        "429" => "unavailable",
        _ => "unknown",
    };
    let mut tried = 0;
    for exchange in ["secret-create", "token-request"] {
        for error in lab.contract.errors_of(exchange) {
            lab.contract.next(exchange, &error);
            let failed = clouds::mint(&lab.backend, &lab.order(100 + tried)).await.unwrap_err();
            assert_eq!(kind_of(&failed), expected(&error), "{error}: {failed}");
            if let IssueError::Refused { detail, .. } = &failed {
                assert!(
                    !detail.contains("system:serviceaccount") && detail.contains("API server"),
                    "{error}: {detail}"
                );
                clouds::told_apart(&failed, &lab.contract.recorded(&error));
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 20, "as many as are recorded");
}

#[tokio::test]
async fn undoing_fails_until_the_secret_is_surely_not_there() {
    let lab = Lab::open().await;
    let (_, handle) = clouds::mint(&lab.backend, &lab.order(1)).await.unwrap();
    for (exchange, error) in [
        ("secret-delete", "secret-delete-403"),
        ("secret-delete", "secret-delete-500"),
        ("secret-get", "secret-get-500"),
    ] {
        lab.contract.next(exchange, error);
        lab.cluster().holds_deleted = true;
        let failed = lab.backend.revoke(&handle).await.unwrap_err();
        assert!(failed.internal.contains(error.rsplit('-').next().unwrap()), "{failed}");
    }
    let RevokeError { internal } = lab.backend.revoke(&handle).await.unwrap_err();
    assert!(internal.contains("still there"), "that the deletion was taken is not enough: {internal}");
    lab.cluster().holds_deleted = false;
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
}

#[tokio::test]
async fn what_a_lost_answer_left_behind_is_found_by_the_planned_handle() {
    let lab = Lab::open().await;
    for (n, exchange) in [(1, "secret-create"), (2, "token-request")] {
        let order = lab.order(n);
        lab.cluster().loses = Some(exchange);
        let failed = clouds::mint(&lab.backend, &order).await.unwrap_err();
        assert_eq!(kind_of(&failed), "unknown", "{failed}");
        assert_eq!(lab.cluster().secrets.len(), 1);
        let planned = lab.backend.plan(&order).unwrap();
        assert_eq!(lab.backend.revoke(&planned).await, Ok(Undone::Gone));
        assert!(lab.cluster().secrets.is_empty(), "{exchange}");
    }
}

#[tokio::test]
async fn a_secret_of_somebody_else_under_the_same_name_is_left_alone() {
    let lab = Lab::open().await;
    let order = lab.order(1);
    let (_, handle) = clouds::mint(&lab.backend, &order).await.unwrap();
    let name = format!("hallpass-{}", order.grant);
    let mark = lab.cluster().secrets[&name].mark.clone();
    lab.cluster().put(&name, "another-uid", &mark, "somebody");
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone), "ours is not there");
    lab.cluster().put(&name, "another-uid", "another-mark", "somebody");
    assert_eq!(lab.backend.revoke(&lab.backend.plan(&order).unwrap()).await, Ok(Undone::Gone));
    assert_eq!(lab.cluster().secrets[&name].uid, "another-uid");
}

#[tokio::test]
async fn a_life_that_the_api_server_lengthens_is_told_as_it_is() {
    let lab = Lab::open().await;
    lab.cluster().lengthens = 365 * 24 * 3600;
    let order = lab.order(1);
    let (issued, _) = clouds::mint(&lab.backend, &order).await.unwrap();
    assert!(issued.expires_at > order.expires_at, "and so it is not handed out: {}", issued.expires_at);
}

#[tokio::test]
async fn less_than_ten_minutes_is_refused_before_anything_is_made() {
    let lab = Lab::open().await;
    let failed = clouds::mint(&lab.backend, &clouds::order(1, parameters(), Ttl::from_secs(601))).await.unwrap_err();
    assert!(matches!(&failed, IssueError::Refused { detail, .. } if detail.contains("ten minutes")), "{failed}");
    assert!(lab.contract.asked().is_empty());
}

#[tokio::test]
async fn the_inventory_tells_ours_from_others_and_finds_other_doors() {
    let lab = Lab::open().await;
    let (one, two) = (lab.order(1), lab.order(2));
    clouds::mint(&lab.backend, &one).await.unwrap();
    let (_, handle) = clouds::mint(&lab.backend, &two).await.unwrap();
    lab.cluster().put("hallpass-of-another-broker", "uid-9", "another-mark", &one.grant.to_string());
    let items = lab.backend.inventory().await.unwrap();
    assert_eq!(lab.contract.times("secret-list-continued"), 1, "in pages");
    let belongs = |grant| items.iter().filter(|item| item.belongs == Belongs::ToGrant(grant)).count();
    assert_eq!((belongs(one.grant), belongs(two.grant)), (1, 1));
    let others: Vec<_> = items.iter().filter(|item| item.belongs == Belongs::ToOthers).collect();
    assert!(others.iter().all(|item| item.handle.is_none()), "nobody else's is undone");
    let told: Vec<_> = others.iter().map(|item| (item.kind, item.name.as_str())).collect();
    assert_eq!(
        told,
        [
            (ItemKind::Credential, "payments/secrets/hallpass-of-another-broker"),
            (ItemKind::Door, "payments/secrets/deployer-token of service account deployer"),
        ]
    );
    let found = items.iter().find(|item| item.belongs == Belongs::ToGrant(two.grant)).unwrap();
    assert_eq!(found.handle.as_ref(), Some(&handle), "what it takes to undo it");

    lab.contract.next("secret-list-continued", "secret-list-continued-410");
    let expired = lab.backend.inventory().await.unwrap_err();
    assert!(expired.internal.contains("410"), "half a list is none: {expired}");
}

#[tokio::test]
async fn huge_secrets_of_others_hide_no_token_from_the_inventory() {
    let lab = Lab::open().await;
    let order = lab.order(1);
    clouds::mint(&lab.backend, &order).await.unwrap();
    let seen = async || {
        let items = lab.backend.inventory().await.unwrap();
        let doors = items.iter().filter(|item| item.kind == ItemKind::Door).count();
        (items.iter().filter(|item| item.belongs == Belongs::ToGrant(order.grant)).count(), doors)
    };
    let limits = |lab: &Lab| lab.contract.asked().iter().filter_map(|(_, texts)| texts.get("limit").cloned()).collect();
    assert_eq!(seen().await, (1, 1));
    let before: Vec<String> = limits(&lab);
    assert_eq!(before, ["500", "500"], "one question each where nothing is huge");
    lab.cluster().most_at_once = Some(7);
    assert_eq!(seen().await, (1, 1));
    let after: Vec<String> = limits(&lab);
    assert_eq!(after[2..], ["500", "62", "7", "500", "62", "7"], "ever smaller pages");

    // Doors that cannot be listed at all keep nobody from what must be undone.
    lab.contract.next("token-secret-list", "token-secret-list-403");
    assert_eq!(seen().await, (1, 0));
}

#[tokio::test]
async fn a_token_shows_nowhere_but_in_its_credential() {
    let lab = Lab::open().await;
    lab.contract.next("token-request", "token-request-without-expiry");
    let failed = clouds::mint(&lab.backend, &lab.order(1)).await.unwrap_err();
    let printed = format!("{failed} {failed:?} {:?}", lab.backend);
    assert!(lab.contract.recorded("token-request-without-expiry").contains("canary"));
    assert!(!printed.contains("canary"), "{printed}");
}

#[tokio::test]
async fn a_token_file_is_read_for_each_call() {
    let lab = Lab::open().await;
    let file = lab.contract.folder().join("token");
    let backend = backend(&lab.contract, KubernetesLogin::TokenFile(file.clone()), &lab.clock);
    let failed = clouds::mint(&backend, &lab.order(1)).await.unwrap_err();
    assert_eq!(kind_of(&failed), "unavailable", "nothing was sent: {failed}");
    for (n, token) in [(2, "first"), (3, "second")] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        clouds::mint(&backend, &lab.order(n)).await.unwrap();
        assert_eq!(lab.contract.asked().last().unwrap().1["bearer"], token);
    }
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_made_nothing() {
    let lab = Lab::open().await;
    let order = lab.order(1);
    let planned: Handle = lab.backend.plan(&order).unwrap();
    let Lab { contract, backend, .. } = lab;
    drop(contract);
    let failed = backend.prepare(&order, &planned).await.unwrap_err();
    assert_eq!(kind_of(&failed), "unavailable", "{failed}");
}
