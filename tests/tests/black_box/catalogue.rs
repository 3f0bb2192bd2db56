//! Every forged proof of the catalogue at `POST /oauth2/token`: refused as catalogued, and written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use hallpass_core::error::Reason;
use hallpass_tests::config::{AUDIENCE, RELEASE_ROLE, Setup, trust};
use hallpass_tests::forge::{self, Forge, Forged};
use hallpass_tests::{Answer, Broker, Exchange, Issuer, Store};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
struct Case {
    id: String,
    area: String,
    expect: Expectation,
    recipe: Option<Value>,
    /// Why it says nothing about this broker.
    not_applicable: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Expectation {
    decision: String,
    http: Option<u16>,
    error: Option<String>,
    reason: Option<String>,
}

fn cases() -> Vec<Case> {
    let text = fs::read_to_string(forge::catalogue()).expect("the catalogue is there");
    serde_json::from_str(&text).expect("the catalogue is valid")
}

/// The algorithms that each issuer of the forge is trusted for.
fn algorithms(issuer: &str) -> &'static [&'static str] {
    match issuer {
        "rs-only" => &["RS256"],
        "eddsa" => &["EdDSA"],
        _ => &["ES256", "RS256"],
    }
}

/// The issuer of the forge that is a trust domain.
const SPIFFE: &str = "spiffe";

/// Trusts the trust domain of the forge, whose bundle is where an issuer would have its keys.
fn trust_domain(endpoint: &Issuer) -> Value {
    json!({
        "name": SPIFFE,
        "kind": "spiffe",
        "trust_domain": "td1.test",
        "audiences": [AUDIENCE],
        "bundle_endpoint": format!("{}/jwks", endpoint.url()),
        "dangerous_allow_http": true,
    })
}

/// An issuer of the forge, as the kind whose claims it signs.
fn trusted(name: &str, issuer: &Issuer) -> Value {
    let mut entry = trust(name, issuer, algorithms(name));
    let kind = match name {
        "github" => "github-actions",
        "gitlab" | "buildkite" | "kubernetes" => name,
        _ => "oidc",
    };
    entry["kind"] = kind.into();
    entry
}

/// A role for each kind, bound to what never changes of one workload.
fn kinds(mut setup: Setup) -> Setup {
    let release = setup.roles.iter().find(|(name, _)| name == RELEASE_ROLE).expect("it is there").1.clone();
    for (kind, condition) in [
        (
            "gitlab",
            "principal has gitlab && principal.gitlab.project_id == \"22\" && principal.gitlab.namespace_id == \"11\" && \
             principal.gitlab.pipeline_source == \"push\" && principal.gitlab.ref_type == \"branch\" && \
             principal.gitlab.ref_protected && principal.gitlab has environment && \
             principal.gitlab.environment == \"production\" && principal.gitlab has environment_protected && \
             principal.gitlab.environment_protected",
        ),
        (
            "buildkite",
            "principal has buildkite && principal.buildkite.pipeline_id == \"0184990a-477b-4fa8-9968-496074483cef\" && \
             principal.buildkite.organization_id == \"0183c4e6-c88c-4e1b-9b8a-2a7f7e9b0f5d\"",
        ),
        (
            "kubernetes",
            "principal has kubernetes && \
             principal.kubernetes.service_account_uid == \"11111111-1111-1111-1111-111111111111\"",
        ),
    ] {
        let role = format!("{kind}/release");
        setup.roles.push((role.clone(), release.clone()));
        let policy = format!(
            "@id(\"{kind}-release\")\npermit (principal in Issuer::\"{kind}\", action == Action::\"mint\", resource == \
             Role::\"{role}\")\nwhen {{ {condition} }};\n"
        );
        setup = setup.policy(&format!("{kind}.cedar"), &policy);
    }
    setup
}

#[tokio::test]
async fn every_forged_proof_is_treated_as_catalogued() {
    let Some(forge) = Forge::new() else { return };
    let mut issuers = BTreeMap::new();
    for (name, keys) in forge.key_sets() {
        issuers.insert(name, Issuer::publishing(keys).await);
    }
    let trusted: Vec<_> =
        (issuers.iter().filter(|(name, _)| *name != SPIFFE)).map(|(name, issuer)| trusted(name, issuer)).collect();
    // A proof without `iss` is told that it has none where every issuer has one, and what an SVID is where some need none.
    let with_domain = trusted.iter().cloned().chain([trust_domain(&issuers[SPIFFE])]).collect();
    let mut plain = Broker::start(&kinds(Setup::with_issuers(trusted))).await;
    let mut with_domain = Broker::start(&kinds(Setup::with_issuers(with_domain))).await;
    let tokens = forge.tokens(&issuers);

    let mut deviations = Vec::new();
    // Run and passed, by area.
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for case in cases().iter().filter(|case| case.recipe.is_some()) {
        let forged = &tokens[&case.id];
        let broker = if forged.issuer == SPIFFE { &mut with_domain } else { &mut plain };
        let count = counts.entry(case.area.clone()).or_default();
        count.0 += 1;
        match run(broker, case, forged).await {
            Ok(()) => count.1 += 1,
            Err(deviation) => deviations.push(format!("{}: {deviation}", case.id)),
        }
        if !broker.is_running() {
            deviations.push(format!("{}: the broker ended", case.id));
            broker.restart().await;
        }
    }
    for (area, (run, passed)) in &counts {
        println!("{area}: {run} with a recipe, {passed} as catalogued");
    }
    let (tried, passed) = counts.values().fold((0, 0), |(run, passed), count| (run + count.0, passed + count.1));
    println!("{tried} cases with a recipe: {passed} as catalogued");
    assert!(deviations.is_empty(), "{} cases deviate:\n  {}", deviations.len(), deviations.join("\n  "));
}

async fn run(broker: &Broker, case: &Case, forged: &Forged) -> Result<(), String> {
    let control = broker.exchange(&Exchange::of(&forged.control).role(&forged.role)).await;
    if control.status != 200 {
        return Err(format!("void: the good token of {} was refused: {}", forged.issuer, control.text));
    }
    let store = broker.store();
    let before = store.grant_count();
    let answer = broker.exchange(&Exchange::of(&forged.token).role(&forged.role)).await;
    let opened = store.grant_count() - before;

    let expect = &case.expect;
    match expect.decision.as_str() {
        "accept" => accepted(&answer, opened),
        "reject" | "deny" => refused(&answer, opened, &store, expect),
        // Either is right, as long as it is one of the two in full.
        _ if answer.status == 200 => accepted(&answer, opened),
        _ => refused(
            &answer,
            opened,
            &store,
            &Expectation { error: None, reason: None, http: None, decision: String::new() },
        ),
    }
}

fn accepted(answer: &Answer, opened: usize) -> Result<(), String> {
    if answer.status != 200 {
        return Err(format!("should be accepted: {} {}", answer.status, answer.text));
    }
    if opened != 1 { Err(format!("{opened} grants were opened")) } else { Ok(()) }
}

fn refused(answer: &Answer, opened: usize, store: &Store, expect: &Expectation) -> Result<(), String> {
    let mut wrong = Vec::new();
    if answer.status == 200 {
        return Err("was accepted".to_owned());
    }
    if let Some(status) = expect.http.filter(|status| *status != answer.status) {
        wrong.push(format!("status {} in place of {status}", answer.status));
    }
    if let Some(error) = expect.error.as_deref().filter(|error| *error != answer.error()) {
        wrong.push(format!("error {:?} in place of {error:?}", answer.error()));
    }
    let entries = store.audit_of(answer.request_id());
    let reasons = store.reasons_of(answer.request_id());
    if entries.len() != 1 {
        wrong.push(format!("{} audit entries: {reasons:?}", entries.len()));
    } else if let Some(reason) = expect.reason.as_deref().filter(|reason| *reason != reasons[0]) {
        wrong.push(format!("reason {:?} in place of {reason:?}", reasons[0]));
    }
    if opened != 0 {
        wrong.push(format!("{opened} grants were opened"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} ({})", wrong.join(", "), answer.text)) }
}

#[test]
fn every_case_is_run_by_its_recipe_or_by_a_test_that_names_it() {
    let mut named = BTreeSet::new();
    // What a connection or a real backend cannot be made to show is shown where it can.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<_> = ["broker", "sdk", "tests/tests"].iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    for path in files {
        let text = fs::read_to_string(path).expect("sources are UTF-8");
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("// CASE "));
        named.extend(lines.flat_map(|line| line.split([' ', ',']).map(str::to_owned).collect::<Vec<_>>()));
    }
    let all = cases();
    let (mut by_recipe, mut by_name) = (0, 0);
    for case in &all {
        match (&case.not_applicable, &case.recipe) {
            (Some(why), _) => println!("not applicable: {}: {why}", case.id),
            (None, Some(_)) => by_recipe += 1,
            (None, None) => by_name += 1,
        }
    }
    let apart = all.len() - by_recipe - by_name;
    println!(
        "{} cases: {by_recipe} run by recipe, {by_name} by a test that names them, {apart} not applicable; \
         `tests/run` counts which of them passed",
        all.len()
    );
    let run = |case: &Case| case.recipe.is_some() || named.contains(&case.id) || case.not_applicable.is_some();
    let forgotten: Vec<_> = all.into_iter().filter(|case| !run(case)).map(|case| case.id).collect();
    assert_eq!(forgotten, Vec::<String>::new());
}

#[test]
fn every_expected_reason_is_one_that_the_broker_can_give() {
    let known: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let unknown: BTreeSet<_> = cases()
        .into_iter()
        .filter_map(|case| case.expect.reason)
        .filter(|reason| !known.contains(reason.as_str()))
        .collect();
    assert_eq!(unknown, BTreeSet::new());
}
