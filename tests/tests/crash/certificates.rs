//! Certificates end by a list that verifiers fetch: an end that was asked for stands on it after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hallpass_tests::component;
use hallpass_tests::config::CERTIFICATE_ROLE;
use serde_json::json;

use crate::caller::Proof;
use crate::house::House;
use crate::process::assert_killed;

/// A certificate in a file, with what it takes to end it.
struct Leaf {
    proof: Proof,
    grant: String,
    file: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Revoked,
}

#[tokio::test]
async fn an_ended_certificate_is_on_the_revocation_list_after_a_crash() {
    let Some(openssl) = component::openssl() else { return };
    let mut house = House::open().await;
    let (kept, ended) = (leaf(&house, "kept").await, leaf(&house, "ended").await);
    let reply = house.caller.revoke(&ended.proof, &ended.grant).await.expect("an answer");
    assert!(matches!(reply.status, 200 | 202), "{}", reply.text);
    house.process.kill9().await;
    house.start().await;
    assert_eq!(verify(&openssl, &house, &kept).await, Verdict::Good);
    assert_eq!(verify(&openssl, &house, &ended).await, Verdict::Revoked);
}

#[tokio::test]
async fn a_certificate_is_on_the_revocation_list_exactly_if_its_end_was_committed_before_the_crash() {
    let Some(openssl) = component::openssl() else { return };
    let mut house = House::build().await;
    for (point, verdict) in [("revoke::before-commit", Verdict::Good), ("revoke::after-commit", Verdict::Revoked)] {
        assert!(house.start_to_die(point).await, "{point} was hit before anybody asked for anything");
        let leaf = leaf(&house, point).await;
        let reply = house.caller.revoke(&leaf.proof, &leaf.grant).await;
        assert!(reply.is_err(), "it answered, and was to die at {point}: {reply:?}");
        assert_killed(house.process.ended().await, &house.process.output());
        house.start().await;
        assert_eq!(verify(&openssl, &house, &leaf).await, verdict, "{point}");
        house.process.kill9().await;
    }
}

async fn leaf(house: &House, name: &str) -> Leaf {
    let proof = house.caller.proof();
    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    let reply = house.caller.open(&proof, &body, None).await.expect("an answer");
    reply.assert_status(201);
    let file = house.folder().join(format!("{}.pem", name.replace("::", "-")));
    let chain = reply.body["credential"]["certificate_chain"].as_str().expect("a chain");
    fs::write(&file, chain).expect("written");
    Leaf { proof, grant: reply.grant().to_owned(), file }
}

/// What a verifier says that knows the published authority and its list, and nothing else.
async fn verify(openssl: &Path, house: &House, leaf: &Leaf) -> Verdict {
    let (authority, list) = (house.folder().join("ca.pem"), house.folder().join("crl.pem"));
    let published = house.caller.get("/pki/ca.pem").await.expect("an answer");
    published.assert_status(200);
    fs::write(&authority, &published.text).expect("written");
    let published = house.caller.client.get(house.caller.at("/pki/crl.der")).send().await.expect("an answer");
    let der = house.folder().join("crl.der");
    fs::write(&der, published.bytes().await.expect("a list")).expect("written");
    let converted =
        Command::new(openssl).args(["crl", "-inform", "DER", "-in"]).arg(&der).arg("-out").arg(&list).output();
    let converted = converted.expect("openssl starts");
    assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));

    let mut command = Command::new(openssl);
    command.args(["verify", "-crl_check", "-CAfile"]).arg(&authority).arg("-CRLfile").arg(&list).arg(&leaf.file);
    let output = command.output().expect("openssl starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Verdict::Good;
    }
    assert!(said.contains("certificate revoked"), "{said}");
    Verdict::Revoked
}
