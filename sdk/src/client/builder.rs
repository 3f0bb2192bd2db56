//! How a client is put together: where to, whom to trust, who says who we are.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::error::{ConfigurationError, Error};
use super::held_proof::HeldProof;
use super::possession::PossessionKey;
use super::proof::{ClientCertificate, ProofSource, Surroundings, discover};
use super::retry::RetryPolicy;
use super::transport::Transport;
use super::{Client, Inner};
use crate::wire::Timestamp;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Builds a [`Client`].
pub struct ClientBuilder {
    url: String,
    ca_pem: Vec<Vec<u8>>,
    certificate: Option<OwnCertificate>,
    timeout: Duration,
    audience: Option<String>,
    proof: Option<Arc<dyn ProofSource>>,
    acts_for: Option<Arc<dyn ProofSource>>,
    retry: RetryPolicy,
    possession: Option<Arc<PossessionKey>>,
    clock: fn() -> Timestamp,
    plain_http: bool,
}

impl ClientBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            ca_pem: Vec::new(),
            certificate: None,
            timeout: DEFAULT_TIMEOUT,
            audience: None,
            proof: None,
            acts_for: None,
            retry: RetryPolicy::default(),
            possession: None,
            clock: system_time,
            plain_http: false,
        }
    }

    /// Trusts these certificates, in PEM, beside the public roots.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem.push(pem.into());
        self
    }

    /// Shows this certificate chain in handshakes, such as an X.509-SVID, and signs with its key; both in PEM. It is the
    /// proof where no other source is named.
    #[must_use]
    pub fn client_certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.certificate = Some(OwnCertificate { chain: chain.into(), key: Zeroizing::new(key.into()) });
        self
    }

    /// Deadline of one try of one call, connecting included; 30 s when not said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Audience that proofs are asked for; the broker's origin when not said.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Names the source of proofs. When not said it is found by [`discover`].
    #[must_use]
    pub fn proof(mut self, source: impl ProofSource + 'static) -> Self {
        self.proof = Some(Arc::new(source));
        self
    }

    /// The same as [`ClientBuilder::proof`], for a source that is shared.
    #[must_use]
    pub fn shared_proof(mut self, source: Arc<dyn ProofSource>) -> Self {
        self.proof = Some(source);
        self
    }

    /// Acts for whoever these are proofs of (RFC 8693 §2.1): what this client opens is for them and of their authority, as
    /// far as policy lets whoever the client's own proof is of act for them. Everything else it asks for itself.
    #[must_use]
    pub fn acts_for(mut self, subject: Arc<dyn ProofSource>) -> Self {
        self.acts_for = Some(subject);
        self
    }

    /// Shows this key with every call (DPoP, RFC 9449): what is opened is bound to it.
    #[must_use]
    pub fn possession(mut self, key: Arc<PossessionKey>) -> Self {
        self.possession = Some(key);
        self
    }

    /// How often and how fast safe calls are repeated.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Takes the time from here instead of the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> Timestamp) -> Self {
        self.clock = clock;
        self
    }

    /// Allows `http://` to a host that is not this machine. Anyone on the way can then take proofs and credentials.
    #[must_use]
    pub fn dangerous_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Builds the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a URL that is no origin or would carry secrets in the clear, and for certificates
    /// that cannot be read.
    pub fn build(self) -> Result<Client, Error> {
        let base = broker_url(&self.url, self.plain_http)?;
        let audience = self.audience.unwrap_or_else(|| base.as_str().trim_end_matches('/').to_owned());
        let own = self.certificate.as_ref();
        let shown = own.map(|_| Arc::new(ClientCertificate) as Arc<dyn ProofSource>);
        let proof = self.proof.or(shown).or_else(|| discover(&Surroundings::of_this_process()));
        let transport = Transport::new(http_client(&base, &self.ca_pem, own, self.timeout)?);
        Ok(Client {
            inner: Arc::new(Inner {
                base,
                transport,
                retry: self.retry,
                possession: self.possession,
                acts_for: self.acts_for.map(|subject| HeldProof::new(Some(subject), audience.clone(), self.clock)),
                proof: HeldProof::new(proof, audience, self.clock),
                clock: self.clock,
            }),
        })
    }
}

fn broker_url(text: &str, plain_http: bool) -> Result<Url, ConfigurationError> {
    let url = Url::parse(text).map_err(|source| ConfigurationError::Url { url: text.to_owned(), source })?;
    let origin_only = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.has_host();
    match url.scheme() {
        _ if !origin_only => Err(ConfigurationError::NotAnOrigin),
        "https" => Ok(url),
        "http" if plain_http || is_this_machine(&url) => Ok(url),
        "http" => Err(ConfigurationError::PlainHttp),
        _ => Err(ConfigurationError::NotAnOrigin),
    }
}

/// Whether a URL stays on the loopback interface, where plain HTTP shows nothing to others.
pub(super) fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// A certificate chain and its key, PEM.
pub(super) struct OwnCertificate {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

fn http_client(
    base: &Url,
    ca_pem: &[Vec<u8>],
    own: Option<&OwnCertificate>,
    timeout: Duration,
) -> Result<reqwest::Client, ConfigurationError> {
    #[expect(clippy::disallowed_methods, reason = "this is the bounded client: deadline, size cap, no redirects")]
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(ca_pem, own)?)
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("hallpass-sdk/", env!("CARGO_PKG_VERSION")));
    if base.scheme() == "http" {
        // A proxy named in the environment would read the proof.
        builder = builder.no_proxy();
    }
    builder.build().map_err(ConfigurationError::Http)
}

pub(super) fn tls(
    ca_pem: &[Vec<u8>],
    own: Option<&OwnCertificate>,
) -> Result<rustls::ClientConfig, ConfigurationError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    for pem in ca_pem {
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| ConfigurationError::Ca)?).map_err(|_| ConfigurationError::Ca)?;
            found = true;
        }
        if !found {
            return Err(ConfigurationError::Ca);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConfigurationError::Tls)?
        .with_root_certificates(roots);
    let Some(own) = own else { return Ok(builder.with_no_client_auth()) };
    let unreadable = |_| ConfigurationError::ClientCertificate;
    let chain = CertificateDer::pem_slice_iter(&own.chain).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(&own.key).map_err(unreadable)?;
    builder.with_client_auth_cert(chain, key).map_err(ConfigurationError::Tls)
}

fn system_time() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the default of an injected clock")]
    Timestamp::new(std::time::SystemTime::now().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_not_sent_in_the_clear() {
        for url in ["http://hallpass.example", "http://192.0.2.1:8080", "http://localhost.example"] {
            assert!(matches!(broker_url(url, false), Err(ConfigurationError::PlainHttp)), "{url}");
            assert!(broker_url(url, true).is_ok());
        }
        for url in ["https://hallpass.example", "http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"] {
            assert!(broker_url(url, false).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for url in ["", "hallpass.example", "ftp://a", "https://u:p@a", "https://a?b=c", "https://a#b", "unix:/x"] {
            assert!(broker_url(url, true).is_err(), "{url}");
        }
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        assert!(matches!(tls(&[b"nothing here".to_vec()], None), Err(ConfigurationError::Ca)));
        assert!(tls(&[], None).is_ok());
        let nothing = OwnCertificate { chain: b"nothing".to_vec(), key: Zeroizing::new(b"here".to_vec()) };
        assert!(matches!(tls(&[], Some(&nothing)), Err(ConfigurationError::ClientCertificate)));
    }
}
