//! The bounded HTTP client for documents that others publish.
//!
//! The invariant: no answer, slow, huge, elsewhere or none at all, costs more than the caller said it may. A call has one
//! deadline from connecting to the last byte, a cap on what is read, no redirects, no proxies from the environment, no
//! decompression, and goes over plain http only where that was allowed for this call.

/// A client for calls to this machine in `dev`'s story: no proxy, no redirects, a deadline.
///
/// # Errors
/// When it cannot be built.
#[expect(clippy::disallowed_methods, reason = "bounded here as the lint asks")]
pub fn loopback_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(10))
        .tls_backend_preconfigured(
            rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        )
        .build()
}

#[cfg(test)]
mod tests;
pub mod token_file;
pub mod vault;
pub mod workload_api;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hallpass_core::secret::Secret;
use hallpass_core::time::Ttl;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, RETRY_AFTER,
};
use reqwest::{Method, StatusCode};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use url::{Host, Url};
use zeroize::Zeroizing;

/// Time to connect, within the deadline of a call: a host that drops packets must not use up all of it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest `ETag` that is kept and sent back.
const MAX_ETAG_BYTES: usize = 256;

/// Idle connections kept per host: documents are fetched minutes apart.
const IDLE_CONNECTIONS_PER_HOST: usize = 2;
/// The same for backends, which are called as often as credentials are asked for: as many as are under way at once.
const IDLE_CONNECTIONS_PER_BACKEND: usize = 64;

/// Where plain http may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowHttp {
    /// Nowhere: https only.
    Never,
    /// To this machine: an address in 127.0.0.0/8, `::1`, or `localhost`.
    Loopback,
    /// Anywhere. Whoever is on the path can then answer in the other's name.
    DangerousAnywhere,
}

/// One GET.
#[derive(Clone, Copy, Debug)]
pub struct Get<'a> {
    /// What to get.
    pub url: &'a Url,
    /// Media type to ask for.
    pub accept: &'static str,
    /// `ETag` of what is already there (RFC 9110 §13.1.2).
    pub if_none_match: Option<&'a str>,
    /// Most bytes of body to read.
    pub max_bytes: usize,
    /// Time for all of it.
    pub deadline: Duration,
    /// Where plain http may go.
    pub allow_http: AllowHttp,
}

/// One POST whose answer counts by its status alone.
pub struct Post<'a> {
    /// Where to.
    pub url: &'a Url,
    /// Media type of the body.
    pub content_type: &'static str,
    /// Sent as `Authorization`: all of the header's value.
    pub authorization: Option<&'a Secret>,
    /// What.
    pub body: Bytes,
    /// Time for all of it.
    pub deadline: Duration,
    /// Where plain http may go.
    pub allow_http: AllowHttp,
}

/// One call whose answer counts, whatever its status. What is sent and what comes back may be secret.
pub struct Call<'a> {
    /// How.
    pub method: Method,
    /// Where to.
    pub url: &'a Url,
    /// Media type of the body, where there is one.
    pub content_type: &'static str,
    /// Headers beside those of every call, by their names in lower case.
    pub headers: &'a [(&'static str, &'a str)],
    /// What. Wiped when it was sent. Nothing is sent where it is empty.
    pub body: Zeroizing<Vec<u8>>,
    /// Most bytes of body to read.
    pub max_bytes: usize,
    /// Time for all of it.
    pub deadline: Duration,
    /// Where plain http may go.
    pub allow_http: AllowHttp,
}

/// What a [`Call`] was answered.
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// How long to stay away, where it says so in seconds (`Retry-After`, RFC 9110 §10.2.3).
    pub retry_after: Option<Ttl>,
    /// All of its body. Wiped when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

/// An answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `200`, with all of the body.
    Body {
        /// The body as it was sent.
        bytes: Bytes,
        /// `ETag`, to ask with the next time.
        etag: Option<String>,
        /// For how long the answer may be kept, by its `Cache-Control`; none if it does not say.
        max_age: Option<Ttl>,
    },
    /// `304`: what the `ETag` named has not changed.
    NotModified {
        /// As in [`Answer::Body`].
        max_age: Option<Ttl>,
    },
}

/// Why there is no answer that can be used. None of these repeats a URL or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The URL is none that may be called; nothing was sent.
    #[error("the URL is refused: {0}")]
    RefusedUrl(&'static str),
    /// No whole answer within the deadline.
    #[error("no whole answer in time")]
    Deadline,
    /// Another status than 200 (redirects are not followed).
    #[error("the answer has status {0}")]
    Status(u16),
    /// `304`, though nothing was there that could be unmodified.
    #[error("the answer is 304 Not Modified to a request without a condition")]
    UnaskedNotModified,
    /// More than the call's `max_bytes`.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// No trust in the certificate that was shown; nothing was sent.
    #[error("the certificate that it shows {0}")]
    Certificate(&'static str),
    /// No connection; nothing was sent.
    #[error("{0}")]
    NotConnected(String),
    /// The connection broke, or the answer is none of HTTP's: what was sent may have arrived.
    #[error("{0}")]
    Transport(String),
}

impl OutboundError {
    /// Whether surely nothing of the call was sent, so that it can have had no effect.
    #[must_use]
    pub const fn is_unsent(&self) -> bool {
        matches!(self, Self::RefusedUrl(_) | Self::Certificate(_) | Self::NotConnected(_))
    }
}

/// Why the client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum OutboundSetupError {
    /// The file with further certificate authorities cannot be read.
    #[error("the file of certificate authorities cannot be read")]
    ReadAuthorities(#[source] rustls_pki_types::pem::Error),
    /// It holds no certificate, or one that cannot be an authority.
    #[error("the file of certificate authorities holds {0}")]
    Authorities(&'static str),
    /// The broker's own certificate, or its key, cannot be read.
    #[error("the broker's own certificate or its key cannot be read")]
    ReadCertificate(#[source] rustls_pki_types::pem::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// By what a backend knows the broker that shows a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The certificate and those above it, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

/// The client. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: reqwest::Client,
}

impl Outbound {
    /// A client that trusts the public certificate authorities (Mozilla's) and those in `authorities`, a PEM file.
    ///
    /// # Errors
    /// [`OutboundSetupError`] when the file is not usable or TLS cannot be set up.
    pub fn new(authorities: Option<&Path>) -> Result<Self, OutboundSetupError> {
        let mut roots = public_roots();
        if let Some(file) = authorities {
            add_authorities(&mut roots, file)?;
        }
        Self::build(tls(roots, &[b"h2", b"http/1.1"])?, IDLE_CONNECTIONS_PER_HOST)
    }

    /// A client for calls to one backend: it keeps many connections, and speaks HTTP/1.1, which is faster for many small
    /// calls than sharing one connection. Where `authorities` names a PEM file, nobody else is trusted.
    ///
    /// # Errors
    /// As [`Outbound::new`].
    pub fn to_backend(authorities: Option<&Path>) -> Result<Self, OutboundSetupError> {
        Self::to_backend_as(authorities, None)
    }

    /// The same, where the backend knows its callers by their certificates. They are read now, and not again.
    ///
    /// # Errors
    /// As [`Outbound::new`], and when the certificate or its key is not usable.
    pub fn to_backend_as(authorities: Option<&Path>, own: Option<&OwnCertificate>) -> Result<Self, OutboundSetupError> {
        let mut roots = public_roots();
        if let Some(file) = authorities {
            roots = rustls::RootCertStore::empty();
            add_authorities(&mut roots, file)?;
        }
        let mut tls = tls(roots, &[b"http/1.1"])?;
        if let Some(own) = own {
            let chain = CertificateDer::pem_file_iter(&own.certificate_file);
            let chain = chain.and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let chain = chain.map_err(OutboundSetupError::ReadCertificate)?;
            let key = PrivateKeyDer::from_pem_file(&own.key_file).map_err(OutboundSetupError::ReadCertificate)?;
            let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider());
            let certified = certified.map_err(OutboundSetupError::Tls)?;
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        }
        Self::build(tls, IDLE_CONNECTIONS_PER_BACKEND)
    }

    fn build(tls: rustls::ClientConfig, idle_per_host: usize) -> Result<Self, OutboundSetupError> {
        // `localhost` is this machine whatever a resolver says (RFC 6761 §6.3). Port 0 stands for the URL's port.
        let loopback = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        #[expect(clippy::disallowed_methods, reason = "this is the bounded client that the lint asks for")]
        let builder = reqwest::Client::builder();
        builder
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("hallpass-broker/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .resolve_to_addrs("localhost", &loopback)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(idle_per_host)
            .build()
            .map(|client| Self { client })
            .map_err(OutboundSetupError::Client)
    }

    /// Posts something. What is answered is not read: it is taken when the status says so (RFC 9110 §15.3).
    ///
    /// # Errors
    /// [`OutboundError`] when it was not taken, or that is not known.
    pub async fn post(&self, post: Post<'_>) -> Result<(), OutboundError> {
        check_url(post.url, post.allow_http)?;
        let mut request = self.client.post(post.url.clone()).timeout(post.deadline);
        request = request.header(CONTENT_TYPE, post.content_type).body(post.body);
        if let Some(authorization) = post.authorization {
            request = request.header(AUTHORIZATION, sensitive("authorization", authorization.expose())?);
        }
        let status = request.send().await.map_err(transport)?.status();
        if status.is_success() { Ok(()) } else { Err(OutboundError::Status(status.as_u16())) }
    }

    /// Calls, and reads what is answered.
    ///
    /// # Errors
    /// [`OutboundError`] when there is no whole answer within the bounds. A status is none.
    pub async fn call(&self, call: Call<'_>) -> Result<Reply, OutboundError> {
        check_url(call.url, call.allow_http)?;
        let mut request = self.client.request(call.method, call.url.clone()).timeout(call.deadline);
        if !call.headers.iter().any(|(name, _)| *name == ACCEPT.as_str()) {
            request = request.header(ACCEPT, "application/json");
        }
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, call.content_type).body(Bytes::from_owner(call.body));
        }
        for (name, value) in call.headers {
            request = request.header(*name, sensitive(name, value)?);
        }
        let mut response = request.send().await.map_err(transport)?;
        let mut body = Zeroizing::new(Vec::with_capacity(call.max_bytes.min(8 * 1024)));
        read(&mut response, call.max_bytes, &mut |chunk| body.extend_from_slice(chunk)).await?;
        Ok(Reply { status: response.status().as_u16(), retry_after: retry_after(response.headers()), body })
    }

    /// Gets a document.
    ///
    /// # Errors
    /// [`OutboundError`] when there is no whole, acceptable answer within the bounds.
    pub async fn get(&self, get: Get<'_>) -> Result<Answer, OutboundError> {
        check_url(get.url, get.allow_http)?;
        let mut request = self.client.get(get.url.clone()).timeout(get.deadline).header(ACCEPT, get.accept);
        if let Some(etag) = get.if_none_match {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let mut response = request.send().await.map_err(transport)?;
        let max_age = max_age(response.headers());
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if get.if_none_match.is_some() => return Ok(Answer::NotModified { max_age }),
            StatusCode::NOT_MODIFIED => return Err(OutboundError::UnaskedNotModified),
            other => return Err(OutboundError::Status(other.as_u16())),
        }
        let etag = etag(response.headers());
        let mut body = BytesMut::new();
        read(&mut response, get.max_bytes, &mut |chunk| body.extend_from_slice(chunk)).await?;
        Ok(Answer::Body { bytes: body.freeze(), etag, max_age })
    }
}

/// A header's value that is not printed.
fn sensitive(name: &str, value: &str) -> Result<HeaderValue, OutboundError> {
    let value = HeaderValue::from_str(value);
    let mut value = value.map_err(|_| OutboundError::Transport(format!("{name} is no header's value")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a body whole, or none of it when it is longer than `max_bytes`.
async fn read(
    response: &mut reqwest::Response,
    max_bytes: usize,
    take: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(), OutboundError> {
    let too_large = OutboundError::TooLarge(max_bytes);
    if response.content_length().is_some_and(|length| usize::try_from(length).map_or(true, |l| l > max_bytes)) {
        return Err(too_large);
    }
    let mut read = 0_usize;
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        read = read.saturating_add(chunk.len());
        if read > max_bytes {
            return Err(too_large);
        }
        take(&chunk);
    }
    Ok(())
}

/// Whether a URL may be called: https, or http where it may go; a host; no user name or password, which would be sent
/// along and make the host hard to see.
///
/// # Errors
/// [`OutboundError::RefusedUrl`] says why not.
pub fn check_url(url: &Url, allow_http: AllowHttp) -> Result<(), OutboundError> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OutboundError::RefusedUrl("it contains a user name or password"));
    }
    let Some(host) = url.host() else { return Err(OutboundError::RefusedUrl("it has no host")) };
    match (url.scheme(), allow_http) {
        ("https", _) | ("http", AllowHttp::DangerousAnywhere) => Ok(()),
        ("http", AllowHttp::Loopback) if is_loopback(&host) => Ok(()),
        ("http", _) => Err(OutboundError::RefusedUrl("it is plain http")),
        _ => Err(OutboundError::RefusedUrl("its scheme is not https")),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => *name == "localhost",
    }
}

fn public_roots() -> rustls::RootCertStore {
    rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn add_authorities(roots: &mut rustls::RootCertStore, file: &Path) -> Result<(), OutboundSetupError> {
    let read = CertificateDer::pem_file_iter(file).map_err(OutboundSetupError::ReadAuthorities)?;
    let mut any = false;
    for certificate in read {
        let certificate = certificate.map_err(OutboundSetupError::ReadAuthorities)?;
        let unfit = |_| OutboundSetupError::Authorities("a certificate that cannot be an authority");
        roots.add(certificate).map_err(unfit)?;
        any = true;
    }
    if any { Ok(()) } else { Err(OutboundSetupError::Authorities("no certificate")) }
}

fn tls(roots: rustls::RootCertStore, protocols: &[&[u8]]) -> Result<rustls::ClientConfig, OutboundSetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(OutboundSetupError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn retry_after(headers: &HeaderMap) -> Option<Ttl> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Ttl::from_secs)
}

fn etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.len() <= MAX_ETAG_BYTES).then(|| etag.to_owned())
}

/// `max-age` (RFC 9111 §5.2.2.1), 0 where the answer must not be kept or where the number is none (§4.2.1).
fn max_age(headers: &HeaderMap) -> Option<Ttl> {
    let mut found = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or_default().split(',') {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim().to_ascii_lowercase();
            let seconds = match name.as_str() {
                "no-store" | "no-cache" => 0,
                "max-age" => seconds(argument.trim().trim_matches('"')),
                _ => continue,
            };
            found = Some(found.map_or(seconds, |already: u64| already.min(seconds)));
        }
    }
    found.map(Ttl::from_secs)
}

fn seconds(text: &str) -> u64 {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    // Only overflow is left to fail: RFC 9111 §1.2.2 has it mean "very long".
    text.parse().unwrap_or(u64::MAX)
}

/// The causes of a failure without its URL, which is the operator's to know from the configuration.
fn transport(error: reqwest::Error) -> OutboundError {
    if error.is_timeout() && !error.is_connect() {
        return OutboundError::Deadline;
    }
    if let Some(why) = distrust(&error) {
        return OutboundError::Certificate(why);
    }
    let is_unsent = error.is_connect();
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if is_unsent { OutboundError::NotConnected(text) } else { OutboundError::Transport(text) }
}

/// Why the certificate that was shown is not trusted, in the words of whoever has to do something about it.
fn distrust(error: &reqwest::Error) -> Option<&'static str> {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer,
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        // An I/O error does not name what it is made of as its source.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(why)) = found.or_else(|| cause.downcast_ref::<rustls::Error>()) {
            return Some(match why {
                UnknownIssuer | BadSignature => "is not of an authority that is trusted",
                NotValidForName | NotValidForNameContext { .. } => "is of another name",
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => "is not valid now",
                _ => "cannot be believed",
            });
        }
        source = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| cause.source());
    }
    None
}
