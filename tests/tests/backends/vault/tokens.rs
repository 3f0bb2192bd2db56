//! Tokens as credentials: what they may do, for how long, whose they say they are, and how they end.

use hallpass_core::port::{CredentialBackend as _, ExtendError, IssueError, Undone};
use serde_json::json;

use super::{Lab, mint, token};

// CASE REV-017
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_does_what_its_role_says_until_it_is_revoked() {
    let Some(lab) = Lab::open().await else { return };
    let order = lab.order(1, json!({"policies": ["app"], "metadata": {"team": "payments"}}));
    let (issued, handle) = lab.mint(&order).await.unwrap();
    assert_eq!(lab.get(token(&issued), "secret/app").await.1["data"]["flag"], "up");
    assert_eq!(lab.get(token(&issued), "auth/token/lookup-self").await.0, 403, "it has no other policy");

    let seen = lab.server.write("auth/token/lookup", &json!({"token": token(&issued)})).await["data"].clone();
    assert_eq!(seen["policies"], json!(["app"]));
    assert_eq!((&seen["orphan"], &seen["renewable"]), (&json!(true), &json!(false)));
    let meta = &seen["meta"];
    assert_eq!(meta["hallpass_grant"], order.grant.to_string());
    assert_eq!(meta["hallpass_instance"], super::INSTANCE);
    assert_eq!(meta["hallpass_role"], "payments/prod/deploy");
    assert_eq!(meta["hallpass_owner"], order.owner.name.as_str());
    assert_eq!(meta["hallpass_purpose"], order.purpose);
    assert_eq!(meta["team"], "payments");
    let left = seen["ttl"].as_i64().unwrap();
    assert!((590..=595).contains(&left), "ten minutes, less the time that the call may take: {left}");
    assert!(issued.expires_at <= order.expires_at);
    assert_eq!(lab.backend.extend(&handle, order.expires_at).await, Err(ExtendError::Unsupported));

    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_making_nobody_heard_of_is_found_and_ended() {
    let Some(lab) = Lab::open().await else { return };
    let parameters = json!({"policies": ["app"]});
    let (order, neighbour) = (lab.order(1, parameters.clone()), lab.order(2, parameters));
    let planned = lab.backend.plan(&order).unwrap();
    // Twice, as where an answer was lost and it was asked for again.
    let mut lost = Vec::new();
    for _ in 0..2 {
        let prepared = lab.backend.prepare(&order, &planned).await.unwrap().unwrap();
        lost.push(lab.backend.issue(&order, &prepared).await.unwrap());
    }
    let (alive, _) = lab.mint(&neighbour).await.unwrap();
    assert_eq!(lab.backend.revoke(&planned).await, Ok(Undone::Gone), "by nothing but the grant's id");
    for lost in &lost {
        assert_eq!(lab.get(token(lost), "secret/app").await.0, 403);
    }
    assert_eq!(lab.get(token(&alive), "secret/app").await.0, 200, "its neighbour lives");

    // Another broker at the same server, and another backend of this one, have grants of the same id.
    for (name, instance) in [("vault", "https://other.test"), ("vault-2", super::INSTANCE)] {
        let other = lab.another(name, instance, |_| {});
        let (theirs, handle) = mint(&other, &order).await.unwrap();
        assert_eq!(lab.backend.revoke(&planned).await, Ok(Undone::Gone));
        assert_eq!(lab.get(token(&theirs), "secret/app").await.0, 200, "{name} of {instance}");
        other.revoke(&handle).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_look_for_what_was_lost_share_one_count() {
    let Some(lab) = Lab::open().await else { return };
    let orders: Vec<_> = (0..20).map(|n| lab.order(n, json!({"policies": ["app"]}))).collect();
    let mut lost = Vec::new();
    for order in &orders {
        lost.push(lab.mint(order).await.unwrap().0);
    }
    let planned: Vec<_> = orders.iter().map(|order| lab.backend.plan(order).unwrap()).collect();
    let all = futures_util::future::join_all(planned.iter().map(|planned| lab.backend.revoke(planned))).await;
    assert!(all.iter().all(|undone| *undone == Ok(Undone::Gone)), "{all:?}");
    for lost in &lost {
        assert_eq!(lab.get(token(lost), "secret/app").await.0, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_brokers_session_ends_no_grant() {
    let Some(lab) = Lab::open().await else { return };
    let (issued, handle) = lab.mint(&lab.order(1, json!({"policies": ["app"]}))).await.unwrap();
    let file = lab.folder.path().join("token");
    let session = std::fs::read_to_string(&file).unwrap();
    lab.server.write("auth/token/revoke", &json!({"token": session})).await;
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 200, "it is nobody's child");
    let refused = lab.mint(&lab.order(2, json!({"policies": ["app"]}))).await.map(|_| ()).unwrap_err();
    assert!(matches!(&refused, IssueError::Refused { .. }), "{refused}");
    assert!(lab.backend.revoke(&handle).await.is_err(), "nothing is said to be gone");

    // A new one is had as soon as there is one.
    std::fs::write(&file, lab.server.token("hallpass", super::POLICY).await).unwrap();
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_and_networks_are_bounded_as_the_role_says() {
    let Some(lab) = Lab::open().await else { return };
    let (issued, handle) = lab.mint(&lab.order(1, json!({"policies": ["app"], "num_uses": 2}))).await.unwrap();
    for status in [200, 200, 403] {
        assert_eq!(lab.get(token(&issued), "secret/app").await.0, status);
    }
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone), "it is gone already");

    let bound = json!({"policies": ["app"], "bound_cidrs": ["192.0.2.0/24"], "token_role": "bound"});
    let policy = format!("{}\npath \"auth/token/create/bound\" {{ capabilities = [\"update\"] }}", super::POLICY);
    lab.server.write("sys/policies/acl/hallpass", &json!({"policy": policy})).await;
    lab.server.write("auth/token/roles/bound", &super::token_role()).await;
    let refused = lab.mint(&lab.order(2, bound.clone())).await.map(|_| ()).unwrap_err();
    assert!(format!("{refused:?}").contains("bound_cidrs"), "{refused:?}");
    let mut token_role = super::token_role();
    token_role["token_bound_cidrs"] = json!("192.0.2.0/24");
    lab.server.write("auth/token/roles/bound", &token_role).await;
    let (issued, _) = lab.mint(&lab.order(3, bound)).await.unwrap();
    assert_eq!(lab.get(token(&issued), "secret/app").await.0, 403, "this machine is not in that network");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_role_that_gives_something_else_is_refused_and_leaves_nothing() {
    let Some(lab) = Lab::open().await else { return };
    for (wrong, says) in [
        (json!({"orphan": false}), "orphan=true"),
        (json!({"token_type": "batch"}), "batch"),
        (json!({"allowed_policies": "other"}), "policies"),
    ] {
        let mut token_role = super::token_role();
        token_role.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        lab.server.write("auth/token/roles/hallpass", &token_role).await;
        let before = lab.server.accessors().await;
        let refused = lab.mint(&lab.order(1, json!({"policies": ["app"]}))).await.map(|_| ()).unwrap_err();
        assert!(
            matches!(&refused, IssueError::Refused { internal: Some(internal), .. } if internal.contains(says)),
            "{wrong}: {refused}"
        );
        assert_eq!(lab.server.accessors().await, before, "{wrong}");
    }
    lab.server.write("auth/token/roles/hallpass", &super::token_role()).await;
    lab.mint(&lab.order(1, json!({"policies": ["app"]}))).await.unwrap();
}
