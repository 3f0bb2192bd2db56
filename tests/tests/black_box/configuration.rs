//! What is governed is checked before it governs, and changes while the broker runs.

use std::fs;
use std::process::Output;
use std::time::Duration;

use hallpass_tests::config::{CLOSED_ROLE, ROLE, Setup};
use hallpass_tests::{Answer, Broker, Exchange, Issuer, component, eventually};
use rustix::process::Signal;
use serde_json::json;

use crate::House;

const DEADLINE: Duration = Duration::from_secs(20);
const CLOSED_OPENS: &str = "@id(\"closed-opens\")\npermit (principal is Workload, action == Action::\"mint\", resource == Role::\"app/closed\");\n";

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

#[tokio::test]
async fn a_check_names_file_line_and_reason_of_everything_that_is_wrong() {
    let issuer = Issuer::start(&[]).await;
    let broker = Broker::prepare(&Setup::trusting(&[("ci", &issuer)]), &[]);
    for (file, text) in [
        (
            "issuers.toml",
            "[[issuer]]\nname = \"ci\"\nkind = \"oidc\"\nurl = \"http://idp.test\"\naudiences = [\"https://broker.test\"]\n",
        ),
        (
            "roles/app/deploy.toml",
            "owner = \"nobody\"\ndescription = \"Reaches what the tests reach.\"\nbackend = \"jwt\"\n\
             ttl = { default = \"10m\", max = \"15m\" }\n[jwt]\naudience = \"https://service.test\"\n",
        ),
        ("roles/hallpass/operator.toml", ""),
        ("policies/more.cedar", "\npermit (principal, action, resource);\n"),
    ] {
        fs::create_dir_all(broker.in_bundle("roles/hallpass")).expect("a folder");
        fs::write(broker.in_bundle(file), text).expect("written");
    }
    let output = broker.command(["check"]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    for (place, reason) in [
        ("bundle/issuers.toml:4: ", "url"),
        ("bundle/roles/app/deploy.toml:1: ", "\"nobody\" is no owner of owners.toml"),
        ("bundle/roles/hallpass/operator.toml: ", "built-in"),
        ("bundle/policies/more.cedar:2: ", "@id"),
    ] {
        let line = said.lines().find(|line| line.contains(place)).unwrap_or_else(|| panic!("{place} in {said}"));
        assert!(said.lines().any(|line| line.contains(place) && line.contains(reason)), "{reason} in {line}");
    }
    assert!(!broker.folder().join("hallpass.db").exists(), "a check made a store");
}

#[tokio::test]
async fn a_check_reads_the_server_file_too() {
    let issuer = Issuer::start(&[]).await;
    let setup = Setup::trusting(&[("ci", &issuer)]).server(json!({"auditing": {"checkpoint_every": "1m"}}));
    let broker = Broker::prepare(&setup, &[]);
    let output = broker.command(["check"]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("hallpass.toml:") && said.contains("unknown key \"auditing\""), "{said}");
}

#[tokio::test]
async fn the_sample_passes_its_own_check() {
    let folder = component::root().join("deploy/sample");
    let output = Broker::run(["check".as_ref(), "--config".as_ref(), folder.join("hallpass.toml").as_os_str()]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("revision") && said.contains("payments/prod/deploy"), "{said}");
}

#[tokio::test]
async fn a_role_of_production_without_policy_tests_is_neither_checked_nor_served() {
    let issuer = Issuer::start(&[]).await;
    let mut setup = Setup::trusting(&[("ci", &issuer)]);
    for (_, role) in setup.roles.iter_mut().filter(|(name, _)| name == ROLE) {
        role["environment"] = json!("prod");
    }
    let mut broker = Broker::prepare(&setup, &[]);
    fs::write(broker.in_bundle("environments.toml"), "[[environment]]\nname = \"prod\"\nclass = \"production\"\n")
        .expect("written");
    let output = broker.command(["check"]);
    assert_eq!(output.status.code(), Some(1));
    let checked = said(&output);
    assert!(!broker.end_by_itself().await.success());
    for said in [checked, broker.output()] {
        assert!(said.contains("roles/app/deploy.toml:") && said.contains("needs policy tests"), "{said}");
    }
}

/// Asks for the role that no policy permits.
async fn closed(house: &House) -> Answer {
    house.broker.exchange(&Exchange::of(&house.proof()).role(CLOSED_ROLE)).await
}

/// The revision that decided a grant.
async fn revision(house: &House) -> String {
    let answer = house.credential().await;
    let query = "SELECT policy_revision FROM grants ORDER BY created_at DESC LIMIT 1";
    let rows = house.broker.store().rows(query, &[]);
    answer.assert_status(200);
    rows[0]["policy_revision"].as_str().expect("a revision").to_owned()
}

#[tokio::test]
async fn a_good_bundle_takes_effect_when_asked_to_without_a_restart() {
    let house = House::open().await;
    let before = revision(&house).await;
    closed(&house).await.assert_refused(400, "invalid_target");
    fs::write(house.broker.in_bundle("policies/more.cedar"), CLOSED_OPENS).expect("written");
    closed(&house).await.assert_refused(400, "invalid_target");
    house.broker.signal(Signal::HUP);
    eventually("the new bundle is in force", DEADLINE, async || (closed(&house).await.status == 200).then_some(()))
        .await;
    assert_ne!(revision(&house).await, before);

    fs::remove_file(house.broker.in_bundle("policies/more.cedar")).expect("removed");
    house.broker.signal(Signal::HUP);
    eventually("it is taken back", DEADLINE, async || (closed(&house).await.status == 400).then_some(())).await;
    assert_eq!(revision(&house).await, before, "a revision is its content");
}

#[tokio::test]
async fn a_bad_bundle_never_takes_the_place_of_a_good_one() {
    let mut house = House::open().await;
    let before = revision(&house).await;
    fs::write(house.broker.in_bundle("policies/more.cedar"), CLOSED_OPENS).expect("written");
    fs::write(house.broker.in_bundle("roles/app/broken.toml"), "owner = \n").expect("written");
    house.broker.signal(Signal::HUP);
    eventually("the findings are logged", DEADLINE, async || {
        house.broker.output().contains("roles/app/broken.toml:1").then_some(())
    })
    .await;
    assert!(house.broker.is_running());
    closed(&house).await.assert_refused(400, "invalid_target");
    assert_eq!(revision(&house).await, before);

    fs::remove_file(house.broker.in_bundle("roles/app/broken.toml")).expect("removed");
    house.broker.signal(Signal::HUP);
    eventually("the mended bundle is in force", DEADLINE, async || (closed(&house).await.status == 200).then_some(()))
        .await;
}

/// What entries tell of publications and of the files that the bundle names, the oldest first.
fn told_of_keys(broker: &Broker) -> Vec<(String, String, Option<String>, Option<String>)> {
    let entries = "SELECT json_extract(CAST(entry AS TEXT), '$.object.revision') AS revision,
                          json_extract(CAST(entry AS TEXT), '$.detail.occasion') AS occasion,
                          json_extract(CAST(entry AS TEXT), '$.detail.named_changed') AS changed,
                          json_extract(CAST(entry AS TEXT), '$.detail.\"sha256 of keys/ci.json\"') AS digest
                   FROM audit_entries WHERE action = 'configuration.publish' ORDER BY sequence";
    let rows = broker.store().rows(entries, &[]);
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    rows.iter()
        .map(|row| {
            let told = [&row["revision"], &row["occasion"]].map(|value| text(value).expect("text"));
            let [revision, occasion] = told;
            (revision, occasion, text(&row["changed"]), text(&row["digest"]))
        })
        .collect()
}

/// Whose keys they are says nobody who reviews the bundle alone.
#[tokio::test]
async fn a_file_that_the_bundle_only_names_is_told_of_when_it_has_changed() {
    let (issuer, key) = crate::issuer_with_key().await;
    let setup = Setup::trusting(&[("ci", &issuer)]).each_issuer(|issuer| issuer["jwks_file"] = json!("keys/ci.json"));
    let mut broker = Broker::prepare(&setup, &[]);
    let file = broker.in_bundle("keys/ci.json");
    fs::create_dir_all(file.parent().expect("a folder")).expect("made");
    let keys = json!({"keys": [key.jwk()]}).to_string();
    let digest = |text: &str| -> Option<String> {
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        Some(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    fs::write(&file, &keys).expect("written");
    broker.restart().await;
    let told = told_of_keys(&broker);
    let revision = told[0].0.clone();
    assert_eq!(told, [(revision.clone(), "start".to_owned(), None, digest(&keys))]);

    // As it was: neither a start nor SIGHUP has anything to tell.
    assert!(broker.stop().await.success());
    broker.restart().await;
    assert_eq!(told_of_keys(&broker), told);
    broker.signal(Signal::HUP);
    let again = async || broker.output().contains("the bundle was loaded again").then_some(());
    eventually("it is loaded again", DEADLINE, again).await;
    assert_eq!(told_of_keys(&broker), told);

    let others = format!("{keys}\n");
    fs::write(&file, &others).expect("written");
    broker.signal(Signal::HUP);
    let more = async || (told_of_keys(&broker).len() > 1).then(|| told_of_keys(&broker));
    let told = eventually("SIGHUP tells of it", DEADLINE, more).await;
    let changed = || Some("1: keys/ci.json".to_owned());
    let reloaded = (revision.clone(), "reload".to_owned(), changed(), digest(&others));
    assert_eq!(told[1..], [reloaded]);

    assert!(broker.stop().await.success());
    fs::write(&file, &keys).expect("written");
    broker.restart().await;
    let told = told_of_keys(&broker);
    assert_eq!(told[2..], [(revision, "start".to_owned(), changed(), digest(&keys))]);
    assert!(broker.stop().await.success());
    broker.restart().await;
    assert_eq!(told_of_keys(&broker), told);
    let x = key.jwk()["x"].as_str().expect("a coordinate").to_owned();
    let content = format!("SELECT sequence FROM audit_entries WHERE CAST(entry AS TEXT) LIKE '%{x}%'");
    assert!(broker.store().rows(&content, &[]).is_empty(), "never what is in it");
}
