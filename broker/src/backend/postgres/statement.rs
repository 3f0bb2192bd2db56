//! Statements of a role, with placeholders that are quoted by where they stand.
//!
//! The invariant: whatever a value is, it ends up as one identifier or one literal of SQL, or nothing is sent. So a
//! placeholder may not stand inside quotes or a comment, nor touch anything that would change how its quotes are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest statement, in bytes.
const MAX_BYTES: usize = 4096;
/// Longest identifier that PostgreSQL does not cut (`NAMEDATALEN` − 1).
const MAX_IDENTIFIER_BYTES: usize = 63;
/// Words that begin statements which would break the one transaction that everything is made in.
const TRANSACTIONS: &[&str] =
    &["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "copy"];

/// What statements are filled in with, by the names of placeholders.
pub(super) type Values = BTreeMap<String, String>;

/// A statement, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Statement {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Identifier(String),
    Literal(String),
}

impl From<Statement> for String {
    fn from(statement: Statement) -> Self {
        statement.text
    }
}

impl TryFrom<String> for Statement {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let pieces = parse(&text)?;
        Ok(Self { text, pieces })
    }
}

impl Statement {
    /// The placeholders in it.
    pub(super) fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Identifier(name) | Piece::Literal(name) => Some(name.as_str()),
        })
    }

    /// The statement with its placeholders filled in.
    pub(super) fn filled(&self, values: &Values) -> Result<String, String> {
        let mut filled = String::with_capacity(self.text.len());
        let value = |name: &String| values.get(name).ok_or_else(|| format!("there is no value for {name}"));
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Identifier(name) => filled.push_str(&identifier(value(name)?)?),
                Piece::Literal(name) => filled.push_str(&literal(value(name)?)?),
            }
        }
        Ok(filled)
    }
}

/// `text` as an identifier, which is never folded nor cut.
pub(super) fn identifier(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_IDENTIFIER_BYTES {
        return Err(format!("a name has 1 to {MAX_IDENTIFIER_BYTES} bytes"));
    }
    refuse_nul(text)?;
    Ok(format!("\"{}\"", text.replace('"', "\"\"")))
}

/// `text` as a literal, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> Result<String, String> {
    refuse_nul(text)?;
    let quoted = text.replace('\'', "''");
    Ok(if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") })
}

fn refuse_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("a NUL character cannot be sent".to_owned()) } else { Ok(()) }
}

/// Where the reader of a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Open,
    /// Within quotes that end at this character; backslashes may escape.
    Quoted(char, bool),
    /// Within `$tag$`.
    Dollars(String),
    LineComment,
    /// So many deep.
    BlockComment(usize),
}

fn parse(text: &str) -> Result<Vec<Piece>, String> {
    if text.trim().is_empty() || text.len() > MAX_BYTES {
        return Err(format!("a statement has 1 to {MAX_BYTES} bytes"));
    }
    refuse_nul(text)?;
    let first = text.trim_start().split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    if TRANSACTIONS.contains(&first.to_ascii_lowercase().as_str()) {
        return Err(format!("{first:?} does not go: everything is made in one transaction of the broker's own"));
    }
    let mut place = Place::Open;
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = match &mut place {
            Place::Open if rest.starts_with("{{") => {
                let end = rest.find("}}").ok_or("a {{ has no }}")?;
                let (inner, after) = (rest.get(2..end).unwrap_or_default(), rest.get(end + 2..).unwrap_or_default());
                check_neighbours(&plain, pieces.is_empty(), after, inner)?;
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(placeholder(inner)?);
                rest = after;
                continue;
            }
            Place::Open => open(rest, c, &plain, &mut place)?,
            _ if rest.starts_with("{{") => {
                return Err("a placeholder stands in quotes or in a comment: leave them away, it brings its own".into());
            }
            Place::Quoted(quote, escapes) => {
                if *escapes && c == '\\' {
                    rest.chars().take(2).map(char::len_utf8).sum()
                } else {
                    // A doubled quote closes and opens again at once.
                    if c == *quote {
                        place = Place::Open;
                    }
                    c.len_utf8()
                }
            }
            Place::Dollars(tag) if rest.starts_with(tag.as_str()) => {
                let length = tag.len();
                place = Place::Open;
                length
            }
            Place::LineComment if c == '\n' => {
                place = Place::Open;
                1
            }
            Place::BlockComment(depth) if rest.starts_with("*/") => {
                *depth -= 1;
                if *depth == 0 {
                    place = Place::Open;
                }
                2
            }
            Place::BlockComment(depth) if rest.starts_with("/*") => {
                *depth += 1;
                2
            }
            Place::Dollars(_) | Place::LineComment | Place::BlockComment(_) => c.len_utf8(),
        };
        let (done, after) = rest.split_at(taken);
        plain.push_str(done);
        rest = after;
    }
    if !matches!(place, Place::Open | Place::LineComment) {
        return Err("it ends within quotes or a comment".to_owned());
    }
    pieces.push(Piece::Text(plain));
    Ok(pieces)
}

/// What begins here, outside quotes and comments; how many bytes of it are taken.
fn open(rest: &str, c: char, before: &str, place: &mut Place) -> Result<usize, String> {
    let previous = before.chars().next_back();
    match c {
        '\'' => *place = Place::Quoted(c, matches!(previous, Some('e' | 'E'))),
        '"' => *place = Place::Quoted(c, false),
        ';' if !rest.trim_start_matches([';', ' ', '\t', '\r', '\n']).is_empty() => {
            return Err("there is more behind a ';': give each statement as an entry of its own".to_owned());
        }
        '$' if !previous.is_some_and(is_word) => {
            let tag = rest.get(1..).and_then(|tail| tail.find('$')).and_then(|end| rest.get(..end + 2));
            if let Some(tag) = tag.filter(|tag| tag.trim_matches('$').chars().all(is_word)) {
                *place = Place::Dollars(tag.to_owned());
                return Ok(tag.len());
            }
        }
        '-' if rest.starts_with("--") => *place = Place::LineComment,
        '/' if rest.starts_with("/*") => {
            *place = Place::BlockComment(1);
            return Ok(2);
        }
        _ => {}
    }
    Ok(c.len_utf8())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// Quotes are read differently behind a letter (`E'…'`) and behind other quotes (`'a''b'`).
fn check_neighbours(before: &str, is_first: bool, after: &str, inner: &str) -> Result<(), String> {
    let stands_free = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | '=' | '.' | ';');
    let is_free_before = before.chars().next_back().map_or(is_first, stands_free);
    let is_free_behind = after.chars().next().is_none_or(stands_free);
    if is_free_before && is_free_behind {
        return Ok(());
    }
    Err(format!("{{{{{inner}}}}} touches something: put spaces around it"))
}

/// `name`, `name:identifier`, `name:literal`. The user's name is an identifier unless it says otherwise, and everything
/// else is a literal.
fn placeholder(inner: &str) -> Result<Piece, String> {
    let (name, form) = inner.trim().split_once(':').map_or((inner.trim(), None), |(name, form)| (name, Some(form)));
    match form {
        None if name == "name" => Ok(Piece::Identifier(name.to_owned())),
        None | Some("literal") => Ok(Piece::Literal(name.to_owned())),
        Some("identifier") => Ok(Piece::Identifier(name.to_owned())),
        Some(form) => Err(format!("{form:?} is not \"identifier\" or \"literal\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, value: &str) -> Result<String, String> {
        let statement = Statement::try_from(template.to_owned())?;
        let values = [("name", value), ("owner", value)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        statement.filled(&Values::from(values))
    }

    #[test]
    fn a_value_is_quoted_by_where_it_stands() {
        let template = "GRANT app TO {{name}}; ";
        assert_eq!(filled(template, "a\"b;--").unwrap(), "GRANT app TO \"a\"\"b;--\"; ");
        assert_eq!(filled("SELECT f({{name:literal}}, {{owner}})", "o'b").unwrap(), "SELECT f('o''b', 'o''b')");
        assert_eq!(filled("SELECT {{owner}}", "\\'; DROP").unwrap(), "SELECT E'\\\\''; DROP'");
        assert!(filled("SELECT $1$ ' {{ {{owner}}", "x").unwrap_err().contains("quotes"));
        assert_eq!(filled("SET ROLE {{owner:identifier}} -- 'done", "ü").unwrap(), "SET ROLE \"ü\" -- 'done");
    }

    #[test]
    fn what_cannot_be_one_name_or_one_literal_is_not_sent() {
        assert!(filled("GRANT a TO {{name}}", &"n".repeat(64)).is_err());
        assert!(filled("GRANT a TO {{name}}", "").is_err());
        assert!(filled("GRANT a TO {{name}}", "n\0").is_err());
        assert!(filled("SELECT {{owner}}", "n\0").is_err());
        assert!(filled("SELECT {{other}}", "n").is_err());
    }

    #[test]
    fn a_placeholder_in_quotes_or_beside_them_is_refused_at_load() {
        for template in [
            "SELECT '{{owner}}'",
            "SELECT \"{{name}}\"",
            "SELECT E'\\'{{owner}}'",
            "SELECT 'it''s {{owner}}'",
            "DO $$ BEGIN PERFORM {{owner}}; END $$",
            "DO $body$ {{owner}} $body$",
            "SELECT 1 -- {{owner}}",
            "SELECT 1 /* /* */ {{owner}} */",
            "SELECT E{{owner}}",
            "SELECT U&{{name}}",
            "SELECT x{{name}}",
            "SELECT {{owner}}{{owner}}",
            "SELECT {{owner}}'x'",
            "SELECT {{owner",
            "SELECT {{owner:raw}}",
            "SELECT 'open",
            "SELECT 1; SELECT 2",
            "COMMIT",
            " rollback ",
            "",
        ] {
            assert!(Statement::try_from(template.to_owned()).is_err(), "{template}");
        }
        for template in [
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {{name}};",
            "SELECT '{', $${ {$$, {{owner}} /* ' */",
            "SELECT '''' , {{ owner }}, \"a\"\"\", a$b, 'x' -- it's",
        ] {
            Statement::try_from(template.to_owned()).expect(template);
        }
    }
}
