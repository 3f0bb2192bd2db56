//! The broker's own keys change while it runs: announced, in turn, imported, and at once in an emergency.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_tests::config::CERTIFICATE_ROLE;
use hallpass_tests::verifier::Verifier;
use hallpass_tests::{Answer, Exchange, SigningKey, component, eventually, unix_now};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::House;

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn run(house: &House, arguments: &[&str]) -> Output {
    house.broker.command(["keys"].iter().chain(arguments))
}

/// Runs the command, which must succeed, and gives the keys that it answers.
#[track_caller]
pub(crate) fn keys(house: &House, arguments: &[&str]) -> Vec<Value> {
    let output = run(house, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a list of keys")
}

/// What the command says as it fails.
#[track_caller]
pub(crate) fn refused(house: &House, arguments: &[&str]) -> String {
    let output = run(house, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn header(token: &str) -> Value {
    let part = token.split('.').next().expect("a header");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

pub(crate) fn key_of(answer: &Answer) -> String {
    header(answer.credential())["kid"].as_str().expect("a key id").to_owned()
}

pub(crate) async fn published(house: &House) -> Vec<String> {
    let keys = house.broker.call("GET", "/.well-known/jwks.json", None, None).await;
    let keys = keys.body["keys"].as_array().expect("a key set").clone();
    keys.iter().map(|key| key["kid"].as_str().expect("a key id").to_owned()).collect()
}

pub(crate) async fn is_active(house: &House, proof: &str, token: &str) -> bool {
    let form = Some("application/x-www-form-urlencoded");
    let answer = house.broker.post_raw("/oauth2/introspect", Some(proof), form, format!("token={token}")).await;
    answer.assert_status(200);
    answer.body["active"] == true
}

/// How often the audit log tells of this.
pub(crate) fn told(house: &House, action: &str) -> usize {
    house.broker.store().rows("SELECT sequence FROM audit_entries WHERE action = ?1", &[&action]).len()
}

// CASE MNT-116
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_announced_and_takes_over_without_a_restart_and_what_the_old_one_signed_still_verifies() {
    let Some(verifier) = Verifier::new() else { return };
    let house = House::open().await;
    let before = house.credential().await;
    let old = key_of(&before);
    let made = keys(&house, &["rotate", "--purpose", "token", "--algorithm", "ES256", "--activate-after", "3s"]);
    assert_eq!((made.len(), made[0]["phase"].as_str()), (1, Some("announced")));
    let new = made[0]["key_id"].as_str().expect("a key id").to_owned();
    assert!(published(&house).await.contains(&new), "published before it signs");
    assert!(published(&house).await.contains(&old));

    let first = eventually("the new key signs", DEADLINE, async || {
        let answer = house.credential().await;
        (key_of(&answer) == new).then_some(answer)
    })
    .await;
    for answer in [&before, &first] {
        assert_eq!(verifier.judge(&house.broker, answer.credential()).await, "valid");
    }
    let listed = keys(&house, &["list"]);
    let phase = |id: &str| listed.iter().find(|key| key["key_id"] == id).map(|key| key["phase"].clone());
    assert_eq!((phase(&old), phase(&new)), (Some(json!("retired")), Some(json!("active"))));
    assert_eq!(told(&house, "key.rotate"), 1);
    let metrics = house.broker.operations("/metrics").await;
    assert!(
        metrics.text.contains(r#"hallpass_key_changes_total{change="rotate",purpose="token"} 1"#),
        "{}",
        metrics.text
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_broker_stopped_keys_are_changed_in_the_store() {
    let mut house = House::open().await;
    let before = house.credential().await;
    let (old, grant) = (key_of(&before), before.grant_id().to_owned());
    assert!(house.broker.stop().await.success());
    let made = keys(&house, &["rotate", "--purpose", "token", "--algorithm", "ES256", "--activate-after", "0s"]);
    let new = made[0]["key_id"].as_str().expect("a key id").to_owned();
    keys(&house, &["distrust", &old, "--reason", "the backup was stolen"]);
    house.broker.restart().await;
    eventually("what it signed ends after the start", DEADLINE, async || {
        (house.broker.store().state(&grant) == "revoking").then_some(())
    })
    .await;
    assert_eq!(key_of(&house.credential().await), new);
    assert!(!published(&house).await.contains(&old));
    let listed = keys(&house, &["list"]);
    assert!(listed.iter().any(|key| key["key_id"] == *old && key["phase"] == "distrusted"), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distrusted_key_signs_and_verifies_nothing_from_the_next_request_on() {
    let Some(verifier) = Verifier::new() else { return };
    let house = House::open().await;
    let proof = house.proof();
    let signed = house.exchange(&proof).await;
    let (token, key) = (signed.credential().to_owned(), key_of(&signed));
    let recorded = house.broker.store().rows("SELECT signed_by FROM grants", &[]);
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0]["signed_by"], json!(key), "which key signed is part of the record");
    assert!(is_active(&house, &proof, &token).await);
    assert_eq!(verifier.judge(&house.broker, &token).await, "valid");

    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    let by_another = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
    by_another.assert_status(201);
    let by_another = by_another.grant_id().to_owned();
    keys(&house, &["distrust", &key, "--reason", "its backup was stolen"]);
    assert!(!is_active(&house, &proof, &token).await);
    assert!(!published(&house).await.contains(&key));
    let judged = verifier.judge(&house.broker, &token).await;
    assert!(judged.starts_with("refused: no key"), "{judged}");

    // Its grant ends by the revocation of all that the key signed; what another key signed lives on.
    let grant = signed.grant_id();
    eventually("the grant has begun to end", DEADLINE, async || {
        (house.broker.store().state(grant) == "revoking").then_some(())
    })
    .await;
    assert_eq!(house.broker.store().state(&by_another), "active");
    assert_eq!(told(&house, "revocation.begin"), 1);

    let next = house.credential().await;
    assert_ne!(key_of(&next), key);
    assert_eq!(verifier.judge(&house.broker, next.credential()).await, "valid");
    let proof = house.proof();
    let own = house.exchange(&proof).await;
    assert!(is_active(&house, &proof, own.credential()).await, "the control: a token of the new key");
    assert_eq!(told(&house, "key.distrust"), 1);
    let said = refused(&house, &["distrust", &key, "--reason", "again"]);
    assert!(said.contains("distrusted already"), "{said}");
    for other in ["no-such-key", "-one-in-64-begins-like-this"] {
        let said = refused(&house, &["distrust", other, "--reason", "why not"]);
        assert!(said.contains("no key"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_token_of_a_distrusted_key_opens_nothing() {
    let house = House::open().await;
    let output = house.broker.command(["operator-token", "--purpose", "end what the lost laptop holds"]);
    let token = String::from_utf8(output.stdout).expect("text").trim_end().to_owned();
    house.broker.call("GET", "/v1/whoami", Some(&token), None).await.assert_status(200);
    let key = header(&token)["kid"].as_str().expect("a key id").to_owned();
    keys(&house, &["distrust", &key, "--reason", "its backup was stolen"]);
    let answer = house.broker.call("GET", "/v1/whoami", Some(&token), None).await;
    answer.assert_status(401);
    assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["unknown_kid"]);
}

pub(crate) fn rsa_key(folder: &Path, name: &str, arguments: &[&str]) -> Option<String> {
    let openssl = component::openssl()?;
    let file = folder.join(name);
    let output = Command::new(openssl).args(arguments).arg("-out").arg(&file).output().expect("openssl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(file.to_str().expect("a path").to_owned())
}

pub(crate) const RSA_2048: &[&str] = &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_signs_by_an_imported_key_and_no_sooner_than_there_is_one() {
    let Some(verifier) = Verifier::new() else { return };
    let house = House::open().await;
    let folder = house.broker.folder();
    let role = std::fs::read_to_string(house.broker.in_bundle("roles/app/deploy.toml")).expect("the role");
    assert!(role.contains("[jwt]"), "{role}");
    let with_rsa = role.replace("[jwt]\n", "[jwt]\nalgorithm = \"RS256\"\n");
    std::fs::write(house.broker.in_bundle("roles/app/deploy.toml"), &with_rsa).expect("written");
    house.broker.signal(Signal::HUP);
    eventually("it is refused, with what to do", DEADLINE, async || {
        house.broker.output().contains("no RS256 key: import one").then_some(())
    })
    .await;
    assert_eq!(header(house.credential().await.credential())["alg"], "ES256", "the bundle in force stays");
    let configuration = house.broker.call("GET", "/.well-known/openid-configuration", None, None).await;
    assert_eq!(configuration.body["id_token_signing_alg_values_supported"], json!(["ES256", "EdDSA"]));

    let Some(file) = rsa_key(folder, "rsa.pem", RSA_2048) else { return };
    let short = rsa_key(folder, "short.pem", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let pkcs1 = rsa_key(folder, "pkcs1.pem", &["rsa", "-traditional", "-in", &file]);
    let elliptic = rsa_key(folder, "ec.pem", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let import = |file: &str| {
        vec!["import", "--purpose", "token", "--algorithm", "RS256", "--file", file]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (bad, says) in [(short, "2048 to 4096 bits"), (pkcs1, "BEGIN PRIVATE KEY"), (elliptic, "2048 to 4096 bits")] {
        let arguments = import(&bad.expect("openssl is there"));
        let said = refused(&house, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(said.contains(says), "{said}");
    }
    let arguments = import(&file);
    let imported = keys(&house, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((imported[0]["phase"].as_str(), imported[0]["algorithm"].as_str()), (Some("active"), Some("RS256")));
    std::fs::remove_file(&file).expect("the file is not needed again");
    let configuration = house.broker.call("GET", "/.well-known/openid-configuration", None, None).await;
    assert_eq!(configuration.body["id_token_signing_alg_values_supported"], json!(["ES256", "EdDSA", "RS256"]));

    house.broker.signal(Signal::HUP);
    let token = eventually("the role's tokens are signed by it", DEADLINE, async || {
        let answer = house.credential().await;
        (header(answer.credential())["alg"] == "RS256").then(|| answer.credential().to_owned())
    })
    .await;
    assert_eq!(header(&token)["kid"], imported[0]["key_id"]);
    assert_eq!(verifier.judge(&house.broker, &token).await, "valid");
    assert_eq!(told(&house, "key.import"), 1);
    let kept = std::fs::read(hallpass_tests::config::database(folder)).expect("the database");
    assert!(!kept.windows(11).any(|bytes| bytes == b"PRIVATE KEY"), "the key is kept as it was given");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distrusted_imported_key_verifies_nothing_and_the_next_import_serves() {
    let Some(verifier) = Verifier::new() else { return };
    let mut house = House::open().await;
    let folder = house.broker.folder().to_owned();
    let Some(first) = rsa_key(&folder, "first.pem", RSA_2048) else { return };
    let Some(second) = rsa_key(&folder, "second.pem", RSA_2048) else { return };
    let import = |file| ["import", "--purpose", "token", "--algorithm", "RS256", "--file", file];
    let old = keys(&house, &import(&first)).remove(0)["key_id"].as_str().expect("a key id").to_owned();
    let file = house.broker.in_bundle("roles/app/deploy.toml");
    let role = std::fs::read_to_string(&file).expect("the role");
    std::fs::write(&file, role.replace("[jwt]\n", "[jwt]\nalgorithm = \"RS256\"\n")).expect("written");
    house.broker.signal(Signal::HUP);
    let proof = house.proof();
    let signed = eventually("the role's tokens are signed by it", DEADLINE, async || {
        let answer = house.broker.exchange(&Exchange::of(&house.proof())).await;
        (key_of(&answer) == old).then_some(answer)
    })
    .await;
    let token = signed.credential().to_owned();
    assert!(is_active(&house, &proof, &token).await, "the control");
    assert_eq!(verifier.judge(&house.broker, &token).await, "valid");

    keys(&house, &["distrust", &old, "--reason", "its backup was stolen"]);
    // Without another key the role is refused, by the broker that runs and by the one that starts again; the others are
    // not, and it is told.
    for _ in 0..2 {
        assert!(!is_active(&house, &house.proof(), &token).await);
        assert!(!published(&house).await.contains(&old));
        let judged = verifier.judge(&house.broker, &token).await;
        assert!(judged.starts_with("refused: no key"), "{judged}");
        assert_eq!(house.exchange(&house.proof()).await.status, 503);
        let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
        house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await.assert_status(201);
        let ready = house.broker.operations("/readyz").await.text;
        assert!(ready.contains("the RS256 key was distrusted"), "{ready}");
        house.broker.stop().await;
        house.broker.restart().await;
    }
    eventually("its grant ends", DEADLINE, async || {
        (house.broker.store().state(signed.grant_id()) == "revoking").then_some(())
    })
    .await;
    let said = refused(&house, &import(&first));
    assert!(said.contains("was distrusted here"), "{said}");
    let new = keys(&house, &import(&second)).remove(0);
    assert_eq!(new["phase"], "active");
    for _ in 0..2 {
        let next = house.credential().await;
        assert_eq!(json!(key_of(&next)), new["key_id"]);
        assert_eq!(verifier.judge(&house.broker, next.credential()).await, "valid");
        assert!(is_active(&house, &house.proof(), next.credential()).await);
        assert!(!is_active(&house, &house.proof(), &token).await);
        house.broker.stop().await;
        house.broker.restart().await;
    }
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// Whoever has one of the broker's keys can write any token. It counts for a grant only where the record says that this key
/// signed for it, and no longer than the grant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_another_of_the_brokers_keys_signed_for_a_live_grant_is_not_the_grants() {
    let house = House::open().await;
    let folder = house.broker.folder().to_owned();
    let Some(file) = rsa_key(&folder, "stolen.pem", RSA_2048) else { return };
    let arguments = ["import", "--purpose", "token", "--algorithm", "RS256", "--file", &file];
    let stolen = keys(&house, &arguments).remove(0)["key_id"].as_str().expect("a key id").to_owned();
    let thief = SigningKey::rs256_from(Path::new(&file), &stolen);
    let forged = |token: &str, change: &dyn Fn(&mut Value)| {
        let (mut header, mut claims) = (header(token), claims(token));
        header["alg"] = json!("RS256");
        header["kid"] = json!(stolen);
        change(&mut claims);
        thief.sign_with(&header, &claims)
    };

    // A grant of a key that the thief does not have.
    let proof = house.proof();
    let genuine = house.exchange(&proof).await;
    assert_ne!(key_of(&genuine), stolen);
    assert!(is_active(&house, &proof, genuine.credential()).await, "the control");
    assert!(!is_active(&house, &proof, &forged(genuine.credential(), &|_| {})).await);
    let output = house.broker.command(["operator-token", "--purpose", "end what the lost laptop holds"]);
    let own = String::from_utf8(output.stdout).expect("text").trim_end().to_owned();
    house.broker.call("GET", "/v1/whoami", Some(&own), None).await.assert_status(200);
    let answer = house.broker.call("GET", "/v1/whoami", Some(&forged(&own, &|_| {})), None).await;
    answer.assert_status(401);
    assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["grant_ended"]);

    // A grant of the key that it has: what it writes is as good as the broker's, and not longer.
    let file = house.broker.in_bundle("roles/app/deploy.toml");
    let role = std::fs::read_to_string(&file).expect("the role");
    std::fs::write(&file, role.replace("[jwt]\n", "[jwt]\nalgorithm = \"RS256\"\n")).expect("written");
    house.broker.signal(Signal::HUP);
    let by_it = eventually("the role's tokens are signed by it", DEADLINE, async || {
        let answer = house.credential().await;
        (key_of(&answer) == stolen).then_some(answer)
    })
    .await;
    let (token, proof) = (by_it.credential(), house.proof());
    assert!(is_active(&house, &proof, &forged(token, &|_| {})).await, "the control: it is signed as the broker signs");
    let longer = forged(token, &|claims| claims["exp"] = json!(claims["exp"].as_i64().expect("a time") + 60));
    assert!(!is_active(&house, &proof, &longer).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_takes_a_new_key_while_verifiers_go_on() {
    let Some(openssl) = component::openssl() else { return };
    let house = House::open().await;
    let folder = house.broker.folder();
    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    let certificate = async |name: &str| {
        let proof = house.proof();
        let answer = house.broker.call("POST", "/v1/grants", Some(&proof), Some(&body)).await;
        answer.assert_status(201);
        let credential = &answer.body["credential"];
        let text = |member: &str| credential[member].as_str().expect("PEM").to_owned();
        std::fs::write(folder.join(format!("{name}.pem")), text("certificate_chain")).expect("written");
        std::fs::write(folder.join(format!("{name}.bundle")), text("trust_bundle")).expect("written");
        (proof, answer.grant_id().to_owned())
    };
    let run = |arguments: &[&str]| {
        let output = Command::new(&openssl).current_dir(folder).args(arguments).output().expect("openssl starts");
        (output.status.success(), [output.stdout, output.stderr].concat())
    };
    let old = certificate("old").await;
    let made = keys(&house, &["rotate", "--purpose", "ca", "--activate-after", "0s"]);
    assert_eq!(made[0]["phase"], "active");
    certificate("new").await;
    let authority = house.broker.call("GET", "/pki/ca.pem", None, None).await.text;
    assert_eq!(authority.matches("BEGIN CERTIFICATE").count(), 2);
    std::fs::write(folder.join("ca.pem"), &authority).expect("written");
    for leaf in ["old.pem", "new.pem"] {
        for bundle in ["ca.pem", "new.bundle"] {
            let (good, said) = run(&["verify", "-CAfile", bundle, leaf]);
            assert!(good, "{leaf} by {bundle}: {}", String::from_utf8_lossy(&said));
        }
    }
    let (good, _) = run(&["verify", "-CAfile", "old.bundle", "new.pem"]);
    assert!(!good, "the control: the new key is another");

    // Each certificate points to the list of its own key.
    let (proof, grant) = old;
    let path = format!("/v1/grants/{grant}/revoke");
    let ended = house.broker.call("POST", &path, Some(&proof), Some(&json!({"reason": "over"}))).await;
    assert!(matches!(ended.status, 200 | 202), "{}", ended.text);
    for (leaf, verdict) in [("old.pem", false), ("new.pem", true)] {
        let (_, text) = run(&["x509", "-in", leaf, "-noout", "-text"]);
        let text = String::from_utf8_lossy(&text).into_owned();
        let url = text.lines().find_map(|line| line.trim().strip_prefix("URI:")).expect("where its list is").to_owned();
        let checked = async || {
            let list = house.broker.client().get(&url).send().await.expect("an answer");
            assert_eq!(list.status(), 200, "{url}");
            std::fs::write(folder.join("crl.der"), list.bytes().await.expect("a list")).expect("written");
            assert!(run(&["crl", "-inform", "DER", "-in", "crl.der", "-out", "crl.pem"]).0);
            run(&["verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", leaf]).0
        };
        eventually("its list says so", DEADLINE, async || (checked().await == verdict).then_some(())).await;
    }

    // Distrusted, the new key is gone from all of it, and yet another signs.
    let key = made[0]["key_id"].as_str().expect("a key id");
    keys(&house, &["distrust", key, "--reason", "its backup was stolen"]);
    let authority = house.broker.call("GET", "/pki/ca.pem", None, None).await.text;
    std::fs::write(folder.join("ca.pem"), &authority).expect("written");
    assert!(!run(&["verify", "-CAfile", "ca.pem", "new.pem"]).0);
    assert!(run(&["verify", "-CAfile", "ca.pem", "old.pem"]).0);
    house.broker.call("GET", &format!("/pki/crl/{key}.der"), None, None).await.assert_status(404);
    certificate("next").await;
    assert!(run(&["verify", "-CAfile", "ca.pem", "next.pem"]).0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_read_the_key_file_changes_no_key() {
    let house = House::open().await;
    let key = key_of(&house.credential().await);
    let other = House::open().await;
    std::fs::copy(other.broker.folder().join("kek"), house.broker.folder().join("kek")).expect("another key");
    for arguments in [&["list"][..], &["rotate", "--purpose", "token"], &["distrust", &key, "--reason", "to do harm"]] {
        let said = refused(&house, arguments);
        assert!(said.contains("is wrapped by local:"), "{said}");
    }
    // Nor does whoever reaches the socket without the key.
    let socket = house.broker.folder().join("hallpass.db.control");
    let asked = json!({"command": {"keys": "list"}, "asked_at": 1_000_i64 * unix_now(), "digest": "00"});
    let mut stream = UnixStream::connect(socket).expect("the control socket");
    writeln!(stream, "{asked}").expect("it reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("it answers");
    assert!(said.contains("not made lately with this broker's key"), "{said}");
    assert_eq!(key_of(&house.credential().await), key);
    assert_eq!((told(&house, "key.rotate"), told(&house, "key.distrust")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_what_would() {
    let house = House::open().await;
    for (arguments, says) in [
        (&["rotate", "--purpose", "token", "--algorithm", "RS256"][..], "imported"),
        (&["rotate", "--purpose", "ca", "--activate-after", "999d"], "at most"),
        (&["distrust", "whatever", "--reason", ""], "say why"),
    ] {
        let said = refused(&house, arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    for arguments in [
        &["rotate"][..],
        &["rotate", "--purpose", "tls"],
        &["distrust", "x"],
        &["rotate", "--purpose", "token", "--activate-after", "soon"],
    ] {
        assert_eq!(run(&house, arguments).status.code(), Some(2), "{arguments:?}");
    }
    keys(&house, &["rotate", "--purpose", "token"]);
    let said = refused(&house, &["rotate", "--purpose", "token"]);
    assert!(said.contains("is announced and signs from"), "{said}");
    let listed = keys(&house, &["list"]);
    for key in &listed {
        for time in ["created_at", "signs_from"] {
            let at = key[time].as_str().unwrap_or_else(|| panic!("{time} as the API has times: {key}"));
            assert!(hallpass_core::time::Timestamp::parse_rfc3339(at).is_ok(), "{at}");
        }
    }
    let pem = house.broker.folder().join("rsa.pem");
    std::fs::write(&pem, "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n").expect("written");
    let pem = pem.display().to_string();
    let said = refused(&house, &["import", "--purpose", "token", "--algorithm", "RS256", "--file", &pem]);
    assert!(said.contains("openssl pkcs8 -topk8"), "{said}");
    let text = run(&house, &["list"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.starts_with("KEY ID") && text.contains("announced") && text.contains("active"), "{text}");
}
