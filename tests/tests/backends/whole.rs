//! The whole broker before clouds that answer as is documented: from the exchange to the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, Setup};
use hallpass_tests::contract::Contract;
use hallpass_tests::{Answer, Broker, Issuer, SigningKey, eventually};
use serde_json::{Value, json};

use crate::github::{self, Installation};
use crate::kubernetes::{self, Cluster};

const WORKLOAD: &str = "repo:acme@111/app@222:ref:refs/heads/main";

/// A broker whose workloads may have the roles `app/cluster` and `app/repository`.
struct House {
    cluster: Arc<Mutex<Cluster>>,
    installation: Arc<Mutex<Installation>>,
    /// They answer for as long as they are held.
    contracts: [Contract; 2],
    issuer: Issuer,
    key: SigningKey,
    broker: Broker,
}

impl House {
    async fn open() -> Self {
        let cluster = Arc::new(Mutex::new(Cluster::in_real_time()));
        let installation = Arc::new(Mutex::new(Installation::in_real_time()));
        let (serving, selling) = (Arc::clone(&cluster), Arc::clone(&installation));
        let server =
            Contract::start("kubernetes", move |name, texts| serving.lock().unwrap().answer(name, texts)).await;
        let hub = Contract::start("github", move |name, texts| selling.lock().unwrap().answer(name, texts)).await;
        let app_key = hub.folder().join("app.pem");
        std::fs::write(&app_key, github::key()).unwrap();
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let setup = Setup::trusting(&[("ci", &issuer)])
            .backend(json!({
                "name": "cluster", "kind": "kubernetes", "server": server.origin, "ca_file": server.authorities(),
                "namespaces": ["payments"], "login": {"method": "jwt", "audience": "prod-eu"},
            }))
            .backend(json!({
                "name": "hub", "kind": "github", "api_url": hub.origin, "ca_file": hub.authorities(),
                "app_id": "Iv23liABCDEF", "installation_id": 42, "private_key": {"file": app_key},
            }))
            .role("app/cluster", "cluster", "kubernetes", kubernetes::parameters())
            .role("app/repository", "hub", "github", github::parameters());
        let broker = Broker::start(&setup).await;
        Self { cluster, installation, contracts: [server, hub], issuer, key, broker }
    }

    fn proof(&self) -> String {
        self.key.sign(&self.issuer.claims(AUDIENCE, WORKLOAD))
    }

    async fn ask(&self, role: &str) -> Answer {
        let body = json!({"role": role, "purpose": "deploy 4f2c to prod"});
        self.broker.call("POST", "/v1/grants", Some(&self.proof()), Some(&body)).await
    }

    async fn grant(&self, id: &str) -> Value {
        self.broker.call("GET", &format!("/v1/grants/{id}"), Some(&self.proof()), None).await.body
    }

    async fn revoke(&self, id: &str) {
        self.broker.call("DELETE", &format!("/v1/grants/{id}"), Some(&self.proof()), None).await;
        eventually("the grant is revoked", Duration::from_secs(20), async || {
            (self.grant(id).await["state"] == "revoked").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_got_and_are_gone_when_their_grants_are_revoked_and_show_nowhere() {
    let house = House::open().await;
    let mut tokens = Vec::new();
    for (role, kind) in [("app/cluster", "kubernetes"), ("app/repository", "github")] {
        let answer = house.ask(role).await;
        answer.assert_status(201);
        assert_eq!(answer.body["credential"]["type"], kind);
        assert_eq!(answer.body["grant"]["revocation"]["class"], "hard");
        tokens.push(answer.body["credential"]["token"].as_str().unwrap().to_owned());
        let id = answer.body["grant"]["id"].as_str().unwrap().to_owned();
        let there = house.cluster.lock().unwrap().secrets.len() + house.installation.lock().unwrap().tokens.len();
        assert_eq!(there, 1, "{role}");
        house.revoke(&id).await;
        let there = house.cluster.lock().unwrap().secrets.len() + house.installation.lock().unwrap().tokens.len();
        assert_eq!(there, 0, "{role}");
    }
    let output = house.broker.output();
    assert!(output.contains("listening") || !output.is_empty(), "there is a log to look into");
    for token in tokens {
        assert!(!output.contains(&token), "a token is in the log");
    }
    assert!(house.contracts.iter().all(|contract| !contract.asked().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_nobody_can_name_leaves_its_grant_revoking_and_never_revoked() {
    let house = House::open().await;
    house.installation.lock().unwrap().loses_token = true;
    house.ask("app/repository").await.assert_status(504);
    assert_eq!(house.installation.lock().unwrap().tokens.len(), 1, "it works for an hour");
    let listed = eventually("it was tried to undo it", Duration::from_secs(20), async || {
        let listed = house.broker.call("GET", "/v1/grants?role=app/repository", Some(&house.proof()), None).await.body;
        let grant = listed["items"].as_array()?.first()?.clone();
        (grant["revocation"]["attempts"].as_u64()? > 0).then_some(grant)
    })
    .await;
    assert_eq!(listed["state"], "revoking", "{listed}");
    assert!(listed["revocation"]["last_error"].as_str().unwrap().contains("time does"), "{listed}");
}
