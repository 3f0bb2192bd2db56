//! Policies as they are compared with those of another revision.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use hallpass_core::policy::Action;
use hallpass_core::port::{Effect as Does, PolicyFacts};
use serde_json::Value;

use super::request::Vocabulary;
use super::source::{REMARKS, Rule};

/// What a policy says, without its name, its remarks and its layout.
pub(crate) fn facts(rule: &Rule, vocabulary: &Vocabulary) -> PolicyFacts {
    PolicyFacts {
        id: rule.id.clone(),
        effect: match rule.policy.effect() {
            Effect::Permit => Does::Permit,
            Effect::Forbid => Does::Forbid,
        },
        text: text(&rule.policy),
        max_ttl: rule.max_ttl,
        binding: rule.binding,
        actions: actions(&rule.policy, vocabulary),
        file: rule.file.clone(),
        line: rule.line,
    }
}

/// Cedar's own export, in one spelling, without the annotations that do nothing or are compared by themselves.
fn text(policy: &Policy) -> String {
    // What Cedar cannot export is the same as nothing but itself.
    let Ok(mut exported) = policy.to_json() else { return policy.to_string() };
    if let Some(annotations) = exported.get_mut("annotations").and_then(Value::as_object_mut) {
        let obligations = ["max_ttl", "binding"];
        annotations.retain(|name, _| {
            name != "id" && !obligations.contains(&name.as_str()) && !REMARKS.contains(&name.as_str())
        });
    }
    exported.to_string()
}

fn actions(policy: &Policy, vocabulary: &Vocabulary) -> BTreeSet<Action> {
    let listed = |entity: &EntityUid| match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(action) => &action == entity,
        ActionConstraint::In(actions) => actions.contains(entity),
    };
    Action::ALL.iter().copied().filter(|action| vocabulary.action(*action).is_some_and(listed)).collect()
}

/// Whether the principal of a policy's scope is the first of `principals`, or one that it is in.
pub(crate) fn principal_fits(policy: &Policy, principals: &[EntityUid]) -> bool {
    let kind = principals.first().map(EntityUid::type_name);
    match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(wanted) => kind == Some(&wanted),
        PrincipalConstraint::Eq(entity) => principals.first() == Some(&entity),
        PrincipalConstraint::In(entity) => principals.contains(&entity),
        PrincipalConstraint::IsIn(wanted, entity) => kind == Some(&wanted) && principals.contains(&entity),
    }
}

/// The same of the resource.
pub(crate) fn resource_fits(policy: &Policy, resources: &[EntityUid]) -> bool {
    let kind = resources.first().map(EntityUid::type_name);
    match policy.resource_constraint() {
        ResourceConstraint::Any => true,
        ResourceConstraint::Is(wanted) => kind == Some(&wanted),
        ResourceConstraint::Eq(entity) => resources.first() == Some(&entity),
        ResourceConstraint::In(entity) => resources.contains(&entity),
        ResourceConstraint::IsIn(wanted, entity) => kind == Some(&wanted) && resources.contains(&entity),
    }
}
