//! Metrics: what the sources count, what the broker's list describes, and what dashboards and alerts ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use hallpass_broker::runtime::telemetry::metrics::{Kind, METRICS};
use regex::Regex;

use crate::{Breach, assert_kept, root};

#[test]
fn every_metric_of_the_sources_is_described_with_its_labels() {
    let mut texts = Vec::new();
    for folder in ["broker/src", "broker/core/src", "broker/sqlite/src"] {
        collect(&root().join(folder), folder, &mut texts);
    }
    let used: Vec<Used> = texts.iter().flat_map(|(path, text)| used(path, text)).collect();
    assert_kept("a metric and its description differ", &undescribed(&used));
    let named: BTreeSet<&str> = used.iter().map(|used| used.name.as_str()).collect();
    let unused: Vec<_> = METRICS.iter().map(|metric| metric.name).filter(|name| !named.contains(name)).collect();
    assert!(unused.is_empty(), "described, and counted nowhere: {unused:?}");
}

#[derive(Debug)]
struct Used {
    place: String,
    kind: String,
    name: String,
    /// `None` where they are not written in the call.
    labels: Option<BTreeSet<String>>,
}

/// The calls of the macros that count.
fn used(path: &str, text: &str) -> Vec<Used> {
    static CALL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"\b(counter|gauge|histogram)!\(\s*"(\w+)"([^;]*?)\)\s*(?:\.\w+\(|;)"#).expect("valid")
    });
    static LABEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""(\w+)"\s*=>"#).expect("valid"));
    let call = |found: regex::Captures<'_>| {
        let labels = &found[3];
        Used {
            place: format!(
                "{path}:{}",
                text[..found.get(0).map_or(0, |whole| whole.start())].matches('\n').count() + 1
            ),
            kind: found[1].to_owned(),
            name: found[2].to_owned(),
            labels: (!labels.contains('&'))
                .then(|| LABEL.captures_iter(labels).map(|label| label[1].to_owned()).collect()),
        }
    };
    CALL.captures_iter(text).map(call).collect()
}

fn undescribed(used: &[Used]) -> Vec<Breach> {
    let described: BTreeMap<&str, _> = METRICS.iter().map(|metric| (metric.name, metric)).collect();
    let mut breaches = Vec::new();
    for Used { place, kind, name, labels } in used {
        let breach = |what: String| Breach { place: place.clone(), what };
        let Some(metric) = described.get(name.as_str()) else {
            breaches.push(breach(format!("{name} is not in broker/src/runtime/telemetry/metrics.rs")));
            continue;
        };
        let known = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram { .. } => "histogram",
        };
        if kind != known {
            breaches.push(breach(format!("{name} is described as a {known} and is a {kind} here")));
        }
        let expected: BTreeSet<String> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        if labels.as_ref().is_some_and(|labels| *labels != expected) {
            breaches.push(breach(format!("{name} is described with the labels {expected:?} and has {labels:?} here")));
        }
    }
    breaches
}

fn collect(folder: &Path, name: &str, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let entry = entry.expect("the entry can be read");
        let path = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &path, texts);
        } else if path.ends_with(".rs") {
            texts.push((path, fs::read_to_string(entry.path()).expect("sources are UTF-8")));
        }
    }
}

#[test]
fn a_metric_that_is_not_described_is_found() {
    let text = "counter!(\"hallpass_nonsense_total\").increment(1);\n\
                gauge!(\"hallpass_grants\").set(1.0);\n\
                counter!(\"hallpass_grants\", \"state\" => word).increment(1);\n\
                histogram!(\"hallpass_http_request_seconds\", \"route\" => r, \"status\" => f(s))\n    .record(t);";
    let found = undescribed(&used("x.rs", text));
    let places: Vec<_> = found.iter().map(|breach| breach.place.as_str()).collect();
    assert_eq!(places, ["x.rs:1", "x.rs:2", "x.rs:3"], "{found:#?}");
}

/// What a dashboard or an alert asks for that nothing counts stays empty, and silent, for ever.
#[test]
fn dashboards_and_alerts_ask_for_metrics_that_there_are() {
    let dashboard = fs::read_to_string(root().join("deploy/dashboards/hallpass.json")).expect("the dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    let rules = fs::read_to_string(root().join("deploy/alerts/hallpass.rules.yaml")).expect("the rules");
    let of_rules = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    asked.extend(of_rules.map(str::to_owned));
    assert!(asked.len() > 40, "the files were not read: {asked:?}");
    let wrong: Vec<_> = asked.iter().flat_map(|expression| unknown_in(expression)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let all = asked.join("\n");
    let unseen: Vec<_> = METRICS.iter().map(|metric| metric.name).filter(|name| !all.contains(name)).collect();
    assert!(unseen.is_empty(), "on no dashboard and in no alert: {unseen:?}");
}

pub(super) fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            found.extend(members.get("expr").and_then(|expr| expr.as_str()).map(str::to_owned));
            members.values().for_each(|member| expressions(member, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

/// Metrics and labels of an expression that do not exist.
fn unknown_in(expression: &str) -> Vec<String> {
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(hallpass_\w+)(?:\{([^}]*)\})?").expect("the pattern is valid"));
    static LABEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*""#).expect("valid"));
    let mut wrong = Vec::new();
    for found in NAME.captures_iter(expression) {
        let metric = METRICS.iter().find(|metric| match metric.kind {
            Kind::Histogram { .. } => {
                found[1].strip_prefix(metric.name).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
            }
            Kind::Counter | Kind::Gauge => &found[1] == metric.name,
        });
        let Some(metric) = metric else {
            wrong.push(format!("{}: in {expression}", &found[1]));
            continue;
        };
        for label in LABEL.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            if !metric.labels.contains(&&label[1]) {
                wrong.push(format!("{} has no label {}: in {expression}", metric.name, &label[1]));
            }
        }
    }
    wrong
}

#[test]
fn an_expression_about_nothing_is_found() {
    assert!(unknown_in("sum(rate(hallpass_exchanges_total{outcome=\"failed\"}[5m]))").is_empty());
    assert!(unknown_in("rate(hallpass_issuance_seconds_bucket[5m])").is_empty());
    for wrong in ["hallpass_exchange_total", "hallpass_exchanges_total{issuer=\"x\"}", "hallpass_issuance_seconds > 1"]
    {
        assert_eq!(unknown_in(wrong).len(), 1, "{wrong}");
    }
}
