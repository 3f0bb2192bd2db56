//! Secrets live once.

use std::fs;

use hallpass_tests::config::{ROLE, Setup};
use hallpass_tests::{Broker, Exchange, Issuer, SigningKey, config, id};
use rusqlite::Connection;
use serde_json::Value;

use crate::House;

/// Everything that the broker left on disk, as bytes.
fn remains(house: &House) -> Vec<(String, Vec<u8>)> {
    fs::read_dir(house.broker.folder())
        .expect("the folder can be read")
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("a file")))
        .collect()
}

fn contains(hay: &[u8], needle: &str) -> bool {
    hay.windows(needle.len()).any(|window| window == needle.as_bytes())
}

// CASE CRY-003, LOG-005
#[tokio::test]
async fn no_credential_and_no_proof_is_on_disk_or_in_a_log_at_any_level() {
    let key = SigningKey::es256("key-1");
    let issuer = Issuer::start(&[&key]).await;
    let broker = Broker::start_with(&Setup::trusting(&[("ci", &issuer)]), &[("RUST_LOG", "trace")]).await;
    let house = House { issuer, key, broker };
    let proof = house.proof();
    let credential = house.exchange(&proof).await.credential().to_owned();
    let bad = SigningKey::es256("key-1").sign(&house.claims());
    house.exchange(&bad).await.assert_status(400);
    for secret in [&proof, &credential, &bad] {
        let signature = secret.rsplit('.').next().expect("a signature");
        for (file, bytes) in remains(&house) {
            assert!(!contains(&bytes, signature), "{file} holds a token's signature");
        }
    }
}

// CASE LOG-001
#[tokio::test]
async fn nothing_that_a_caller_sends_breaks_a_log_line() {
    let house = House::open_with(|setup| setup.server(serde_json::json!({"telemetry": {"log_format": "json"}}))).await;
    let nasty = "x\r\n{\"level\":\"INFO\",\"message\":\"forged\"}\u{2028}\u{1b}[2J\u{202e}";
    let exchange = Exchange::of(&house.proof()).with("purpose", nasty).with("ticket", nasty);
    house.broker.exchange(&exchange).await;
    let header = serde_json::json!({"alg": "ES256", "kid": nasty});
    house.exchange(&house.key.sign_with(&header, &house.claims())).await;
    for line in house.broker.output().lines().filter(|line| !line.is_empty()) {
        let parsed: Result<Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|line| line["message"] != "forged"), "not a log line: {line:?}");
    }
}

// CASE CRY-004
#[tokio::test]
async fn a_sealed_value_moved_to_another_row_does_not_open() {
    let mut house = House::open().await;
    let (first, second) = (house.credential().await, house.credential().await);
    assert!(house.broker.stop().await.success());
    let connection = Connection::open(config::database(house.broker.folder())).expect("a database");
    let moved = connection.execute(
        "UPDATE grants SET handle = (SELECT handle FROM grants WHERE id = ?1) WHERE id = ?2",
        [id(first.grant_id()), id(second.grant_id())],
    );
    assert_eq!(moved.expect("an update"), 1);
    drop(connection);
    house.broker.restart().await;
    let proof = house.proof_of(config::OPERATOR);
    let path = format!("/v1/grants/{}/revoke", second.grant_id());
    house.broker.call("POST", &path, Some(&proof), Some(&serde_json::json!({"reason": "moved"}))).await;
    let state = house.broker.store().state(second.grant_id());
    assert_ne!(state, "revoked", "a handle of another grant was taken for its own");
    assert_eq!(house.broker.store().state(first.grant_id()), "active", "another grant was ended");
}

// CASE CRY-008
#[tokio::test]
async fn a_key_file_that_others_can_read_stops_the_start() {
    let issuer = Issuer::start(&[]).await;
    for mode in [0o644, 0o640, 0o604] {
        let mut setup = Setup::trusting(&[("ci", &issuer)]);
        setup.key_file_mode = mode;
        let mut broker = Broker::prepare(&setup, &[]);
        assert!(!broker.end_by_itself().await.success(), "started with mode {mode:o}");
        assert!(broker.output().contains("kek"), "does not name the file: {}", broker.output());
    }
}

#[tokio::test]
async fn an_unknown_key_in_the_configuration_stops_the_start_with_its_place() {
    let issuer = Issuer::start(&[]).await;
    let mut setup = Setup::trusting(&[("ci", &issuer)]);
    for (name, role) in &mut setup.roles {
        if name == ROLE {
            role["tttl"] = serde_json::json!("1m");
        }
    }
    let mut broker = Broker::prepare(&setup, &[]);
    assert!(!broker.end_by_itself().await.success());
    assert!(broker.output().contains("tttl") && broker.output().contains("deploy.toml"), "{}", broker.output());
}

#[tokio::test]
async fn two_brokers_never_share_a_store() {
    let house = House::open().await;
    let second = house.broker.command(["serve"]);
    assert!(!second.status.success(), "a second broker started on the same database");
    house.credential().await;
}
