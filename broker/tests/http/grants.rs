//! `/v1/grants`: opening, renewing, ending.

use axum::body::Body;
use axum::http::Request;
use hallpass_core::grant::Cause;
use hallpass_core::policy::Action;
use hallpass_core::testing::{Nature, Ruling, World};
use serde_json::{Value, json};

use crate::house::{House, URL, request, wanted};

#[tokio::test]
async fn a_grant_is_opened_with_its_credential_once_and_its_place() {
    let house = House::open();
    let proof = house.proof();
    let opened = house.call("POST", "/v1/grants", &proof, Some(wanted())).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    let grant = &opened.body["grant"];
    let id = grant["id"].as_str().unwrap();
    assert_eq!(opened.body["credential"]["token"], format!("own.{id}"));
    assert_eq!(opened.header("location"), format!("{URL}/v1/grants/{id}"));
    assert_eq!(opened.header("cache-control"), "no-store");
    let read = house.call("GET", &format!("/v1/grants/{id}"), &proof, None).await;
    assert_eq!(&read.body, grant, "the record reads as it was answered");
    assert!(!read.text.contains("own."), "the credential was shown again");
}

#[tokio::test]
async fn every_field_of_the_contract_is_acted_on_or_refused_by_name() {
    let house = House::open();
    let mut full = wanted();
    for (name, value) in [
        ("ttl", json!("5m")),
        ("ticket", json!("CHG-1")),
        ("scope", json!(["a"])),
        ("task", json!("fix the build")),
        ("ends_when", json!({"heartbeat": "60s"})),
        ("replaces", Value::Null),
    ] {
        full[name] = value;
    }
    let opened = house.call("POST", "/v1/grants", &house.proof(), Some(full)).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    let grant = &opened.body["grant"];
    assert_eq!((&grant["ticket"], &grant["task"]), (&json!("CHG-1"), &json!("fix the build")));
    assert_eq!((&grant["terms"]["heartbeat"], &grant["terms"]["ttl"]), (&json!("1m"), &json!("5m")));

    for (name, value, named) in [
        ("exception", json!({"kind": "break_glass", "reason": "outage"}), "exception"),
        ("ends_when", json!({"run": true}), "ends_when.run"),
        ("owner", json!("me"), "owner"),
        ("state", json!("active"), "state"),
    ] {
        let mut body = wanted();
        body[name] = value;
        let answer = house.call("POST", "/v1/grants", &house.proof(), Some(body)).await;
        assert_eq!((answer.status, answer.said("code")), (422, "unknown_field"), "{}", answer.text);
        assert_eq!(answer.said("parameter"), named);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.said("request_id"), answer.header("x-request-id"));
        assert_eq!(house.reasons(&answer).await, ["unknown_field"]);
    }
}

#[tokio::test]
async fn a_body_that_is_not_one_strict_object_is_refused() {
    let house = House::open();
    let post = |content_type: &str, body: String| {
        Request::post("/v1/grants")
            .header("authorization", format!("Bearer {}", house.proof()))
            .header("content-type", content_type)
            .body(Body::from(body))
            .unwrap()
    };
    for (content_type, body, status) in [
        ("application/json", "{\"role\":\"a\",\"role\":\"b\"}".to_owned(), 400),
        ("application/json", format!("{{\"role\":{}", "[".repeat(60_000)), 400),
        ("application/json", "{}{}".to_owned(), 400),
        ("application/json", "[]".to_owned(), 422),
        ("application/json", "{\"role\":7}".to_owned(), 422),
        ("application/json", " ".repeat(2_000_000), 413),
        ("application/json; charset=utf-16", wanted().to_string(), 415),
        ("text/plain", wanted().to_string(), 415),
    ] {
        let answer = house.send(post(content_type, body)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.said("code"), "malformed_request", "{}", answer.text);
    }
    assert!(house.world.all_grants().await.is_empty());
}

#[tokio::test]
async fn nobody_is_told_anything_before_a_proof() {
    let house = House::open();
    let (_, id) = house.grant().await;
    for (method, path) in [
        ("POST", "/v1/grants".to_owned()),
        ("GET", "/v1/grants?nonsense=1".to_owned()),
        ("GET", format!("/v1/grants/{id}")),
        ("POST", format!("/v1/grants/{id}/renew")),
        ("POST", format!("/v1/grants/{id}/revoke")),
        ("POST", format!("/v1/grants/{id}/abandon")),
        ("POST", format!("/v1/grants/{id}/heartbeat")),
        ("DELETE", format!("/v1/grants/{id}")),
        ("GET", "/v1/grants/nonsense".to_owned()),
        ("GET", "/v1/whoami".to_owned()),
        ("POST", "/v1/decisions".to_owned()),
        ("GET", "/v1/roles".to_owned()),
        ("GET", "/v1/roles/a/b".to_owned()),
        ("GET", "/v1/owners".to_owned()),
        ("GET", "/v1/owners/payments".to_owned()),
        ("GET", "/v1/audit?limit=x".to_owned()),
    ] {
        for (proof, code) in [(None, "proof_missing"), (Some("not-a-proof"), "not_a_jws")] {
            let body = (method == "POST").then(|| json!({"nonsense": 1}));
            let answer = house.send(request(method, &path, proof, body)).await;
            assert_eq!((answer.status, answer.said("code")), (401, code), "{method} {path}: {}", answer.text);
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn anothers_grant_and_no_grant_read_the_same() {
    let house = House::open();
    let (_, id) = house.grant().await;
    for action in [Action::Read, Action::Revoke, Action::Renew, Action::Abandon] {
        house.world.policy.rule(action, None, Ruling::Deny);
    }
    let stranger = house.world.proof("repo:evil/app");
    let stranger = stranger.token().unwrap().expose();
    let mut seen = std::collections::BTreeSet::new();
    for id in [id.as_str(), "01890a5d-ac96-774b-bcce-b302099a8057", &id.to_uppercase(), "x", "a%2F..%2Fb"] {
        for (method, path) in [
            ("GET", format!("/v1/grants/{id}")),
            ("POST", format!("/v1/grants/{id}/renew")),
            ("POST", format!("/v1/grants/{id}/revoke")),
            ("POST", format!("/v1/grants/{id}/heartbeat")),
            ("DELETE", format!("/v1/grants/{id}")),
        ] {
            let mut answer = house.call(method, &path, stranger, None).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
            answer.body["request_id"] = Value::Null;
            seen.insert(answer.body.to_string());
        }
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[tokio::test]
async fn a_grant_is_ended_by_its_holder_and_says_how_far_that_is() {
    let house = House::with(Nature::hard(), |_| ());
    let (proof, id) = house.grant().await;
    let path = format!("/v1/grants/{id}");
    let revoke = format!("{path}/revoke");
    let ending = house.call("POST", &revoke, &proof, Some(json!({"reason": "done"}))).await;
    assert_eq!((ending.status, ending.said("state")), (202, "revoking"), "{}", ending.text);
    assert_eq!(
        (ending.said("cause"), &ending.body["revocation"]["class"]),
        (Cause::REQUESTED.as_str(), &json!("hard"))
    );
    house.world.settle().await;
    let fresh = house.proof();
    for (method, path) in [("POST", &revoke), ("DELETE", &path)] {
        let ended = house.call(method, path, &fresh, None).await;
        assert_eq!((ended.status, ended.said("state")), (200, "revoked"), "{}", ended.text);
    }
    let long = house.call("POST", &revoke, &fresh, Some(json!({"reason": "x".repeat(500)}))).await;
    assert_eq!((long.status, long.said("parameter")), (422, "reason"));
}

#[tokio::test]
async fn a_grant_is_renewed_where_its_backend_can() {
    let house = House::with(Nature::hard(), |_| ());
    let (_, id) = house.grant().await;
    let path = format!("/v1/grants/{id}/renew");
    let renewed = house.call("POST", &path, &house.proof(), Some(json!({"ttl": "30m"}))).await;
    assert_eq!((renewed.status, renewed.said("end_at")), (200, "2026-01-01T00:30:00Z"), "{}", renewed.text);
    let unknown = house.call("POST", &path, &house.proof(), Some(json!({"tll": "30m"}))).await;
    assert_eq!((unknown.status, unknown.said("parameter")), (422, "tll"));

    let fixed = House::open();
    let (_, id) = fixed.grant().await;
    let answer =
        fixed.call("POST", &format!("/v1/grants/{id}/renew"), &fixed.proof(), Some(json!({"ttl": 1800}))).await;
    assert_eq!((answer.status, answer.said("code")), (409, "cannot_extend"), "{}", answer.text);
}

#[tokio::test]
async fn a_holder_says_that_it_lives_until_it_has_ended() {
    let house = House::with(Nature::hard(), |_| ());
    let (proof, id) = house.grant().await;
    let path = format!("/v1/grants/{id}/heartbeat");
    let alive = house.call("POST", &path, &proof, None).await;
    assert_eq!((alive.status, alive.said("last_seen_at")), (200, "2026-01-01T00:00:00Z"), "{}", alive.text);
    house.call("DELETE", &format!("/v1/grants/{id}"), &proof, None).await;
    let ended = house.call("POST", &path, &proof, None).await;
    assert_eq!((ended.status, ended.said("code")), (409, "state_conflict"));
}

#[tokio::test]
async fn giving_up_needs_a_reason_and_a_grant_that_is_ending() {
    let house = House::with(Nature::hard(), |_| ());
    let (proof, id) = house.grant().await;
    let path = format!("/v1/grants/{id}/abandon");
    let mute = house.call("POST", &path, &proof, Some(json!({}))).await;
    assert_eq!((mute.status, mute.said("parameter")), (422, "reason"), "{}", mute.text);
    let early = house.call("POST", &path, &proof, Some(json!({"reason": "the backend is gone"}))).await;
    assert_eq!(early.status, 409, "{}", early.text);
    house.call("DELETE", &format!("/v1/grants/{id}"), &proof, None).await;
    let given_up = house.call("POST", &path, &proof, Some(json!({"reason": "the backend is gone"}))).await;
    assert_eq!((given_up.status, given_up.said("state")), (200, "abandoned"), "{}", given_up.text);
}

#[tokio::test]
async fn a_denied_role_is_forbidden_and_a_purpose_that_says_nothing_invalid() {
    let house = House::open();
    let vague = json!({"role": World::ROLE, "purpose": "test"});
    let answer = house.call("POST", "/v1/grants", &house.proof(), Some(vague)).await;
    assert_eq!((answer.status, answer.said("code")), (422, "missing_purpose"));
    house.world.policy.rule(Action::Mint, None, Ruling::Deny);
    let answer = house.call("POST", "/v1/grants", &house.proof(), Some(wanted())).await;
    assert_eq!((answer.status, answer.said("code")), (403, "role_not_available"));
    assert_eq!(house.reasons(&answer).await, ["policy_denied"], "the log knows more than the caller");
}

#[tokio::test]
async fn what_is_decided_on_is_what_is_recorded_and_bounded_first() {
    let house = House::open();
    let hidden = json!({"role": World::ROLE, "purpose": "de\u{200b}ploy 4f2c "});
    let opened = house.call("POST", "/v1/grants", &house.proof(), Some(hidden)).await;
    assert_eq!(opened.body["grant"]["purpose"], "deploy 4f2c", "{}", opened.text);
    let decision = opened.body["grant"]["decision"]["id"].as_str().unwrap().parse().unwrap();
    let decision = house.world.ports.store.decision(decision).await.unwrap().unwrap();
    assert_eq!(decision.query.context.purpose.as_deref(), Some("deploy 4f2c"));

    house.world.policy.rule(Action::Mint, None, Ruling::Deny);
    for role in [World::ROLE, "no/such"] {
        let long = json!({"role": role, "purpose": "deploy ".repeat(1_000)});
        let answer = house.call("POST", "/v1/grants", &house.proof(), Some(long.clone())).await;
        assert_eq!((answer.status, answer.said("parameter")), (422, "purpose"), "{}", answer.text);
        assert_eq!(house.reasons(&answer).await, ["malformed_request"], "no decision keeps such a text");
        assert_eq!(house.call("POST", "/v1/decisions", &house.proof(), Some(long)).await.status, 422);
    }
}

#[tokio::test]
async fn a_grant_takes_the_place_of_no_other_s() {
    let house = House::open();
    let (_, own) = house.grant().await;
    let asked = |id: &str| json!({"role": World::ROLE, "purpose": "deploy 4f2c", "replaces": id});
    let again = house.call("POST", "/v1/grants", &house.proof(), Some(asked(&own))).await;
    assert_eq!((again.status, &again.body["grant"]["replaces"]), (201, &json!(own)), "{}", again.text);
    let replaced = house.call("GET", &format!("/v1/grants/{own}"), &house.proof(), None).await;
    assert_eq!(replaced.body["state"], "revoking", "{}", replaced.text);
    assert_eq!(replaced.body["cause"], "replaced");
    let own = again.body["grant"]["id"].as_str().unwrap().to_owned();
    let other = house.world.proof("repo:evil/app");
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let said = async |id: &str| {
        let answer = house.call("POST", "/v1/grants", other.token().unwrap().expose(), Some(asked(id))).await;
        (answer.status, answer.said("detail").to_owned())
    };
    assert_eq!(
        said(&own).await,
        (422, "`replaces` is not the id of a grant of yours: of this run, and bound to the same key".to_owned())
    );
    assert_eq!(said(unknown).await, said(&own).await);
    let untouched = house.call("GET", &format!("/v1/grants/{own}"), &house.proof(), None).await;
    assert_eq!(untouched.body["state"], "active");
}
