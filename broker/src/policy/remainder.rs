//! What policies leave to the circumstances of a question.
//!
//! Each condition is rewritten to what it says once everything is settled that the question settles: what reads nothing
//! open is evaluated, by Cedar itself, and `&&`, `||`, `!` and `if` are reduced by it. What remains is spelled with the
//! values of the settled facts that it reads in place of their names, so that two remainders are the same text only where
//! they mean the same, whichever revision they come from.

use cedar_policy::{Authorizer, Decision, Effect, EntityUid, EvalResult, Policy, PolicySet};
use hallpass_core::binding::Binding;
use hallpass_core::policy::{PolicyQuery, Resource};
use hallpass_core::port::{EvaluationError, Remainder};
use hallpass_core::time::Ttl;
use serde_json::{Map, Value, json};

use super::compare::{principal_fits, resource_fits};
use super::request::{Prepared, failed};

/// What of the context is settled: it comes from the role and from the caller's teams.
const SETTLED: &[&str] = &["environment", "owner_member"];
/// What of a principal is open: another proof of the same identity may say something else of it. So are its tags.
const OPEN_OF_PRINCIPAL: &[&str] = &[
    "multi_audience",
    "via_role",
    "workload_type",
    "github",
    "gitlab",
    "kubernetes",
    "buildkite",
    "circleci",
    "terraform",
    "google",
    "truths",
    "numbers",
    "lists",
];
/// What of a grant is open: grants that are alike differ in it.
const OPEN_OF_GRANT: &str = "max_ttl";
/// What may fail for some values, of strictly validated policies: arithmetic that overflows.
const FALLIBLE: &[&str] = &["+", "-", "*", "neg", "offset", "durationSince", "toDate", "toTime", FAILS];
/// Stands for what cannot be evaluated.
const FAILS: &str = "fails";

/// What `policies` leave open of `query`.
///
/// # Errors
/// [`EvaluationError`] for what Cedar cannot export.
pub(crate) fn of<'a>(
    policies: impl Iterator<Item = (&'a Policy, (Option<Ttl>, Option<Binding>))>,
    query: &PolicyQuery,
    prepared: &Prepared,
) -> Result<Remainder, EvaluationError> {
    let question = Question::new(query, prepared);
    let mut remainder = Remainder::default();
    for (policy, (max_ttl, binding)) in policies {
        if !principal_fits(policy, &prepared.principals) || !resource_fits(policy, &prepared.resources) {
            continue;
        }
        let left = question.settle(&condition(&policy.to_json().map_err(failed)?));
        if is_fallible(&left) {
            remainder.doubts.insert(left.to_string());
        }
        let text = match truth(&left) {
            Some(false) => continue,
            Some(true) => Remainder::ALWAYS.to_owned(),
            None => left.to_string(),
        };
        if let Some(binding) = binding {
            // Where it holds it forbids whatever else permits to whoever is bound otherwise: the strictest of all counts.
            remainder.forbids.insert(format!("unless bound by {}: {text}", binding.as_str()));
        }
        match policy.effect() {
            Effect::Permit => drop(remainder.permits.insert((text, max_ttl))),
            Effect::Forbid => drop(remainder.forbids.insert(text)),
        }
    }
    Ok(remainder)
}

/// All `when` and `unless` of an exported policy as one condition.
pub(super) fn condition(exported: &Value) -> Value {
    let clauses = exported.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let clauses = clauses.map(|clause| {
        let body = clause.get("body").cloned().unwrap_or_default();
        if clause.get("kind").and_then(Value::as_str) == Some("unless") { json!({"!": {"arg": body}}) } else { body }
    });
    clauses.reduce(|left, right| json!({"&&": {"left": left, "right": right}})).unwrap_or_else(|| is(true))
}

struct Question<'a> {
    prepared: &'a Prepared,
    environment: Option<String>,
    owner_member: bool,
    of_grant: bool,
}

impl<'a> Question<'a> {
    fn new(query: &PolicyQuery, prepared: &'a Prepared) -> Self {
        let environment = match &query.resource {
            Resource::Role(facts) | Resource::Grant { role: facts, .. } => facts.environment.as_ref(),
            Resource::Owner { .. } | Resource::AuditLog | Resource::Broker | Resource::Bundle => None,
        };
        Self {
            prepared,
            environment: environment.map(ToString::to_string),
            owner_member: query.context.owner_member,
            of_grant: matches!(query.resource, Resource::Grant { .. }),
        }
    }

    /// What is left of a condition.
    fn settle(&self, condition: &Value) -> Value {
        if !self.is_open(condition) {
            return self.evaluate(condition);
        }
        let Some((operator, operands)) = node(condition) else { return self.spell(condition) };
        let operand = |name: &str| operands.get(name);
        match (operator, operand("left"), operand("right"), operand("arg")) {
            ("&&", Some(left), Some(right), _) => {
                let left = self.settle(left);
                // Not evaluated where the left says no: it may ask for what is only there where the left says yes.
                if truth(&left) == Some(false) { left } else { and(left, self.settle(right)) }
            }
            ("||", Some(left), Some(right), _) => {
                let left = self.settle(left);
                if truth(&left) == Some(true) { left } else { or(left, self.settle(right)) }
            }
            ("!", _, _, Some(arg)) => not(self.settle(arg)),
            ("if-then-else", ..) => match (operand("if"), operand("then"), operand("else")) {
                (Some(asked), Some(then), Some(otherwise)) => {
                    let asked = self.settle(asked);
                    match truth(&asked) {
                        Some(true) => self.settle(then),
                        Some(false) => self.settle(otherwise),
                        None => {
                            json!({"if-then-else": {"if": asked, "then": self.settle(then), "else": self.settle(otherwise)}})
                        }
                    }
                }
                _ => self.spell(condition),
            },
            _ => self.spell(condition),
        }
    }

    /// Whether the value of an expression depends on what is open.
    fn is_open(&self, expression: &Value) -> bool {
        if let Some((operator, operands)) = node(expression) {
            match operator {
                "Value" => return false,
                "Var" => return operands.as_str() == Some("context"),
                "hasTag" | "getTag" => return true,
                "." | "has" => {
                    let attribute = attribute(operands).unwrap_or_default();
                    return if variable(operands) == Some("context") {
                        !SETTLED.contains(&attribute)
                    } else {
                        // Whatever the entity is called there.
                        OPEN_OF_PRINCIPAL.contains(&attribute)
                            || (self.of_grant && attribute == OPEN_OF_GRANT)
                            || operands.get("left").is_none_or(|left| self.is_open(left))
                    };
                }
                _ => {}
            }
        }
        match expression {
            Value::Object(members) => members.values().any(|inner| self.is_open(inner)),
            Value::Array(items) => items.iter().any(|inner| self.is_open(inner)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    /// The value of a condition that reads nothing open.
    fn evaluate(&self, condition: &Value) -> Value {
        if truth(condition).is_some() {
            return condition.clone();
        }
        let all = json!({"op": "All"});
        let asked = json!({
            "effect": "permit", "principal": all, "action": all, "resource": all,
            "conditions": [{"kind": "when", "body": condition}],
        });
        let value = Policy::from_json(None, asked).ok().and_then(|policy| {
            let policies = PolicySet::from_policies([policy]).ok()?;
            let response = Authorizer::new().is_authorized(&self.prepared.request, &policies, &self.prepared.entities);
            let failed = response.diagnostics().errors().next().is_some();
            (!failed).then_some(response.decision() == Decision::Allow)
        });
        value.map_or_else(|| json!({FAILS: self.spell(condition)}), is)
    }

    /// An expression, with what is settled in it told by its value.
    fn spell(&self, expression: &Value) -> Value {
        if let Some((operator, operands)) = node(expression) {
            match operator {
                "Value" => return expression.clone(),
                "Var" => return self.named(operands.as_str().unwrap_or_default()),
                // What is open of a variable needs no more than its name.
                "." | "has" if variable(operands).is_some() && self.is_open(expression) => return expression.clone(),
                "." => {
                    let value = variable(operands).and_then(|name| self.value(name, attribute(operands)?));
                    if let Some(value) = value {
                        return json!({"Value": value});
                    }
                }
                "hasTag" | "getTag" if variable(operands) == Some("principal") => {
                    let key = operands.get("right").map(|right| self.spell(right));
                    return json!({operator: {"left": {"Var": "principal"}, "right": key}});
                }
                _ => {}
            }
        }
        match expression {
            Value::Object(members) => {
                Value::Object(members.iter().map(|(name, inner)| (name.clone(), self.spell(inner))).collect())
            }
            Value::Array(items) => items.iter().map(|inner| self.spell(inner)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => expression.clone(),
        }
    }

    /// The value of a settled attribute.
    fn value(&self, variable: &str, attribute: &str) -> Option<Value> {
        match (variable, attribute) {
            ("context", "environment") => self.environment.clone().map(Value::from),
            ("context", "owner_member") => Some(self.owner_member.into()),
            ("principal", _) => self.of_entity(&self.prepared.principals).get(attribute).cloned(),
            ("resource", _) => self.of_entity(&self.prepared.resources).get(attribute).cloned(),
            _ => None,
        }
    }

    /// A variable as a whole, with everything that is settled of it.
    fn named(&self, variable: &str) -> Value {
        let (is_in, facts) = match variable {
            "principal" => (&self.prepared.principals, self.of_entity(&self.prepared.principals)),
            "resource" => (&self.prepared.resources, self.of_entity(&self.prepared.resources)),
            "context" => {
                return json!({"Var": variable, "of": {"environment": self.environment, "owner_member": self.owner_member}});
            }
            _ => return json!({"Var": variable}),
        };
        let is_in: std::collections::BTreeSet<_> = is_in.iter().map(ToString::to_string).collect();
        json!({"Var": variable, "in": is_in, "of": facts})
    }

    /// What is settled of an entity.
    fn of_entity(&self, uids: &[EntityUid]) -> Map<String, Value> {
        let entity = uids.first().and_then(|uid| self.prepared.entities.get(uid));
        let facts = entity.into_iter().flat_map(|entity| entity.attrs()).filter_map(|(name, value)| {
            let value = match value.ok()? {
                EvalResult::Bool(value) => Value::from(value),
                EvalResult::Long(value) => Value::from(value),
                EvalResult::String(value) => Value::from(value),
                EvalResult::EntityUid(_)
                | EvalResult::Set(_)
                | EvalResult::Record(_)
                | EvalResult::ExtensionValue(_) => return None,
            };
            Some((name.to_owned(), value))
        });
        let is_open = |name: &str| OPEN_OF_PRINCIPAL.contains(&name) || (self.of_grant && name == OPEN_OF_GRANT);
        facts.filter(|(name, _)| !is_open(name)).collect()
    }
}

/// The operator of an exported expression, with its operands.
fn node(expression: &Value) -> Option<(&str, &Value)> {
    let members = expression.as_object().filter(|members| members.len() == 1)?;
    members.iter().next().map(|(operator, operands)| (operator.as_str(), operands))
}

/// The variable of which an attribute is read.
fn variable(operands: &Value) -> Option<&str> {
    operands.pointer("/left/Var").and_then(Value::as_str)
}

/// The attribute that is read, or the first of those that are asked for.
fn attribute(operands: &Value) -> Option<&str> {
    let named = operands.get("attr")?;
    named.as_array().and_then(|path| path.first()).unwrap_or(named).as_str()
}

fn is(value: bool) -> Value {
    json!({"Value": value})
}

fn truth(condition: &Value) -> Option<bool> {
    condition.get("Value").and_then(Value::as_bool)
}

fn and(left: Value, right: Value) -> Value {
    match (truth(&left), truth(&right)) {
        (Some(true), _) => right,
        (_, Some(true)) => left,
        (_, Some(false)) if !is_fallible(&left) => right,
        _ => json!({"&&": {"left": left, "right": right}}),
    }
}

fn or(left: Value, right: Value) -> Value {
    match (truth(&left), truth(&right)) {
        (Some(false), _) => right,
        (_, Some(false)) => left,
        (_, Some(true)) if !is_fallible(&left) => right,
        _ => json!({"||": {"left": left, "right": right}}),
    }
}

fn not(arg: Value) -> Value {
    truth(&arg).map_or_else(|| json!({"!": {"arg": arg}}), |value| is(!value))
}

pub(super) fn is_fallible(expression: &Value) -> bool {
    match expression {
        Value::Object(members) => {
            members.iter().any(|(name, inner)| FALLIBLE.contains(&name.as_str()) || is_fallible(inner))
        }
        Value::Array(items) => items.iter().any(is_fallible),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
