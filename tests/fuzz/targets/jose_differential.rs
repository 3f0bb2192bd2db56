//! Two implementations of JOSE on one token: the broker's (jsonwebtoken on ring) and jwt-compact (RustCrypto). What the
//! broker holds for signed, the other must too, with the same claims.
//!
//! Input: header, claims, and edits of the signed token, parted by line feeds. The token is signed with a key that both
//! know, then edited: each edit is a position (two bytes) and a byte that is put there.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::config::issuer::JwsAlgorithm;
use hallpass_broker::identity::jose::UnverifiedJws;
use hallpass_broker::identity::jose::json::Json;
use hallpass_broker::identity::jwks::KeySet;
use jwt_compact::alg::{Es256, VerifyingKey as _};
use jwt_compact::{AlgorithmExt as _, UntrustedToken};
use libfuzzer_sys::fuzz_target;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::Value;

struct Keys {
    signing: EcdsaKeyPair,
    ours: KeySet,
    theirs: <Es256 as jwt_compact::Algorithm>::VerifyingKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
    let point = signing.public_key().as_ref();
    let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwks = serde_json::json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "use": "sig", "x": coordinate(&point[1..33]), "y": coordinate(&point[33..65]),
    }] });
    let ours = KeySet::parse(jwks.to_string().as_bytes()).expect("a key set");
    let theirs = <Es256 as jwt_compact::Algorithm>::VerifyingKey::from_slice(point).expect("a public key");
    Keys { signing, ours, theirs }
});

fuzz_target!(|data: &[u8]| {
    let keys = &*KEYS;
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let (Some(header), Some(claims)) = (parts.next(), parts.next()) else { return };
    let signing_input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = keys.signing.sign(&SystemRandom::new(), signing_input.as_bytes()).expect("a signature");
    let mut token = format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes();
    for edit in parts.next().unwrap_or_default().chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % token.len();
        token[at] = edit[2];
    }
    let Ok(token) = String::from_utf8(token) else { return };

    let key = keys.ours.keys().next().expect("one key");
    let Ok(signed) = UnverifiedJws::parse(&token).and_then(|jws| jws.verify(key, JwsAlgorithm::ES256)) else { return };

    let untrusted = UntrustedToken::new(&token).expect("the other does not read what was verified");
    let verified = match Es256.validator::<Value>(&keys.theirs).validate(&untrusted) {
        Ok(verified) => verified,
        // It wants registered claims in one type of number; the broker judges those after the signature.
        Err(jwt_compact::ValidationError::MalformedClaims(_)) => return,
        // The header is judged by the verifier, not here: `alg` other than the key's is refused before it comes so far.
        Err(jwt_compact::ValidationError::AlgorithmMismatch { .. }) => return,
        Err(error) => panic!("the other does not hold it for signed: {error}"),
    };
    let claims = serde_json::to_value(verified.claims()).expect("claims are JSON");
    for (name, value) in &claims.as_object().cloned().unwrap_or_default() {
        if let (Some(Json::Text(ours)), Value::String(theirs)) = (signed.members().get(name), value) {
            assert_eq!(ours, theirs, "two readings of {name}");
        } else {
            assert!(signed.members().contains_key(name), "a claim that only the other reads: {name}");
        }
    }
});
