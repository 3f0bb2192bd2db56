use serde_json::{Value, json};

use super::*;
use crate::identity::testing::{TestKey, encode, key_set};

/// The thumbprint example of RFC 7638 §3.1.
fn rsa() -> Value {
    json!({"kty": "RSA", "kid": "rsa", "e": "AQAB", "n": concat!(
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3",
        "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZ",
        "Hzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kE",
        "gU8awapJzKnqDKgw",
    )})
}

/// The key of RFC 8037 §A.2.
fn ed25519() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn with(mut jwk: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

fn without(mut jwk: Value, member: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(member);
    jwk
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn octets(member: &Value) -> Vec<u8> {
    crate::identity::jose::decode_base64url(member.as_str().unwrap()).unwrap()
}

// CASE JWK-011
#[test]
fn thumbprints_are_those_of_the_standards() {
    let set = set(&[with(rsa(), json!({"alg": "RS256", "x5t": "ignored"})), ed25519()]);
    let thumbprints: Vec<_> = set.keys().map(VerificationKey::thumbprint).collect();
    assert_eq!(
        thumbprints,
        ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"]
    );
}

#[test]
fn keys_for_others_are_skipped_and_the_good_ones_work() {
    let good = TestKey::new("good");
    let set = set(&[
        json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "post-quantum", "pub": "AA"}),
        json!({"kty": "EC", "crv": "secp256k1", "kid": "bitcoin", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-521", "kid": "es512", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "kid": "agreement", "x": "AA"}),
        with(rsa(), json!({"use": "enc"})),
        with(rsa(), json!({"key_ops": ["encrypt", "wrapKey"]})),
        with(rsa(), json!({"alg": "RSA-OAEP"})),
        good.jwk(),
        good.jwk(),
    ]);
    assert_eq!(set.refused(), []);
    assert_eq!(set.keys().map(VerificationKey::key_id).collect::<Vec<_>>(), [Some("good")], "twice the same is once");
}

// CASE SIG-016
#[test]
fn a_key_of_the_generator_whose_keys_can_be_factored_is_weak() {
    let flawed = json!({"n": concat!(
        "jew1u-9rpIHW_yhxPfQKj0PIrNrXE77xzBbq3WkjfCJ93D7Ge0fO0PLSkxPtgVh8nRlJFcrfKaaJZkWtopXEjZ1Cs9uvnDHDmgwOCUXjD18Q",
        "mjl-neWLM4hRf1IYTnUB39xu87jGW3f_XnC8eAWbcXPGHCJ2phtGXaj-w8Redza0OoBHB4W1NnVJeOxBdE3sl99JW21d0VyjIprojZT3VD6Y",
        "1Z25lrUeLXaxXlKSKEoI0UN0D7irarYN4XdNe9RciH-2_dP1ifztk1h1Ub9zO1OrwzHMAMAGGRFee2HjksNFeOvbWqd6OlBnjRVk2YyQWQXZ",
        "rIxzOUI0YvCz6rsNkQ",
    )});
    let found = set(&[rsa(), with(rsa(), flawed)]);
    assert_eq!(found.keys().len(), 1, "the control: the standard's own key");
    assert!(found.refused()[0].why.contains("CVE-2017-15361"), "{:?}", found.refused());
}

#[test]
fn keys_that_are_weak_malformed_or_private_are_refused_and_remembered() {
    let ec = TestKey::new("ec").jwk();
    let inflated = [vec![0], octets(&rsa()["n"])[..255].to_vec()].concat();
    let mut even = octets(&rsa()["n"]);
    *even.last_mut().unwrap() &= 0xfe;
    let mut short = octets(&rsa()["n"]);
    short[0] = 0x7f;
    let mut off_curve = octets(&ec["y"]);
    off_curve[31] ^= 1;
    let stretched = [vec![0], octets(&ec["x"])].concat();
    for (what, key) in [
        ("a private RSA key", with(rsa(), json!({"d": "AQAB"}))),
        ("a prime of an RSA key", with(rsa(), json!({"p": "AQAB"}))),
        ("a private EC key", with(ec.clone(), json!({"d": "AA"}))),
        ("a shared key", json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"})),
        ("no modulus", without(rsa(), "n")),
        ("no exponent", without(rsa(), "e")),
        ("an empty modulus", with(rsa(), json!({"n": ""}))),
        ("a padded modulus", with(rsa(), json!({"n": format!("{}=", rsa()["n"].as_str().unwrap())}))),
        ("a short modulus that looks long", with(rsa(), json!({"n": encode(inflated)}))),
        ("2047 bits", with(rsa(), json!({"n": encode(short)}))),
        ("8200 bits", with(rsa(), json!({"n": encode(vec![0xff; 1025])}))),
        ("an even modulus", with(rsa(), json!({"n": encode(even)}))),
        ("exponent 1", with(rsa(), json!({"e": "AQ"}))),
        ("exponent 3", with(rsa(), json!({"e": "Aw"}))),
        ("an even exponent", with(rsa(), json!({"e": "AQAA"}))),
        ("an exponent above 2^33", with(rsa(), json!({"e": encode([2, 0, 0, 0, 1])}))),
        ("an exponent with a leading zero", with(rsa(), json!({"e": "AAEAAQ"}))),
        ("a point off its curve", with(ec.clone(), json!({"y": encode(off_curve)}))),
        ("the point (0, 0)", with(ec.clone(), json!({"x": encode([0; 32]), "y": encode([0; 32])}))),
        ("a coordinate of 31 octets", with(ec.clone(), json!({"x": encode(&octets(&ec["x"])[1..])}))),
        ("a coordinate of 33 octets", with(ec.clone(), json!({"x": encode(stretched)}))),
        ("a P-256 point on P-384", with(without(ec.clone(), "alg"), json!({"crv": "P-384"}))),
        ("no coordinate", without(ec.clone(), "y")),
        ("an algorithm of another type", with(ec.clone(), json!({"alg": "RS256"}))),
        ("an algorithm of another curve", with(ec.clone(), json!({"alg": "ES384"}))),
        ("a `kid` that is a number", with(ec.clone(), json!({"kid": 1}))),
        ("a `kid` with control characters", with(ec.clone(), json!({"kid": "a\nb"}))),
        ("`key_ops` that is no array", with(ec.clone(), json!({"key_ops": "verify"}))),
        ("no `kty`", without(ec.clone(), "kty")),
        ("31 octets of Ed25519", with(ed25519(), json!({"x": encode([9; 31])}))),
    ] {
        let set = set(std::slice::from_ref(&key));
        assert_eq!(set.keys().len(), 0, "{what}");
        assert_eq!(set.refused().len(), 1, "{what}");
        let is_private = ["private", "prime", "shared"].iter().any(|word| what.contains(word));
        assert_eq!(set.refused()[0].is_compromised, is_private, "{what}");
        assert_eq!(set.refused()[0].key_id.is_none(), what.contains("a `kid`"), "{what}");
        if let Some(kid) = set.refused()[0].key_id.as_deref() {
            assert_eq!(set.select(Some(kid), JwsAlgorithm::ES256).unwrap_err(), NoKey::Weak, "{what}");
        }
    }
    assert_eq!(set(&[rsa(), ec, ed25519()]).keys().len(), 3, "as they were, all three are good");
}

#[test]
fn points_of_small_order_and_unreduced_ones_are_refused() {
    let hex = |text: &str| -> Vec<u8> {
        (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let ff = "f".repeat(60);
    for y in [
        "0".repeat(64),
        format!("01{}", "0".repeat(62)),
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05".to_owned(),
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a".to_owned(),
        format!("ec{ff}7f"),
        format!("ed{ff}7f"),
        format!("ee{ff}7f"),
        format!("f3{ff}7f"),
        format!("ff{ff}7f"),
    ] {
        for sign in [0, 0x80] {
            let mut point = hex(&y);
            point[31] |= sign;
            let set = set(&[with(ed25519(), json!({"x": encode(&point)}))]);
            assert_eq!(set.select(Some("ed"), JwsAlgorithm::EdDSA).unwrap_err(), NoKey::Weak, "{y} {sign}");
        }
    }
}

#[test]
fn a_key_is_selected_by_name_and_algorithm_and_without_a_name_only_if_it_is_the_only_one() {
    let (one, two) = (TestKey::new("one"), TestKey::new("two"));
    let both = set(&[one.jwk(), two.jwk(), with(rsa(), json!({"alg": "RS256"}))]);
    let select = |kid, algorithm| both.select(kid, algorithm).map(|key| key.key_id());
    assert_eq!(select(Some("two"), JwsAlgorithm::ES256), Ok(Some("two")));
    assert_eq!(select(None, JwsAlgorithm::RS256), Ok(Some("rsa")));
    assert_eq!(select(None, JwsAlgorithm::ES256), Err(NoKey::Ambiguous));
    assert_eq!(select(None, JwsAlgorithm::EdDSA), Err(NoKey::Unknown));
    assert_eq!(select(Some("three"), JwsAlgorithm::ES256), Err(NoKey::Unknown));
    assert_eq!(select(Some(""), JwsAlgorithm::ES256), Err(NoKey::Unknown));
    assert_eq!(select(Some("one"), JwsAlgorithm::RS256), Err(NoKey::OtherAlgorithm));
    assert_eq!(select(Some("rsa"), JwsAlgorithm::PS256), Err(NoKey::OtherAlgorithm), "its `alg` pins it to RS256");
    assert_eq!(set(&[rsa()]).select(Some("rsa"), JwsAlgorithm::PS512).map(|key| key.key_id()), Ok(Some("rsa")));

    let twins = set(&[one.jwk(), TestKey::new("one").jwk()]);
    assert_eq!(twins.select(Some("one"), JwsAlgorithm::ES256).unwrap_err(), NoKey::Ambiguous);
}

#[test]
fn a_document_on_which_readers_could_differ_is_no_key_set() {
    let key = TestKey::new("one").jwk().to_string();
    for (document, error) in [
        (format!(r#"{{"keys":[{key}],"keys":[]}}"#), KeySetError::Json(JsonError::DuplicateMember)),
        (format!(r#"{{"keys":[{key},{{"kty":"EC","kty":"RSA"}}]}}"#), KeySetError::Json(JsonError::DuplicateMember)),
        (format!("[{key}]"), KeySetError::Json(JsonError::NotAnObject)),
        (key.clone(), KeySetError::NoKeys),
        (format!(r#"{{"keys":{key}}}"#), KeySetError::NoKeys),
        (format!(r#"{{"keys":[{key},1]}}"#), KeySetError::NoKeys),
        (format!(r#"{{"keys":[{}]}}"#, vec!["{}"; MAX_KEYS + 1].join(",")), KeySetError::TooManyKeys),
        (format!(r#"{{"keys":[]}}{}"#, " ".repeat(MAX_DOCUMENT_BYTES)), KeySetError::TooLarge),
        ("<html>".to_owned(), KeySetError::Json(JsonError::Syntax)),
    ] {
        assert_eq!(KeySet::parse(document.as_bytes()).unwrap_err(), error, "{:.80}", document);
    }
    assert_eq!(KeySet::parse(br#"{"keys":[]}"#).unwrap().keys().len(), 0, "an issuer may have no keys");
    assert_eq!(KeySet::parse(key_set(&[&TestKey::new("one")]).as_bytes()).unwrap().keys().len(), 1);
}
