//! What others signed about a change or a build is a part of the decision: it is verified, is about the same change as the
//! proof, and stays in the record, by which what rests on it is ended. A second implementation signs (`attestations/sign.py`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_sdk::wire::Timestamp;
use hallpass_tests::config::{AUDIENCE, OPERATOR, Setup, trust};
use hallpass_tests::{Answer, Broker, Exchange, Issuer, SigningKey, component, eventually, unix_now};
use serde_json::{Value, json};

use crate::WORKLOAD;

const COMMIT: &str = "c27d339ee6075c1f744c5d4b200f7901aad2c369";
const OTHER_COMMIT: &str = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d";
const BUILT: &str = "sha256:fe4fe40ac7250263c5dbe1cf3138912f3f416140aa248637a60d65fe22c47da4";
const BUILDER: &str = "https://github.com/actions/runner/github-hosted";
const APPLY: &str = "infra/apply";
const RELEASE: &str = "infra/release";
const AUTHOR: &str = "1001";
const APPROVER: &str = "1002";
const SOMEBODY_ELSE: &str = "1003";

const POLICIES: &str = r#"
@id("apply-what-was-approved")
permit (principal is Workload, action == Action::"mint", resource == Role::"infra/apply")
when {
  context has change &&
  context.change.reviewed_by.contains("reviews") &&
  context.change has planned_by && context.change.planned_by == "plans" &&
  context.change.plan_reviewed &&
  context.change.independent
};

@id("release-what-was-built")
permit (principal is Workload, action == Action::"mint", resource == Role::"infra/release")
when {
  context has build &&
  context.build.attestor == "builds" &&
  context.build has repository && context.build.repository == "https://github.com/octocat/hello-world" &&
  context.build has commit && context.provenance has commit && context.build.commit == context.provenance.commit
};

@id("operators-halt")
permit (principal in Group::"platform", action == Action::"suspend", resource);
"#;

/// The other implementation, with its keys.
struct Signer {
    python: PathBuf,
    folder: tempfile::TempDir,
    public: Value,
}

impl Signer {
    fn new() -> Option<Self> {
        let (python, folder) = (component::python()?, tempfile::tempdir().expect("a folder"));
        let printed = Self::run(&python, &["keys"], folder.path(), &[], b"");
        let public = serde_json::from_slice(&printed).expect("public keys");
        Some(Self { python, folder, public })
    }

    fn run(python: &Path, verb: &[&str], folder: &Path, more: &[&str], input: &[u8]) -> Vec<u8> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("attestations/sign.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(verb)
            .arg(folder)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        child.stdin.take().expect("its input").write_all(input).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "sign.py failed");
        output.stdout
    }

    fn sign(&self, key: &str, statement: &Value) -> String {
        let payload = statement.to_string();
        let printed = Self::run(&self.python, &["sign"], self.folder.path(), &[key], payload.as_bytes());
        String::from_utf8(printed).expect("an envelope")
    }
}

struct House {
    signer: Signer,
    issuer: Issuer,
    key: SigningKey,
    broker: Broker,
}

impl House {
    async fn open() -> Option<Self> {
        let signer = Signer::new()?;
        let key = SigningKey::es256("jobs");
        let issuer = Issuer::start(&[&key]).await;
        let mut jobs = trust("ci", &issuer, &["ES256"]);
        jobs["provenance"] = json!({"commit": "sha", "actor_id": "actor_id", "run": "run_id"});
        let mut setup = Setup::with_issuers(vec![jobs]).policy("attested.cedar", POLICIES);
        let role = |name: &str| (name.to_owned(), setup.roles[0].1.clone());
        let roles = [role(APPLY), role(RELEASE)];
        setup.roles.extend(roles);
        let key_of = |name: &str| json!([signer.public[name]]);
        setup.attestors = vec![
            json!({"name": "builds", "kind": "slsa-provenance", "keys": [signer.public["p256"], signer.public["rsa"]],
                "builders": [BUILDER]}),
            json!({"name": "reviews", "kind": "review", "keys": key_of("ed25519"), "accounts_of": {"github": ["ci"]}, "max_age": "1h"}),
            json!({"name": "plans", "kind": "plan", "keys": key_of("p384"), "accounts_of": {"github": ["ci"]}}),
        ];
        let broker = Broker::start(&setup).await;
        Some(Self { signer, issuer, key, broker })
    }

    /// A job of this commit that this account started.
    fn job(&self, commit: &str, account: &str) -> String {
        let mut claims = self.issuer.claims(AUDIENCE, WORKLOAD);
        claims["sha"] = json!(commit);
        claims["actor_id"] = json!(account);
        claims["run_id"] = json!("1536140711");
        self.key.sign(&claims)
    }

    fn operator(&self) -> String {
        self.key.sign(&self.issuer.claims(AUDIENCE, OPERATOR))
    }

    async fn ask(&self, job: &str, role: &str, attestations: &[&str]) -> Answer {
        let body = json!({"role": role, "purpose": "apply the plan of CHG-77", "attestations": attestations});
        self.broker.call("POST", "/v1/grants", Some(job), Some(&body)).await
    }

    async fn read(&self, answer: &Answer) -> Value {
        let path = format!("/v1/grants/{}", answer.grant_id());
        let answer = self.broker.call("GET", &path, Some(&self.operator()), None).await;
        answer.assert_status(200);
        answer.body
    }

    #[track_caller]
    fn assert_refused(&self, answer: &Answer, status: u16, reason: &str) {
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(self.broker.store().reasons_of(answer.request_id()), [reason], "{}", answer.text);
    }

    fn review(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut review = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "octocat/hello-world", "digest": {"gitCommit": COMMIT}}],
            "predicateType": "urn:hallpass:attestation:review:v1",
            "predicate": {
                "commit": COMMIT,
                "author": {"account": format!("github:{AUTHOR}")},
                "approvers": [{"account": format!("github:{APPROVER}")}],
                "plan_digest": plan('5'),
                "at": in_seconds(0),
            },
        });
        change(&mut review);
        self.signer.sign("ed25519", &review)
    }

    fn plan(&self, digit: char) -> String {
        let plan = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "production.tfplan", "digest": {"sha256": digit.to_string().repeat(64)}}],
            "predicateType": "urn:hallpass:attestation:plan:v1",
            "predicate": {"commit": COMMIT},
        });
        self.signer.sign("p384", &plan)
    }
}

fn in_seconds(seconds: i64) -> String {
    Timestamp::from_unix_millis((unix_now() + seconds) * 1_000).expect("an instant").to_string()
}

fn plan(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn provenance() -> Value {
    let text = include_str!("../../attestations/provenance.json");
    serde_json::from_str(text).expect("provenance")
}

#[tokio::test]
async fn only_the_approved_plan_is_applied_and_by_neither_its_author_nor_its_approver() {
    let Some(house) = House::open().await else { return };
    let (review, approved, another) = (house.review(|_| {}), house.plan('5'), house.plan('6'));
    let denied = "role_not_available";

    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&review, &approved]).await;
    answer.assert_status(201);
    let grant = house.read(&answer).await;
    let told: Vec<_> = grant["attestations"].as_array().expect("attestations").clone();
    assert_eq!(told.len(), 2, "{grant}");
    assert_eq!((&told[0]["kind"], &told[0]["attestor"]), (&json!("review"), &json!("reviews")));
    assert_eq!((&told[0]["author"], &told[0]["approvers"]), (&json!("github:1001"), &json!(["github:1002"])));
    assert_eq!(
        (&told[1]["kind"], &told[1]["plan_digest"]),
        (&json!("plan"), &json!(plan('5'))),
        "which plan it is for"
    );
    let digests: Vec<_> = told.iter().map(|one| one["digest"].clone()).collect();
    assert_eq!(grant["provenance"]["attestation_digests"], json!(digests));
    let log = format!("/v1/audit?grant={}", answer.grant_id());
    let log = house.broker.call("GET", &log, Some(&house.operator()), None).await;
    assert!(log.text.contains(&plan('5')), "{}", log.text);

    // Whoever made the change, whoever approved it, and whoever nobody can tell from them.
    for account in [AUTHOR, APPROVER] {
        let answer = house.ask(&house.job(COMMIT, account), APPLY, &[&review, &approved]).await;
        assert_eq!((answer.status, answer.error()), (403, denied), "{account}: {}", answer.text);
        assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["policy_denied"]);
    }
    let nameless = house.key.sign(&{
        let mut claims = house.issuer.claims(AUDIENCE, WORKLOAD);
        claims["sha"] = json!(COMMIT);
        claims
    });
    let answer = house.ask(&nameless, APPLY, &[&review, &approved]).await;
    house.assert_refused(&answer, 403, "policy_denied");

    // Another plan than the one that was approved; none; none that was approved; a review of another change.
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&review, &another]).await;
    house.assert_refused(&answer, 422, "attestation_mismatch");
    assert!(answer.text.contains("attestations.1"), "it says which: {}", answer.text);
    let no_plan = house.review(|review| drop(review["predicate"].as_object_mut().expect("it").remove("plan_digest")));
    for offered in [vec![review.as_str()], vec![approved.as_str()], vec![&no_plan, &approved], vec![]] {
        let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &offered).await;
        house.assert_refused(&answer, 403, "policy_denied");
    }
    let answer = house.ask(&house.job(OTHER_COMMIT, SOMEBODY_ELSE), APPLY, &[&review, &approved]).await;
    house.assert_refused(&answer, 422, "attestation_mismatch");
    let old = house.review(|review| review["predicate"]["at"] = json!("2026-01-01T00:00:00Z"));
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&old, &approved]).await;
    house.assert_refused(&answer, 422, "bad_attestation");
    // Whoever may sign plans does not sign reviews.
    let payload: Value = serde_json::from_str(&review).expect("an envelope");
    let payload = STANDARD.decode(payload["payload"].as_str().expect("it")).expect("base64");
    let forged = house.signer.sign("p384", &serde_json::from_slice(&payload).expect("a statement"));
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&forged, &approved]).await;
    house.assert_refused(&answer, 422, "bad_attestation");
    assert_eq!(house.broker.store().grant_count(), 1);
}

#[tokio::test]
async fn what_was_built_is_known_by_whoever_may_vouch_for_its_builder_and_in_every_kind_of_signature() {
    let Some(house) = House::open().await else { return };
    let job = || house.job(COMMIT, SOMEBODY_ELSE);
    for key in ["p256", "rsa", "rsa-pss"] {
        let answer = house.ask(&job(), RELEASE, &[&house.signer.sign(key, &provenance())]).await;
        assert_eq!(answer.status, 201, "{key}: {}", answer.text);
        let told = &house.read(&answer).await["attestations"][0];
        let expected = (json!("slsa-provenance"), json!(BUILDER), json!(COMMIT), json!([BUILT]));
        let is = (told["kind"].clone(), told["builder"].clone(), told["commit"].clone(), told["subjects"].clone());
        assert_eq!(is, expected, "{key}");
    }

    let signed = house.signer.sign("p256", &provenance());
    let envelope: Value = serde_json::from_str(&signed).expect("an envelope");
    let with = |name: &str, value: Value| {
        let mut changed = envelope.clone();
        changed[name] = value;
        changed.to_string()
    };
    let altered = provenance().to_string().replace("octocat", "mallory");
    let mut other_builder = provenance();
    other_builder["predicate"]["runDetails"]["builder"]["id"] = json!("https://evil.test");
    for (what, tampered) in [
        ("another payload", with("payload", json!(STANDARD.encode(altered)))),
        ("another type", with("payloadType", json!("application/json"))),
        ("no signature", with("signatures", json!([]))),
        ("a key of somebody else's", house.signer.sign("ed25519", &provenance())),
        ("another builder", house.signer.sign("p256", &other_builder)),
        ("no envelope", "{}".to_owned()),
        ("too long", format!("{signed}{}", " ".repeat(33_000))),
    ] {
        let answer = house.ask(&job(), RELEASE, &[&tampered]).await;
        house.assert_refused(&answer, 422, "bad_attestation");
        assert!(answer.text.contains("attestations.0"), "{what}: {}", answer.text);
        assert!(!answer.text.contains("octocat"), "{what}: {}", answer.text);
    }
    // Refused also where the policy would not have asked for it: nothing that was offered is passed over.
    let answer = house.ask(&job(), "app/deploy", &["{}"]).await;
    house.assert_refused(&answer, 422, "bad_attestation");
    house.ask(&job(), "app/deploy", &[&signed]).await.assert_status(201);
    let answer = house.ask(&job(), RELEASE, &[&signed, &signed]).await;
    house.assert_refused(&answer, 422, "attestation_mismatch");
    let answer = house.ask(&house.job(OTHER_COMMIT, SOMEBODY_ELSE), RELEASE, &[&signed]).await;
    house.assert_refused(&answer, 422, "attestation_mismatch");
    house.ask(&job(), RELEASE, &["{}"; 9]).await.assert_status(422);
    house.ask(&job(), RELEASE, &[]).await.assert_refused(403, "role_not_available");
}

#[tokio::test]
async fn a_statement_goes_with_an_exchange_too_and_a_preview_weighs_it() {
    let Some(house) = House::open().await else { return };
    let (job, signed) = (house.job(COMMIT, SOMEBODY_ELSE), house.signer.sign("p256", &provenance()));
    let asked =
        |offered: &[&str]| json!({"role": RELEASE, "purpose": "release what was built", "attestations": offered});
    let preview = async |offered: &[&str]| {
        let answer = house.broker.call("POST", "/v1/decisions", Some(&job), Some(&asked(offered))).await;
        answer.assert_status(200);
        answer.text_of("outcome").to_owned()
    };
    assert_eq!(preview(&[&signed]).await, "allow");
    assert_eq!(preview(&[]).await, "deny");
    assert_eq!(preview(&["{}"]).await, "deny");

    let exchange = |offered: Value| Exchange::of(&job).role(RELEASE).with("attestations", &offered.to_string());
    for wrong in [json!("{}"), json!([5]), json!({})] {
        house.broker.exchange(&exchange(wrong)).await.assert_refused(400, "invalid_request");
    }
    let answer = house.broker.exchange(&exchange(json!(["{}"]))).await;
    house.assert_refused(&answer, 400, "bad_attestation");
    let answer = house.broker.exchange(&exchange(json!([signed]))).await;
    answer.assert_status(200);
    assert_eq!(house.read(&answer).await["attestations"][0]["commit"], COMMIT);
}

#[tokio::test]
async fn what_rests_on_a_statement_is_ended_and_stopped_by_its_digest() {
    let Some(house) = House::open().await else { return };
    let signed = house.signer.sign("p256", &provenance());
    let mut second = provenance();
    second["predicate"]["runDetails"]["metadata"]["startedOn"] = json!("2023-01-01T12:34:57Z");
    let other = house.signer.sign("p256", &second);
    let ask = async |statement: &str| house.ask(&house.job(COMMIT, SOMEBODY_ELSE), RELEASE, &[statement]).await;
    let (grant, spared) = (ask(&signed).await, ask(&other).await);
    grant.assert_status(201);
    spared.assert_status(201);
    let digest = house.read(&grant).await["attestations"][0]["digest"].clone();

    let body = json!({"selector": {"attestation_digest": digest}, "reason": "the builder was broken into"});
    let begun = house.broker.call("POST", "/v1/revocations", Some(&house.operator()), Some(&body)).await;
    assert!(matches!(begun.status, 200..=202), "{}", begun.text);
    eventually("its grant ends", Duration::from_secs(30), async || {
        (house.read(&grant).await["state"] == "revoking").then_some(())
    })
    .await;
    assert_eq!(house.read(&spared).await["state"], "active");

    let body = json!({"selector": {"attestation_digest": digest}, "reason": "and so was what it built", "until": in_seconds(3_600)});
    let added = house.broker.call("POST", "/v1/quarantines", Some(&house.operator()), Some(&body)).await;
    added.assert_status(201);
    let answer = ask(&signed).await;
    house.assert_refused(&answer, 403, "quarantined");
    ask(&other).await.assert_status(201);
}
