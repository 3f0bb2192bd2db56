use std::collections::BTreeMap;

use hallpass_core::identity::{AttributeValue, VerifiedIdentity};
use hallpass_core::port::ProofReader;
use hallpass_core::testing::verifier_suite;
use hallpass_core::testing::{received, sample};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::config::issuer::KeySource;
use crate::identity::jose::JwsReader;
use crate::identity::testing::{AUDIENCE, ISSUER, NOW, TestKey, accept, clock, key_set, settings, verifier, verify};

/// Cases of a shared catalogue, as tokens of a second implementation.
#[derive(Deserialize)]
struct Fixtures {
    key_sets: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    title: String,
    issuer: String,
    expect: String,
    token: String,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("../fixtures/proofs.json")).unwrap()
}

/// One broker per issuer profile of the fixtures: it finds the verifier by the unverified issuer, as core does.
struct Broker(BTreeMap<String, OidcVerifier>);

impl Broker {
    fn new(fixtures: &Fixtures) -> Self {
        let algorithms = |profile: &str| match profile {
            "rs-only" => vec![JwsAlgorithm::RS256],
            "eddsa" => vec![JwsAlgorithm::EdDSA],
            _ => vec![JwsAlgorithm::ES256, JwsAlgorithm::RS256],
        };
        Self(
            fixtures
                .key_sets
                .iter()
                .map(|(profile, keys)| {
                    let mut settings = settings(KeySource::Inline(keys.to_string()));
                    settings.algorithms = algorithms(profile);
                    (profile.clone(), verifier(settings, &clock()))
                })
                .collect(),
        )
    }

    async fn authenticate(&self, profile: &str, token: &str) -> Result<VerifiedIdentity, Refusal> {
        let verifier = &self.0[profile];
        let unverified = JwsReader.read(&received(token))?.unverified_issuer;
        let unverified = unverified.ok_or_else(|| Refusal::proof(Reason::MissingClaim, "no `iss`"))?;
        if !verifier.accepts(&unverified) {
            return Err(Refusal::proof(Reason::UnknownIssuer, "no such issuer"));
        }
        accept(verifier, token).await
    }
}

/// What this broker answers where the catalogue leaves it open, or speaks of a later step than authentication.
fn expected(case: &Case) -> &str {
    match (case.id.as_str(), case.expect.as_str()) {
        // The fully-specified name of RFC 9864 is not on the issuer's list.
        ("ALG-014", _) => "alg_not_allowed",
        // Deeper than the documented limit.
        ("ENC-014", _) => "malformed_claims",
        // Leeway forgives a clock, but this proof also says that it expired before it was issued.
        ("TIME-016", _) => "malformed_claims",
        // Issued in the future and expired before that: both are said of it.
        ("TIME-012", _) => "not_yet_valid|malformed_claims",
        // Lower-case media types are the same; `azp` is ignored; the twin of a signature is the same proof, whose id
        // can be used once.
        ("TYP-004" | "TYP-008" | "SIG-006", _) => "accept",
        // Whether the one that it names acts is for core to see.
        ("TYP-010", _) => "accept",
        // Refused later, by policy or by the store.
        (_, "deny" | "replayed") => "accept",
        (_, reason) => reason,
    }
}

#[tokio::test]
async fn every_catalogued_proof_is_accepted_or_refused_for_the_catalogued_reason() {
    let fixtures = fixtures();
    let broker = Broker::new(&fixtures);
    let (controls, others): (Vec<_>, Vec<_>) = fixtures.cases.iter().partition(|case| case.id.starts_with("CTL-"));
    assert!(controls.len() >= 7 && others.len() >= 80);
    let mut wrong = Vec::new();
    for case in controls.into_iter().chain(others) {
        let outcome = broker.authenticate(&case.issuer, &case.token).await;
        let got = outcome.map_or_else(|refusal| refusal.reason.as_str(), |_| "accept");
        if !expected(case).split('|').any(|expected| expected == got) {
            wrong.push(format!("{} {}: expected {}, got {got}", case.id, case.title, expected(case)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An issuer with one key, `one`, and a verifier of its proofs.
struct Ci {
    key: TestKey,
    verifier: OidcVerifier,
}

impl Ci {
    fn new() -> Self {
        let key = TestKey::new("one");
        let verifier = verifier(settings(KeySource::Inline(key_set(&[&key]))), &clock());
        Self { key, verifier }
    }

    async fn prove(&self, header: Value, claims: Value) -> Result<VerifiedIdentity, Refusal> {
        accept(&self.verifier, &self.key.proof(header, claims)).await
    }

    /// What is verified of a good proof with some claims replaced.
    async fn verified(&self, claims: Value) -> VerifiedProof {
        verify(&self.verifier, &self.key.proof(json!({}), claims)).await.unwrap()
    }

    /// What becomes of a proof whose claims are written out: `rest` follows the good ones but `exp`.
    async fn prove_text(&self, rest: &str) -> Result<VerifiedIdentity, Refusal> {
        let claims = format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"a","iat":{NOW},"jti":"b",{rest}}}"#);
        accept(&self.verifier, &self.key.sign(r#"{"alg":"ES256","kid":"one"}"#, &claims)).await
    }
}

fn code(outcome: &Result<VerifiedIdentity, Refusal>) -> &'static str {
    outcome.as_ref().map_or_else(|refusal| refusal.reason.as_str(), |_| "accept")
}

#[tokio::test]
async fn it_keeps_what_every_verifier_keeps() {
    let ci = Ci::new();
    let (unknown, impostor) = (TestKey::new("unknown"), TestKey::new("one"));
    let mint = |key| -> verifier_suite::Mint<'_> {
        let key: &TestKey = key;
        Box::new(move |subject, jti| key.proof(json!({}), json!({"sub": subject, "jti": jti})))
    };
    verifier_suite::all(&verifier_suite::Issuer {
        verifier: &ci.verifier,
        issuer: ISSUER.to_owned(),
        good: mint(&ci.key),
        unknown_key: mint(&unknown),
        wrong_key: mint(&impostor),
        now: sample::NOW,
    })
    .await;
}

#[tokio::test]
async fn the_operator_and_not_the_token_chooses_type_and_algorithm() {
    let ci = Ci::new();
    for typ in ["JWT", "jwt", "application/jwt", "APPLICATION/JWT"] {
        assert_eq!(code(&ci.prove(json!({"typ": typ}), json!({})).await), "accept", "{typ}");
    }
    assert_eq!(code(&ci.prove(json!({"typ": null}), json!({})).await), "accept");
    for typ in [
        "at+jwt",
        "application/at+jwt",
        "secevent+jwt",
        "logout+jwt",
        "dpop+jwt",
        "wit+jwt",
        "oauth-authz-req+jwt",
        "",
        "JWT ",
        "application/",
        "application/application/jwt",
    ] {
        assert_eq!(code(&ci.prove(json!({"typ": typ}), json!({})).await), "wrong_token_type", "{typ}");
    }
    for alg in ["none", "None", "NONE", "nOnE", "none ", "HS256", "es256", "ES384", "ES256K", "PS256", "EdDSA", ""] {
        assert_eq!(code(&ci.prove(json!({"alg": alg}), json!({})).await), "alg_not_allowed", "{alg}");
    }
    assert_eq!(code(&ci.prove(json!({"alg": "RS256"}), json!({})).await), "alg_key_mismatch");
    assert_eq!(code(&ci.prove(json!({"kid": "one\r\nInjected: 1"}), json!({})).await), "unknown_kid");
    assert_eq!(code(&ci.prove(json!({"kid": "k".repeat(8000)}), json!({})).await), "unknown_kid");
}

#[tokio::test]
async fn claims_of_another_type_are_refused() {
    let ci = Ci::new();
    let many_audiences: Vec<_> = (0..32).map(|n| format!("https://{n}.test")).chain([AUDIENCE.to_owned()]).collect();
    let many_claims: Value =
        (0..128).map(|n| (format!("claim-{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    for (claims, reason) in [
        (json!({"exp": "9999999999"}), "malformed_claims"),
        (json!({"exp": {}}), "malformed_claims"),
        (json!({"exp": [1]}), "malformed_claims"),
        (json!({"exp": true}), "malformed_claims"),
        (json!({"exp": -1}), "malformed_claims"),
        (json!({"iat": "1"}), "malformed_claims"),
        (json!({"iat": -1}), "malformed_claims"),
        (json!({"nbf": "99999999999"}), "malformed_claims"),
        (json!({"exp": null}), "missing_claim"),
        (json!({"iat": null}), "missing_claim"),
        (json!({"sub": null}), "missing_claim"),
        (json!({"sub": ""}), "missing_claim"),
        (json!({"sub": 7}), "missing_claim"),
        (json!({"sub": "s".repeat(1025)}), "missing_claim"),
        (json!({"jti": null}), "missing_claim"),
        (json!({"jti": ""}), "missing_claim"),
        (json!({"jti": 7}), "missing_claim"),
        (json!({"jti": "j".repeat(256)}), "missing_claim"),
        (json!({"aud": null}), "missing_claim"),
        (json!({"aud": 1}), "malformed_claims"),
        (json!({"aud": true}), "malformed_claims"),
        (json!({"aud": {AUDIENCE: 1}}), "malformed_claims"),
        (json!({"aud": [[AUDIENCE]]}), "malformed_claims"),
        (json!({"aud": [AUDIENCE, 1]}), "malformed_claims"),
        (json!({"aud": many_audiences}), "malformed_claims"),
        (json!({"aud": []}), "wrong_audience"),
        (json!({"iss": "https://idp.test/"}), "unknown_issuer"),
        (json!({"iss": ""}), "unknown_issuer"),
        (json!({"cnf": {"jkt": "a"}}), "pop_required"),
        (json!({"cnf": {"x5t#S256": "a"}}), "pop_required"),
        (json!({"cnf": false}), "pop_required"),
        (json!({"act": {"sub": "a"}}), "not_allowed_actor"),
        (json!({"may_act": "a"}), "malformed_claims"),
        (json!({"may_act": {"iss": "a"}}), "malformed_claims"),
        (json!({"may_act": {"sub": "a", "act": {"sub": "b"}}}), "malformed_claims"),
        (json!({"groups": vec!["g"; 257]}), "malformed_claims"),
        (many_claims, "malformed_claims"),
    ] {
        let outcome = ci.prove(json!({}), claims.clone()).await;
        assert_eq!(code(&outcome), reason, "{:.200}", claims.to_string());
        let refusal = outcome.unwrap_err();
        assert!(refusal.parameter.is_some(), "it says which claim: {refusal:?}");
    }
    for null in ["exp", "iat", "nbf", "aud"] {
        let claims = ci.key.proof(json!({}), json!({null: "marker"}));
        let claims = claims.split('.').nth(1).and_then(super::super::jose::decode_base64url).unwrap();
        let claims = String::from_utf8(claims).unwrap().replace("\"marker\"", "null");
        let token = ci.key.sign(r#"{"alg":"ES256","kid":"one"}"#, &claims);
        assert_eq!(code(&accept(&ci.verifier, &token).await), "malformed_claims", "{null}: null");
    }
}

#[tokio::test]
async fn times_are_exact_and_never_overflow() {
    let ci = Ci::new();
    for exp in ["NaN", "Infinity", "-0", "-0.5", "1e400", "01", "+1", "0x10", "\"1\"", "1."] {
        assert_eq!(code(&ci.prove_text(&format!(r#""exp":{exp}"#)).await), "malformed_claims", "{exp}");
    }
    for exp in [
        "2147483648",
        "4294967296",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e19",
        "1e308",
    ] {
        assert_eq!(code(&ci.prove_text(&format!(r#""exp":{exp}"#)).await), "lifetime_too_long", "{exp}");
    }
    let proof = ci.verified(json!({"exp": NOW as f64 + 9.9, "iat": NOW as f64 - 0.1, "nbf": NOW as f64 - 0.9})).await;
    assert_eq!(proof.expires_at, Some(Timestamp::from_secs(NOW + 9)), "rounded against the holder");
    assert_eq!(proof.issued_at, Some(Timestamp::from_secs(NOW - 1)));
    assert_eq!(proof.not_before, Some(Timestamp::from_secs(NOW)));
}

#[tokio::test]
async fn attributes_are_the_claims_as_the_issuer_typed_them() {
    let claims = json!({
        "text": "a", "truth": true, "number": 9_007_199_254_740_993_i64, "below": -1, "list": ["a", "b"], "empty": [],
        "mixed": ["a", 1], "object": {"a": 1}, "fraction": 1.5, "huge": u64::MAX, "": 1, "__proto__": {"admin": true},
        "azp": "other-client",
    });
    let proof = Ci::new().verified(claims).await;
    let text = |text: &str| AttributeValue::Text(text.to_owned());
    let expected = [
        ("azp", text("other-client")),
        ("below", AttributeValue::Long(-1)),
        ("empty", AttributeValue::List(Vec::new())),
        ("list", AttributeValue::List(vec!["a".to_owned(), "b".to_owned()])),
        ("number", AttributeValue::Long(9_007_199_254_740_993)),
        ("sub", text("repo:acme@111/app@222:ref:refs/heads/main")),
        ("text", text("a")),
        ("truth", AttributeValue::Bool(true)),
    ];
    assert_eq!(proof.attributes, expected.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
    assert_eq!(proof.key_id.as_deref(), Some("one"));
    assert_eq!(proof.issuer_kind, "oidc");
}

#[tokio::test]
async fn provenance_takes_texts_only_and_converts_nothing() {
    let ci = Ci::new();
    let proof = ci
        .verified(json!({
            "repository": "acme/app", "repository_id": 222, "repository_owner_id": "111", "ref": "refs/heads/main",
            "ref_protected": "false", "event_name": "push", "run_id": "7", "environment": "",
        }))
        .await;
    let provenance = proof.provenance;
    assert_eq!(provenance.repository.as_deref(), Some("acme/app"));
    assert_eq!(provenance.repository_id, None, "a number is no id");
    assert_eq!(provenance.repository_owner_id.as_deref(), Some("111"));
    assert_eq!(provenance.git_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!(provenance.ref_protected, Some(false));
    assert_eq!(provenance.event.as_deref(), Some("push"));
    assert_eq!(provenance.run.as_deref(), Some("7"));
    assert_eq!(provenance.environment, None, "an empty text says nothing");

    for (value, protected) in
        [(json!(true), Some(true)), (json!("true"), Some(true)), (json!("yes"), None), (json!(1), None)]
    {
        assert_eq!(ci.verified(json!({"ref_protected": value})).await.provenance.ref_protected, protected);
    }

    let mut settings = settings(KeySource::Inline(key_set(&[&ci.key])));
    settings.provenance.insert("repositroy".to_owned(), "repository".to_owned());
    let client = Arc::new(Outbound::new(None).unwrap());
    let refused = OidcVerifier::new(settings, clock(), client, AllowHttp::Never).map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "\"repositroy\" is not a field of the provenance that a claim can fill");
}

#[tokio::test]
async fn a_subject_that_names_another_repository_than_the_claim_is_a_conflict() {
    let ci = Ci::new();
    for (subject, repository, outcome) in [
        ("repo:acme/app:ref:refs/heads/main", "acme/app", "accept"),
        ("repo:acme@111/app@222:ref:refs/heads/main", "acme/app", "accept"),
        ("repo:acme/app", "acme/app", "accept"),
        ("repo:Acme/App:environment:prod", "acme/app", "accept"),
        ("environment:production", "acme/app", "accept"),
        ("repo:acme", "acme/app", "accept"),
        ("repo:acme/app:ref:refs/heads/main", "evil/app", "claim_conflict"),
        ("repo:acme@111/app@222:ref:refs/heads/main", "evil/app", "claim_conflict"),
        ("repo:acme/app:ref:refs/heads/main", "acme/app2", "claim_conflict"),
        ("repo:acme@x/app:ref:refs/heads/main", "acme/app", "claim_conflict"),
        ("repo:acme/app/deeper:ref:refs/heads/main", "acme/app", "claim_conflict"),
    ] {
        let claims = json!({"sub": subject, "repository": repository});
        assert_eq!(code(&ci.prove(json!({}), claims).await), outcome, "{subject} {repository}");
    }
    assert_eq!(code(&ci.prove(json!({}), json!({"sub": "repo:acme/app:x", "repository": 1})).await), "accept");
}

#[tokio::test]
async fn only_refusals_after_the_signature_say_so() {
    let ci = Ci::new();
    let after = ci.prove(json!({}), json!({"cnf": {}})).await.unwrap_err();
    assert!(after.signature_verified);
    let offered = ci.prove(json!({"jku": "http://evil.example"}), json!({})).await.unwrap_err();
    assert_eq!((offered.reason, offered.signature_verified), (Reason::MalformedHeader, true));
    let impostor = TestKey::new("one").proof(json!({}), json!({"cnf": {}}));
    let before = accept(&ci.verifier, &impostor).await.unwrap_err();
    assert_eq!((before.reason, before.signature_verified), (Reason::BadSignature, false));
}

#[tokio::test]
async fn a_key_without_a_name_is_named_by_its_thumbprint() {
    let key = TestKey::new("one");
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().remove("kid");
    let keys = json!({"keys": [jwk]}).to_string();
    let verifier = verifier(settings(KeySource::Inline(keys)), &clock());
    let proof = verify(&verifier, &key.proof(json!({"kid": null}), json!({}))).await.unwrap();
    assert_eq!(proof.key_id.map(|name| name.len()), Some(43));
    let named = accept(&verifier, &key.proof(json!({}), json!({}))).await;
    assert_eq!(code(&named), "unknown_kid", "a `kid` that is given must match");
}
