//! Reading a role's table of parameters: every key is known or refused, and every refusal names the key.

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;
use serde_json::{Map, Value};

/// The table of a role that is named after its backend's kind.
pub(super) struct Table<'a>(&'a Map<String, Value>);

impl<'a> Table<'a> {
    /// The table of `role`, in which only `known` keys may stand.
    pub(super) fn of(role: &'a Role, kind: &str, known: &[&str]) -> Result<Self, InvalidParameters> {
        let table = role.parameters.as_object();
        let table = table.ok_or_else(|| invalid(kind, format!("a role of this backend needs a table [{kind}]")))?;
        match table.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(invalid(unknown, format!("unknown key; known are {}", known.join(", ")))),
            None => Ok(Self(table)),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, InvalidParameters> {
        self.typed(key, "text", Value::as_str)
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, InvalidParameters> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A whole number that is not negative.
    pub(super) fn whole(&self, key: &str) -> Result<Option<u64>, InvalidParameters> {
        self.typed(key, "a whole number, not negative", Value::as_u64)
    }

    /// A list of whole numbers, without repetitions.
    pub(super) fn wholes(&self, key: &str) -> Result<Option<Vec<u64>>, InvalidParameters> {
        let list = |value: &'a Value| value.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>();
        let Some(numbers) = self.typed(key, "a list of whole numbers", list)? else { return Ok(None) };
        let mut seen = std::collections::BTreeSet::new();
        match numbers.iter().find(|number| !seen.insert(**number)) {
            Some(twice) => Err(invalid(key, format!("{twice} is there twice"))),
            None => Ok(Some(numbers)),
        }
    }

    pub(super) fn table(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, InvalidParameters> {
        self.typed(key, "a table", Value::as_object)
    }

    /// A list of tables.
    pub(super) fn tables(&self, key: &str) -> Result<Option<Vec<&'a Map<String, Value>>>, InvalidParameters> {
        let list = |value: &'a Value| value.as_array()?.iter().map(Value::as_object).collect::<Option<Vec<_>>>();
        self.typed(key, "a list of tables", list)
    }

    /// A list of texts, without repetitions.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, InvalidParameters> {
        let list = |value: &'a Value| value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
        let Some(texts) = self.typed(key, "a list of texts", list)? else { return Ok(None) };
        let mut seen = Vec::with_capacity(texts.len());
        for text in &texts {
            if seen.contains(text) {
                return Err(invalid(key, format!("{text:?} is there twice")));
            }
            seen.push(text);
        }
        Ok(Some(texts))
    }

    /// One text, or a list of them.
    pub(super) fn text_or_texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, InvalidParameters> {
        match self.0.get(key) {
            Some(Value::String(text)) => Ok(Some(vec![text])),
            _ => self.texts(key),
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, InvalidParameters> {
        let typed = |value| read(value).ok_or_else(|| invalid(key, format!("must be {expected}")));
        self.0.get(key).map(typed).transpose()
    }
}

/// What is wrong with `key`, and what would be right.
pub(super) fn invalid(key: impl Into<String>, problem: impl Into<String>) -> InvalidParameters {
    InvalidParameters { key: key.into(), problem: problem.into() }
}
