//! `/oauth2/introspect` and `/oauth2/revoke`.

use hallpass_core::policy::Action;
use hallpass_core::testing::Ruling;
use hallpass_core::time::Ttl;
use serde_json::json;

use crate::house::{House, URL};

#[tokio::test]
async fn a_live_token_is_shown_to_who_may_ask() {
    let house = House::open();
    let (proof, id) = house.grant().await;
    let answer = house.form("/oauth2/introspect", Some(&proof), format!("token=own.{id}&token_type_hint=x")).await;
    let seen = json!({
        "active": true, "iss": URL, "sub": "ci:repo:acme/app", "aud": "https://api.example",
        "client_id": "ci:repo:acme/app", "token_type": "Bearer", "exp": 1_767_226_200, "iat": 1_767_225_600,
        "jti": id, "grant_id": id,
    });
    assert_eq!((answer.status, answer.body), (200, seen));
}

#[tokio::test]
async fn everything_else_is_inactive_and_nothing_more() {
    let house = House::open();
    let (proof, id) = house.grant().await;
    let introspect = async |token: &str| {
        let answer = house.form("/oauth2/introspect", Some(&house.proof()), format!("token={token}")).await;
        (answer.status, answer.text)
    };
    let inactive = (200, r#"{"active":false}"#.to_owned());
    let own = format!("own.{id}");
    house.world.policy.rule(Action::Introspect, None, Ruling::Deny);
    assert_eq!(introspect(&own).await, inactive, "not for this caller");
    house.world.policy.rule(Action::Introspect, None, Ruling::Allow(hallpass_core::policy::Obligations::default()));
    for token in ["random", "a.b.c", "own.01890a5d-ac96-774b-bcce-b302099a8057"] {
        assert_eq!(introspect(token).await, inactive, "{token}");
    }
    assert_ne!(introspect(&own).await, inactive);
    house.call("DELETE", &format!("/v1/grants/{id}"), &proof, None).await;
    assert_eq!(introspect(&own).await, inactive, "ended");
    let (_, other) = house.grant().await;
    house.world.clock.advance(Ttl::from_mins(11));
    assert_eq!(introspect(&format!("own.{other}")).await, inactive, "expired");
}

#[tokio::test]
async fn introspection_needs_a_proof() {
    let house = House::open();
    for (proof, error) in [(None, "invalid_client"), (Some("x"), "invalid_token")] {
        let answer = house.form("/oauth2/introspect", proof, "token=x").await;
        assert_eq!((answer.status, answer.said("error")), (401, error));
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    let answer = house.form("/oauth2/introspect", Some(&house.proof()), "x=y").await;
    assert_eq!((answer.status, answer.said("error")), (400, "invalid_request"));
}

#[tokio::test]
async fn whoever_has_a_token_may_end_it() {
    let house = House::open();
    let stranger = house.world.proof("repo:evil/app").token().unwrap().expose().to_owned();
    for proof in [None, Some(stranger.as_str())] {
        let (_, id) = house.grant().await;
        let answer = house.form("/oauth2/revoke", proof, format!("token=own.{id}")).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{answer:?}");
        assert_eq!(house.state(&id).await, "revoking");
        let again = house.form("/oauth2/revoke", proof, format!("token=own.{id}")).await;
        assert_eq!((again.status, again.text.as_str()), (200, ""), "ending is idempotent");
    }
    for token in ["random", "own.01890a5d-ac96-774b-bcce-b302099a8057"] {
        let answer = house.form("/oauth2/revoke", None, format!("token={token}")).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{token}");
    }
}

#[tokio::test]
async fn a_proof_that_comes_with_a_revocation_must_hold() {
    let house = House::open();
    let (_, id) = house.grant().await;
    for token in ["random".to_owned(), format!("own.{id}")] {
        let answer = house.form("/oauth2/revoke", Some("ci|forged"), format!("token={token}")).await;
        assert_eq!((answer.status, answer.said("error")), (401, "invalid_token"), "{token}");
    }
    assert_eq!(house.state(&id).await, "active");
}

#[tokio::test]
async fn a_token_that_policy_keeps_alive_is_not_said_to_be_revoked() {
    let house = House::open();
    let (_, id) = house.grant().await;
    house.world.policy.rule(Action::Revoke, None, Ruling::Deny);
    let answer = house.form("/oauth2/revoke", None, format!("token=own.{id}")).await;
    assert_eq!((answer.status, answer.said("error")), (403, "access_denied"));
    assert_eq!(house.state(&id).await, "active");
}
