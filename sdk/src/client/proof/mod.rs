//! Where proofs come from.
//!
//! A proof is evidence of identity as an issuer signed it: an OIDC token or a JWT-SVID. The broker verifies it; here it
//! is opaque but for its expiry, which is read unverified to know when to fetch another.

mod buildkite;
mod certificate;
mod discover;
mod file;
mod github_actions;
mod given;
mod spiffe;

use std::future::Future;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

pub use buildkite::Buildkite;
pub use certificate::ClientCertificate;
pub use discover::{KUBERNETES_TOKEN_PATH, PROOF_VARIABLES, Surroundings, discover, named};
pub use file::TokenFile;
pub use github_actions::GitHubActions;
pub use given::Given;
pub use spiffe::WorkloadApi;

use super::error::TransportError;
use super::transport::Transport;
use crate::wire::{Secret, Timestamp};

/// Longer tokens than this are refused by the broker anyway.
const MAX_PROOF_BYTES: usize = 16 * 1024;

/// Gives proofs of who this process is.
pub trait ProofSource: Send + Sync {
    /// What it is called in messages, such as `github-actions`.
    fn name(&self) -> &str;

    /// Whether it can give fresh proofs for as long as the process runs. A holder whose proof cannot be refreshed
    /// cannot speak to the broker after the proof expired.
    fn refreshable(&self) -> bool;

    /// Environment variables that carry the proof, or what proofs are fetched with. A child process that is to have a
    /// credential only must not inherit them.
    fn variables(&self) -> Vec<String> {
        Vec::new()
    }

    /// A proof for the audience in `context`.
    fn fetch<'a>(&'a self, context: &'a ProofContext<'a>) -> ProofFuture<'a>;
}

/// What [`ProofSource::fetch`] returns.
pub type ProofFuture<'a> = Pin<Box<dyn Future<Output = Result<Proof, ProofError>> + Send + 'a>>;

/// For whom a proof is fetched, and over what.
pub struct ProofContext<'a> {
    pub(in crate::client) audience: &'a str,
    pub(in crate::client) transport: &'a Transport,
}

impl ProofContext<'_> {
    /// Audience that the proof must be for: the broker that it is shown to.
    #[must_use]
    pub fn audience(&self) -> &str {
        self.audience
    }
}

/// A proof as received.
pub struct Proof {
    token: Secret,
    unverified_expires_at: Option<Timestamp>,
    unverified_thumbprint: Option<String>,
}

impl Proof {
    /// Takes a token, without the white space around it.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] for what cannot be a token: nothing, too much, or characters that no header takes.
    pub fn new(token: &str) -> Result<Self, ProofError> {
        let token = token.trim();
        if token.is_empty() || token.len() > MAX_PROOF_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProofError::Malformed);
        }
        let claims = unverified_claims(token);
        Ok(Self {
            unverified_expires_at: claims.as_ref().and_then(expiry),
            unverified_thumbprint: claims.as_ref().and_then(thumbprint),
            token: Secret::new(token.to_owned()),
        })
    }

    /// What is no token: the certificate of the connection is the proof.
    #[must_use]
    pub fn shown_in_the_handshake() -> Self {
        Self { token: Secret::new(String::new()), unverified_expires_at: None, unverified_thumbprint: None }
    }

    /// Whether it is a token, which has to be sent.
    #[must_use]
    pub fn is_token(&self) -> bool {
        !self.token.expose().is_empty()
    }

    /// The token itself; empty where it is none.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// When it says that it expires. Nobody verified that.
    #[must_use]
    pub fn unverified_expires_at(&self) -> Option<Timestamp> {
        self.unverified_expires_at
    }

    /// Thumbprint of the key that it says it is bound to (`cnf.jkt`, RFC 9449 §6.1): whoever sends it must show that key.
    /// Nobody verified that.
    #[must_use]
    pub fn unverified_thumbprint(&self) -> Option<&str> {
        self.unverified_thumbprint.as_deref()
    }
}

fn unverified_claims(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn thumbprint(claims: &Value) -> Option<String> {
    claims.get("cnf")?.get("jkt")?.as_str().map(str::to_owned)
}

/// `exp` of a JWT (RFC 7519 §4.1.4), rounded down.
fn expiry(claims: &Value) -> Option<Timestamp> {
    let exp = claims.get("exp")?;
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and a time that far is refused next")]
    let seconds = exp.as_i64().or_else(|| exp.as_f64().map(|seconds| seconds.floor() as i64))?;
    Timestamp::from_unix_millis(seconds.checked_mul(1000)?).ok()
}

/// No proof could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// No source was named, and none was found.
    #[error(
        "no proof of identity was found: set HALLPASS_PROOF or HALLPASS_PROOF_FILE, name a source, or give the job an \
         id token (GitHub Actions: permission `id-token: write`; GitLab: `id_tokens: HALLPASS_ID_TOKEN`)"
    )]
    NotFound,
    /// The call sends its proof as a token, and a certificate is none.
    #[error("a client certificate cannot be exchanged as a token: open a grant with it")]
    NotAToken,
    /// The proof is bound to a key that this client does not show.
    #[error(
        "the proof is bound to the key of thumbprint {0:?} (DPoP): whoever sends it shows that key, and this client has \
         none or another"
    )]
    Bound(String),
    /// A source was named that does not exist.
    #[error(
        "{0:?} is not a proof source: github, gitlab, kubernetes, buildkite, spiffe, certificate, env:NAME or file:PATH"
    )]
    UnknownSource(String),
    /// An environment variable that the source needs is not set.
    #[error("the proof source {name} needs the environment variable {variable}")]
    Missing {
        /// The source.
        name: &'static str,
        /// The variable.
        variable: String,
    },
    /// What the source gave cannot be a token.
    #[error("the proof is not a token")]
    Malformed,
    /// A file cannot be read.
    #[error("the proof file {path:?} cannot be read")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The issuer's endpoint cannot be reached.
    #[error("the proof source {name} cannot be reached")]
    Unreachable {
        /// The source.
        name: &'static str,
        /// Why not.
        #[source]
        source: TransportError,
    },
    /// The source answered, and not with a proof.
    #[error("the proof source {name} gave no proof: {reason}")]
    Refused {
        /// The source.
        name: &'static str,
        /// What it said, without secrets.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn the_expiry_is_read_where_there_is_one() {
        let at = |payload: &str| Proof::new(&jwt(payload)).unwrap().unverified_expires_at().map(|at| at.to_string());
        assert_eq!(at(r#"{"exp":1769850000}"#).as_deref(), Some("2026-01-31T09:00:00Z"));
        assert_eq!(at(r#"{"exp":1769850000.9}"#).as_deref(), Some("2026-01-31T09:00:00Z"));
        assert_eq!(at(r#"{"exp":"soon"}"#), None);
        assert_eq!(at(r#"{"exp":9223372036854775807}"#), None);
        assert_eq!(at(r#"{}"#), None);
        assert_eq!(Proof::new("opaque").unwrap().unverified_expires_at(), None);
    }

    #[test]
    fn the_key_that_it_is_bound_to_is_read_where_there_is_one() {
        let bound = |payload: &str| Proof::new(&jwt(payload)).unwrap().unverified_thumbprint().map(str::to_owned);
        assert_eq!(bound(r#"{"cnf":{"jkt":"abc"}}"#).as_deref(), Some("abc"));
        assert_eq!(bound(r#"{"cnf":{"x5t#S256":"abc"}}"#), None, "the handshake shows that one");
        assert_eq!(bound(r#"{"cnf":"abc"}"#), None);
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        for text in ["", " \n", "two words", "line\nbreak", "caf\u{e9}", &"a".repeat(MAX_PROOF_BYTES + 1)] {
            assert!(matches!(Proof::new(text), Err(ProofError::Malformed)));
        }
        assert_eq!(Proof::new(" token\n").unwrap().token().expose(), "token");
    }
}
