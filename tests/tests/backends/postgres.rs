//! Users of a real PostgreSQL server, with a broker that may there what it needs to and nothing else.

mod conformance;
mod hostile;
mod inventory;
mod life;
mod owned;
mod points;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;

use hallpass_broker::backend::postgres::PostgresBackend;
use hallpass_broker::config::backend::{Postgres as Settings, PostgresLogin};
use hallpass_core::credential::IssueOrder;
use hallpass_core::id::BackendName;
use hallpass_core::testing::{MockClock, SeededEntropy, sample};
use hallpass_core::time::Timestamp;
use hallpass_tests::postgres::Postgres;
use hallpass_tests::unix_now;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The broker's own password.
const PASSWORD: &str = "the-brokers-own-password";
/// The database of the service.
const DATABASE: &str = "app";
/// Who it is by its users' comments.
const BROKER: &str = "https://broker.test";

/// What an administrator prepares: a broker that may make roles and is no superuser, and a group role that it may give.
const SCENE: &str = include_str!("../../../deploy/postgres/prepare.sql");
const SERVICE: &str = "
    CREATE TABLE orders (id int);
    GRANT SELECT, INSERT ON orders TO app_writer;
    GRANT CREATE ON SCHEMA public TO app_writer;
";

/// A server with a service's database.
async fn server() -> Option<Postgres> {
    let server = Postgres::start().await?;
    server.run("postgres", SCENE).await;
    server.run("postgres", &format!("ALTER ROLE hallpass PASSWORD '{PASSWORD}'")).await;
    server.run("postgres", "CREATE DATABASE app").await;
    server.run(DATABASE, SERVICE).await;
    Some(server)
}

/// An adapter, beside any broker.
struct Adapter {
    backend: PostgresBackend,
    now: Timestamp,
    _folder: TempDir,
}

fn settings(server: &Postgres, password: PathBuf) -> Settings {
    Settings {
        host: "127.0.0.1".to_owned(),
        port: server.address().port(),
        database: "postgres".to_owned(),
        username: "hallpass".to_owned(),
        login: PostgresLogin::PasswordFile(password),
        tls: true,
        ca_file: Some(server.ca_file()),
        connections: 10,
        advertised_host: "db.example.test".to_owned(),
        advertised_port: 5432,
    }
}

impl Adapter {
    fn of(server: &Postgres) -> Self {
        Self::with(server, |_| ())
    }

    fn with(server: &Postgres, change: impl FnOnce(&mut Settings)) -> Self {
        let _ = hallpass_broker::compose::install_process_defaults();
        let folder = TempDir::new().expect("a folder");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("a password file");
        let mut settings = settings(server, password);
        change(&mut settings);
        let now = Timestamp::from_secs(unix_now());
        let (clock, entropy) = (Arc::new(MockClock::starting_at(now)), Arc::new(SeededEntropy::new(7)));
        let name = BackendName::new("orders-db").expect("a name");
        let backend = PostgresBackend::new(name, settings, BROKER, clock, entropy).expect("the settings are right");
        Self { backend, now, _folder: folder }
    }
}

fn order(n: u64, parameters: Value, issued_at: Timestamp, expires_at: Timestamp) -> IssueOrder {
    let mut role = sample::role("payments/prod/deploy");
    role.parameters = parameters;
    IssueOrder { issued_at, expires_at, ..sample::order(n, role) }
}

/// Members of the group role, in the service's database.
fn writer() -> Value {
    json!({"roles": ["app_writer"], "database": DATABASE})
}

/// A `[[backend]]` entry for the server; the password is in `folder`.
fn entry(server: &Postgres, password: &std::path::Path) -> Value {
    std::fs::write(password, PASSWORD).expect("a password file");
    json!({
        "name": "orders-db",
        "kind": "postgres",
        "host": "127.0.0.1",
        "port": server.address().port(),
        "username": "hallpass",
        "password": {"file": password},
        "ca_file": server.ca_file(),
    })
}
