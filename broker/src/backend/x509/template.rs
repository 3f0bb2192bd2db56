//! Names in certificates, made from templates of the role and claims of the identity.
//!
//! A name decides what its bearer may do elsewhere, and claim values are chosen by whoever runs the job. So a value
//! fills one segment or one label, from an alphabet in which nothing can end that segment, and never anything more: a
//! value outside the alphabet is refused, not changed, because two values that are changed into one would share an
//! identity. One value a segment, or `a-b` and `c` would make the same name as `a` and `b-c`.

use std::borrow::Cow;

use hallpass_core::credential::IssueOrder;
use hallpass_core::identity::AttributeValue;
use hallpass_core::provenance::Provenance;
use hallpass_core::role::Role;

/// Longest SPIFFE ID (SPIFFE-ID §2.3).
const MAX_SPIFFE_ID_LEN: usize = 2048;

/// Longest host name (RFC 1035 §2.3.4) and label.
const MAX_DNS_NAME_LEN: usize = 253;
const MAX_LABEL_LEN: usize = 63;

const SCHEME: &str = "spiffe://";

/// The template of a SPIFFE ID, parsed.
#[derive(Debug)]
pub(super) struct SpiffeTemplate<'a> {
    trust_domain: &'a str,
    segments: Vec<Piece<'a>>,
}

impl<'a> SpiffeTemplate<'a> {
    /// Parses `spiffe://{trust_domain}/…` or a path `/…`, for `role`.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub(super) fn parse(template: &'a str, trust_domain: &'a str, role: &'a Role) -> Result<Self, String> {
        let path = match template.strip_prefix(SCHEME) {
            Some(rest) => {
                let (domain, path) = rest.split_once('/').ok_or("must have a path after the trust domain")?;
                if domain != "{trust_domain}" && domain != trust_domain {
                    return Err(format!("must be in the backend's trust domain: write {SCHEME}{{trust_domain}}/…"));
                }
                path
            }
            None => {
                template.strip_prefix('/').ok_or_else(|| format!("must begin with {SCHEME}{{trust_domain}}/ or /"))?
            }
        };
        let mut segments = Vec::new();
        for text in split_outside_braces(path, '/') {
            if text == "{role}" {
                // Configuration, not a claim: the role's path is part of the name as it stands.
                segments.extend(role.name.as_str().split('/').map(Piece::literal));
            } else {
                segments.push(Piece::parse(text, role)?);
            }
        }
        for segment in &segments {
            segment.check_literals(is_segment_char, is_segment, SEGMENT_RULE)?;
        }
        Ok(Self { trust_domain, segments })
    }

    /// The SPIFFE ID of `order`.
    ///
    /// # Errors
    /// The claim that is absent or does not fit, for its bearer.
    pub(super) fn render(&self, order: &IssueOrder) -> Result<String, String> {
        let mut id = format!("{SCHEME}{}", self.trust_domain);
        for segment in &self.segments {
            id.push('/');
            id.push_str(&segment.render(order, is_segment_char, is_segment, SEGMENT_RULE)?);
        }
        if id.len() > MAX_SPIFFE_ID_LEN {
            return Err(format!("the SPIFFE ID would be longer than {MAX_SPIFFE_ID_LEN} bytes"));
        }
        Ok(id)
    }
}

/// The template of a host name, parsed.
#[derive(Debug)]
pub(super) struct DnsTemplate<'a> {
    labels: Vec<Piece<'a>>,
}

impl<'a> DnsTemplate<'a> {
    /// Parses a host name whose labels may each hold one placeholder, for `role`.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub(super) fn parse(template: &'a str, role: &'a Role) -> Result<Self, String> {
        let labels = split_outside_braces(template, '.')
            .into_iter()
            .map(|text| Piece::parse(text, role))
            .collect::<Result<Vec<_>, _>>()?;
        for label in &labels {
            label.check_literals(is_label_char, is_label, LABEL_RULE)?;
        }
        // The domain is the role's to choose; of only digits it would read as an address.
        match labels.last().map(Piece::as_literal) {
            Some(Some(literal)) if !literal.bytes().all(|b| b.is_ascii_digit()) => Ok(Self { labels }),
            _ => Err(format!("{template:?} must end in a literal label that is not a number")),
        }
    }

    /// The host name of `order`.
    ///
    /// # Errors
    /// The claim that is absent or does not fit, for its bearer.
    pub(super) fn render(&self, order: &IssueOrder) -> Result<String, String> {
        let labels: Result<Vec<_>, _> =
            self.labels.iter().map(|label| label.render(order, is_label_char, is_label, LABEL_RULE)).collect();
        let name = labels?.join(".");
        if name.len() > MAX_DNS_NAME_LEN {
            return Err(format!("the host name would be longer than {MAX_DNS_NAME_LEN} characters"));
        }
        Ok(name)
    }
}

const SEGMENT_RULE: &str = "letters, digits, '.', '-' and '_', and not '.' or '..'";

/// SPIFFE-ID §2.2: the characters of a path segment.
fn is_segment_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// No segment is a relative path, nor holds what a sloppy parser could take for one.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && text != "." && !text.contains("..") && text.bytes().all(is_segment_char)
}

const LABEL_RULE: &str = "1 to 63 lower-case letters, digits and '-', and begin and end with a letter or digit";

fn is_label_char(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// RFC 1123 §2.1, and no `xn--`: an encoded label shows as another text than was checked (RFC 5890 §2.3.1).
fn is_label(text: &str) -> bool {
    let encoded = text.get(2..4) == Some("--");
    let edges = text.starts_with('-') || text.ends_with('-');
    !text.is_empty() && text.len() <= MAX_LABEL_LEN && !encoded && !edges && text.bytes().all(is_label_char)
}

/// One segment or one label: a literal, or a placeholder between two.
#[derive(Debug)]
struct Piece<'a> {
    prefix: &'a str,
    value: Option<Placeholder<'a>>,
    suffix: &'a str,
}

impl<'a> Piece<'a> {
    const fn literal(text: &'a str) -> Self {
        Self { prefix: text, value: None, suffix: "" }
    }

    fn parse(text: &'a str, role: &'a Role) -> Result<Self, String> {
        let Some((prefix, rest)) = text.split_once('{') else {
            return if text.contains('}') {
                Err(format!("{text:?} closes a brace that is not open"))
            } else {
                Ok(Self::literal(text))
            };
        };
        let (name, suffix) = rest.split_once('}').ok_or_else(|| format!("{text:?} leaves a brace open"))?;
        if suffix.contains(['{', '}']) || prefix.contains('}') || name.contains('{') {
            return Err(format!("{text:?} must hold one placeholder at most: two values side by side are ambiguous"));
        }
        Ok(Self { prefix, value: Some(Placeholder::parse(name, role)?), suffix })
    }

    fn as_literal(&self) -> Option<&'a str> {
        self.value.is_none().then_some(self.prefix)
    }

    /// Checks what is known when the bundle is loaded.
    fn check_literals(&self, is_char: fn(u8) -> bool, is_whole: fn(&str) -> bool, rule: &str) -> Result<(), String> {
        let whole = match &self.value {
            None => Some(self.prefix.to_owned()),
            Some(Placeholder { source: Source::Fixed(value), .. }) => {
                Some(format!("{}{value}{}", self.prefix, self.suffix))
            }
            Some(_) => None,
        };
        if let Some(bad) = whole.filter(|whole| !is_whole(whole)) {
            return Err(format!("{bad:?} must be {rule}"));
        }
        match [self.prefix, self.suffix].into_iter().find(|literal| !literal.bytes().all(is_char)) {
            Some(bad) => Err(format!("{bad:?} must be {rule}")),
            None => Ok(()),
        }
    }

    fn render(
        &self,
        order: &IssueOrder,
        is_char: fn(u8) -> bool,
        is_whole: fn(&str) -> bool,
        rule: &str,
    ) -> Result<String, String> {
        let Some(placeholder) = &self.value else { return Ok(self.prefix.to_owned()) };
        let name = placeholder.name;
        let value = placeholder.value(order).filter(|value| !value.is_empty());
        let value =
            value.ok_or_else(|| format!("`{name}` is part of the certificate's name, and your proof has none"))?;
        let whole = format!("{}{value}{}", self.prefix, self.suffix);
        if value.bytes().all(is_char) && is_whole(&whole) {
            return Ok(whole);
        }
        let shown: String = value.chars().take(100).collect();
        Err(format!("`{name}` is {shown:?}: as part of the certificate's name it must be {rule}"))
    }
}

#[derive(Debug)]
struct Placeholder<'a> {
    name: &'a str,
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    /// Known when the bundle is loaded.
    Fixed(&'a str),
    Issuer,
    Subject,
    Attribute(&'a str),
    Provenance(ProvenanceField),
}

type ProvenanceField = fn(&Provenance) -> Option<Cow<'_, str>>;

impl<'a> Placeholder<'a> {
    fn parse(name: &'a str, role: &'a Role) -> Result<Self, String> {
        let source = match name.split_once('.') {
            None => match name {
                "issuer" => Source::Issuer,
                "subject" => Source::Subject,
                "role" => Source::Fixed(role.name.as_str()),
                "owner" => Source::Fixed(role.owner.as_str()),
                _ => return Err(unknown(name)),
            },
            Some(("attributes", attribute)) if !attribute.is_empty() => Source::Attribute(attribute),
            Some(("provenance", field)) => Source::Provenance(provenance_field(field).ok_or_else(|| unknown(name))?),
            Some(_) => return Err(unknown(name)),
        };
        Ok(Self { name, source })
    }

    fn value<'o>(&self, order: &'o IssueOrder) -> Option<Cow<'o, str>>
    where
        'a: 'o,
    {
        match &self.source {
            Source::Fixed(value) => Some(Cow::Borrowed(*value)),
            Source::Issuer => Some(Cow::Borrowed(order.issuer.as_str())),
            Source::Subject => Some(Cow::Borrowed(order.subject.as_str())),
            Source::Attribute(name) => match order.attributes.get(*name)? {
                AttributeValue::Text(text) => Some(Cow::Borrowed(text.as_str())),
                AttributeValue::Long(number) => Some(Cow::Owned(number.to_string())),
                AttributeValue::Bool(truth) => Some(Cow::Owned(truth.to_string())),
                AttributeValue::List(_) => None,
            },
            Source::Provenance(field) => field(&order.provenance),
        }
    }
}

fn unknown(name: &str) -> String {
    format!(
        "{{{name}}} is not a placeholder: use issuer, subject, role, owner, attributes.<name> or provenance.<field>"
    )
}

/// The field of this wire name. A list of digests is no name.
fn provenance_field(name: &str) -> Option<ProvenanceField> {
    macro_rules! text {
        ($field:ident) => {
            |provenance| provenance.$field.as_deref().map(Cow::Borrowed)
        };
    }
    Some(match name {
        "repository" => text!(repository),
        "repository_id" => text!(repository_id),
        "repository_owner_id" => text!(repository_owner_id),
        "ref" => text!(git_ref),
        "ref_protected" => |provenance| provenance.ref_protected.map(|truth| Cow::Owned(truth.to_string())),
        "commit" => text!(commit),
        "workflow" => text!(workflow),
        "workflow_ref" => text!(workflow_ref),
        "run" => text!(run),
        "run_attempt" => text!(run_attempt),
        "job" => text!(job),
        "actor" => text!(actor),
        "actor_id" => text!(actor_id),
        "event" => text!(event),
        "pull_request" => text!(pull_request),
        "environment" => text!(environment),
        "runner" => text!(runner),
        _ => return None,
    })
}

/// Splits where `separator` stands outside braces: names of attributes may hold it.
fn split_outside_braces(text: &str, separator: char) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            _ => {}
        }
        c == separator && !inside
    })
    .collect()
}

#[cfg(test)]
mod tests;
