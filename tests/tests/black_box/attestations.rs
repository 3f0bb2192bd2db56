//! What others signed about a change or a build is a part of the decision: it is verified, is about the same change as the
//! proof, and stays in the record, by which what rests on it is ended. A second implementation signs (`attestations/sign.py`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hallpass_sdk::wire::Timestamp;
use hallpass_tests::config::{AUDIENCE, OPERATOR, Setup, trust};
use hallpass_tests::{Answer, Broker, Exchange, Issuer, SigningKey, component, eventually, unix_now};
use serde_json::{Value, json};

use crate::WORKLOAD;

const COMMIT: &str = "c27d339ee6075c1f744c5d4b200f7901aad2c369";
const OTHER_COMMIT: &str = "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d";
const BUILT: &str = "sha256:fe4fe40ac7250263c5dbe1cf3138912f3f416140aa248637a60d65fe22c47da4";
const BUILDER: &str = "https://github.com/actions/runner/github-hosted";
const APPLY: &str = "payments/prod/apply";
const RELEASE: &str = "payments/prod/release";
const PUBLISH: &str = "payments/prod/publish";
const REPOSITORY_ID: &str = "222";
/// Of GitHub Actions, as it was published, and what it verifies by.
const GITHUB_BUNDLE: &str = include_str!("../../../broker/src/identity/fixtures/sigstore/github-actions.json");
const PUBLIC_GOOD: &str = include_str!("../../../broker/src/identity/fixtures/sigstore/public-good-root.json");
const GITHUB_WORKFLOW: &str = "https://github.com/github/artifact-attestations-workflows/.github/workflows/attest.yml@09b495c3f12c7881b3cc17209a327792065c1a1d";
const GITHUB_COMMIT: &str = "95baf27389e83e6a5c48f42e190d48d7abcea19e";
/// As the authority of `sign.py` names whoever has its certificate.
const CERTIFIED: &str = "https://ci.test/build.yml@refs/heads/main";
const AUTHOR: &str = "1001";
const APPROVER: &str = "1002";
const SOMEBODY_ELSE: &str = "1003";
/// The author's other one.
const SECOND_OF_AUTHOR: &str = "1009";
/// `github-actions[bot]`, which is nobody's.
const BOT: &str = "41898282";

const OPERATORS: &str = r#"
@id("operators-halt")
permit (principal in Group::"platform", action == Action::"suspend", resource);

@id("release-what-github-built")
permit (principal is Workload, action == Action::"mint", resource == Role::"payments/prod/publish")
when { context has build && ["github", "certified"].contains(context.build.attestor) };
"#;

/// The policies that the documentation has, as they stand there.
fn policies() -> String {
    let text = include_str!("../../../deploy/attestations/README.md");
    let (_, after) = text.split_once("```cedar\n").expect("policies");
    let (policies, rest) = after.split_once("```").expect("their end");
    assert!(!rest.contains("```cedar"), "there are more of them, which nothing tries");
    format!("{policies}{OPERATORS}")
}

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
        jobs["provenance"] = json!({"commit": "sha", "actor_id": "actor_id", "run": "run_id", "run_attempt": "run_attempt", "repository_id": "repository_id"});
        let mut setup = Setup::with_issuers(vec![jobs]).policy("attested.cedar", &policies());
        let role = |name: &str| (name.to_owned(), setup.roles[0].1.clone());
        let roles = [role(APPLY), role(RELEASE), role(PUBLISH)];
        setup.roles.extend(roles);
        let key_of = |name: &str| json!([signer.public[name]]);
        setup.attestors = vec![
            json!({"name": "builds", "kind": "slsa-provenance", "keys": [signer.public["p256"], signer.public["rsa"]],
                "builders": [BUILDER]}),
            json!({"name": "reviews", "kind": "review", "keys": key_of("ed25519"), "accounts_of": {"github": ["ci"]}, "max_age": "1h"}),
            json!({"name": "plans", "kind": "plan", "keys": key_of("p384"), "accounts_of": {"github": ["ci"]}}),
            json!({"name": "certified", "kind": "slsa-provenance", "builders": [BUILDER],
                "certificates": {"identity": CERTIFIED, "authorities": [signer.public["authority"]]}}),
            json!({"name": "github", "kind": "slsa-provenance", "builders": [BUILDER],
                "certificates": {"identity": GITHUB_WORKFLOW, "trusted_root": PUBLIC_GOOD,
                    "oidc_issuer": "https://token.actions.githubusercontent.com", "repository_id": "804070735"}}),
        ];
        let member = |name: &str, accounts: &[&str]| {
            let accounts: Vec<_> = accounts.iter().map(|account| format!("github:{account}")).collect();
            json!({"issuer": "ci", "subject": format!("operator:{name}"), "accounts": accounts})
        };
        setup.members = vec![
            member("ada", &[AUTHOR, SECOND_OF_AUTHOR]),
            member("bob", &[APPROVER]),
            member("carol", &[SOMEBODY_ELSE]),
        ];
        let broker = Broker::start(&setup).await;
        Some(Self { signer, issuer, key, broker })
    }

    /// A job of this commit that this account started.
    fn job(&self, commit: &str, account: &str) -> String {
        self.job_with(|claims| {
            claims["sha"] = json!(commit);
            claims["actor_id"] = json!(account);
        })
    }

    /// A job of somebody else's with other claims.
    fn job_with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.issuer.claims(AUDIENCE, WORKLOAD);
        claims["sha"] = json!(COMMIT);
        claims["actor_id"] = json!(SOMEBODY_ELSE);
        claims["repository_id"] = json!(REPOSITORY_ID);
        claims["run_id"] = json!("1536140711");
        claims["run_attempt"] = json!("1");
        change(&mut claims);
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
    // Of the repository that the documentation's policy asks for.
    serde_json::from_str(&text.replace("octocat/hello-world", "acme/payments")).expect("provenance")
}

#[tokio::test]
async fn only_the_approved_plan_is_applied_and_by_neither_its_author_nor_its_approver() {
    let Some(house) = House::open().await else { return };
    let (review, approved, another) = (house.review(|_| {}), house.plan('5'), house.plan('6'));
    let denied = "role_not_available";

    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&review, &approved]).await;
    answer.assert_status(201);
    assert_eq!(claims(&answer)["plan_digest"], json!(plan('5')), "whoever applies it can tell which");
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
    for account in [AUTHOR, APPROVER, SECOND_OF_AUTHOR, BOT] {
        let answer = house.ask(&house.job(COMMIT, account), APPLY, &[&review, &approved]).await;
        assert_eq!((answer.status, answer.error()), (403, denied), "{account}: {}", answer.text);
        assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["policy_denied"]);
    }
    let without = |claim: &str| house.job_with(|claims| drop(claims.as_object_mut().expect("claims").remove(claim)));
    let nameless = without("actor_id");
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
    // Whoever may speak of one host's accounts does not say who agreed at another.
    let elsewhere = house.review(|review| review["predicate"]["approvers"] = json!([{"account": "gitlab:1002"}]));
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&elsewhere, &approved]).await;
    house.assert_refused(&answer, 422, "bad_attestation");
    // A job of another repository, with everything else as it should be.
    let stranger = house.job_with(|claims| claims["repository_id"] = json!("223"));
    let answer = house.ask(&stranger, APPLY, &[&review, &approved]).await;
    house.assert_refused(&answer, 403, "policy_denied");
    // One that somebody else ran again; one of no commit, of which no review is; and an author who is nobody's.
    let again = house.job_with(|claims| claims["run_attempt"] = json!("2"));
    for job in [again, without("run_attempt"), without("sha")] {
        let answer = house.ask(&job, APPLY, &[&review, &approved]).await;
        house.assert_refused(&answer, 403, "policy_denied");
    }
    let by_bot = house.review(|review| review["predicate"]["author"] = json!({"account": format!("github:{BOT}")}));
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&by_bot, &approved]).await;
    house.assert_refused(&answer, 403, "policy_denied");
    // A review of a plan that is not offered is one of nothing that is asked for; of one that is, it has no commit.
    let of_plan = house.review(|review| {
        review["subject"][0]["digest"] = json!({"sha256": "5".repeat(64)});
        review["predicate"].as_object_mut().expect("it").remove("commit");
    });
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&of_plan]).await;
    house.assert_refused(&answer, 422, "attestation_mismatch");
    assert!(answer.text.contains("attestations.0"), "it says which: {}", answer.text);
    let unbound = house.signer.sign(
        "p384",
        &json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "production.tfplan", "digest": {"sha256": "5".repeat(64)}}],
            "predicateType": "urn:hallpass:attestation:plan:v1",
            "predicate": {},
        }),
    );
    // Provenance of that commit does not make the change one of it.
    let built = house.signer.sign("p256", &provenance());
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), APPLY, &[&of_plan, &unbound, &built]).await;
    house.assert_refused(&answer, 403, "policy_denied");
    assert_eq!(house.broker.store().grant_count(), 1);
}

/// What the token of a grant says.
fn claims(answer: &Answer) -> Value {
    let token = answer.body["credential"]["token"].as_str().expect("a token");
    let payload = token.split('.').nth(1).expect("its claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("JSON")
}

#[tokio::test]
async fn a_signer_with_a_certificate_of_the_configured_authority_vouches_as_well_as_one_with_a_key() {
    let Some(house) = House::open().await else { return };
    let bundle = |certificate: &str, key: &str| {
        let envelope: Value = serde_json::from_str(&house.signer.sign(key, &provenance())).expect("an envelope");
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"certificate": {"rawBytes": house.signer.public[certificate]}},
            "dsseEnvelope": envelope,
        })
        .to_string()
    };
    let job = || house.job(COMMIT, SOMEBODY_ELSE);
    let answer = house.ask(&job(), PUBLISH, &[&bundle("certificate", "certified")]).await;
    answer.assert_status(201);
    assert_eq!(house.read(&answer).await["attestations"][0]["attestor"], "certified");
    // Another's certificate for that key, one that has ended, one for another name, and another's key.
    for (certificate, key) in [
        ("self_signed", "certified"),
        ("expired", "certified"),
        ("other_name", "certified"),
        ("certificate", "ed25519"),
    ] {
        let answer = house.ask(&job(), PUBLISH, &[&bundle(certificate, key)]).await;
        house.assert_refused(&answer, 422, "bad_attestation");
        assert!(!answer.text.contains("acme/payments"), "{certificate}: {}", answer.text);
    }
}

#[tokio::test]
async fn provenance_that_github_actions_made_is_verified_by_the_public_root() {
    let Some(house) = House::open().await else { return };
    let job = || house.job(GITHUB_COMMIT, SOMEBODY_ELSE);
    let answer = house.ask(&job(), PUBLISH, &[GITHUB_BUNDLE]).await;
    answer.assert_status(201);
    let told = &house.read(&answer).await["attestations"][0];
    assert_eq!((&told["attestor"], &told["commit"]), (&json!("github"), &json!(GITHUB_COMMIT)));

    let mut other_time: Value = serde_json::from_str(GITHUB_BUNDLE).expect("a bundle");
    other_time["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = json!("1716578065");
    let answer = house.ask(&job(), PUBLISH, &[&other_time.to_string()]).await;
    house.assert_refused(&answer, 422, "bad_attestation");
    // Of another commit than the proof; and by nobody whom that role's policy asks for.
    let answer = house.ask(&house.job(COMMIT, SOMEBODY_ELSE), PUBLISH, &[GITHUB_BUNDLE]).await;
    house.assert_refused(&answer, 422, "attestation_mismatch");
    let answer = house.ask(&job(), RELEASE, &[GITHUB_BUNDLE]).await;
    house.assert_refused(&answer, 403, "policy_denied");
}

#[tokio::test]
async fn what_was_built_is_known_by_whoever_may_vouch_for_its_builder_and_in_every_kind_of_signature() {
    let Some(house) = House::open().await else { return };
    let job = || house.job(COMMIT, SOMEBODY_ELSE);
    for key in ["p256", "rsa", "rsa-pss"] {
        let answer = house.ask(&job(), RELEASE, &[&house.signer.sign(key, &provenance())]).await;
        assert_eq!(answer.status, 201, "{key}: {}", answer.text);
        assert_eq!(claims(&answer)["plan_digest"], Value::Null, "{key}: it is for no plan");
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
    let altered = provenance().to_string().replace("acme", "mallory");
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
        assert!(!answer.text.contains("acme/payments"), "{what}: {}", answer.text);
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
