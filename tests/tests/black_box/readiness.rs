//! `/readyz` tells which part is unwell, as long as it is: each part is broken for real, and mended.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use hallpass_tests::config::{AUDIENCE, Setup, database, fetch_keys_every};
use hallpass_tests::{Answer, Behaviour, Broker, Document, Exchange, eventually};
use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{House, WORKLOAD, issuer_with_key};

const DEADLINE: Duration = Duration::from_secs(60);

/// Awaits that the broker is in this state as a whole, with this part, of this name, in this condition; gives the part.
async fn told(broker: &Broker, (state, part, name, condition): (&str, &str, &str, &str)) -> Value {
    let wanted = format!("{state}, with {part} {name} {condition}");
    eventually(&wanted, DEADLINE, async || {
        let answer = broker.operations("/readyz").await;
        assert_eq!(answer.status, if answer.text_of("status") == "not_ready" { 503 } else { 200 }, "{}", answer.text);
        let found = part_of(&answer, part, name);
        (answer.text_of("status") == state && found["status"] == condition).then_some(found)
    })
    .await
}

/// Awaits that the broker says that it can issue nothing because of this part, and answers all the same; gives the part.
async fn nothing_is_issued(broker: &Broker, (part, name): (&str, &str)) -> Value {
    eventually(&format!("nothing is issued for {part} {name}"), DEADLINE, async || {
        let answer = broker.operations("/readyz").await;
        let body: Value = serde_json::from_str(&answer.text).expect("JSON");
        let found = part_of(&answer, part, name);
        let told = body["issuing"] == false && found["issuing"] == false && found["status"] == "degraded";
        told.then(|| {
            assert_eq!((answer.status, answer.text_of("status")), (200, "degraded"), "{}", answer.text);
            found
        })
    })
    .await
}

fn part_of(answer: &Answer, part: &str, name: &str) -> Value {
    let body: Value = serde_json::from_str(&answer.text).expect("JSON");
    let parts = body["parts"].as_array().expect("parts");
    let is_it = |one: &&Value| one["part"] == part && one["name"].as_str().unwrap_or_default() == name;
    parts.iter().find(is_it).unwrap_or_else(|| panic!("no part {part} {name} in {}", answer.text)).clone()
}

#[tokio::test]
async fn a_broker_that_is_well_names_every_part() {
    let house = House::open().await;
    house.credential().await;
    let answer = house.broker.operations("/readyz").await;
    assert_eq!((answer.status, answer.text_of("status")), (200, "ready"), "{}", answer.text);
    for (part, name) in [
        ("store", ""),
        ("queue", ""),
        ("audit_checkpoint", ""),
        ("clock", ""),
        ("configuration", ""),
        ("key_care", ""),
        ("workers", ""),
        ("signing_keys", ""),
        ("issuer", "ci"),
        ("backend", "jwt"),
        ("backend", "x509"),
    ] {
        assert_eq!(part_of(&answer, part, name)["status"], "ok", "{part} {name}: {}", answer.text);
    }
    let page = house.broker.operations("/metrics").await.text;
    assert!(page.lines().any(|line| line == "hallpass_issuing 1"), "{page}");
    assert!(answer.text.contains(r#""issuing":true"#), "{}", answer.text);
    let of_backend = page.lines().find(|line| line.starts_with("hallpass_part_condition") && line.contains("\"jwt\""));
    assert!(of_backend.is_some_and(|line| line.ends_with(" 0")), "{of_backend:?}");
}

#[tokio::test]
async fn a_store_that_cannot_write_is_named_until_it_can() {
    let house = House::open().await;
    told(&house.broker, ("ready", "store", "", "ok")).await;
    let holds = Connection::open(database(house.broker.folder())).expect("the database opens");
    holds.busy_timeout(DEADLINE).expect("a timeout can be set");
    holds.execute_batch("BEGIN IMMEDIATE").expect("the database can be held");
    let part = told(&house.broker, ("not_ready", "store", "", "unready")).await;
    assert!(!part["detail"].as_str().unwrap_or_default().is_empty(), "{part}");
    drop(holds);
    told(&house.broker, ("ready", "store", "", "ok")).await;
}

#[tokio::test]
async fn a_destination_of_the_log_that_takes_nothing_is_named_before_and_after_nothing_is_issued() {
    let refuses = Arc::<AtomicBool>::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/collect?key=of-the-collector", listener.local_addr().expect("an address"));
    let answers = Arc::clone(&refuses);
    let collect = post(move || async move {
        if answers.load(Ordering::SeqCst) {
            // As long as it is asked: it hangs.
            std::future::pending::<()>().await;
        }
    });
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/collect", collect)).await });
    let export = json!({"kind": "https", "url": url, "max_lag": 12, "dangerous_allow_http": true});
    let house = House::open_with(|setup| setup.server(json!({"audit": {"export": [export]}}))).await;
    let name = named_export(&house).await;
    told(&house.broker, ("ready", "audit_export", &name, "ok")).await;

    refuses.store(true, Ordering::SeqCst);
    house.credential().await;
    let part = told(&house.broker, ("degraded", "audit_export", &name, "degraded")).await;
    assert!(part["detail"].as_str().unwrap_or_default().contains("entries wait"), "{part}");
    house.credential().await;
    while house.exchange(&house.proof()).await.status == 200 {}
    let part = nothing_is_issued(&house.broker, ("audit_export", &name)).await;
    assert!(part["detail"].as_str().unwrap_or_default().contains("more than 12"), "{part}");

    refuses.store(false, Ordering::SeqCst);
    told(&house.broker, ("ready", "audit_export", &name, "ok")).await;
    house.credential().await;
}

/// What the one destination is called: nothing that its URL keeps secret.
async fn named_export(house: &House) -> String {
    let answer = house.broker.operations("/readyz").await;
    assert!(!answer.text.contains("of-the-collector"), "{}", answer.text);
    let body: Value = serde_json::from_str(&answer.text).expect("JSON");
    let export = body["parts"].as_array().expect("parts").iter().find(|part| part["part"] == "audit_export");
    export.expect("an export")["name"].as_str().expect("its name").to_owned()
}

#[tokio::test]
async fn an_issuer_whose_keys_are_away_is_named_and_the_broker_ready_for_the_others_alone() {
    let ((near, near_key), (far, far_key)) = (issuer_with_key().await, issuer_with_key().await);
    let setup = Setup::trusting(&[("near", &near), ("far", &far)]).each_issuer(|issuer| fetch_keys_every(issuer, 1));
    far.behave(Document::Discovery, Behaviour::Status(500));
    let broker = Broker::start(&setup).await;
    let part = told(&broker, ("ready", "issuer", "far", "ok")).await;
    assert_eq!(part["detail"], "nobody needed its keys lately");

    let proof = far_key.sign(&far.claims(AUDIENCE, WORKLOAD));
    broker.exchange(&Exchange::of(&proof)).await.assert_refused(503, "temporarily_unavailable");
    told(&broker, ("degraded", "issuer", "far", "degraded")).await;
    broker.exchange(&Exchange::of(&near_key.sign(&near.claims(AUDIENCE, WORKLOAD)))).await.assert_status(200);

    // It is asked again without anybody's proof: a broker that is sent none would never learn that it is over.
    far.behave(Document::Discovery, Behaviour::Normal);
    told(&broker, ("ready", "issuer", "far", "ok")).await;
    broker.exchange(&Exchange::of(&far_key.sign(&far.claims(AUDIENCE, WORKLOAD)))).await.assert_status(200);
}

#[tokio::test]
async fn a_broker_none_of_whose_issuers_answers_issues_nothing_and_stays_in_rotation() {
    let (issuer, key) = issuer_with_key().await;
    issuer.behave(Document::Discovery, Behaviour::Status(503));
    let setup = Setup::trusting(&[("ci", &issuer)]).each_issuer(|issuer| fetch_keys_every(issuer, 1));
    let broker = Broker::start(&setup).await;
    broker.exchange(&Exchange::of(&key.sign(&issuer.claims(AUDIENCE, WORKLOAD)))).await.assert_status(503);
    nothing_is_issued(&broker, ("issuer", "ci")).await;
    assert_eq!(broker.call("GET", "/.well-known/jwks.json", None, None).await.status, 200);
    issuer.behave(Document::Discovery, Behaviour::Normal);
    told(&broker, ("ready", "issuer", "ci", "ok")).await;
}

#[tokio::test]
async fn a_bundle_that_was_refused_is_named_until_a_good_one_is_loaded() {
    let house = House::open().await;
    let before = told(&house.broker, ("ready", "configuration", "", "ok")).await;
    let policies = house.broker.in_bundle("policies/standard.cedar");
    let good = fs::read_to_string(&policies).expect("policies");
    fs::write(&policies, "permit (principal, action").expect("written");
    house.broker.signal(Signal::HUP);
    told(&house.broker, ("degraded", "configuration", "", "degraded")).await;
    house.credential().await;
    fs::write(&policies, good).expect("written");
    house.broker.signal(Signal::HUP);
    assert_eq!(told(&house.broker, ("ready", "configuration", "", "ok")).await, before);
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_kept_is_named_until_it_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("place");
    fs::create_dir(&place).expect("made");
    let audit = json!({"checkpoint_file": place.join("checkpoint"), "checkpoint_every": "1s"});
    let house = House::open_with(|setup| setup.server(json!({"audit": audit}))).await;
    house.credential().await;
    told(&house.broker, ("ready", "audit_checkpoint", "", "ok")).await;
    fs::rename(&place, folder.path().join("elsewhere")).expect("moved");
    house.credential().await;
    told(&house.broker, ("degraded", "audit_checkpoint", "", "degraded")).await;
    fs::rename(folder.path().join("elsewhere"), &place).expect("moved back");
    told(&house.broker, ("ready", "audit_checkpoint", "", "ok")).await;
}
