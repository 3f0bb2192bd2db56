//! A proof mints once.

use std::collections::BTreeMap;

use hallpass_tests::config::{AUDIENCE, LEEWAY_SECONDS, ROLE, Setup};
use hallpass_tests::{Broker, Exchange, Issuer, SigningKey, size, unix_now};
use serde_json::json;

use crate::{House, WORKLOAD};

// CASE RPL-002
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_callers_with_one_proof_exactly_one_gets_a_credential() {
    let house = House::open().await;
    let exchange = Exchange::of(&house.proof());
    let mut calls = Vec::new();
    for _ in 0..size(100, 500) {
        calls.push(house.broker.client().post(house.broker.at("/oauth2/token")).form(exchange.parameters()).send());
    }
    let mut statuses = BTreeMap::<u16, usize>::new();
    let calls: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    for call in calls {
        let answer = call.await.expect("the call ends").expect("an answer");
        *statuses.entry(answer.status().as_u16()).or_default() += 1;
    }
    assert_eq!(statuses.get(&200), Some(&1), "{statuses:?}");
    assert_eq!(house.broker.store().grant_count(), 1);
}

// CASE RPL-003
#[tokio::test]
async fn where_proofs_are_used_once_one_without_an_id_is_refused() {
    let house = House::open().await;
    let mut claims = house.claims();
    claims.as_object_mut().expect("an object").remove("jti");
    let answer = house.exchange(&house.key.sign(&claims)).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "missing_claim", 0);
    // What cannot be the key of a record is as good as none.
    for id in [json!(""), json!(7), json!("j".repeat(5000))] {
        claims["jti"] = id;
        let answer = house.exchange(&house.key.sign(&claims)).await;
        house.assert_refused_for(&answer, 400, "invalid_request", "missing_claim", 0);
    }
}

// CASE RPL-004
#[tokio::test]
async fn the_same_proof_id_of_two_issuers_is_two_proofs() {
    let key = SigningKey::es256("key");
    let (first, second) = (Issuer::start(&[&key]).await, Issuer::start(&[&key]).await);
    let broker = Broker::start(&Setup::trusting(&[("first", &first), ("second", &second)])).await;
    for issuer in [&first, &second] {
        let mut claims = issuer.claims(AUDIENCE, WORKLOAD);
        claims["jti"] = json!("the-same");
        broker.exchange(&Exchange::of(&key.sign(&claims))).await.assert_status(200);
    }
}

// CASE RPL-005
#[tokio::test]
async fn the_same_proof_id_on_another_proof_is_a_replay() {
    let house = House::open().await;
    let mut claims = house.claims();
    house.exchange(&house.key.sign(&claims)).await.assert_status(200);
    claims["sub"] = json!("repo:acme@111/other@333:ref:refs/heads/main");
    let answer = house.exchange(&house.key.sign(&claims)).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "replayed", 1);
}

// CASE RPL-006, GH-021
#[tokio::test]
async fn a_proof_used_before_a_crash_stays_used() {
    let mut house = House::open().await;
    let proof = house.proof();
    house.exchange(&proof).await.assert_status(200);
    house.broker.kill9().await;
    house.broker.restart().await;
    let answer = house.exchange(&proof).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "replayed", 1);
}

// CASE RPL-007
#[tokio::test]
async fn a_proof_used_after_its_expiry_within_the_leeway_stays_used() {
    let house = House::open().await;
    let mut claims = house.claims();
    let now = unix_now();
    claims["iat"] = json!(now - 300);
    claims["nbf"] = json!(now - 300);
    claims["exp"] = json!(now - LEEWAY_SECONDS / 3);
    let proof = house.key.sign(&claims);
    house.exchange(&proof).await.assert_status(200);
    let answer = house.exchange(&proof).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "replayed", 1);
}

#[tokio::test]
async fn a_refused_request_consumes_nothing() {
    let house = House::open().await;
    let proof = house.proof();
    let refused = house.broker.exchange(&Exchange::of(&proof).role(hallpass_tests::config::CLOSED_ROLE)).await;
    refused.assert_refused(400, "invalid_target");
    house.exchange(&proof).await.assert_status(200);
}

// CASE RPL-010
#[tokio::test]
async fn a_repeat_with_the_same_idempotency_key_replaces_the_grant_and_never_doubles_it() {
    let house = House::open().await;
    let exchange = Exchange::of(&house.proof()).header("idempotency-key", "retry-1");
    let first = house.broker.exchange(&exchange).await;
    let second = house.broker.exchange(&exchange).await;
    second.assert_status(200);
    assert_ne!(first.credential(), second.credential(), "a stored credential was returned");
    assert_ne!(first.grant_id(), second.grant_id());
    let live: Vec<_> = house.broker.store().grants().into_iter().filter(|grant| grant["state"] == "active").collect();
    assert_eq!(live.len(), 1);
    let earlier = house.broker.store().state(first.grant_id());
    assert!(matches!(earlier.as_str(), "revoking" | "revoked" | "expired"), "the earlier grant is {earlier}");
}

/// Every run of a workflow has the same subject: one does not end, or follow, what another holds by naming it.
#[tokio::test]
async fn a_grant_takes_the_place_of_another_of_its_own_run_alone() {
    let with_runs = |setup: Setup| setup.each_issuer(|issuer| issuer["provenance"] = json!({"run": "run_id"}));
    let house = House::open_with(with_runs).await;
    let proof_of_run = |run: &str| {
        let mut claims = house.claims();
        claims["run_id"] = json!(run);
        house.key.sign(&claims)
    };
    let asked = async |run: &str, replaces: Option<&str>| {
        let mut body = json!({"role": ROLE, "purpose": "deploy build 4f2c to staging"});
        body["replaces"] = json!(replaces);
        house.broker.call("POST", "/v1/grants", Some(&proof_of_run(run)), Some(&body)).await
    };
    let first = asked("run-1", None).await;
    first.assert_status(201);
    let first = first.grant_id().to_owned();
    for (run, replaces) in [("run-2", first.as_str()), ("run-1", "01890a5d-ac96-774b-bcce-b302099a8057")] {
        let refused = asked(run, Some(replaces)).await;
        refused.assert_status(422);
        assert_eq!(refused.body["parameter"], "replaces", "{}", refused.text);
        assert_eq!(house.broker.store().reasons_of(refused.request_id()), ["malformed_request"]);
    }
    let store = house.broker.store();
    assert_eq!((store.grant_count(), store.state(&first).as_str()), (1, "active"));

    let second = asked("run-1", Some(&first)).await;
    second.assert_status(201);
    assert_eq!((store.state(&first).as_str(), store.state(second.grant_id()).as_str()), ("revoking", "active"));
}

// CASE MNT-107
#[tokio::test]
async fn an_idempotency_key_with_another_request_is_a_conflict() {
    let house = House::open().await;
    let proof = house.proof();
    let first = Exchange::of(&proof).header("idempotency-key", "retry-1");
    house.broker.exchange(&first).await.assert_status(200);
    let answer = house.broker.exchange(&first.with("purpose", "deploy build 5a3d to staging")).await;
    assert!((400..500).contains(&answer.status), "{}", answer.text);
    assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["idempotency_conflict"]);
    assert_eq!(house.broker.store().grant_count(), 1);
}

// CASE MNT-107
#[tokio::test]
async fn an_idempotency_key_of_another_caller_is_another_key() {
    let house = House::open().await;
    for subject in [WORKLOAD, "repo:acme@111/other@333:ref:refs/heads/main"] {
        let exchange = Exchange::of(&house.proof_of(subject)).header("idempotency-key", "retry-1");
        house.broker.exchange(&exchange).await.assert_status(200);
    }
    assert_eq!(house.broker.store().grant_count(), 2);
}
