//! Callers that have a key, and show it (RFC 9449).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use crate::key::random_bytes;
use crate::{Answer, Broker, Exchange, SigningKey, unix_now};

/// A caller's own key, of which it makes a proof for each request.
#[derive(Debug)]
pub struct Prover {
    key: SigningKey,
}

impl Default for Prover {
    fn default() -> Self {
        Self::new()
    }
}

impl Prover {
    /// One with a fresh P-256 key.
    #[must_use]
    pub fn new() -> Self {
        Self { key: SigningKey::es256("own") }
    }

    /// The public key, with the members that make it one.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = self.key.jwk();
        if let Some(members) = jwk.as_object_mut() {
            members.retain(|member, _| !["kid", "alg", "use"].contains(&member.as_str()));
        }
        jwk
    }

    /// Its SHA-256 thumbprint (RFC 7638), computed here.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        B64.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
    }

    /// A proof over these claims, under a header with these members besides its own.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let mut whole = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()});
        lay(&mut whole, header);
        self.key.sign_with(&whole, claims)
    }

    /// A good proof for a request, with some claims set or, by null, left out.
    ///
    /// # Panics
    /// When the broker gives no nonce.
    pub async fn proof(&self, broker: &Broker, method: &str, path: &str, token: Option<&str>, more: &Value) -> String {
        let mut claims = json!({
            "jti": B64.encode(random_bytes::<16>()), "htm": method, "htu": broker.at(path), "iat": unix_now(),
            "nonce": self.nonce(broker).await,
        });
        if let Some(token) = token {
            claims["ath"] = json!(B64.encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes())));
        }
        lay(&mut claims, more);
        self.sign(&json!({}), &claims)
    }

    /// What the broker wants the next proof to carry: it says so to whoever lacks it.
    ///
    /// # Panics
    /// When it does not.
    pub async fn nonce(&self, broker: &Broker) -> String {
        let claims = json!({
            "jti": B64.encode(random_bytes::<16>()), "htm": "GET", "htu": broker.at("/v1/whoami"), "iat": unix_now(),
            "ath": B64.encode(ring::digest::digest(&ring::digest::SHA256, b"x")),
        });
        let proof = self.sign(&json!({}), &claims);
        let answer = send(broker, "GET", "/v1/whoami", &[("authorization", "DPoP x"), ("dpop", &proof)]).await;
        assert_eq!((answer.status, answer.text_of("code")), (401, "use_dpop_nonce"), "{}", answer.text);
        answer.header("dpop-nonce").to_owned()
    }

    /// An exchange by which the grant is bound to this key.
    pub async fn exchange(&self, broker: &Broker, exchange: Exchange) -> Answer {
        let proof = self.proof(broker, "POST", "/oauth2/token", None, &json!({})).await;
        broker.exchange(&exchange.header("dpop", &proof)).await
    }

    /// A call with `token` under `scheme`, and this key.
    pub async fn call(&self, broker: &Broker, method: &str, path: &str, scheme: &str, token: &str) -> Answer {
        let proof = self.proof(broker, method, path, Some(token), &json!({})).await;
        let authorization = format!("{scheme} {token}");
        send(broker, method, path, &[("authorization", &authorization), ("dpop", &proof)]).await
    }
}

async fn send(broker: &Broker, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let method = method.parse::<http::Method>().expect("a method");
    let request = headers
        .iter()
        .fold(broker.client().request(method, broker.at(path)), |request, (name, value)| request.header(*name, *value));
    Answer::read(request.send().await.expect("an answer")).await
}

/// Sets members; null takes away.
fn lay(value: &mut Value, over: &Value) {
    let (Some(value), Some(over)) = (value.as_object_mut(), over.as_object()) else { return };
    for (name, over) in over {
        if over.is_null() {
            value.remove(name);
        } else {
            value.insert(name.clone(), over.clone());
        }
    }
}
