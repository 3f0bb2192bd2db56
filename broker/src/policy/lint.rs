//! Policies that are valid Cedar and yet cannot mean what they say.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use hallpass_core::catalog::Catalog;
use hallpass_core::id::{IssuerName, RoleName};
use serde_json::Value;

use super::lives;
use super::source::Rule;
use crate::config::Finding;

/// Vocabulary that is declared for later and that no query of this version fills.
const NOT_FILLED: &[(&str, &str)] = &[
    ("resource", "party"),
    ("resource", "owner_active"),
    ("resource", "owner_recertified_at"),
    ("context", "risk"),
    ("context", "zone"),
    ("context", "held_roles"),
    ("context", "approval_records"),
    ("context", "facts"),
];

/// Everything wrong with the meaning of `rules` that needs no look at the rest of the bundle.
pub(crate) fn meaningless(rules: &[Rule]) -> Vec<Finding> {
    rules
        .iter()
        .flat_map(|rule| {
            let of_grants = of_one_grant(rule).into_iter().chain(of_computed_lives(rule));
            not_filled(rule).into_iter().chain(boundless(rule)).chain(of_grants)
        })
        .collect()
}

/// Names in `rules` that nothing in the bundle has: a misspelt `permit` never helps, a misspelt `forbid` never stops.
pub(crate) fn dangling(rules: &[Rule], catalog: &Catalog, issuers: &BTreeSet<IssuerName>) -> Vec<Finding> {
    let namespaces: BTreeSet<&str> = catalog.roles.keys().flat_map(RoleName::namespaces).collect();
    let exists = |entity: &EntityUid| {
        let id: &str = entity.id().unescaped();
        match entity.type_name().to_string().as_str() {
            "Role" => catalog.roles.keys().any(|name| name.as_str() == id),
            "Namespace" => namespaces.contains(id),
            "Issuer" => issuers.iter().any(|name| name.as_str() == id) || id == IssuerName::RESERVED,
            "Group" | "Owner" => catalog.owners.keys().any(|name| name.as_str() == id),
            "Workload" | "Operator" | "Agent" => id.split_once(':').is_some_and(|(issuer, subject)| {
                !subject.is_empty()
                    && (issuer == IssuerName::RESERVED || issuers.iter().any(|name| name.as_str() == issuer))
            }),
            "AuditLog" | "Broker" | "Bundle" => id == "hallpass",
            _ => true,
        }
    };
    let missing = |rule: &Rule| {
        let names: BTreeSet<String> = rule
            .policy
            .entity_literals()
            .iter()
            .filter(|entity| !exists(entity))
            .map(std::string::ToString::to_string)
            .collect();
        names.into_iter().map(|name| rule.finding(format!("{name} names nothing in this bundle"))).collect::<Vec<_>>()
    };
    rules.iter().flat_map(missing).collect()
}

fn not_filled(rule: &Rule) -> Vec<Finding> {
    // Exported by Cedar itself; if it ever could not be, the policy was not understood and must not pass.
    let Ok(exported) = rule.policy.to_json() else {
        return vec![rule.finding("could not be examined")];
    };
    let mut read = BTreeSet::new();
    attributes_read(&exported, &mut read);
    let unfilled = NOT_FILLED.iter().filter(|(variable, attribute)| read.contains(&(*variable, *attribute)));
    unfilled
        .map(|(variable, attribute)| {
            rule.finding(format!(
                "this version does not fill {variable}.{attribute}, so the condition could never hold"
            ))
        })
        .collect()
}

/// Attributes that an exported policy reads or asks for, by variable: `{"has": {"left": {"Var": "context"}, "attr": …}}`.
fn attributes_read<'a>(value: &'a Value, read: &mut BTreeSet<(&'a str, &'a str)>) {
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                if key == "has" || key == "." {
                    let variable = inner.pointer("/left/Var").and_then(Value::as_str);
                    let attribute = inner.get("attr");
                    let first = attribute.and_then(Value::as_array).and_then(|path| path.first());
                    if let (Some(variable), Some(attribute)) = (variable, first.or(attribute).and_then(Value::as_str)) {
                        read.insert((variable, attribute));
                    }
                }
                attributes_read(inner, read);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| attributes_read(item, read)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What nobody means to let everybody do without any condition, in words, and the resources that it is done to.
const BOUNDLESS: &[(&str, &str, &[&str])] = &[
    ("mint", "mint every role", &["Role"]),
    ("delegate", "act for everybody in every role", &["Role"]),
    ("publish", "put bundles into force, and with them give themselves everything", &["Bundle"]),
    ("revoke", "end every grant", &["Grant"]),
    ("abandon", "give up on every grant", &["Grant"]),
    ("renew", "keep every grant alive", &["Grant"]),
    ("suspend", "stop every role", &["Role", "Broker"]),
];

/// A permit that gives every role to everybody, or the say over what others have: the whole of the broker's purpose undone by
/// one line. Of what gives no credential, that all operators may is a team's to decide.
fn boundless(rule: &Rule) -> Option<Finding> {
    let policy = &rule.policy;
    if policy.effect() != Effect::Permit || policy.has_non_scope_constraint() {
        return None;
    }
    let anybody = |opens: bool| match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(kind) => opens || kind.to_string() != "Operator",
        PrincipalConstraint::Eq(_) | PrincipalConstraint::In(_) | PrincipalConstraint::IsIn(..) => false,
    };
    let anything = |kinds: &[&str]| match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Is(kind) => kinds.contains(&kind.to_string().as_str()),
        ResourceConstraint::Eq(uid) => {
            let kind = uid.type_name().to_string();
            ["Bundle", "Broker"].contains(&kind.as_str()) && kinds.contains(&kind.as_str())
        }
        ResourceConstraint::In(_) | ResourceConstraint::IsIn(..) => false,
    };
    let is_it = |(action, _, kinds): &&(&str, &str, &[&str])| {
        bears_on(policy, action) && anybody(OPENING.contains(action)) && anything(kinds)
    };
    let (_, does, _) = BOUNDLESS.iter().find(is_it)?;
    Some(rule.finding(format!("lets everybody {does}: name the principal, the resource, or a condition")))
}

/// A policy that keeps one grant, by its id, from being ended: who may end a set is decided for all grants that are alike,
/// and would be asked without that id. A permit of one grant alone takes nothing away.
fn of_one_grant(rule: &Rule) -> Option<Finding> {
    let policy = &rule.policy;
    let permitted = match policy.resource_constraint() {
        ResourceConstraint::Eq(grant) if policy.effect() == Effect::Permit => Some(grant),
        _ => None,
    };
    let literals = policy.entity_literals();
    let mut others = literals.iter().filter(|entity| Some(*entity) != permitted.as_ref());
    let tells = bears_on(policy, "revoke") && others.any(|entity| entity.type_name().to_string() == "Grant");
    tells.then(|| {
        rule.finding(
            "tells a grant by its id, which whoever ends a set of grants would pass by: say what such grants are like",
        )
    })
}

/// A policy that tells grants by their longest life in a way that cannot be asked for all of a set at once.
fn of_computed_lives(rule: &Rule) -> Option<Finding> {
    let tells = bears_on(&rule.policy, "revoke") && lives::compared_with(&rule.policy).is_err();
    tells.then(|| {
        rule.finding(
            "compares the `max_ttl` of a grant with something else than a number, which cannot be asked for all grants of \
             a set at once: compare it with numbers, or leave `revoke` out of its actions",
        )
    })
}

/// The actions by which somebody comes to a credential: for oneself, and for another.
const OPENING: &[&str] = &["mint", "delegate"];

/// The actions among [`OPENING`] that a policy is about.
pub(super) fn opening(policy: &Policy) -> impl Iterator<Item = &'static str> {
    OPENING.iter().copied().filter(move |action| bears_on(policy, action))
}

pub(super) fn bears_on(policy: &Policy, action: &str) -> bool {
    let is_it = |one: &EntityUid| one.id().unescaped() == action;
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(one) => is_it(&one),
        ActionConstraint::In(several) => several.iter().any(is_it),
    }
}
