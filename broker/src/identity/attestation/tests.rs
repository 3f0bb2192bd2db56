//! What is read of envelopes and statements, each refusal beside what is accepted.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use hallpass_core::id::AttestorName;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;
use crate::config::attestor::{AttestorKey, KeyKind};

const COMMIT: &str = "4f2c8b1d9e3a7f60514d2c3b4a59687786a5b4c3";
const NOW: Timestamp = Timestamp::from_secs(1_767_268_800);

fn plan_digest() -> String {
    format!("sha256:{}", "5".repeat(64))
}

struct Signer(Ed25519KeyPair);

impl Signer {
    #[expect(clippy::disallowed_methods, reason = "no test depends on the value of the key")]
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn key(&self) -> AttestorKey {
        AttestorKey { file: None, kind: KeyKind::Ed25519, bytes: self.0.public_key().as_ref().to_vec() }
    }

    fn envelope(&self, payload: &[u8]) -> Value {
        let kind = "application/vnd.in-toto+json";
        let mut signed = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        signed.extend(payload);
        json!({
            "payloadType": kind,
            "payload": STANDARD.encode(payload),
            "signatures": [{"keyid": "", "sig": STANDARD.encode(self.0.sign(&signed))}],
        })
    }

    fn sign(&self, statement: &Value) -> String {
        self.envelope(statement.to_string().as_bytes()).to_string()
    }
}

fn attestor(kind: AttestorKind, signer: &Signer) -> Attestor {
    Attestor {
        name: AttestorName::new(kind.as_str()).unwrap(),
        kind,
        known_by: KnownBy::Keys(vec![signer.key()]),
        builders: vec!["https://builder.test/v1".to_owned()],
        accounts_of: [("github".to_owned(), Vec::new())].into(),
        max_age: Some(Ttl::from_hours(1)),
    }
}

fn review() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "app", "digest": {"gitCommit": COMMIT}}],
        "predicateType": REVIEW,
        "predicate": {
            "commit": COMMIT,
            "author": {"account": "github:1"},
            "approvers": [{"account": "github:2"}, {"identity": "people:carol"}],
            "plan_digest": plan_digest(),
            "at": "2026-01-01T11:30:00Z",
        },
    })
}

fn built() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "app.tar", "digest": {"sha256": "a".repeat(64)}}],
        "predicateType": SLSA_PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": "https://builder.test/type/v1",
                "externalParameters": {},
                "resolvedDependencies": [
                    {"uri": "git+https://code.test/acme/app@refs/heads/main", "digest": {"gitCommit": COMMIT}},
                    {"uri": "pkg:docker/base", "digest": {"sha256": "b".repeat(64)}},
                ],
            },
            "runDetails": {"builder": {"id": "https://builder.test/v1"}, "metadata": {"finishedOn": "2026-01-01T11:59:00Z"}},
        },
    })
}

/// The one statement, verified, or why it is refused.
fn verify(attestors: &Attestors, envelope: String) -> Result<Statement, String> {
    let verified = attestors.verify(&[envelope], NOW).map_err(|refusal| {
        assert_eq!(refusal.reason, Reason::BadAttestation);
        assert_eq!(refusal.parameter.as_deref(), Some("attestations.0"));
        refusal.detail
    })?;
    Ok(verified.into_iter().next().unwrap().statement)
}

fn changed(statement: &Value, at: &str, to: Value) -> Value {
    let mut changed = statement.clone();
    *changed.pointer_mut(at).unwrap() = to;
    changed
}

#[test]
fn what_an_attestor_signed_is_read() {
    let signer = Signer::new();
    let attestors = Attestors::new(vec![attestor(AttestorKind::Review, &signer)]);
    let statement = verify(&attestors, signer.sign(&review())).unwrap();
    let Said::Review(told) = &statement.said else { panic!("{statement:?}") };
    assert_eq!(told.commit.as_deref(), Some(COMMIT));
    assert_eq!(told.approvers.iter().map(|one| one.as_str()).collect::<Vec<_>>(), ["github:2", "people:carol"]);

    let attestors = Attestors::new(vec![attestor(AttestorKind::SlsaProvenance, &signer)]);
    let bundled = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": signer.envelope(built().to_string().as_bytes())});
    let statement = verify(&attestors, bundled.to_string()).unwrap();
    let source = Some("https://code.test/acme/app".to_owned());
    let expected = Said::SlsaProvenance {
        builder: "https://builder.test/v1".to_owned(),
        repository: source,
        commit: Some(COMMIT.to_owned()),
        subjects: [format!("sha256:{}", "a".repeat(64))].into(),
    };
    assert_eq!(statement.said, expected);

    // Either alphabet of base64, and either version of the statement.
    let old = changed(&built(), "/_type", json!("https://in-toto.io/Statement/v0.1"));
    let mut envelope = signer.envelope(old.to_string().as_bytes());
    envelope["payload"] = json!(URL_SAFE.encode(old.to_string()));
    verify(&attestors, envelope.to_string()).unwrap();
}

#[test]
fn an_envelope_that_does_not_verify_is_refused_and_nothing_of_it_is_told() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let attestors = Attestors::new(vec![attestor(AttestorKind::Review, &signer)]);
    let good = signer.envelope(review().to_string().as_bytes());
    verify(&attestors, good.to_string()).unwrap();
    let with = |at: &str, to: Value| changed(&good, at, to).to_string();
    let tampered = review().to_string().replace("github:1", "github:9");
    let unsigned = "no attestor that is trusted here signed it";
    let payload_as_signature = good["payload"].clone();
    for (envelope, said) in [
        (stranger.sign(&review()), unsigned),
        (with("/payload", json!(STANDARD.encode(tampered))), unsigned),
        (with("/signatures/0/sig", payload_as_signature), unsigned),
        (with("/signatures/0/sig", json!("")), unsigned),
        (with("/payloadType", json!("text/plain")), "`payloadType`"),
        (with("/payload", json!("!")), "`payload` is not base64"),
        (with("/signatures", json!([])), "signatures"),
        (with("/signatures", json!(vec![good["signatures"][0].clone(); 5])), "signatures"),
        (with("/signatures/0", json!({"keyid": "a"})), "no `sig`"),
        (good.to_string().replacen('{', r#"{"payload":"","#, 1), "twice"),
        (format!("{}{}", good, " ".repeat(40_000)), "longer than"),
        (json!({"dsseEnvelope": 5}).to_string(), "no object"),
        ("[]".to_owned(), "not a JSON object"),
        (String::new(), "no envelope"),
    ] {
        let detail = verify(&attestors, envelope).unwrap_err();
        assert!(detail.contains(said), "{said}: {detail}");
        assert!(!detail.contains("github") && !detail.contains(COMMIT), "{detail}");
    }
    let nine = vec![signer.sign(&review()); 9];
    assert!(attestors.verify(&nine, NOW).unwrap_err().detail.contains("at most 8"));
    let second = attestors.verify(&[signer.sign(&review()), stranger.sign(&review())], NOW).unwrap_err();
    assert_eq!(second.parameter.as_deref(), Some("attestations.1"), "it says which");
}

#[test]
fn a_key_vouches_for_what_its_owner_may_and_for_nothing_else() {
    let signer = Signer::new();
    for kind in AttestorKind::ALL {
        let attestors = Attestors::new(vec![attestor(*kind, &signer)]);
        let (reviewed, made) = (verify(&attestors, signer.sign(&review())), verify(&attestors, signer.sign(&built())));
        assert_eq!(reviewed.is_ok(), *kind == AttestorKind::Review, "{kind:?}");
        assert_eq!(made.is_ok(), *kind == AttestorKind::SlsaProvenance, "{kind:?}");
    }
    let attestors = Attestors::new(vec![attestor(AttestorKind::SlsaProvenance, &signer)]);
    let other = changed(&built(), "/predicate/runDetails/builder/id", json!("https://builder.test/v1/"));
    assert!(verify(&attestors, signer.sign(&other)).unwrap_err().contains("may not speak for the builder"));
}

#[test]
fn a_statement_that_is_not_what_its_type_says_is_refused() {
    let signer = Signer::new();
    let all = AttestorKind::ALL.iter().map(|kind| attestor(*kind, &signer)).collect();
    let attestors = Attestors::new(all);
    let hex = |n: usize| "A".repeat(n);
    for (statement, said) in [
        (changed(&review(), "/_type", json!("https://in-toto.io/Statement/v2")), "`_type`"),
        (changed(&review(), "/predicateType", json!("https://example.test/other")), "`predicateType`"),
        (changed(&review(), "/subject", json!([])), "`subject`"),
        (changed(&review(), "/subject", json!(vec![review()["subject"][0].clone(); 65])), "`subject`"),
        (changed(&review(), "/subject/0/digest", json!({"gitCommit": "b".repeat(40)})), "no subject of it"),
        (changed(&review(), "/subject/0/digest", json!({"gitCommit": "main"})), "no whole commit"),
        (changed(&review(), "/predicate/commit", json!("4f2c8b1")), "no whole commit"),
        (changed(&review(), "/predicate/commit", json!(hex(40))), "no whole commit"),
        (changed(&review(), "/predicate/plan_digest", json!(hex(64))), "`predicate.plan_digest`"),
        (changed(&review(), "/predicate/approvers", json!([])), "names nobody"),
        (changed(&review(), "/predicate/approvers", json!(["github:2"])), "approvers.0"),
        (
            changed(&review(), "/predicate/author", json!({"account": "github:1", "identity": "a:b"})),
            "`predicate.author`",
        ),
        (changed(&review(), "/predicate/author", json!({"account": "1"})), "`predicate.author`"),
        (changed(&review(), "/predicate/author", json!({"account": "github:1\n"})), "no line"),
        (changed(&review(), "/predicate/at", json!("yesterday")), "no time"),
        (changed(&review(), "/predicate/at", json!("2026-01-01T10:59:59Z")), "counts for 1h"),
        (changed(&review(), "/predicate/at", json!("2026-01-01T12:02:01Z")), "yet to come"),
        (changed(&review(), "/predicate", json!({"approver": "x"})), "only commit"),
        (changed(&built(), "/predicate/buildDefinition", json!({})), "buildType"),
        (changed(&built(), "/predicate/runDetails", json!({})), "runDetails.builder"),
        (changed(&built(), "/subject/0/digest", json!({"sha512": hex(128)})), "digest.sha256"),
        (changed(&built(), "/subject/0/digest/sha256", json!(hex(64))), "lower-case"),
        (changed(&built(), "/predicate/runDetails/metadata", json!({})), "does not say of when"),
    ] {
        let detail = verify(&attestors, signer.sign(&statement)).unwrap_err();
        assert!(detail.contains(said), "{said}: {detail}");
    }
    let twice = review().to_string().replacen("\"_type\"", "\"_type\":\"x\",\"_type\"", 1);
    let detail = verify(&attestors, signer.envelope(twice.as_bytes()).to_string()).unwrap_err();
    assert!(detail.contains("twice"), "{detail}");
}

#[test]
fn where_nobody_can_tell_the_source_nobody_says_it() {
    let source = |dependencies: Value, asked: Value| {
        let with = changed(&built(), "/predicate/buildDefinition/resolvedDependencies", dependencies);
        let with = changed(&with, "/predicate/buildDefinition/externalParameters", asked);
        match read(with.to_string().as_bytes()).unwrap().said {
            Said::SlsaProvenance { repository, commit, .. } => repository.zip(commit),
            other => panic!("{other:?}"),
        }
    };
    let git = |repository: &str, digit: &str| json!({"uri": format!("git+https://{repository}@refs/tags/v1"), "digest": {"gitCommit": digit.repeat(40)}});
    let (one, other) = (git("code.test/acme/app", "1"), git("code.test/acme/lib", "2"));
    let found = |repository: &str, digit: &str| Some((format!("https://{repository}"), digit.repeat(40)));
    assert_eq!(source(json!([one]), json!({})), found("code.test/acme/app", "1"));
    assert_eq!(source(json!([one, one]), json!({})), found("code.test/acme/app", "1"));
    assert_eq!(source(json!([one, other]), json!({})), None);
    let asked = json!({"workflow": {"repository": "https://code.test/acme/lib", "ref": "refs/tags/v1"}});
    assert_eq!(source(json!([one, other]), asked), found("code.test/acme/lib", "2"));
    let ssh = json!({"uri": "git+ssh://git@code.test/acme/app@main", "digest": {"sha1": "3".repeat(40)}});
    assert_eq!(source(json!([ssh]), json!({})), Some(("ssh://git@code.test/acme/app".to_owned(), "3".repeat(40))));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = read(&bytes);
        let text = bytes.iter().fold(String::new(), |mut text, byte| { let _ = write!(text, "{}", char::from(*byte)); text });
        let _ = Envelope::read(&text);
    }
}
