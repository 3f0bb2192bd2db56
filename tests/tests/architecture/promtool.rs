//! Alert rules and the dashboard's queries, read by Prometheus itself.

use std::path::Path;
use std::process::{Command, Output};

use hallpass_tests::component;

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
        .map(|(at, query)| serde_json::json!({"record": format!("query:{at}"), "expr": query.replace("$__rate_interval", "5m")}))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    // JSON is YAML too.
    let file = folder.path().join("queries.yaml");
    std::fs::write(&file, serde_json::json!({"groups": [{"name": "queries", "rules": rules}]}).to_string())
        .expect("written");
    let output = check(&promtool, &file);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(&format!("{} rules found", queries.len())), "{}", said(&output));
}
