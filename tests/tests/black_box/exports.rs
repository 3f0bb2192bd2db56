//! The audit log as it is taken away: every entry, in order, to whoever is configured to have it; and what is not issued
//! while they do not take it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use hallpass_core::audit::{Leaf, event};
use hallpass_tests::{Journal, eventually};
use serde_json::{Value, json};

use crate::House;

const DEADLINE: Duration = Duration::from_secs(40);

/// Somebody who collects, until told to stop answering.
#[derive(Clone)]
struct Collector {
    url: String,
    silent: Arc<AtomicBool>,
    batches: Arc<Journal<(Option<String>, String)>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/collect", listener.local_addr().expect("an address"));
        let collector = Self { url, silent: Arc::default(), batches: Arc::default() };
        let router = Router::new().route("/collect", post(collect)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// Every line that was taken, in the order of its coming.
    fn lines(&self) -> Vec<String> {
        self.batches
            .entries()
            .iter()
            .flat_map(|(_, body)| body.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

async fn collect(State(collector): State<Collector>, headers: HeaderMap, body: String) {
    if collector.silent.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    collector.batches.record((bearer, body));
}

/// The leaf of each line, whose whole line must follow from it.
fn leaves(lines: &[String]) -> Vec<Leaf> {
    let leaf = |line: &String| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let leaf = Leaf::parse(event["raw_data"].as_str().expect("raw_data").to_owned()).expect("a leaf");
        assert_eq!(&event::line_of(&leaf).expect("an event"), line);
        leaf
    };
    lines.iter().map(leaf).collect()
}

fn places(lines: &[String]) -> Vec<u64> {
    leaves(lines).iter().map(Leaf::sequence).collect()
}

fn entries(house: &House) -> u64 {
    let rows = house.broker.store().rows("SELECT count(*) AS n FROM audit_entries", &[]);
    rows[0]["n"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_goes_to_a_file_and_to_standard_output_once_also_over_a_kill() {
    let export = json!({"audit": {"export": [{"kind": "file", "path": "audit.jsonl"}, {"kind": "stdout"}]}});
    let mut house = House::open_with(|setup| setup.server(export)).await;
    for round in 0..3 {
        for _ in 0..5 {
            house.credential().await;
        }
        if round == 1 {
            house.broker.kill9().await;
            house.broker.restart().await;
        }
    }
    let file = house.broker.folder().join("audit.jsonl");
    let of_file = || fs::read_to_string(&file).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let all = entries(&house);
    eventually("all of it is in the file", DEADLINE, async || (of_file().len() as u64 == all).then_some(())).await;
    assert_eq!(places(&of_file()), (0..all).collect::<Vec<_>>(), "once each, in order");

    let on_stdout = || {
        let output = house.broker.output();
        output.lines().filter(|line| line.contains("\"raw_data\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    let complete = async || {
        on_stdout().last().is_some_and(|line| line.contains(&format!("\"sequence\":{}", all - 1))).then_some(())
    };
    eventually("all of it was written to standard output", DEADLINE, complete).await;
    let mut written = places(&on_stdout());
    written.sort_unstable();
    written.dedup();
    assert_eq!(written, (0..all).collect::<Vec<_>>(), "at least once each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_collector_does_not_answer_nothing_is_issued_and_nothing_is_lost() {
    let collector = Collector::start().await;
    let url = collector.url.clone();
    let secrets = tempfile::tempdir().expect("a folder");
    let token_file = secrets.path().join("token");
    fs::write(&token_file, "collect-this\n").expect("written");
    let house = House::open_with(|setup| {
        let export =
            json!({"kind": "https", "url": url, "max_lag": 10, "token_file": token_file, "dangerous_allow_http": true});
        setup.server(json!({"audit": {"export": [export]}}))
    })
    .await;
    let grant = house.credential().await.grant_id().to_owned();
    let caught_up = async || (collector.lines().len() as u64 >= entries(&house)).then_some(());
    eventually("the collector has all of it", DEADLINE, caught_up).await;
    assert_eq!(collector.batches.entries()[0].0.as_deref(), Some("Bearer collect-this"));

    collector.silent.store(true, Ordering::SeqCst);
    let mut opened = 0;
    let refused = loop {
        let answer = house.exchange(&house.proof()).await;
        if answer.status != 200 {
            break answer;
        }
        opened += 1;
        assert!(opened < 20, "it never stops");
    };
    refused.assert_refused(503, "temporarily_unavailable");
    assert_eq!(refused.text_of("reason"), "audit_backpressure", "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    let by_api = json!({"role": hallpass_tests::config::ROLE, "purpose": "deploy build 4f2c to staging"});
    let by_api = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&by_api)).await;
    by_api.assert_refused(503, "audit_backpressure");
    let renewed = house.broker.call("POST", &format!("/v1/grants/{grant}/renew"), Some(&house.proof()), None).await;
    renewed.assert_refused(503, "audit_backpressure");
    assert_eq!(house.broker.store().grant_count(), opened + 1);

    // Whatever ends a credential goes on, and so does reading.
    let path = format!("/v1/grants/{grant}");
    house.broker.call("GET", &path, Some(&house.proof()), None).await.assert_status(200);
    house.broker.call("DELETE", &path, Some(&house.proof()), None).await.assert_status(202);
    assert_eq!(house.broker.store().state(&grant), "revoking");

    collector.silent.store(false, Ordering::SeqCst);
    let recovered = async || (house.exchange(&house.proof()).await.status == 200).then_some(());
    eventually("it issues again by itself", DEADLINE, recovered).await;
    eventually("the collector has all of it", DEADLINE, async || {
        let mut places = places(&collector.lines());
        places.sort_unstable();
        places.dedup();
        (places == (0..entries(&house)).collect::<Vec<_>>()).then_some(())
    })
    .await;
}
