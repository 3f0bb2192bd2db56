//! Policy: Cedar decides, over the published vocabulary in `policy/schema.cedarschema`.
//!
//! Whatever a policy file says that this version cannot honour is refused when it is loaded, never ignored: a condition
//! that cannot hold or an obligation that nobody enforces would be a control that exists on paper alone.

mod advice;
pub mod cedar;
mod claims;
mod compare;
mod index;
mod lint;
mod lives;
mod origins;
mod reads;
mod remainder;
mod request;
mod shape;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

use hallpass_core::catalog::Catalog;
use hallpass_core::id::{IssuerName, RevisionId};
use hallpass_core::port::PolicyEngine;

use crate::config::issuer::Issuer;
use crate::config::{Finding, PolicySource};

/// The schema that policies are validated against, as published.
pub const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// Version of [`SCHEMA`], recorded with each decision. It changes when what is recorded says more, or would no longer
/// conform. Version 2 types what the kinds of issuers say; what version 1 recorded decides as it did, since no policy of its
/// time reads that.
pub const SCHEMA_VERSION: u32 = 2;

/// Whom the bundle of some policies trusts.
#[derive(Clone, Copy, Debug)]
pub struct Trusted<'a> {
    /// The names of all of them, trust domains included.
    pub names: &'a BTreeSet<IssuerName>,
    /// Those whose proofs are tokens with claims.
    pub issuers: &'a [Issuer],
}

/// Policies that can decide.
pub struct Compiled {
    /// What decides by them.
    pub engine: Arc<dyn PolicyEngine>,
    /// What they mean beyond what whoever wrote them may have thought, with what to write instead.
    pub advice: Vec<Finding>,
}

/// Compiles the policies of a bundle into what decides by them.
///
/// # Errors
/// Everything that is wrong with them, and every name in them that neither `catalog` nor `trusted` has: a misspelt
/// `permit` never helps, a misspelt `forbid` never stops anybody. Names are not judged without `trusted`.
pub fn compile(
    sources: &[PolicySource],
    catalog: &Catalog,
    trusted: Option<Trusted<'_>>,
    revision: RevisionId,
) -> Result<Compiled, Vec<Finding>> {
    let engine = cedar::CedarEngine::load(sources, catalog, revision)?;
    let Some(trusted) = trusted else { return Ok(Compiled { engine: Arc::new(engine), advice: Vec::new() }) };
    let dangling = engine.dangling_names(catalog, trusted.names);
    if !dangling.is_empty() {
        return Err(dangling);
    }
    let advice = engine.advice(catalog, trusted.issuers);
    Ok(Compiled { engine: Arc::new(engine), advice })
}
