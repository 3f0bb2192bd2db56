//! Other machines are served over TLS.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hallpass_tests::config::Setup;
use hallpass_tests::{Broker, Exchange, Issuer, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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

/// One that ends in the first days of a year.
fn certificate_until(year: i32) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year, 1, 2);
    let signing_key = rcgen::KeyPair::generate().expect("a key");
    let cert = parameters.self_signed(&signing_key).expect("a certificate");
    rcgen::CertifiedKey { cert, signing_key }
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

const DEADLINE: Duration = Duration::from_secs(30);

fn write(house: &House, certificate: &rcgen::CertifiedKey<rcgen::KeyPair>, key: &rcgen::CertifiedKey<rcgen::KeyPair>) {
    fs::write(house.broker.folder().join("tls.pem"), certificate.cert.pem()).expect("written");
    fs::write(house.broker.folder().join("tls.key"), key.signing_key.serialize_pem()).expect("written");
}

/// Whether a client that trusts this certificate, on a connection of its own, is answered.
async fn is_served_with(house: &House, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> bool {
    let url = format!("https://{}/.well-known/jwks.json", house.broker.address());
    client_that_trusts(&made.cert.pem()).get(url).send().await.is_ok_and(|answer| answer.status().is_success())
}

/// Seconds since 1970 at which the certificate in service ends, as the metrics have it.
async fn expiry(house: &House) -> Option<f64> {
    let page = house.broker.operations("/metrics").await.text;
    let line = page.lines().find(|line| line.starts_with("hallpass_tls_certificate_expires_seconds{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn a_new_certificate_is_served_with_and_no_connection_is_dropped() {
    let (first, second) = (certificate(), certificate_until(2027));
    let house = open(&first).await;
    let kept = client_that_trusts(&first.cert.pem());
    let url = format!("https://{}/.well-known/jwks.json", house.broker.address());
    kept.get(&url).send().await.expect("an answer").text().await.expect("its body");
    let before = eventually("the expiry is told", DEADLINE, async || expiry(&house).await).await;
    let ready = house.broker.operations("/readyz").await;
    assert!(ready.text.contains("the certificate expires at"), "{}", ready.text);

    write(&house, &second, &second);
    eventually("the other certificate is served with", DEADLINE, async || {
        is_served_with(&house, &second).await.then_some(())
    })
    .await;
    assert!(!is_served_with(&house, &first).await, "the old certificate is still served with");
    let answer = kept.get(&url).send().await.expect("the old connection goes on: a new one would not be trusted");
    assert_eq!(answer.status().as_u16(), 200);
    eventually("the new expiry is told", DEADLINE, async || {
        expiry(&house).await.filter(|expiry| *expiry < before && *expiry > 1_798_000_000.0)
    })
    .await;
    let ready = house.broker.operations("/readyz").await;
    assert!(ready.text.contains("the certificate expires at 2027-"), "{}", ready.text);
}

#[tokio::test]
async fn a_pair_that_cannot_be_served_with_never_takes_the_place_of_a_good_one() {
    let (good, other, over) = (certificate(), certificate(), certificate_until(2001));
    let mut house = open(&good).await;
    let broken = |house: &House, what: &str| match what {
        "of another key" => write(house, &other, &good),
        "over" => write(house, &over, &over),
        "no PEM" => fs::write(house.broker.folder().join("tls.pem"), "no certificate").expect("written"),
        _ => fs::remove_file(house.broker.folder().join("tls.pem")).expect("removed"),
    };
    for (at, what) in ["of another key", "over", "no PEM", "gone"].into_iter().enumerate() {
        broken(&house, what);
        house.broker.signal(rustix::process::Signal::HUP);
        eventually("the files are refused", DEADLINE, async || {
            (house.broker.output().matches("new certificate files are refused").count() > at).then_some(())
        })
        .await;
        assert!(is_served_with(&house, &good).await, "{what}: the good certificate is gone");
    }
    assert!(house.broker.is_running());
    write(&house, &other, &other);
    house.broker.signal(rustix::process::Signal::HUP);
    eventually("a good pair is taken", DEADLINE, async || is_served_with(&house, &other).await.then_some(())).await;
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

/// A connection to the broker whose handshake names `server`, for one of these protocols.
async fn connect(
    house: &House,
    made: &rcgen::CertifiedKey<rcgen::KeyPair>,
    server: &'static str,
    protocol: &str,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = tokio::net::TcpStream::connect(house.broker.address()).await.expect("a connection");
    let name = server.try_into().expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

/// A name in the handshake, a request's target, and its `Host` headers; the status that it gets.
type Addressed<'a> = (&'static str, &'a str, &'a [&'a str], u16);

#[tokio::test]
async fn a_request_for_another_host_than_its_connection_was_made_to_is_misdirected() {
    // CASE MTLS-008
    let names = vec!["127.0.0.1".to_owned(), "hallpass.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let house = open(&made).await;
    let (path, named) = ("/.well-known/jwks.json", "hallpass.example");
    let absolute = "https://hallpass.example/.well-known/jwks.json";
    let cases: &[Addressed<'_>] = &[
        (named, path, &["hallpass.example"], 200),
        (named, path, &["HALLPASS.example:8443"], 200),
        (named, absolute, &["hallpass.example"], 200),
        // An address is no name, and the handshake has none then.
        ("127.0.0.1", path, &["127.0.0.1"], 200),
        (named, path, &["evil.example"], 421),
        (named, path, &[""], 421),
        (named, absolute, &["evil.example"], 421),
        (named, "https://evil.example/.well-known/jwks.json", &["hallpass.example"], 421),
        ("127.0.0.1", absolute, &["evil.example"], 421),
        ("127.0.0.1", path, &["a.example", "b.example"], 421),
    ];
    for (server, target, hosts, status) in cases {
        let mut stream = connect(&house, &made, server, "http/1.1").await;
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let request = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let got = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(got, status.to_string(), "{server} {target} {hosts:?}: {answer}");
        assert_eq!(answer.contains("misdirected_request"), *status == 421, "{answer}");
    }
    let cases: &[Addressed<'_>] = &[
        (named, absolute, &[], 200),
        (named, absolute, &["hallpass.example"], 200),
        ("127.0.0.1", "https://127.0.0.1/.well-known/jwks.json", &[], 200),
        (named, "https://evil.example/.well-known/jwks.json", &[], 421),
        (named, absolute, &["evil.example"], 421),
        ("127.0.0.1", absolute, &["evil.example"], 421),
    ];
    for (server, target, hosts, status) in cases {
        let stream = hyper_util::rt::TokioIo::new(connect(&house, &made, server, "h2").await);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, stream).await.expect("HTTP/2");
        let driving = tokio::spawn(connection);
        let mut request = http::Request::get(*target);
        for host in *hosts {
            request = request.header("host", *host);
        }
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), *status, "HTTP/2: {server} {target} {hosts:?}");
        driving.abort();
    }
}
