//! Which repositories and accounts a policy can hold for, where its condition says so.
//!
//! A house binds each of its repositories by a policy of its own, and many of them have the same scope. A condition that
//! asks for the id of one before all else is false, and fails for nothing, for whoever comes from another one: such a policy
//! need not be evaluated there. In doubt a policy counts as one that may hold for any.
//!
//! An id is asked for of the provenance or of what a kind of issuer says, and each is looked for where the condition reads
//! it: that a proof says the same in both places is nothing that this relies on.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use hallpass_core::identity::AttributeValue;
use hallpass_core::policy::PolicyQuery;
use serde_json::Value;

use super::claims::RECORDS;
use super::remainder::{condition, is_fallible};

/// Where an id can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// `context.provenance.repository_id`.
    Provenance,
    /// In the principal's record of this name, such as `principal.github.repository_id`.
    Record(&'static str),
}

/// Where `query` comes from: every id that a condition can read of it. Of a kind that has no such record, or of a record
/// that is not there, there is none.
pub(crate) fn of(query: &PolicyQuery) -> impl Iterator<Item = (Place, &str)> {
    let provenance = query.context.provenance.repository_id.as_deref().map(|id| (Place::Provenance, id));
    let principal = &query.principal;
    let record = RECORDS.iter().find(|(kind, ..)| *kind == principal.issuer_kind);
    let said = record.and_then(|(_, record, field)| match principal.attributes.get(*field)? {
        AttributeValue::Text(id) => Some((Place::Record(record), id.as_str())),
        AttributeValue::Bool(_) | AttributeValue::Long(_) | AttributeValue::List(_) => None,
    });
    provenance.into_iter().chain(said)
}

/// Of whoever comes from none of these, the policy's condition is false and evaluates without an error; `None` where it
/// does not tell, or names more than [`MAX_NAMED`].
pub(crate) fn named_by(policy: &Policy) -> Option<BTreeSet<(Place, String)>> {
    let exported = policy.to_json().ok()?;
    named(&condition(&exported)).filter(|origins| origins.len() <= MAX_NAMED)
}

/// Most origins that one policy is filed under: a long list is one policy all the same, and is looked into as fast.
const MAX_NAMED: usize = 8;

fn named(condition: &Value) -> Option<BTreeSet<(Place, String)>> {
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
        let (mut origins, others) = (named(left)?, named(right)?);
        origins.extend(others);
        return Some(origins);
    }
    if let Some((left, right)) = operands("==") {
        return match (place(left), place(right)) {
            (Some(place), None) => Some(BTreeSet::from([(place, text(right)?)])),
            (None, Some(place)) => Some(BTreeSet::from([(place, text(left)?)])),
            (Some(_), Some(_)) | (None, None) => None,
        };
    }
    let (listed, asked) = operands("contains")?;
    let place = place(asked)?;
    listed.get("Set")?.as_array()?.iter().map(|id| Some((place, text(id)?))).collect()
}

/// Where an expression reads an id, if it does.
fn place(expression: &Value) -> Option<Place> {
    let (of, field) = read(expression)?;
    let (variable, of) = read(of)?;
    match variable.get("Var")?.as_str()? {
        "context" => (of == "provenance" && field == "repository_id").then_some(Place::Provenance),
        "principal" => {
            let record = RECORDS.iter().find(|(_, record, id)| *record == of && *id == field);
            record.map(|(_, record, _)| Place::Record(record))
        }
        _ => None,
    }
}

/// What an attribute is read of, and its name.
fn read(expression: &Value) -> Option<(&Value, &str)> {
    let operands = expression.as_object().filter(|members| members.len() == 1)?.get(".")?;
    Some((operands.get("left")?, operands.get("attr")?.as_str()?))
}

fn text(literal: &Value) -> Option<String> {
    literal.get("Value")?.as_str().map(str::to_owned)
}
