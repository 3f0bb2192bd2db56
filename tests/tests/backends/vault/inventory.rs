//! What is alive at the server: ours, others', and other doors; one of each is planted by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallpass_core::port::{Belongs, CredentialBackend as _, InventoryItem, ItemKind, Undone};
use hallpass_core::testing::sample;
use serde_json::json;

use super::{Lab, mint, role, token};

async fn items(lab: &Lab) -> BTreeMap<String, InventoryItem> {
    let items = lab.backend.inventory().await.unwrap();
    items.into_iter().map(|item| (item.name.clone(), item)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_is_told_from_others_and_can_be_undone_by_what_is_found() {
    let Some(lab) = Lab::open().await else { return };
    let parameters = json!({"policies": ["app"]});
    let order = lab.order(1, parameters.clone());
    let (ours, _) = lab.mint(&order).await.unwrap();
    let (theirs, _) = mint(&lab.another("vault", "https://other.test", |_| {}), &order).await.unwrap();
    let by_hand = lab.server.write("auth/token/create", &json!({"policies": ["app"], "meta": {"team": "x"}})).await;
    let spare = lab.backend.make_spare(&role(parameters), sample::id(7), order.expires_at).await.unwrap();
    assert!(spare.expires_at <= order.expires_at);

    let found = items(&lab).await;
    let count = |belongs| found.values().filter(|item| item.belongs == belongs).count();
    assert_eq!((count(Belongs::ToGrant(order.grant)), count(Belongs::ToSpare(sample::id(7)))), (1, 1));
    let accessor = by_hand["auth"]["accessor"].as_str().unwrap();
    assert_eq!(found[accessor].belongs, Belongs::ToOthers);
    assert!(found.values().all(|item| !format!("{item:?}").contains(token(&ours))), "no secret is in it");
    assert!(found.values().filter(|item| item.belongs == Belongs::ToOthers).all(|item| item.handle.is_none()));

    for item in found.values().filter(|item| item.belongs != Belongs::ToOthers) {
        assert_eq!(lab.backend.revoke(item.handle.as_ref().unwrap()).await, Ok(Undone::Gone));
    }
    assert_eq!(lab.get(token(&ours), "secret/app").await.0, 403);
    assert_eq!(lab.get(token(&theirs), "secret/app").await.0, 200);
    let left = items(&lab).await;
    assert!(left.values().all(|item| item.belongs == Belongs::ToOthers));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_doors_to_the_same_policies_are_shown_as_far_as_they_may_be_seen() {
    let Some(lab) = Lab::open().await else { return };
    lab.backend.serve(&[Arc::new(role(json!({"policies": ["app"]})))]);
    lab.backend.validate(&role(json!({"policies": ["other"]}))).expect("tried, and never in force");
    lab.server.write("sys/auth/approle", &json!({"type": "approle"})).await;
    for (name, policy) in [("legacy", "app"), ("harmless", "other")] {
        lab.server.write(&format!("auth/approle/role/{name}"), &json!({"token_policies": policy})).await;
    }
    lab.server.write("auth/token/roles/ci", &json!({"allowed_policies": ["app"]})).await;
    let found = items(&lab).await;
    let doors: Vec<_> = found.values().filter(|item| item.kind == ItemKind::Door).map(|item| &item.name).collect();
    assert_eq!(doors, ["auth/approle/role/legacy", "auth/token/roles/ci"], "the broker's own door is none");

    // One who may not look sees none, and goes on.
    let blind = lab.another("vault", super::INSTANCE, |_| {});
    blind.serve(&[Arc::new(role(json!({"policies": ["app"]})))]);
    let policy: String = super::POLICY.split("# Optional").next().unwrap().to_owned();
    lab.server.write("sys/policies/acl/hallpass", &json!({"policy": policy})).await;
    let seen = blind.inventory().await.unwrap();
    assert!(seen.iter().all(|item| item.kind == ItemKind::Credential));
}
