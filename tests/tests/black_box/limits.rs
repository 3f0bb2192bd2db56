//! What one may take of the broker, and what nobody can take from the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, ROLE};
use hallpass_tests::{Answer, Exchange, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{House, WORKLOAD};

// CASE MNT-117
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

// CASE API-017
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

/// Places of a broker that one source fills or does not fill.
const PLACES: u32 = 8;

/// Whose bodies trickle, by what the proxy at 127.0.0.1 says.
const SLOW: &str = "192.0.2.1";
/// Somebody else.
const OTHER: &str = "192.0.2.2";

/// A house all of whose requests of one source at work are `each`, with as many requests of [`SLOW`] at work as it takes
/// whose bodies never come; and a grant that is to be ended.
async fn beset(each: u32) -> (House, Vec<TcpStream>, String) {
    let limits =
        json!({"concurrency": PLACES, "concurrency_per_source": each, "body_timeout": "1m", "request_timeout": "2m"});
    let server = json!({"server": {"trusted_proxies": ["127.0.0.1"]}, "limits": limits});
    let house = House::open_with(|setup| setup.server(server)).await;
    let grant = house.credential().await.grant_id().to_owned();
    let trickles = Mutex::new(Vec::new());
    // Again and again: one that comes while another is only being refused gets no place, and does not come back.
    eventually("the source has all that it may", Duration::from_secs(30), async || {
        for path in ["/oauth2/token", "/oauth2/revoke"] {
            for _ in 0..2 * PLACES {
                let trickle = trickle(&house, path, Some(SLOW)).await;
                trickles.lock().unwrap().push(trickle);
            }
        }
        let exchange = exchange(&house, SLOW).await.status;
        let end = end(&house, &grant, SLOW).await;
        (exchange == 503 && end == 503).then_some(())
    })
    .await;
    (house, trickles.into_inner().unwrap(), grant)
}

/// A request whose body comes in so far and no further: of this source, or of the proxy itself.
async fn trickle(house: &House, path: &str, source: Option<&str>) -> TcpStream {
    let source = source.map(|source| format!("X-Forwarded-For: {source}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(house.broker.address()).await.expect("a connection");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: broker\r\n{source}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 300\r\n\r\ng"
    );
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    stream
}

async fn exchange(house: &House, source: &str) -> Answer {
    house.broker.exchange(&Exchange::of(&house.proof()).header("x-forwarded-for", source)).await
}

async fn end(house: &House, grant: &str, source: &str) -> u16 {
    let url = house.broker.at(&format!("/v1/grants/{grant}/revoke"));
    let request = house.broker.client().post(url).bearer_auth(house.proof()).header("x-forwarded-for", source);
    request.json(&json!({"reason": "now"})).send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_source_whose_bodies_trickle_takes_no_place_of_another_nor_of_ending() {
    let (house, trickles, grant) = beset(PLACES / 2).await;
    assert_eq!(exchange(&house, OTHER).await.status, 200);
    assert_eq!(end(&house, &grant, OTHER).await, 202);
    drop(trickles);

    // The control: where one source may have them all, it has them all.
    let (house, _trickles, grant) = beset(PLACES).await;
    let refused = exchange(&house, OTHER).await;
    assert_eq!((refused.status, refused.text_of("reason")), (503, "overloaded"));
    assert_eq!(end(&house, &grant, OTHER).await, 503);
}

/// Behind a proxy on this machine that names nobody, everybody is one address: a share of it would be everybody's.
#[tokio::test]
async fn what_stands_in_front_on_this_machine_may_have_every_place() {
    let (house, _trickles, grant) = beset(PLACES / 2).await;
    let held = Mutex::new(Vec::new());
    eventually("it has every place that is left", Duration::from_secs(30), async || {
        for _ in 0..2 * PLACES {
            let trickle = trickle(&house, "/oauth2/token", None).await;
            held.lock().unwrap().push(trickle);
        }
        (exchange(&house, OTHER).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(end(&house, &grant, OTHER).await, 202, "those for ending are not among them");
}

#[tokio::test]
async fn a_small_body_has_little_time_to_come_in() {
    let house =
        House::open_with(|setup| setup.server(json!({"limits": {"body_timeout": "1s", "request_timeout": "1m"}})))
            .await;
    let mut slow = trickle(&house, "/oauth2/token", None).await;
    let mut answer = Vec::new();
    let reading = slow.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an answer in time").expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let body: Value = serde_json::from_str(answer.rsplit("\r\n\r\n").next().unwrap()).unwrap();
    assert_eq!((&body["error"], &body["reason"]), (&json!("invalid_request"), &json!("body_too_slow")));
    house.credential().await;
}
