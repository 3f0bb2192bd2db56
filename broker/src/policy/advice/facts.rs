//! What the condition of a policy says of claims, read from its exported form.

use std::collections::BTreeSet;

use serde_json::Value;

/// One comparison of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// Of what.
    pub(super) of: Of,
    /// The attribute, claim or field of the provenance.
    pub(super) name: String,
    /// What it is said to be.
    pub(super) says: Says,
    /// Whether it is said to be that, or not to be.
    pub(super) positive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A field of the principal itself, such as its subject.
    Principal,
    /// A claim of the proof: in the provenance, in the record of its kind, or a tag.
    Claim,
    /// A claim that is read as a text tag.
    Tag,
    /// A field of the resource.
    Resource,
    /// Anything else of the context, what others signed included.
    Context,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// One of these texts; for an entity, its type and id; for a number, its digits.
    Is(Vec<String>),
    /// A pattern, its wildcards as [`WILDCARD`].
    Like(String),
    /// True.
    True,
    /// There.
    There,
}

/// Stands for a wildcard in a pattern: no text of a policy can hold it.
pub(super) const WILDCARD: char = '\u{0}';

impl Fact {
    /// Whether it is about this claim.
    pub(super) fn is_of_claim(&self, name: &str) -> bool {
        matches!(self.of, Of::Claim | Of::Tag) && self.name == name
    }

    /// Whether it says that the claim is one of some texts, or like one.
    pub(super) fn binds(&self) -> bool {
        self.positive && matches!(self.says, Says::Is(_) | Says::Like(_))
    }

    /// Whether it says that the claim is one of some texts, each written out.
    pub(super) fn is_exact(&self) -> bool {
        self.positive && matches!(self.says, Says::Is(_))
    }

    /// Whether it says that this is true.
    pub(super) fn is_true(&self) -> bool {
        self.positive && self.says == Says::True
    }
}

/// Whether every way in which a condition can hold has a fact such as `wanted`.
pub(super) fn holds(condition: &Value, wanted: &dyn Fn(&Fact) -> bool) -> bool {
    in_every_way(condition, true, wanted)
}

/// Whether a condition is true, as far as `known` says of each comparison whether what it compares is so.
pub(super) fn truth(condition: &Value, known: &dyn Fn(&Fact) -> Option<bool>) -> Option<bool> {
    let (operator, operands) = node(condition)?;
    let operand = |name: &str| truth(operands.get(name).unwrap_or(&Value::Null), known);
    match operator {
        "Value" => operands.as_bool(),
        "!" => operand("arg").map(|is| !is),
        "&&" | "||" => {
            // What settles the whole from either side, whatever the other is.
            let settles = operator == "||";
            match (operand("left"), operand("right")) {
                (Some(left), Some(right)) if left != settles && right != settles => Some(!settles),
                (left, right) => [left, right].contains(&Some(settles)).then_some(settles),
            }
        }
        "if-then-else" => match operand("if") {
            Some(true) => operand("then"),
            Some(false) => operand("else"),
            None => match (operand("then"), operand("else")) {
                (then, otherwise) if then == otherwise => then,
                _ => None,
            },
        },
        _ => atom(condition, true).and_then(|fact| Some(known(&fact)? == fact.positive)),
    }
}

/// Every comparison of a condition.
pub(super) fn all(condition: &Value) -> Vec<Fact> {
    let mut facts = Vec::new();
    collect(condition, true, &mut facts);
    facts
}

/// Every tag of the principal that a condition asks for, wherever in it: the attribute by which it is reached, nothing for
/// a tag of its own, and the tag's name.
pub(super) fn tags(condition: &Value) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    let mut open = vec![condition];
    while let Some(expression) = open.pop() {
        if let Some(("hasTag" | "getTag", operands)) = node(expression)
            && let Some(collection) = operands.get("left").and_then(collection)
            && let Some(name) = operands.pointer("/right/Value").and_then(Value::as_str)
        {
            found.insert((collection, name));
        }
        match expression {
            Value::Object(members) => open.extend(members.values()),
            Value::Array(items) => open.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}

/// The attribute of the principal that an expression is, or nothing for the principal itself.
fn collection(expression: &Value) -> Option<&str> {
    let (name, of) = match node(expression)? {
        (".", operands) => (operands.get("attr")?.as_str()?, node(operands.get("left")?)?),
        itself => ("", itself),
    };
    (of.0 == "Var" && of.1.as_str() == Some("principal")).then_some(name)
}

/// Whether each way for a condition to be `outcome` has such a fact.
fn in_every_way(condition: &Value, outcome: bool, wanted: &dyn Fn(&Fact) -> bool) -> bool {
    let Some((operator, operands)) = node(condition) else { return false };
    let operand = |name: &str| operands.get(name).unwrap_or(&Value::Null);
    let way = |name: &str, outcome| in_every_way(operand(name), outcome, wanted);
    match operator {
        "!" => way("arg", !outcome),
        "&&" | "||" => {
            let (left, right) = (way("left", outcome), way("right", outcome));
            // To hold, `&&` needs both and so has the facts of either; to fail, one suffices. `||` is its mirror.
            if (operator == "&&") == outcome { left || right } else { left && right }
        }
        "if-then-else" => (way("if", true) || way("then", outcome)) && (way("if", false) || way("else", outcome)),
        _ => atom(condition, outcome).is_some_and(|fact| wanted(&fact)),
    }
}

fn collect(condition: &Value, positive: bool, facts: &mut Vec<Fact>) {
    let Some((operator, operands)) = node(condition) else { return };
    let operand = |name: &str| operands.get(name).unwrap_or(&Value::Null);
    match operator {
        "!" => collect(operand("arg"), !positive, facts),
        "&&" | "||" => {
            collect(operand("left"), positive, facts);
            collect(operand("right"), positive, facts);
        }
        "if-then-else" => {
            collect(operand("if"), positive, facts);
            collect(operand("if"), !positive, facts);
            collect(operand("then"), positive, facts);
            collect(operand("else"), positive, facts);
        }
        _ => facts.extend(atom(condition, positive)),
    }
}

fn atom(expression: &Value, positive: bool) -> Option<Fact> {
    let (operator, operands) = node(expression)?;
    let (left, right) = (operands.get("left")?, operands.get("right").unwrap_or(&Value::Null));
    let fact = |place: (Of, String), says, positive| Some(Fact { of: place.0, name: place.1, says, positive });
    match operator {
        "==" | "!=" => {
            let positive = positive == (operator == "==");
            let (place, value) = match (place(left), place(right)) {
                (Some(place), None) => (place, right),
                (None, Some(place)) => (place, left),
                _ => return None,
            };
            match value.get("Value")? {
                Value::Bool(truth) => fact(place, Says::True, positive == *truth),
                value => fact(place, Says::Is(vec![text(value)?]), positive),
            }
        }
        "in" => fact(place(left)?, Says::Is(texts(right)?), positive),
        "like" => fact(place(left)?, Says::Like(pattern(operands.get("pattern")?)), positive),
        "contains" | "containsAny" | "containsAll" => match (place(left), place(right)) {
            (Some(place), None) => fact(place, Says::Is(texts(right)?), positive),
            (None, Some(place)) => fact(place, Says::Is(texts(left)?), positive),
            _ => None,
        },
        "has" => {
            let (of, name) = place_of_attribute(left, operands.get("attr")?)?;
            fact((of, name), Says::There, positive)
        }
        "hasTag" => fact(tag(left, right)?, Says::There, positive),
        "." | "getTag" => fact(place(expression)?, Says::True, positive),
        _ => None,
    }
}

/// What an expression reads.
fn place(expression: &Value) -> Option<(Of, String)> {
    let (operator, operands) = node(expression)?;
    match operator {
        "Var" => {
            let of = match operands.as_str()? {
                "principal" => Of::Principal,
                "resource" => Of::Resource,
                _ => return None,
            };
            Some((of, String::new()))
        }
        "." => place_of_attribute(operands.get("left")?, operands.get("attr")?),
        "getTag" => tag(operands.get("left")?, operands.get("right")?),
        _ => None,
    }
}

fn place_of_attribute(left: &Value, attribute: &Value) -> Option<(Of, String)> {
    let path = attribute.as_array().map_or_else(|| vec![attribute], |path| path.iter().collect());
    let name = path.last()?.as_str()?.to_owned();
    let within = path.len() > 1 || node(left).is_some_and(|(operator, _)| operator == ".");
    let of = match variable(left)? {
        "principal" if within => Of::Claim,
        "principal" => Of::Principal,
        "resource" => Of::Resource,
        // What else is in a record of the context is nothing that the proof says: a build, a change, whom one acts for.
        "context" if within && root(left, path.first().copied()) == Some("provenance") => Of::Claim,
        _ => Of::Context,
    };
    Some((of, name))
}

fn tag(left: &Value, name: &Value) -> Option<(Of, String)> {
    let of = if node(left)?.0 == "Var" { Of::Tag } else { Of::Claim };
    (variable(left)? == "principal").then_some(())?;
    Some((of, name.get("Value")?.as_str()?.to_owned()))
}

/// The variable at the bottom of an expression.
fn variable(expression: &Value) -> Option<&str> {
    let (operator, operands) = node(expression)?;
    match operator {
        "Var" => operands.as_str(),
        "." | "getTag" => variable(operands.get("left")?),
        _ => None,
    }
}

/// The first attribute on the way from a variable to `left`, or `next` where that is the variable itself.
fn root<'a>(left: &'a Value, next: Option<&'a Value>) -> Option<&'a str> {
    match node(left)? {
        ("Var", _) => next?.as_str(),
        (".", operands) => {
            let attribute = operands.get("attr")?;
            root(operands.get("left")?, attribute.as_array().map_or(Some(attribute), |path| path.first()))
        }
        _ => None,
    }
}

/// The texts that are written out, where all are.
fn texts(expression: &Value) -> Option<Vec<String>> {
    let items = expression.get("Set").and_then(Value::as_array);
    let values = items.into_iter().flatten().chain(items.is_none().then_some(expression));
    values.map(|value| text(value.get("Value")?)).collect()
}

fn text(value: &Value) -> Option<String> {
    let entity = value.get("__entity");
    let entity =
        entity.and_then(|entity| Some(format!("{}::{}", entity.get("type")?.as_str()?, entity.get("id")?.as_str()?)));
    let number = || value.as_i64().map(|number| number.to_string());
    entity.or_else(|| value.as_str().map(str::to_owned)).or_else(number)
}

fn pattern(parts: &Value) -> String {
    let parts = parts.as_array().into_iter().flatten();
    parts
        .map(|part| part.get("Literal").and_then(Value::as_str).map_or_else(|| WILDCARD.to_string(), str::to_owned))
        .collect()
}

fn node(expression: &Value) -> Option<(&str, &Value)> {
    let members = expression.as_object().filter(|members| members.len() == 1)?;
    members.iter().next().map(|(operator, operands)| (operator.as_str(), operands))
}
