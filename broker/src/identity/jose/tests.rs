use hallpass_core::testing::received;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::identity::testing::{ISSUER, TestKey, encode};

/// Reads and verifies, as far as this module goes.
fn read(key: &TestKey, token: &str) -> Result<SignedClaims, Reason> {
    let set = crate::identity::jwks::KeySet::parse(crate::identity::testing::key_set(&[key]).as_bytes()).unwrap();
    let key = set.select(Some(&key.kid), JwsAlgorithm::ES256).unwrap();
    UnverifiedJws::parse(token).and_then(|jws| jws.verify(key, JwsAlgorithm::ES256)).map_err(|refusal| refusal.reason)
}

fn claims() -> String {
    json!({"iss": ISSUER, "sub": "a"}).to_string()
}

#[test]
fn a_signed_token_is_read_whatever_its_whitespace() {
    let key = TestKey::new("one");
    let signed =
        read(&key, &key.sign("{ \"alg\" :\n \"ES256\" , \"x5t#S256\":\"a\", \"foo\": 1 }", &claims())).unwrap();
    assert_eq!(signed.members()["sub"], Json::Text("a".to_owned()));
}

#[test]
fn a_token_has_one_spelling() {
    let key = TestKey::new("one");
    let token = key.proof(json!({}), json!({}));
    assert!(read(&key, &token).is_ok());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let last_letter = |part: &str, letter| format!("{}{letter}", &part[..part.len() - 1]);
    for (token, reason) in [
        (String::new(), Reason::NotAJws),
        ("..".to_owned(), Reason::NotAJws),
        (header.to_owned(), Reason::NotAJws),
        (format!("{header}.{payload}"), Reason::NotAJws),
        (format!(".{payload}.{signature}"), Reason::NotAJws),
        (format!("{header}..{signature}"), Reason::NotAJws),
        (format!(".{token}"), Reason::NotAJws),
        (format!("{token}."), Reason::NotAJws),
        (format!("{token}.{signature}"), Reason::NotAJws),
        (format!("{token}.{signature}.{signature}"), Reason::NotAJws),
        (token.replace('.', "\u{ff0e}"), Reason::NotAJws),
        (token.replace('.', "%2E"), Reason::NotAJws),
        (json!({"protected": header, "payload": payload, "signature": signature}).to_string(), Reason::NotAJws),
        (format!("{header}.{payload}."), Reason::BadSignature),
        (format!(" {token}"), Reason::BadEncoding),
        (format!("{token}\n"), Reason::BadEncoding),
        (format!("{token}\0"), Reason::BadEncoding),
        (format!("{header}\r\n.{payload}.{signature}"), Reason::BadEncoding),
        (format!("{token}="), Reason::BadEncoding),
        (format!("{token}=="), Reason::BadEncoding),
        (format!("{header}.{payload}.{}", last_letter(signature, '+')), Reason::BadEncoding),
        (format!("{header}.{payload}.{}", last_letter(signature, '/')), Reason::BadEncoding),
        (format!("{header}.{payload}.{}", last_letter(signature, 'é')), Reason::BadEncoding),
        // 64 octets end in two letters of which the last carries two bits: three in four spellings are not canonical.
        (format!("{header}.{payload}.{}", last_letter(signature, 'B')), Reason::BadEncoding),
        (format!("{header}.{payload}.{}", &signature[..signature.len() - 1]), Reason::BadEncoding),
        ("A".repeat(MAX_TOKEN_BYTES + 1), Reason::TokenTooLarge),
        (".".repeat(1 << 20), Reason::TokenTooLarge),
    ] {
        assert_eq!(read(&key, &token).unwrap_err(), reason, "{token:.300}");
    }
}

#[test]
fn headers_are_judged_by_their_members() {
    let key = TestKey::new("one");
    for (header, reason) in [
        (r#"["ES256"]"#, Reason::MalformedHeader),
        (r#""ES256""#, Reason::MalformedHeader),
        ("1", Reason::MalformedHeader),
        ("null", Reason::MalformedHeader),
        ("true", Reason::MalformedHeader),
        ("{}", Reason::MalformedHeader),
        ("{", Reason::MalformedHeader),
        ("\u{feff}{\"alg\":\"ES256\"}", Reason::MalformedHeader),
        (r#"{"kid":"one"}"#, Reason::MalformedHeader),
        (r#"{"alg":null}"#, Reason::MalformedHeader),
        (r#"{"alg":["ES256"]}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","kid":7}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","kid":null}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","kid":{}}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","kid":["one"]}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","typ":1}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","cty":1}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","b64":false}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","b64":true}"#, Reason::MalformedHeader),
        (r#"{"alg":"ES256","x":"\u0007"}"#, Reason::MalformedHeader),
        (r#"{"alg":"none","alg":"ES256"}"#, Reason::DuplicateMember),
        (r#"{"alg":"ES256","\u0061lg":"none"}"#, Reason::DuplicateMember),
        (r#"{"alg":"ES256","crit":[]}"#, Reason::CritUnsupported),
        (r#"{"alg":"ES256","crit":["exp","exp"],"exp":1}"#, Reason::CritUnsupported),
        (r#"{"alg":"ES256","crit":["absent"]}"#, Reason::CritUnsupported),
        (r#"{"alg":"ES256","crit":["alg"]}"#, Reason::CritUnsupported),
        (r#"{"alg":"ES256","crit":null}"#, Reason::CritUnsupported),
        (r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, Reason::CritUnsupported),
        (r#"{"alg":"ES256","zip":"DEF"}"#, Reason::NotAJws),
        (r#"{"alg":"dir","enc":"A256GCM"}"#, Reason::NotAJws),
        (r#"{"alg":"ES256","cty":"JWT"}"#, Reason::MalformedClaims),
        (r#"{"alg":"ES256","cty":"application/jwt"}"#, Reason::MalformedClaims),
    ] {
        assert_eq!(read(&key, &key.sign(header, &claims())).unwrap_err(), reason, "{header}");
    }
}

#[test]
fn a_token_that_brings_a_key_is_refused_even_if_its_signature_verifies() {
    let key = TestKey::new("one");
    for member in ["jku", "x5u", "jwk", "x5c"] {
        let header = json!({"alg": "ES256", "kid": "one", member: key.jwk()}).to_string();
        let jws = key.sign(&header, &claims());
        assert_eq!(read(&key, &jws).unwrap_err(), Reason::MalformedHeader, "{member}");
        assert_eq!(read(&TestKey::new("one"), &jws).unwrap_err(), Reason::BadSignature, "{member}");
    }
}

#[test]
fn control_characters_in_claims_are_refused() {
    let key = TestKey::new("one");
    for claims in [r#"{"sub":"a\u0000:evil"}"#, r#"{"x":{"y":["\u001b[2J"]}}"#, r#"{"a\nb":1}"#] {
        assert_eq!(
            read(&key, &key.sign(r#"{"alg":"ES256"}"#, claims)).unwrap_err(),
            Reason::MalformedClaims,
            "{claims}"
        );
    }
}

#[test]
fn the_issuer_is_read_without_being_believed() {
    let read = |claims: &str| {
        let token = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(claims));
        let source = JwsReader.read(&received(&token)).map_err(|refusal| (refusal.reason, refusal.detail))?;
        Ok::<_, (Reason, String)>(source.unverified_issuer)
    };
    assert_eq!(read(r#"{"iss":"https://idp.test"}"#), Ok(Some("https://idp.test".to_owned())));
    assert_eq!(read(r#"{"iss":"https://idp.test\n"}"#), Ok(Some("https://idp.test\n".to_owned())), "read as it is");
    assert_eq!(read(r#"{"sub":"spiffe://td1.test/a"}"#), Ok(None));
    for (claims, reason) in [
        (r#"{"iss":null}"#, Reason::MalformedClaims),
        (r#"{"iss":["https://idp.test"]}"#, Reason::MalformedClaims),
        (r#"{"iss":"https://idp.test","iss":"https://evil.example"}"#, Reason::DuplicateMember),
        (r#"[]"#, Reason::MalformedClaims),
    ] {
        assert_eq!(read(claims).unwrap_err().0, reason, "{claims}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(token in r"\PC{0,64}(\.\PC{0,64}){0,5}") {
        let _ = UnverifiedJws::parse(&token);
    }

    #[test]
    fn no_parts_make_the_parser_panic(header in any::<Vec<u8>>(), claims in any::<Vec<u8>>(), signature in any::<Vec<u8>>()) {
        let token = format!("{}.{}.{}", encode(header), encode(claims), encode(signature));
        prop_assert!(UnverifiedJws::parse(&token).is_err(), "random bytes are no header");
    }

    #[test]
    fn no_claims_make_verification_panic(claims in any::<Vec<u8>>()) {
        let key = TestKey::new("one");
        let token = format!("{}.{}.{}", encode(r#"{"alg":"ES256"}"#), encode(claims), encode([0; 64]));
        prop_assert!(read(&key, &token).is_err(), "zeros are no signature");
    }
}
