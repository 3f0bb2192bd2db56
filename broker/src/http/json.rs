//! Strict JSON: no member twice, no deep nesting, no unknown field, and an error that names the field.
//!
//! A lenient parser is a hole: where two parts of a system read the same bytes differently, one checks what the other
//! does not do. So the bytes become one tree here, once, and the request is read from that tree.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::failure::Unreadable;

/// Reads `bytes` as a `T`.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], max_depth: usize) -> Result<T, Unreadable> {
    T::deserialize(tree(bytes, max_depth)?).map_err(Unreadable::from)
}

fn tree(bytes: &[u8], max_depth: usize) -> Result<Node, Unreadable> {
    let trouble = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let level = Level { left: max_depth, trouble: &trouble };
    let read = level.deserialize(&mut reader).and_then(|node| reader.end().map(|()| node));
    read.map_err(|error| match trouble.into_inner() {
        Some(Trouble::Twice(name)) => {
            let detail = format!("the member `{name}` appears twice");
            Unreadable::syntax(&name, detail)
        }
        Some(Trouble::TooDeep) => Unreadable::syntax("body", format!("the body nests deeper than {max_depth} levels")),
        // The line and column are the caller's own; the parser's message quotes none of the content.
        None => Unreadable::syntax(
            "body",
            format!("the body is not one JSON value: line {}, column {}", error.line(), error.column()),
        ),
    })
}

/// A JSON value whose objects have no member twice.
enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// What the parser itself would not have minded.
enum Trouble {
    Twice(String),
    TooDeep,
}

/// Reads one value, with so many levels left below it.
#[derive(Clone, Copy)]
struct Level<'a> {
    left: usize,
    trouble: &'a RefCell<Option<Trouble>>,
}

impl Level<'_> {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => Err(self.stop(Trouble::TooDeep)),
        }
    }

    fn stop<E: de::Error>(self, trouble: Trouble) -> E {
        *self.trouble.borrow_mut() = Some(trouble);
        E::custom("not acceptable")
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let below = self.below()?;
        let mut object: Vec<(String, Node)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(self.stop(Trouble::Twice(shortened(&name))));
            }
            let value = members.next_value_seed(below)?;
            object.push((name, value));
        }
        Ok(Node::Object(object))
    }
}

/// A value that does not fit where it stands.
#[derive(Debug)]
struct Misfit {
    path: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unknown,
    Missing,
    Invalid(String),
}

impl Misfit {
    fn below(mut self, name: &str) -> Self {
        self.path = if self.path.is_empty() { shortened(name) } else { format!("{}.{}", shortened(name), self.path) };
        self
    }
}

impl From<Misfit> for Unreadable {
    fn from(misfit: Misfit) -> Self {
        let path = if misfit.path.is_empty() { "body".to_owned() } else { misfit.path };
        match misfit.kind {
            Kind::Unknown => Self::unknown_field(&path, format!("`{path}` is not a field of this request")),
            Kind::Missing => Self::content(&path, format!("`{path}` is missing")),
            Kind::Invalid(why) => Self::content(&path, format!("`{path}`: {}", shortened(&why))),
        }
    }
}

/// The caller's own words, as far as they are echoed.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    text.chars().take(MAX_CHARS).collect()
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self { path: String::new(), kind: Kind::Invalid(why.to_string()) }
    }

    fn unknown_field(name: &str, _expected: &'static [&'static str]) -> Self {
        Self { path: shortened(name), kind: Kind::Unknown }
    }

    fn missing_field(name: &'static str) -> Self {
        Self { path: name.to_owned(), kind: Kind::Missing }
    }
}

impl<'de> de::Deserializer<'de> for Node {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::List(items) => visitor.visit_seq(Items(items.into_iter().enumerate())),
            Self::Object(members) => visitor.visit_map(Members { left: members.into_iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self {
            Self::Null => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self {
            Self::Text(word) => visitor.visit_enum(IntoDeserializer::<Misfit>::into_deserializer(word)),
            _ => Err(de::Error::custom("a word is expected")),
        }
    }

    /// serde would also read a list, its items being the members in their order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self {
            Self::List(_) => Err(de::Error::custom("an object is expected, not a list")),
            other => other.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items(std::iter::Enumerate<std::vec::IntoIter<Node>>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some((at, item)) = self.0.next() else { return Ok(None) };
        seed.deserialize(item).map(Some).map_err(|misfit| misfit.below(&at.to_string()))
    }
}

struct Members {
    left: std::vec::IntoIter<(String, Node)>,
    value: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((name, value)) = self.left.next() else { return Ok(None) };
        let key = seed.deserialize(StrDeserializer::new(&name))?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Misfit> {
        let (name, value) = self.value.take().ok_or_else(|| de::Error::custom("a value is expected"))?;
        seed.deserialize(value).map_err(|misfit| misfit.below(&name))
    }
}

#[cfg(test)]
mod tests {
    use hallpass_core::error::Reason;
    use hallpass_sdk::wire::CreateGrant;

    use super::*;
    use crate::http::failure::Fault;

    fn refused(body: &str) -> (Fault, Reason, String) {
        let unreadable = parse::<CreateGrant>(body.as_bytes(), 8).unwrap_err();
        (unreadable.fault, unreadable.refusal.reason, unreadable.refusal.parameter.unwrap())
    }

    #[test]
    fn a_strict_body_is_read() {
        let body = br#"{"role":"a/b","purpose":"p","ttl":"10m","scope":["x"],"ends_when":{"heartbeat":60},"csr":null}"#;
        let read: CreateGrant = parse(body, 8).unwrap();
        assert_eq!((read.role.as_str(), read.purpose.as_deref()), ("a/b", Some("p")));
        assert_eq!(read.ttl.unwrap().as_secs(), 600);
        assert_eq!(read.ends_when.unwrap().heartbeat.unwrap().as_secs(), 60);
        assert_eq!(read.scope, ["x"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (content, syntax) = (Fault::Content, Fault::Syntax);
        for (body, expected) in [
            (r#"{"role":"a","tll":"1m"}"#, (content, Reason::UnknownField, "tll")),
            (r#"{"role":"a","ends_when":{"hartbeat":"1m"}}"#, (content, Reason::UnknownField, "ends_when.hartbeat")),
            (r#"{"purpose":"p"}"#, (content, Reason::MalformedRequest, "role")),
            (r#"{"role":5}"#, (content, Reason::MalformedRequest, "role")),
            (r#"{"role":"a","ttl":"soon"}"#, (content, Reason::MalformedRequest, "ttl")),
            (r#"{"role":"a","scope":["x",5]}"#, (content, Reason::MalformedRequest, "scope.1")),
            (r#"{"role":"a","role":"b"}"#, (syntax, Reason::MalformedRequest, "role")),
            (r#"{"role":"a","\u0072ole":"b"}"#, (syntax, Reason::MalformedRequest, "role")),
            (r#"{"role":"a","ends_when":{"run":true,"run":false}}"#, (syntax, Reason::MalformedRequest, "run")),
            (r#"{"role":[[[[[[[[[1]]]]]]]]]}"#, (syntax, Reason::MalformedRequest, "body")),
            ("[]", (content, Reason::MalformedRequest, "body")),
            (r#"["a"]"#, (content, Reason::MalformedRequest, "body")),
            (r#"{"role":"a","ends_when":[]}"#, (content, Reason::MalformedRequest, "ends_when")),
            ("null", (content, Reason::MalformedRequest, "body")),
            (r#"{"role":"a""#, (syntax, Reason::MalformedRequest, "body")),
            ("{}{}", (syntax, Reason::MalformedRequest, "body")),
            ("", (syntax, Reason::MalformedRequest, "body")),
            ("\u{feff}{}", (syntax, Reason::MalformedRequest, "body")),
            (r#"{"role":"\ud800"}"#, (syntax, Reason::MalformedRequest, "body")),
            (r#"{"role":"a",}"#, (syntax, Reason::MalformedRequest, "body")),
        ] {
            let (fault, reason, parameter) = refused(body);
            assert_eq!((fault, reason, parameter.as_str()), expected, "{body}");
        }
    }

    #[test]
    fn nesting_ends_before_the_stack_does() {
        let deep = format!("{{\"role\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(refused(&deep).0, Fault::Syntax);
        let unclosed = "[".repeat(60_000);
        assert_eq!(refused(&unclosed).0, Fault::Syntax);
    }
}
