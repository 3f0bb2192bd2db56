//! A decision looks at some of the policies only, and says what all of them would.

use proptest::prelude::*;

use super::*;
use crate::identity::profile::Profile;

#[test]
fn a_decision_does_not_look_at_the_policies_of_other_roles() {
    let unscoped = r#"@id("operators") permit(principal is Operator, action == Action::"read", resource);
        @id("members") permit(principal, action == Action::"mint", resource) when { context.owner_member };
        @id("tickets") forbid(principal, action == Action::"mint", resource) when { context.binding == "none" };"#;
    let own = r#"@id("own") permit(principal, action == Action::"mint", resource == Role::"payments/prod/deploy");
        @id("team") permit(principal in Issuer::"ci", action, resource in Namespace::"payments");
        @id("elsewhere") permit(principal in Issuer::"people", action, resource in Namespace::"payments");"#;
    let counts = [10, 200, 2_000].map(|others| {
        let others: String = (0..others)
            .map(|n| {
                format!("@id(\"o{n}\") permit(principal, action == Action::\"mint\", resource == Role::\"r{n}\");")
            })
            .collect();
        load(&format!("{unscoped}{own}{others}")).unwrap().policies_evaluated(&query()).unwrap()
    });
    assert_eq!(counts, [4, 4, 4], "the two of every role, its own and its team's");
}

#[test]
fn a_decision_does_not_look_at_the_policies_of_other_repositories() {
    let scope = r#"permit(principal in Issuer::"ci", action == Action::"mint", resource in Namespace::"payments")"#;
    let asks =
        |id: usize| format!("context.provenance has repository_id && context.provenance.repository_id == \"{id}\"");
    let either = format!("({} || {})", asks(222), asks(333));
    let own = [
        format!("when {{ {} && context.hour < 24 }}", asks(222)),
        format!("when {{ context.hour < 24 && {either} }}"),
        format!("when {{ !context.holder }} when {{ {} }} unless {{ context.owner_member }}", asks(222)),
        r#"when { context.provenance has repository_id && ["222", "333"].contains(context.provenance.repository_id) }"#
            .to_owned(),
        // None of these tells that it is false for another repository, or that nothing before it fails.
        format!("when {{ {} || context.hour > 24 }}", asks(111)),
        format!("unless {{ {} }}", asks(111)),
        format!("when {{ context.time + 1 > 0 && {} }}", asks(111)),
        r#"when { context.provenance has repository_id && context.provenance.repository_id != "111" }"#.to_owned(),
        r#"when { context.provenance has repository && context.provenance.repository == "111" }"#.to_owned(),
    ];
    let own: String = own.iter().enumerate().map(|(n, asked)| format!("@id(\"p{n}\") {scope} {asked};\n")).collect();
    let mut query = query();
    let counts = [10, 200].map(|others| {
        let others: String =
            (0..others).map(|n| format!("@id(\"o{n}\") {scope} when {{ {} }};", asks(1_000 + n))).collect();
        let engine = load(&format!("{own}{others}")).unwrap();
        query.context.provenance.repository_id = Some("222".to_owned());
        let of_its_own = engine.policies_evaluated(&query).unwrap();
        query.context.provenance.repository_id = None;
        let determining = engine.decide(&query).unwrap().determining;
        assert_eq!(determining.iter().map(PolicyId::as_str).collect::<Vec<_>>(), ["p5"], "who comes from none");
        assert!(engine.could_permit(&query.principal, Action::Mint, &query.resource));
        (of_its_own, engine.policies_evaluated(&query).unwrap())
    });
    assert_eq!(counts, [(9, 5); 2], "its own and those of any repository");
}

#[test]
fn a_decision_does_not_look_at_the_policies_of_what_other_proofs_come_from() {
    let scope = r#"permit(principal in Issuer::"ci", action == Action::"mint", resource in Namespace::"payments")"#;
    for profile in Profile::ALL {
        let (record, field) = (profile.record, typed::origin(profile).attribute);
        let asks = |id: usize| format!("principal has {record} && principal.{record}.{field} == \"{id}\"");
        let of_provenance = r#"context.provenance has repository_id && context.provenance.repository_id == "333""#;
        let own = [
            format!("when {{ {} && context.hour < 24 }}", asks(222)),
            format!("when {{ context.hour < 24 && ({of_provenance} || {}) }}", asks(222)),
            format!(
                "when {{ !context.holder }} when {{ principal has {record} }} \
                 when {{ [\"222\", \"333\"].contains(principal.{record}.{field}) }}"
            ),
            // None of these tells that it is false for another, or that nothing before it fails.
            format!("when {{ {} || context.hour > 24 }}", asks(111)),
            format!("unless {{ {} }}", asks(111)),
            format!("when {{ context.time + 1 > 0 && {} }}", asks(111)),
            format!("when {{ principal has {record} && principal.{record}.{field} != \"111\" }}"),
            format!("when {{ principal.hasTag(\"{field}\") && principal.getTag(\"{field}\") == \"111\" }}"),
        ];
        let own: String =
            own.iter().enumerate().map(|(n, asked)| format!("@id(\"p{n}\") {scope} {asked};\n")).collect();
        let others: String =
            (0..100).map(|n| format!("@id(\"o{n}\") {scope} when {{ {} }};", asks(1_000 + n))).collect();
        let engine = load(&format!("{own}{others}")).unwrap();
        let decided = |query: &PolicyQuery| {
            let determining = engine.decide(query).unwrap().determining;
            let determining: Vec<_> = determining.iter().map(PolicyId::as_str).collect();
            (engine.policies_evaluated(query).unwrap(), determining.join(" "))
        };
        let mut query = query();
        query.principal.issuer_kind = profile.kind.as_str().to_owned();
        query.principal.attributes = typed::everything(profile);
        query.principal.attributes.insert(field.to_owned(), AttributeValue::Text("222".to_owned()));
        // What the provenance names is another matter, also where it names what others ask for of the record.
        query.context.provenance.repository_id = Some("1001".to_owned());
        assert_eq!(decided(&query), (8, "p0 p1 p2 p4 p6".to_owned()), "{record}");
        query.context.provenance.repository_id = Some("333".to_owned());
        assert_eq!(decided(&query), (9, "p0 p1 p2 p4 p6".to_owned()), "{record}: p1 by both of its ids");
        let mut other = query.clone();
        other.principal.attributes.insert(field.to_owned(), AttributeValue::Text("1001".to_owned()));
        assert_eq!(decided(&other), (7, "o1 p1 p4 p6".to_owned()), "{record}: another's");
        // A record that is not whole is not there, and neither is that of another kind.
        if let Some(always) = profile.claims.iter().find(|claim| claim.always && claim.attribute != field) {
            let mut partial = other.clone();
            partial.principal.attributes.remove(always.attribute);
            assert_eq!(decided(&partial), (7, "p1 p4".to_owned()), "{record} without {}", always.attribute);
        }
        other.principal.issuer_kind = "oidc".to_owned();
        assert_eq!(decided(&other), (6, "p1 p4".to_owned()), "{record} of none");
    }
}

/// Conditions of which some can hold for certain repositories or accounts alone: asked for before and after what fails, one
/// by one, in lists, negated, in alternatives, and hidden in what only looks alike.
fn any_condition() -> impl Strategy<Value = String> {
    let guarded = |asked: &str| format!("(context.provenance has repository_id && {asked})");
    let asked = |id: &str| guarded(&format!("context.provenance.repository_id == \"{id}\""));
    let of = |record: &str, asked: &str| format!("(principal has {record} && principal.{record}.{asked})");
    let leaf = prop::sample::select(vec![
        asked("222"),
        asked("333"),
        asked(""),
        guarded("\"222\" == context.provenance.repository_id"),
        guarded("[\"222\", \"333\"].contains(context.provenance.repository_id)"),
        guarded("[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"222\"].contains(context.provenance.repository_id)"),
        guarded("context.provenance.repository_id != \"222\""),
        guarded("context.provenance.repository_id like \"2*\""),
        guarded("context.provenance.repository_id == context.provenance.repository_id"),
        "(context.provenance has repository && context.provenance.repository == \"222\")".to_owned(),
        "(context has build && context.build has repository && context.build.repository == \"222\")".to_owned(),
        "context.provenance has repository_id".to_owned(),
        of("github", "repository_id == \"222\""),
        of("github", "repository_id == \"333\""),
        of("gitlab", "project_id == \"222\""),
        of("circleci", "project_id == \"222\""),
        of("kubernetes", "service_account_uid == \"333\""),
        of("github", "repository_id != \"222\""),
        of("github", "repository_owner_id == \"222\""),
        "(principal has github && [\"222\", \"333\"].contains(principal.github.repository_id))".to_owned(),
        "(principal has gitlab && \"222\" == principal.gitlab.project_id)".to_owned(),
        "(principal has github && context.provenance has repository_id && \
         principal.github.repository_id == context.provenance.repository_id)"
            .to_owned(),
        "principal has github".to_owned(),
        "(principal.hasTag(\"repository_id\") && principal.getTag(\"repository_id\") == \"222\")".to_owned(),
        "context.holder".to_owned(),
        "context.owner_member".to_owned(),
        "context.time * 9223372036854775807 > 0".to_owned(),
        "-(context.time * 9223372036854775807) > 0".to_owned(),
        "context.time + 1 > 0".to_owned(),
    ]);
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} && {right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} && {right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} || {right})")),
            inner.clone().prop_map(|asked| format!("!({asked})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(asked, then, other)| format!("(if {asked} then {then} else {other})")),
        ]
    })
}

fn any_policy() -> impl Strategy<Value = String> {
    let principals = [
        "principal",
        "principal is Workload",
        "principal is Operator",
        "principal == Workload::\"ci:a\"",
        "principal == Operator::\"ci:a\"",
        "principal in Issuer::\"ci\"",
        "principal in Issuer::\"people\"",
        "principal in Group::\"payments\"",
        "principal is Workload in Group::\"payments\"",
    ];
    let actions = [
        "action",
        "action == Action::\"mint\"",
        "action in [Action::\"mint\", Action::\"read\"]",
        "action == Action::\"revoke\"",
        "action in [Action::\"revoke\"]",
    ];
    let resources = [
        "resource",
        "resource == Role::\"payments/prod/deploy\"",
        "resource in Role::\"payments/prod/deploy\"",
        "resource in Role::\"platform/mesh\"",
        "resource in Namespace::\"payments\"",
        "resource in Namespace::\"payments/prod\"",
        "resource in Namespace::\"platform\"",
        "resource is Grant",
        "resource is Role",
        "resource is Role in Namespace::\"payments\"",
        "resource is Grant in Namespace::\"payments\"",
        "resource == AuditLog::\"hallpass\"",
    ];
    let conditions = [
        "",
        "when { context.holder }",
        "unless { context.owner_member }",
        "when { principal in Group::\"payments\" }",
        "when { context.time * 9223372036854775807 > 0 }",
        "when { context.holder && context.time * 9223372036854775807 > 0 }",
    ];
    (
        prop::sample::select(vec!["permit", "permit", "forbid"]),
        prop::sample::select(principals.to_vec()),
        prop::sample::select(actions.to_vec()),
        prop::sample::select(resources.to_vec()),
        prop_oneof![
            prop::sample::select(conditions.to_vec()).prop_map(str::to_owned),
            (any_condition(), any_condition())
                .prop_map(|(when, unless)| format!("unless {{ {unless} }} when {{ {when} }}")),
        ],
    )
        .prop_map(|(effect, principal, action, resource, condition)| {
            format!("{effect}({principal}, {action}, {resource}) {condition};")
        })
}

prop_compose! {
    fn any_query()(
        kind in prop::sample::select(vec![PrincipalKind::Workload, PrincipalKind::Operator, PrincipalKind::Agent]),
        issuer in prop::sample::select(vec!["ci", "people"]),
        subject in prop::sample::select(vec!["a", "b"]),
        member in any::<bool>(),
        role in prop::sample::select([ROLES, &["payments/prod/unknown"]].concat()),
        what in 0..4_u8,
        holder in any::<bool>(),
        owner_member in any::<bool>(),
        repository in prop::sample::select(vec![None, Some("222"), Some("333"), Some("444"), Some("")]),
        profile in prop::option::weighted(0.8, prop::sample::select(Profile::ALL)),
        (said, whole) in (prop::sample::select(vec!["222", "333", "444"]), prop::bool::weighted(0.9)),
    ) -> PolicyQuery {
        let mut query = sample::query(subject, role);
        if let Some(profile) = profile {
            query.principal.issuer_kind = profile.kind.as_str().to_owned();
            query.principal.attributes = typed::everything(profile);
            for claim in [typed::origin(profile).attribute, "repository_owner_id"] {
                query.principal.attributes.insert(claim.to_owned(), AttributeValue::Text(said.to_owned()));
            }
            let always = profile.claims.iter().rfind(|claim| claim.always).filter(|_| !whole);
            always.map(|claim| query.principal.attributes.remove(claim.attribute));
        }
        query.context.provenance.repository_id = repository.map(str::to_owned);
        query.principal.kind = kind;
        query.principal.issuer = issuer.parse().unwrap();
        if member {
            query.principal.groups.push("payments".parse().unwrap());
        }
        (query.context.holder, query.context.owner_member) = (holder, owner_member);
        let facts = sample::role_facts(role);
        (query.action, query.resource) = match what {
            0 => (Action::Mint, Resource::Role(facts)),
            1 => (Action::Read, Resource::Role(facts)),
            2 => (Action::Revoke, Resource::Grant { id: sample::id(7), role: facts }),
            _ => (Action::Read, Resource::AuditLog),
        };
        query
    }
}

/// Decides `queries` by slices and by all of `policies` at once: allowed or not, by which policies, on which terms, or with
/// which errors.
fn agree(policies: &[String], queries: &[PolicyQuery]) -> Result<(), TestCaseError> {
    let text = |keep: &dyn Fn(&str) -> bool| {
        let named = policies.iter().enumerate();
        let named = named.map(|(n, text)| (format!("policy \"p{n}\""), format!("@id(\"p{n}\") {text}\n")));
        named.filter(|(name, _)| keep(name)).map(|(_, text)| text).collect::<String>()
    };
    // Policies that Cedar's validator or the lints refuse are left out.
    let findings = load(&text(&|_| true)).err().unwrap_or_default();
    let engine = load(&text(&|name| !findings.iter().any(|finding| finding.reason.starts_with(name)))).unwrap();
    let mut whole = PolicySet::new();
    for rule in &engine.rules {
        whole.add(rule.policy.clone()).unwrap();
    }
    for query in queries {
        let mut found = Found::default();
        found.evaluate(&engine.vocabulary.prepare(query).unwrap(), &whole);
        prop_assert_eq!(engine.verdict(query, found), engine.decide(query));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn deciding_by_slices_equals_deciding_by_the_whole(
        policies in prop::collection::vec(any_policy(), 0..12),
        queries in prop::collection::vec(any_query(), 1..8),
    ) {
        agree(&policies, &queries)?;
    }

    #[test]
    fn so_it_does_where_only_the_repository_tells_policies_apart(
        conditions in prop::collection::vec((any::<bool>(), any_condition()), 1..4),
        mut queries in prop::collection::vec(any_query(), 8..16),
    ) {
        for query in &mut queries {
            (query.action, query.resource) = (Action::Mint, Resource::Role(sample::role_facts("payments/prod/deploy")));
        }
        let policies: Vec<_> = conditions.iter().map(|(permits, asked)| {
            let effect = if *permits { "permit" } else { "forbid" };
            format!("{effect}(principal, action == Action::\"mint\", resource in Namespace::\"payments\") when {{ {asked} }};")
        }).collect();
        agree(&policies, &queries)?;
    }
}
