//! What one may take of the broker, and what nobody can take from the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, ROLE};
use hallpass_tests::{Exchange, eventually};
use serde_json::json;

use crate::{House, WORKLOAD};

#[tokio::test]
async fn rates_and_quotas_are_those_of_the_server_file_and_of_the_role() {
    let house = House::open_with(|mut setup| {
        for (_, role) in setup.roles.iter_mut().filter(|(name, _)| name == ROLE) {
            role["max_live"] = json!(2);
        }
        setup.server(json!({
            "server": {"trusted_proxies": ["127.0.0.1"]},
            "limits": {"rate": {"per_source": "4/1m", "per_issuer": "100/1m"}},
        }))
    })
    .await;
    let from = |source: &str| Exchange::of(&house.proof()).header("x-forwarded-for", source);
    for _ in 0..2 {
        house.broker.exchange(&from("192.0.2.1")).await.assert_status(200);
    }
    for _ in 0..2 {
        let over = house.broker.exchange(&from("192.0.2.1")).await;
        over.assert_refused(429, "temporarily_unavailable");
        assert_eq!((over.text_of("reason"), over.header("retry-after")), ("quota_exceeded", "10"));
    }
    let over = house.broker.exchange(&from("192.0.2.1")).await;
    over.assert_refused(429, "temporarily_unavailable");
    assert_eq!((over.text_of("reason"), over.header("retry-after")), ("rate_limited", "15"));
    assert_eq!(house.broker.exchange(&from("192.0.2.2")).await.text_of("reason"), "quota_exceeded", "not its rate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_exchanges_does_not_keep_anybody_from_ending_a_grant() {
    const GRANTS: usize = 20;
    const FLOODING: usize = 48;
    let house = House::open_with(|setup| setup.server(json!({"limits": {"concurrency": 2}}))).await;
    let mut held = Vec::new();
    for _ in 0..GRANTS {
        held.push(house.credential().await.grant_id().to_owned());
    }

    let house = Arc::new(house);
    let (over, sent_away, served) =
        (Arc::new(AtomicBool::new(false)), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let flood: Vec<_> = (0..FLOODING)
        .map(|_| {
            let (house, over) = (Arc::clone(&house), Arc::clone(&over));
            let (sent_away, served) = (Arc::clone(&sent_away), Arc::clone(&served));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let proof = house.key.sign(&house.issuer.claims(AUDIENCE, WORKLOAD));
                    let answer = house.broker.exchange(&Exchange::of(&proof)).await;
                    match answer.status {
                        200 => served.fetch_add(1, Ordering::Relaxed),
                        503 => {
                            answer.assert_refused(503, "temporarily_unavailable");
                            assert_eq!((answer.text_of("reason"), answer.header("retry-after")), ("overloaded", "1"));
                            sent_away.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other}: {}", answer.text),
                    };
                }
            })
        })
        .collect();
    let flooded = || async { (sent_away.load(Ordering::Relaxed) > 200).then_some(()) };
    eventually("the broker is full", Duration::from_secs(60), flooded).await;

    for grant in &held {
        let before = sent_away.load(Ordering::Relaxed);
        let (path, proof) = (format!("/v1/grants/{grant}"), house.proof());
        house.broker.call("GET", &path, Some(&proof), None).await.assert_status(200);
        let reason = json!({"reason": "now"});
        let path = format!("{path}/revoke");
        let revoke = house.broker.call("POST", &path, Some(&proof), Some(&reason));
        let ended = tokio::time::timeout(Duration::from_secs(10), revoke).await.expect("an end within ten seconds");
        ended.assert_status(202);
        let still = || async { (sent_away.load(Ordering::Relaxed) > before).then_some(()) };
        eventually("the flood goes on", Duration::from_secs(60), still).await;
    }
    let ordinary = eventually("an ordinary request is sent away", Duration::from_secs(60), || async {
        let answer = house.broker.call("GET", "/v1/whoami", Some(&house.proof()), None).await;
        (answer.status == 503).then_some(answer)
    });
    ordinary.await.assert_refused(503, "overloaded");
    over.store(true, Ordering::Relaxed);
    for task in flood {
        task.await.expect("the flood ran");
    }
    let store = house.broker.store();
    assert!(held.iter().all(|grant| store.state(grant) == "revoking"));
    assert!(served.load(Ordering::Relaxed) > 0, "the broker served nobody");
}
