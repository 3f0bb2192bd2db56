//! Where the longest life of a grant makes a difference to a policy.
//!
//! Grants that are alike differ in nothing else that policy reads, and who may end a set of them is decided for all at
//! once. So `max_ttl` is compared with numbers only, and each of them is asked about.

use std::collections::BTreeSet;

use cedar_policy::{Policy, ResourceConstraint};
use serde_json::Value;

const MAX_TTL: &str = "max_ttl";
const COMPARISONS: &[&str] = &["<", "<=", ">", ">=", "==", "!="];

/// The numbers that a policy about grants compares `max_ttl` with.
///
/// # Errors
/// [`Otherwise`] when it does something else with it.
pub(super) fn compared_with(policy: &Policy) -> Result<BTreeSet<i64>, Otherwise> {
    let mut found = BTreeSet::new();
    if could_be_of_grants(policy) {
        collect(&policy.to_json().map_err(|_| Otherwise)?, &mut found)?;
    }
    Ok(found)
}

/// `max_ttl` is not compared with a number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Otherwise;

fn could_be_of_grants(policy: &Policy) -> bool {
    match policy.resource_constraint() {
        ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => kind.to_string() == "Grant",
        ResourceConstraint::Any | ResourceConstraint::Eq(_) | ResourceConstraint::In(_) => true,
    }
}

fn collect(value: &Value, found: &mut BTreeSet<i64>) -> Result<(), Otherwise> {
    match value {
        Value::Object(members) => members.iter().try_for_each(|(key, inner)| {
            let sides = [inner.get("left"), inner.get("right")];
            let reads = sides.iter().any(|side| side.is_some_and(reads_it));
            let number = sides.iter().find_map(|side| side.and_then(|side| side.get("Value")).and_then(Value::as_i64));
            match number {
                Some(number) if reads && COMPARISONS.contains(&key.as_str()) => {
                    found.insert(number);
                    Ok(())
                }
                _ if key == "." && inner.get("attr").and_then(Value::as_str) == Some(MAX_TTL) => Err(Otherwise),
                _ => collect(inner, found),
            }
        }),
        Value::Array(items) => items.iter().try_for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Whether an expression is `resource.max_ttl` and nothing more.
fn reads_it(expression: &Value) -> bool {
    let read = expression.get(".");
    read.and_then(|read| read.get("attr")).and_then(Value::as_str) == Some(MAX_TTL)
        && read.and_then(|read| read.pointer("/left/Var")).is_some()
}
