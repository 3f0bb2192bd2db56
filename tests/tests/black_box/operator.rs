//! `hallpass-broker operator-token`: the way in when no identity of the bundle works.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_tests::config::ROLE;
use serde_json::{Value, json};

use crate::House;

/// As the sample bundle has it.
const POLICY: &str = r#"
@id("operator-tokens-act")
permit (
  principal is Operator,
  action in [Action::"read", Action::"revoke", Action::"suspend", Action::"abandon", Action::"introspect"],
  resource
)
when { principal has via_role && principal.via_role == "hallpass/operator" };
"#;
const PURPOSE: &str = "end what the lost laptop holds";
const LONGEST_SECONDS: i64 = 15 * 60;

async fn open() -> House {
    House::open_with(|setup| setup.policy("operator.cedar", POLICY)).await
}

/// Runs the command.
fn ask(house: &House, purpose: &str, more: &[&str]) -> Output {
    house.broker.command(["operator-token", "--purpose", purpose].iter().chain(more))
}

/// The token that the command prints, and nothing else.
fn token(house: &House, more: &[&str]) -> String {
    let output = ask(house, PURPOSE, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).expect("text");
    let token = printed.trim_end().to_owned();
    assert_eq!(token.split('.').count(), 3, "not one token: {printed:?}");
    token
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// Lists with the token, ends a grant with it, and finds both in the record.
async fn assert_it_acts(house: &House, token: &str, grant: &str) {
    let listed = house.broker.call("GET", "/v1/grants", Some(token), None).await;
    listed.assert_status(200);
    assert!(listed.text.contains(grant), "{}", listed.text);
    let reason = json!({"reason": "the laptop is lost"});
    let ended = house.broker.call("POST", &format!("/v1/grants/{grant}/revoke"), Some(token), Some(&reason)).await;
    assert!(matches!(ended.status, 200 | 202), "{}", ended.text);
    assert_eq!(house.broker.store().state(grant), "revoking");

    let audit = house.broker.call("GET", "/v1/audit?limit=100", Some(token), None).await;
    audit.assert_status(200);
    let entries = audit.body["items"].as_array().expect("entries");
    let opened: Vec<_> = entries
        .iter()
        .filter(|entry| entry["actor"] == "hallpass:local-administrator" && entry["action"] == "grant.open")
        .collect();
    assert_eq!(opened.len(), 1, "{}", audit.text);
    assert!(opened[0].to_string().contains(PURPOSE), "the purpose is not recorded: {}", opened[0]);
    let revoked = entries.iter().find(|entry| entry["request_id"] == ended.request_id()).expect("the end is recorded");
    assert_eq!(
        (revoked["actor"].as_str(), revoked["object"].as_str()),
        (Some("hallpass:operator"), Some(format!("grant:{grant}").as_str()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_running_broker_an_operators_token_lists_and_ends_grants() {
    let house = open().await;
    let grant = house.credential().await.grant_id().to_owned();
    let token = token(&house, &[]);
    assert_it_acts(&house, &token, &grant).await;
    assert!(!house.broker.output().contains(&token), "the token is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_broker_stopped_an_operators_token_comes_from_the_store() {
    let mut house = open().await;
    let grant = house.credential().await.grant_id().to_owned();
    assert!(house.broker.stop().await.success());
    let token = token(&house, &[]);
    house.broker.restart().await;
    assert_it_acts(&house, &token, &grant).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_the_socket_that_was_left_is_no_hindrance() {
    let mut house = open().await;
    house.broker.kill9().await;
    let token = token(&house, &[]);
    house.broker.restart().await;
    house.broker.call("GET", "/v1/grants", Some(&token), None).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_token_is_no_way_to_a_credential() {
    // Not even where policy would let it.
    let mint = "@id(\"operators-mint\")\npermit (principal is Operator, action == Action::\"mint\", resource is Role)\n\
                when { principal has via_role && principal.via_role == \"hallpass/operator\" };";
    let house = House::open_with(|setup| setup.policy("operator.cedar", POLICY).policy("mint.cedar", mint)).await;
    let token = token(&house, &[]);
    let exchanged = house.exchange(&token).await;
    house.assert_refused_for(&exchanged, 400, "invalid_request", "unknown_issuer", 1);
    let body = json!({"role": ROLE, "purpose": "deploy build 4f2c to staging"});
    let opened = house.broker.call("POST", "/v1/grants", Some(&token), Some(&body)).await;
    opened.assert_status(401);
    assert_eq!(house.broker.store().reasons_of(opened.request_id()), ["unknown_issuer"]);
    assert_eq!(house.broker.store().grant_count(), 1, "only the operator's own grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_grant_lasts_a_quarter_of_an_hour_at_most() {
    let mut house = open().await;
    for stopped in [false, true] {
        if stopped {
            assert!(house.broker.stop().await.success());
        }
        for (ttl, longest) in
            [("5m", 300), ("15m", LONGEST_SECONDS), ("16m", LONGEST_SECONDS), ("24h", LONGEST_SECONDS)]
        {
            let claims = claims(&token(&house, &["--ttl", ttl]));
            let life = claims["exp"].as_i64().expect("exp") - claims["iat"].as_i64().expect("iat");
            assert!((longest - 60..=longest).contains(&life), "{ttl}: {life} s");
        }
        for ttl in ["0s", "-1", "soon"] {
            assert!(!ask(&house, PURPOSE, &[&format!("--ttl={ttl}")]).status.success(), "{ttl}");
        }
    }
    let late = house.broker.store().rows("SELECT id FROM grants WHERE expires_at - created_at > 15 * 60 * 1000", &[]);
    assert_eq!((house.broker.store().grant_count(), late), (8, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_purpose_says_something() {
    let mut house = open().await;
    for stopped in [false, true] {
        if stopped {
            assert!(house.broker.stop().await.success());
        }
        for purpose in ["", "   ", "test", "n/a", "hallpass/operator"] {
            let output = ask(&house, purpose, &[]);
            assert_eq!(output.status.code(), Some(1), "{purpose:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("what the credential is for"), "{purpose:?}: {said}");
            assert!(output.stdout.is_empty(), "{purpose:?}");
        }
    }
    assert_eq!(house.broker.store().grant_count(), 0);
    let told = "SELECT outcome, reason, entry FROM audit_entries WHERE action = 'grant.open'";
    let told = house.broker.store().rows(told, &[]);
    assert_eq!(told.len(), 10, "each refusal is told: {told:?}");
    for row in told {
        assert_eq!((&row["outcome"], &row["reason"]), (&json!("denied"), &json!("missing_purpose")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_token_dies_with_its_grant() {
    let house = open().await;
    let token = token(&house, &[]);
    let own =
        house.broker.store().grants()[0]["id"].as_str().map(uuid::Uuid::parse_str).expect("an id").expect("a UUID");
    let ended = house.broker.call("DELETE", &format!("/v1/grants/{own}"), Some(&token), None).await;
    assert!(matches!(ended.status, 200 | 202), "{}", ended.text);
    let after = house.broker.call("GET", "/v1/grants", Some(&token), None).await;
    after.assert_status(401);
    assert_eq!(house.broker.store().reasons_of(after.request_id()), ["grant_ended"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operators_token_may_do_is_policys_to_say() {
    let house = House::open().await;
    let grant = house.credential().await.grant_id().to_owned();
    let token = token(&house, &[]);
    house.broker.call("DELETE", &format!("/v1/grants/{grant}"), Some(&token), None).await.assert_status(404);
    assert_eq!(house.broker.store().state(&grant), "active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_read_the_key_file_gets_no_token() {
    let house = open().await;
    let socket = house.broker.folder().join("hallpass.db.control");
    let mode = std::fs::metadata(socket).expect("the control socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = open().await;
    std::fs::copy(other.broker.folder().join("kek"), house.broker.folder().join("kek")).expect("another key");
    let output = ask(&house, PURPOSE, &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert_eq!(house.broker.store().grant_count(), 0);
}
