//! What of a principal the policies of a bundle read.
//!
//! A proof of a CI system has thirty attributes, and most policies look at the provenance alone: what nobody reads need
//! not be made for every decision.

use std::collections::BTreeSet;

use serde_json::Value;

use super::source::Rule;

/// Names of attributes that some policy reads or asks for, of whatever entity, and whether any reads tags.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    attributes: BTreeSet<String>,
    tags: bool,
    everything: bool,
}

impl Reads {
    /// What `rules` read.
    pub(crate) fn of(rules: &[Rule]) -> Self {
        let mut reads = Self::default();
        for rule in rules {
            match rule.policy.to_json() {
                Ok(exported) => reads.collect(&exported),
                // Not understood, and so it may read anything.
                Err(_) => reads.everything = true,
            }
        }
        reads
    }

    /// Whether any policy may read this attribute.
    pub(crate) fn has(&self, attribute: &str) -> bool {
        self.everything || self.attributes.contains(attribute)
    }

    /// Whether any policy may read a tag.
    pub(crate) fn tags(&self) -> bool {
        self.everything || self.tags
    }

    fn collect(&mut self, expression: &Value) {
        match expression {
            Value::Object(members) => {
                for (key, inner) in members {
                    match key.as_str() {
                        "hasTag" | "getTag" => self.tags = true,
                        "." | "has" => {
                            let named = inner.get("attr");
                            let path = named.and_then(Value::as_array).into_iter().flatten();
                            let names = path.chain(named).filter_map(Value::as_str);
                            self.attributes.extend(names.map(str::to_owned));
                        }
                        _ => {}
                    }
                    self.collect(inner);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
