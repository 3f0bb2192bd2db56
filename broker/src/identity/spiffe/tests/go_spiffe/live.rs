//! go-spiffe itself, asked: thousands of candidates, judged by both. It needs the program `tests/spiffe/go`, built, and its
//! path in `HALLPASS_GO_SPIFFE`:
//!
//! `HALLPASS_GO_SPIFFE=/tmp/judge cargo nextest run -p hallpass-broker --run-ignored only -E 'test(go_spiffe::live)'`

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;

use super::*;

/// The program that judges. It ends with its input.
struct Judge {
    _process: Child,
    candidates: ChildStdin,
    verdicts: BufReader<ChildStdout>,
}

impl Judge {
    fn start() -> Self {
        let program = std::env::var("HALLPASS_GO_SPIFFE").expect("HALLPASS_GO_SPIFFE names the program");
        let mut command = Command::new(program);
        let mut process = command.arg("judge").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (candidates, verdicts) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { _process: process, candidates, verdicts: BufReader::new(verdicts) }
    }

    fn says(&mut self, candidate: &Candidate, key: Option<&[u8]>) -> Verdict {
        let mut line = serde_json::to_value(candidate).unwrap();
        if let Some(key) = key {
            line["key"] = json!(STANDARD.encode(key));
        }
        writeln!(self.candidates, "{line}").unwrap();
        let mut said = String::new();
        self.verdicts.read_line(&mut said).unwrap();
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{said}: {error}"))
    }
}

fn pick<'a, T>(runner: &mut TestRunner, from: &'a [T]) -> &'a T {
    &from[(0..from.len()).new_tree(runner).unwrap().current()]
}

#[tokio::test]
#[ignore = "asks go-spiffe, which the daily tests do without"]
async fn ids_are_the_same_to_both() {
    let (mut judge, mut runner) = (Judge::start(), TestRunner::default());
    let texts = "(spiffe://|SPIFFE://|spiffe:/|)[a-cA-C0-9._:@%é/?# -]{0,24}|spiffe://[a-b.]{1,3}(/[a-bA.%]{0,3}){0,4}";
    let texts = proptest::string::string_regex(texts).unwrap();
    let mut accepted = 0;
    for _ in 0..40_000 {
        let text = texts.new_tree(&mut runner).unwrap().current();
        let candidate = Candidate { kind: "id".to_owned(), text, ..Candidate::default() };
        let theirs = judge.says(&candidate, None);
        assert_eq!(ours(&candidate, sample::NOW).await, theirs, "{:?}", candidate.text);
        accepted += usize::from(theirs.accepted);
    }
    println!("40000 texts, {accepted} of them IDs: both say the same");
    assert!(accepted > 1_000);
}

/// Elements of a bundle, and what the broker takes each for.
fn elements() -> Vec<(Value, Option<&'static str>)> {
    let (root, key) = (Authority::new("td1"), TestKey::new("one"));
    let x509 = |change: &dyn Fn(&mut Value)| {
        // What stands beside the certificate must be its key, or go-spiffe reads nothing of it.
        let spki = root.issuer.key().public_key_raw();
        let (x, y) = (crate::identity::testing::encode(&spki[1..33]), crate::identity::testing::encode(&spki[33..]));
        let mut jwk = root.jwk();
        (jwk["x"], jwk["y"]) = (json!(x), json!(y));
        change(&mut jwk);
        jwk
    };
    let jwt = |change: &dyn Fn(&mut Value)| {
        let mut jwk = jwt_authority(&key);
        change(&mut jwk);
        jwk
    };
    let without = |name: &'static str| move |jwk: &mut Value| drop(jwk.as_object_mut().unwrap().remove(name));
    vec![
        (x509(&|_| ()), Some("x509")),
        (x509(&without("use")), None),
        (x509(&|jwk| jwk["use"] = json!("x509")), None),
        (x509(&|jwk| jwk["use"] = json!("X509-SVID")), None),
        (x509(&without("x5c")), None),
        (x509(&|jwk| jwk["x5c"] = json!([jwk["x5c"][0], jwk["x5c"][0]])), None),
        (x509(&|jwk| jwk["x5c"] = json!([])), None),
        (x509(&|jwk| jwk["x5c"] = json!(["AAAA"])), None),
        (jwt(&|_| ()), Some("jwt")),
        (jwt(&without("use")), None),
        (jwt(&without("kid")), None),
        (jwt(&|jwk| jwk["kid"] = json!("")), None),
        (jwt(&|jwk| jwk["use"] = json!("wit-svid")), None),
        (jwt(&|jwk| jwk["use"] = json!("sig")), None),
        (jwt(&|jwk| jwk["use"] = json!(["jwt-svid"])), None),
        (jwt(&|jwk| jwk["kty"] = json!("XX")), None),
        (jwt(&without("kty")), None),
        (jwt(&|jwk| jwk["crv"] = json!("P-999")), None),
        (jwt(&|jwk| jwk["y"] = jwk["x"].clone()), None),
        (json!({"kty": "oct", "use": "jwt-svid", "kid": "oct", "k": "AAAA"}), None),
    ]
}

/// Whatever a bundle is made of, the broker takes what is good and nothing else; where go-spiffe takes the bundle, too, it
/// takes the same.
#[tokio::test]
#[ignore = "asks go-spiffe, which the daily tests do without"]
async fn of_bundles_that_both_take_they_take_the_same() {
    let (mut judge, mut runner) = (Judge::start(), TestRunner::default());
    let (elements, mut both, mut ours_alone) = (elements(), 0, 0);
    for _ in 0..3_000 {
        let chosen: Vec<_> = (0..*pick(&mut runner, &[0, 1, 1, 2, 3])).map(|_| pick(&mut runner, &elements)).collect();
        let mut document = json!({"keys": chosen.iter().map(|(jwk, _)| jwk).collect::<Vec<_>>()});
        for (name, value) in [
            (
                "spiffe_sequence",
                pick(&mut runner, &[None, Some(json!(0)), Some(json!(12_035_488)), Some(json!(u64::MAX))]),
            ),
            ("spiffe_refresh_hint", pick(&mut runner, &[None, Some(json!(60)), Some(json!(0)), Some(json!(300))])),
            ("other", pick(&mut runner, &[None, Some(json!({"a": [1]}))])),
        ] {
            if let Some(value) = value {
                document[name] = value.clone();
            }
        }
        let candidate = Candidate { kind: "bundle".to_owned(), text: document.to_string(), ..Candidate::default() };
        let (ours, mut theirs) = (ours(&candidate, sample::NOW).await, judge.says(&candidate, None));
        // It counts a shared secret as a key that tokens could be verified with, and never verifies one with it.
        theirs.jwt.remove("oct");
        let has = |what| chosen.iter().any(|(_, taken)| *taken == Some(what));
        assert!(ours.accepted, "{document}");
        assert_eq!((ours.x509, ours.jwt.len()), (usize::from(has("x509")), usize::from(has("jwt"))), "{document}");
        if theirs.accepted {
            assert_eq!(ours, theirs, "{document}");
            both += 1;
        } else {
            assert!(chosen.iter().any(|(_, taken)| taken.is_none()), "go-spiffe refuses what is good: {document}");
            ours_alone += 1;
        }
    }
    println!("3000 bundles: {both} that both take, and take the same of; {ours_alone} that go-spiffe refuses whole");
    assert!(both > 300 && ours_alone > 300);
}

#[tokio::test]
#[ignore = "asks go-spiffe, which the daily tests do without"]
async fn certificates_are_accepted_by_both_or_by_go_spiffe_alone_for_a_reason() {
    let (mut judge, mut runner) = (Judge::start(), TestRunner::default());
    let (root, other) = (Authority::new("td1"), Authority::new("td2"));
    let good_above = root.below("above", |_| ());
    let no_ca = root.below("above", |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_sign = root.below("above", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let over = root.below("above", |params| (params.not_before, params.not_after) = (at(-600), at(-60)));
    let uris: [&[&str]; 12] = [
        &[ID],
        &[ID],
        &[ID],
        &[ID],
        &[ID],
        &[ID],
        &[ID],
        &[],
        &[ID, ID],
        &["https://td1.test/a"],
        &["spiffe://td1.test"],
        &["spiffe://td2.test/a"],
    ];
    use KeyUsagePurpose as Usage;
    let usages: [&[Usage]; 7] = [
        &[Usage::DigitalSignature],
        &[Usage::DigitalSignature],
        &[Usage::DigitalSignature],
        &[Usage::DigitalSignature, Usage::KeyAgreement],
        &[Usage::KeyEncipherment],
        &[Usage::DigitalSignature, Usage::KeyCertSign],
        &[Usage::DigitalSignature, Usage::CrlSign],
    ];
    let (mut accepted, mut refused, mut stricter) = (0, 0, 0);
    for _ in 0..3_000 {
        let mut params = leaf_params(pick::<&[&str]>(&mut runner, &uris));
        params.is_ca = *pick(
            &mut runner,
            &[IsCa::ExplicitNoCa, IsCa::ExplicitNoCa, IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)],
        );
        params.key_usages = pick(&mut runner, &usages).to_vec();
        let server_only = *pick(&mut runner, &[false, false, false, true]);
        if server_only {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        } else if *pick(&mut runner, &[false, true]) {
            params.extended_key_usages.clear();
        }
        if *pick(&mut runner, &[false, false, false, true]) {
            let mut critical = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
            critical.set_criticality(true);
            params.custom_extensions.push(critical);
        }
        (params.not_before, params.not_after) = *pick(
            &mut runner,
            &[(at(-10), at(300)), (at(-10), at(300)), (at(-10), at(300)), (at(-600), at(-5)), (at(60), at(300))],
        );
        let (signer, sent): (&Authority, Vec<&Authority>) = match pick(&mut runner, &[0, 0, 0, 1, 1, 1, 2, 3, 4, 5]) {
            0 => (&root, vec![]),
            1 => (&good_above, vec![&good_above]),
            2 => (&no_ca, vec![&no_ca]),
            3 => (&no_sign, vec![&no_sign]),
            4 => (&over, vec![&over]),
            _ => (&good_above, vec![]),
        };
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &signer.issuer).unwrap().der().to_vec();
        let known =
            pick(&mut runner, &[vec![&root], vec![&root], vec![&root], vec![&root, &other], vec![&other], vec![]])
                .clone();
        let mut bundle: Vec<_> = known.iter().map(|authority| authority.jwk()).collect();
        for (jwk, authority) in bundle.iter_mut().zip(&known) {
            let point = authority.issuer.key().public_key_raw();
            jwk["x"] = json!(crate::identity::testing::encode(&point[1..33]));
            jwk["y"] = json!(crate::identity::testing::encode(&point[33..]));
        }
        let candidate = Candidate {
            kind: "x509_svid".to_owned(),
            domain: "td1.test".to_owned(),
            bundle: json!({"keys": bundle}).to_string(),
            chain: std::iter::once(&leaf)
                .chain(sent.iter().map(|above| &above.der))
                .map(|der| STANDARD.encode(der))
                .collect(),
            at: NOW,
            ..Candidate::default()
        };
        let (ours, theirs) = (ours(&candidate, sample::NOW).await, judge.says(&candidate, Some(&key.serialize_der())));
        if theirs.accepted && !ours.accepted {
            assert!(server_only, "ours is stricter without a reason: {params:?}");
            stricter += 1;
        } else {
            assert_eq!(ours, theirs, "{params:?}, {} above it, {} known", sent.len(), known.len());
            if ours.accepted { accepted += 1 } else { refused += 1 }
        }
    }
    println!(
        "3000 certificates: both accept {accepted} and refuse {refused}; {stricter} are for TLS servers alone, which no client is"
    );
    assert!(accepted > 60 && refused > 1_000);
}

#[tokio::test]
#[ignore = "asks go-spiffe, which the daily tests do without"]
async fn tokens_are_accepted_by_both_or_by_go_spiffe_alone_for_a_reason() {
    let (mut judge, mut runner) = (Judge::start(), TestRunner::default());
    let (key, stranger) = (TestKey::new("one"), TestKey::new("one"));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let bundle = json!({"keys": [jwt_authority(&key)]}).to_string();
    let choices = |good: Value, others: &[Value]| [vec![good; others.len() + 2], others.to_vec()].concat();
    let headers = [
        ("typ", choices(json!("JWT"), &[json!(null), json!("JOSE"), json!("jwt"), json!("at+jwt")])),
        ("kid", choices(json!("one"), &[json!(null), json!("two")])),
        ("alg", choices(json!("ES256"), &[json!("none"), json!("ES384"), json!("HS256")])),
        ("jku", choices(json!(null), &[json!("https://evil.test/")])),
    ];
    let claims = [
        (
            "sub",
            choices(
                json!(ID),
                &[json!(null), json!(""), json!("spiffe://td2.test/a"), json!("spiffe://TD1.test/a"), json!(7)],
            ),
        ),
        ("aud", choices(json!(AUDIENCE), &[json!([AUDIENCE, "b"]), json!("b"), json!([]), json!(null), json!(7)])),
        ("exp", choices(json!(now + 300), &[json!(now - 300), json!(null), json!("soon")])),
        ("nbf", choices(json!(now - 5), &[json!(null), json!(now + 200)])),
        ("iat", choices(json!(now - 5), &[json!(null)])),
    ];
    let (mut accepted, mut refused, mut stricter) = (0, 0, 0);
    for _ in 0..4_000 {
        let mut of = |all: &[(&str, Vec<Value>)]| {
            let members = all.iter().map(|(name, values)| ((*name).to_owned(), pick(&mut runner, values).clone()));
            Value::Object(members.collect())
        };
        let (header, mut claims) = (of(&headers), of(&claims));
        for (name, value) in [("iss", json!(null)), ("jti", json!(null))] {
            claims[name] = value;
        }
        let signer = *pick(&mut runner, &[&key, &key, &key, &stranger]);
        let candidate = Candidate {
            kind: "jwt_svid".to_owned(),
            text: signer.proof(header.clone(), claims.clone()),
            domain: "td1.test".to_owned(),
            bundle: bundle.clone(),
            audience: vec![AUDIENCE.to_owned()],
            ..Candidate::default()
        };
        let (ours, theirs) = (ours(&candidate, Timestamp::from_secs(now)).await, judge.says(&candidate, None));
        if theirs.accepted && !ours.accepted {
            assert!(
                header.get("jku").is_some_and(|jku| !jku.is_null()),
                "ours is stricter without a reason: {header} {claims}"
            );
            stricter += 1;
        } else {
            assert_eq!(ours, theirs, "{header} {claims}");
            if ours.accepted { accepted += 1 } else { refused += 1 }
        }
    }
    println!(
        "4000 tokens: both accept {accepted} and refuse {refused}; {stricter} have a header that JWT-SVID 2 does not have"
    );
    assert!(accepted > 20 && refused > 1_000);
}
