//! Compact JWS, as the broker signs them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::port::{SignatureAlgorithm, Signer};
use hallpass_core::secret::Secret;
use hallpass_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Compact serialisation (RFC 7515 §7.1), put together by hand: one buffer of the right size, so that no partial copy
/// of a token is left in memory. A type, a thumbprint and an algorithm's name need no escaping.
pub(super) fn sign(signer: &dyn Signer, typ: &str, claims: &impl Serialize) -> Option<Secret> {
    let signature_len = match signer.algorithm() {
        SignatureAlgorithm::Es256 | SignatureAlgorithm::EdDsa => 64,
        SignatureAlgorithm::Rs256 => 512,
    };
    let (alg, kid) = (signer.algorithm().as_str(), signer.key_id());
    let header = format!(r#"{{"typ":"{typ}","alg":"{alg}","kid":"{kid}"}}"#);
    let claims = Zeroizing::new(serde_json::to_vec(claims).ok()?);
    let encoded_len = |bytes: usize| bytes.div_ceil(3) * 4;
    let length = encoded_len(header.len()) + encoded_len(claims.len()) + encoded_len(signature_len) + 2;
    let mut token = String::with_capacity(length);
    URL_SAFE_NO_PAD.encode_string(&header, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(&*claims, &mut token);
    let signature = signer.sign(token.as_bytes()).ok()?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Some(Secret::new(token))
}

/// When a token that is only passed on says that it ends (RFC 7519 §4.1.4).
pub(super) fn unverified_expiry(token: &str) -> Option<Timestamp> {
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?);
    let Expiring { exp } = serde_json::from_slice(&claims).ok()?;
    Some(Timestamp::from_secs(exp))
}

#[derive(Deserialize)]
struct Expiring {
    exp: i64,
}
