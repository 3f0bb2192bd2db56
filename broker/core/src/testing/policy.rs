use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use super::sample;
use crate::id::{PolicyId, RevisionId};
use crate::policy::{Action, Obligations, Outcome, PolicyQuery, Principal, Resource, Verdict};
use crate::port::{EvaluationError, PolicyEngine, PolicyFacts, Remainder};
use crate::time::Ttl;

/// A policy that rules as it is told to: by action and role, by action, or else it allows.
#[derive(Debug)]
pub struct ScriptedPolicy {
    revision: RevisionId,
    rulings: Mutex<HashMap<(Action, Option<String>), Ruling>>,
    policies: Mutex<Vec<PolicyFacts>>,
}

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Yes, with what it asks for.
    Allow(Obligations),
    /// No.
    Deny,
    /// It cannot be evaluated.
    Error,
}

impl ScriptedPolicy {
    /// A policy of the revision made of this digit, that allows everything.
    #[must_use]
    pub fn new(revision: char) -> Self {
        Self { revision: sample::revision(revision), rulings: Mutex::default(), policies: Mutex::default() }
    }

    /// Rules on `action` for `role`; for every role that nothing else was said of, when none is named.
    pub fn rule(&self, action: Action, role: Option<&str>, ruling: Ruling) {
        let mut rulings = self.rulings.lock().unwrap_or_else(PoisonError::into_inner);
        rulings.insert((action, role.map(str::to_owned)), ruling);
    }

    /// Says that it has these policies, for comparisons; each of them could concern everybody.
    pub fn has(&self, policies: Vec<PolicyFacts>) {
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    fn ruling(&self, query: &PolicyQuery) -> Ruling {
        let role = match &query.resource {
            Resource::Role(role) | Resource::Grant { role, .. } => Some(role.name.as_str().to_owned()),
            Resource::Owner { .. } | Resource::AuditLog | Resource::Broker | Resource::Bundle => None,
        };
        let rulings = self.rulings.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rulings.get(&(query.action, role)).or_else(|| rulings.get(&(query.action, None)));
        found.cloned().unwrap_or(Ruling::Allow(Obligations::default()))
    }
}

impl PolicyEngine for ScriptedPolicy {
    fn decide(&self, query: &PolicyQuery) -> Result<Verdict, EvaluationError> {
        let (outcome, policy, obligations) = match self.ruling(query) {
            Ruling::Allow(obligations) => (Outcome::Allow, "scripted-permit", obligations),
            Ruling::Deny => (Outcome::Deny, "scripted-forbid", Obligations::default()),
            Ruling::Error => return Err(EvaluationError("scripted to fail".to_owned())),
        };
        Ok(Verdict { outcome, determining: vec![PolicyId::new(policy).unwrap()], obligations })
    }

    fn revision(&self) -> &RevisionId {
        &self.revision
    }

    fn schema_version(&self) -> u32 {
        1
    }

    fn policies(&self) -> Vec<PolicyFacts> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn could_concern(&self, _: &PolicyId, _: &Principal) -> bool {
        true
    }

    fn could_permit(&self, principal: &Principal, action: Action, resource: &Resource) -> bool {
        let mut query = sample::query(&principal.subject, "any");
        query.action = action;
        query.resource = resource.clone();
        matches!(self.ruling(&query), Ruling::Allow(_))
    }

    fn left_open(&self, query: &PolicyQuery) -> Result<Remainder, EvaluationError> {
        match self.ruling(query) {
            Ruling::Allow(obligations) => {
                let permits = [(Remainder::ALWAYS.to_owned(), obligations.max_ttl)].into();
                Ok(Remainder { permits, ..Remainder::default() })
            }
            Ruling::Deny => Ok(Remainder::default()),
            Ruling::Error => Err(EvaluationError("scripted to fail".to_owned())),
        }
    }

    fn telling_lives(&self, _: Action) -> BTreeSet<Ttl> {
        [Ttl::ZERO, Ttl::from_secs(i64::MAX.unsigned_abs())].into()
    }
}
