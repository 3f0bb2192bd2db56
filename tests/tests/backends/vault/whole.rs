//! The whole broker before OpenBao, which trusts it as an issuer: no key of Vault's lies at the broker.

use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, Setup};
use hallpass_tests::openbao::OpenBao;
use hallpass_tests::postgres::Postgres;
use hallpass_tests::{Answer, Broker, Exchange, Issuer, SigningKey, eventually};
use serde_json::{Value, json};

use super::databases::configure;
use super::{POLICY, set_up};

/// What the broker's own token is for.
const AT_VAULT: &str = "https://vault.test";
const WORKLOAD: &str = "repo:acme@111/app@222:ref:refs/heads/main";

/// A broker, whose workloads may have the roles `app/vault` and `app/database`, and the OpenBao that trusts it.
struct House {
    server: OpenBao,
    database: Option<Postgres>,
    issuer: Issuer,
    key: SigningKey,
    broker: Broker,
}

impl House {
    /// None where OpenBao is not installed.
    async fn open() -> Option<Self> {
        Self::with(OpenBao::start().await?, None).await
    }

    /// With a database. None where one of the two is not installed.
    async fn with_a_database() -> Option<Self> {
        let (database, server) = (Postgres::start().await?, OpenBao::start_over_tls().await?);
        configure(&server, &database).await;
        Self::with(server, Some(database)).await
    }

    async fn with(server: OpenBao, database: Option<Postgres>) -> Option<Self> {
        set_up(&server).await;
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let mut backend = json!({
            "name": "vault",
            "kind": "vault",
            "addresses": [server.url()],
            "login": {"method": "jwt", "role": "hallpass", "audience": AT_VAULT},
        });
        if server.is_over_tls() {
            backend["ca_file"] = json!("vault-ca.pem");
        }
        let port = database.as_ref().map_or(1, |database| database.address().port());
        let user = json!({
            "policies": ["db"], "path": "database/creds/app", "host": "127.0.0.1", "port": port, "database": "postgres",
        });
        let setup = Setup::trusting(&[("ci", &issuer)])
            .backend(backend)
            .role("app/vault", "vault", "vault", json!({"policies": ["app"]}))
            .role("app/database", "vault", "vault", user)
            // The token role does not let it have its policy: that is to keep no other role from anything.
            .role("app/hopeless", "vault", "vault", json!({"policies": ["none"], "path": "database/creds/app"}));
        let mut broker = Broker::prepare(&setup, &[]);
        if server.is_over_tls() {
            std::fs::write(broker.in_bundle("vault-ca.pem"), server.authority()).unwrap();
        }
        broker.restart().await;
        // The server fetches the broker's keys when it is told of them.
        trust(&server, &broker.url(), "hallpass:broker:vault").await;
        let house = Self { server, database, issuer, key, broker };
        house.is_let_in().await;
        Some(house)
    }

    /// Awaits that the broker is let in: it tried before the server knew it.
    async fn is_let_in(&self) {
        eventually("the broker is let in", Duration::from_secs(30), async || {
            (self.ask("app/vault").await.status == 201).then_some(())
        })
        .await;
    }

    /// A fresh proof of the workload.
    fn proof(&self) -> String {
        self.key.sign(&self.issuer.claims(AUDIENCE, WORKLOAD))
    }

    async fn ask(&self, role: &str) -> Answer {
        let body = json!({"role": role, "purpose": "deploy 4f2c to prod"});
        self.broker.call("POST", "/v1/grants", Some(&self.proof()), Some(&body)).await
    }

    /// A grant's id, and its credential.
    async fn open_grant(&self, role: &str) -> (String, Value) {
        let answer = self.ask(role).await;
        answer.assert_status(201);
        (answer.body["grant"]["id"].as_str().unwrap().to_owned(), answer.body["credential"].clone())
    }

    async fn end(&self, id: &str) {
        self.broker.call("DELETE", &format!("/v1/grants/{id}"), Some(&self.proof()), None).await;
    }

    async fn becomes(&self, id: &str, state: &str) {
        eventually("the grant is over", Duration::from_secs(30), async || {
            (self.grant(id).await["state"] == state).then_some(())
        })
        .await;
    }

    async fn logs_in(&self, credential: &Value) -> bool {
        let part = |name: &str| credential[name].as_str().unwrap().to_owned();
        let database = self.database.as_ref().unwrap();
        database.connect(&part("username"), &part("password"), &part("database")).await.is_ok()
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
    let Some(house) = House::open().await else { return };
    let (id, credential) = house.open_grant("app/vault").await;
    assert_eq!(credential["type"], "vault_token");
    assert_eq!(house.grant(&id).await["revocation"]["class"], "hard");
    let token = credential["token"].as_str().unwrap();
    assert_eq!(house.server.get_as(token, "secret/app").await.0, 200);
    house.end(&id).await;
    house.becomes(&id, "revoked").await;
    assert_eq!(house.server.get_as(token, "secret/app").await.0, 403);
    // As RFC 8693 has it, for what is no bearer token of HTTP's.
    let exchange = Exchange::of(&house.proof()).role("app/vault");
    let answer = house.broker.exchange(&exchange).await;
    answer.assert_status(200);
    assert_eq!(answer.body["token_type"], "N_A");
    assert_eq!(house.server.get_as(answer.credential(), "secret/app").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_user_comes_of_a_spare_and_is_gone_when_its_grant_is_over() {
    let Some(house) = House::with_a_database().await else { return };
    let spares = async || {
        let mut spares = 0;
        for accessor in house.server.accessors().await {
            let seen = house.server.write("auth/token/lookup-accessor", &json!({"accessor": accessor})).await;
            spares += usize::from(seen["data"]["meta"]["hallpass_spare"].is_string());
        }
        spares
    };
    eventually("spares are at hand", Duration::from_secs(20), async || (spares().await >= 2).then_some(())).await;
    let (id, credential) = house.open_grant("app/database").await;
    assert_eq!(credential["type"], "database");
    assert!(house.logs_in(&credential).await);
    house.end(&id).await;
    house.becomes(&id, "revoked").await;
    assert!(!house.logs_in(&credential).await);
    assert!(house.database.as_ref().unwrap().roles("v-%").await.is_empty(), "by what the database says");
}

// CASE REV-006, REV-018, BE-002
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_to_be_revoked_while_the_server_is_sealed_and_other_backends_go_on() {
    let Some(mut house) = House::with_a_database().await else { return };
    let (id, credential) = house.open_grant("app/database").await;
    house.server.write("sys/seal", &json!({})).await;
    house.end(&id).await;
    let told = eventually("the failure is told", Duration::from_secs(20), async || {
        let grant = house.grant(&id).await;
        grant["revocation"]["last_error"].as_str().map(str::to_owned)
    });
    assert!(told.await.contains("sealed"));
    assert_eq!(house.grant(&id).await["state"], "revoking");
    assert!(house.logs_in(&credential).await, "the control: it still works");
    let refused = house.ask("app/vault").await;
    refused.assert_status(503);
    assert!(!refused.text.contains("sealed"), "whoever asks learns that it does not answer: {}", refused.text);
    house.broker.exchange(&Exchange::of(&house.proof())).await.assert_status(200);

    // What was tried is remembered over a restart: the next try does not come as if it were the first.
    let tried = async |house: &House, least: i64| {
        eventually("it is tried again", Duration::from_secs(60), async || {
            let rows =
                house.broker.store().rows("SELECT attempts, retry_at FROM grants WHERE attempts IS NOT NULL", &[]);
            let row =
                rows.into_iter().find(|row| row["attempts"].as_i64().is_some_and(|attempts| attempts >= least))?;
            Some((row["attempts"].as_i64()?, row["retry_at"].as_i64()?))
        })
        .await
    };
    let (before, _) = tried(&house, 2).await;
    house.broker.kill9().await;
    house.broker.restart().await;
    let rows = house.broker.store().rows("SELECT attempts FROM grants WHERE attempts IS NOT NULL", &[]);
    let kept = rows[0]["attempts"].as_i64().unwrap_or_default();
    assert!(kept >= before, "{kept} tries after the restart, and {before} before it");
    assert!(tried(&house, before + 1).await.0 > before, "it goes on from there");
    assert_eq!(house.grant(&id).await["state"], "revoking");

    house.server.unseal().await;
    house.becomes(&id, "revoked").await;
    assert!(!house.logs_in(&credential).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_revision_keeps_the_session_where_the_backend_stays_the_same() {
    let Some(house) = House::open().await else { return };
    let sessions = async || {
        let mut sessions = Vec::new();
        for accessor in house.server.accessors().await {
            let seen = house.server.write("auth/token/lookup-accessor", &json!({"accessor": accessor})).await;
            if seen["data"]["path"] == "auth/jwt/login" {
                sessions.push(accessor);
            }
        }
        sessions
    };
    house.open_grant("app/vault").await;
    let before = sessions().await;
    assert_eq!(before.len(), 1);
    let role = house.broker.in_bundle("roles/app/vault.toml");
    let text = std::fs::read_to_string(&role).unwrap().replace("Reaches what the tests reach.", "Reaches it still.");
    std::fs::write(&role, text).unwrap();
    // None for a grant whose role changed while its token was being made: that one is refused, and undone.
    let digest = async || {
        let answer = house.ask("app/vault").await;
        (answer.status == 201).then(|| answer.body["grant"]["decision"]["policy_revision"].clone())
    };
    let first = digest().await.expect("a grant");
    house.broker.signal(rustix::process::Signal::HUP);
    eventually("the new revision is in force", Duration::from_secs(20), async || {
        (digest().await? != first).then_some(())
    })
    .await;
    assert_eq!(sessions().await, before);
}
