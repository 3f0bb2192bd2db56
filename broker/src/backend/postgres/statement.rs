//! Statements of a role, with placeholders that are quoted by where they stand.
//!
//! The invariant: whatever a value is, it ends up as one identifier or one literal of SQL, or nothing is sent. So a
//! placeholder may not stand inside quotes or a comment, nor touch anything that would change how its quotes are read.
//!
//! A statement is read as PostgreSQL reads it (chapter 4.1, and its `scan.l`). What servers read differently, by their
//! version, by `standard_conforming_strings` or by what stands in front (`E'…'`), is refused when it is loaded: a backslash
//! within single quotes, and a `$` behind a number. Without them `'…'`, `E'…'`, `U&'…'`, `B'…'` and `N'…'` end alike.

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

fn parse(text: &str) -> Result<Vec<Piece>, String> {
    if text.trim().is_empty() || text.len() > MAX_BYTES {
        return Err(format!("a statement has 1 to {MAX_BYTES} bytes"));
    }
    refuse_nul(text)?;
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    let (mut rest, mut last) = (text, None);
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("{{") {
            let (inner, after) = inner.split_once("}}").ok_or("a {{ has no }}")?;
            check_neighbours(&plain, pieces.is_empty(), after, inner)?;
            if matches!(last, Some(Kind::Literal | Kind::Placeholder)) {
                return Err(beside_a_literal());
            }
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(placeholder(inner)?);
            (rest, last) = (after, Some(Kind::Placeholder));
            continue;
        }
        let (kind, length) = token(rest)?;
        let (token, after) = rest.split_at(length);
        match kind {
            Kind::Blank => {}
            Kind::Word if last.is_none() && TRANSACTIONS.contains(&token.to_ascii_lowercase().as_str()) => {
                return Err(format!(
                    "{token:?} does not go: everything is made in one transaction of the broker's own"
                ));
            }
            Kind::Literal if last == Some(Kind::Placeholder) => return Err(beside_a_literal()),
            _ => last = Some(kind),
        }
        plain.push_str(token);
        rest = after;
    }
    pieces.push(Piece::Text(plain));
    Ok(pieces)
}

/// PostgreSQL makes one literal of two that are a line apart.
fn beside_a_literal() -> String {
    "a placeholder stands next to a literal: PostgreSQL could read both as one".to_owned()
}

/// What a part of a statement is, as far as it matters to what stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// White space or a comment.
    Blank,
    Word,
    /// Within single quotes.
    Literal,
    Other,
    Placeholder,
}

/// What begins here, and how many bytes of it there are.
fn token(rest: &str) -> Result<(Kind, usize), String> {
    let run = |is_part: fn(char) -> bool| rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let Some(c) = rest.chars().next() else { return Ok((Kind::Blank, 0)) };
    match c {
        // PostgreSQL's white space; whatever else Unicode knows of is a part of words to it.
        ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => Ok((Kind::Blank, 1)),
        '-' if rest.starts_with("--") => {
            let length = run(|c| !matches!(c, '\n' | '\r'));
            without_placeholder(rest, length).map(|length| (Kind::Blank, length))
        }
        '/' if rest.starts_with("/*") => {
            without_placeholder(rest, block_comment(rest)?).map(|length| (Kind::Blank, length))
        }
        '\'' => {
            let length = without_placeholder(rest, quoted(rest, c)?)?;
            if rest.get(..length).is_some_and(|literal| literal.contains('\\')) {
                let why = "a backslash in quotes is read in two ways: put the text between $$ and $$";
                return Err(why.to_owned());
            }
            Ok((Kind::Literal, length))
        }
        '"' => without_placeholder(rest, quoted(rest, c)?).map(|length| (Kind::Other, length)),
        '$' => without_placeholder(rest, dollar_quoted(rest)?).map(|length| (Kind::Other, length)),
        ';' if !rest.trim_start_matches([';', ' ', '\t', '\r', '\n']).is_empty() => {
            Err("there is more behind a ';': give each statement as an entry of its own".to_owned())
        }
        _ if begins_word(c) => Ok((Kind::Word, run(is_word))),
        '0'..='9' => {
            // A number, and what some versions read as a part of it and others as a word.
            let length = run(|c| c != '$' && (is_word(c) || c == '.'));
            if rest.get(length..).is_some_and(|after| after.starts_with('$')) {
                return Err("a $ touches a number: put a space between them".to_owned());
            }
            Ok((Kind::Other, length))
        }
        _ => Ok((Kind::Other, c.len_utf8())),
    }
}

fn begins_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_word(c: char) -> bool {
    begins_word(c) || c.is_ascii_digit() || c == '$'
}

fn without_placeholder(rest: &str, length: usize) -> Result<usize, String> {
    if rest.get(..length).is_some_and(|token| token.contains("{{")) {
        return Err("a placeholder stands in quotes or in a comment: leave them away, it brings its own".to_owned());
    }
    Ok(length)
}

const UNENDED: &str = "it ends within quotes or a comment";

/// The length of what is in quotes that are doubled inside.
fn quoted(rest: &str, quote: char) -> Result<usize, String> {
    let mut at = quote.len_utf8();
    loop {
        let end = rest.get(at..).and_then(|tail| tail.find(quote)).ok_or(UNENDED)?;
        at = at.saturating_add(end).saturating_add(quote.len_utf8());
        if !rest.get(at..).is_some_and(|tail| tail.starts_with(quote)) {
            return Ok(at);
        }
        at = at.saturating_add(quote.len_utf8());
    }
}

/// The length of `$tag$…$tag$`. Whatever else begins with a `$` means nothing here: nobody gives parameters.
fn dollar_quoted(rest: &str) -> Result<usize, String> {
    let inner = rest.get(1..).unwrap_or_default();
    let tag = inner
        .split_once('$')
        .map(|(tag, _)| tag)
        .filter(|tag| tag.is_empty() || (tag.starts_with(begins_word) && tag.chars().all(|c| is_word(c) && c != '$')));
    let Some(tag) = tag else {
        return Err("a $ that begins neither $$ nor $tag$ means nothing here".to_owned());
    };
    let delimiter = format!("${tag}$");
    let body = rest.get(delimiter.len()..).unwrap_or_default();
    let end = body.find(&delimiter).ok_or(UNENDED)?;
    Ok(end.saturating_add(delimiter.len().saturating_mul(2)))
}

/// The length of a comment with those inside it.
fn block_comment(rest: &str) -> Result<usize, String> {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        let step = if tail.starts_with("/*") {
            depth = depth.saturating_add(1);
            2
        } else if tail.starts_with("*/") {
            depth = depth.saturating_sub(1);
            2
        } else {
            tail.chars().next().map_or(1, char::len_utf8)
        };
        at = at.saturating_add(step);
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(UNENDED.to_owned())
}

/// Quotes are read differently behind a letter (`E'…'`) and behind other quotes (`'a''b'`).
fn check_neighbours(before: &str, is_first: bool, after: &str, inner: &str) -> Result<(), String> {
    // What else Unicode calls white space is a part of words to PostgreSQL.
    let stands_free = |c: char| c.is_ascii_whitespace() || matches!(c, '(' | ')' | ',' | '=' | '.' | ';');
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
mod tests;
