//! What a role says of its service account.
//!
//! ```toml
//! [gcp]
//! service_account = "deployer@my-project.iam.gserviceaccount.com"
//! scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]   # all of Google Cloud, without it
//! boundary = [                              # of Cloud Storage alone: what the token can do at most, and where
//!     { resource = "//storage.googleapis.com/projects/_/buckets/releases", permissions = ["inRole:roles/storage.objectAdmin"], condition = "…" },
//! ]
//! ```

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::backend::parameters::{Table, invalid};

/// What a service account can do at all is what its IAM roles say.
const EVERYTHING: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Most scopes.
const MAX_SCOPES: usize = 20;
/// Most rules of a boundary, as documented.
const MAX_RULES: usize = 10;
/// Longest boundary, as documented.
const MAX_BOUNDARY: usize = 2048;
/// Most permissions of a rule.
const MAX_PERMISSIONS: usize = 20;

#[derive(Debug)]
pub(super) struct Parameters<'a> {
    pub(super) service_account: &'a str,
    pub(super) scopes: Vec<&'a str>,
    /// As the Security Token Service takes it.
    pub(super) boundary: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    access_boundary: Boundary<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Boundary<'a> {
    access_boundary_rules: Vec<Rule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    available_resource: &'a str,
    available_permissions: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_condition: Option<Condition<'a>>,
}

#[derive(Serialize)]
struct Condition<'a> {
    expression: &'a str,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(role: &'a Role) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "gcp", &["service_account", "scopes", "boundary"])?;
        let service_account = table.text("service_account")?;
        let service_account = service_account.ok_or_else(|| invalid("service_account", "is missing"))?;
        if !is_account(service_account) {
            return Err(invalid(
                "service_account",
                format!("{service_account:?} must be the account's e-mail address"),
            ));
        }
        let scopes = match table.texts("scopes")? {
            None => vec![EVERYTHING],
            Some(scopes) if (1..=MAX_SCOPES).contains(&scopes.len()) => scopes,
            Some(_) => return Err(invalid("scopes", format!("must be 1 to {MAX_SCOPES}, or left out"))),
        };
        let is_scope = |scope: &str| scope.starts_with("https://") && scope.bytes().all(|b| b.is_ascii_graphic());
        if let Some(wrong) = scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(invalid("scopes", format!("{wrong:?} must be a scope of OAuth 2.0, such as {EVERYTHING:?}")));
        }
        Ok(Self { service_account, scopes, boundary: boundary(&table)? })
    }
}

fn boundary(table: &Table<'_>) -> Result<Option<String>, InvalidParameters> {
    let Some(written) = table.tables("boundary")? else { return Ok(None) };
    if !(1..=MAX_RULES).contains(&written.len()) {
        return Err(invalid("boundary", format!("must be 1 to {MAX_RULES} rules, or left out")));
    }
    let rules = written.into_iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    let options = Options { access_boundary: Boundary { access_boundary_rules: rules } };
    let options = serde_json::to_string(&options).map_err(|error| invalid("boundary", error.to_string()))?;
    if options.len() > MAX_BOUNDARY {
        return Err(invalid("boundary", format!("must be at most {MAX_BOUNDARY} characters as JSON")));
    }
    Ok(Some(options))
}

fn rule(written: &Map<String, Value>) -> Result<Rule<'_>, InvalidParameters> {
    let wrong = |problem: String| invalid("boundary", problem);
    const KNOWN: [&str; 3] = ["resource", "permissions", "condition"];
    if let Some(unknown) = written.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(wrong(format!("{unknown:?} is an unknown key; known are {}", KNOWN.join(", "))));
    }
    let resource = written.get("resource").and_then(Value::as_str).filter(|text| text.starts_with("//"));
    let resource = resource.ok_or_else(|| {
        wrong("each rule has a `resource`, such as //storage.googleapis.com/projects/_/buckets/releases".to_owned())
    })?;
    let permissions = written.get("permissions").and_then(Value::as_array).into_iter().flatten();
    let permissions: Option<Vec<&str>> =
        permissions.map(|one| one.as_str().filter(|one| one.starts_with("inRole:"))).collect();
    let permissions = permissions.filter(|permissions| (1..=MAX_PERMISSIONS).contains(&permissions.len()));
    let permissions = permissions.ok_or_else(|| {
        wrong("each rule has `permissions`, such as [\"inRole:roles/storage.objectViewer\"]".to_owned())
    })?;
    let condition = match written.get("condition") {
        None => None,
        Some(Value::String(expression)) if !expression.is_empty() => Some(Condition { expression }),
        Some(_) => return Err(wrong("`condition` must be an expression in CEL".to_owned())),
    };
    Ok(Rule { available_resource: resource, available_permissions: permissions, availability_condition: condition })
}

fn is_account(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    match text.split_once('@') {
        Some((name, domain)) => {
            text.len() <= 254
                && !name.is_empty()
                && name.bytes().all(allowed)
                && domain.contains('.')
                && domain.bytes().all(allowed)
        }
        None => false,
    }
}
