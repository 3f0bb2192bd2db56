//! SVIDs, bundles and agents that are not ours.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use hallpass_broker::runtime::listener::{Certificates, Looked};
use hallpass_core::time::{Timestamp, Ttl};
use hallpass_tests::openbao::OpenBao;
use hallpass_tests::third_party::Provider;
use hallpass_tests::{component, unix_now};
use rustls::pki_types::pem::PemObject as _;

use super::*;

fn der_of(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec()
}

#[tokio::test]
async fn svids_of_an_openbao_authority_are_proofs() {
    let Some(bao) = OpenBao::start().await else { return };
    bao.mount("pki", "pki").await;
    let root = json!({"common_name": "td1.test authority", "uri_sans": "spiffe://td1.test", "ttl": "24h"});
    let root = bao.write("pki/root/generate/internal", &root).await;
    let root = der_of(root["data"]["certificate"].as_str().expect("a certificate"));
    let role = json!({
        "allowed_uri_sans": ["spiffe://td1.test/*"], "require_cn": false, "key_type": "ec", "key_bits": 256,
        "client_flag": true, "ttl": "5m", "key_usage": ["DigitalSignature"],
    });
    bao.write("pki/roles/svid", &role).await;
    let issued = async |id: &str| {
        let issued = bao.write("pki/issue/svid", &json!({"uri_sans": id, "private_key_format": "pkcs8"})).await;
        let text =
            |name: &str| issued["data"][name].as_str().unwrap_or_else(|| panic!("no {name}: {issued}")).to_owned();
        let key = PrivateKeyDer::from_pem_slice(text("private_key").as_bytes()).expect("a key");
        Shown { chain: vec![der_of(&text("certificate"))], key: key.secret_der().to_vec() }
    };
    let bundle = TempDir::with_prefix("hallpass-bundle-").expect("a temporary folder");
    let file = bundle.path().join("td1.json");
    let jwk = json!({"kty": "RSA", "use": "x509-svid", "x5c": [STANDARD.encode(&root)]});
    fs::write(&file, json!({"keys": [jwk]}).to_string()).expect("written");
    let house = Domain::open_from(bundle, json!({"bundle_file": file}), |setup| setup).await;

    let svid = issued(ID).await;
    let client = house.client(Some(&svid));
    let opened = client.post("/v1/grants", &wanted()).await;
    opened.assert_status(201);
    let stranger = Authority::new("td1.test authority").svid(ID);
    assert_eq!(house.client(Some(&stranger)).get("/v1/whoami").await.status, 401);
}

#[tokio::test]
async fn a_jwt_svid_of_a_certified_provider_is_a_proof() {
    let Some(provider) = Provider::start() else { return };
    provider.claims(&json!({"sub": ID})).await;
    let keys: Value = {
        let (issuer, _) = issuer_with_key().await;
        let any = Broker::start(&Setup::trusting(&[("ci", &issuer)])).await;
        let answer = any.client().get(format!("{}/jwks", provider.url())).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    };
    let keys: Vec<Value> = keys["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| {
            let mut key = key.clone();
            key["use"] = json!("jwt-svid");
            key
        })
        .collect();
    let house = Domain::open_with(&[], &keys, |setup| setup).await;
    let client = house.client(None);
    let token = provider.token(AUDIENCE).await;
    client.post_as("/v1/grants", &wanted(), Some(&token)).await.assert_status(201);
    // The same provider's token of no SPIFFE ID, and of another trust domain.
    for (subject, reason) in [("repo:acme/app", "unknown_issuer"), ("spiffe://td9.test/a", "unknown_issuer")] {
        provider.claims(&json!({"sub": subject})).await;
        let token = provider.token(AUDIENCE).await;
        let refused = client.post_as("/v1/grants", &wanted(), Some(&token)).await;
        assert_eq!(refused.status, 401, "{}", refused.text);
        assert_eq!(house.broker.store().reasons_of(refused.request_id()), [reason]);
    }
}

/// The stand-in of an agent (`tests/spiffe/workload_api.py`). It ends when dropped.
struct Agent {
    process: Child,
    socket: PathBuf,
    folder: TempDir,
}

impl Agent {
    fn start() -> Option<Self> {
        let python = component::spiffe_python()?;
        let folder = TempDir::with_prefix("hallpass-agent-").expect("a temporary folder");
        let socket = folder.path().join("agent.sock");
        let script = component::root().join("tests/spiffe/workload_api.py");
        let mut command = Command::new(python);
        command.arg(script).arg(&socket).arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("Python starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("it says that it is ready");
        assert_eq!(line.trim(), "ready");
        Some(Self { process, socket, folder })
    }

    /// What it gave a workload: an X.509-SVID, and a JWT-SVID for the broker.
    fn given(&self) -> (Shown, String) {
        let read = |name: &str| fs::read(self.folder.path().join(name)).expect("the agent wrote it");
        let token = String::from_utf8(read("svid.jwt")).expect("a token");
        (Shown { chain: vec![read("svid.der")], key: read("svid.key") }, token)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn the_bundle_of_an_agent_verifies_what_the_agent_gives() {
    let Some(agent) = Agent::start() else { return };
    let socket = format!("unix://{}", agent.socket.display());
    let folder = TempDir::with_prefix("hallpass-bundle-").expect("a temporary folder");
    let from =
        json!({"workload_api": socket, "bundle_max_age": "1s", "bundle_min_interval": "1s", "bundle_grace": "0s"});
    let house = Domain::open_from(folder, from, |setup| setup).await;
    let (svid, token) = agent.given();
    let client = house.client(Some(&svid));
    client.post("/v1/grants", &wanted()).await.assert_status(201);
    house.client(None).post_as("/v1/grants", &wanted(), Some(&token)).await.assert_status(201);
    let stranger = Authority::new("td1").svid(ID);
    let refused = house.client(Some(&stranger)).get("/v1/whoami").await;
    assert_eq!(house.broker.store().reasons_of(refused.request_id()), ["bad_svid"]);

    // An agent that is gone vouches for nobody, once what it said is too old.
    drop(agent);
    eventually("nobody is believed", DEADLINE, async || (client.get("/v1/whoami").await.status == 503).then_some(()))
        .await;
}

/// Takes any certificate that its server has the key of, and remembers it.
#[derive(Debug, Default)]
struct Seen(std::sync::Mutex<Vec<Vec<u8>>>);

impl rustls::client::danger::ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        self.0.lock().expect("nobody panics with it").push(end_entity.to_vec());
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_broker_that_an_agent_knows_serves_with_the_svid_that_it_is_given_and_with_the_next() {
    let Some(agent) = Agent::start() else { return };
    let (issuer, key) = issuer_with_key().await;
    let tls = json!({"workload_api": format!("unix://{}", agent.socket.display())});
    let setup = Setup::trusting(&[("ci", &issuer)]).server(json!({"server": {"tls": tls}}));
    let mut broker = Broker::prepare(&setup, &[]);
    let server = fs::read_to_string(broker.file()).expect("the server file");
    fs::write(broker.file(), server.replace("http://127.0.0.1", "https://127.0.0.1")).expect("written");
    broker.restart().await;
    let exchange = hallpass_tests::Exchange::of(&key.sign(&issuer.claims(AUDIENCE, crate::WORKLOAD)));
    let (url, first) = (format!("https://{}", broker.address()), served(&broker).await);
    let id = b"spiffe://td1.test/hallpass";
    assert!(first.windows(id.len()).any(|bytes| bytes == id), "it is the broker's own ID");
    let seen = Arc::new(Seen::default());
    let answer = client_that_sees(&seen).post(format!("{url}/oauth2/token")).form(exchange.parameters()).send().await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 200);
    eventually("the next one is served with", DEADLINE, async || (served(&broker).await != first).then_some(())).await;

    // Without the agent there is no identity to start with.
    assert!(broker.stop().await.success());
    drop(agent);
    assert!(!broker.end_by_itself().await.success());
    assert!(broker.output().contains("gives the broker no X.509-SVID"), "{}", broker.output());
}

#[tokio::test]
async fn what_an_agent_gives_is_served_with_within_a_minute_also_when_it_ends_sooner() {
    let Some(agent) = Agent::start() else { return };
    let lasts = |minutes: &str| fs::write(agent.folder.path().join("minutes"), minutes).expect("written");
    lasts("120");
    let certificates = Certificates::of_agent(&agent.socket).await.expect("the agent gives one");
    let now = Timestamp::from_secs(unix_now());
    assert_eq!(certificates.ask(now).await.expect("it answers"), Looked::Replaced, "each answer is another one");
    let first = certificates.expires_at();
    lasts("60");
    let later = |secs| now.plus(Ttl::from_secs(secs));
    assert_eq!(certificates.ask(later(59)).await.expect("it is not asked"), Looked::Same);
    assert_eq!(certificates.ask(later(60)).await.expect("it answers"), Looked::Replaced);
    let second = certificates.expires_at();
    assert!(second < first, "{second} and not {first}");
    // What is over already replaces nothing.
    lasts("0");
    certificates.ask(later(120)).await.expect_err("it is over");
    assert_eq!(certificates.expires_at(), second);
}

#[expect(clippy::disallowed_methods, reason = "the tests' own client")]
fn client_that_sees(seen: &Arc<Seen>) -> reqwest::Client {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(seen) as Arc<dyn rustls::client::danger::ServerCertVerifier>)
        .with_no_client_auth();
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config).timeout(DEADLINE);
    client.build().expect("a client")
}

/// The certificate that a broker serves a new connection with.
async fn served(broker: &Broker) -> Vec<u8> {
    let seen = Arc::new(Seen::default());
    let url = format!("https://{}/.well-known/jwks.json", broker.address());
    client_that_sees(&seen).get(url).send().await.expect("an answer");
    seen.0.lock().expect("nobody panics with it").pop().expect("a certificate")
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

#[tokio::test]
async fn a_client_shows_a_certificate_or_sends_what_its_agent_gives_it() {
    let Some(agent) = Agent::start() else { return };
    let endpoint = format!("unix://{}", agent.socket.display());
    let folder = TempDir::with_prefix("hallpass-bundle-").expect("a temporary folder");
    let house = Domain::open_from(folder, json!({"workload_api": endpoint}), |setup| setup).await;
    let url = format!("https://{}", house.broker.address());
    let builder = || hallpass_sdk::Client::builder(&url).ca_pem(pem("CERTIFICATE", &house.server)).audience(AUDIENCE);

    let (svid, _) = agent.given();
    let (chain, key) = (pem("CERTIFICATE", &svid.chain[0]), pem("PRIVATE KEY", &svid.key));
    let shows = builder().client_certificate_pem(chain, key).build().expect("a client");
    assert_eq!(shows.proof_source(), Some("certificate"));
    assert_eq!(shows.whoami().await.expect("an answer").subject, ID);

    let source = hallpass_sdk::client::proof::WorkloadApi::new(&endpoint).expect("an endpoint");
    let sends = builder().proof(source).build().expect("a client");
    assert_eq!(sends.whoami().await.expect("an answer").subject, ID);
}
