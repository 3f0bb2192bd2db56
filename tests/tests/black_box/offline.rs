//! Verifiers that ask the broker about no single credential learn within five seconds that one was ended.

use std::process::Command;
use std::time::Duration;

use hallpass_tests::config::CERTIFICATE_ROLE;
use hallpass_tests::verifier::{Verifier, place};
use hallpass_tests::{component, eventually};
use serde_json::json;

use crate::House;

/// How soon an end that was answered is known to whoever looks.
const FRESH: Duration = Duration::from_secs(5);

async fn end(house: &House, grant: &str, proof: &str) {
    let path = format!("/v1/grants/{grant}/revoke");
    let ended = house.broker.call("POST", &path, Some(proof), Some(&json!({"reason": "the laptop is lost"}))).await;
    assert!(matches!(ended.status, 200 | 202), "{}", ended.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_list_says_within_five_seconds_that_a_token_was_ended() {
    let Some(verifier) = Verifier::new() else { return };
    let house = House::open().await;
    let (kept, proof) = (house.credential().await, house.proof());
    let ended = house.exchange(&proof).await;
    for token in [kept.credential(), ended.credential()] {
        assert_eq!(verifier.judge(&house.broker, token).await, "valid");
    }
    assert_ne!(place(&house.broker, kept.credential()), place(&house.broker, ended.credential()));

    end(&house, ended.grant_id(), &proof).await;
    eventually("the list has the ended token", FRESH, async || {
        (verifier.judge(&house.broker, ended.credential()).await == "invalid").then_some(())
    })
    .await;
    assert_eq!(verifier.judge(&house.broker, kept.credential()).await, "valid", "another's end is not its own");
    let (path, _) = place(&house.broker, kept.credential());
    house.broker.call("GET", &path.replace("/0", "/1"), None, None).await.assert_status(404);

    // A list cannot be passed off as a token, nor a token as a list.
    let list = house.broker.call("GET", &path, None, None).await.text;
    assert!(verifier.judge_by(&house.broker, &list, None).await.starts_with("refused: typ"));
    let passed_off = verifier.judge_by(&house.broker, kept.credential(), Some(ended.credential())).await;
    assert!(passed_off.starts_with("refused: typ"), "{passed_off}");
    house.broker.call("GET", "/v1/whoami", Some(&list), None).await.assert_status(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_token_is_on_its_list_after_a_crash() {
    let Some(verifier) = Verifier::new() else { return };
    let mut house = House::open().await;
    let (kept, proof) = (house.credential().await, house.proof());
    let ended = house.exchange(&proof).await;
    end(&house, ended.grant_id(), &proof).await;
    house.broker.kill9().await;
    house.broker.restart().await;
    assert_eq!(verifier.judge(&house.broker, ended.credential()).await, "invalid");
    assert_eq!(verifier.judge(&house.broker, kept.credential()).await, "valid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_list_says_within_five_seconds_that_a_certificate_was_ended() {
    let Some(openssl) = component::openssl() else { return };
    let house = House::open().await;
    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    let mut leaves = Vec::new();
    for name in ["kept", "ended"] {
        let proof = house.proof();
        let answer = house.broker.call("POST", "/v1/grants", Some(&proof), Some(&body)).await;
        answer.assert_status(201);
        let file = house.broker.folder().join(format!("{name}.pem"));
        std::fs::write(&file, answer.body["credential"]["certificate_chain"].as_str().expect("a chain"))
            .expect("written");
        leaves.push((proof, answer.grant_id().to_owned(), file));
    }
    let folder = house.broker.folder();
    let authority = house.broker.call("GET", "/pki/ca.pem", None, None).await;
    std::fs::write(folder.join("ca.pem"), &authority.text).expect("written");
    let verdict = async |leaf: &std::path::Path| {
        let list = house.broker.client().get(house.broker.at("/pki/crl.der")).send().await.expect("an answer");
        std::fs::write(folder.join("crl.der"), list.bytes().await.expect("a list")).expect("written");
        let run = |command: &mut Command| command.output().expect("openssl starts");
        let converted = run(Command::new(&openssl)
            .args(["crl", "-inform", "DER", "-in"])
            .arg(folder.join("crl.der"))
            .arg("-out")
            .arg(folder.join("crl.pem")));
        assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
        let judged = run(Command::new(&openssl)
            .args(["verify", "-crl_check", "-CAfile"])
            .arg(folder.join("ca.pem"))
            .arg("-CRLfile")
            .arg(folder.join("crl.pem"))
            .arg(leaf));
        let said = String::from_utf8_lossy(&judged.stderr).into_owned();
        assert!(judged.status.success() || said.contains("certificate revoked"), "{said}");
        judged.status.success()
    };
    let [(_, _, kept), (proof, grant, ended)] = &leaves[..] else { unreachable!("two leaves") };
    assert!(verdict(kept).await && verdict(ended).await);
    end(&house, grant, proof).await;
    eventually("the list has the ended certificate", FRESH, async || (!verdict(ended).await).then_some(())).await;
    assert!(verdict(kept).await, "another's end is not its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_say_nothing_new_are_not_sent_again() {
    let house = House::open().await;
    let answer = house.credential().await;
    let (list, _) = place(&house.broker, answer.credential());
    for path in [list.as_str(), "/pki/crl.der"] {
        let get = |etag: Option<String>| {
            let mut request = house.broker.client().get(house.broker.at(path));
            if let Some(etag) = etag {
                request = request.header("if-none-match", etag);
            }
            async move { request.send().await.expect("an answer") }
        };
        let first = get(None).await;
        let etag = first.headers()["etag"].to_str().expect("a tag").to_owned();
        assert_eq!(get(Some(etag.clone())).await.status(), 304, "{path}");
        assert_eq!(get(Some("\"another\"".to_owned())).await.status(), 200, "{path}");
    }
}
