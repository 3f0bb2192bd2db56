//! What is left of a question to its circumstances holds in all of them.

use hallpass_core::policy::RoleFacts;
use hallpass_core::port::Remainder;

use proptest::prelude::*;

use super::*;

fn left(text: &str, query: &PolicyQuery) -> Remainder {
    load(text).unwrap().left_open(query).unwrap()
}

fn when(condition: &str) -> String {
    format!("@id(\"a\") permit(principal, action == Action::\"mint\", resource is Role) when {{ {condition} }};")
}

fn of_tier(tier: Option<&str>) -> PolicyQuery {
    let mut query = query();
    let Resource::Role(facts) = &mut query.resource else { unreachable!() };
    facts.tier = tier.map(str::to_owned);
    query
}

#[test]
fn what_reads_only_what_is_settled_always_holds_or_never_does() {
    let always = [(Remainder::ALWAYS.to_owned(), None)].into();
    for (condition, holds) in [
        (r#"resource has tier && resource.tier == "low""#, true),
        (r#"principal.subject == "repo:acme/app""#, true),
        ("context.owner_member", false),
        (r#"!(resource in Namespace::"platform") && principal in Issuer::"ci""#, true),
        (r#"if context.hour > 3 then resource.owner == "payments" else true"#, true),
        (r#"context.holder && resource.owner == "platform""#, false),
        (r#"resource.owner == "payments" || context.hour > 3"#, true),
    ] {
        let permits = left(&when(condition), &of_tier(Some("low"))).permits;
        if condition.starts_with("if") {
            assert_eq!(permits.len(), 1, "{condition}");
            continue;
        }
        assert_eq!(permits, if holds { BTreeSet::clone(&always) } else { BTreeSet::new() }, "{condition}");
    }
}

#[test]
fn what_reads_the_circumstances_is_the_same_text_only_with_the_same_facts() {
    for condition in [
        r#"context.hour >= 20 && resource has tier && resource.tier == "low""#,
        r#"resource has tier && (context.source_ip.isInRange(ip("10.0.0.0/8")) && resource.tier == "low")"#,
        r#"context has ticket && resource has tier && context.ticket == resource.tier"#,
        r#"(resource has tier) == context.holder"#,
        r#"principal.hasTag("a") && resource has tier && principal.getTag("a") == resource.tier"#,
    ] {
        let condition = condition.replace("(context.source_ip", "(context has source_ip && context.source_ip");
        let text = when(&condition);
        let (low, none) = (left(&text, &of_tier(Some("low"))), left(&text, &of_tier(None)));
        assert!(low.gives_more_than(&none), "{condition}");
        let mut later = of_tier(Some("low"));
        later.context.time = Timestamp::from_secs(0);
        later.context.ticket = Some("other".to_owned());
        later.context.holder = true;
        later.context.source_ip = None;
        later.principal.attributes.insert("a".to_owned(), AttributeValue::Text("low".to_owned()));
        assert_eq!(left(&text, &later), low, "{condition}: circumstances make no difference");
    }
}

#[test]
fn what_may_not_be_evaluable_is_told_apart() {
    let text = when("context.time * 9223372036854775807 > 0");
    assert_eq!(left(&text, &query()).doubts.len(), 1);
    assert_eq!(left(&when("context.time > 0"), &query()).doubts.len(), 0);
}

const CONDITIONS: &[&str] = &[
    "true",
    "context.hour >= 12",
    "context.holder",
    "context.owner_member",
    r#"resource has tier"#,
    r#"(resource has tier && resource.tier == "low")"#,
    r#"(resource has tier && context has ticket && resource.tier == context.ticket)"#,
    r#"(context has environment && context.environment == "lab")"#,
    r#"(context has environment && context has task && context.environment == context.task)"#,
    r#"principal in Group::"payments""#,
    r#"(principal.hasTag("a") && principal.getTag("a") == "low")"#,
    r#"(if context.hour >= 12 then resource has tier else resource.owner == "platform")"#,
    r#"(if resource has tier then context.holder else context.hour < 12)"#,
    r#"(resource has tier) == context.holder"#,
    r#"principal in (if context.holder then Group::"payments" else Group::"platform")"#,
    "principal has via_role",
    "resource.max_ttl >= 600",
    r#"["low", "high"].contains(if resource has tier then resource.tier else "none")"#,
];

fn condition() -> impl Strategy<Value = String> {
    let one = || proptest::sample::select(CONDITIONS).prop_map(str::to_owned);
    (one(), one(), one(), 0..6_u8).prop_map(|(a, b, c, shape)| match shape {
        0 => a,
        1 => format!("({a} && {b}) || {c}"),
        2 => format!("{a} && !({b})"),
        3 => format!("!({a} || {b}) && {c}"),
        4 => format!("if {a} then {b} else {c}"),
        _ => format!("{a} || {b}"),
    })
}

fn policy() -> impl Strategy<Value = String> {
    let scope = proptest::sample::select(&["principal", "principal in Group::\"payments\""][..]);
    (scope, condition(), 0..6_u8, any::<bool>()).prop_map(|(scope, condition, kind, unless)| {
        let (effect, bound) = match kind {
            0 => ("forbid", ""),
            1 => ("permit", "@max_ttl(\"5m\")"),
            2 => ("permit", "@max_ttl(\"10m\")"),
            3 => ("permit", "@binding(\"dpop\")"),
            4 => ("permit", "@binding(\"mtls\") @max_ttl(\"10m\")"),
            _ => ("permit", ""),
        };
        let clause = if unless { "unless" } else { "when" };
        format!("{bound} {effect}({scope}, action == Action::\"renew\", resource is Grant) {clause} {{ {condition} }};")
    })
}

fn facts() -> impl Strategy<Value = (RoleFacts, bool)> {
    let tier = proptest::option::of(proptest::sample::select(&["low", "high"][..]));
    let environment = proptest::option::of(proptest::sample::select(&["lab", "prod"][..]));
    let owner = proptest::sample::select(&["payments", "platform"][..]);
    (tier, environment, owner, any::<bool>()).prop_map(|(tier, environment, owner, member)| {
        let Resource::Role(facts) = query().resource else { unreachable!() };
        let facts = RoleFacts {
            tier: tier.map(str::to_owned),
            environment: environment.map(|name| name.parse().unwrap()),
            owner: OwnerName::new(owner).unwrap(),
            ..facts
        };
        (facts, member)
    })
}

/// A question about a grant, at noon and by nobody in particular.
fn question((role, member): (RoleFacts, bool)) -> PolicyQuery {
    let mut query = query();
    query.action = Action::Renew;
    query.principal.groups = if member { vec![OwnerName::new("payments").unwrap()] } else { Vec::new() };
    query.context.owner_member = member && role.owner.as_str() == "payments";
    query.resource = Resource::Grant { id: sample::id(1), role };
    query
}

#[derive(Clone, Debug)]
struct Circumstances {
    late: bool,
    binding: &'static str,
    holder: bool,
    text: Option<&'static str>,
    tag: Option<&'static str>,
    via_role: bool,
    max_ttl: u64,
}

fn circumstances() -> impl Strategy<Value = Circumstances> {
    let text = || proptest::option::of(proptest::sample::select(&["low", "high", "lab"][..]));
    let binding = proptest::sample::select(&["bearer", "dpop", "mtls"][..]);
    (any::<bool>(), binding, any::<bool>(), text(), text(), any::<bool>(), 500..700_u64).prop_map(
        |(late, binding, holder, text, tag, via_role, max_ttl)| Circumstances {
            late,
            binding,
            holder,
            text,
            tag,
            via_role,
            max_ttl,
        },
    )
}

impl Circumstances {
    fn of(&self, mut query: PolicyQuery) -> PolicyQuery {
        query.context.time = Timestamp::from_secs(if self.late { 20 * 3_600 } else { 3_600 });
        query.context.holder = self.holder;
        self.binding.clone_into(&mut query.context.binding);
        query.context.ticket = self.text.map(str::to_owned);
        query.context.task = self.text.map(str::to_owned);
        if let Some(tag) = self.tag {
            query.principal.attributes.insert("a".to_owned(), AttributeValue::Text(tag.to_owned()));
        }
        query.principal.via_role = self.via_role.then(|| "x".parse().unwrap());
        if let Resource::Grant { role, .. } = &mut query.resource {
            role.max_ttl = Ttl::from_secs(self.max_ttl);
        }
        query
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_gained_in_any_circumstances_where_no_more_is_given(
        policies in proptest::collection::vec(policy(), 1..5),
        kept in proptest::collection::vec(any::<bool>(), 5),
        before in facts(),
        after in facts(),
        circumstances in proptest::collection::vec(circumstances(), 16),
    ) {
        let named: Vec<_> = policies.iter().enumerate().map(|(n, text)| format!("@id(\"p{n}\") {text}")).collect();
        // What cannot be true of any type is refused when it is loaded, and says nothing here.
        let Ok(engine) = load(&named.join("\n")) else { return Ok(()) };
        let fewer: Vec<_> = named.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(text, _)| text.clone()).collect();
        let fewer = load(&fewer.join("\n")).unwrap();
        for (earlier, later) in [(&engine, &engine), (&engine, &fewer), (&fewer, &engine)] {
            let (before, after) = (question(before.clone()), question(after.clone()));
            let gives_more =
                later.left_open(&after).unwrap().gives_more_than(&earlier.left_open(&before).unwrap());
            for circumstances in &circumstances {
                let then = earlier.decide(&circumstances.of(before.clone())).unwrap();
                let now = later.decide(&circumstances.of(after.clone())).unwrap();
                let life = |verdict: &Verdict| match verdict.outcome {
                    Outcome::Deny => Ttl::ZERO,
                    Outcome::Allow => verdict.obligations.max_ttl.unwrap_or(Ttl::from_hours(99)),
                };
                prop_assert!(
                    gives_more || life(&now) <= life(&then),
                    "{named:#?} {kept:?} {before:?} {after:?} {circumstances:?}"
                );
            }
        }
    }
}
