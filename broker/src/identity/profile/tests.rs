//! What holds of every kind, by its sample.

use std::collections::BTreeSet;

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

            for wrong in [json!({}), json!([[]]), json!(1.5)] {
                let refused = issuer.refusal(with(&issuer.sample, claim.path, wrong)).await;
                assert_eq!(refused, ("malformed_claims", claim.name()), "{}", profile.record);
            }
            let wrong = if claim.shape == Shape::Text { json!(7) } else { json!("yes") };
            let refused = issuer.refusal(with(&issuer.sample, claim.path, wrong)).await;
            assert_eq!(refused, ("malformed_claims", claim.name()), "{}", profile.record);
        }
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
