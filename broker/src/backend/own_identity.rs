//! The broker's own tokens towards its backends: where a backend trusts the broker as an OIDC issuer, the broker needs no
//! key that lies somewhere and works until somebody changes it.
//!
//! `sub` is `hallpass:broker:<name of the backend>`: no grant's token has such a subject, since `hallpass` is no issuer's
//! name, and so nobody who is given a token can pass for the broker. A token is minted for one call and lives for a minute.

use std::sync::Arc;

use hallpass_core::entropy::{Entropy, fresh_id};
use hallpass_core::id::{BackendName, GrantId, IssuerName};
use hallpass_core::port::{SignatureAlgorithm, TokenSigners};
use hallpass_core::secret::Secret;
use hallpass_core::time::{Clock, Ttl};
use serde::Serialize;
use serde_json::{Map, Value};

use super::jws::sign;

/// How long such a token lives: it is sent at once, and a clock that is a little ahead must not refuse it.
const LIFE: Ttl = Ttl::from_secs(60);
/// The type of a token that is no access token: the broker itself takes none of these.
const TOKEN_TYPE: &str = "JWT";

/// The broker, as one backend knows it.
#[derive(Clone)]
pub struct OwnIdentity {
    backend: BackendName,
    public_url: String,
    algorithm: SignatureAlgorithm,
    keys: Arc<dyn TokenSigners>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// No token could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker's own token could not be signed: {0}")]
pub struct NoToken(&'static str);

impl OwnIdentity {
    /// The broker, of which relying parties know `public_url` and its key set, before `backend`.
    #[must_use]
    pub fn new(
        backend: BackendName,
        public_url: &str,
        algorithm: SignatureAlgorithm,
        keys: Arc<dyn TokenSigners>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { backend, public_url: public_url.to_owned(), algorithm, keys, clock, entropy }
    }

    /// What the tokens have as `sub`: what a backend's trust is to name.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{}:broker:{}", IssuerName::RESERVED, self.backend)
    }

    /// The origin that the tokens have as `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.public_url
    }

    /// A fresh token for `audience`, with `more` claims beside the registered ones, which they cannot replace.
    ///
    /// # Errors
    /// [`NoToken`] while no key of the algorithm signs.
    pub fn token(&self, audience: &str, more: Option<&Map<String, Value>>) -> Result<Secret, NoToken> {
        let signer = self.keys.signer(self.algorithm).ok_or(NoToken("no key of its algorithm signs now"))?;
        let id: GrantId = fresh_id(self.clock.as_ref(), self.entropy.as_ref())
            .map_err(|_| NoToken("the system gives no random numbers"))?;
        let now = self.clock.now();
        let subject = self.subject();
        let claims = Claims {
            iss: &self.public_url,
            sub: &subject,
            aud: audience,
            // Without `nbf`, and rounded down: a clock that is a little behind must not refuse it as early.
            iat: now.as_secs(),
            exp: now.plus(LIFE).as_secs(),
            jti: id.to_string(),
            more: more.map(|more| more.iter().filter(|(name, _)| !REGISTERED.contains(&name.as_str())).collect()),
        };
        sign(signer.as_ref(), TOKEN_TYPE, &claims).ok_or(NoToken("the key failed"))
    }
}

impl std::fmt::Debug for OwnIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnIdentity").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// Claims that only the broker says (RFC 7519 §4.1).
const REGISTERED: [&str; 7] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"];

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    #[serde(flatten)]
    more: Option<std::collections::BTreeMap<&'a String, &'a Value>>,
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hallpass_core::port::Signer;
    use hallpass_core::testing::{MockClock, SeededEntropy, sample};

    use super::*;
    use crate::keys::LocalSigner;

    fn identity(keys: Vec<Arc<dyn Signer>>) -> OwnIdentity {
        let clock = Arc::new(MockClock::starting_at(sample::NOW));
        let backend = BackendName::new("vault-eu").unwrap();
        let keys: Arc<dyn TokenSigners> = Arc::new(keys);
        let entropy = Arc::new(SeededEntropy::new(1));
        OwnIdentity::new(backend, "https://hallpass.example", SignatureAlgorithm::Es256, keys, clock, entropy)
    }

    fn part(token: &Secret, n: usize) -> Value {
        let part = token.expose().split('.').nth(n).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn the_broker_says_who_it_is_to_one_backend_for_a_minute() {
        let key = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
        let signer = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key).unwrap());
        let identity = identity(vec![signer]);
        let more = serde_json::json!({"sub": "repo:acme/app", "aud": "other", "tags": {"owner": "payments"}});
        let token = identity.token("https://vault.example", more.as_object()).unwrap();
        assert_eq!((part(&token, 0)["typ"].as_str(), part(&token, 0)["alg"].as_str()), (Some("JWT"), Some("ES256")));
        let claims = part(&token, 1);
        assert_eq!(claims["iss"], "https://hallpass.example");
        assert_eq!(claims["sub"], "hallpass:broker:vault-eu", "no other claim takes its place");
        assert_eq!(claims["aud"], "https://vault.example");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
        assert_eq!(claims["tags"]["owner"], "payments");
        let again = identity.token("https://vault.example", None).unwrap();
        assert_ne!(part(&again, 1)["jti"], claims["jti"], "each is a token of its own");
    }

    #[test]
    fn without_a_key_there_is_no_token() {
        assert!(identity(Vec::new()).token("https://vault.example", None).is_err());
    }
}
