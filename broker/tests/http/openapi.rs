//! The interface's description of itself: complete, true to the routes, and the copy in `deploy/` current.

use std::collections::BTreeSet;
use std::path::Path;

use hallpass_broker::http::{endpoints, openapi};
use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(openapi::document()).unwrap()
}

/// Every operation: method, path, description.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &'static str)| (item.to_uppercase(), path.clone());
    let methods = ["get", "put", "post", "delete", "patch", "head"];
    let found = paths.iter().flat_map(|(path, item)| methods.map(|method| (path, method, &item[method])));
    let found = found.filter(|(_, _, operation)| operation.is_object());
    found
        .map(|(path, method, operation)| {
            let (method, path) = of_path((path, method));
            (method, path, operation)
        })
        .collect()
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let document = document();
    let described: BTreeSet<_> = operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    let routed: BTreeSet<_> =
        endpoints().iter().map(|endpoint| (endpoint.method.to_owned(), endpoint.path.replace("{*", "{"))).collect();
    let (undescribed, invented): (Vec<_>, Vec<_>) =
        (routed.difference(&described).collect(), described.difference(&routed).collect());
    assert!(undescribed.is_empty(), "annotate the handler and name it in http/openapi.rs: {undescribed:?}");
    assert!(invented.is_empty(), "described, and nowhere routed: {invented:?}");
}

#[test]
fn the_copy_in_deploy_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/openapi.json");
    let kept: Value = std::fs::read(&file).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
    let current = document();
    if kept != current {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
        std::fs::write(&fresh, openapi::document().to_pretty_json().unwrap() + "\n").unwrap();
        panic!("the interface changed; if that is meant: cp {} deploy/openapi.json", fresh.display());
    }
}

#[test]
fn every_operation_says_how_it_is_called_and_how_it_fails() {
    let document = document();
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 10), "{at} has no summary");
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{at}: its operationId is taken");
        let security = operation["security"].as_array().unwrap_or_else(|| panic!("{at} does not say who may"));
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at} cannot succeed");
        for status in ["500", "503"] {
            assert!(responses.contains_key(status), "{at} cannot fail with {status}");
        }
        let wants_proof = security.iter().any(|wanted| wanted.get("proof").is_some());
        assert_eq!(wants_proof, responses.contains_key("401"), "{at}: a proof, and what comes without a good one");
        if path.starts_with("/v1/") {
            assert!(wants_proof, "{at} is for nobody in particular");
        }
    }
}

/// A reference that leads nowhere would break every generator of clients.
#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100, "the document was not read");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

/// What is optional in a query, a header or a body as a whole is absent, and cannot be null.
#[test]
fn nothing_outside_of_json_can_be_null() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(!parameter.to_string().contains("\"null\""), "{method} {path}: {parameter}");
        }
        let body = operation["requestBody"].to_string();
        assert!(!body.contains("\"null\"") || !body.contains("$ref"), "{method} {path}: {body}");
    }
}

#[test]
fn closed_sets_hold_what_the_broker_says_and_nothing_more() {
    let schemas = &document()["components"]["schemas"];
    let states = schemas["GrantState"]["enum"].as_array().unwrap();
    assert_eq!(states.len(), hallpass_core::grant::StateName::ALL.len(), "{states:?}");
    assert!(!schemas.to_string().contains("\"unknown\""), "a word that only readers make");
}
