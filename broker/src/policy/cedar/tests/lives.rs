//! Grants that are alike differ in their longest life, and what policy says of one is asked for all.

use super::*;

#[test]
fn every_number_that_a_life_is_compared_with_is_asked_about() {
    let text = r#"
        @id("a") permit(principal in Issuer::"ci", action == Action::"revoke", resource is Grant);
        @id("b") forbid(principal, action, resource is Grant) when { resource.max_ttl > 500 && 700 >= resource.max_ttl };
        @id("c") forbid(principal, action == Action::"renew", resource is Grant) when { resource.max_ttl == 42 };
        @id("d") forbid(principal, action, resource is Role) when { resource.max_ttl == 43 };"#;
    let engine = load(text).unwrap();
    let lives: Vec<_> = engine.telling_lives(Action::Revoke).into_iter().map(Ttl::as_secs).collect();
    assert_eq!(lives, [0, 499, 500, 501, 699, 700, 701, i64::MAX.unsigned_abs()]);
    let asked = |max_ttl: Ttl| {
        let Resource::Role(facts) = query().resource else { unreachable!() };
        let role = hallpass_core::policy::RoleFacts { max_ttl, ..facts };
        let resource = Resource::Grant { id: sample::id(1), role };
        engine.decide(&PolicyQuery { action: Action::Revoke, resource, ..query() }).unwrap().outcome
    };
    let outcomes: Vec<_> = engine.telling_lives(Action::Revoke).into_iter().map(asked).collect();
    use Outcome::{Allow, Deny};
    assert_eq!(outcomes, [Allow, Allow, Allow, Deny, Deny, Deny, Allow, Allow]);
}

#[test]
fn a_life_that_is_compared_with_no_number_is_refused_where_sets_are_ended() {
    for condition in [
        "context has ttl && resource.max_ttl < context.ttl",
        "resource.max_ttl + 1 > 5",
        "[600, 900].contains(resource.max_ttl)",
        "(if context.holder then resource.max_ttl else 5) > 4",
    ] {
        let of = |action: &str| {
            format!(
                "@id(\"a\") forbid(principal, action == Action::\"{action}\", resource is Grant) when {{ {condition} }};"
            )
        };
        assert!(refused(&of("revoke")).contains("compares the `max_ttl` of a grant"), "{condition}");
        assert!(load(&of("renew")).is_ok(), "{condition}");
    }
    let of_roles = r#"@id("a") forbid(principal, action, resource is Role) when { resource.max_ttl + 1 > 5 };"#;
    assert!(load(of_roles).is_ok());
}
