//! Each kind of issuer on the running broker: its own claims decide, in their types, and fill the record.

use std::fs;
use std::path::Path;

use hallpass_tests::config::{AUDIENCE, RELEASE_ROLE, Setup};
use hallpass_tests::third_party::Provider;
use hallpass_tests::{Answer, Broker, Exchange, Issuer, SigningKey};
use serde_json::{Value, json};

/// The kinds, each with a condition that its sample fulfils, a claim by which another workload is told, and what its sample
/// fills of the provenance.
const KINDS: &[(&str, &str, &str, &str)] = &[
    (
        "github-actions",
        "principal has github && principal.github.repository_id == \"456789\" && principal.github has ref_protected && \
         principal.github.ref_protected && principal.github has environment && \
         principal.github.environment == \"Production:V1\"",
        "repository_id",
        "456789",
    ),
    (
        "gitlab",
        "principal has gitlab && principal.gitlab.project_id == \"20\" && !principal.gitlab.ref_protected && \
         principal.gitlab has groups_direct && principal.gitlab.groups_direct.contains(\"mygroup/mysubgroup\") && \
         principal.gitlab has runner_id && principal.gitlab.runner_id == 1",
        "project_id",
        "20",
    ),
    (
        "kubernetes",
        "principal has kubernetes && \
         principal.kubernetes.service_account_uid == \"a087d5a0-e1dd-43ec-93ac-f13d89cd13af\" && \
         principal has workload_type && principal.workload_type == \"pod\"",
        "kubernetes.io",
        "",
    ),
    (
        "buildkite",
        "principal has buildkite && principal.buildkite.pipeline_id == \"0184990a-477b-4fa8-9968-496074483cef\" && \
         principal.buildkite.build_number < 6",
        "pipeline_id",
        "0184990a-477b-4fa8-9968-496074483cef",
    ),
    (
        "circleci",
        "principal has circleci && principal.circleci.project_id == \"7c1d2e3f-4a5b-4c6d-8e7f-90a1b2c3d4e5\" && \
         principal.circleci has ssh_rerun && !principal.circleci.ssh_rerun && principal.circleci has context_ids && \
         principal.circleci.context_ids.contains(\"cb32986e-2f6f-4f43-b2bd-d3c2fd98e903\")",
        "oidc.circleci.com/context-ids",
        "7c1d2e3f-4a5b-4c6d-8e7f-90a1b2c3d4e5",
    ),
    (
        "terraform-cloud",
        "principal has terraform && principal.terraform.workspace_id == \"ws-mbsd5E3Ktt5Rg2Xm\" && \
         principal.terraform.run_phase == \"apply\"",
        "terraform_workspace_id",
        "ws-mbsd5E3Ktt5Rg2Xm",
    ),
    (
        "google",
        "principal has google && principal.google.service_account_id == \"112010400000000710080\" && principal.google has zone && \
         principal.google has project_number && principal.google.project_number == 739419398126",
        "sub",
        "",
    ),
];

/// What the real issuer of a kind says of a workload.
fn sample(kind: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../broker/src/identity/fixtures/kinds/{kind}.json"));
    serde_json::from_str(&fs::read_to_string(file).expect("the sample is there")).expect("the sample is JSON")
}

/// An issuer of a kind as it is by default, but for where it is.
fn entry(kind: &str, url: &str) -> Value {
    json!({
        "name": "ci", "kind": kind, "url": url, "audiences": [AUDIENCE], "algorithms": ["ES256", "RS256"],
        "dangerous_allow_http": true,
    })
}

/// The standard roles, of which `app/release` is open by this condition alone.
fn released_by(issuers: Vec<Value>, condition: &str) -> Setup {
    let mut setup = Setup::with_issuers(issuers);
    let (name, policies) = setup.policies.first_mut().expect("the standard policies");
    assert_eq!(name, "standard.cedar");
    let head = policies.split("@id(\"release-from-main-only\")").next().expect("a part").to_owned();
    let release = format!(
        "@id(\"release\")\npermit (principal in Issuer::\"ci\", action == Action::\"mint\", resource == \
         Role::\"{RELEASE_ROLE}\")\nwhen {{ {condition} }};\n"
    );
    *policies = head + &release;
    setup
}

struct House {
    issuer: Issuer,
    key: SigningKey,
    broker: Broker,
}

impl House {
    async fn open(kind: &str, condition: &str) -> Self {
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let broker = Broker::start(&released_by(vec![entry(kind, issuer.url())], condition)).await;
        Self { issuer, key, broker }
    }

    /// A proof with these claims over the standard ones; null removes one.
    fn proof(&self, claims: &Value) -> String {
        let mut all = self.issuer.claims(AUDIENCE, "");
        let all = all.as_object_mut().expect("an object");
        for (name, value) in claims.as_object().expect("an object").iter().filter(|(name, _)| *name != "jti") {
            all.insert(name.clone(), value.clone());
        }
        all.retain(|_, value| !value.is_null());
        self.key.sign(&Value::Object(all.clone()))
    }

    async fn release(&self, claims: &Value) -> Answer {
        self.broker.exchange(&Exchange::of(&self.proof(claims)).role(RELEASE_ROLE)).await
    }

    fn reasons(&self, answer: &Answer) -> Vec<String> {
        self.broker.store().reasons_of(answer.request_id())
    }
}

fn with(claims: &Value, changes: Value) -> Value {
    let mut changed = claims.clone();
    for (name, value) in changes.as_object().expect("an object") {
        changed[name] = value.clone();
    }
    changed
}

#[tokio::test]
async fn what_each_kind_says_decides_in_its_type_and_is_recorded() {
    for (kind, condition, claim, repository_id) in KINDS {
        let house = House::open(kind, condition).await;
        let good = sample(kind);
        let proof = house.proof(&good);
        let answer = house.broker.exchange(&Exchange::of(&proof).role(RELEASE_ROLE)).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text);

        let grant = house.broker.call("GET", &format!("/v1/grants/{}", answer.grant_id()), Some(&proof), None).await;
        grant.assert_status(200);
        assert_eq!(grant.body["identity"]["kind"], "workload", "{}", grant.text);
        let filled = grant.body["provenance"]["repository_id"].as_str().unwrap_or_default();
        assert_eq!(filled, *repository_id, "{kind}: {}", grant.text);

        // Another workload, told by what never changes.
        let other = match *kind {
            "kubernetes" => {
                json!({"kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "deployer", "uid": "x"}}})
            }
            "circleci" => json!({ *claim: ["x"] }),
            // Its subject has the id as well.
            "github-actions" => json!({ *claim: "x", "sub": "repo:octo-org@123456/octo-repo@x:ref:refs/heads/main" }),
            _ => json!({ *claim: "x" }),
        };
        let refused = house.release(&with(&good, other)).await;
        refused.assert_refused(400, "invalid_target");
        // What the kind always says.
        let missing = if *kind == "circleci" { "oidc.circleci.com/project-id" } else { claim };
        let refused = house.release(&with(&good, json!({ missing: null }))).await;
        refused.assert_refused(400, "invalid_request");
        assert_eq!(house.reasons(&refused), ["missing_claim"], "{kind}");
        assert_eq!(house.broker.store().grant_count(), 1, "{kind}: a refused request left a grant");
    }
}

/// `octo-org/octo-repo` as it is, and what becomes of it: under another name, with another owner, and a stranger's of the
/// same name after it was deleted.
fn lives() -> [(&'static str, Value); 5] {
    let before = with(
        &sample("github-actions"),
        json!({"sub": "repo:octo-org/octo-repo:ref:refs/heads/main", "environment": null}),
    );
    let named = |owner: &str, name: &str, owner_id: &str, id: &str| {
        with(
            &before,
            json!({
                "repository": format!("{owner}/{name}"), "repository_owner": owner, "repository_owner_id": owner_id,
                "repository_id": id, "sub": format!("repo:{owner}@{owner_id}/{name}@{id}:ref:refs/heads/main"),
            }),
        )
    };
    [
        ("as it was", before.clone()),
        ("with the new form of its subject", named("octo-org", "octo-repo", "123456", "456789")),
        ("renamed", named("octo-org", "renamed", "123456", "456789")),
        ("transferred", named("other-org", "octo-repo", "777", "456789")),
        ("made anew", named("octo-org", "octo-repo", "123456", "999999")),
    ]
}

#[tokio::test]
async fn a_policy_by_id_follows_a_repository_and_a_policy_by_name_follows_the_name() {
    let by_id = "context.provenance has repository_id && context.provenance.repository_id == \"456789\"";
    let by_ids = "principal has github && principal.github.repository_id == \"456789\" && \
                  principal.github.repository_owner_id == \"123456\"";
    let by_name = "context.provenance has repository && context.provenance.repository == \"octo-org/octo-repo\"";
    for (condition, allowed) in [
        (by_id, ["as it was", "with the new form of its subject", "renamed", "transferred"].as_slice()),
        (by_ids, ["as it was", "with the new form of its subject", "renamed"].as_slice()),
        // Why `check` tells it: whoever makes a repository of that name anew has the role.
        (by_name, ["as it was", "with the new form of its subject", "made anew"].as_slice()),
    ] {
        let house = House::open("github-actions", condition).await;
        for (life, claims) in lives() {
            let answer = house.release(&claims).await;
            if allowed.contains(&life) {
                assert_eq!(answer.status, 200, "{condition}: {life}: {}", answer.text);
            } else {
                answer.assert_refused(400, "invalid_target");
            }
        }
    }
}

#[tokio::test]
async fn a_proof_without_an_id_mints_once_too() {
    let house = House::open("circleci", "true").await;
    let proof = house.proof(&with(&sample("circleci"), json!({"jti": null})));
    let unnamed = |proof: &str| Exchange::of(proof).role(RELEASE_ROLE);
    // The harness gives every proof an id: this one has none.
    let mut claims = house.issuer.claims(AUDIENCE, "");
    let object = claims.as_object_mut().expect("an object");
    object.remove("jti");
    object.extend(sample("circleci").as_object().expect("an object").clone());
    let token = house.key.sign(&claims);
    house.broker.exchange(&unnamed(&token)).await.assert_status(200);
    let again = house.broker.exchange(&unnamed(&token)).await;
    again.assert_refused(400, "invalid_request");
    assert_eq!(house.reasons(&again), ["replayed"]);
    house.broker.exchange(&unnamed(&proof)).await.assert_status(200);
}

#[tokio::test]
async fn a_token_of_a_secret_or_of_a_person_is_refused() {
    let house = House::open("google", "true").await;
    let person = with(&sample("google"), json!({"email": "ada@example.com", "google": null}));
    let refused = house.release(&person).await;
    refused.assert_refused(400, "invalid_request");
    assert_eq!(house.reasons(&refused), ["malformed_claims"]);
    let unverified = house.release(&with(&sample("google"), json!({"email_verified": false}))).await;
    assert_eq!(house.reasons(&unverified), ["malformed_claims"]);
    house.release(&sample("google")).await.assert_status(200);
}

#[tokio::test]
async fn clusters_that_call_themselves_the_same_are_told_apart_by_their_keys() {
    const ISS: &str = "https://kubernetes.default.svc.cluster.local";
    let (one, other, stranger) = (SigningKey::es256("one"), SigningKey::es256("other"), SigningKey::es256("stranger"));
    let cluster = |name: &str, key: &SigningKey| {
        let mut cluster = entry("kubernetes", ISS);
        cluster["name"] = json!(name);
        cluster["jwks"] = json!(json!({"keys": [key.jwk()]}).to_string());
        cluster
    };
    let setup = released_by(vec![cluster("ci", &one), cluster("b", &other)], "true");
    let broker = Broker::start(&setup).await;
    let now = hallpass_tests::unix_now();
    let standard = json!({"iss": ISS, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 300});
    let claims = with(&with(&sample("kubernetes"), standard), json!({"jti": "a"}));
    let release = async |key: &SigningKey| broker.exchange(&Exchange::of(&key.sign(&claims)).role(RELEASE_ROLE)).await;
    release(&one).await.assert_status(200);
    release(&other).await.assert_refused(400, "invalid_target");
    release(&stranger).await.assert_refused(400, "invalid_request");
    // Shown again, as a pod does after a crash.
    release(&one).await.assert_status(200);
}

// CASE POL-009
#[tokio::test]
async fn check_tells_a_policy_that_is_easy_to_get_wrong_and_refuses_it_when_asked_to() {
    let key = SigningKey::es256("key-1");
    let issuer = Issuer::start(&[&key]).await;
    // Without what is wrong with the standard bundle as well.
    let bundle = |condition: &str| {
        let mut setup = released_by(vec![entry("github-actions", issuer.url())], condition);
        setup.roles.retain(|(name, _)| name == RELEASE_ROLE);
        for (_, policies) in &mut setup.policies {
            let from = policies.find("@id(\"release\")").expect("it is there");
            *policies = policies.split_off(from);
        }
        setup
    };
    let broker = Broker::start(&bundle("principal.subject like \"repo:acme*\"")).await;
    let told = broker.command(["check"]);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success(), "{text}");
    for part in ["standard.cedar:", "policy \"release\": [wildcard]", "[subject]", "repository_id", "repo:acme-evil"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let refused = broker.command(["check", "--deny", "findings"]);
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stderr));

    let by_id = "context.provenance has repository_id && context.provenance.repository_id == \"222\"";
    let good = Broker::start(&bundle(by_id)).await;
    let passed = good.command(["check", "--deny", "findings"]);
    assert!(passed.status.success(), "{}", String::from_utf8_lossy(&passed.stderr));
}

#[tokio::test]
async fn a_certified_providers_tokens_are_read_by_their_kinds() {
    let Some(provider) = Provider::start() else { return };
    for (kind, condition, ..) in
        KINDS.iter().filter(|(kind, ..)| ["github-actions", "gitlab", "kubernetes"].contains(kind))
    {
        let mut claims = sample(kind);
        // The provider gives its own.
        claims.as_object_mut().expect("an object").remove("jti");
        provider.workload(&claims).await;
        let broker = Broker::start(&released_by(vec![entry(kind, provider.url())], condition)).await;
        let exchange = Exchange::of(&provider.token(AUDIENCE).await).role(RELEASE_ROLE);
        let answer = broker.exchange(&exchange).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text);
        let elsewhere = Exchange::of(&provider.token("https://elsewhere.test").await).role(RELEASE_ROLE);
        broker.exchange(&elsewhere).await.assert_refused(400, "invalid_request");
        let conflict = match *kind {
            "github-actions" => json!({"repository": "octo-org/other"}),
            "gitlab" => json!({"project_path": "my-group/other"}),
            _ => json!({"sub": "system:serviceaccount:dev:deployer"}),
        };
        provider.claims(&conflict).await;
        let refused = broker.exchange(&Exchange::of(&provider.token(AUDIENCE).await).role(RELEASE_ROLE)).await;
        refused.assert_refused(400, "invalid_request");
        assert_eq!(broker.store().reasons_of(refused.request_id()), ["claim_conflict"], "{kind}");
    }
}
