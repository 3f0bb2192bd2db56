//! A client that takes no answer for an answer, with fresh proofs of one workload.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hallpass_tests::config::AUDIENCE;
use hallpass_tests::{Exchange, Issuer, SigningKey};
use http::HeaderMap;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio_rustls::TlsConnector;

/// A workload that the standard policy lets have the open roles.
const WORKLOAD: &str = "repo:acme@111/app@222:ref:refs/heads/main";

/// Calls the broker. Clones share one connection pool.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) client: reqwest::Client,
    listen: SocketAddr,
    /// The only authority that is trusted, where it speaks TLS.
    trusted: Option<CertificateDer<'static>>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) key: Arc<SigningKey>,
}

/// A proof with its `jti`.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) token: String,
    pub(crate) id: String,
}

/// What a client was answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

/// Why a client has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReply {
    /// Nobody listens: nothing was sent.
    Refused,
    /// The connection ended; the request may have been received.
    Lost,
}

impl Caller {
    pub(crate) fn new(listen: SocketAddr, issuer: Issuer, key: SigningKey) -> Self {
        Self { client: client(None), listen, trusted: None, issuer: Arc::new(issuer), key: Arc::new(key) }
    }

    /// The same over TLS, trusting this certificate alone.
    pub(crate) fn over_tls(self, certificate: &[u8]) -> Self {
        let trusted = CertificateDer::from_pem_slice(certificate).expect("a certificate in PEM");
        Self { client: client(Some(&trusted)), trusted: Some(trusted), ..self }
    }

    /// The same at another listener.
    pub(crate) fn at_listener(self, listen: SocketAddr) -> Self {
        Self { listen, ..self }
    }

    /// What opens TLS connections like its own, with these protocols.
    pub(crate) fn connector(&self, protocols: &[&[u8]]) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.trusted.clone().expect("it speaks TLS")).expect("an authority");
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A fresh proof of the workload.
    pub(crate) fn proof(&self) -> Proof {
        self.proof_dated(0)
    }

    /// The same by a clock that is so many seconds ahead.
    pub(crate) fn proof_dated(&self, ahead: i64) -> Proof {
        let mut claims = self.issuer.claims(AUDIENCE, WORKLOAD);
        for claim in ["iat", "nbf", "exp"] {
            claims[claim] = (claims[claim].as_i64().expect("a time") + ahead).into();
        }
        self.signed(&claims)
    }

    /// A fresh proof of somebody.
    pub(crate) fn proof_of(&self, subject: &str) -> Proof {
        self.signed(&self.issuer.claims(AUDIENCE, subject))
    }

    fn signed(&self, claims: &Value) -> Proof {
        let id = claims["jti"].as_str().expect("a jti").to_owned();
        Proof { token: self.key.sign(claims), id }
    }

    pub(crate) async fn exchange(&self, exchange: &Exchange, key: Option<&str>) -> Result<Reply, NoReply> {
        let request = self.client.post(self.at("/oauth2/token")).form(exchange.parameters());
        Self::send(with_key(request, key)).await
    }

    /// Opens a grant at `/v1/grants`.
    pub(crate) async fn open(&self, proof: &Proof, body: &Value, key: Option<&str>) -> Result<Reply, NoReply> {
        let request = self.client.post(self.at("/v1/grants")).bearer_auth(&proof.token).json(body);
        Self::send(with_key(request, key)).await
    }

    pub(crate) async fn revoke(&self, proof: &Proof, grant: &str) -> Result<Reply, NoReply> {
        let request = self.client.post(self.at(&format!("/v1/grants/{grant}/revoke"))).bearer_auth(&proof.token);
        Self::send(request.json(&serde_json::json!({"reason": "no longer needed"}))).await
    }

    pub(crate) async fn introspect(&self, proof: &Proof, token: &str) -> Result<Reply, NoReply> {
        let request = self.client.post(self.at("/oauth2/introspect")).bearer_auth(&proof.token);
        Self::send(request.form(&[("token", token)])).await
    }

    /// Sends a command over a set of grants.
    pub(crate) async fn command(&self, path: &str, proof: &Proof, body: &Value, key: &str) -> Result<Reply, NoReply> {
        let request = self.client.post(self.at(path)).bearer_auth(&proof.token).json(body);
        Self::send(request.header("idempotency-key", key.replace([' ', ':'], "-"))).await
    }

    /// Reads what needs a proof.
    pub(crate) async fn read(&self, path: &str, proof: &Proof) -> Result<Reply, NoReply> {
        Self::send(self.client.get(self.at(path)).bearer_auth(&proof.token)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Reply, NoReply> {
        Self::send(self.client.get(self.at(path))).await
    }

    pub(crate) fn at(&self, path: &str) -> String {
        let scheme = if self.trusted.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.listen)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    async fn send(request: reqwest::RequestBuilder) -> Result<Reply, NoReply> {
        let lost = |error: reqwest::Error| if error.is_connect() { NoReply::Refused } else { NoReply::Lost };
        let response = request.send().await.map_err(lost)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.map_err(|_| NoReply::Lost)?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Reply { status, headers, text, body })
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The grant that it tells of.
    #[track_caller]
    pub(crate) fn grant(&self) -> &str {
        let body = &self.body;
        let id = body["grant_id"].as_str().or_else(|| body["grant"]["id"].as_str());
        id.unwrap_or_else(|| panic!("no grant in {} {}", self.status, self.text))
    }

    /// The token in it, from either endpoint.
    pub(crate) fn token(&self) -> Option<&str> {
        let body = &self.body;
        body["access_token"].as_str().or_else(|| body["credential"]["token"].as_str())
    }

    #[track_caller]
    pub(crate) fn assert_status(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text);
    }
}

fn with_key(request: reqwest::RequestBuilder, key: Option<&str>) -> reqwest::RequestBuilder {
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own client; it is bounded here")]
fn client(trusted: Option<&CertificateDer<'_>>) -> reqwest::Client {
    // Another test of the same process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    if let Some(trusted) = trusted {
        builder = builder.tls_certs_only([reqwest::Certificate::from_der(trusted).expect("a certificate")]);
    }
    builder.timeout(Duration::from_secs(20)).build().expect("a client")
}
