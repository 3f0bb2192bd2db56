//! Environments: `[[environment]]` of `environments.toml`.

use std::collections::BTreeMap;

use hallpass_core::catalog::{Environment, EnvironmentClass};
use hallpass_core::id::EnvironmentName;
use serde::Deserialize;

use super::Finding;
use super::document::{Document, Instant};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnvironment {
    name: EnvironmentName,
    class: EnvironmentClass,
    ends_at: Option<Instant>,
}

/// The environments of `environments.toml`.
pub(crate) fn read(document: &Document<'_>, findings: &mut Vec<Finding>) -> BTreeMap<EnvironmentName, Environment> {
    let mut environments = BTreeMap::new();
    for entry in document.entries("environment", findings) {
        let Some(raw) = entry.read::<RawEnvironment>(findings) else { continue };
        let ends_at = raw.ends_at.map(|Instant(at)| at);
        let environment = Environment { name: raw.name.clone(), class: raw.class, ends_at };
        if environments.insert(raw.name.clone(), environment).is_some() {
            findings.push(entry.finding("name", format!("the environment {:?} is there already", raw.name.as_str())));
        }
    }
    environments
}
