//! Statements of the broker's about itself, signed by the key that signs tokens.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::port::{SignatureAlgorithm, SigningFailed, StatementSigner, TokenSigners};
use serde_json::{Map, Value, json};

/// Signs statements under `public_url`, with the ES256 key that signs tokens at that moment.
pub struct Statements {
    public_url: String,
    keys: Arc<dyn TokenSigners>,
}

impl Statements {
    /// Signs with the keys of tokens.
    #[must_use]
    pub fn new(public_url: &str, keys: Arc<dyn TokenSigners>) -> Self {
        Self { public_url: public_url.to_owned(), keys }
    }
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Statements").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

impl StatementSigner for Statements {
    fn sign(&self, kind: &str, mut claims: Map<String, Value>) -> Result<String, SigningFailed> {
        let signer = self.keys.signer(SignatureAlgorithm::Es256).ok_or(SigningFailed)?;
        claims.insert("iss".to_owned(), Value::String(self.public_url.clone()));
        let header = json!({"typ": kind, "alg": signer.algorithm().as_str(), "kid": signer.key_id()});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&Value::Object(claims)));
        let signature = signer.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    use hallpass_core::port::Signer;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;
    use crate::keys::{LocalSigner, OwnTokens};

    fn statements() -> (Arc<dyn Signer>, Statements) {
        let pkcs8 = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
        let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &pkcs8).unwrap());
        let keys: Arc<dyn TokenSigners> = Arc::new(vec![Arc::clone(&signer)]);
        (signer, Statements::new("https://hallpass.example", keys))
    }

    #[test]
    fn a_statement_verifies_and_is_no_token() {
        let (signer, statements) = statements();
        let claims = Map::from_iter([("jti".to_owned(), json!("7"))]);
        let signed = statements.sign("hallpass-revocation+jwt", claims).unwrap();
        let (message, signature) = signed.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.public_key());
        public.verify(message.as_bytes(), &signature).unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(message.split_once('.').unwrap().1).unwrap()).unwrap();
        assert_eq!(claims, json!({"iss": "https://hallpass.example", "jti": "7"}));
        let tokens = OwnTokens::new("https://hallpass.example", [signer.as_ref()]);
        let refused = tokens.read(&signed).unwrap_err();
        assert_eq!(refused.reason, hallpass_core::error::Reason::WrongTokenType);
    }

    #[test]
    fn without_a_key_nothing_is_signed() {
        let statements = Statements::new("https://hallpass.example", Arc::new(Vec::new()));
        assert_eq!(statements.sign("x", Map::new()), Err(SigningFailed));
    }
}
