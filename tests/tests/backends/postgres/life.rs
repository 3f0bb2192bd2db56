//! From the exchange to the end, through a broker that runs: what a holder can do at the server, and when no more.

use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, Setup};
use hallpass_tests::postgres::Postgres;
use hallpass_tests::{Answer, Broker, Issuer, SigningKey, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::Client;

use super::{DATABASE, entry, server, writer};

const WORKLOAD: &str = "repo:acme@111/app@222:ref:refs/heads/main";
const ROLE: &str = "app/db";
/// How long the broker may take to do what is due.
pub(super) const DEADLINE: Duration = Duration::from_secs(40);

/// A broker, what it trusts, and the server that it makes users of.
pub(super) struct House {
    pub(super) server: Postgres,
    pub(super) broker: Broker,
    issuer: Issuer,
    key: SigningKey,
    _folder: TempDir,
}

/// A credential as a workload has it.
pub(super) struct Held {
    pub(super) grant: String,
    pub(super) username: String,
    pub(super) password: String,
}

impl House {
    pub(super) async fn open() -> Option<Self> {
        let server = server().await?;
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let folder = TempDir::new().expect("a folder");
        let setup = Setup::trusting(&[("ci", &issuer)]).backend(entry(&server, &folder.path().join("password"))).role(
            ROLE,
            "orders-db",
            "postgres",
            writer(),
        );
        let broker = Broker::start(&setup).await;
        Some(Self { server, broker, issuer, key, _folder: folder })
    }

    pub(super) fn proof(&self) -> String {
        self.key.sign(&self.issuer.claims(AUDIENCE, WORKLOAD))
    }

    pub(super) async fn ask(&self, ttl: &str) -> Answer {
        let body = json!({"role": ROLE, "purpose": "move the orders of yesterday", "ttl": ttl});
        self.broker.call("POST", "/v1/grants", Some(&self.proof()), Some(&body)).await
    }

    pub(super) async fn hold(&self, ttl: &str) -> Held {
        let answer = self.ask(ttl).await;
        answer.assert_status(201);
        let credential = &answer.body["credential"];
        assert_eq!(credential["type"], "database", "{}", answer.text);
        let text = |name: &str| credential[name].as_str().expect(name).to_owned();
        assert_eq!((text("host").as_str(), text("database").as_str()), ("127.0.0.1", DATABASE));
        assert_eq!(credential["port"], json!(self.server.address().port()));
        Held { grant: answer.grant_id().to_owned(), username: text("username"), password: text("password") }
    }

    pub(super) async fn log_in(&self, held: &Held) -> Result<Client, tokio_postgres::Error> {
        self.server.connect(&held.username, &held.password, DATABASE).await
    }

    pub(super) async fn grant(&self, id: &str) -> Value {
        let answer = self.broker.call("GET", &format!("/v1/grants/{id}"), Some(&self.proof()), None).await;
        answer.assert_status(200);
        answer.body
    }

    pub(super) async fn revoke(&self, id: &str) -> Answer {
        self.broker.call("DELETE", &format!("/v1/grants/{id}"), Some(&self.proof()), None).await
    }

    pub(super) async fn becomes(&self, id: &str, state: &str) -> Value {
        eventually(&format!("the grant is {state}"), DEADLINE, async || {
            let grant = self.grant(id).await;
            (grant["state"] == state).then_some(grant)
        })
        .await
    }

    /// What a holder finds when its grant is over.
    pub(super) async fn is_over(&self, held: &Held, session: &Client) {
        session.simple_query("SELECT 1").await.expect_err("the session is ended");
        self.log_in(held).await.map(drop).expect_err("logging in is refused");
        assert!(self.server.roles(&held.username).await.is_empty(), "the user is gone");
    }
}

// CASE REV-017
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_works_until_its_grant_ends_and_then_its_sessions_end_too() {
    let Some(house) = House::open().await else { return };
    let held = house.hold("10m").await;
    assert!(held.username.starts_with("hp_app_db_"), "{}", held.username);
    let session = house.log_in(&held).await.expect("the credential works");
    session.batch_execute("INSERT INTO orders VALUES (1)").await.expect("what the group role may");
    session.batch_execute("DELETE FROM orders").await.expect_err("what it may not");
    session.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.expect("a table of its own");
    // A workload that means ill: it would live on under another end, and come back.
    let user = &held.username;
    session.batch_execute(&format!("ALTER ROLE {user} VALID UNTIL 'infinity'")).await.expect_err("no end of its own");
    session.batch_execute("CREATE ROLE more LOGIN").await.expect_err("no users of its own");
    session.batch_execute(&format!("ALTER ROLE {user} PASSWORD 'mine'")).await.expect("its own password it may change");

    let grant = house.grant(&held.grant).await;
    assert_eq!((&grant["state"], &grant["revocation"]["class"]), (&json!("active"), &json!("hard")), "{grant}");
    house.revoke(&held.grant).await;
    let grant = house.becomes(&held.grant, "revoked").await;
    assert!(grant["revocation"]["confirmed_at"].is_string(), "{grant}");
    house.is_over(&held, &session).await;
    house.server.connect(user, "mine", DATABASE).await.map(drop).expect_err("nor with its own password");
    let left = house.server.root(DATABASE).await;
    let left =
        left.query_one("SELECT tableowner::text, (SELECT n FROM kept) FROM pg_tables WHERE tablename = 'kept'", &[]);
    let left = left.await.expect("what it made is there");
    assert_eq!((left.get::<_, &str>(0), left.get::<_, i32>(1)), ("app_writer", 7), "and belongs to the group role");

    // Nothing secret is at the server, in what the broker says, or in what it keeps.
    for file in std::fs::read_dir(house.broker.folder()).expect("the broker's folder").flatten() {
        let content = std::fs::read(file.path()).unwrap_or_default();
        let found = content.windows(held.password.len()).any(|part| part == held.password.as_bytes());
        assert!(!found, "the password stands in {}", file.path().display());
    }
    for (place, text) in [("the server's log", house.server.log()), ("the broker's log", house.broker.output())] {
        assert!(!text.contains(&held.password), "the password stands in {place}");
        assert!(
            !text.contains(super::PASSWORD) || place.starts_with("the server"),
            "the broker's own stands in {place}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_grant_falls_due_is_gone_and_its_session_with_it() {
    let Some(house) = House::open().await else { return };
    let held = house.hold("5s").await;
    let session = house.log_in(&held).await.expect("the credential works");
    let grant = house.becomes(&held.grant, "revoked").await;
    assert_eq!(grant["cause"], "expired", "{grant}");
    house.is_over(&held, &session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_lives_on_when_its_grant_is_renewed() {
    let Some(house) = House::open().await else { return };
    let held = house.hold("1m").await;
    let until = async || {
        let query =
            format!("SELECT extract(epoch FROM rolvaliduntil)::int8 FROM pg_roles WHERE rolname = '{}'", held.username);
        house.server.rows(&query).await[0].get::<_, i64>(0)
    };
    let before = until().await;
    let path = format!("/v1/grants/{}/renew", held.grant);
    let renewed = house.broker.call("POST", &path, Some(&house.proof()), Some(&json!({"ttl": "5m"}))).await;
    renewed.assert_status(200);
    assert!(until().await > before + 60, "{}", renewed.text);
    house.log_in(&held).await.expect("the credential works");
}
