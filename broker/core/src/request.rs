//! What a caller asks for.

use std::net::IpAddr;

use crate::error::{Reason, Refusal, Step};
use crate::id::{GrantId, RequestId};
use crate::role::Role;
use crate::time::Ttl;

/// A request for a credential, parsed and bounded, not yet decided.
#[derive(Clone, Debug)]
pub struct GrantRequest {
    /// Role that is wanted. Text, because a name that breaks the rules of names must be answered exactly as one that
    /// does not exist.
    pub role: String,
    /// Why, in words.
    pub purpose: Option<String>,
    /// How long, where the caller cares.
    pub ttl: Option<Ttl>,
    /// Ticket or change reference.
    pub ticket: Option<String>,
    /// What an agent was asked to do.
    pub task: Option<String>,
    /// Narrower scope than the role's, where the backend knows scopes.
    pub scope: Vec<String>,
    /// Certificate request in PEM, where the key stays with the caller.
    pub csr: Option<String>,
    /// The caller says that it lives at least this often, or the grant ends.
    pub heartbeat: Option<Ttl>,
    /// A grant of the caller's that this one takes the place of: it begins to end when this one becomes active.
    pub replaces: Option<GrantId>,
    /// Signed statements about the change or the build behind the request, as envelopes, not verified.
    pub attestations: Vec<String>,
    /// Lets a caller repeat a request whose answer was lost.
    pub idempotency: Option<Idempotency>,
    /// The answer can carry one token only (RFC 8693).
    pub single_token: bool,
}

/// A caller's idempotency key with the digest of the request that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// `Idempotency-Key`, 1–255 visible characters.
    pub key: String,
    /// SHA-256 of the request's content.
    pub request_digest: [u8; 32],
}

/// Where a request came from, for the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Id of the request, answered in `X-Request-Id`.
    pub request_id: RequestId,
    /// Address of the peer.
    pub source: Option<IpAddr>,
}

/// A stated purpose: says something, is bounded, and does not break a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purpose(String);

impl Purpose {
    /// Longest purpose in characters: enough for a sentence, too short to be a place for data.
    pub const MAX_CHARS: usize = 400;

    /// What the caller said, as it is decided on and recorded: one text for both, or a policy would judge another than
    /// people read. `None` when it shows nothing.
    ///
    /// It is bounded before anything is decided: a decision keeps what it was asked with.
    ///
    /// # Errors
    /// [`Reason::MalformedRequest`] for control characters or too long a text.
    pub fn stated(text: Option<&str>) -> Result<Option<String>, Refusal> {
        text.map(visible_text).filter(|text| !text.is_empty()).map(bounded).transpose()
    }

    /// What the caller said, or the role's default; refused when it says nothing.
    ///
    /// # Errors
    /// [`Reason::MissingPurpose`] for none, blank text or a placeholder; [`Reason::PurposePattern`] when the role asks
    /// for a form; [`Reason::MalformedRequest`] for control characters or too long a text.
    pub fn resolve(stated: Option<&str>, role: &Role) -> Result<Self, Refusal> {
        let text = match Self::stated(stated)? {
            Some(text) => text,
            None => bounded(
                role.purpose
                    .default
                    .clone()
                    .ok_or_else(|| refuse_missing("say in `purpose` what the credential is for, in a few words"))?,
            )?,
        };
        if says_nothing(&text, role) {
            return Err(refuse_missing(format!(
                "{text:?} does not say what the credential is for; a few words do, such as \"deploy 4f2c8b1 to production\""
            )));
        }
        if let Some(pattern) = &role.purpose.pattern
            && pattern.find(&text).is_none_or(|found| found.range() != (0..text.len()))
        {
            let detail = format!("`purpose` must match the role's pattern {:?}", pattern.as_str());
            return Err(Refusal::new(Step::Role, Reason::PurposePattern, detail).about("purpose"));
        }
        Ok(Self(text))
    }

    /// The purpose as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The purpose as owned text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

fn bounded(text: String) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(Refusal::request(Reason::MalformedRequest, "purpose", "`purpose` has a control character"));
    }
    if text.chars().count() > Purpose::MAX_CHARS {
        let detail = format!("`purpose` is longer than {} characters", Purpose::MAX_CHARS);
        return Err(Refusal::request(Reason::MalformedRequest, "purpose", detail));
    }
    Ok(text)
}

fn refuse_missing(detail: impl Into<String>) -> Refusal {
    Refusal::request(Reason::MissingPurpose, "purpose", detail)
}

/// Trimmed, and without the characters that show nothing (zero-width and bidirectional controls): a purpose made of
/// those alone is no purpose, and inside a text they could make a log line read differently from what it says.
fn visible_text(text: &str) -> String {
    let invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{00ad}');
    text.chars().filter(|c| !invisible(*c)).collect::<String>().trim().to_owned()
}

/// What people type to get past a required field.
const PLACEHOLDERS: &[&str] = &[
    "test",
    "testing",
    "tests",
    "asdf",
    "qwerty",
    "foo",
    "bar",
    "foobar",
    "na",
    "none",
    "null",
    "nil",
    "nothing",
    "todo",
    "tbd",
    "fixme",
    "xxx",
    "purpose",
    "reason",
    "because",
    "temp",
    "tmp",
    "dummy",
    "placeholder",
    "whatever",
    "something",
    "stuff",
    "misc",
    "abc",
    "work",
    "debug",
    "deploy",
    "ci",
    "job",
    "example",
    "unknown",
    "undefined",
    "default",
];

fn says_nothing(text: &str, role: &Role) -> bool {
    let folded: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let mut letters = folded.chars();
    let first = letters.next();
    let one_letter_repeated = first.is_some_and(|first| letters.all(|c| c == first));
    let role_name: String = role.name.as_str().chars().filter(|c| c.is_alphanumeric()).collect();
    let last_segment: String =
        role.name.as_str().rsplit('/').next().unwrap_or_default().chars().filter(|c| c.is_alphanumeric()).collect();
    folded.chars().count() < 3
        || one_letter_repeated
        || PLACEHOLDERS.contains(&folded.as_str())
        || folded == role_name
        || folded == last_segment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;

    #[test]
    fn a_purpose_must_say_something() {
        let role = sample::role("payments/prod/deploy");
        assert_eq!(Purpose::resolve(Some("deploy 4f2c to prod"), &role).unwrap().as_str(), "deploy 4f2c to prod");
        for empty in [
            "",
            "   ",
            "\u{200b}\u{feff}",
            "test",
            "Test!",
            "asdf",
            "n/a",
            "N/A.",
            "aaaa",
            "..",
            "x",
            "deploy",
            "payments/prod/deploy",
            "Payments Prod Deploy",
        ] {
            let refusal = Purpose::resolve(Some(empty), &role).unwrap_err();
            assert_eq!(refusal.reason, Reason::MissingPurpose, "{empty:?}");
            assert_eq!(refusal.parameter.as_deref(), Some("purpose"));
        }
        assert_eq!(Purpose::resolve(None, &role).unwrap_err().reason, Reason::MissingPurpose);
        let long = "why ".repeat(200);
        assert_eq!(Purpose::resolve(Some(&long), &role).unwrap_err().reason, Reason::MalformedRequest);
        assert_eq!(Purpose::resolve(Some("a good\nreason"), &role).unwrap_err().reason, Reason::MalformedRequest);
    }

    #[test]
    fn a_role_can_default_and_constrain_the_purpose() {
        let mut role = sample::role("payments/prod/deploy");
        role.purpose.default = Some("nightly reconciliation".to_owned());
        assert_eq!(Purpose::resolve(None, &role).unwrap().as_str(), "nightly reconciliation");
        role.purpose.pattern = Some(regex::Regex::new("release [0-9]+").unwrap());
        assert!(Purpose::resolve(Some("release 17"), &role).is_ok());
        for wrong in ["release 17 and more", "a release 17", "something else entirely"] {
            assert_eq!(Purpose::resolve(Some(wrong), &role).unwrap_err().reason, Reason::PurposePattern, "{wrong}");
        }
    }
}
