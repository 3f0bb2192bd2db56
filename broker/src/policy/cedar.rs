//! The policy engine on Cedar.
//!
//! Allow only if Cedar says so *and* reports no error: Cedar skips a policy that errors, so that a broken `forbid` would
//! fail open.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Authorizer, Decision, PolicySet, ValidationMode, Validator};
use hallpass_core::binding::Binding;
use hallpass_core::catalog::Catalog;
use hallpass_core::id::{IssuerName, PolicyId, RevisionId};
use hallpass_core::policy::{Action, Obligations, Outcome, PolicyQuery, Principal, Resource, Verdict};
use hallpass_core::port::{EvaluationError, PolicyEngine, PolicyFacts, Remainder};
use hallpass_core::time::Ttl;

use super::index::{File, Index};
use super::reads::Reads;
use super::request::{Prepared, Vocabulary, failed};
use super::source::{self, Rule};
use super::{SCHEMA_VERSION, advice, compare, lint, lives, origins, remainder};
use crate::config::issuer::Issuer;
use crate::config::{Finding, PolicySource};

/// The policies of one bundle revision, ready to decide.
#[derive(Debug)]
pub struct CedarEngine {
    revision: RevisionId,
    vocabulary: Vocabulary,
    index: Index,
    rules: Vec<Rule>,
    obligations: HashMap<PolicyId, (Option<Ttl>, Option<Binding>)>,
}

impl CedarEngine {
    /// Parses, validates strictly and indexes the policies of a bundle.
    ///
    /// # Errors
    /// Everything that is wrong, with file and line: texts that are too large or too deep, syntax, a missing, malformed
    /// or repeated `@id`, templates, annotations that this version cannot honour, types that do not fit the schema,
    /// and conditions that could never hold.
    pub fn load(sources: &[PolicySource], catalog: &Catalog, revision: RevisionId) -> Result<Self, Vec<Finding>> {
        let load = || Self::load_here(sources, catalog, revision);
        std::thread::scope(|scope| {
            let loading = std::thread::Builder::new().stack_size(LOAD_STACK_BYTES).spawn_scoped(scope, load);
            loading
                .map_err(|error| error.to_string())
                .and_then(|thread| thread.join().map_err(|_| "panicked".to_owned()))
        })
        .unwrap_or_else(|reason| Err(vec![unplaced(format!("the policies could not be read: {reason}"))]))
    }

    fn load_here(sources: &[PolicySource], catalog: &Catalog, revision: RevisionId) -> Result<Self, Vec<Finding>> {
        let of_schema = |reason: String| vec![Finding { file: "schema.cedarschema".into(), line: None, reason }];
        let rules = source::read(sources)?;
        let vocabulary = Vocabulary::new(catalog, Reads::of(&rules)).map_err(of_schema)?;
        let mut findings = validate(&rules, sources, &vocabulary)?;
        findings.extend(lint::meaningless(&rules));
        if !findings.is_empty() {
            // Cedar reports in no order.
            findings.sort();
            findings.dedup();
            return Err(findings);
        }
        let index = Index::build(&vocabulary.actions(), rules.iter().map(|rule| &rule.policy)).map_err(of_schema)?;
        let asks = |rule: &&Rule| rule.max_ttl.is_some() || rule.binding.is_some();
        let obligations =
            rules.iter().filter(asks).map(|rule| (rule.id.clone(), (rule.max_ttl, rule.binding))).collect();
        Ok(Self { revision, vocabulary, index, rules, obligations })
    }

    /// Names in the policies that nothing in the bundle has.
    #[must_use]
    pub fn dangling_names(&self, catalog: &Catalog, issuers: &BTreeSet<IssuerName>) -> Vec<Finding> {
        lint::dangling(&self.rules, catalog, issuers)
    }

    /// What is easy to get wrong in the policies, each with why and what to write instead.
    #[must_use]
    pub fn advice(&self, catalog: &Catalog, issuers: &[Issuer]) -> Vec<Finding> {
        advice::advise(&self.rules, catalog, issuers)
    }

    /// How many policies are evaluated for `query`.
    ///
    /// # Errors
    /// [`EvaluationError`] when `query` does not conform to the schema.
    pub fn policies_evaluated(&self, query: &PolicyQuery) -> Result<usize, EvaluationError> {
        let prepared = self.vocabulary.prepare(query)?;
        Ok(self.slices(query, &prepared).map(PolicySet::num_of_policies).sum())
    }

    fn files<'a>(&'a self, prepared: &'a Prepared) -> impl Iterator<Item = &'a File> {
        self.index.files(&prepared.action, &prepared.principals, &prepared.resources)
    }

    fn slices<'a>(&'a self, query: &'a PolicyQuery, prepared: &'a Prepared) -> impl Iterator<Item = &'a PolicySet> {
        self.files(prepared).flat_map(move |file| file.slices(origins::of(query)))
    }

    fn verdict(&self, query: &PolicyQuery, findings: Found) -> Result<Verdict, EvaluationError> {
        let Found { permits, forbids, errors } = findings;
        if !errors.is_empty() {
            return Err(EvaluationError(errors.into_iter().collect::<Vec<_>>().join("; ")));
        }
        // An exception is decided only by permits annotated for its kind, and this version refuses to load any.
        let allowed = forbids.is_empty() && !permits.is_empty() && query.context.exception.is_none();
        let determining = if allowed { permits } else { forbids };
        let mut ids = Vec::with_capacity(determining.len());
        for id in determining {
            ids.push(PolicyId::new(id).map_err(failed)?);
        }
        if !allowed {
            let obligations = Obligations::default();
            return Ok(Verdict { outcome: Outcome::Deny, determining: ids, obligations });
        }
        let asked = || ids.iter().filter_map(|id| self.obligations.get(id));
        let max_ttl = asked().filter_map(|(max_ttl, _)| *max_ttl).min();
        let binding: BTreeSet<_> = asked().filter_map(|(_, binding)| *binding).collect();
        if binding.iter().all(|binding| binding.as_str() == query.context.binding) {
            return Ok(Verdict {
                outcome: Outcome::Allow,
                determining: ids,
                obligations: Obligations { max_ttl, binding },
            });
        }
        // Decided by those that ask for what the caller does not show.
        let asks = |id: &PolicyId| self.obligations.get(id).is_some_and(|(_, binding)| binding.is_some());
        let determining = ids.iter().filter(|id| asks(id)).cloned().collect();
        Ok(Verdict { outcome: Outcome::Deny, determining, obligations: Obligations { max_ttl: None, binding } })
    }
}

/// Stack for parsing and validating: the parser recurses a dozen frames for each level that `shape` lets through, and
/// the thread that loads may have little stack left.
const LOAD_STACK_BYTES: usize = 16 * 1024 * 1024;

fn unplaced(reason: String) -> Finding {
    Finding { file: "policies".into(), line: None, reason }
}

impl PolicyEngine for CedarEngine {
    fn decide(&self, query: &PolicyQuery) -> Result<Verdict, EvaluationError> {
        let prepared = self.vocabulary.prepare(query)?;
        let mut found = Found::default();
        for policies in self.slices(query, &prepared) {
            found.evaluate(&prepared, policies);
        }
        self.verdict(query, found)
    }

    fn revision(&self) -> &RevisionId {
        &self.revision
    }

    fn schema_version(&self) -> u32 {
        SCHEMA_VERSION
    }

    fn policies(&self) -> Vec<PolicyFacts> {
        self.rules.iter().map(|rule| compare::facts(rule, &self.vocabulary)).collect()
    }

    fn could_concern(&self, policy: &PolicyId, principal: &Principal) -> bool {
        let rule = self.rules.iter().find(|rule| &rule.id == policy);
        let principals = self.vocabulary.principals(principal);
        rule.is_none_or(|rule| compare::principal_fits(&rule.policy, &principals))
    }

    fn could_permit(&self, principal: &Principal, action: Action, resource: &Resource) -> bool {
        let Some(action) = self.vocabulary.action(action) else { return true };
        let principals = self.vocabulary.principals(principal);
        let resources = self.vocabulary.resources(resource);
        let mut filed = self.index.files(action, &principals, &resources).flat_map(File::all);
        filed.any(|policy| {
            policy.effect() == cedar_policy::Effect::Permit
                && compare::principal_fits(policy, &principals)
                && compare::resource_fits(policy, &resources)
        })
    }

    fn left_open(&self, query: &PolicyQuery) -> Result<Remainder, EvaluationError> {
        let prepared = self.vocabulary.prepare(query)?;
        let bound = |policy: &cedar_policy::Policy| {
            let id = PolicyId::new(policy.id().to_string()).ok();
            id.and_then(|id| self.obligations.get(&id)).copied().unwrap_or_default()
        };
        let policies = self.files(&prepared).flat_map(File::all).map(|policy| (policy, bound(policy)));
        remainder::of(policies, query, &prepared)
    }

    fn telling_lives(&self, action: Action) -> BTreeSet<Ttl> {
        let bears_on_it = |rule: &&Rule| lint::bears_on(&rule.policy, action.as_str());
        // None computes with it where that matters: such a bundle is not loaded.
        let numbers = self.rules.iter().filter(bears_on_it).flat_map(|rule| lives::compared_with(&rule.policy));
        let around = numbers.flatten().flat_map(|number| [number.saturating_sub(1), number, number.saturating_add(1)]);
        let lives = around.chain([0, i64::MAX]).filter_map(|secs| u64::try_from(secs).ok());
        lives.map(Ttl::from_secs).collect()
    }
}

/// What the slices of a query said, sorted.
#[derive(Default)]
struct Found {
    permits: BTreeSet<String>,
    forbids: BTreeSet<String>,
    errors: BTreeSet<String>,
}

impl Found {
    fn evaluate(&mut self, prepared: &Prepared, policies: &PolicySet) {
        let response = Authorizer::new().is_authorized(&prepared.request, policies, &prepared.entities);
        let reasons = response.diagnostics().reason().map(std::string::ToString::to_string);
        match response.decision() {
            Decision::Allow => self.permits.extend(reasons),
            Decision::Deny => self.forbids.extend(reasons),
        }
        self.errors.extend(response.diagnostics().errors().map(std::string::ToString::to_string));
    }
}

fn validate(rules: &[Rule], sources: &[PolicySource], vocabulary: &Vocabulary) -> Result<Vec<Finding>, Vec<Finding>> {
    let mut all = PolicySet::new();
    for rule in rules {
        all.add(rule.policy.clone()).map_err(|error| vec![rule.finding(error)])?;
    }
    let by_id: HashMap<&str, &Rule> = rules.iter().map(|rule| (rule.id.as_str(), rule)).collect();
    let result = Validator::new(vocabulary.schema.clone()).validate(&all, ValidationMode::Strict);
    let describe = |id: &cedar_policy::PolicyId, detail: &DetailedError| {
        let rule = by_id.get(AsRef::<str>::as_ref(id))?;
        let source = sources.iter().find(|source| source.file == rule.file)?;
        let finding = rule.finding(source::explain(detail).replace(&format!("for policy `{id}`, "), ""));
        Some(Finding { line: source::line_in(&source.text, detail).or(rule.line), ..finding })
    };
    let errors = result.validation_errors().map(|error| {
        let detail = DetailedError::from(error);
        describe(error.policy_id(), &detail).unwrap_or_else(|| unplaced(detail.message))
    });
    // A warning says that a policy cannot apply, or that a name looks like another: neither belongs in a control.
    let warnings = result.validation_warnings().map(|warning| {
        let detail = DetailedError::from(warning);
        describe(warning.policy_id(), &detail).unwrap_or_else(|| unplaced(detail.message))
    });
    Ok(errors.chain(warnings).collect())
}
