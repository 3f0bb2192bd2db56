//! `/metrics` of a running broker: well-formed, complete, and moved by what happens.

use std::time::Duration;

use hallpass_broker::runtime::telemetry::metrics::{Kind, METRICS};
use hallpass_tests::config::{CLOSED_ROLE, ROLE, database};
use hallpass_tests::metrics::MetricsPage;
use hallpass_tests::{Broker, Exchange, eventually};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::House;

const DEADLINE: Duration = Duration::from_secs(30);

/// What rests while all is well, or is what it is: there from the start, and moved elsewhere (the store's suites, and
/// the test of a store that fails below). An export that is quick never lags.
const RESTING: &[&str] = &[
    "hallpass_audit_export_lag",
    "hallpass_backend_failing_calls",
    "hallpass_build_info",
    "hallpass_connections_refused_total",
    "hallpass_due_oldest_seconds",
    "hallpass_grants_ended_by_revocations_total",
    "hallpass_over_oldest_seconds",
    "hallpass_issuing",
    "hallpass_part_condition",
    "hallpass_revocation_unconfirmed_oldest_seconds",
    "hallpass_revocations_completed_total",
    "hallpass_store_commit_failures_total",
    "hallpass_store_queue_depth",
];

/// There only where a listener speaks TLS, or where a backend is called over the network: their own tests look at them.
const ELSEWHERE: &[&str] = &[
    "hallpass_aws_fences_set_again_total",
    "hallpass_aws_unfenced_sessions",
    "hallpass_backend_inventory",
    "hallpass_backend_strays_undone_total",
    "hallpass_tls_certificate_expires_seconds",
];

async fn page(broker: &Broker) -> MetricsPage {
    let answer = broker.operations("/metrics").await;
    answer.assert_status(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    MetricsPage::parse(&answer.text).unwrap_or_else(|problem| panic!("{problem}"))
}

/// Sends a request for a credential, and hangs up on the answer.
async fn hang_up(house: &House) {
    let body = json!({"role": ROLE, "purpose": "deploy build 4f2c to staging"}).to_string();
    let head = format!(
        "POST /v1/grants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        house.proof(),
        body.len()
    );
    let mut stream = TcpStream::connect(house.broker.address()).await.expect("a connection");
    stream.write_all((head + &body).as_bytes()).await.expect("it takes the request");
}

#[tokio::test]
async fn every_metric_is_there_and_moves() {
    // The harness is a proxy that hides its callers, and nobody collects traces at that port.
    let server = json!({
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "audit": {"export": [{"kind": "file", "path": "audit.jsonl"}]},
        "telemetry": {"traces": {"endpoint": "http://127.0.0.1:9/v1/traces", "sample_percent": 100}},
    });
    let house = House::open_with(|setup| setup.server(server)).await;
    let first = page(&house.broker).await;
    house.broker.signal(rustix::process::Signal::HUP);
    assert!(house.broker.command(["keys", "rotate", "--purpose", "token"]).status.success());

    // Issued, refused, with a parameter that nobody knows, ended, missed, over, and never delivered.
    house.credential().await;
    house.broker.exchange(&Exchange::of(&house.proof()).role(CLOSED_ROLE)).await.assert_status(400);
    house.broker.exchange(&Exchange::of(&house.proof()).with("prupose", "x")).await.assert_status(200);
    let ended = house.credential().await.grant_id().to_owned();
    house.broker.call("DELETE", &format!("/v1/grants/{ended}"), Some(&house.proof()), None).await.assert_status(202);
    house.broker.exchange(&Exchange::of(&house.proof()).with("ttl", "2s")).await.assert_status(200);
    let silent = json!({"role": ROLE, "purpose": "deploy build 4f2c to staging", "ends_when": {"heartbeat": "5s"}});
    house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&silent)).await.assert_status(201);
    eventually("a caller hangs up in time", DEADLINE, async || {
        hang_up(&house).await;
        (page(&house.broker).await.total("hallpass_grants_undelivered_total", &[]) > 0.0).then_some(())
    })
    .await;

    let expected = || METRICS.iter().filter(|metric| !ELSEWHERE.contains(&metric.name));
    let names: Vec<&str> = expected().map(|metric| metric.name).collect();
    let moving: Vec<&str> = names.iter().copied().filter(|name| !RESTING.contains(name)).collect();
    let last = eventually("every metric moves", DEADLINE, async || {
        let now = page(&house.broker).await;
        let still: Vec<_> = moving.iter().filter(|name| now.total(name, &[]) == first.total(name, &[])).collect();
        still.is_empty().then_some(now)
    })
    .await;

    for metric in expected() {
        let family = last.families.get(metric.name).unwrap_or_else(|| panic!("{} is not there", metric.name));
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram { .. } => "histogram",
        };
        assert_eq!((family.kind.as_str(), family.help.as_str()), (kind, metric.meaning), "{}", metric.name);
        for sample in &family.samples {
            let labels: Vec<_> = sample.labels.keys().map(String::as_str).filter(|label| *label != "le").collect();
            let mut known = metric.labels.to_vec();
            known.sort_unstable();
            assert_eq!(labels, known, "{}", metric.name);
        }
    }
    let unknown: Vec<_> = last.families.keys().filter(|name| !names.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "on the page and not in the list: {unknown:?}");
    let known = RESTING.iter().all(|name| names.contains(name));
    assert!(known, "a metric that is gone is no longer resting");

    let refused = [("outcome", "refused"), ("step", "policy"), ("reason", "policy_denied")];
    assert!(last.total("hallpass_exchanges_total", &refused) >= 1.0, "the exact reason, which the caller is not told");
    assert!(last.total("hallpass_revocation_lag_seconds", &[("class", "fenced")]) >= 1.0);
}

/// What a caller writes is no label, or a stranger could fill the memory.
#[tokio::test]
async fn no_caller_makes_a_series() {
    let house = House::open().await;
    house.credential().await;
    let settled = page(&house.broker).await;
    let series = |page: &MetricsPage| page.families.values().map(|family| family.samples.len()).sum::<usize>();
    let ask = async |n: usize| {
        house.broker.exchange(&Exchange::of(&house.proof()).role(&format!("no/such/role-{n}"))).await;
        house.broker.call("GET", &format!("/v1/{n}"), None, None).await;
        house.broker.call("GET", &format!("/v1/owners/{n}"), Some(&house.proof()), None).await;
        house.broker.call("GET", &format!("/v1/grants?owner={n}"), Some(&house.proof()), None).await;
    };
    ask(0).await;
    let once = series(&page(&house.broker).await);
    assert!(once > series(&settled), "a route that was not used before is a series");
    for n in 1..20 {
        ask(n).await;
    }
    assert_eq!(series(&page(&house.broker).await), once);
}

/// Another writer keeps the database to itself, as a backup that went wrong would.
#[tokio::test]
async fn a_store_that_fails_is_counted() {
    let house = House::open().await;
    let failures = async || page(&house.broker).await.total("hallpass_store_commit_failures_total", &[]);
    assert_eq!(failures().await, 0.0);
    let other = rusqlite::Connection::open(database(house.broker.folder())).expect("the database opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it can be kept");
    eventually("a commit fails", DEADLINE, async || {
        house.exchange(&house.proof()).await;
        (failures().await >= 1.0).then_some(())
    })
    .await;
    other.execute_batch("ROLLBACK").expect("it can be given back");
    house.credential().await;
}
