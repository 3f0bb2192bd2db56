//! The SPIFFE Workload API, as far as the broker asks it: gRPC over the Unix socket of the agent on this machine.
//!
//! Of gRPC this is one call and its first message, of Protocol Buffers four messages of strings and bytes: a client of a
//! few hundred lines less than the crates that would bring it. It keeps nothing: who asks again gets what there is then.
//! Each call has a deadline and a bound on what is read.

mod message;

use std::path::PathBuf;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use hallpass_core::spiffe::{SpiffeId, TrustDomain};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use self::message::{Field, fields};

/// Time for one call. Requests may wait for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Largest message. A bundle of a hundred authorities is a tenth of it.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// `key: value` of the header without which the agent answers nobody: it keeps requests that a workload was made to send
/// on behalf of others away from it (Workload API §4.1).
const SECURITY_HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// A client of the agent at one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// What signs in the name of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundles {
    /// Certificates of its authorities, DER, one behind the other.
    pub x509: Vec<u8>,
    /// The key set that its JWT-SVIDs are verified with; empty where the agent has none.
    pub jwt: Vec<u8>,
}

/// An X.509-SVID with its key.
pub struct X509Svid {
    /// Whose.
    pub id: SpiffeId,
    /// Certificates, DER, one behind the other, its own first.
    pub chain: Vec<u8>,
    /// Its key, PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Svid").field("id", &self.id.as_str()).finish_non_exhaustive()
    }
}

/// Why the agent gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No connection, or it broke.
    #[error("no answer at its socket: {0}")]
    Transport(String),
    /// No whole answer within the deadline.
    #[error("no whole answer in time")]
    Deadline,
    /// It refused, with this gRPC status: 7 where it knows no workload in the broker.
    #[error("it refused with gRPC status {0}")]
    Status(String),
    /// It answered something that is no answer.
    #[error("its answer is not one: {0}")]
    Malformed(&'static str),
    /// It has nothing of this trust domain.
    #[error("it has no bundle of the trust domain")]
    NoBundle,
    /// It has no identity for the broker.
    #[error("it has no identity for the broker")]
    NoIdentity,
}

impl Client {
    /// Of the agent at this socket. Nothing is asked yet.
    #[must_use]
    pub const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The bundles of a trust domain: the agent's own, or one that it is federated with. An agent that signs no tokens has
    /// no keys for them.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn bundles(&self, trust_domain: &TrustDomain) -> Result<Bundles, ApiError> {
        let x509 = self.call("FetchX509Bundles", &[]).await?;
        let x509 = entry(&x509, 2, trust_domain)?.ok_or(ApiError::NoBundle)?;
        let jwt = match self.call("FetchJWTBundles", &[]).await {
            Ok(answer) => entry(&answer, 1, trust_domain)?.unwrap_or_default(),
            // Unimplemented: an agent for certificates alone.
            Err(ApiError::Status(status)) if status == "12" => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Bundles { x509, jwt })
    }

    /// The broker's own identity: the first that the agent gives, which is the default one (Workload API §5.2.1).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn x509_svid(&self) -> Result<X509Svid, ApiError> {
        let answer = Zeroizing::new(self.call("FetchX509SVID", &[]).await?.to_vec());
        let svid = fields(&answer).find_map(|field| match field {
            Ok(Field { number: 1, bytes }) => Some(bytes),
            _ => None,
        });
        let (mut id, mut chain, mut key) = (None, Vec::new(), Zeroizing::new(Vec::new()));
        for field in fields(svid.ok_or(ApiError::NoIdentity)?) {
            let Field { number, bytes } = field.map_err(ApiError::Malformed)?;
            match number {
                1 => id = std::str::from_utf8(bytes).ok().and_then(|text| SpiffeId::parse(text).ok()),
                2 => chain = bytes.to_vec(),
                3 => key = Zeroizing::new(bytes.to_vec()),
                _ => {}
            }
        }
        let id = id.ok_or(ApiError::Malformed("the identity is no SPIFFE ID"))?;
        Ok(X509Svid { id, chain, key })
    }

    async fn call(&self, method: &'static str, message: &[u8]) -> Result<Bytes, ApiError> {
        tokio::time::timeout(DEADLINE, self.ask(method, message)).await.unwrap_or(Err(ApiError::Deadline))
    }

    /// The first message of the answer. Streams of more are not waited for.
    async fn ask(&self, method: &'static str, message: &[u8]) -> Result<Bytes, ApiError> {
        let transport = |error: &dyn std::fmt::Display| ApiError::Transport(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| transport(&error))?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(u32::try_from(MAX_MESSAGE_BYTES).ok());
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| transport(&error))?;
        let driven = tokio::spawn(connection);
        // What is left of the connection ends with the call.
        let _ends = EndsWithCall(driven.abort_handle());
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost/SpiffeWorkloadAPI/{method}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header(SECURITY_HEADER.0, SECURITY_HEADER.1)
            .body(Full::new(framed(message)))
            .map_err(|error| transport(&error))?;
        let response = sender.send_request(request).await.map_err(|error| transport(&error))?;
        refused(response.headers())?;
        if response.status() != http::StatusCode::OK {
            return Err(ApiError::Malformed("its HTTP status is not 200"));
        }
        let mut body = response.into_body();
        let mut held = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| transport(&error))?;
            if let Some(trailers) = frame.trailers_ref() {
                refused(trailers)?;
            }
            let Ok(data) = frame.into_data() else { continue };
            held.extend_from_slice(&data);
            if let Some(message) = unframed(&held)? {
                return Ok(message);
            }
        }
        Err(ApiError::Malformed("it ends before its first message"))
    }
}

struct EndsWithCall(tokio::task::AbortHandle);

impl Drop for EndsWithCall {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `grpc-status` in headers or trailers, where it tells of a failure.
fn refused(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get("grpc-status").map(|status| status.to_str().unwrap_or("?")) {
        None | Some("0") => Ok(()),
        Some(status) => Err(ApiError::Status(status.chars().take(4).collect())),
    }
}

/// A message behind its length, not compressed.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len().saturating_add(5));
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The first message, once all of it is there.
fn unframed(held: &[u8]) -> Result<Option<Bytes>, ApiError> {
    let Some((head, rest)) = held.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if *compressed != 0 {
        return Err(ApiError::Malformed("its message is compressed"));
    }
    if length > MAX_MESSAGE_BYTES {
        return Err(ApiError::Malformed("its message is too long"));
    }
    Ok(rest.get(..length).map(Bytes::copy_from_slice))
}

/// What a map at field `map` has for the trust domain. Its keys are SPIFFE IDs of trust domains.
fn entry(answer: &[u8], map: u64, trust_domain: &TrustDomain) -> Result<Option<Vec<u8>>, ApiError> {
    let wanted = format!("spiffe://{trust_domain}");
    let mut found = None;
    for field in fields(answer) {
        let field = field.map_err(ApiError::Malformed)?;
        if field.number != map {
            continue;
        }
        let (mut key, mut value) = (&[][..], &[][..]);
        for part in fields(field.bytes) {
            match part.map_err(ApiError::Malformed)? {
                Field { number: 1, bytes } => key = bytes,
                Field { number: 2, bytes } => value = bytes,
                _ => {}
            }
        }
        if key == wanted.as_bytes() || key == trust_domain.as_str().as_bytes() {
            found = Some(value.to_vec());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_once_all_of_it_is_there() {
        let framed = framed(b"abc");
        assert_eq!(&framed[..], b"\0\0\0\0\x03abc");
        for cut in 0..framed.len() {
            assert_eq!(unframed(&framed[..cut]), Ok(None));
        }
        assert_eq!(unframed(&framed), Ok(Some(Bytes::from_static(b"abc"))));
        assert!(unframed(b"\x01\0\0\0\x01a").is_err(), "compressed");
        assert!(unframed(b"\0\xff\xff\xff\xff").is_err(), "longer than anything that is read");
    }

    #[test]
    fn a_bundle_is_found_by_its_trust_domain_alone() {
        let trust_domain = TrustDomain::new("td1.test").unwrap();
        let pair = |key: &str, value: &[u8]| {
            let mut pair = vec![0x0a, u8::try_from(key.len()).unwrap()];
            pair.extend_from_slice(key.as_bytes());
            pair.extend_from_slice(&[0x12, u8::try_from(value.len()).unwrap()]);
            pair.extend_from_slice(value);
            let mut field = vec![0x12, u8::try_from(pair.len()).unwrap()];
            field.extend(pair);
            field
        };
        let answer = [pair("spiffe://td2.test", b"two"), pair("spiffe://td1.test", b"one")].concat();
        assert_eq!(entry(&answer, 2, &trust_domain), Ok(Some(b"one".to_vec())));
        assert_eq!(entry(&answer, 1, &trust_domain), Ok(None));
        assert_eq!(entry(&pair("spiffe://td1.test.evil", b"x"), 2, &trust_domain), Ok(None));
        assert!(entry(&answer[..answer.len() - 1], 2, &trust_domain).is_err(), "cut short");
    }
}
