//! TOML with places: what is wrong is reported with the line that it stands on, and everything that is wrong at once.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use hallpass_core::time::{Timestamp, Ttl};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Visitor};
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::Finding;

/// A TOML file, or one entry of an array of tables in it.
#[derive(Clone, Debug)]
pub(crate) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    value: Spanned<DeValue<'a>>,
}

impl<'a> Document<'a> {
    /// Parses `text`, bounded in depth by the parser.
    ///
    /// # Errors
    /// Every error of syntax.
    pub(crate) fn parse(file: &'a Path, text: &'a str) -> Result<Self, Vec<Finding>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let findings: Vec<_> = errors.iter().map(|error| at(file, text, error.span(), error.message())).collect();
        if !findings.is_empty() {
            return Err(findings);
        }
        let span = table.span();
        Ok(Self { file, text, value: Spanned::new(span, DeValue::Table(table.into_inner())) })
    }

    /// The entries of `[[name]]`. Anything else in the file is a finding.
    pub(crate) fn entries(&self, name: &str, findings: &mut Vec<Finding>) -> Vec<Self> {
        let mut entries = Vec::new();
        for (key, value) in self.table().into_iter().flatten() {
            match value.get_ref() {
                DeValue::Array(items) if key.get_ref() == name => {
                    entries.extend(items.iter().map(|item| Self { value: item.clone(), ..*self }));
                }
                _ => {
                    let reason = format!("unknown key {:?}: this file has [[{name}]] entries only", key.get_ref());
                    findings.push(at(self.file, self.text, Some(key.span()), reason));
                }
            }
        }
        entries
    }

    /// Reads the whole as a `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self, findings: &mut Vec<Finding>) -> Option<T> {
        match T::deserialize(ValueDeserializer::from(self.value.clone())) {
            Ok(value) => Some(value),
            Err(error) => {
                let span = error.span().filter(|span| !span.is_empty()).or_else(|| Some(self.value.span()));
                findings.push(at(self.file, self.text, span, error.message()));
                None
            }
        }
    }

    /// The text at `key`, if it is one.
    pub(crate) fn text_at(&self, key: &str) -> Option<&str> {
        self.table()?.get(key)?.get_ref().as_str()
    }

    /// The table at `key`, if it is one.
    pub(crate) fn child(&self, key: &str) -> Option<Self> {
        let value = self.table()?.get(key).filter(|value| value.get_ref().is_table())?;
        Some(Self { value: value.clone(), ..*self })
    }

    /// The keys with their lines.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, usize)> {
        self.table().into_iter().flatten().map(|(key, _)| (key.get_ref().as_ref(), self.line(key.span())))
    }

    /// Something wrong at `key`, a path with dots; at the nearest of its parents that is there.
    pub(crate) fn finding(&self, key: &str, reason: impl fmt::Display) -> Finding {
        let mut span = self.value.span();
        let mut value = self.value.get_ref();
        for part in key.split('.') {
            let entry = value.as_table().and_then(|table| table.get_key_value(part));
            let Some((found, inner)) = entry else { break };
            span = found.span();
            value = inner.get_ref();
        }
        at(self.file, self.text, Some(span), format!("{key}: {reason}"))
    }

    /// The path of the file that `key` names, below `base`; it must be there. A bundle that has no folder names no files:
    /// whoever sends one could otherwise have the broker read what lies on its machine, or learn what does.
    pub(crate) fn existing_file(
        &self,
        key: &str,
        file: &Path,
        base: Option<&Path>,
        findings: &mut Vec<Finding>,
    ) -> Option<PathBuf> {
        let path = match base {
            Some(base) => base.join(file),
            None => {
                let reason =
                    "names a file of the broker's machine, which only a bundle that lies there as a folder may";
                findings.push(self.finding(key, reason));
                return None;
            }
        };
        if path.is_file() {
            return Some(path);
        }
        findings.push(self.finding(key, format!("there is no file {}", path.display())));
        None
    }

    /// The file.
    pub(crate) fn file(&self) -> &'a Path {
        self.file
    }

    /// Line on which it begins.
    pub(crate) fn first_line(&self) -> usize {
        self.line(self.value.span())
    }

    fn table(&self) -> Option<&DeTable<'a>> {
        self.value.get_ref().as_table()
    }

    fn line(&self, span: Range<usize>) -> usize {
        line_of(self.text, span.start)
    }
}

fn at(file: &Path, text: &str, span: Option<Range<usize>>, reason: impl fmt::Display) -> Finding {
    Finding { file: file.to_owned(), line: span.map(|span| line_of(text, span.start)), reason: reason.to_string() }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The names that the entries of a file declare, also of those entries that are wrong themselves: one mistake is one
/// finding, and not one more for each place that relies on it.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    names: BTreeSet<String>,
    unreadable: bool,
}

impl Declared {
    /// The names of the `[[key]]` entries of `document`; of none where the file is not there.
    pub(crate) fn of(document: Option<&Document<'_>>, key: &str, unreadable: bool) -> Self {
        let entries = document.map(|document| document.entries(key, &mut Vec::new())).unwrap_or_default();
        let names = entries.iter().filter_map(|entry| entry.text_at("name").map(str::to_owned)).collect();
        Self { names, unreadable }
    }

    /// Whether `name` is declared, or may be in a file that cannot be read.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.unreadable || self.names.contains(name)
    }
}

/// A length of time: whole seconds, or text such as `"15m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duration(pub(crate) Ttl);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"15m\", or whole seconds")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
                Ttl::parse(text).map(Duration).map_err(|error| E::custom(format!("{text:?} is {error}")))
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Duration, E> {
                let seconds = u64::try_from(seconds).map_err(|_| E::custom("a duration cannot be negative"))?;
                Ok(Duration(Ttl::from_secs(seconds)))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

/// A point in time: RFC 3339, as text or as TOML's own date-time with an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Timestamp);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Native(toml::value::Datetime),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Native(at) => at.to_string(),
            Written::Text(text) => text,
        };
        Timestamp::parse_rfc3339(&text)
            .map(Self)
            .map_err(|error| serde::de::Error::custom(format!("{text:?} is {error}")))
    }
}

/// Checks that a duration lies within bounds, and takes the standard where none is written.
pub(crate) struct Bounded {
    /// Where it is not written.
    pub(crate) standard: Ttl,
    /// Smallest.
    pub(crate) min: Ttl,
    /// Largest.
    pub(crate) max: Ttl,
}

impl Bounded {
    /// The value at `key`.
    pub(crate) fn check(
        &self,
        entry: &Document<'_>,
        key: &str,
        written: Option<Duration>,
        findings: &mut Vec<Finding>,
    ) -> Ttl {
        let value = written.map_or(self.standard, |Duration(ttl)| ttl);
        if value < self.min || value > self.max {
            findings.push(entry.finding(key, format!("{value} is not between {} and {}", self.min, self.max)));
        }
        value
    }
}

/// Refuses a text that says nothing, is too long, or would break a line of the log.
pub(crate) fn check_words(entry: &Document<'_>, key: &str, text: &str, findings: &mut Vec<Finding>) {
    const MAX_CHARS: usize = 400;
    if text.trim().is_empty() {
        findings.push(entry.finding(key, "is empty"));
    } else if text.chars().count() > MAX_CHARS {
        findings.push(entry.finding(key, format!("is longer than {MAX_CHARS} characters")));
    } else if text.chars().any(char::is_control) {
        findings.push(entry.finding(key, "has a control character"));
    }
}

/// `path` as seen from the folder of the file that names it.
pub(crate) fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
}
