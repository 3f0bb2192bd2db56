//! The attributes of a principal in Cedar's terms.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, SchemaFragment};
use hallpass_core::identity::{AttributeValue, PrincipalKind, workload_type};
use hallpass_core::policy::Principal;
use hallpass_core::port::EvaluationError;
use serde_json::Value;

use super::SCHEMA;
use super::reads::Reads;
use super::request::failed;

/// The record of each kind of issuer, by the kind's name, and its field that says for good where a proof comes from: the
/// repository, or the account where the kind knows none. What other fields there are is in the schema.
pub(crate) const RECORDS: &[(&str, &str, &str)] = &[
    ("github-actions", "github", "repository_id"),
    ("gitlab", "gitlab", "project_id"),
    ("kubernetes", "kubernetes", "service_account_uid"),
    ("buildkite", "buildkite", "pipeline_id"),
    ("circleci", "circleci", "project_id"),
    ("terraform-cloud", "terraform", "workspace_id"),
    ("google", "google", "service_account_id"),
];

/// Attributes of a principal by which its other attributes are reached, and the type of what they hold.
const COLLECTIONS: &[(&str, &str, Shape)] =
    &[("truths", "Truths", Shape::Truth), ("numbers", "Numbers", Shape::Number), ("lists", "Lists", Shape::List)];

/// Attributes that are no texts, of kinds that have no record: of `spiffe`.
const WITHOUT_RECORD: &[(&str, Shape)] = &[("single_use", Shape::Truth)];

/// What an attribute is that a policy takes for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misread {
    /// In words.
    pub(crate) what: &'static str,
    /// The attribute of the principal by which it is reached; empty for the principal's own tags.
    pub(crate) collection: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Truth,
    Number,
    List,
}

/// How attributes are written, read from the schema once.
#[derive(Debug)]
pub(crate) struct Claims {
    records: HashMap<&'static str, Record>,
    collections: Vec<(&'static str, EntityUid, RestrictedExpression, Shape)>,
}

/// The record of one kind of issuer.
#[derive(Debug)]
struct Record {
    /// What it is called as an attribute of the principal.
    name: &'static str,
    /// The type of each field.
    fields: BTreeMap<String, Shape>,
    /// The fields that are always there.
    always: Vec<String>,
}

impl Claims {
    /// As the published schema has them.
    ///
    /// # Errors
    /// What of the schema cannot be read.
    pub(crate) fn published() -> Result<&'static Self, String> {
        static PUBLISHED: LazyLock<Result<Claims, String>> = LazyLock::new(Claims::read);
        PUBLISHED.as_ref().map_err(Clone::clone)
    }

    fn read() -> Result<Self, String> {
        let (fragment, _) = SchemaFragment::from_cedarschema_str(SCHEMA).map_err(|error| error.to_string())?;
        let schema = fragment.to_json_value().map_err(|error| error.to_string())?;
        let types = schema.pointer("//commonTypes").ok_or("the schema has no types")?;
        let workload = schema.pointer("//entityTypes/Workload/shape/attributes").ok_or("the schema has no Workload")?;
        let read = |name: &'static str| {
            let record = workload.get(name).and_then(|field| field.get("name").or(field.get("type")))?.as_str()?;
            let attributes = types.get(record)?.get("attributes")?.as_object()?;
            let fields = attributes.iter().filter_map(|(name, field)| Some((name.clone(), shape(field)?)));
            let always = attributes.iter().filter(|(_, field)| field.get("required") != Some(&Value::Bool(false)));
            Some(Record { name, fields: fields.collect(), always: always.map(|(name, _)| name.clone()).collect() })
        };
        let records = RECORDS.iter().map(|(kind, name, _)| {
            read(name).map(|record| (*kind, record)).ok_or_else(|| format!("the schema has no {name}"))
        });
        let collections = COLLECTIONS.iter().map(|(attribute, kind, shape)| {
            let kind: EntityTypeName = kind.parse().map_err(|error| format!("{error}"))?;
            let uid = EntityUid::from_type_name_and_id(kind, EntityId::new("claims"));
            let reference = RestrictedExpression::new_entity_uid(uid.clone());
            Ok((*attribute, uid, reference, *shape))
        });
        Ok(Self {
            records: records.collect::<Result<_, String>>()?,
            collections: collections.collect::<Result<_, String>>()?,
        })
    }

    /// What the attribute of this name is, where some kind of issuer gives one and none of the type that `collection`
    /// holds, the principal's own tags where that is empty. Of names that no kind is known by nothing is told.
    pub(crate) fn misread(&self, collection: &str, name: &str) -> Option<Misread> {
        let read = match collection {
            "" => Shape::Text,
            _ => COLLECTIONS.iter().find(|(attribute, ..)| *attribute == collection)?.2,
        };
        let of_records = self.records.values().filter_map(|record| record.fields.get(name).copied());
        let others = WITHOUT_RECORD.iter().filter(|(known, _)| *known == name).map(|(_, shape)| *shape);
        let shapes: Vec<_> = of_records.chain(others).collect();
        let is = shapes.first().filter(|_| !shapes.contains(&read))?;
        let what = match is {
            Shape::Text => "a text",
            Shape::Truth => "true or false",
            Shape::Number => "a number",
            Shape::List => "a list",
        };
        let place = COLLECTIONS.iter().find(|(.., shape)| shape == is);
        Some(Misread { what, collection: place.map_or("", |(attribute, ..)| *attribute) })
    }

    /// What a principal has beside its names: the record of its kind, and where its attributes of each type are. What no
    /// policy reads is left out.
    pub(crate) fn attributes(
        &self,
        principal: &Principal,
        reads: &Reads,
    ) -> Result<Vec<(String, RestrictedExpression)>, EvaluationError> {
        let references =
            self.collections.iter().map(|(attribute, _, reference, _)| ((*attribute).to_owned(), reference.clone()));
        let mut attributes: Vec<_> = references.collect();
        let kind = principal.issuer_kind.as_str();
        if reads.has("workload_type")
            && principal.kind == PrincipalKind::Workload
            && let Some(workload_type) = workload_type(kind, &principal.attributes)
        {
            attributes.push(("workload_type".to_owned(), RestrictedExpression::new_string(workload_type.to_owned())));
        }
        if let Some(record) = self.records.get(kind).filter(|record| reads.has(record.name)) {
            let fits = |name: &String, value| record.fields.get(name) == Some(&shape_of(value));
            let said = || principal.attributes.iter().filter(|(name, value)| fits(name, value));
            // Attributes that an earlier version recorded may lack what is always there by now.
            if record.always.iter().all(|field| said().any(|(name, _)| name == field)) {
                let fields = said().map(|(name, value)| (name.clone(), expression(value)));
                attributes.push((record.name.to_owned(), RestrictedExpression::new_record(fields).map_err(failed)?));
            }
        }
        Ok(attributes)
    }

    /// The entities that hold a principal's attributes by their types, where any policy reads them.
    pub(crate) fn entities(&self, principal: &Principal, reads: &Reads) -> Result<Vec<Entity>, EvaluationError> {
        let read = self.collections.iter().filter(|(attribute, ..)| reads.has(attribute));
        let entity = |(_, uid, _, shape): &(&str, EntityUid, RestrictedExpression, Shape)| {
            let tags = principal.attributes.iter().filter(|(_, value)| shape_of(value) == *shape);
            let tags = tags.map(|(name, value)| (name.clone(), expression(value)));
            Entity::new_with_tags(uid.clone(), [], [], tags).map_err(failed)
        };
        read.map(entity).collect()
    }
}

fn shape_of(value: &AttributeValue) -> Shape {
    match value {
        AttributeValue::Text(_) => Shape::Text,
        AttributeValue::Bool(_) => Shape::Truth,
        AttributeValue::Long(_) => Shape::Number,
        AttributeValue::List(_) => Shape::List,
    }
}

fn expression(value: &AttributeValue) -> RestrictedExpression {
    match value {
        AttributeValue::Text(text) => RestrictedExpression::new_string(text.clone()),
        AttributeValue::Bool(truth) => RestrictedExpression::new_bool(*truth),
        AttributeValue::Long(number) => RestrictedExpression::new_long(*number),
        AttributeValue::List(list) => {
            RestrictedExpression::new_set(list.iter().map(|text| RestrictedExpression::new_string(text.clone())))
        }
    }
}

/// The type of a field in the schema's JSON.
fn shape(field: &Value) -> Option<Shape> {
    let named = field.get("name").or_else(|| field.get("type")).and_then(Value::as_str)?;
    match named.trim_start_matches("__cedar::") {
        "String" => Some(Shape::Text),
        "Bool" | "Boolean" => Some(Shape::Truth),
        "Long" => Some(Shape::Number),
        "Set" => Some(Shape::List),
        _ => None,
    }
}
