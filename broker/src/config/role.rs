//! Roles: one file each below `roles/`; the file's path is the role's name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hallpass_core::credential::RevocationClass;
use hallpass_core::id::{BackendName, EnvironmentName, OwnerName, RoleName};
use hallpass_core::request::Purpose;
use hallpass_core::role::{PurposeRule, Role, RoleState, TtlRule};
use hallpass_core::time::Ttl;
use regex::RegexBuilder;
use ring::digest;
use serde::Deserialize;
use serde_json::Value;

use super::Finding;
use super::backend::Backend;
use super::document::{Declared, Document, Duration, check_words};

/// Longest life that a role may give. Longer, and a credential that leaks unnoticed outlives the working day in which
/// somebody would notice: it has become a password.
pub const MAX_ROLE_TTL: Ttl = Ttl::from_hours(24);

/// Largest purpose pattern once compiled. Patterns run on every request's text; a larger one is a way to burn CPU.
const MAX_PATTERN_BYTES: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRole {
    owner: OwnerName,
    description: String,
    backend: BackendName,
    environment: Option<EnvironmentName>,
    ttl: RawTtl,
    #[serde(default)]
    purpose: RawPurpose,
    review_every: Option<Duration>,
    revocation_floor: Option<RevocationClass>,
    max_continuous: Option<Duration>,
    max_live: Option<u32>,
    #[serde(default)]
    state: RoleState,
    stage: Option<String>,
    tier: Option<String>,
    target: Option<String>,
    jwt: Option<toml::Table>,
    x509: Option<toml::Table>,
    azure: Option<toml::Table>,
    gcp: Option<toml::Table>,
    github: Option<toml::Table>,
    kubernetes: Option<toml::Table>,
    postgres: Option<toml::Table>,
    vault: Option<toml::Table>,
    aws: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTtl {
    default: Duration,
    max: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPurpose {
    required: Option<bool>,
    default: Option<String>,
    pattern: Option<String>,
}

/// What a role may name.
pub(crate) struct Names<'a> {
    pub(crate) backends: &'a [Backend],
    pub(crate) declared_backends: &'a Declared,
    pub(crate) owners: &'a Declared,
    pub(crate) environments: &'a Declared,
}

/// Where the keys of a role's file stand, so that what is found later can be placed.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    file: PathBuf,
    keys: BTreeMap<String, usize>,
    /// The table of the backend's kind.
    table: &'static str,
    parameters: BTreeMap<String, usize>,
}

impl Place {
    /// Something wrong at `key`.
    pub(crate) fn finding(&self, key: &str, reason: impl std::fmt::Display) -> Finding {
        let line = self.keys.get(key).copied();
        Finding { file: self.file.clone(), line, reason: format!("{key}: {reason}") }
    }

    /// Something wrong at a parameter, a path with dots within the table of the backend's kind.
    pub(crate) fn parameter_finding(&self, key: &str, problem: &str) -> Finding {
        let parameter = key.split('.').next().and_then(|first| self.parameters.get(first));
        let line = parameter.or_else(|| self.keys.get(self.table)).or_else(|| self.keys.get("backend")).copied();
        Finding { file: self.file.clone(), line, reason: format!("{}.{key}: {problem}", self.table) }
    }
}

/// The role `name` of the file `document`.
pub(crate) fn read(
    name: RoleName,
    document: &Document<'_>,
    names: &Names<'_>,
    findings: &mut Vec<Finding>,
) -> Option<(Role, Place)> {
    if name.is_reserved() {
        let reason = "hallpass/ holds the built-in roles; choose another name".to_owned();
        findings.push(Finding { file: document.file().to_owned(), line: None, reason });
    }
    let raw: RawRole = document.read(findings)?;
    let before = findings.len();
    check_words(document, "description", &raw.description, findings);
    for (key, text) in [("stage", &raw.stage), ("tier", &raw.tier), ("target", &raw.target)] {
        if let Some(text) = text {
            check_words(document, key, text, findings);
        }
    }
    if !names.owners.has(raw.owner.as_str()) {
        findings.push(document.finding("owner", format!("{:?} is no owner of owners.toml", raw.owner.as_str())));
    }
    if let Some(environment) = raw.environment.as_ref().filter(|name| !names.environments.has(name.as_str())) {
        let reason = format!("{:?} is no environment of environments.toml", environment.as_str());
        findings.push(document.finding("environment", reason));
    }
    let (parameters, kind) = parameters(document, &raw, names, findings)?;
    let role = Role {
        digest: digest_of(&name, document.read::<toml::Table>(findings)?),
        ttl: ttl(document, &raw, findings),
        purpose: purpose(document, &raw.purpose, findings)?,
        max_continuous: positive(document, "max_continuous", raw.max_continuous, findings),
        max_live: raw.max_live,
        review_every: positive(document, "review_every", raw.review_every, findings),
        review_at: None,
        name,
        owner: raw.owner,
        description: raw.description,
        backend: raw.backend,
        environment: raw.environment,
        revocation_floor: raw.revocation_floor,
        state: raw.state,
        stage: raw.stage,
        tier: raw.tier,
        target: raw.target,
        parameters,
    };
    if role.max_live == Some(0) {
        let reason = "0 would let nobody have it: to hold a role back, say state = \"suspended\"";
        findings.push(document.finding("max_live", reason));
    }
    if role.max_continuous.is_some_and(|longest| longest < role.ttl.default) {
        findings.push(document.finding("max_continuous", "is shorter than ttl.default: no grant could last"));
    }
    // The default goes where a caller's words go, so it must pass as they must.
    if let (true, Err(refusal)) = (role.purpose.default.is_some(), Purpose::resolve(None, &role)) {
        findings.push(document.finding("purpose.default", refusal.detail));
    }
    (findings.len() == before).then(|| (role, place(document, kind)))
}

fn parameters(
    document: &Document<'_>,
    raw: &RawRole,
    names: &Names<'_>,
    findings: &mut Vec<Finding>,
) -> Option<(Value, &'static str)> {
    let Some(backend) = names.backends.iter().find(|backend| backend.name == raw.backend) else {
        if !names.declared_backends.has(raw.backend.as_str()) {
            let reason = format!("{:?} is no backend of backends.toml", raw.backend.as_str());
            findings.push(document.finding("backend", reason));
        }
        return None;
    };
    let kind = backend.kind.as_str();
    let tables = [
        ("jwt", &raw.jwt),
        ("x509", &raw.x509),
        ("azure", &raw.azure),
        ("gcp", &raw.gcp),
        ("github", &raw.github),
        ("kubernetes", &raw.kubernetes),
        ("postgres", &raw.postgres),
        ("vault", &raw.vault),
        ("aws", &raw.aws),
    ];
    for (other, _) in tables.iter().filter(|(other, table)| *other != kind && table.is_some()) {
        findings.push(document.finding(other, format!("the backend {:?} is of kind {kind}", raw.backend.as_str())));
    }
    let own = tables.into_iter().find(|(name, _)| *name == kind).and_then(|(_, table)| table.clone());
    let Some(parameters) = json(toml::Value::Table(own.unwrap_or_default())) else {
        findings.push(document.finding(kind, "has a number that is not finite"));
        return None;
    };
    let class = backend.kind.class(&parameters);
    if let Some(floor) = raw.revocation_floor.filter(|floor| class < *floor) {
        let (class, floor) = (class.as_str(), floor.as_str());
        let reason = format!("{kind} credentials are {class:?}, which is weaker than {floor:?}");
        findings.push(document.finding("revocation_floor", reason));
    }
    Some((parameters, kind))
}

fn ttl(document: &Document<'_>, raw: &RawRole, findings: &mut Vec<Finding>) -> TtlRule {
    let TtlRule { default, max } = TtlRule { default: raw.ttl.default.0, max: raw.ttl.max.0 };
    if default == Ttl::ZERO {
        findings.push(document.finding("ttl.default", "leaves no time at all"));
    }
    if max > MAX_ROLE_TTL {
        findings.push(
            document.finding("ttl.max", format!("{max} is longer than {MAX_ROLE_TTL}, the most a role may give")),
        );
    }
    if default > max {
        findings.push(document.finding("ttl.default", format!("{default} is longer than ttl.max, {max}")));
    }
    TtlRule { default, max }
}

fn purpose(document: &Document<'_>, raw: &RawPurpose, findings: &mut Vec<Finding>) -> Option<PurposeRule> {
    match (raw.required, &raw.default) {
        (Some(false), None) => {
            let reason = "false without a default: every grant says why, so give purpose.default";
            findings.push(document.finding("purpose.required", reason));
        }
        (Some(true), Some(_)) => {
            let reason = "true with a default: a default is what makes the purpose optional, so leave out one of them";
            findings.push(document.finding("purpose.required", reason));
        }
        (None | Some(false), Some(_)) | (None | Some(true), None) => {}
    }
    let pattern = match &raw.pattern {
        None => None,
        Some(pattern) => match RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                findings.push(document.finding("purpose.pattern", reason));
                return None;
            }
        },
    };
    Some(PurposeRule { default: raw.default.clone(), pattern })
}

fn positive(document: &Document<'_>, key: &str, written: Option<Duration>, findings: &mut Vec<Finding>) -> Option<Ttl> {
    let Duration(ttl) = written?;
    if ttl == Ttl::ZERO {
        findings.push(document.finding(key, "is no time at all; leave it out if it does not apply"));
    }
    Some(ttl)
}

fn place(document: &Document<'_>, table: &'static str) -> Place {
    let lines = |document: &Document<'_>| document.keys().map(|(key, line)| (key.to_owned(), line)).collect();
    let parameters = document.child(table).map(|child| lines(&child)).unwrap_or_default();
    Place { file: document.file().to_owned(), keys: lines(document), table, parameters }
}

/// Lower-case hexadecimal SHA-256 of what a role file says: comments, blanks and the order of keys do not count.
fn digest_of(name: &RoleName, table: toml::Table) -> String {
    let mut canonical = String::new();
    write_canonical(&toml::Value::Table(table), &mut canonical);
    hex(digest::digest(&digest::SHA256, format!("hallpass role {name}\n{canonical}").as_bytes()).as_ref())
}

/// JSON with sorted keys and no blanks.
fn write_canonical(value: &toml::Value, out: &mut String) {
    match value {
        toml::Value::Table(table) => {
            let sorted: BTreeMap<_, _> = table.iter().collect();
            for (n, (key, value)) in sorted.into_iter().enumerate() {
                out.push(if n == 0 { '{' } else { ',' });
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push_str(if table.is_empty() { "{}" } else { "}" });
        }
        toml::Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        toml::Value::String(text) => out.push_str(&Value::from(text.as_str()).to_string()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) | toml::Value::Datetime(_) => {
            out.push_str(&value.to_string());
        }
    }
}

/// `value` as JSON; a date becomes text.
pub(crate) fn json(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::Number(serde_json::Number::from_f64(number)?),
        toml::Value::Boolean(truth) => Value::from(truth),
        toml::Value::Datetime(at) => Value::from(at.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect::<Option<_>>()?),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| Some((key, json(value)?))).collect::<Option<_>>()?)
        }
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
