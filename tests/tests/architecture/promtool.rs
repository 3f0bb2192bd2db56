//! Alert rules and the dashboard's queries, read by Prometheus itself.

use std::path::Path;
use std::process::{Command, Output};

use hallpass_tests::component;
use serde_json::json;

use crate::root;

fn check(promtool: &Path, rules: &Path) -> Output {
    Command::new(promtool).arg("check").arg("rules").arg("--lint-fatal").arg(rules).output().expect("promtool starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn prometheus_reads_the_alert_rules() {
    let Some(promtool) = component::promtool() else { return };
    let rules = root().join("deploy/alerts/hallpass.rules.yaml");
    let output = check(&promtool, &rules);
    assert!(output.status.success(), "{}", said(&output));

    // The control: a rule that asks for nothing sensible.
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.yaml");
    let text = std::fs::read_to_string(rules).expect("the rules").replacen("expr: ", "expr: sum by (", 1);
    std::fs::write(&broken, text).expect("written");
    assert!(!check(&promtool, &broken).status.success(), "a broken rule is found");
}

#[test]
fn prometheus_reads_the_queries_of_the_dashboard() {
    let Some(promtool) = component::promtool() else { return };
    let dashboard = std::fs::read_to_string(root().join("deploy/dashboards/hallpass.json")).expect("the dashboard");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut queries = Vec::new();
    super::metrics::expressions(&dashboard, &mut queries);
    assert!(queries.len() > 20, "{queries:?}");
    let rules: Vec<_> = queries
        .iter()
        .enumerate()
        // Grafana writes a range here before it asks.
        .map(|(at, query)| json!({"record": format!("query:{at}"), "expr": query.replace("$__rate_interval", "5m")}))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    // JSON is YAML too.
    let file = folder.path().join("queries.yaml");
    std::fs::write(&file, json!({"groups": [{"name": "queries", "rules": rules}]}).to_string()).expect("written");
    let output = check(&promtool, &file);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(&format!("{} rules found", queries.len())), "{}", said(&output));
}

/// Alerts whose thresholds weigh one thing against another: what they are for, and what must not wake anybody.
#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let Some(promtool) = component::promtool() else { return };
    const REQUESTS: &str = "hallpass_http_request_seconds_count{route=\"/oauth2/token\",status=\"2xx\"}";
    const HIDDEN: &str = "hallpass_proxy_requests_unattributed_total{why=\"missing\"}";
    const ISSUER: &str = "hallpass_part_condition{part=\"issuer\",name=\"ci\"}";
    let cases = [
        // A proxy that never says whose requests it passes on; one that says so, but for its probes; probes alone.
        ("HallpassProxyHidesItsCallers", vec![(REQUESTS, "0+600x60"), (HIDDEN, "0+600x60")], true),
        ("HallpassProxyHidesItsCallers", vec![(REQUESTS, "0+600x60"), (HIDDEN, "0+12x60")], false),
        ("HallpassProxyHidesItsCallers", vec![(REQUESTS, "0+12x60"), (HIDDEN, "0+12x60")], false),
        ("HallpassPartUnwell", vec![(ISSUER, "1x60")], true),
        ("HallpassPartUnwell", vec![(ISSUER, "0x60")], false),
        ("HallpassPartUnwell", vec![(ISSUER, "0x20 2x5 0x40")], false),
    ];
    let case = |(alert, series, fires): (&str, Vec<(&str, &str)>, bool)| {
        let series: Vec<_> =
            series.iter().map(|(series, values)| json!({"series": series, "values": values})).collect();
        let expected = if fires { json!([{"labels": "{}", "value": 1}]) } else { json!([]) };
        let expression = format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})");
        let asked = json!([{"expr": expression, "eval_time": "40m", "exp_samples": expected}]);
        json!({"interval": "1m", "input_series": series, "promql_expr_test": asked})
    };
    let tests: Vec<_> = cases.into_iter().map(case).collect();
    let rules = root().join("deploy/alerts/hallpass.rules.yaml");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tests.yaml");
    let text = json!({"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}).to_string();
    std::fs::write(&file, text).expect("written");
    let output = Command::new(promtool).args(["test", "rules"]).arg(file).output().expect("promtool starts");
    assert!(output.status.success(), "{}", said(&output));
}
