//! The key-encryption key in the Transit engine of a real OpenBao, which is asked at the start and never again.

use hallpass_tests::Broker;
use hallpass_tests::config::Setup;
use hallpass_tests::openbao::{self, OpenBao};
use serde_json::{Value, json};

use crate::wrapping::{Held, refused_start, rewrap, wrapped_by};
use crate::{House, issuer_with_key};

const POLICY: &str = r#"
path "transit/encrypt/hallpass" { capabilities = ["update"] }
path "transit/decrypt/hallpass" { capabilities = ["update"] }
"#;
const NAME: &str = "transit:transit/hallpass";
const FILE: &str = "key_encryption_key_file";

/// A Transit engine with the broker's key, and a token for it.
async fn engine() -> Option<(OpenBao, String)> {
    let server = OpenBao::start().await?;
    let token = prepare(&server).await;
    Some((server, token))
}

async fn prepare(server: &OpenBao) -> String {
    server.mount("transit", "transit").await;
    server.write("transit/keys/hallpass", &json!({})).await;
    server.token("hallpass", POLICY).await
}

fn settings(server: &OpenBao) -> Value {
    json!({"address": server.url(), "key": "hallpass", "token_file": "transit-token", "dangerous_allow_http": true})
}

fn by_transit(server: &OpenBao) -> Value {
    json!({"key_encryption_key_transit": settings(server)})
}

fn give_token(house: &House, token: &str) {
    std::fs::write(house.broker.folder().join("transit-token"), token).expect("a token file");
}

async fn again(house: &mut House) {
    house.broker.stop().await;
    house.broker.restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transit_wraps_the_key_is_rotated_taken_over_and_missed_only_at_the_start() {
    let Some((mut server, token)) = engine().await else { return };
    let (issuer, key) = issuer_with_key().await;
    let broker = Broker::prepare(&Setup::trusting(&[("ci", &issuer)]), &[]);
    let mut house = House { issuer, key, broker };
    house.broker.configure("keys", by_transit(&server));
    give_token(&house, &token);

    // First start, and a second.
    house.broker.restart().await;
    let first = Held::open(&house).await;
    assert_eq!(wrapped_by(&house), [(NAME.to_owned(), "1".to_owned())]);
    again(&mut house).await;
    house.credential().await;

    // The Transit key is rotated: the old version is not needed once the data key is wrapped by the new one.
    server.write("transit/keys/hallpass/rotate", &json!({})).await;
    let done = rewrap(&house, &[]);
    assert_eq!((&done["changed"], &done["version"]), (&json!(true), &json!("2")), "{done}");
    assert_eq!(rewrap(&house, &[])["changed"], json!(false), "once is enough");
    server.write("transit/keys/hallpass/config", &json!({"min_decryption_version": 2})).await;
    again(&mut house).await;

    // A token that is not valid, or that may only half of it.
    let half = server.token("half", POLICY.lines().nth(1).expect("a line")).await;
    house.broker.stop().await;
    for wrong in ["wrong", &half] {
        give_token(&house, wrong);
        let said = refused_start(&mut house).await;
        assert!(said.contains("the Transit key transit/hallpass at http://127.0.0.1:"), "{said}");
        assert!(said.contains("transit-token is not valid, or its policies do not permit"), "{said}");
        assert!(!said.contains(&half), "{said}");
    }
    give_token(&house, &token);
    house.broker.restart().await;

    // To a file and back, and nothing sealed is lost.
    let to_file = json!({FILE: "kek", "retired_key_encryption_key_transits": [settings(&server)]});
    house.broker.configure("keys", to_file);
    assert_eq!(rewrap(&house, &[])["changed"], json!(true));
    house.broker.configure("keys", json!({FILE: "kek"}));
    again(&mut house).await;
    let second = Held::open(&house).await;
    let mut to_transit = by_transit(&server);
    to_transit["retired_key_encryption_key_files"] = json!(["kek"]);
    house.broker.configure("keys", to_transit);
    again(&mut house).await;
    assert!(house.broker.output().contains("wrapped by a retired key-encryption key"), "{}", house.broker.output());
    assert_eq!(rewrap(&house, &[])["kek"], json!(NAME));
    house.broker.configure("keys", by_transit(&server));
    std::fs::remove_file(house.broker.folder().join("kek")).expect("the file goes");
    again(&mut house).await;
    first.assert_opens_and_end(&house).await;

    // Another key of the same engine is another key.
    house.broker.stop().await;
    server.write("transit/keys/other", &json!({})).await;
    let mut other = by_transit(&server);
    other["key_encryption_key_transit"]["key"] = json!("other");
    house.broker.configure("keys", other);
    let said = refused_start(&mut house).await;
    assert!(said.contains("is wrapped by transit:transit/hallpass"), "{said}");
    house.broker.configure("keys", by_transit(&server));
    house.broker.restart().await;

    // Transit goes away: what runs goes on with the key that it holds, and nothing starts.
    server.stop();
    house.credential().await;
    second.assert_opens_and_end(&house).await;
    let output = house.broker.command(["keys", "rewrap"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("it cannot be reached"), "{said}");
    house.credential().await;
    house.broker.stop().await;
    let said = refused_start(&mut house).await;
    assert!(said.contains("it cannot be reached") && said.contains("nothing that is sealed opens"), "{said}");
    for secret in [&token, &half] {
        assert!(!house.broker.output().contains(secret.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transit_is_believed_by_the_authority_that_is_named_and_by_no_other() {
    let Some(server) = OpenBao::start_over_tls().await else { return };
    let token = prepare(&server).await;
    let (issuer, key) = issuer_with_key().await;
    let broker = Broker::prepare(&Setup::trusting(&[("ci", &issuer)]), &[]);
    let mut house = House { issuer, key, broker };
    give_token(&house, &token);
    let write = |name: &str, content: &str| {
        std::fs::write(house.broker.folder().join(name), content).expect("it is written");
    };
    write("ca.pem", server.authority());
    // The same name, and another key.
    write("other.pem", &openbao::authority("OpenBao's").pem());
    write("empty.pem", "");
    let by = |authority: Option<&str>| {
        let mut transit = json!({"address": server.url(), "key": "hallpass", "token_file": "transit-token"});
        if let Some(file) = authority {
            transit["ca_file"] = json!(file);
        }
        json!({"key_encryption_key_transit": transit})
    };

    // Nothing is sent to whoever cannot show a certificate of the authority: not the token, and no key.
    for (authority, says) in [
        (Some("other.pem"), "the certificate that it shows is not of an authority that is trusted"),
        (None, "the certificate that it shows is not of an authority that is trusted"),
        (Some("empty.pem"), "empty.pem"),
        (Some("missing.pem"), "missing.pem"),
    ] {
        house.broker.configure("keys", by(authority));
        let said = refused_start(&mut house).await;
        assert!(said.contains(says), "{authority:?}: {said}");
    }
    house.broker.configure("keys", by(Some("ca.pem")));
    house.broker.restart().await;
    let held = Held::open(&house).await;
    assert_eq!(wrapped_by(&house), [(NAME.to_owned(), "1".to_owned())]);

    // As at the first start, so at the next, and for a command.
    house.broker.configure("keys", by(Some("other.pem")));
    let output = house.broker.command(["keys", "rewrap"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not of an authority that is trusted"), "{said}");
    house.broker.stop().await;
    let said = refused_start(&mut house).await;
    assert!(said.contains("not of an authority that is trusted"), "{said}");
    house.broker.configure("keys", by(Some("ca.pem")));
    house.broker.restart().await;
    held.assert_opens_and_end(&house).await;
    assert!(!house.broker.output().contains(&token));
}
