//! `POST /oauth2/token`.

use axum::body::Body;
use axum::http::Request;
use hallpass_core::policy::Action;
use hallpass_core::testing::{Nature, Ruling, World};

use crate::house::{EXCHANGE, House, encoded, members};

#[tokio::test]
async fn a_good_proof_gives_one_token_with_its_life_and_its_grant() {
    let house = House::open();
    let answer = house.exchange("&scope=read+write&ttl=5m").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let expected = ["access_token", "expires_in", "grant_id", "issued_token_type", "scope", "token_type"];
    assert_eq!(members(&answer.body), expected);
    assert_eq!(answer.said("access_token"), format!("own.{}", answer.said("grant_id")));
    assert_eq!(answer.said("issued_token_type"), "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!((answer.said("token_type"), answer.said("scope")), ("Bearer", "read write"));
    assert_eq!(answer.body["expires_in"], 300);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(house.state(answer.said("grant_id")).await, "active");
}

#[tokio::test]
async fn the_token_is_named_as_it_was_asked_for() {
    let house = House::open();
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let answer = house.exchange(&format!("&requested_token_type={jwt}")).await;
    assert_eq!(answer.said("issued_token_type"), jwt);
    let answer = house.exchange("&ttl=600&client_id=anything&x_unknown=1").await;
    assert_eq!((answer.status, &answer.body["expires_in"]), (200, &600.into()));
}

/// Each change of a good exchange, with the error and the recorded reason that it gives.
#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_recorded() {
    let house = House::open();
    let type_of = |kind: &str| format!("&actor_token_type=urn:ietf:params:oauth:token-type:{kind}");
    let good = format!("{EXCHANGE}&subject_token=x");
    for (form, error, reason, parameter) in [
        (good.replace("&subject_token=x", ""), "invalid_request", "malformed_request", "subject_token"),
        (good.replace("=x", "="), "invalid_request", "malformed_request", "subject_token"),
        (format!("{good}&subject_token=y"), "invalid_request", "malformed_request", "subject_token"),
        (format!("{good}&unknown=1&unknown=2"), "invalid_request", "malformed_request", "unknown"),
        (good.replace("grant_type", "x"), "invalid_request", "malformed_request", "grant_type"),
        (good.replace("token-exchange", "jwt-bearer"), "unsupported_grant_type", "malformed_request", "grant_type"),
        (good.replace("subject_token_type", "x"), "invalid_request", "malformed_request", "subject_token_type"),
        (good.replace("type:jwt", "type:saml2"), "invalid_request", "wrong_token_type", "subject_token_type"),
        (good.replace("&audience", "&x"), "invalid_request", "malformed_request", "audience"),
        (format!("{good}&audience=b"), "invalid_target", "role_not_available", "audience"),
        (format!("{good}&resource=https://b"), "invalid_target", "role_not_available", "audience"),
        (format!("{good}&actor_token=a"), "invalid_request", "malformed_request", "actor_token_type"),
        (format!("{good}{}", type_of("jwt")), "invalid_request", "malformed_request", "actor_token"),
        (
            format!("{good}&actor_token=a{}", type_of("saml2")),
            "invalid_request",
            "wrong_token_type",
            "actor_token_type",
        ),
        (format!("{good}&requested_token_type=x"), "invalid_request", "malformed_request", "requested_token_type"),
        (format!("{good}&ttl=-1"), "invalid_request", "malformed_request", "ttl"),
        (format!("{good}&ttl=99999999999999999999s"), "invalid_request", "malformed_request", "ttl"),
        (format!("{good}&ticket=a%0Ab"), "invalid_request", "malformed_request", "ticket"),
        (format!("{good}&scope=a%22b"), "invalid_request", "malformed_request", "scope"),
        (format!("{good}&x=%zz"), "invalid_request", "malformed_request", "body"),
    ] {
        let answer = house.form("/oauth2/token", None, form.clone()).await;
        assert_eq!((answer.status, answer.said("error")), (400, error), "{form}: {}", answer.text);
        assert_eq!(answer.said("parameter"), parameter, "{form}");
        // The budget of one source ends within this table; what is over it is counted.
        let recorded = house.reasons(&answer).await;
        assert!(recorded.is_empty() || recorded == [reason], "{form}: {recorded:?}");
    }
    assert!(house.world.all_grants().await.is_empty());
}

#[tokio::test]
async fn a_refused_shape_is_recorded_with_its_source() {
    let house = House::open();
    let answer = house.form("/oauth2/token", None, "grant_type=x").await;
    assert_eq!(house.reasons(&answer).await, ["malformed_request"]);
}

#[tokio::test]
async fn only_a_form_of_bounded_size_is_taken() {
    let house = House::open();
    for content_type in ["text/plain", "application/json", "application/x-www-form-urlencoded; charset=utf-16", ""] {
        let request = Request::post("/oauth2/token").header("content-type", content_type).body(Body::empty()).unwrap();
        let answer = house.send(request).await;
        assert_eq!((answer.status, answer.said("error")), (415, "invalid_request"), "{content_type}");
    }
    let answer = house.form("/oauth2/token", None, format!("{EXCHANGE}&subject_token={}", ".".repeat(1 << 20))).await;
    assert_eq!((answer.status, answer.said("error")), (413, "invalid_request"));
    assert_eq!(house.reasons(&answer).await, ["token_too_large"]);
}

#[tokio::test]
async fn an_unknown_role_and_anothers_read_the_same() {
    let house = House::open();
    house.world.policy.rule(Action::Mint, Some(World::ROLE), Ruling::Deny);
    let denied = house.exchange("").await;
    let unknown = EXCHANGE.replace("payments/prod/deploy", "no/such/role");
    let unknown = format!("{unknown}&subject_token={}", encoded(&house.proof()));
    let unknown = house.form("/oauth2/token", None, unknown).await;
    assert_eq!((denied.status, denied.said("error")), (400, "invalid_target"));
    assert_eq!((denied.status, denied.text), (unknown.status, unknown.text));
}

#[tokio::test]
async fn a_proof_that_is_not_acceptable_is_an_invalid_request() {
    let house = House::open();
    for (token, reason) in [("ci%7Cforged", "bad_signature"), ("evil%7C1", "unknown_issuer"), ("x", "not_a_jws")] {
        let answer = house.form("/oauth2/token", None, format!("{EXCHANGE}&subject_token={token}")).await;
        assert_eq!((answer.status, answer.said("error")), (400, "invalid_request"), "{token}");
        assert_eq!((answer.said("reason"), answer.said("step")), (reason, "proof"), "{token}");
        assert_eq!(house.reasons(&answer).await, [reason]);
    }
}

#[tokio::test]
async fn a_repeat_under_one_key_replaces_the_grant_and_another_request_is_refused() {
    let house = House::open();
    let form = format!("{EXCHANGE}&subject_token={}", encoded(&house.proof()));
    let keyed = |form: String, key: &str| {
        let mut request = crate::house::form_request("/oauth2/token", None, form);
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        request
    };
    let first = house.send(keyed(form.clone(), "k-1")).await;
    let second = house.send(keyed(form.clone(), "k-1")).await;
    assert_eq!((first.status, second.status), (200, 200), "{}", second.text);
    assert_ne!(first.said("access_token"), second.said("access_token"));
    assert_eq!(house.state(first.said("grant_id")).await, "revoking");
    let other = house.send(keyed(format!("{form}&ttl=1m"), "k-1")).await;
    assert_eq!((other.status, other.said("reason")), (400, "idempotency_conflict"));
    let spaced = house.send(keyed(form, "a b")).await;
    assert_eq!((spaced.status, spaced.said("parameter")), (400, "Idempotency-Key"));
}

#[tokio::test]
async fn what_is_unwell_says_when_to_come_back() {
    use hallpass_core::testing::{Call, Fault};
    let house = House::with(Nature::hard(), |_| ());
    for (fault, reason) in
        [(Fault::Unavailable, "backend_unavailable"), (Fault::RequestLost, "backend_outcome_unknown")]
    {
        house.world.backend.next(Call::Issue, [Some(fault)]);
        let answer = house.exchange("").await;
        assert_eq!((answer.status, answer.said("error")), (503, "temporarily_unavailable"), "{}", answer.text);
        assert_eq!(answer.said("reason"), reason);
        assert_eq!(answer.header("retry-after"), "1");
    }
}
