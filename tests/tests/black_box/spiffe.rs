//! SPIFFE workloads over real connections.

mod agents;
mod bound;
mod chains;
mod others;
mod proxies;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_tests::config::{AUDIENCE, CERTIFICATE_ROLE, ROLE, Setup};
use hallpass_tests::{Answer, Broker, Issuer, SigningKey, eventually};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::issuer_with_key;

/// The workload of these tests.
const ID: &str = "spiffe://td1.test/ns/prod/sa/deployer";

/// Longer than anything here takes; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

/// An authority of a trust domain.
struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().expect("a key"));
        let der = params.self_signed(&key).expect("a certificate").der().to_vec();
        Self { issuer: rcgen::Issuer::new(params, key), der }
    }

    /// One below this one, changed.
    fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (authority_params(name), KeyPair::generate().expect("a key"));
        change(&mut params);
        let der = params.signed_by(&key, &self.issuer).expect("a certificate").der().to_vec();
        Self { issuer: rcgen::Issuer::new(params, key), der }
    }

    /// An SVID of `id` that is valid for five minutes, changed.
    fn svid_with(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = svid_params(id);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let der = params.signed_by(&key, &self.issuer).expect("a certificate").der().to_vec();
        Shown { chain: vec![der], key: key.serialize_der() }
    }

    fn svid(&self, id: &str) -> Shown {
        self.svid_with(id, |_| ())
    }

    fn jwk(&self) -> Value {
        json!({"kty": "EC", "crv": "P-256", "use": "x509-svid", "x5c": [STANDARD.encode(&self.der)]})
    }
}

/// Seconds from now.
fn at(offset: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::seconds(offset)
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (at(-3600), at(86_400));
    params
}

fn svid_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (at(-10), at(300));
    params
}

/// What a client shows, and signs with.
#[derive(Clone, Debug)]
struct Shown {
    chain: Vec<Vec<u8>>,
    key: Vec<u8>,
}

impl Shown {
    /// The same with what is above it.
    fn above(mut self, der: &[u8]) -> Self {
        self.chain.push(der.to_vec());
        self
    }
}

/// Shows one certificate, whatever is asked for.
#[derive(Debug)]
struct Always(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A broker that asks for client certificates, and the trust bundle of `td1.test`, which it reads from a file.
struct Domain {
    broker: Broker,
    issuer: Issuer,
    key: SigningKey,
    server: CertificateDer<'static>,
    bundle: TempDir,
}

impl Domain {
    async fn open(authorities: &[&Authority]) -> Self {
        Self::open_with(authorities, &[], |setup| setup).await
    }

    async fn open_with(authorities: &[&Authority], keys: &[Value], change: impl FnOnce(Setup) -> Setup) -> Self {
        let bundle = TempDir::with_prefix("hallpass-bundle-").expect("a temporary folder");
        let file = bundle.path().join("td1.json");
        publish(&bundle, authorities, keys);
        Self::open_from(bundle, json!({"bundle_file": file}), change).await
    }

    /// The same with the bundle from elsewhere.
    async fn open_from(bundle: TempDir, from: Value, change: impl FnOnce(Setup) -> Setup) -> Self {
        let (issuer, key) = issuer_with_key().await;
        let mut domain = json!({"name": "prod", "kind": "spiffe", "trust_domain": "td1.test", "audiences": [AUDIENCE]});
        for (name, value) in from.as_object().expect("settings") {
            domain[name] = value.clone();
        }
        let mut setup = Setup::trusting(&[("ci", &issuer)]);
        setup.issuers.push(domain);
        let tls = json!({"certificate_file": "tls.pem", "private_key_file": "tls.key", "client_certificates": true});
        let setup = change(setup.server(json!({"server": {"tls": tls}})));
        let mut broker = Broker::prepare(&setup, &[]);
        let server = fs::read_to_string(broker.file()).expect("the server file");
        fs::write(broker.file(), server.replace("http://127.0.0.1", "https://127.0.0.1")).expect("written");
        if let Ok(role) = fs::read_to_string(broker.in_bundle("roles/self/service.toml")) {
            let role = role.replace("http://127.0.0.1", "https://127.0.0.1");
            fs::write(broker.in_bundle("roles/self/service.toml"), role).expect("written");
        }
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        fs::write(broker.folder().join("tls.pem"), made.cert.pem()).expect("written");
        fs::write(broker.folder().join("tls.key"), made.signing_key.serialize_pem()).expect("written");
        broker.restart().await;
        Self { broker, issuer, key, server: made.cert.der().clone(), bundle }
    }

    /// A client with connections and sessions of its own, which shows this.
    #[expect(clippy::disallowed_methods, reason = "the tests' own client")]
    fn client(&self, shown: Option<&Shown>) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.server.clone()).expect("a certificate");
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::try_from(shown.key.clone()).expect("a key");
                let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key");
                let chain = shown.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
                builder
                    .with_client_cert_resolver(Arc::new(Always(Arc::new(rustls::sign::CertifiedKey::new(chain, key)))))
            }
        };
        let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config).timeout(DEADLINE);
        Client { client: client.build().expect("a client"), url: format!("https://{}", self.broker.address()) }
    }

    /// What the broker says to whoever shows this, if the handshake lets it say anything.
    async fn whoami(&self, shown: &Shown) -> Option<Answer> {
        self.client(Some(shown)).try_get("/v1/whoami").await
    }

    fn audit_of(&self, answer: &Answer) -> String {
        let query = "SELECT CAST(entry AS TEXT) AS entry FROM audit_entries WHERE request_id = ?1";
        let rows = self.broker.store().rows(query, &[&hallpass_tests::id(answer.request_id())]);
        rows.iter().map(|row| row["entry"].as_str().unwrap_or_default()).collect()
    }
}

/// Writes the bundle of `td1.test`: these authorities, and these keys of tokens.
fn publish(bundle: &TempDir, authorities: &[&Authority], keys: &[Value]) {
    let keys: Vec<Value> = authorities.iter().map(|authority| authority.jwk()).chain(keys.iter().cloned()).collect();
    let text = json!({"keys": keys, "spiffe_sequence": 1, "spiffe_refresh_hint": 10}).to_string();
    let fresh = bundle.path().join("next.json");
    fs::write(&fresh, text).expect("written");
    fs::rename(fresh, bundle.path().join("td1.json")).expect("renamed");
}

struct Client {
    client: reqwest::Client,
    url: String,
}

impl Client {
    async fn try_get(&self, path: &str) -> Option<Answer> {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.ok()?;
        Some(Answer::read(answer).await)
    }

    async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.expect("an answer")
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(path, body, None).await
    }

    async fn post_as(&self, path: &str, body: &Value, token: Option<&str>) -> Answer {
        let mut asked = self.client.post(format!("{}{path}", self.url)).json(body);
        if let Some(token) = token {
            asked = asked.bearer_auth(token);
        }
        Answer::read(asked.send().await.expect("an answer")).await
    }
}

fn wanted() -> Value {
    json!({"role": ROLE, "purpose": "deploy build 4f2c to staging"})
}

/// A JWT-SVID of `key`, which the bundle has.
fn jwt_svid(issuer: &Issuer, key: &SigningKey, id: &str) -> String {
    let mut claims = issuer.claims(AUDIENCE, id);
    claims.as_object_mut().expect("claims").remove("iss");
    key.sign(&claims)
}

fn jwt_authority(key: &SigningKey) -> Value {
    let mut jwk = key.jwk();
    jwk["use"] = json!("jwt-svid");
    jwk
}

#[tokio::test]
async fn a_workload_shows_its_svid_and_opens_reads_keeps_and_ends_a_grant() {
    let root = Authority::new("td1");
    let key = SigningKey::es256("jwt-1");
    let house = Domain::open_with(&[&root], &[jwt_authority(&key)], |setup| setup).await;
    let client = house.client(Some(&root.svid(ID)));

    let me = client.get("/v1/whoami").await;
    me.assert_status(200);
    let text = me.text.clone();
    assert!(text.contains(ID) && text.contains("\"prod\"") && text.contains("spiffe"), "{text}");

    let opened = client.post("/v1/grants", &wanted()).await;
    opened.assert_status(201);
    let id = opened.body["grant"]["id"].as_str().expect("an id").to_owned();
    let entry = house.audit_of(&opened);
    assert!(entry.contains("certificate_serial") && entry.contains("certificate_sha256"), "{entry}");
    assert!(entry.contains("proof_single_use"), "{entry}");

    // The next certificate of the same workload holds the grant: SVIDs are replaced within the hour.
    let renewed = house.client(Some(&root.svid(ID)));
    renewed.get(&format!("/v1/grants/{id}")).await.assert_status(200);
    // Another workload does not, and a bearer token of the same workload does not either.
    let stranger = house.client(Some(&root.svid("spiffe://td1.test/ns/prod/sa/other")));
    assert_eq!(stranger.get(&format!("/v1/grants/{id}")).await.status, 404);
    let token = jwt_svid(&house.issuer, &key, ID);
    let nobody = house.client(None);
    let answer = nobody.post_as(&format!("/v1/grants/{id}/revoke"), &json!({}), Some(&token)).await;
    assert!([403, 404].contains(&answer.status), "a bearer token ended what a certificate opened: {}", answer.text);
    nobody.post_as("/v1/grants", &wanted(), Some(&token)).await.assert_status(201);
    // A token is the proof where there is one, whatever certificate is shown with it.
    let both = client.post_as("/v1/grants", &wanted(), Some("not-a-token")).await;
    assert_eq!(both.status, 401, "{}", both.text);

    let ended = renewed.post(&format!("/v1/grants/{id}/revoke"), &json!({})).await;
    assert!([200, 202].contains(&ended.status), "{}", ended.text);
    // A certificate for a certificate.
    let role = json!({"role": CERTIFICATE_ROLE, "purpose": "deploy build 4f2c to staging"});
    client.post("/v1/grants", &role).await.assert_status(201);
    // Without anything to show there is no proof.
    let missing = nobody.get("/v1/whoami").await;
    assert_eq!(missing.status, 401);
    assert_eq!(house.broker.store().reasons_of(missing.request_id()), ["proof_missing"]);
}

#[tokio::test]
async fn what_was_trusted_is_judged_anew_on_connections_that_stay_open_and_sessions_that_resume() {
    // CASE X5-026, X5-028
    let (root, other) = (Authority::new("td1"), Authority::new("td1 next"));
    let house = Domain::open(&[&root]).await;
    let kept = house.client(Some(&root.svid(ID)));
    kept.get("/v1/whoami").await.assert_status(200);
    publish(&house.bundle, &[&other], &[]);
    // The client keeps its connection, and tickets of its session for those that it opens when the kept one is closed.
    eventually("the authority that was dropped is believed no more", DEADLINE, async || {
        (kept.get("/v1/whoami").await.status == 401).then_some(())
    })
    .await;
    let answer = kept.get("/v1/whoami").await;
    assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["bad_svid"]);
    house.client(Some(&other.svid(ID))).get("/v1/whoami").await.assert_status(200);
    publish(&house.bundle, &[], &[]);
    eventually("an empty bundle trusts nobody", DEADLINE, async || {
        (house.client(Some(&other.svid(ID))).get("/v1/whoami").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_svid_that_expires_while_its_connection_stays_open_is_refused() {
    // CASE X5-027
    let root = Authority::new("td1");
    let house = Domain::open(&[&root]).await;
    let kept = house.client(Some(&root.svid_with(ID, |params| params.not_after = at(4))));
    kept.get("/v1/whoami").await.assert_status(200);
    let answer = eventually("the certificate is over", DEADLINE, async || {
        let answer = kept.get("/v1/whoami").await;
        (answer.status == 401).then_some(answer)
    })
    .await;
    // By the chain's clock, which counts whole seconds, or within the last of them by the proof's.
    let reasons = house.broker.store().reasons_of(answer.request_id());
    assert!(reasons == ["bad_svid"] || reasons == ["expired"], "{reasons:?}");
}

#[tokio::test]
async fn a_bundle_endpoint_that_sends_elsewhere_gives_no_bundle() {
    // CASE SPJ-013
    // The profile `https_spiffe` is no setting; of the other one the URL is asked for and no other.
    let root = Authority::new("td1");
    let (endpoint, elsewhere) =
        (Issuer::publishing(json!({"keys": []})).await, Issuer::publishing(json!({"keys": [root.jwk()]})).await);
    let target = format!("{}/jwks", elsewhere.url());
    endpoint.behave(hallpass_tests::Document::Keys, hallpass_tests::Behaviour::Redirect(target));
    let from = json!({
        "bundle_endpoint": format!("{}/jwks", endpoint.url()),
        "bundle_endpoint_profile": "https_web",
        "bundle_min_interval": "1s",
        "dangerous_allow_http": true,
    });
    let folder = TempDir::with_prefix("hallpass-bundle-").expect("a temporary folder");
    let house = Domain::open_from(folder, from, |setup| setup).await;
    let refused = house.client(Some(&root.svid(ID))).get("/v1/whoami").await;
    assert_eq!(refused.status, 503, "whether it is trusted is not known: {}", refused.text);
    assert_eq!(elsewhere.requests().len(), 0, "another URL was asked");

    endpoint.behave(hallpass_tests::Document::Keys, hallpass_tests::Behaviour::Normal);
    endpoint.publish(hallpass_tests::Document::Keys, json!({"keys": [root.jwk()]}));
    eventually("the bundle is fetched from where it is configured", DEADLINE, async || {
        (house.client(Some(&root.svid(ID))).get("/v1/whoami").await.status == 200).then_some(())
    })
    .await;
    let _ = &house.key;
}
