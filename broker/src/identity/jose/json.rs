//! One strict reading of JSON (RFC 8259, I-JSON of RFC 7493) for tokens, key sets and discovery documents.
//!
//! The invariant: what was read is what every other careful reader would have read. A document on which readers could
//! differ (a member given twice, text that is not UTF-8, something after the end) is not read at all, so that the
//! claims that were verified are the claims that policy decides on and the audit log keeps.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Arrays and objects nested deeper than this are not read; the outermost object is level 1. A larger number lets a
/// small token spend stack in every later recursion over it (drop, typing, storage). serde_json's own limit is 128.
pub const MAX_DEPTH: usize = 32;

/// Values of any kind in one document. Without it two bytes of input (`0,`) would buy dozens of bytes of memory.
pub const MAX_VALUES: usize = 4096;

/// A JSON value, with numbers as they were written: whole numbers stay exact.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0 to 2^64 − 1.
    Unsigned(u64),
    /// A whole number below 0, down to −2^63.
    Negative(i64),
    /// Any other number that is finite as a double.
    Float(f64),
    /// Text.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Object),
}

impl Json {
    /// The text, if this is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Members of an object: each name once.
pub type Object = BTreeMap<String, Json>;

/// A document whose outermost value is an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its members.
    pub members: Object,
    /// Whether some text or member name in it, at any depth, holds a control character (Unicode category Cc).
    pub has_control_characters: bool,
}

/// Why a document was not read. None of these repeats anything of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON in UTF-8, or not only one value.
    #[error("it is not one JSON value in UTF-8")]
    Syntax,
    /// The outermost value is not an object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A member name appears twice in one object.
    #[error("a member appears twice in one object")]
    DuplicateMember,
    /// Deeper than [`MAX_DEPTH`].
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than [`MAX_VALUES`].
    #[error("it holds more than {MAX_VALUES} values")]
    TooManyValues,
}

impl Document {
    /// Reads a document. The caller has bounded its size.
    ///
    /// # Errors
    /// [`JsonError`] when the document is not one strict JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|_| JsonError::Syntax)?;
        let watch = Watch::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = Strict { depth: 0, watch: &watch }
            .deserialize(&mut deserializer)
            .map_err(|_| watch.fault.get().unwrap_or(JsonError::Syntax))?;
        deserializer.end().map_err(|_| JsonError::Syntax)?;
        match value {
            Json::Object(members) => Ok(Self { members, has_control_characters: watch.control_characters.get() }),
            _ => Err(JsonError::NotAnObject),
        }
    }
}

/// What is noticed on the way through a document.
#[derive(Default)]
struct Watch {
    values: Cell<usize>,
    control_characters: Cell<bool>,
    fault: Cell<Option<JsonError>>,
}

impl Watch {
    fn fail<E: serde::de::Error>(&self, fault: JsonError) -> E {
        self.fault.set(Some(fault));
        E::custom(fault)
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let values = self.values.get().saturating_add(1);
        self.values.set(values);
        if values > MAX_VALUES { Err(self.fail(JsonError::TooManyValues)) } else { Ok(()) }
    }

    fn read(&self, text: &str) {
        if text.chars().any(char::is_control) {
            self.control_characters.set(true);
        }
    }
}

/// Reads one value inside `depth` arrays and objects.
#[derive(Clone, Copy)]
struct Strict<'w> {
    depth: usize,
    watch: &'w Watch,
}

impl Strict<'_> {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(self.watch.fail(JsonError::TooDeep));
        }
        Ok(Self { depth, watch: self.watch })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.watch.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(u64::try_from(value).map_or(Json::Negative(value), Json::Unsigned))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        if value.is_finite() { Ok(Json::Float(value)) } else { Err(self.watch.fail(JsonError::Syntax)) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        self.watch.read(value);
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut members = Object::new();
        while let Some(name) = entries.next_key::<String>()? {
            self.watch.read(&name);
            match members.entry(name) {
                Entry::Occupied(_) => return Err(self.watch.fail(JsonError::DuplicateMember)),
                Entry::Vacant(place) => place.insert(entries.next_value_seed(inner)?),
            };
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Object, JsonError> {
        Document::parse(text.as_bytes()).map(|document| document.members)
    }

    #[test]
    fn whole_numbers_stay_exact() {
        let read =
            parse(r#" {"a":18446744073709551615,"b":-9223372036854775808,"c":1.5,"d":9007199254740993,"e":1e3} "#);
        let read = read.unwrap();
        assert_eq!(read["a"], Json::Unsigned(u64::MAX));
        assert_eq!(read["b"], Json::Negative(i64::MIN));
        assert_eq!(read["c"], Json::Float(1.5));
        assert_eq!(read["d"], Json::Unsigned(9_007_199_254_740_993));
        assert_eq!(read["e"], Json::Float(1000.0));
    }

    #[test]
    fn a_member_given_twice_is_refused_at_any_depth() {
        for text in
            [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":{"a":1,"a":2}}"#, r#"{"x":[[{"a":1,"b":2,"a":3}]]}"#]
        {
            assert_eq!(parse(text), Err(JsonError::DuplicateMember), "{text}");
        }
        assert!(parse(r#"{"a":{"a":{"a":1}},"A":2}"#).is_ok(), "the same name in different objects is not twice");
    }

    #[test]
    fn nesting_is_limited_to_the_documented_depth() {
        let nested = |levels: usize, open: &str, close: &str| {
            parse(&format!(r#"{{"x":{}{}}}"#, open.repeat(levels - 1), close.repeat(levels - 1)))
        };
        assert!(nested(MAX_DEPTH, "[", "]").is_ok());
        assert_eq!(nested(MAX_DEPTH + 1, "[", "]"), Err(JsonError::TooDeep));
        assert_eq!(nested(100_000, "[", "]"), Err(JsonError::TooDeep));
        assert_eq!(nested(100_000, r#"{"a":["#, "]}"), Err(JsonError::TooDeep));
    }

    #[test]
    fn the_number_of_values_is_limited() {
        let with = |values: usize| parse(&format!(r#"{{"x":[{}0]}}"#, "0,".repeat(values - 3)));
        assert!(with(MAX_VALUES).is_ok());
        assert_eq!(with(MAX_VALUES + 1), Err(JsonError::TooManyValues));
    }

    #[test]
    fn what_readers_could_disagree_on_is_refused() {
        for text in [
            "",
            "{",
            "{}{}",
            "{} x",
            "{},",
            "\u{feff}{}",
            r#"{"a":NaN}"#,
            r#"{"a":Infinity}"#,
            r#"{"a":1e400}"#,
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":0x10}"#,
            r#"{"a":1,}"#,
            r#"{'a':1}"#,
            r#"{a:1}"#,
            r#"{"a":"\ud800"}"#,
            "{\"a\":\"\n\"}",
            "{\"a\":\"\0\"}",
            "/**/{}",
        ] {
            assert_eq!(parse(text), Err(JsonError::Syntax), "{text:?}");
        }
        for bytes in [&b"{\"a\":\"\xc0\x80\"}"[..], b"{\"a\":\"\xed\xa0\x80\"}", b"{\x00\"\x00}\x00", b"\xff"] {
            assert_eq!(Document::parse(bytes), Err(JsonError::Syntax), "{bytes:?}");
        }
        for text in ["[]", "1", "null", "true", r#""a""#] {
            assert_eq!(parse(text), Err(JsonError::NotAnObject), "{text}");
        }
    }

    #[test]
    fn control_characters_are_noticed_wherever_they_are() {
        for text in [
            r#"{"a":"\u0000"}"#,
            r#"{"a\n":1}"#,
            r#"{"x":[{"y":"\u001b[2J"}]}"#,
            r#"{"a":"\u007f"}"#,
            r#"{"a":"\u0085"}"#,
        ] {
            assert!(Document::parse(text.as_bytes()).unwrap().has_control_characters, "{text}");
        }
        assert!(!Document::parse(r#"{"é":"plain ünïcode ✓"}"#.as_bytes()).unwrap().has_control_characters);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Document::parse(&bytes);
        }

        #[test]
        fn no_json_like_text_makes_it_panic(text in r#"[\[\]{}",:0-9eE+\-.tfn\\u ]{0,256}"#) {
            let _ = Document::parse(text.as_bytes());
        }
    }
}
