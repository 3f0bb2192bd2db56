//! What is sent is what was meant, whatever the values and however a statement is written.

use proptest::prelude::*;

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
    assert!(filled("SELECT $a$ ' {{ {{owner}} $a$", "x").unwrap_err().contains("quotes"));
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
        "/* first */ COMMIT",
        "-- first\nROLLBACK",
        // What servers read in more than one way.
        "SELECT date'\\', '{{owner}}'",
        "SELECT E'a\\'', {{owner}}",
        "SELECT E'a'\n'\\', {{owner}}",
        "SELECT U&'\\0027', {{owner}}",
        "SELECT 1$a$ ' $a$, {{owner}}",
        "SELECT $1, {{owner}}",
        "SELECT $1$ ' $1$, {{owner}}",
        "SELECT 1 --\r ' \n, {{owner}} '",
        "SELECT \u{d7}$a$ ' , {{owner}}, $a$",
        "SELECT 'a'\n{{owner}}",
        "SELECT {{owner}} -- and\n'a'",
        "SELECT {{owner}}\n{{owner}}",
        "SELECT \u{a0}{{owner}}",
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

/// What the property writes statements of.
const FRAGMENTS: &[&str] = &[
    "'",
    "''",
    "\"",
    "\\",
    "$",
    "$$",
    "$a$",
    "$1",
    "1",
    "e",
    "E",
    "U&",
    "n",
    "date",
    "--",
    "/*",
    "*/",
    "/",
    "*",
    "\n",
    "\r",
    " ",
    ",",
    "(",
    "\u{e9}",
    "\u{d7}",
    "\u{a0}",
    "+",
    ".",
    "x'",
    "{{owner}}",
    " {{owner}} ",
    ",{{name}},",
];
/// What the property fills in.
const VALUES: &[&str] = &["x", "'", "\\'; DROP TABLE t; --", "\"", "$a$", "*/ --", "\n'", "\\", "a\\"];

/// Where tokens of `text` begin and end, as `scan.l` of PostgreSQL 15 has them: written from that, and not from what is
/// tested. Operators are taken a character at a time, which changes no other token.
fn scanned(text: &str, conforming: bool) -> Vec<(usize, usize)> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let end = at + scan(&text.as_bytes()[at..], conforming);
        tokens.push((at, end));
        at = end;
    }
    tokens
}

fn scan(text: &[u8], conforming: bool) -> usize {
    let starts = |c: u8| c.is_ascii_alphabetic() || c == b'_' || c >= 0x80;
    let continues = |c: u8| starts(c) || c.is_ascii_digit() || c == b'$';
    let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
        text[from..].iter().position(|c| stop(*c)).map_or(text.len(), |found| from + found)
    };
    match text {
        [b'-', b'-', ..] => until(2, &|c| c == b'\n' || c == b'\r'),
        [b'/', b'*', ..] => {
            let (mut at, mut depth) = (2, 1);
            while at < text.len() && depth > 0 {
                let two = text.get(at..at + 2);
                depth += i32::from(two == Some(b"/*")) - i32::from(two == Some(b"*/"));
                at += if matches!(two, Some(b"/*" | b"*/")) { 2 } else { 1 };
            }
            at
        }
        [b'e' | b'E', b'\'', ..] => scan_quote(text, 2, true),
        [b'b' | b'B' | b'x' | b'X', b'\'', ..] => scan_quote(text, 2, false),
        [b'u' | b'U', b'&', b'\'', ..] => scan_quote(text, 3, false),
        [b'\'', ..] => scan_quote(text, 1, !conforming),
        [b'u' | b'U', b'&', b'"', ..] => scan_name(text, 3),
        [b'"', ..] => scan_name(text, 1),
        [b'$', ..] => {
            let end = until(1, &|c| !(starts(c) || c.is_ascii_digit()));
            if text.get(end) == Some(&b'$') && !text[1].is_ascii_digit() {
                let delimiter = &text[..=end];
                let close = text[end + 1..].windows(delimiter.len()).position(|part| part == delimiter);
                close.map_or(text.len(), |found| end + 1 + found + delimiter.len())
            } else {
                until(1, &|c| !c.is_ascii_digit())
            }
        }
        [c, ..] if starts(*c) => until(1, &|c| !continues(c)),
        [c, ..] if c.is_ascii_digit() => until(1, &|c| !c.is_ascii_digit()),
        _ => 1,
    }
}

/// From within single quotes, over a literal that is continued behind a line's end.
fn scan_quote(text: &[u8], mut at: usize, escapes: bool) -> usize {
    loop {
        match text.get(at..) {
            None | Some([]) => return text.len(),
            Some([b'\\', _, ..]) if escapes => at += 2,
            Some([b'\'', b'\'', ..]) => at += 2,
            Some([b'\'', ..]) => {
                let (mut next, mut has_line) = (at + 1, false);
                loop {
                    match text.get(next..) {
                        Some([b'-', b'-', ..]) => {
                            let comment = text[next..].iter().position(|c| matches!(c, b'\n' | b'\r'));
                            next = comment.map_or(text.len(), |found| next + found);
                        }
                        Some([c @ (b' ' | b'\t' | b'\n' | b'\r' | b'\x0c'), ..]) => {
                            has_line |= matches!(c, b'\n' | b'\r');
                            next += 1;
                        }
                        Some([b'\'', ..]) if has_line => break,
                        _ => return at + 1,
                    }
                }
                at = next + 1;
            }
            Some(_) => at += 1,
        }
    }
}

fn scan_name(text: &[u8], mut at: usize) -> usize {
    loop {
        match text.get(at..) {
            None | Some([]) => return text.len(),
            Some([b'"', b'"', ..]) => at += 2,
            Some([b'"', ..]) => return at + 1,
            Some(_) => at += 1,
        }
    }
}

/// Whether every value in the filled statement is a token, and nothing else is a part of that.
fn every_value_is_one_token(statement: &Statement, value: &str, conforming: bool) -> Result<(), String> {
    let (mut filled, mut places) = (String::new(), Vec::new());
    for piece in &statement.pieces {
        let written = match piece {
            Piece::Text(text) => {
                filled.push_str(text);
                continue;
            }
            Piece::Identifier(_) => identifier(value),
            Piece::Literal(_) => literal(value),
        };
        let begin = filled.len();
        filled.push_str(&written?);
        places.push((begin, filled.len()));
    }
    let tokens = scanned(&filled, conforming);
    match places.iter().find(|place| !tokens.contains(place)) {
        Some((begin, _)) => Err(format!("{filled:?} at {begin}: {tokens:?}")),
        None => Ok(()),
    }
}

#[test]
fn the_second_reader_knows_what_leads_astray() {
    let begins = |text: &str, conforming| scanned(text, conforming).iter().map(|token| token.0).collect::<Vec<_>>();
    assert_eq!(begins("date'\\', 'x'", true), [0, 4, 7, 8, 9]);
    assert_eq!(begins("date'\\', 'x'", false), [0, 4, 10]);
    assert_eq!(begins("1$a$ ' $a$", true), [0, 1]);
    assert_eq!(begins("'a'\n'b'c", true), [0, 7]);
    assert_eq!(begins("--\r'x'", true), [0, 2, 3]);
    // By a reader that takes it for a placeholder outside of quotes.
    let piece = |text: &str| Piece::Text(text.to_owned());
    let pieces = vec![piece("date'\\', '"), Piece::Literal("owner".to_owned()), piece("'")];
    let astray = Statement { text: String::new(), pieces };
    every_value_is_one_token(&astray, "x", true).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_taken_has_every_value_as_one_token(
        parts in prop::collection::vec(prop::sample::select(FRAGMENTS), 1..12),
        value in prop::sample::select(VALUES),
    ) {
        let text = format!("SELECT {}", parts.concat());
        if let Ok(statement) = Statement::try_from(text) {
            for conforming in [true, false] {
                let one = every_value_is_one_token(&statement, value, conforming);
                prop_assert!(one.is_ok(), "{:?}", one);
            }
        }
    }
}
