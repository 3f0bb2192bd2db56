//! What a role says of the tokens of an installation: to what, and to do what. Neither is ever left out, since GitHub takes
//! that to mean all that the installation has.
//!
//! ```toml
//! [github]
//! repositories = ["app", "infrastructure"]         # names without their owner; or repository_ids, which outlive renames
//! permissions = { contents = "write", pull_requests = "write" }
//! ```

use std::collections::BTreeMap;

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;
use serde_json::Value;

use crate::backend::parameters::{Table, invalid};

/// Most repositories of one token, as documented.
const MAX_REPOSITORIES: usize = 500;
/// Most permissions: GitHub has fewer.
const MAX_PERMISSIONS: usize = 100;

#[derive(Debug)]
pub(super) struct Parameters<'a> {
    pub(super) repositories: Repositories<'a>,
    pub(super) permissions: BTreeMap<&'a str, Access>,
}

#[derive(Debug)]
pub(super) enum Repositories<'a> {
    Names(Vec<&'a str>),
    Ids(Vec<u64>),
}

/// How much of a permission. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Access {
    Read,
    Write,
    Admin,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(role: &'a Role) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "github", &["repositories", "repository_ids", "permissions"])?;
        Ok(Self { repositories: repositories(&table)?, permissions: permissions(&table)? })
    }
}

fn repositories<'a>(table: &Table<'a>) -> Result<Repositories<'a>, InvalidParameters> {
    let count = |key: &str, found: usize| match found {
        1..=MAX_REPOSITORIES => Ok(()),
        _ => Err(invalid(key, format!("must be 1 to {MAX_REPOSITORIES}: without any, the token would reach all"))),
    };
    match (table.texts("repositories")?, table.wholes("repository_ids")?) {
        (Some(names), None) => {
            count("repositories", names.len())?;
            if let Some(wrong) = names.iter().find(|name| !is_repository(name)) {
                return Err(invalid(
                    "repositories",
                    format!("{wrong:?} must be a repository's name, without its owner"),
                ));
            }
            Ok(Repositories::Names(names))
        }
        (None, Some(ids)) => {
            count("repository_ids", ids.len())?;
            if ids.contains(&0) {
                return Err(invalid("repository_ids", "must be numbers of repositories"));
            }
            Ok(Repositories::Ids(ids))
        }
        (Some(_), Some(_)) => Err(invalid("repository_ids", "name repositories by their names or by their ids")),
        (None, None) => {
            Err(invalid("repositories", "is missing, and so is repository_ids: without, the token would reach all"))
        }
    }
}

fn permissions<'a>(table: &Table<'a>) -> Result<BTreeMap<&'a str, Access>, InvalidParameters> {
    let written = table.table("permissions")?.filter(|written| !written.is_empty());
    let Some(written) = written else {
        return Err(invalid("permissions", "is missing: without, the token could do all that the App may"));
    };
    if written.len() > MAX_PERMISSIONS {
        return Err(invalid("permissions", format!("must be {MAX_PERMISSIONS} at most")));
    }
    let mut permissions = BTreeMap::new();
    for (name, access) in written {
        if !(1..=64).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(invalid("permissions", format!("{name:?} is no permission, such as contents")));
        }
        let access = match access.as_str() {
            Some("read") => Access::Read,
            Some("write") => Access::Write,
            Some("admin") => Access::Admin,
            _ => return Err(invalid("permissions", format!("{name} must be \"read\", \"write\" or \"admin\""))),
        };
        permissions.insert(name.as_str(), access);
    }
    Ok(permissions)
}

impl Repositories<'_> {
    /// The member of the request that names them, with its value.
    pub(super) fn member(&self) -> (&'static str, Value) {
        match self {
            Self::Names(names) => ("repositories", Value::from(names.clone())),
            Self::Ids(ids) => ("repository_ids", Value::from(ids.clone())),
        }
    }
}

fn is_repository(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=100).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != ".."
}
