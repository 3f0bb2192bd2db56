//! How deep a policy text nests and where its statements begin, found without parsing it.
//!
//! Cedar's parser is recursive and has no depth limit: a few kilobytes of brackets or chained operators would end the
//! process by overflowing its stack. Nothing reaches the parser before this module has bounded it.

/// Deepest nesting of what the evaluator recurses into: brackets, `if`, arithmetic, member accesses. People write four
/// or five levels; a request's thread has stack for 32 in an unoptimised build.
pub(crate) const MAX_NESTING: usize = 24;

/// Longest chain of `&&`, `||` and clauses on the way to any part of a policy. Longer alternatives are better written
/// as a set.
pub(crate) const MAX_CHAIN: usize = 128;

/// The text goes deeper than the parser may be trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooDeep {
    /// Byte offset at which the limit was passed.
    pub(crate) offset: usize,
}

/// Byte offsets at which the statements of `text` begin.
///
/// # Errors
/// [`TooDeep`] where the text nests or chains beyond [`MAX_NESTING`] or [`MAX_CHAIN`].
pub(crate) fn measure(text: &str) -> Result<Vec<usize>, TooDeep> {
    let mut statements = Vec::new();
    let mut depth = Depth::default();
    let mut within = false;
    for (offset, token) in (Tokens { text, at: 0 }) {
        if !within {
            statements.push(offset);
            within = true;
        }
        match token {
            Token::Open => depth.open(),
            Token::Close => depth.close(),
            Token::Separator => depth.here = Level::default(),
            Token::Logical => depth.here.chain(),
            Token::Comparison => depth.here.compare(),
            Token::Step => depth.here.steps += 1,
            Token::If => depth.here.branches += 1,
            Token::End => {
                depth = Depth::default();
                within = false;
            }
            Token::Other => {}
        }
        if depth.exceeded() {
            return Err(TooDeep { offset });
        }
    }
    Ok(statements)
}

/// Line of a byte offset, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// What is chained at one level of brackets.
#[derive(Clone, Copy, Default)]
struct Level {
    /// `&&`, `||`, `when`, `unless`.
    chained: usize,
    /// Arithmetic, negation and member accesses since the last of those or the last comparison.
    steps: usize,
    branches: usize,
}

impl Level {
    fn chain(&mut self) {
        self.chained += 1;
        self.steps = 0;
    }

    fn compare(&mut self) {
        self.steps = 0;
    }

    fn nesting(self) -> usize {
        self.steps + self.branches
    }
}

#[derive(Default)]
struct Depth {
    outer: Vec<Level>,
    outer_nesting: usize,
    outer_chained: usize,
    here: Level,
}

impl Depth {
    fn open(&mut self) {
        self.outer_nesting += self.here.nesting();
        self.outer_chained += self.here.chained;
        self.outer.push(std::mem::take(&mut self.here));
    }

    fn close(&mut self) {
        if let Some(level) = self.outer.pop() {
            self.outer_nesting -= level.nesting();
            self.outer_chained -= level.chained;
            self.here = level;
            // The brackets may have been a call or an index, which is a step like a member access.
            self.here.steps += 1;
        }
    }

    fn exceeded(&self) -> bool {
        self.outer.len() + self.outer_nesting + self.here.nesting() > MAX_NESTING
            || self.outer_chained + self.here.chained > MAX_CHAIN
    }
}

enum Token {
    Open,
    Close,
    Separator,
    Logical,
    Comparison,
    Step,
    If,
    End,
    Other,
}

/// The tokens of Cedar's grammar that bear on depth; strings and comments are skipped as its lexer skips them.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.byte(0).is_some_and(&keep) {
            self.at += 1;
        }
    }

    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.byte(0) {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = (usize, Token);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (offset, byte) = (self.at, self.byte(0)?);
            let token = match byte {
                b'/' if self.byte(1) == Some(b'/') => {
                    self.skip_while(|b| b != b'\n' && b != b'\r');
                    continue;
                }
                b if b.is_ascii_whitespace() => {
                    self.at += 1;
                    continue;
                }
                b'"' => {
                    self.skip_string();
                    Token::Other
                }
                b if b.is_ascii_alphanumeric() || b == b'_' => {
                    self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_');
                    match self.text.get(offset..self.at) {
                        Some("if") => Token::If,
                        Some("when" | "unless") => Token::Logical,
                        Some("in" | "has" | "like" | "is" | "then" | "else") => Token::Comparison,
                        _ => Token::Other,
                    }
                }
                _ => {
                    self.at += 1;
                    let doubled = self.byte(0) == Some(byte);
                    match byte {
                        b'(' | b'[' | b'{' => Token::Open,
                        b')' | b']' | b'}' => Token::Close,
                        b',' => Token::Separator,
                        b'&' | b'|' => {
                            self.at += usize::from(doubled);
                            Token::Logical
                        }
                        b'=' | b'<' | b'>' => Token::Comparison,
                        b'!' if self.byte(0) == Some(b'=') => Token::Comparison,
                        b'.' | b':' | b'!' | b'+' | b'-' | b'*' | b'/' | b'%' => Token::Step,
                        b';' => Token::End,
                        _ => Token::Other,
                    }
                }
            };
            return Some((offset, token));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_begin_where_their_first_token_stands() {
        let text = "// head; \"not a string\n@id(\"a;b\")\npermit(principal, action, resource);\n\n  forbid(principal, action, resource);";
        let starts: Vec<_> = measure(text).unwrap().into_iter().map(|offset| line_of(text, offset)).collect();
        assert_eq!(starts, [2, 5]);
    }

    #[test]
    fn depth_is_bounded_in_every_way_that_a_tree_can_grow() {
        let body = |inner: String| format!("permit(principal, action, resource) when {{ {inner} }};");
        let n = MAX_CHAIN + 1;
        for bomb in [
            "(".repeat(MAX_NESTING + 1),
            "[".repeat(MAX_NESTING + 1),
            "{a:".repeat(MAX_NESTING + 1),
            "if true then true else ".repeat(MAX_NESTING + 1),
            format!("context{}", ".a".repeat(n)),
            format!("context{}", "[\"a\"]".repeat(n)),
            format!("true{}", " && true".repeat(n)),
            format!("true{}", " || true".repeat(n)),
            format!("1{} == 1", "+1".repeat(n)),
            "!".repeat(n),
            format!("A{}", "::A".repeat(n)),
        ] {
            assert!(measure(&body(bomb.clone())).is_err(), "{}", bomb.chars().take(40).collect::<String>());
        }
        let clauses = format!("permit(principal, action, resource){};", " when { true }".repeat(n));
        assert!(measure(&clauses).is_err());
    }

    #[test]
    fn what_people_write_is_not_too_deep() {
        let repositories: Vec<_> = (0..2_000).map(|n| format!("\"{n}\"")).collect();
        let listed = format!("[{}].contains(context.provenance.repository_id)", repositories.join(", "));
        let compared: Vec<_> = (0..40)
            .map(|n| format!("(context.provenance has repository_id && context.provenance.repository_id == \"{n}\")"))
            .collect();
        for body in [listed, compared.join(" || ")] {
            let text = format!("permit(principal, action, resource) when {{ {body} }};");
            assert!(measure(&text).is_ok(), "{body}");
        }
    }
}
