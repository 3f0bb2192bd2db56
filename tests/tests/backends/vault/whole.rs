//! The whole broker before OpenBao, which trusts it as an issuer: no key of Vault's lies at the broker.

use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, Setup};
use hallpass_tests::openbao::OpenBao;
use hallpass_tests::{Answer, Broker, Issuer, SigningKey, eventually};
use serde_json::{Value, json};

use super::{POLICY, set_up};

/// What the broker's own token is for.
const AT_VAULT: &str = "https://vault.test";
const WORKLOAD: &str = "repo:acme@111/app@222:ref:refs/heads/main";

/// A broker, whose workloads may have the role `app/vault`, and the OpenBao that trusts it.
struct House {
    server: OpenBao,
    issuer: Issuer,
    key: SigningKey,
    broker: Broker,
}

impl House {
    async fn open(environment: &[(&str, &str)]) -> Option<Self> {
        let server = OpenBao::start().await?;
        set_up(&server).await;
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let backend = json!({
            "name": "vault",
            "kind": "vault",
            "addresses": [server.url()],
            "login": {"method": "jwt", "role": "hallpass", "audience": AT_VAULT},
        });
        let setup = Setup::trusting(&[("ci", &issuer)]).backend(backend).role(
            "app/vault",
            "vault",
            "vault",
            json!({"policies": ["app"]}),
        );
        let broker = Broker::start_with(&setup, environment).await;
        // The server fetches the broker's keys when it is told of them.
        trust(&server, &broker.url(), "hallpass:broker:vault").await;
        let house = Self { server, issuer, key, broker };
        house.is_looked_after().await;
        Some(house)
    }

    /// Awaits that the broker has a session.
    async fn is_looked_after(&self) {
        eventually("the broker has logged in", Duration::from_secs(20), async || {
            let ready = self.broker.operations("/readyz").await;
            (ready.status == 200 && !ready.text.contains("looked after")).then_some(())
        })
        .await;
    }

    /// A fresh proof of the workload.
    fn proof(&self) -> String {
        self.key.sign(&self.issuer.claims(AUDIENCE, WORKLOAD))
    }

    async fn ask(&self) -> Answer {
        let proof = self.proof();
        let body = json!({"role": "app/vault", "purpose": "deploy 4f2c to prod"});
        self.broker.call("POST", "/v1/grants", Some(&proof), Some(&body)).await
    }

    async fn grant(&self, id: &str) -> Value {
        self.broker.call("GET", &format!("/v1/grants/{id}"), Some(&self.proof()), None).await.body
    }
}

/// Has the server take the broker's own tokens, and these alone.
async fn trust(server: &OpenBao, issuer: &str, subject: &str) {
    server.write("sys/policies/acl/hallpass", &json!({"policy": POLICY})).await;
    server.write("sys/auth/jwt", &json!({"type": "jwt"})).await;
    let keys = json!({"jwks_url": format!("{issuer}/.well-known/jwks.json"), "bound_issuer": issuer});
    server.write("auth/jwt/config", &keys).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_subject": subject, "bound_audiences": [AT_VAULT],
        "token_policies": ["hallpass"], "token_no_default_policy": true, "token_ttl": "10m",
    });
    server.write("auth/jwt/role/hallpass", &role).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_gets_a_token_that_is_dead_when_its_grant_is_revoked() {
    let Some(house) = House::open(&[]).await else { return };
    let answer = house.ask().await;
    answer.assert_status(201);
    let body = &answer.body;
    let (id, credential) = (body["grant"]["id"].as_str().unwrap().to_owned(), &body["credential"]);
    assert_eq!(credential["type"], "vault_token");
    assert_eq!(body["grant"]["revocation"]["class"], "hard");
    let token = credential["token"].as_str().unwrap().to_owned();
    assert_eq!(house.server.get_as(&token, "secret/app").await.0, 200);
    house.broker.call("DELETE", &format!("/v1/grants/{id}"), Some(&house.proof()), None).await;
    eventually("the grant is revoked", Duration::from_secs(20), async || {
        (house.grant(&id).await["state"] == "revoked").then_some(())
    })
    .await;
    assert_eq!(house.server.get_as(&token, "secret/app").await.0, 403);
}
