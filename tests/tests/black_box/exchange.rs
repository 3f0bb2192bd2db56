//! The token endpoint as RFC 8693 and RFC 6749 have it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_tests::config::{CERTIFICATE_ROLE, CLOSED_ROLE, ROLE};
use hallpass_tests::{Exchange, SigningKey};
use serde_json::{Value, json};

use crate::House;

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

#[tokio::test]
async fn a_good_proof_gives_a_token_its_life_and_its_grant_and_nobody_caches_it() {
    let house = House::open().await;
    let answer = house.credential().await;
    assert_eq!(answer.text_of("token_type"), "Bearer");
    assert!(answer.text_of("issued_token_type").starts_with("urn:ietf:params:oauth:token-type:"));
    assert!(answer.body["expires_in"].as_u64().is_some_and(|seconds| (1..=900).contains(&seconds)), "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(house.broker.store().state(answer.grant_id()), "active");
    assert!(!house.broker.store().audit_of(answer.request_id()).is_empty());
}

// CASE TYP-001
#[tokio::test]
async fn a_token_that_the_broker_minted_is_no_subject_token() {
    let house = House::open().await;
    let minted = house.credential().await.credential().to_owned();
    let answer = house.exchange(&minted).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "unknown_issuer", 1);
}

/// Sends each changed exchange with a fresh proof and asserts one refusal for all.
async fn refused_each(changes: &[fn(Exchange) -> Exchange], error: &str, reason: &str) {
    let house = House::open().await;
    for (number, change) in changes.iter().enumerate() {
        let answer = house.broker.exchange(&change(Exchange::of(&house.proof()))).await;
        assert_eq!((answer.status, answer.error()), (400, error), "change {number}: {}", answer.text);
        assert_eq!(house.broker.store().reasons_of(answer.request_id()), [reason], "change {number}: {}", answer.text);
    }
    assert_eq!(house.broker.store().grant_count(), 0);
}

// CASE TX-001, TX-002
#[tokio::test]
async fn a_missing_or_repeated_parameter_is_an_invalid_request() {
    refused_each(
        &[
            |exchange| exchange.without("subject_token"),
            |exchange| exchange.without("subject_token_type"),
            |exchange| exchange.also("subject_token", "x"),
            |exchange| exchange.also("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            |exchange| exchange.also("purpose", "another one"),
            |exchange| exchange.without("grant_type"),
            |exchange| exchange.with("ttl", "-1"),
            |exchange| exchange.with("ttl", "99999999999999999999s"),
        ],
        "invalid_request",
        "malformed_request",
    )
    .await;
}

// CASE TX-001
#[tokio::test]
async fn another_grant_type_is_not_supported() {
    let house = House::open().await;
    let answer = house.broker.exchange(&Exchange::of(&house.proof()).with("grant_type", "client_credentials")).await;
    answer.assert_refused(400, "unsupported_grant_type");
}

// CASE TX-003
#[tokio::test]
async fn an_empty_proof_never_falls_back_to_the_client_itself() {
    let house = House::open().await;
    let exchange = Exchange::of("").with("client_id", "ci").with("client_secret", "ci");
    let answer = house.broker.exchange(&exchange).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "malformed_request", 0);
}

// CASE TX-004
#[tokio::test]
async fn a_proof_of_another_type_than_a_jwt_is_refused() {
    refused_each(
        &[
            |exchange| exchange.with("subject_token_type", "urn:ietf:params:oauth:token-type:saml2"),
            |exchange| exchange.with("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
            |exchange| exchange.with("subject_token_type", "jwt"),
        ],
        "invalid_request",
        "wrong_token_type",
    )
    .await;
}

// CASE TX-005
#[tokio::test]
async fn an_actor_token_and_its_type_come_together() {
    refused_each(
        &[
            |exchange| exchange.with("actor_token", "a.b.c"),
            |exchange| exchange.with("actor_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ],
        "invalid_request",
        "malformed_request",
    )
    .await;
}

// CASE TX-006
#[tokio::test]
async fn an_actor_token_that_does_not_verify_is_refused_whatever_the_subject_token_is() {
    let house = House::open().await;
    let forged = SigningKey::es256(house.key.kid()).sign(&house.claims());
    let exchange = Exchange::of(&house.proof()).with("actor_token", &forged).with("actor_token_type", JWT);
    let answer = house.broker.exchange(&exchange).await;
    answer.assert_refused(400, "invalid_request");
    assert_eq!(house.broker.store().grant_count(), 0);
}

// CASE TX-012
#[tokio::test]
async fn only_a_form_is_taken() {
    let house = House::open().await;
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={}&subject_token_type={JWT}&audience={ROLE}&purpose=deploy+it",
        house.proof()
    );
    for content_type in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json",
        "application/x-www-form-urlencoded; charset=utf-16",
    ] {
        let answer = house.broker.post_raw("/oauth2/token", None, Some(content_type), form.clone()).await;
        assert_eq!(answer.status, 415, "{content_type}: {}", answer.text);
    }
    house.broker.post_raw("/oauth2/token", None, None, form.clone()).await.assert_status(415);
    house
        .broker
        .post_raw("/oauth2/token", None, Some("application/x-www-form-urlencoded"), form)
        .await
        .assert_status(200);
}

// CASE TX-014
#[tokio::test]
async fn an_actor_chain_without_end_is_refused() {
    let house = House::open().await;
    let mut claims = house.claims();
    // As short as a chain of that depth can be, or the limit of size would refuse it first.
    claims["act"] = (0..1000).fold(json!({"sub": "x"}), |act: Value, _| json!({"act": act}));
    let answer = house.exchange(&house.key.sign(&claims)).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "malformed_claims", 0);
}

// CASE TX-016
#[tokio::test]
async fn a_page_on_the_web_may_not_read_an_answer() {
    let house = House::open().await;
    let answer = house.broker.exchange(&Exchange::of(&house.proof()).header("origin", "https://evil.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(answer.header("set-cookie"), "");
}

// CASE MNT-110
#[tokio::test]
async fn more_than_one_target_is_refused_whole() {
    let house = House::open().await;
    for (name, second) in
        [("audience", CLOSED_ROLE), ("audience", CERTIFICATE_ROLE), ("resource", "https://other.test")]
    {
        let answer = house.broker.exchange(&Exchange::of(&house.proof()).also(name, second)).await;
        answer.assert_refused(400, "invalid_target");
    }
    assert_eq!(house.broker.store().grant_count(), 0);
}

#[tokio::test]
async fn a_role_that_is_unknown_and_one_that_is_not_yours_read_the_same() {
    let house = House::open().await;
    let mut answers = Vec::new();
    for role in ["no/such/role", CLOSED_ROLE] {
        let answer = house.broker.exchange(&Exchange::of(&house.proof()).role(role)).await;
        answer.assert_refused(400, "invalid_target");
        answers.push(answer.text.replace(role, "ROLE"));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn an_unknown_parameter_is_ignored() {
    let house = House::open().await;
    let exchange = Exchange::of(&house.proof()).with("client_id", "anything").with("x_unknown", "1");
    house.broker.exchange(&exchange).await.assert_status(200);
}

#[tokio::test]
async fn before_the_signature_verified_nothing_of_the_token_is_echoed() {
    let house = House::open().await;
    let marker = "marker-4711";
    let mut claims = house.claims();
    claims["sub"] = json!(marker);
    let header = json!({"alg": "ES256", "kid": marker});
    let answer = house.exchange(&house.key.sign_with(&header, &claims)).await;
    answer.assert_refused(400, "invalid_request");
    let parts = [marker.to_owned(), URL_SAFE_NO_PAD.encode(marker)];
    assert!(parts.iter().all(|part| !answer.text.contains(part)), "{}", answer.text);
}
