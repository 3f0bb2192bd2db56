//! A broker that dies at a moment of its own choosing, between intent, user and activation: what is at the server
//! afterwards is what the record has, and no more. Both are read where they are, and not asked of the broker.

use hallpass_tests::eventually;
use serde_json::json;

use super::life::{DEADLINE, House};

async fn after_a_death_at(point: &str, users_at_death: usize) {
    let Some(mut house) = House::open().await else { return };
    let kept = house.hold("10m").await;
    house.broker.stop().await;
    house.broker.set_environment("HALLPASS_KILL_AT", Some(point));
    house.broker.restart().await;
    let body = json!({"role": "app/db", "purpose": "move the orders of yesterday"});
    let (proof, header) = (house.proof(), ("x-note", "it dies"));
    let asked = house.broker.try_call_with(("POST", "/v1/grants"), &proof, header, Some(&body));
    asked.await.expect_err("nobody answers");
    house.broker.kill9().await;
    let users = house.server.roles("hp\\_%").await;
    assert_eq!(users.len(), 1 + users_at_death, "{users:?}");

    house.broker.set_environment("HALLPASS_KILL_AT", None);
    house.broker.restart().await;
    eventually("only the user of the live grant is left", DEADLINE, async || {
        (house.server.roles("hp\\_%").await == [kept.username.clone()]).then_some(())
    })
    .await;
    let over = |state: &str| matches!(state, "revoked" | "failed" | "expired");
    eventually("the other grant is over in the record", DEADLINE, async || {
        let grants = house.broker.store().grants();
        let live = grants.iter().filter(|row| !row["state"].as_str().is_some_and(over)).count();
        (grants.len() == 2 && live == 1).then_some(())
    })
    .await;
    house.log_in(&kept).await.expect("the grant that was there before works on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_between_intent_and_user_leaves_nothing() {
    after_a_death_at("open::after-intent", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_whose_maker_died_before_it_could_say_so_is_dropped() {
    after_a_death_at("open::after-call", 1).await;
}
