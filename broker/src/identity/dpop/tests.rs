use hallpass_core::testing::SeededEntropy;
use hallpass_core::testing::sample::NOW;
use serde_json::{Value, json};

use super::*;
use crate::identity::testing::{TestKey, encode};

const ORIGIN: &str = "https://broker.test";
const TOKEN: &str = "a.token.of-somebody";

struct Lab {
    verifier: DpopVerifier,
    key: TestKey,
}

impl Lab {
    fn new(nonces: bool) -> Self {
        let started = NOW.minus(Ttl::from_hours(1));
        Self { verifier: DpopVerifier::new(nonces, &SeededEntropy::new(1), started).unwrap(), key: TestKey::new("one") }
    }

    /// The public key, as a caller's library spells it.
    fn jwk(&self) -> Value {
        let mut jwk = self.key.jwk();
        ["use", "alg", "kid"].iter().for_each(|member| drop(jwk.as_object_mut().unwrap().remove(*member)));
        jwk
    }

    /// A good proof, with some members of header and claims replaced or, by null, removed.
    fn proof(&self, header: Value, claims: Value) -> String {
        let mut good_header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()});
        let mut good_claims = json!({
            "jti": "one", "htm": "POST", "htu": "https://broker.test/oauth2/token", "iat": NOW.as_secs(),
            "nonce": self.verifier.nonce(NOW), "ath": encode(digest::digest(&digest::SHA256, TOKEN.as_bytes())),
        });
        for (good, changes) in [(&mut good_header, header), (&mut good_claims, claims)] {
            for (name, value) in changes.as_object().unwrap() {
                if value.is_null() {
                    good.as_object_mut().unwrap().remove(name);
                } else {
                    good[name] = value.clone();
                }
            }
        }
        self.key.sign(&good_header.to_string(), &good_claims.to_string())
    }

    fn verify_with(&self, proof: &str, token: Option<Presented<'_>>) -> Result<BindingKey, NotShown> {
        let request = ProvedRequest { method: "POST", origin: ORIGIN, path: "/oauth2/token", token };
        self.verifier.verify(proof, &request, NOW).map(|possession| possession.key())
    }

    fn verify(&self, proof: &str) -> Result<BindingKey, NotShown> {
        self.verify_with(proof, Some(Presented::AsAuthorization(TOKEN)))
    }

    #[track_caller]
    fn refused(&self, proof: &str, about: &str) {
        match self.verify(proof) {
            Err(NotShown::Refused(refusal)) => {
                assert_eq!(refusal.reason, Reason::PopInvalid);
                assert!(refusal.detail.contains(about), "{} is not about {about}", refusal.detail);
            }
            other => panic!("{about}: {other:?}"),
        }
    }
}

#[test]
fn a_proof_shows_the_key_that_it_brings() {
    let lab = Lab::new(true);
    let thumbprint = {
        let jwk = lab.jwk();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        encode(digest::digest(&digest::SHA256, text.as_bytes()))
    };
    let shown = lab.verify(&lab.proof(json!({}), json!({}))).unwrap();
    assert_eq!(shown.confirmation(), ("jkt", thumbprint));
    assert!(lab.verify(&lab.proof(json!({"jwk": lab.key.jwk(), "kid": "x"}), json!({"more": 1}))).is_ok());
}

#[test]
fn what_a_proof_lacks_or_says_otherwise_refuses_it() {
    let lab = Lab::new(true);
    let private = {
        let mut jwk = lab.jwk();
        jwk["d"] = json!("AAAA");
        jwk
    };
    let now = NOW.as_secs();
    for (header, claims, about) in [
        (json!({"typ": null}), json!({}), "`typ`"),
        (json!({"typ": "JWT"}), json!({}), "`typ`"),
        (json!({"alg": "none"}), json!({}), "`alg`"),
        (json!({"alg": "HS256"}), json!({}), "`alg`"),
        (json!({"alg": "RS256"}), json!({}), "another type of key"),
        (json!({"alg": "ES512"}), json!({}), "`alg`"),
        (json!({"jwk": null}), json!({}), "`jwk`"),
        (json!({"jwk": "x"}), json!({}), "`jwk`"),
        (json!({"jwk": private}), json!({}), "not public"),
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), json!({}), "not public"),
        (json!({"jwk": {"kty": "oct"}}), json!({}), "not known"),
        (json!({"jwk": TestKey::new("two").jwk()}), json!({}), "does not verify"),
        (json!({"x5c": ["AAAA"]}), json!({}), "`x5c`"),
        (json!({"jku": "https://evil.example"}), json!({}), "`jku`"),
        (json!({"crit": ["x"], "x": 1}), json!({}), "critical"),
        (json!({}), json!({"htm": null}), "`htm`"),
        (json!({}), json!({"htm": "GET"}), "`htm`"),
        (json!({}), json!({"htm": "post"}), "`htm`"),
        (json!({}), json!({"htu": null}), "`htu`"),
        (json!({}), json!({"htu": "https://broker.test/oauth2/revoke"}), "`htu`"),
        (json!({}), json!({"htu": "http://broker.test/oauth2/token"}), "`htu`"),
        (json!({}), json!({"jti": null}), "`jti`"),
        (json!({}), json!({"jti": ""}), "`jti`"),
        (json!({}), json!({"jti": 7}), "`jti`"),
        (json!({}), json!({"jti": "j".repeat(256)}), "`jti`"),
        (json!({}), json!({"iat": null}), "`iat`"),
        (json!({}), json!({"iat": "now"}), "`iat`"),
        (json!({}), json!({"iat": now - 61}), "too long ago"),
        (json!({}), json!({"iat": now - 600}), "too long ago"),
        (json!({}), json!({"iat": now + 31}), "in the future"),
        (json!({}), json!({"iat": u64::MAX}), "in the future"),
        (json!({}), json!({"exp": now - 30}), "expired"),
        (json!({}), json!({"ath": null}), "`ath`"),
        (json!({}), json!({"ath": encode([0; 32])}), "`ath`"),
    ] {
        lab.refused(&lab.proof(header, claims), about);
    }
    for iat in [now - 60, now + 30] {
        assert!(lab.verify(&lab.proof(json!({}), json!({"iat": iat}))).is_ok(), "{iat}");
    }
    let good = lab.proof(json!({}), json!({}));
    for wrong in ["", "x", &good[1..], &format!("{good}."), &format!("{good}="), &"a".repeat(MAX_BYTES + 1)] {
        assert!(matches!(lab.verify(wrong), Err(NotShown::Refused(_))), "{wrong:.100}");
    }
}

#[test]
fn a_token_in_the_body_need_not_be_named_and_is_held_to_its_name_where_it_is() {
    let lab = Lab::new(true);
    let without = lab.proof(json!({}), json!({"ath": null}));
    assert!(lab.verify_with(&without, Some(Presented::InBody(&[TOKEN]))).is_ok());
    assert!(lab.verify_with(&without, None).is_ok());
    let named = lab.proof(json!({}), json!({}));
    assert!(lab.verify_with(&named, Some(Presented::InBody(&[TOKEN]))).is_ok());
    assert!(
        lab.verify_with(&named, Some(Presented::InBody(&["another", TOKEN]))).is_ok(),
        "one of the two in the body"
    );
    assert!(lab.verify_with(&named, Some(Presented::InBody(&["another"]))).is_err());
    assert!(lab.verify_with(&named, Some(Presented::InBody(&[]))).is_err(), "a token that did not come with it");
}

#[test]
fn a_proof_without_a_fresh_nonce_is_asked_for_again_and_only_if_it_holds_otherwise() {
    let lab = Lab::new(true);
    let old = lab.verifier.nonce(NOW.minus(Ttl::from_mins(10)));
    for nonce in [Value::Null, json!(""), json!("x"), json!(7), json!(old)] {
        assert_eq!(lab.verify(&lab.proof(json!({}), json!({"nonce": nonce}))), Err(NotShown::NonceWanted), "{nonce}");
    }
    lab.refused(&lab.proof(json!({}), json!({"nonce": null, "htm": "GET"})), "`htm`");
    let previous = lab.verifier.nonce(NOW.minus(Ttl::from_mins(2)));
    assert!(lab.verify(&lab.proof(json!({}), json!({"nonce": previous}))).is_ok());
    let restarted = Lab { verifier: DpopVerifier::new(true, &SeededEntropy::new(2), NOW).unwrap(), ..lab };
    let lab = Lab::new(true);
    let before = restarted.key.sign(
        &json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": restarted.jwk()}).to_string(),
        &json!({"jti": "one", "htm": "POST", "htu": "https://broker.test/oauth2/token", "iat": NOW.as_secs(), "nonce": lab.verifier.nonce(NOW)}).to_string(),
    );
    assert!(lab.verify_with(&before, None).is_ok());
    assert_eq!(restarted.verify_with(&before, None), Err(NotShown::NonceWanted), "it was given by the process before");
}

#[test]
fn without_nonces_a_proof_from_before_the_start_is_refused() {
    let lab = Lab::new(false);
    assert_eq!(lab.verifier.nonce(NOW), None);
    let proof = lab.proof(json!({}), json!({"nonce": null}));
    assert!(lab.verify(&proof).is_ok());
    let started = NOW.minus(Ttl::from_secs(30));
    let restarted = Lab { verifier: DpopVerifier::new(false, &SeededEntropy::new(1), started).unwrap(), ..lab };
    restarted.refused(&proof, "before the broker started");
}

#[test]
fn where_a_listener_has_no_name_no_proof_is_for_it() {
    let lab = Lab::new(true);
    let request = ProvedRequest { method: "POST", origin: "", path: "/oauth2/token", token: None };
    assert!(lab.verifier.verify(&lab.proof(json!({}), json!({})), &request, NOW).is_err());
}
