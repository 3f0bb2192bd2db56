//! What an issuer publishes as keys: only sound keys for signing verify anything.

use hallpass_tests::{Answer, Behaviour, Document, Exchange};
use serde_json::{Value, json};

use crate::House;

/// Publishes a changed form of the house's own key and exchanges a proof that it signed.
async fn exchange_under(change: impl FnOnce(&mut Value)) -> (House, Answer) {
    let house = House::open_after(|issuer, key| {
        let mut key = key.jwk();
        change(&mut key);
        issuer.publish(Document::Keys, json!({"keys": [key]}));
    })
    .await;
    let answer = house.exchange(&house.proof()).await;
    (house, answer)
}

// CASE SIG-012
#[tokio::test]
async fn a_point_that_is_not_on_the_curve_is_a_weak_key() {
    let (house, answer) = exchange_under(|key| key["y"] = key["x"].clone()).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "weak_key", 0);
}

// CASE SIG-012
#[tokio::test]
async fn a_coordinate_of_the_wrong_length_is_a_weak_key() {
    let (house, answer) = exchange_under(|key| {
        let short = key["x"].as_str().expect("a coordinate")[..42].to_owned();
        key["x"] = json!(short);
    })
    .await;
    house.assert_refused_for(&answer, 400, "invalid_request", "weak_key", 0);
}

// CASE JWK-002
#[tokio::test]
async fn a_key_whose_private_part_is_published_is_a_weak_key() {
    let (house, answer) = exchange_under(|key| key["d"] = key["x"].clone()).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "weak_key", 0);
}

// CASE JWK-003
#[tokio::test]
async fn a_key_for_encryption_verifies_nothing() {
    let (house, answer) = exchange_under(|key| key["use"] = json!("enc")).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "unknown_kid", 0);
}

// CASE JWK-003
#[tokio::test]
async fn a_key_whose_operations_leave_out_verify_verifies_nothing() {
    let (house, answer) = exchange_under(|key| {
        key["use"] = Value::Null;
        key["key_ops"] = json!(["encrypt"]);
        key.as_object_mut().expect("an object").remove("use");
    })
    .await;
    house.assert_refused_for(&answer, 400, "invalid_request", "unknown_kid", 0);
}

// CASE JWK-006
#[tokio::test]
async fn keys_of_unknown_kinds_do_not_stop_the_good_one() {
    let house = House::open_after(|issuer, key| {
        let unknown = [
            json!({"kty": "AKP", "kid": "a"}),
            json!({"kty": "EC", "crv": "P-256K", "kid": "b"}),
            json!({"kty": "RSA", "kid": "c"}),
        ];
        issuer.publish(Document::Keys, json!({"keys": ([&unknown[..], &[key.jwk()]].concat())}));
    })
    .await;
    house.credential().await;
}

// CASE JWK-007
#[tokio::test]
async fn an_empty_key_set_trusts_nothing() {
    let house = House::open_after(|issuer, _| issuer.publish(Document::Keys, json!({"keys": []}))).await;
    let answer = house.exchange(&house.proof()).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "unknown_kid", 0);
}

// CASE JWK-007, JWK-008
#[tokio::test]
async fn a_malformed_key_set_trusts_nothing() {
    let malformed: [fn(&str) -> String; 5] = [
        |_| "{}".to_owned(),
        |key| format!("{{\"keys\":{key}}}"),
        |key| format!("[{key}]"),
        |key| format!("{{\"keys\":[],\"keys\":[{key}]}}"),
        |key| format!("{{\"keys\":[{{\"kid\":\"other\",{}]}}", &key[1..]),
    ];
    for document in malformed {
        let house = House::open_after(|issuer, key| {
            issuer.behave(Document::Keys, Behaviour::Body(document(&key.jwk().to_string())));
        })
        .await;
        let answer = house.exchange(&house.proof()).await;
        let document = document(&house.key.jwk().to_string());
        assert!(matches!(answer.status, 400 | 503), "{document}: {}", answer.text);
        assert_eq!(house.broker.store().grant_count(), 0, "{document}");
    }
}

// CASE JWK-009
#[tokio::test]
async fn a_key_set_past_the_size_limit_is_unavailable_and_the_broker_stays_small() {
    let house = House::open_after(|issuer, _| issuer.behave(Document::Keys, Behaviour::Huge(50_000_000))).await;
    let answer = house.exchange(&house.proof()).await;
    house.assert_refused_for(&answer, 503, "temporarily_unavailable", "jwks_unavailable", 0);
}

// CASE JWK-009
#[tokio::test]
async fn more_keys_than_the_limit_are_not_read() {
    let house = House::open_after(|issuer, key| {
        let mut keys = vec![key.jwk(); 2000];
        for (number, key) in keys.iter_mut().enumerate() {
            key["kid"] = json!(format!("key-{}", number + 1));
        }
        issuer.publish(Document::Keys, json!({"keys": keys}));
    })
    .await;
    let answer = house.broker.exchange(&Exchange::of(&house.proof())).await;
    house.assert_refused_for(&answer, 503, "temporarily_unavailable", "jwks_unavailable", 0);
}
