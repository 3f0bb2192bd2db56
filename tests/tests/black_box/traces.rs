//! Traces, as a collector receives them that decodes by OpenTelemetry's own definitions; and what is left of them without one.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hallpass_tests::config::{CLOSED_ROLE, ROLE};
use hallpass_tests::{Exchange, component, eventually};
use serde_json::{Value, json};

use crate::{House, WORKLOAD};

const DEADLINE: Duration = Duration::from_secs(30);

/// `tests/otlp/receiver.py`, and the spans that it was sent.
struct Collector {
    process: Child,
    port: u64,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start() -> Option<Self> {
        Self::start_that_takes(None)
    }

    /// One that takes what is sent with this `Authorization` alone.
    fn start_that_takes(authorization: Option<&str>) -> Option<Self> {
        let script = component::root().join("tests/otlp/receiver.py");
        let mut python = Command::new(component::api_python()?);
        python.arg(script).args(authorization).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = python.spawn().expect("python starts");
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says where it listens");
        let port = line.trim().parse().expect("a port");
        let lines = Arc::<Mutex<Vec<Value>>>::default();
        let said = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("JSON");
                said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Some(Self { process, port, lines })
    }

    /// The spans of a trace by their names, once there are so many.
    async fn trace(&self, trace: &str, spans: usize) -> BTreeMap<String, Value> {
        eventually(&format!("{spans} spans of {trace}"), DEADLINE, async || {
            let lines = self.lines();
            let of_trace: Vec<_> = lines.into_iter().filter(|line| line["trace"] == trace).collect();
            (of_trace.len() >= spans).then_some(of_trace)
        })
        .await
        .into_iter()
        .map(|span| (span["name"].as_str().expect("a name").to_owned(), span))
        .collect()
    }

    fn lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert!(lines.iter().all(|line| line.get("error").is_none()), "what was sent is not OTLP: {lines:?}");
        lines
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn house(endpoint: &str, percent: u8) -> House {
    let traces = json!({"endpoint": endpoint, "sample_percent": percent});
    House::open_with(|setup| setup.server(json!({"telemetry": {"traces": traces}}))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_is_a_span_in_its_callers_trace_with_a_span_for_each_step() {
    let Some(collector) = Collector::start() else { return };
    let house = house(&format!("http://127.0.0.1:{}/v1/traces", collector.port), 0).await;
    let (trace, caller) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let header = format!("00-{trace}-{caller}-01");
    let proof = house.proof();
    let opened = house.broker.exchange(&Exchange::of(&proof).role(ROLE).header("traceparent", &header)).await;
    opened.assert_status(200);

    let spans = collector.trace(trace, 5).await;
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["POST /oauth2/token", "decide", "mint", "store", "verify"]);
    let request = &spans["POST /oauth2/token"];
    assert_eq!((&request["parent"], &request["kind"]), (&json!(caller), &json!(2)), "{request}");
    let said = &request["attributes"];
    assert_eq!(said["hallpass.request_id"], opened.request_id());
    assert_eq!((&said["http.route"], &said["http.response.status_code"]), (&json!("/oauth2/token"), &json!(200)));
    let at = |span: &Value, which: &str| span[which].as_u64().expect("a time");
    for name in ["verify", "decide", "store", "mint"] {
        let step = &spans[name];
        assert_eq!((&step["parent"], &step["kind"]), (&request["span"], &json!(1)), "{step}");
        assert!(at(request, "began") <= at(step, "began") && at(step, "ended") <= at(request, "ended"), "{step}");
    }
    assert_eq!(spans["mint"]["attributes"]["hallpass.backend_kind"], "jwt");
    let text = format!("{:?}", collector.lines());
    let token = opened.text_of("access_token");
    for secret in [proof.as_str(), token, WORKLOAD, opened.grant_id()] {
        assert!(!secret.is_empty() && !text.contains(secret), "{secret} is in {text}");
    }

    // A refused one says why, in a word; one that its caller does not trace, and one of no trace, are not collected here.
    let refused = "1af7651916cd43dd8448eb211c80319c";
    let exchange = |header: &str| Exchange::of(&house.proof()).role(CLOSED_ROLE).header("traceparent", header);
    house.broker.exchange(&exchange(&format!("00-{trace}-{caller}-00"))).await.assert_status(400);
    house.broker.exchange(&exchange("nonsense")).await.assert_status(400);
    house.broker.exchange(&exchange(&format!("00-{refused}-{caller}-01"))).await.assert_status(400);
    let spans = collector.trace(refused, 3).await;
    assert_eq!(spans["POST /oauth2/token"]["attributes"]["error.type"], "role_not_available");
    assert_eq!(collector.lines().len(), 8, "{:?}", collector.lines());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_no_trace_begins_one_of_its_own() {
    let Some(collector) = Collector::start() else { return };
    let house = house(&format!("http://127.0.0.1:{}/v1/traces", collector.port), 100).await;
    let opened = house.credential().await;
    let trace = opened.request_id().replace('-', "");
    let spans = collector.trace(&trace, 5).await;
    assert_eq!(spans["POST /oauth2/token"]["parent"], "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_costs_nothing_but_its_spans() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let house = house(&format!("http://{}/v1/traces", listener.local_addr().expect("an address")), 100).await;
    // It accepts, and never answers.
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let dropped = async || {
        let exchange = tokio::time::timeout(Duration::from_secs(4), house.credential()).await;
        exchange.expect("an exchange that does not wait for the collector");
        let page = house.broker.operations("/metrics").await.text;
        page.lines().any(|line| line.starts_with("hallpass_trace_spans_total{outcome=\"dropped\"}")).then_some(())
    };
    eventually("spans are dropped, and counted", DEADLINE, dropped).await;
    assert_eq!(house.broker.operations("/readyz").await.text_of("status"), "ready");
    held.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_asks_who_sends_is_told_by_a_file_and_nobody_else_is() {
    const SECRET: &str = "cG9saXRlLXdvbWJhdDp4eXp6eQ";
    let Some(collector) = Collector::start_that_takes(Some(&format!("Basic {SECRET}"))) else { return };
    let endpoint = format!("http://127.0.0.1:{}/v1/traces", collector.port);
    let traces = json!({"endpoint": endpoint, "sample_percent": 100, "authorization_file": "authorization"});
    let house = House::open_with(|setup| setup.server(json!({"telemetry": {"traces": traces}}))).await;
    let file = house.broker.folder().join("authorization");

    // Without the file, with nothing that a header can hold, and with what the collector does not take.
    let write = |content: &str| std::fs::write(&file, content).expect("it is written");
    let says = async |words: &str, times: usize| {
        eventually(words, DEADLINE, async || {
            house.credential().await;
            (house.broker.output().matches(words).count() >= times).then_some(())
        })
        .await;
    };
    says("authorization: No such file", 1).await;
    let dropped = house.broker.operations("/metrics").await.text;
    assert!(dropped.contains("hallpass_trace_spans_total{outcome=\"dropped\"}"), "{dropped}");
    write("Bearer another");
    says("the answer has status 401", 1).await;
    assert_eq!(collector.lines().len(), 0);

    // From the next batch on, once the file is right; what is wrong is said again once it had been over.
    write(&format!("Basic {SECRET}\n"));
    let taken = async || {
        let before = collector.lines().len();
        eventually("a span is taken", DEADLINE, async || {
            house.credential().await;
            (collector.lines().len() > before).then_some(())
        })
        .await;
    };
    taken().await;
    write("Bearer another");
    says("the answer has status 401", 2).await;
    write(&format!("Basic {SECRET}\n"));
    taken().await;
    write(&format!("Basic {SECRET}\nand more"));
    says("holds no header's value", 1).await;
    assert!(!house.broker.output().contains(SECRET) && !house.broker.output().contains("another"));
}
