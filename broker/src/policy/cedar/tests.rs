mod lives;
mod remainders;
mod slices;
mod typed;

use std::sync::Arc;

use hallpass_core::attestation::{Build, ChangeReview};
use hallpass_core::binding::Binding;
use hallpass_core::catalog::Catalog;
use hallpass_core::id::{GrantId, OwnerName};
use hallpass_core::identity::{AttributeValue, PrincipalKind};
use hallpass_core::policy::{Action, Resource};
use hallpass_core::testing::sample;
use hallpass_core::time::Timestamp;

use super::*;

const ROLES: &[&str] = &["payments/prod/deploy", "payments/prod/migrate", "payments/dev/deploy", "platform/mesh", "x"];

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for name in ROLES {
        let role = sample::role(name);
        catalog.roles.insert(role.name.clone(), Arc::new(role));
    }
    catalog.owners.insert(OwnerName::new("payments").unwrap(), Arc::new(sample::owner()));
    catalog
}

fn load(text: &str) -> Result<CedarEngine, Vec<Finding>> {
    let sources = [PolicySource { file: "policies/a.cedar".into(), text: text.to_owned() }];
    CedarEngine::load(&sources, &catalog(), sample::revision('a'))
}

fn refused(text: &str) -> String {
    let findings = load(text).map(|_| ()).unwrap_err();
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The sample query: `ci:repo:acme/app` mints `payments/prod/deploy` on `refs/heads/main`.
fn query() -> PolicyQuery {
    sample::query("repo:acme/app", "payments/prod/deploy")
}

fn outcome(text: &str, query: &PolicyQuery) -> Outcome {
    load(text).unwrap().decide(query).unwrap().outcome
}

#[test]
fn nobody_mints_every_role_and_nobody_acts_for_everybody_by_one_line() {
    for (scope, does) in [
        (r#"principal, action == Action::"mint", resource"#, "mint every role"),
        (r#"principal, action == Action::"delegate", resource"#, "act for everybody"),
        (r#"principal is Agent, action == Action::"delegate", resource is Role"#, "act for everybody"),
        (r#"principal, action in [Action::"delegate", Action::"preview"], resource"#, "act for everybody"),
    ] {
        let told = refused(&format!("@id(\"a\") permit({scope});"));
        assert!(told.contains(does), "{scope}: {told}");
    }
    for scope in [
        r#"principal is Agent, action == Action::"delegate", resource == Role::"payments/prod/deploy""#,
        r#"principal in Issuer::"ci", action == Action::"delegate", resource"#,
        r#"principal, action == Action::"preview", resource"#,
    ] {
        load(&format!("@id(\"a\") permit({scope});")).unwrap();
    }
    load("@id(\"a\") forbid(principal, action == Action::\"delegate\", resource);").unwrap();
}

#[test]
fn nothing_is_allowed_unless_a_permit_says_so() {
    let verdict = load("").unwrap().decide(&query()).unwrap();
    assert_eq!(verdict.outcome, Outcome::Deny);
    assert_eq!(verdict.determining, []);
}

#[test]
fn a_forbid_beats_every_permit_and_is_what_determines() {
    let text = r#"
        @id("z") permit(principal, action == Action::"mint", resource == Role::"payments/prod/deploy");
        @id("a") permit(principal in Issuer::"ci", action, resource in Namespace::"payments");
        @id("b") @max_ttl("5m") permit(principal, action, resource) when { context.binding == "bearer" };"#;
    let allowed = load(text).unwrap().decide(&query()).unwrap();
    let ids: Vec<_> = allowed.determining.iter().map(PolicyId::as_str).collect();
    assert_eq!((allowed.outcome, ids.as_slice()), (Outcome::Allow, ["a", "b", "z"].as_slice()));

    let forbidden = format!("{text} @id(\"no\") forbid(principal, action, resource) when {{ !context.holder }};");
    let denied = load(&forbidden).unwrap().decide(&query()).unwrap();
    let ids: Vec<_> = denied.determining.iter().map(PolicyId::as_str).collect();
    assert_eq!((denied.outcome, ids.as_slice()), (Outcome::Deny, ["no"].as_slice()));
    assert_eq!(denied.obligations, Obligations::default(), "a refusal has no terms");
}

#[test]
fn the_strictest_obligation_of_the_permits_that_decided_holds() {
    let text = r#"
        @id("a") @max_ttl("1h") permit(principal, action == Action::"mint", resource in Namespace::"payments");
        @id("b") @max_ttl("15m") permit(principal in Issuer::"ci", action, resource);
        @id("c") @max_ttl("1m") permit(principal in Issuer::"other", action, resource);
        @id("d") permit(principal, action == Action::"mint", resource == Role::"payments/prod/deploy");"#;
    let verdict = load(text).unwrap().decide(&query()).unwrap();
    assert_eq!(verdict.obligations.max_ttl, Some(Ttl::from_mins(15)));
}

#[test]
fn a_binding_that_one_permit_asks_for_is_asked_for_whatever_else_permits() {
    let text = r#"
        @id("a") permit(principal, action == Action::"mint", resource in Namespace::"payments");
        @id("b") @binding("dpop") @max_ttl("15m") permit(principal in Issuer::"ci", action, resource);"#;
    let decided = |text: &str, binding: &str| {
        let mut query = query();
        binding.clone_into(&mut query.context.binding);
        load(text).unwrap().decide(&query).unwrap()
    };
    let bound = decided(text, "dpop");
    assert_eq!((bound.outcome, bound.determining.len()), (Outcome::Allow, 2));
    assert_eq!(bound.obligations, Obligations { max_ttl: Some(Ttl::from_mins(15)), binding: [Binding::Dpop].into() });
    assert_eq!(bound.unbound(), None);
    for binding in ["bearer", "mtls"] {
        let refused = decided(text, binding);
        let ids: Vec<_> = refused.determining.iter().map(PolicyId::as_str).collect();
        assert_eq!((refused.outcome, ids.as_slice()), (Outcome::Deny, ["b"].as_slice()));
        let told = refused.unbound().unwrap();
        assert_eq!(told.reason, hallpass_core::error::Reason::ObligationUnmet);
        assert!(told.detail.contains("DPoP proof"), "{}", told.detail);
    }
    let both = format!("{text} @id(\"c\") @binding(\"mtls\") permit(principal in Issuer::\"ci\", action, resource);");
    for binding in ["bearer", "dpop", "mtls"] {
        assert!(decided(&both, binding).unbound().unwrap().detail.contains("nobody can show"), "{binding}");
    }
    let forbidden = format!("{text} @id(\"no\") forbid(principal, action, resource) when {{ !context.holder }};");
    assert_eq!(decided(&forbidden, "bearer").unbound(), None, "a key would not help");
}

#[test]
fn a_policy_that_errors_refuses_even_when_a_permit_holds() {
    let permit = r#"@id("yes") permit(principal, action, resource in Namespace::"payments");"#;
    let overflow = "when { context.time * 9223372036854775807 > 0 }";
    for effect in ["permit", "forbid"] {
        let text = format!("{permit} @id(\"broken\") {effect}(principal, action, resource) {overflow};");
        let error = load(&text).unwrap().decide(&query()).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
    let elsewhere = format!("{permit} @id(\"broken\") permit(principal, action, resource == Role::\"x\") {overflow};");
    assert_eq!(outcome(&elsewhere, &query()), Outcome::Allow, "a policy for another role is not evaluated");
}

#[test]
fn textual_attributes_are_tags_and_others_are_not() {
    let text = r#"@id("a") permit(principal, action == Action::"mint", resource)
        when { principal.hasTag("repository_id") && principal.getTag("repository_id") == "222" };"#;
    let mut query = query();
    assert_eq!(outcome(text, &query), Outcome::Deny);
    query.principal.attributes.insert("repository_id".to_owned(), AttributeValue::Long(222));
    assert_eq!(outcome(text, &query), Outcome::Deny);
    query.principal.attributes.insert("repository_id".to_owned(), AttributeValue::Text("222".to_owned()));
    assert_eq!(outcome(text, &query), Outcome::Allow);
}

#[test]
fn every_fact_of_a_query_can_be_asked_for() {
    let mut query = query();
    query.principal.groups.push(OwnerName::new("payments").unwrap());
    query.principal.via_role = Some("x".parse().unwrap());
    query.context.source_ip = Some("::ffff:10.1.2.3".parse().unwrap());
    query.context.ticket = Some("CHG-1".to_owned());
    query.context.task = Some("tidy up".to_owned());
    query.context.scope = vec!["read".to_owned()];
    query.context.provenance.attestation_digests = vec!["sha256:1".to_owned()];
    let said = |text: &str| Some(text.to_owned());
    query.context.build = Some(Build {
        attestor: "builds".parse().unwrap(),
        builder: "b".to_owned(),
        repository: said("https://code.test/acme/app"),
        commit: said("4f2c"),
        subjects: vec!["sha256:2".to_owned()],
    });
    query.context.change = Some(ChangeReview {
        reviewed_by: vec!["reviews".parse().unwrap()],
        planned_by: Some("plans".parse().unwrap()),
        author: said("github:1"),
        approvers: vec!["github:2".to_owned()],
        plan_digest: said("sha256:3"),
        plan_reviewed: true,
        commit: said("4f2c"),
        independent: true,
    });
    let Resource::Role(facts) = &mut query.resource else { unreachable!() };
    facts.environment = Some("production".parse().unwrap());
    facts.environment_class = Some("production".to_owned());
    facts.stage = Some("apply".to_owned());
    facts.tier = Some("1".to_owned());
    facts.target = Some("cluster-1".to_owned());
    for condition in [
        r#"principal == Workload::"ci:repo:acme/app""#,
        r#"principal in Issuer::"ci" && principal in Group::"payments""#,
        r#"principal.issuer == "ci" && principal.kind == "oidc" && principal.subject == "repo:acme/app""#,
        r#"!principal.multi_audience && principal has via_role && principal.via_role == "x""#,
        r#"resource in Namespace::"payments" && resource in Namespace::"payments/prod""#,
        r#"resource.role == "payments/prod/deploy" && resource.owner == "payments" && resource.backend == "jwt""#,
        r#"resource.class == "fenced" && resource.max_ttl == 3600"#,
        r#"resource has environment && resource.environment == "production""#,
        r#"resource has environment_class && resource.environment_class == "production""#,
        r#"resource has stage && resource.stage == "apply" && resource has tier && resource.tier == "1""#,
        r#"resource has target && resource.target == "cluster-1""#,
        r#"context has environment && context.environment == "production""#,
        r#"context.time == 1767225600 && context.hour == 0 && context.weekday == 4"#,
        r#"context has purpose && context.purpose like "deploy *" && context has ttl && context.ttl == 600"#,
        r#"context has ticket && context.ticket == "CHG-1" && context has task && context.task == "tidy up""#,
        r#"context.scope.contains("read") && context.approvals.isEmpty() && context.binding == "bearer""#,
        r#"context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8"))"#,
        r#"!context.holder && !context.owner_member && !(context has exception)"#,
        r#"context.provenance has ref && context.provenance.ref == "refs/heads/main""#,
        r#"context.provenance has ref_protected && context.provenance.ref_protected"#,
        r#"context.provenance has repository_id && context.provenance.repository_id == "222""#,
        r#"context.provenance has run && context.provenance.run == "4242""#,
        r#"context.provenance.attestation_digests.contains("sha256:1")"#,
        r#"context has build && context.build.attestor == "builds" && context.build.subjects.contains("sha256:2")"#,
        r#"context has build && context.build has repository && context.build has commit && context.build.builder == "b""#,
        r#"context has change && context.change.independent && context.change.plan_reviewed"#,
        r#"context has change && context.change has author && context.change.author == "github:1" && context.change.approvers == ["github:2"]"#,
        r#"context has change && context.change has planned_by && context.change.reviewed_by.contains("reviews")"#,
        r#"context has change && context.change has plan_digest && context.change has commit && context.change.commit == "4f2c""#,
    ] {
        let text = format!(
            r#"@id("a") permit(principal is Workload, action == Action::"mint", resource) when {{ {condition} }};"#
        );
        assert_eq!(outcome(&text, &query), Outcome::Allow, "{condition}");
    }
}

#[test]
fn a_grant_is_in_its_role_and_in_the_namespaces_of_its_role() {
    let mut query = query();
    let Resource::Role(role) = query.resource.clone() else { unreachable!() };
    query.action = Action::Revoke;
    query.resource = Resource::Grant { id: sample::id::<GrantId>(1), role };
    for scope in [
        r#"resource in Role::"payments/prod/deploy""#,
        r#"resource in Namespace::"payments""#,
        r#"resource is Grant in Namespace::"payments/prod""#,
        "resource is Grant",
        &format!("resource == Grant::\"{}\"", sample::id::<GrantId>(1)),
    ] {
        let text = format!(r#"@id("a") permit(principal in Issuer::"ci", action == Action::"revoke", {scope});"#);
        assert_eq!(outcome(&text, &query), Outcome::Allow, "{scope}");
    }
    let elsewhere = r#"@id("a") permit(principal, action == Action::"revoke", resource in Namespace::"platform");"#;
    assert_eq!(outcome(elsewhere, &query), Outcome::Deny);
}

/// Sets of grants are decided for all that are alike: what one grant alone is kept from by its id, a set would not be.
#[test]
fn no_policy_keeps_one_grant_from_being_ended_by_its_id() {
    let grant = format!("Grant::\"{}\"", sample::id::<GrantId>(1));
    let revoke = "action == Action::\"revoke\"";
    for text in [
        format!("@id(\"a\") forbid(principal, {revoke}, resource == {grant});"),
        format!("@id(\"a\") forbid(principal, action, resource is Grant) when {{ resource == {grant} }};"),
        format!("@id(\"a\") permit(principal, {revoke}, resource is Grant) unless {{ resource == {grant} }};"),
    ] {
        assert!(refused(&text).contains("tells a grant by its id"), "{text}");
    }
    for text in [
        format!("@id(\"a\") permit(principal, {revoke}, resource == {grant});"),
        format!("@id(\"a\") permit(principal, {revoke}, resource == {grant}) when {{ context.holder }};"),
        format!("@id(\"a\") forbid(principal, action == Action::\"renew\", resource == {grant});"),
    ] {
        assert!(load(&text).is_ok(), "{text}");
    }
}

#[test]
fn recorded_facts_decide_even_when_the_role_has_changed_since() {
    let text =
        r#"@id("a") permit(principal, action, resource in Namespace::"payments") when { resource.backend == "jwt" };"#;
    let engine = load(text).unwrap();
    assert_eq!(engine.decide(&query()).unwrap().outcome, Outcome::Allow);
    let mut before = query();
    let Resource::Role(facts) = &mut before.resource else { unreachable!() };
    facts.backend_kind = "x509".to_owned();
    assert_eq!(engine.decide(&before).unwrap().outcome, Outcome::Deny);
    assert_eq!(engine.decide(&query()).unwrap().outcome, Outcome::Allow);
}

#[test]
fn an_exception_is_never_decided_by_an_ordinary_permit() {
    let text = r#"@id("a") permit(principal, action, resource) when { !context.holder };"#;
    let mut query = query();
    query.context.exception = Some("break_glass".to_owned());
    let verdict = load(text).unwrap().decide(&query).unwrap();
    assert_eq!((verdict.outcome, verdict.determining), (Outcome::Deny, Vec::new()));
}

#[test]
fn inputs_that_do_not_fit_the_schema_are_an_error_and_not_a_denial() {
    let mut query = query();
    query.action = Action::Renew;
    let error = load("").unwrap().decide(&query).unwrap_err();
    assert!(error.to_string().contains("renew"), "{error}");
}

#[test]
fn entities_conform_to_the_schema() {
    let engine = load("").unwrap();
    let mut query = query();
    query.principal.groups.push(OwnerName::new("payments").unwrap());
    query.principal.attributes.insert("any name at all".to_owned(), AttributeValue::Text("x".to_owned()));
    for kind in [PrincipalKind::Workload, PrincipalKind::Operator, PrincipalKind::Agent] {
        query.principal.kind = kind;
        for (action, resource) in [
            (Action::Mint, Resource::Role(sample::role_facts("payments/prod/deploy"))),
            (Action::Read, Resource::Grant { id: sample::id(1), role: sample::role_facts("gone/since") }),
            (Action::Read, Resource::Owner { name: "payments".parse().unwrap() }),
            (Action::Read, Resource::AuditLog),
            (Action::Preview, Resource::Broker),
            (Action::Introspect, Resource::Broker),
        ] {
            (query.action, query.resource) = (action, resource);
            let prepared = engine.vocabulary.prepare(&query).unwrap();
            let entities: Vec<_> = prepared.entities.iter().cloned().collect();
            cedar_policy::Entities::from_entities(entities, Some(&engine.vocabulary.schema)).unwrap();
        }
    }
}

#[test]
fn the_schema_knows_every_action_and_groups_none() {
    let engine = load("").unwrap();
    for action in Action::ALL {
        let uid = format!("Action::\"{}\"", action.as_str()).parse().unwrap();
        assert!(engine.vocabulary.schema.actions().any(|known| known == &uid), "{uid}");
    }
    assert!(engine.vocabulary.schema.action_entities().unwrap().iter().all(|action| {
        engine.vocabulary.schema.action_entities().unwrap().ancestors(&action.uid()).unwrap().next().is_none()
    }));
}

#[test]
fn what_a_policy_file_gets_wrong_is_named_with_its_line() {
    let permit = "permit(principal, action == Action::\"mint\", resource in Namespace::\"payments\")";
    let cases = [
        ("not Cedar", "\n\npermit(principal, action, resource) when { ) };".to_owned()),
        ("no @id", format!("\n{permit};")),
        ("a bad @id", format!("@id(\"a b\")\n{permit};")),
        ("an @id twice", format!("@id(\"a\") {permit};\n\n@id(\"a\") {permit};")),
        ("a template", "@id(\"a\")\npermit(principal == ?principal, action, resource);".to_owned()),
        ("a type error", format!("@id(\"a\") {permit}\nwhen {{\n  context.purpose == 1 }};")),
        ("an unguarded optional", format!("@id(\"a\") {permit} when {{ context.purpose == \"x\" }};")),
        ("an unknown attribute", format!("@id(\"a\") {permit} when {{ resource.ownr == \"x\" }};")),
        ("an unknown type", "@id(\"a\") permit(principal in Groups::\"x\", action, resource);".to_owned()),
        (
            "an impossible scope",
            "@id(\"a\") permit(principal, action == Action::\"mint\", resource is Grant);".to_owned(),
        ),
        ("an unknown annotation", format!("@id(\"a\")\n@maxttl(\"5m\") {permit};")),
        ("an obligation of later versions", format!("@id(\"a\") @approvals(\"1\") {permit};")),
        ("an exception", format!("@id(\"a\") @exception(\"break_glass\") {permit};")),
        ("an obligation on a forbid", format!("@id(\"a\") @max_ttl(\"5m\") {};", permit.replace("permit", "forbid"))),
        ("a binding on a forbid", format!("@id(\"a\") @binding(\"dpop\") {};", permit.replace("permit", "forbid"))),
        ("a binding that there is not", format!("@id(\"a\") @binding(\"tls\") {permit};")),
        ("a bad duration", format!("@id(\"a\") @max_ttl(\"5 minutes\") {permit};")),
        ("no time at all", format!("@id(\"a\") @max_ttl(\"0s\") {permit};")),
        ("a fact nobody fills", format!("@id(\"a\") {permit} when {{ context has risk && context.risk < 50 }};")),
        ("everything to everybody", "@id(\"a\") permit(principal, action, resource);".to_owned()),
        (
            "every grant to everybody",
            "@id(\"a\") permit(principal, action == Action::\"revoke\", resource);".to_owned(),
        ),
        (
            "every bundle to everybody",
            "@id(\"a\") permit(principal is Workload, action in [Action::\"publish\", Action::\"read\"], resource == \
             Bundle::\"hallpass\");"
                .to_owned(),
        ),
        ("a nesting bomb", format!("\n\n@id(\"a\") {permit} when {{ {} }};", "(".repeat(100_000))),
        ("a chain bomb", format!("@id(\"a\") {permit} when {{ true{} }};", " && true".repeat(10_000))),
        ("too large a file", format!("// {}", "x".repeat(source::MAX_FILE_BYTES))),
        ("too many policies", "permit(principal,action,resource);".repeat(source::MAX_POLICIES + 1)),
    ];
    let messages: Vec<_> = cases.iter().map(|(name, text)| format!("{name}\n  {}", refused(text))).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_text_at_the_limits_of_depth_is_parsed_validated_and_decided() {
    use super::super::shape::{MAX_CHAIN, MAX_NESTING, measure};
    let scope = "@id(\"a\") permit(principal, action == Action::\"mint\", resource)";
    let deep: &[&dyn Fn(usize) -> String] = &[
        &|n| format!("{}true{}", "(".repeat(n), ")".repeat(n)),
        &|n| format!("true{}", " && true".repeat(n)),
        &|n| format!("true{}", " || true".repeat(n)),
        &|n| format!("{} < 1", "0+".repeat(n) + "0"),
        &|n| format!("{}true{}", "if true then ".repeat(n), " else false".repeat(n)),
        &|n| format!("{0}true{1} == {0}true{1}", "[".repeat(n), "]".repeat(n)),
        &|n| format!("{}true{}", "(true && true && true && true && ".repeat(n), ")".repeat(n)),
    ];
    for grow in deep {
        let texts = (1..=MAX_CHAIN).map(|n| format!("{scope} when {{ {} }};", grow(n)));
        let deepest = texts.take_while(|text| measure(text).is_ok()).last().unwrap();
        assert!(deepest.len() > scope.len() + MAX_NESTING, "{deepest}");
        // This thread has 2 MiB of stack, as those that serve requests have.
        assert_eq!(outcome(&deepest, &query()), Outcome::Allow, "{deepest}");
    }
}

#[test]
fn names_that_nothing_has_are_found() {
    let text = r#"
        @id("a") forbid(principal, action, resource in Namespace::"paymets");
        @id("b") permit(principal in Issuer::"ci", action, resource) when { resource in Role::"gone" };
        @id("c") permit(principal in Group::"payments", action, resource in Namespace::"payments/prod");
        @id("d") permit(principal == Workload::"repo:acme/app", action, resource in Namespace::"payments");
        @id("e") permit(principal in Group::"nobody", action, resource in Namespace::"payments");"#;
    let issuers = BTreeSet::from(["ci".parse().unwrap()]);
    let found = load(text).unwrap().dangling_names(&catalog(), &issuers);
    insta::assert_snapshot!(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}
