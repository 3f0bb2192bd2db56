//! Which repositories a policy can hold for, where its condition says so.
//!
//! A house binds each of its repositories by a policy of its own, and many of them have the same scope. A condition that
//! asks for an id of a repository before all else is false, and fails for nothing, for whoever comes from another one:
//! such a policy need not be evaluated there. In doubt a policy counts as one that may hold for any repository.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::Value;

use super::remainder::{condition, is_fallible};

/// The ids of repositories outside of which, none included, the policy's condition is false and evaluates without an error;
/// `None` where it does not tell, or names more than [`MAX_NAMED`].
pub(crate) fn named_by(policy: &Policy) -> Option<BTreeSet<String>> {
    let exported = policy.to_json().ok()?;
    named(&condition(&exported)).filter(|ids| ids.len() <= MAX_NAMED)
}

/// Most repositories that one policy is filed under: a long list is one policy all the same, and is looked into as fast.
const MAX_NAMED: usize = 8;

fn named(condition: &Value) -> Option<BTreeSet<String>> {
    let operands = |operator: &str| {
        let operands = condition.as_object().filter(|members| members.len() == 1)?.get(operator)?;
        Some((operands.get("left")?, operands.get("right")?))
    };
    if let Some((left, right)) = operands("&&") {
        // What stands before is evaluated first: it must not be what fails. That the id is asked for only where there is one
        // is what strict validation has seen to.
        return named(left).or_else(|| named(right).filter(|_| !is_fallible(left)));
    }
    if let Some((left, right)) = operands("||") {
        let (mut ids, others) = (named(left)?, named(right)?);
        ids.extend(others);
        return Some(ids);
    }
    if let Some((left, right)) = operands("==") {
        let id = match (is_repository_id(left), is_repository_id(right)) {
            (true, false) => text(right),
            (false, true) => text(left),
            (true, true) | (false, false) => None,
        };
        return id.map(|id| BTreeSet::from([id]));
    }
    let (listed, asked) = operands("contains")?;
    let listed = listed.get("Set").and_then(Value::as_array).filter(|_| is_repository_id(asked))?;
    listed.iter().map(text).collect()
}

/// `context.provenance.repository_id`.
fn is_repository_id(expression: &Value) -> bool {
    let read =
        |expression: &Value, attribute: &str| expression.pointer("/./attr").and_then(Value::as_str) == Some(attribute);
    read(expression, "repository_id")
        && expression.pointer("/./left").is_some_and(|provenance| {
            read(provenance, "provenance")
                && provenance.pointer("/./left/Var").and_then(Value::as_str) == Some("context")
        })
}

fn text(literal: &Value) -> Option<String> {
    literal.get("Value")?.as_str().map(str::to_owned)
}
