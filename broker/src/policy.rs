//! Policy: Cedar decides, over the published vocabulary in `policy/schema.cedarschema`.
//!
//! Whatever a policy file says that this version cannot honour is refused when it is loaded, never ignored: a condition
//! that cannot hold or an obligation that nobody enforces would be a control that exists on paper alone.

pub mod cedar;
mod compare;
mod index;
mod lint;
mod lives;
mod remainder;
mod request;
mod shape;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

use hallpass_core::catalog::Catalog;
use hallpass_core::id::{IssuerName, RevisionId};
use hallpass_core::port::PolicyEngine;

use crate::config::{Finding, PolicySource};

/// The schema that policies are validated against, as published.
pub const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// Version of [`SCHEMA`], recorded with each decision. It changes when a recorded query would no longer conform.
pub const SCHEMA_VERSION: u32 = 1;

/// Compiles the policies of a bundle into what decides by them.
///
/// # Errors
/// Everything that is wrong with them, and every name in them that neither `catalog` nor `issuers` has: a misspelt
/// `permit` never helps, a misspelt `forbid` never stops anybody. Names are not judged without `issuers`.
pub fn compile(
    sources: &[PolicySource],
    catalog: &Catalog,
    issuers: Option<&BTreeSet<IssuerName>>,
    revision: RevisionId,
) -> Result<Arc<dyn PolicyEngine>, Vec<Finding>> {
    let engine = cedar::CedarEngine::load(sources, catalog, revision)?;
    let dangling = issuers.map(|issuers| engine.dangling_names(catalog, issuers)).unwrap_or_default();
    if dangling.is_empty() { Ok(Arc::new(engine)) } else { Err(dangling) }
}
