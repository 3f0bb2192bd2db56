//! What the kinds of issuers say, in its types.

use std::collections::BTreeSet;

use hallpass_core::identity::Attributes;
use serde_json::json;

use super::*;
use crate::identity::profile::{Claim, Constancy, Profile, Shape};
use crate::policy::claims::{Claims, RECORDS};

/// A principal of a kind that says everything that it can.
fn of(profile: &Profile) -> PolicyQuery {
    let mut query = query();
    query.principal.issuer_kind = profile.kind.as_str().to_owned();
    query.principal.attributes = everything(profile);
    query
}

pub(super) fn everything(profile: &Profile) -> Attributes {
    profile.claims.iter().map(|claim| (claim.attribute.to_owned(), said(claim))).collect()
}

/// The claim that says for good where a proof of this kind comes from.
pub(super) fn origin(profile: &Profile) -> &'static Claim {
    let fills = |field| profile.claims.iter().find(|claim| claim.fills == Some(field));
    fills("repository_id").or_else(|| fills("actor_id")).unwrap()
}

fn said(claim: &Claim) -> AttributeValue {
    match claim.shape {
        Shape::Text => AttributeValue::Text("a".to_owned()),
        Shape::Truth => AttributeValue::Bool(true),
        Shape::Number => AttributeValue::Long(7),
        Shape::Texts => AttributeValue::List(vec!["a".to_owned(), "b".to_owned()]),
    }
}

/// A condition that the claim of [`said`] fulfils.
fn condition(profile: &Profile, claim: &Claim) -> String {
    let record = format!("principal.{}", profile.record);
    let place = format!("{record}.{}", claim.attribute);
    let has = if claim.always { String::new() } else { format!("{record} has {} && ", claim.attribute) };
    let asked = match claim.shape {
        Shape::Text => format!("{place} == \"a\""),
        Shape::Truth => place,
        Shape::Number => format!("{place} == 7 && {place} < 8"),
        Shape::Texts => format!("{place}.contains(\"b\") && {place} == [\"a\", \"b\"]"),
    };
    format!("principal has {} && {has}{asked}", profile.record)
}

fn permit(condition: &str) -> String {
    format!("@id(\"a\") permit(principal is Workload, action == Action::\"mint\", resource) when {{ {condition} }};")
}

#[test]
fn every_claim_of_every_kind_can_be_asked_for_in_its_type() {
    for profile in Profile::ALL {
        let origin = origin(profile);
        assert!(RECORDS.contains(&(profile.kind.as_str(), profile.record, origin.attribute)), "{}", profile.record);
        assert_eq!((origin.shape, origin.always, origin.constancy), (Shape::Text, true, Constancy::Immutable));
        let conditions: Vec<_> = profile.claims.iter().map(|claim| condition(profile, claim)).collect();
        for condition in &conditions {
            assert_eq!(outcome(&permit(condition), &of(profile)), Outcome::Allow, "{condition}");
            // Of another kind, and of none, whatever it is called.
            let mut other = of(profile);
            other.principal.issuer_kind = "oidc".to_owned();
            assert_eq!(outcome(&permit(condition), &other), Outcome::Deny, "{condition}");
        }
    }
    assert_eq!(RECORDS.len(), Profile::ALL.len());
}

#[test]
fn what_is_no_text_can_be_asked_for_by_its_type_of_every_kind_and_no_other_way() {
    let mut asked = 0;
    for profile in Profile::ALL {
        for claim in profile.claims {
            let name = claim.attribute;
            let (collection, holds) = match claim.shape {
                Shape::Text => continue,
                Shape::Truth => ("truths", ""),
                Shape::Number => ("numbers", " == 7"),
                Shape::Texts => ("lists", ".contains(\"b\")"),
            };
            let read = format!(
                "principal.{collection}.hasTag(\"{name}\") && principal.{collection}.getTag(\"{name}\"){holds} && \
                 !principal.hasTag(\"{name}\")"
            );
            assert_eq!(outcome(&permit(&read), &of(profile)), Outcome::Allow, "{}: {read}", profile.record);
            asked += 1;
        }
    }
    assert!(asked >= 10, "{asked}");
}

/// As [`crate::identity::spiffe`] makes it.
#[test]
fn whether_a_spiffe_proof_serves_once_is_true_or_false_and_no_text() {
    let mut query = query();
    query.principal.issuer_kind = "spiffe".to_owned();
    for single_use in [true, false] {
        query.principal.attributes = Attributes::from([("single_use".to_owned(), AttributeValue::Bool(single_use))]);
        let read = permit("principal.truths.hasTag(\"single_use\") && principal.truths.getTag(\"single_use\")");
        let expected = if single_use { Outcome::Allow } else { Outcome::Deny };
        assert_eq!(outcome(&read, &query), expected, "{single_use}");
        assert_eq!(outcome(&permit("principal.hasTag(\"single_use\")"), &query), Outcome::Deny);
    }
}

#[test]
fn what_is_read_as_another_type_than_any_kind_gives_is_known() {
    let claims = Claims::published().unwrap();
    let place = |collection: &str, name: &str| claims.misread(collection, name).map(|misread| misread.collection);
    for profile in Profile::ALL {
        for claim in profile.claims {
            let right = match claim.shape {
                Shape::Text => "",
                Shape::Truth => "truths",
                Shape::Number => "numbers",
                Shape::Texts => "lists",
            };
            for collection in ["", "truths", "numbers", "lists"] {
                let expected = (collection != right).then_some(right);
                assert_eq!(place(collection, claim.attribute), expected, "{}: {collection}", claim.attribute);
            }
        }
    }
    assert_eq!(place("", "single_use"), Some("truths"));
    assert_eq!((place("", "department"), place("lists", "groups"), place("truths", "single_use")), (None, None, None));
}

#[test]
fn the_schema_has_no_other_claims() {
    let fields = |record: &str| {
        let name = super::super::super::SCHEMA.split(&format!("{record}?: ")).nth(1).unwrap();
        let name: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
        let body = super::super::super::SCHEMA.split(&format!("type {name} = {{")).nth(1).unwrap();
        let body = body.split("};").next().unwrap();
        let fields = body.lines().filter_map(|line| line.trim().split_once(':'));
        fields.map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>()
    };
    for profile in Profile::ALL {
        let claims = profile.claims.iter().map(|claim| {
            let mark = if claim.always { "" } else { "?" };
            format!("{}{mark}", claim.attribute)
        });
        assert_eq!(fields(profile.record), claims.collect(), "{}", profile.record);
    }
}

#[test]
fn a_misspelt_claim_does_not_load() {
    let misspelt = permit("principal has github && principal.github.repositry_id == \"222\"");
    assert!(refused(&misspelt).contains("repositry_id"), "{}", refused(&misspelt));
    let another_type = permit("principal has gitlab && principal.gitlab.ref_protected == \"true\"");
    assert!(!refused(&another_type).is_empty());
    let unasked = permit("principal has github && principal.github.environment == \"production\"");
    assert!(!refused(&unasked).is_empty(), "what may be missing is asked for first");
}

#[test]
fn a_record_is_whole_or_not_there() {
    let text = permit("principal has github && principal.github.repository_id == \"a\"");
    let github = Profile::ALL[0];
    for claim in github.claims.iter().filter(|claim| claim.always) {
        let mut query = of(github);
        query.principal.attributes.remove(claim.attribute);
        assert_eq!(outcome(&text, &query), Outcome::Deny, "{} is missing", claim.attribute);
        query.principal.attributes.insert(claim.attribute.to_owned(), AttributeValue::Long(7));
        assert_eq!(outcome(&text, &query), Outcome::Deny, "{} is a number", claim.attribute);
    }
    let mut query = of(github);
    query.principal.attributes.insert("environment".to_owned(), AttributeValue::Bool(true));
    let environment = permit("principal has github && principal.github has environment");
    assert_eq!(outcome(&environment, &query), Outcome::Deny, "what has another type is left out");
}

#[test]
fn attributes_of_any_issuer_are_tags_by_their_types() {
    let mut query = query();
    query.principal.attributes = Attributes::from([
        ("groups".to_owned(), AttributeValue::List(vec!["admins".to_owned()])),
        ("mfa".to_owned(), AttributeValue::Bool(true)),
        ("level".to_owned(), AttributeValue::Long(3)),
        ("department".to_owned(), AttributeValue::Text("payments".to_owned())),
    ]);
    for condition in [
        r#"principal.lists.hasTag("groups") && principal.lists.getTag("groups").contains("admins")"#,
        r#"principal.truths.hasTag("mfa") && principal.truths.getTag("mfa")"#,
        r#"principal.numbers.hasTag("level") && principal.numbers.getTag("level") > 2"#,
        r#"principal.hasTag("department") && principal.getTag("department") == "payments""#,
        r#"!principal.hasTag("groups") && !principal.lists.hasTag("mfa") && !principal.numbers.hasTag("department")"#,
    ] {
        assert_eq!(outcome(&permit(condition), &query), Outcome::Allow, "{condition}");
        query.principal.kind = PrincipalKind::Operator;
        let of_people = permit(condition).replace("is Workload", "is Operator");
        assert_eq!(outcome(&of_people, &query), Outcome::Allow, "{condition}");
        query.principal.kind = PrincipalKind::Workload;
    }
}

#[test]
fn a_workload_has_its_type() {
    let typed = |kind: &str, attributes: &[&str]| {
        let mut query = query();
        query.principal.issuer_kind = kind.to_owned();
        let attributes = attributes.iter().map(|name| ((*name).to_owned(), AttributeValue::Text("x".to_owned())));
        query.principal.attributes = attributes.collect();
        query
    };
    for (query, workload_type) in [
        (typed("github-actions", &[]), "ci_job"),
        (typed("kubernetes", &["pod_uid"]), "pod"),
        (typed("kubernetes", &[]), "service_account"),
        (typed("google", &["instance_id"]), "virtual_machine"),
        (typed("spiffe", &[]), "service"),
    ] {
        let text = permit(&format!("principal has workload_type && principal.workload_type == \"{workload_type}\""));
        assert_eq!(outcome(&text, &query), Outcome::Allow, "{workload_type}");
    }
    assert_eq!(outcome(&permit("principal has workload_type"), &typed("oidc", &["pod_uid"])), Outcome::Deny);
}

#[test]
fn entities_with_every_attribute_conform_to_the_schema() {
    for profile in Profile::ALL {
        let all: Vec<_> = profile.claims.iter().map(|claim| condition(profile, claim)).collect();
        let all = format!("{} && principal.hasTag(\"a\") && principal.lists.hasTag(\"a\")", all.join(" && "));
        let all = format!("{all} && principal.truths.hasTag(\"a\") && principal.numbers.hasTag(\"a\")");
        let engine = load(&permit(&all)).unwrap();
        let prepared = engine.vocabulary.prepare(&of(profile)).unwrap();
        let entities: Vec<_> = prepared.entities.iter().cloned().collect();
        cedar_policy::Entities::from_entities(entities, Some(&engine.vocabulary.schema)).unwrap();
    }
}

/// As version 1 of the schema recorded it, when attributes that are no texts were recorded and not given to policy.
#[test]
fn what_was_recorded_before_decides_as_it_did() {
    let recorded = json!({
        "principal": {
            "kind": "workload", "issuer": "ci", "issuer_kind": "oidc", "subject": "repo:acme/app", "groups": [],
            "attributes": {"repository_id": "222", "verified": true, "level": 3, "groups": ["admins"]},
            "multi_audience": false
        },
        "action": "mint",
        "resource": {
            "type": "role", "name": "payments/prod/deploy", "owner": "payments", "backend_kind": "jwt",
            "class": "fenced", "max_ttl": 3600
        },
        "context": {
            "time": 1_767_225_600, "purpose": "deploy", "ttl": 600, "binding": "bearer",
            "provenance": {"repository_id": "222", "ref": "refs/heads/main", "ref_protected": true}
        }
    });
    let recorded: PolicyQuery = serde_json::from_value(recorded).unwrap();
    let of_its_time = |value: &str| {
        permit(&format!(
            "principal.hasTag(\"repository_id\") && principal.getTag(\"repository_id\") == \"{value}\" && \
             !principal.hasTag(\"groups\") && context.provenance has ref_protected && context.provenance.ref_protected"
        ))
    };
    assert_eq!(outcome(&of_its_time("222"), &recorded), Outcome::Allow);
    assert_eq!(outcome(&of_its_time("666"), &recorded), Outcome::Deny);
    let again: PolicyQuery = serde_json::from_value(serde_json::to_value(&recorded).unwrap()).unwrap();
    assert_eq!(again, recorded);
}

#[test]
fn what_another_proof_may_say_is_left_open() {
    for (condition, holds) in [
        ("principal has github && principal.github.repository_id == \"a\"", false),
        ("principal has workload_type && principal.workload_type == \"ci_job\"", false),
        ("principal.lists.hasTag(\"a\")", false),
        ("principal.issuer == \"ci\"", true),
    ] {
        let left = load(&permit(condition)).unwrap().left_open(&of(Profile::ALL[0])).unwrap();
        let settled = left.permits.iter().any(|(text, _)| text == Remainder::ALWAYS);
        assert_eq!((left.permits.len(), settled), (1, holds), "{condition}: {left:?}");
    }
}
