//! What is minted, for whom, until when, and how it ends.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_tests::config::{CERTIFICATE_ROLE, ERRING_ROLE, MAX_TTL_SECONDS, ORPHANED_ROLE, ROLE};
use hallpass_tests::{Exchange, component, eventually, unix_now};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::{House, WORKLOAD};

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).expect("a part");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

// CASE MNT-115
#[tokio::test]
async fn a_minted_token_says_who_for_whom_until_when_and_no_more() {
    let house = House::open().await;
    let answer = house.credential().await;
    let token = answer.credential();
    let (header, claims) = (part(token, 0), part(token, 1));
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["typ"], "at+jwt");
    let keys = house.broker.call("GET", "/.well-known/jwks.json", None, None).await;
    let published = keys.body["keys"].as_array().expect("a key set");
    assert!(published.iter().any(|key| key["kid"] == header["kid"]), "its key is not published: {}", keys.text);
    assert!(published.iter().all(|key| key["d"].is_null()), "a private key is published");
    assert_eq!(claims["iss"], house.broker.url());
    assert_eq!(claims["aud"], "https://service.test");
    assert_eq!(claims["sub"], format!("ci:{WORKLOAD}"));
    assert!(claims["jti"].is_string() && claims["iat"].is_i64());
    let expires = claims["exp"].as_i64().expect("exp");
    let row = &house.broker.store().grants()[0];
    assert!(expires > unix_now() && expires <= unix_now() + i64::try_from(MAX_TTL_SECONDS).expect("small"));
    assert!(row.contains_key("expires_at"), "{row:?}");
}

#[tokio::test]
async fn a_life_is_never_longer_than_the_role_allows() {
    let house = House::open().await;
    for (asked, longest) in [("1m", 60), ("15m", MAX_TTL_SECONDS)] {
        let answer = house.broker.exchange(&Exchange::of(&house.proof()).with("ttl", asked)).await;
        answer.assert_status(200);
        assert!(
            answer.body["expires_in"].as_u64().is_some_and(|seconds| seconds <= longest),
            "{asked}: {}",
            answer.text
        );
    }
    let long = house.broker.exchange(&Exchange::of(&house.proof()).with("ttl", "24h")).await;
    if long.status == 200 {
        assert!(long.body["expires_in"].as_u64().is_some_and(|seconds| seconds <= MAX_TTL_SECONDS), "{}", long.text);
    }
}

// CASE MNT-114
#[tokio::test]
async fn a_certificate_request_with_a_weak_or_foreign_key_is_refused() {
    let Some(openssl) = component::openssl() else { return };
    let house = House::open().await;
    let csr = |arguments: &[&str]| {
        let folder = house.broker.folder();
        let key = folder.join("csr-key.pem");
        let mut command = Command::new(&openssl);
        command.args(["req", "-new", "-batch", "-nodes", "-subj", "/CN=app.test", "-keyout"]).arg(key).args(arguments);
        let output = command.output().expect("openssl starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("PEM")
    };
    let good = csr(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let middle = good.len() / 2;
    let turned = if good[middle..].starts_with('A') { 'B' } else { 'A' };
    let broken = format!("{}{turned}{}", &good[..middle], &good[middle + 1..]);
    for (what, request) in [
        ("RSA of 1024 bits", csr(&["-newkey", "rsa:1024"])),
        ("a signature that does not verify", broken),
        (
            "no request at all",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned(),
        ),
    ] {
        let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test", "csr": request});
        let answer = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
        assert_eq!((answer.status, answer.error()), (422, "bad_csr"), "{what}: {}", answer.text);
    }
    assert_eq!(house.broker.store().grant_count(), 0);
    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test", "csr": good});
    let answer = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
    answer.assert_status(201);
    assert!(answer.body["credential"]["private_key"].is_null(), "a key came back though the caller has its own");
}

#[tokio::test]
async fn a_certificate_verifies_under_the_published_authority() {
    let Some(openssl) = component::openssl() else { return };
    let house = House::open().await;
    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    let answer = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
    answer.assert_status(201);
    let authority = house.broker.call("GET", "/pki/ca.pem", None, None).await;
    let folder = house.broker.folder();
    std::fs::write(folder.join("leaf.pem"), answer.body["credential"]["certificate_chain"].as_str().expect("a chain"))
        .expect("written");
    std::fs::write(folder.join("ca.pem"), &authority.text).expect("written");
    let output = Command::new(openssl)
        .arg("verify")
        .arg("-CAfile")
        .arg(folder.join("ca.pem"))
        .arg(folder.join("leaf.pem"))
        .output();
    let output = output.expect("openssl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

// CASE MNT-120
#[tokio::test]
async fn a_role_whose_owner_has_left_gives_nothing() {
    let house = House::open().await;
    let answer = house.broker.exchange(&Exchange::of(&house.proof()).role(ORPHANED_ROLE)).await;
    answer.assert_refused(400, "invalid_target");
    assert_eq!(house.broker.store().grant_count(), 0);
}

// CASE POL-003
#[tokio::test]
async fn a_policy_that_cannot_be_evaluated_refuses() {
    let house = House::open().await;
    let answer = house.broker.exchange(&Exchange::of(&house.proof()).role(ERRING_ROLE)).await;
    house.assert_refused_for(&answer, 400, "invalid_target", "policy_error", 0);
}

// CASE POL-002
#[tokio::test]
async fn a_bundle_past_its_size_limit_is_refused_at_load() {
    use hallpass_tests::config::Setup;
    let issuer = hallpass_tests::Issuer::start(&[]).await;
    let policies = "@id(\"p\") forbid (principal, action, resource) when { false };\n".repeat(800_000);
    let mut broker =
        hallpass_tests::Broker::prepare(&Setup::trusting(&[("ci", &issuer)]).policy("huge.cedar", &policies), &[]);
    assert!(!broker.end_by_itself().await.success());
    assert!(broker.output().contains("huge.cedar"), "{}", broker.output());
}

// CASE MNT-108
#[tokio::test]
async fn a_caller_that_hangs_up_leaves_no_grant_half_open() {
    let house = House::open().await;
    for _ in 0..20 {
        let form: String = [
            ("grant_type", "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"),
            ("subject_token", &house.proof()),
            ("subject_token_type", "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt"),
            ("audience", ROLE),
            ("purpose", "deploy+build+4f2c"),
        ]
        .map(|(name, value)| format!("{name}={value}"))
        .join("&");
        let request = format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let mut stream = TcpStream::connect(house.broker.address()).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("it takes the request");
        drop(stream);
    }
    eventually("no grant is half open", Duration::from_secs(20), async || {
        let half = house.broker.store().grants().into_iter().filter(|grant| grant["state"] == "pending").count();
        (half == 0).then_some(())
    })
    .await;
}

// CASE REV-001
#[tokio::test]
async fn ending_a_grant_many_times_ends_it_once() {
    let house = House::open().await;
    let proof = house.proof();
    let grant = house.exchange(&proof).await.grant_id().to_owned();
    let path = format!("/v1/grants/{grant}/revoke");
    let body = json!({"reason": "done"});
    let calls = (
        house.broker.call("POST", &path, Some(&proof), Some(&body)),
        house.broker.call("POST", &path, Some(&proof), Some(&body)),
    );
    let (first, second) = tokio::join!(calls.0, calls.1);
    let third = house.broker.call("POST", &path, Some(&proof), Some(&body)).await;
    for answer in [&first, &second, &third] {
        assert!(matches!(answer.status, 200 | 202), "{} {}", answer.status, answer.text);
    }
    let entries = house.broker.store().rows("SELECT * FROM audit_entries WHERE action = ?1", &[&"grant.revoke"]);
    assert_eq!(entries.len(), 1, "{entries:#?}");
}

// CASE REV-009
#[tokio::test]
async fn a_revoked_token_is_inactive_at_once_and_after_a_crash() {
    let mut house = House::open().await;
    let proof = house.proof();
    let answer = house.exchange(&proof).await;
    let token = format!("token={}", answer.credential());
    let form = Some("application/x-www-form-urlencoded");
    let before = house.broker.post_raw("/oauth2/introspect", Some(&proof), form, token.clone()).await;
    assert_eq!(before.body["active"], true, "{}", before.text);
    let revoked = house.broker.post_raw("/oauth2/revoke", Some(&proof), form, token.clone()).await;
    revoked.assert_status(200);
    let after = house.broker.post_raw("/oauth2/introspect", Some(&proof), form, token.clone()).await;
    assert_eq!(after.body["active"], false, "{}", after.text);
    house.broker.kill9().await;
    house.broker.restart().await;
    let later = house.broker.post_raw("/oauth2/introspect", Some(&proof), form, token).await;
    assert_eq!(later.body["active"], false, "{}", later.text);
}

#[tokio::test]
async fn a_short_credential_ends_by_itself() {
    let house = House::open().await;
    let answer = house.broker.exchange(&Exchange::of(&house.proof()).with("ttl", "2s")).await;
    answer.assert_status(200);
    eventually("the grant has expired", Duration::from_secs(90), async || {
        (house.broker.store().state(answer.grant_id()) == "expired").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stop_drains_and_a_start_finds_everything() {
    let mut house = House::open().await;
    let grant = house.credential().await.grant_id().to_owned();
    assert!(house.broker.stop().await.success());
    house.broker.restart().await;
    assert_eq!(house.broker.store().state(&grant), "active");
    house.credential().await;
}

#[tokio::test]
async fn every_answer_to_a_client_survives_a_crash() {
    use hallpass_tests::{Journal, size};
    let mut house = House::open().await;
    let received = Journal::default();
    for _ in 0..size(3, 50) {
        for _ in 0..5 {
            received.record(house.credential().await.grant_id().to_owned());
        }
        house.broker.kill9().await;
        house.broker.restart().await;
    }
    let store = house.broker.store();
    for grant in received.entries() {
        assert_eq!(store.state(&grant), "active");
    }
}
