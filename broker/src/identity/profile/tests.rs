//! What holds of every kind, by its sample.

use std::collections::BTreeSet;

use hallpass_core::port::LineageKey;
use serde_json::{Value, json};

use super::*;
use crate::identity::oidc::is_provenance_field;
use crate::identity::testing::KindIssuer;

/// Claims as the real issuer of each kind writes them.
const SAMPLES: &[(IssuerKind, &str)] = &[
    (IssuerKind::GithubActions, include_str!("../fixtures/kinds/github-actions.json")),
    (IssuerKind::Gitlab, include_str!("../fixtures/kinds/gitlab.json")),
    (IssuerKind::Kubernetes, include_str!("../fixtures/kinds/kubernetes.json")),
    (IssuerKind::Buildkite, include_str!("../fixtures/kinds/buildkite.json")),
    (IssuerKind::Circleci, include_str!("../fixtures/kinds/circleci.json")),
    (IssuerKind::TerraformCloud, include_str!("../fixtures/kinds/terraform-cloud.json")),
    (IssuerKind::Google, include_str!("../fixtures/kinds/google.json")),
];

fn issuers() -> impl Iterator<Item = (&'static Profile, KindIssuer)> {
    SAMPLES.iter().map(|(kind, sample)| (Profile::of(*kind).unwrap(), KindIssuer::new(*kind, sample)))
}

/// The sample with the claim at `path` replaced, as changes.
fn with(sample: &Value, path: &[&str], value: Value) -> Value {
    fn set(place: &mut Value, path: &[&str], value: Value) {
        match path {
            [] => *place = value,
            [first, rest @ ..] => set(&mut place[*first], rest, value),
        }
    }
    let mut changed = sample.clone();
    set(&mut changed, path, value);
    json!({ path[0]: changed[path[0]] })
}

#[test]
fn every_kind_has_a_profile_and_a_sample_or_maps_its_claims() {
    for kind in IssuerKind::ALL {
        assert_eq!(Profile::of(*kind).is_none(), kind.maps_claims(), "{kind:?}");
        assert_eq!(SAMPLES.iter().any(|(of, _)| of == kind), !kind.maps_claims(), "{kind:?}");
    }
}

#[test]
fn every_profile_is_whole() {
    for profile in Profile::ALL {
        let names: BTreeSet<_> = profile.claims.iter().map(|claim| claim.attribute).collect();
        assert_eq!(names.len(), profile.claims.len(), "{}: an attribute twice", profile.record);
        assert!(profile.claims.iter().any(|claim| claim.constancy == Constancy::Immutable && claim.always));
        for claim in profile.claims {
            assert!(!claim.path.is_empty() && !claim.advice.is_empty(), "{}", claim.attribute);
            assert!(claim.fills.is_none_or(is_provenance_field), "{}: {:?}", claim.attribute, claim.fills);
        }
    }
}

#[tokio::test]
async fn every_claim_of_a_sample_is_typed_and_every_type_is_held() {
    for (profile, issuer) in issuers() {
        let proof = issuer.verified(json!({})).await.unwrap();
        assert_eq!(proof.issuer_kind, profile.kind.as_str());
        for claim in profile.claims {
            let said = claim.path.iter().fold(&issuer.sample, |value, name| &value[*name]);
            let says = !matches!(said, Value::Null) && *said != json!("");
            let typed = proof.attributes.get(claim.attribute);
            assert_eq!(typed.is_some(), says, "{}: {}", profile.record, claim.attribute);
            let fits = match typed {
                None => true,
                Some(AttributeValue::Text(_)) => claim.shape == Shape::Text,
                Some(AttributeValue::Bool(_)) => claim.shape == Shape::Truth,
                Some(AttributeValue::Long(_)) => claim.shape == Shape::Number,
                Some(AttributeValue::List(_)) => claim.shape == Shape::Texts,
            };
            assert!(fits, "{}: {}", profile.record, claim.attribute);

            // Without a subject that is text nothing else of a token is looked at.
            let reason = if claim.path == ["sub"] { "missing_claim" } else { "malformed_claims" };
            for wrong in [json!({}), json!([[]]), json!(1.5)] {
                let refused = issuer.refusal(with(&issuer.sample, claim.path, wrong)).await;
                assert_eq!(refused, (reason, claim.name()), "{}", profile.record);
            }
            let wrong = if claim.shape == Shape::Text { json!(7) } else { json!("yes") };
            let refused = issuer.refusal(with(&issuer.sample, claim.path, wrong)).await;
            assert_eq!(refused, (reason, claim.name()), "{}", profile.record);
        }
    }
}

#[tokio::test]
async fn no_run_of_a_workload_holds_what_another_opened_where_proofs_name_the_run() {
    let another = |kind: IssuerKind| match kind {
        IssuerKind::GithubActions => json!({"run_id": "7"}),
        IssuerKind::Gitlab => json!({"pipeline_id": "7"}),
        IssuerKind::Kubernetes => json!({"kubernetes.io": {
            "namespace": "prod", "serviceaccount": {"name": "deployer", "uid": "a087d5a0-e1dd-43ec-93ac-f13d89cd13af"},
            "pod": {"name": "another", "uid": "7"},
        }}),
        IssuerKind::Buildkite => json!({"build_number": 7}),
        IssuerKind::Circleci => json!({"oidc.circleci.com/workflow-id": "7"}),
        IssuerKind::TerraformCloud => json!({"terraform_run_id": "run-7"}),
        IssuerKind::Google => json!({"google": {"compute_engine": {"instance_id": "7"}}}),
        IssuerKind::Oidc => json!({}),
    };
    for (profile, issuer) in issuers() {
        let one = issuer.verified(json!({})).await.unwrap();
        let other = issuer.verified(another(profile.kind)).await.unwrap();
        assert!(one.provenance.run.is_some(), "{}", profile.record);
        assert_eq!(one.subject, other.subject, "{}", profile.record);
        assert_ne!(one.provenance.run, other.provenance.run, "{}", profile.record);
    }
}

#[tokio::test]
async fn what_a_kind_always_says_cannot_be_missing() {
    for (profile, issuer) in issuers() {
        for claim in profile.claims.iter().filter(|claim| claim.always) {
            let refused = issuer.refusal(with(&issuer.sample, claim.path, Value::Null)).await;
            assert_eq!(refused, ("missing_claim", claim.name()), "{}", profile.record);
            if claim.shape == Shape::Text {
                let refused = issuer.refusal(with(&issuer.sample, claim.path, json!(""))).await;
                assert_eq!(refused, ("missing_claim", claim.name()), "{}", profile.record);
            }
        }
    }
}

#[tokio::test]
async fn an_attribute_is_made_of_its_own_claim_alone() {
    for (profile, issuer) in issuers() {
        for claim in profile.claims.iter().filter(|claim| claim.path != [claim.attribute]) {
            let forged = issuer.verified(json!({ claim.attribute: "forged" })).await.unwrap();
            let good = issuer.verified(json!({})).await.unwrap();
            assert_eq!(forged.attributes.get(claim.attribute), good.attributes.get(claim.attribute));
        }
    }
}

/// `deploy/identities.md` as the profiles have it.
fn documentation() -> String {
    let mut text = INTRODUCTION.to_owned();
    for profile in Profile::ALL {
        let standard = profile.kind.standard();
        let single_use = if standard.single_use { "mints once" } else { "may be shown again" };
        let known_by = if profile.has_proof_ids { "`jti`" } else { "what is signed, since it has no `jti`" };
        let max_age = standard.max_age.map_or_else(|| "none".to_owned(), |age| age.to_string());
        let url = standard.url.map_or_else(|| standard.url_hint.to_owned(), |url| format!("`{url}` unless written"));
        text.push_str(&format!(
            "\n## `{}`\n\nIn policy `principal.{}`; documented at <{}>.\n\nBy default: `url` {url}; a proof {single_use} \
             (`single_use`), and is known by {known_by}; `max_age` {max_age}, `max_lifetime` {}.\n\n\
             Who holds a grant: {}\n\n",
            profile.kind.as_str(),
            profile.record,
            profile.source,
            standard.max_lifetime,
            profile.runs,
        ));
        text.push_str("| claim | in policy | type | there | constancy | provenance | bind to it? |\n|---|---|---|---|---|---|---|\n");
        for claim in profile.claims {
            let there = if claim.always { "always" } else { "" };
            let fills = claim.fills.map(|field| format!("`{field}`")).unwrap_or_default();
            text.push_str(&format!(
                "| `{}` | `{}` | {} | {there} | {} | {fills} | {} |\n",
                claim.name(),
                claim.attribute,
                claim.shape.in_policy(),
                claim.constancy.as_str(),
                claim.advice,
            ));
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Identities: what each kind of issuer says, and what to bind policies to

Every issuer in `issuers.toml` has a `kind`. It says what the claims of its proofs mean: which are always there, their types,
and which field of the provenance each fills. A proof that lacks what its kind always says, has another type, or whose
subject and claims contradict each other is refused. `audiences` is always for you to write: an address of the broker's own,
that jobs ask for.

Bind policies to what *never changes*. Names can be changed and then given to somebody else; what is *chosen by whoever starts
it* tells nothing alone. `hallpass-broker check` tells policies that are easy to get wrong, `check --deny findings` refuses
them, and `@accepts(\"names\")` on a policy says that its authors were told and mean it.

```cedar
@id(\"payments-deploy-from-main\")
permit (principal in Issuer::\"ci\", action in [Action::\"mint\", Action::\"preview\"], resource == Role::\"payments/prod/deploy\")
when {
  principal has github &&
  principal.github.repository_id == \"222\" && principal.github.repository_owner_id == \"111\" &&
  principal.github.ref == \"refs/heads/main\" &&
  principal.github has ref_protected && principal.github.ref_protected &&
  principal.github.event_name == \"push\"
};
```

The same is in `context.provenance` for every kind, under one set of names. Textual claims are tags as well
(`principal.hasTag(\"…\")`), and of issuers of kind `oidc` those that are true or false, numbers or lists are in
`principal.truths`, `principal.numbers` and `principal.lists`. `principal.workload_type` is `ci_job`, `pod`,
`virtual_machine`, `service_account` or `service`. Of kind `oidc`, `[issuer.provenance]` says which claim fills which field.

Google signs for people with the same keys as for service accounts, which alone are taken here: an `oidc` issuer at the same URL
would make every token of either belong to two. A broker that takes service accounts has its people from elsewhere.

A grant is held by the run that opened it: `run` and `run_attempt` of the provenance, beside issuer, subject and the key that a
proof is bound to. Of kind `oidc`, map the claim that names the run; where proofs name none, everybody with the same subject
holds what any of them opened.

Clusters that call themselves the same are told apart by their keys: give each `[[issuer]]` its own `jwks_uri`, `jwks_file` or
`jwks`, and name the one that is meant in policy.

```toml
[[issuer]]
name = \"github\"
kind = \"github-actions\"
audiences = [\"https://hallpass.example.com\"]

[[issuer]]
name = \"github-server\"
kind = \"github-actions\"
url = \"https://github.example.com/_services/token\"
audiences = [\"https://hallpass.example.com\"]

[[issuer]]
name = \"gitlab\"
kind = \"gitlab\"
url = \"https://gitlab.example.com\"
audiences = [\"https://hallpass.example.com\"]

[[issuer]]
name = \"cluster-a\"
kind = \"kubernetes\"
url = \"https://kubernetes.default.svc.cluster.local\"
jwks_uri = \"https://a.clusters.example.com/openid/v1/jwks\"
audiences = [\"https://hallpass.example.com\"]

[[issuer]]
name = \"buildkite\"
kind = \"buildkite\"
audiences = [\"https://hallpass.example.com\"]

[[issuer]]
name = \"circleci\"
kind = \"circleci\"
url = \"https://oidc.circleci.com/org/5b9b9b2c-6a0f-4d0f-8d2d-3c1f5f0e7a11\"
audiences = [\"https://hallpass.example.com\"]

[[issuer]]
name = \"terraform\"
kind = \"terraform-cloud\"
audiences = [\"https://hallpass.example.com\"]

[[issuer]]
name = \"google\"
kind = \"google\"
audiences = [\"https://hallpass.example.com\"]
```
";

#[test]
fn the_documentation_is_what_the_profiles_say() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/identities.md");
    let current = documentation();
    if std::fs::read_to_string(&file).unwrap_or_default() != current {
        let fresh = std::env::temp_dir().join("identities.md");
        std::fs::write(&fresh, &current).unwrap();
        panic!("the profiles changed; if that is meant: cp {} deploy/identities.md", fresh.display());
    }
}

#[test]
fn the_issuers_of_the_documentation_load() {
    let toml: String = INTRODUCTION.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let files = [("issuers.toml".to_owned(), toml)].into_iter().collect();
    let bundle = crate::config::bundle::Bundle::from_files(files).unwrap();
    let kinds: BTreeSet<_> = bundle.issuers.iter().map(|issuer| issuer.kind).collect();
    assert_eq!(kinds.len() + 1, IssuerKind::ALL.len(), "every kind but oidc: {kinds:?}");
    let google = bundle.issuers.iter().find(|issuer| issuer.kind == IssuerKind::Google).unwrap();
    assert_eq!(
        google.keys,
        crate::config::issuer::KeySource::Discovery {
            jwks_origins: vec!["https://www.googleapis.com".to_owned()],
            dangerous_allow_http: false
        }
    );
    assert!(!google.rules.single_use);
    let github = bundle.issuers.iter().find(|issuer| issuer.name.as_str() == "github").unwrap();
    assert_eq!(github.url, "https://token.actions.githubusercontent.com");
    assert!(github.rules.single_use && github.rules.max_age.is_some());
}

#[test]
fn the_kinds_whose_jobs_choose_their_subjects_are_kinds_that_say_a_repository() {
    for name in LineageKey::KINDS_OF_CHOSEN_SUBJECTS {
        let profile = Profile::of(IssuerKind::parse(name).expect(name)).expect(name);
        assert!(profile.claims.iter().any(|claim| claim.always && claim.fills == Some("repository_id")), "{name}");
    }
}
