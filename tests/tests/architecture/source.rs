//! Rust sources reduced to what the rules look at: code outside comments, literals and test modules.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use crate::{Breach, root};

/// One source file. Everything that is not code is blanked; lines keep their numbers.
pub(crate) struct Source {
    /// Path from the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) code: String,
    /// Modules of tests that it declares and that lie in files of their own: their paths, without `.rs`.
    tests: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = without_comments_and_literals(text);
        Self { path: path.to_owned(), tests: test_modules(path, &code), code: without_test_items(&code) }
    }

    /// A breach at a byte offset of the code.
    pub(crate) fn breach(&self, offset: usize, what: impl Into<String>) -> Breach {
        let line = self.code[..offset].matches('\n').count() + 1;
        Breach { place: format!("{}:{line}", self.path), what: what.into() }
    }

    /// Every place at which `needle` stands as a whole word or path.
    pub(crate) fn find_word(&self, needle: &str) -> Vec<usize> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.code
            .match_indices(needle)
            .filter(|(at, _)| !self.code[..*at].ends_with(is_word))
            .filter(|(at, _)| needle.ends_with(':') || !self.code[at + needle.len()..].starts_with(is_word))
            .map(|(at, _)| at)
            .collect()
    }
}

/// All Rust sources below a folder of the workspace but those of tests; none if the folder is not there.
pub(crate) fn sources_below(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), folder, &mut found);
    without_test_files(&mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Tests may name what production code may not, in files of their own as well.
fn without_test_files(sources: &mut Vec<Source>) {
    let tests: Vec<String> = sources.iter().flat_map(|source| source.tests.iter().cloned()).collect();
    let is_test = |path: &str| {
        tests
            .iter()
            .filter_map(|test| path.strip_prefix(test.as_str()))
            .any(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    sources.retain(|source| !is_test(&source.path));
}

/// `#[cfg(test)] mod tests;` in `a/b.rs` is `a/b/tests`; in `a/lib.rs` it is `a/tests`.
fn test_modules(path: &str, code: &str) -> Vec<String> {
    static DECLARES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"#\[cfg\(test\)\]\s*(?:pub(?:\([a-z]+\))?\s+)?mod\s+(\w+)\s*;").expect("the pattern is valid")
    });
    let module = path.trim_end_matches(".rs");
    let folder = ["/lib", "/main", "/mod"].iter().find_map(|root| module.strip_suffix(root)).unwrap_or(module);
    DECLARES.captures_iter(code).map(|found| format!("{folder}/{}", &found[1])).collect()
}

fn collect(folder: &Path, name: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.expect("the folder can be read");
        let path = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("the entry has a type").is_dir() {
            collect(&entry.path(), &path, found);
        } else if path.ends_with(".rs") {
            found.push(Source::new(&path, &fs::read_to_string(entry.path()).expect("sources are UTF-8")));
        }
    }
}

/// Blanks comments and the insides of string and character literals.
fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let blank = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            end_of_block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !ends_in_word(&out)) {
            length
        } else if c == '"' {
            end_of_quoted(rest, '"')
        } else if c == '\'' && is_character_literal(rest) {
            end_of_quoted(rest, '\'')
        } else {
            0
        };
        if blank == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..blank].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[blank..];
        }
    }
    out
}

fn ends_in_word(out: &str) -> bool {
    out.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn end_of_block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a raw string literal (`r"…"`, `br#"…"#`) at the start, if one starts here.
fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inner = body[hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let end = inner.find(&closing)?;
    Some(rest.len() - inner.len() + end + closing.len())
}

fn end_of_quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Tells `'x'` and `'\n'` from the lifetime `'x`.
fn is_character_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// Blanks every item marked `#[cfg(test)]`: tests may name what production code may not.
fn without_test_items(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let end = end_of_item(&out[start..]) + start;
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Where the item or block at the start of `item` ends: behind its closing brace, or its semicolon.
pub(crate) fn end_of_item(item: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

#[test]
fn only_code_outside_comments_literals_and_tests_is_looked_at() {
    let text = r##"
fn a<'a>(x: &'a str) -> char { '"' }
// loop {
/* axum /* nested */ axum */
const S: &str = "axum \" axum";
const R: &str = r#"axum " axum"#;
fn b() { axum::serve() }
#[cfg(test)]
mod tests { fn c() { axum::serve() } }
fn d() { axum::serve() }
"##;
    let source = Source::new("x.rs", text);
    let places: Vec<String> = source.find_word("axum").iter().map(|at| source.breach(*at, "").place).collect();
    assert_eq!(places, ["x.rs:7", "x.rs:10"]);
}

#[test]
fn files_of_tests_are_not_looked_at() {
    let tests = "#[cfg(test)]\npub(crate) mod tests;\nmod testing;";
    let mut sources = vec![
        Source::new("broker/src/lib.rs", tests),
        Source::new("broker/src/tests.rs", ""),
        Source::new("broker/src/testing.rs", ""),
        Source::new("broker/src/backend/jwt.rs", tests),
        Source::new("broker/src/backend/jwt/tests.rs", ""),
        Source::new("broker/src/backend/jwt/tests/keys.rs", ""),
        Source::new("broker/src/backend/x509/tests.rs", ""),
    ];
    without_test_files(&mut sources);
    let left: Vec<_> = sources.iter().map(|source| source.path.as_str()).collect();
    let expected =
        ["broker/src/lib.rs", "broker/src/testing.rs", "broker/src/backend/jwt.rs", "broker/src/backend/x509/tests.rs"];
    assert_eq!(left, expected);
}
