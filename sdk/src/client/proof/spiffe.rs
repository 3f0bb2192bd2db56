//! JWT-SVIDs from the SPIFFE Workload API: gRPC over the Unix socket of the agent on this machine.
//!
//! One call of one short message each way, so the framing and the encoding are read here, as far as that goes.

use std::path::PathBuf;
use std::time::Duration;

use super::{Proof, ProofContext, ProofError, ProofFuture, ProofSource};
use crate::client::builder::tls;
use crate::client::transport::Transport;

const NAME: &str = "spiffe";

/// Time for the agent to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The agent at a Unix socket. Every proof is fresh.
pub struct WorkloadApi {
    socket: PathBuf,
}

impl WorkloadApi {
    /// The agent at `endpoint`, written as `SPIFFE_ENDPOINT_SOCKET` is: `unix:///run/agent.sock`.
    ///
    /// # Errors
    /// [`ProofError::Refused`] for anything else: proofs are asked for over no network.
    pub fn new(endpoint: &str) -> Result<Self, ProofError> {
        let path = endpoint.strip_prefix("unix:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        let path = path.map(PathBuf::from).filter(|path| path.is_absolute());
        let socket = path.ok_or_else(|| refused("its endpoint is not written as unix:///run/agent.sock"))?;
        Ok(Self { socket })
    }

    async fn request(&self, context: &ProofContext<'_>) -> Result<Proof, ProofError> {
        #[expect(clippy::disallowed_methods, reason = "bounded, to a socket of this machine")]
        let client = reqwest::Client::builder()
            .unix_socket(self.socket.clone())
            .http2_prior_knowledge()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls(&[], None).map_err(|error| refused(&error.to_string()))?)
            .timeout(DEADLINE)
            .build()
            .map_err(|error| refused(&error.to_string()))?;
        let request = client
            .post("http://localhost/SpiffeWorkloadAPI/FetchJWTSVID")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("workload.spiffe.io", "true")
            .body(framed(context.audience));
        let reply = Transport::new(client).send(request).await;
        let reply = reply.map_err(|source| ProofError::Unreachable { name: NAME, source })?;
        let body = reply.into_bytes().map_err(|_| refused("it did not answer the call"))?;
        let token =
            token_of(&body).ok_or_else(|| refused("it gave no JWT-SVID; is there an entry for this workload?"))?;
        Proof::new(token)
    }
}

impl ProofSource for WorkloadApi {
    fn name(&self) -> &str {
        NAME
    }

    fn refreshable(&self) -> bool {
        true
    }

    fn variables(&self) -> Vec<String> {
        vec![super::discover::SPIFFE_SOCKET.to_owned()]
    }

    fn fetch<'a>(&'a self, context: &'a ProofContext<'a>) -> ProofFuture<'a> {
        Box::pin(self.request(context))
    }
}

fn refused(reason: &str) -> ProofError {
    ProofError::Refused { name: NAME, reason: reason.to_owned() }
}

/// `JWTSVIDRequest { audience }`, behind its length.
fn framed(audience: &str) -> Vec<u8> {
    let mut message = vec![0x0a];
    let mut length = audience.len();
    while length > 0x7f {
        message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap_or_default());
    message.extend_from_slice(audience.as_bytes());
    let head = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &head, &message].concat()
}

/// `svid` of the first `JWTSVID` in a framed `JWTSVIDResponse`.
fn token_of(body: &[u8]) -> Option<&str> {
    let (head, rest) = body.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = head;
    let message = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let svid = field(message, 1).filter(|_| *compressed == 0)?;
    std::str::from_utf8(field(svid, 2)?).ok()
}

/// The first field of this number in a message of strings, bytes and messages.
fn field(mut message: &[u8], number: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let length = usize::try_from(varint(&mut message)?).ok().filter(|_| tag & 7 == 2)?;
        let (bytes, behind) = message.split_at_checked(length)?;
        if tag >> 3 == number {
            return Some(bytes);
        }
        message = behind;
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = message.split_first()?;
        *message = behind;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_framed_and_an_answer_is_read() {
        assert_eq!(framed("ab"), b"\0\0\0\0\x04\x0a\x02ab");
        assert_eq!(framed(&"a".repeat(200))[5..8], [0x0a, 0xc8, 0x01]);
        assert_eq!(token_of(b"\0\0\0\0\x0b\x0a\x09\x0a\x01i\x12\x04e.e."), Some("e.e."));
        for body in [&b""[..], b"\0\0\0\0\0", b"\0\0\0\0\x0b\x0a\x09", b"\x01\0\0\0\x0b\x0a\x09\x0a\x01i\x12\x04e.e."] {
            assert_eq!(token_of(body), None, "{body:?}");
        }
    }

    #[test]
    fn an_endpoint_on_the_network_is_refused() {
        assert!(WorkloadApi::new("unix:///run/agent.sock").is_ok());
        for endpoint in ["tcp://127.0.0.1:8081", "/run/agent.sock", "unix:agent.sock", ""] {
            assert!(WorkloadApi::new(endpoint).is_err(), "{endpoint}");
        }
    }
}
