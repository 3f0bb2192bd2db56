//! Other machines are served over TLS.

use std::fs;

use hallpass_tests::config::Setup;
use hallpass_tests::{Broker, Exchange, Issuer};
use serde_json::{Value, json};

use crate::{House, issuer_with_key};

/// A client that trusts this certificate and no other.
#[expect(clippy::disallowed_methods, reason = "the tests' own client")]
fn client_that_trusts(certificate: &str) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(certificate.as_bytes()).expect("a certificate");
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]);
    builder.timeout(std::time::Duration::from_secs(30)).build().expect("a client")
}

fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate")
}

/// A broker that serves with `made`.
async fn open(made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> House {
    let (issuer, key) = issuer_with_key().await;
    let tls = json!({"certificate_file": "tls.pem", "private_key_file": "tls.key"});
    let setup = Setup::trusting(&[("ci", &issuer)]).server(json!({"server": {"tls": tls}}));
    let mut broker = Broker::prepare(&setup, &[]);
    let server = fs::read_to_string(broker.file()).expect("the server file");
    fs::write(broker.file(), server.replace("http://127.0.0.1", "https://127.0.0.1")).expect("written");
    fs::write(broker.folder().join("tls.pem"), made.cert.pem()).expect("written");
    fs::write(broker.folder().join("tls.key"), made.signing_key.serialize_pem()).expect("written");
    broker.restart().await;
    House { issuer, key, broker }
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_gets_its_credential_over_tls() {
    let made = certificate();
    let house = open(&made).await;
    let url = format!("https://{}", house.broker.address());
    let exchange = |client: reqwest::Client| {
        let exchange = Exchange::of(&house.proof());
        client.post(format!("{url}/oauth2/token")).form(exchange.parameters()).send()
    };
    let answer = exchange(client_that_trusts(&made.cert.pem())).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(house.broker.store().state(body["grant_id"].as_str().expect("a grant")), "active");

    assert!(exchange(client_that_trusts(&certificate().cert.pem())).await.is_err(), "another certificate was accepted");
    assert!(exchange(house.broker.client().clone()).await.is_err(), "a certificate of nobody was accepted");
    let plain = house.broker.client().get(house.broker.at("/.well-known/jwks.json")).send().await;
    assert!(plain.is_err(), "plain HTTP was answered where TLS is served");
    assert_eq!(house.broker.store().grant_count(), 1);
}

#[tokio::test]
async fn a_certificate_that_is_not_the_keys_stops_the_start() {
    let (made, other) = (certificate(), certificate());
    let mut house = open(&made).await;
    assert!(house.broker.stop().await.success());
    fs::write(house.broker.folder().join("tls.key"), other.signing_key.serialize_pem()).expect("written");
    assert!(!house.broker.end_by_itself().await.success());
}

#[tokio::test]
async fn plain_http_for_other_machines_is_refused_at_the_start() {
    let issuer = Issuer::start(&[]).await;
    let setup = Setup::trusting(&[("ci", &issuer)]).server(json!({"server": {"listen": "0.0.0.0:8700"}}));
    let mut broker = Broker::prepare(&setup, &[]);
    assert!(!broker.end_by_itself().await.success());
    let said = broker.output();
    assert!(said.contains("listen: ") && said.contains("plain text"), "{said}");
}
