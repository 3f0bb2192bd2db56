//! Killed at each place between the record and a real backend, and at random moments under load.

use std::time::Duration;

use hallpass_tests::estate::{LEASE, SESSION, TOKEN, USER};
use hallpass_tests::{eventually, size};
use serde_json::json;

use super::{ALL, Ground, KINDS, SETTLED};
use crate::chance::Chance;
use crate::points::REMOTE;
use crate::process::assert_killed;

/// Of what the care for a backend does.
const CARE: &str = "care::";
/// Of what is prepared ahead of a credential: nothing but OpenBao has that.
const PREPARING: &[&str] = &["open::after-prepare", "open::after-prepared"];
/// The longest that clients work before a crash.
const LONGEST_MILLIS: u64 = 1500;
/// How long it takes until somebody takes a spare for too old, and more.
const SPARES_AGE: Duration = Duration::from_secs(30);

// CASE MNT-122
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_record_and_backend_it_leaves_nothing_alive_without_a_grant() {
    let Some(mut ground) = Ground::open().await else { return };
    ground.house.process.kill9().await;
    for point in REMOTE.iter().filter(|point| !point.starts_with(CARE)) {
        for kind in KINDS {
            if PREPARING.contains(point) && [USER, SESSION].contains(kind) {
                continue;
            }
            killed_at(&mut ground, point, kind).await;
        }
    }
    ground.house.start().await;
    ground.holders.assert_served(KINDS);
    ground.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_prepares_ahead_it_leaves_nothing_that_is_not_found() {
    let Some(mut ground) = Ground::open().await else { return };
    ground.house.process.kill9().await;
    for point in REMOTE.iter().filter(|point| point.starts_with(CARE)) {
        // The first spares are made at the start; those of the brief role are soon too old.
        for round in 0..size(2, 10) {
            let hit = 1 + round;
            if ground.house.start_to_die(&format!("{point}:{hit}")).await {
                let dies = ground.house.process.ended();
                let status = tokio::time::timeout(SPARES_AGE, dies).await.expect("it dies at the point");
                assert_killed(status, &ground.house.process.output());
            }
            ground.house.start().await;
            ground.assert_kept().await;
            ground.house.process.kill9().await;
        }
    }
    ground.house.start().await;
    ground.assert_settled().await;
}

/// Kills the broker at the first hits of a fail point under load of one kind, then at later ones, and looks after each
/// restart.
async fn killed_at(ground: &mut Ground, point: &str, kind: &'static str) {
    for round in 0..size(1, 8) {
        let hit = 1 + round * 3;
        // What an earlier crash left behind may have it die before it is ready.
        if ground.house.start_to_die(&format!("{point}:{hit}")).await {
            ground.holders.watch_until_silence(&ground.house.caller, Some(kind)).await;
            assert_killed(ground.house.process.ended().await, &ground.house.process.output());
        }
        ground.house.start().await;
        ground.assert_kept().await;
        ground.house.process.kill9().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_over_real_backends_it_leaves_nothing_alive_without_a_grant() {
    let Some(mut ground) = Ground::open().await else { return };
    let mut chance = Chance::new();
    for _ in 0..size(15, 200) {
        let mut load = tokio::spawn({
            let (holders, caller) = (ground.holders.clone(), ground.house.caller.clone());
            async move { holders.watch_until_silence(&caller, None).await }
        });
        let moment = Duration::from_millis(chance.below(LONGEST_MILLIS));
        let early = tokio::time::timeout(moment, &mut load).await;
        assert!(early.is_err(), "the clients stopped before the broker did: {early:?}");
        ground.house.process.kill9().await;
        load.await.expect("clients met what they did not expect");
        ground.house.start().await;
        ground.assert_kept().await;
    }
    ground.holders.assert_served(ALL);
    ground.assert_settled().await;
}

/// The control: what the others look for is seen where it is. The broker finds it, too, by what its servers tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_alive_without_a_grant_is_seen_and_ended_by_the_inventory() {
    let Some(ground) = Ground::open().await else { return };
    assert!(ground.orphans().await.is_empty(), "{:?}", ground.orphans().await);
    let (issuer, bytes) = (ground.issuer(), hallpass_tests::random_bytes::<16>());
    let grant = uuid::Uuid::from_bytes(bytes).to_string();
    let meta = json!({
        "hallpass_instance": issuer, "hallpass_backend": "vault", "hallpass_grant": grant,
        "hallpass_role": TOKEN, "hallpass_engine": "token",
    });
    let token = json!({"policies": ["app"], "meta": meta, "ttl": "1h", "no_default_policy": true});
    let made = ground.estate.bao.write("auth/token/create/hallpass", &token).await;
    let accessor = made["auth"]["accessor"].as_str().expect("an accessor");
    // And one under a parent of a role with a path: the user of the database goes with it.
    let mut meta = meta.clone();
    (meta["hallpass_engine"], meta["hallpass_path"]) = (json!("database"), json!("database/creds/app"));
    meta["hallpass_role"] = json!(LEASE);
    let parent = json!({"policies": ["db"], "meta": meta, "ttl": "1h", "no_default_policy": true});
    let parent = ground.estate.bao.write("auth/token/create/hallpass", &parent).await;
    let parent = parent["auth"]["client_token"].as_str().expect("a token").to_owned();
    let (status, leased) = ground.estate.bao.get_as(&parent, "database/creds/app").await;
    assert_eq!(status, 200, "{leased}");
    let leased = leased["data"]["username"].as_str().expect("a user").to_owned();

    let seen: Vec<_> = ground.orphans().await.into_iter().map(|(one, _)| one.name).collect();
    for planted in [format!("token {accessor}"), format!("leased user {leased}")] {
        assert!(seen.contains(&planted), "{planted} is not seen: {seen:?}");
    }
    eventually("the inventory ends what has no grant", SETTLED, async || {
        ground.orphans().await.is_empty().then_some(())
    })
    .await;
    assert!(ground.estate.postgres.roles(&leased).await.is_empty(), "the user is gone");
    ground.assert_kept().await;
}
