//! Deciding on many things at once: on what they have in common, and not on each.

use std::collections::BTreeSet;

use super::Ports;
use super::decide::{query_of, with_owner_membership};
use crate::catalog::Revision;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::id::PolicyId;
use crate::identity::VerifiedIdentity;
use crate::policy::{Action, Decision, Outcome, PolicyQuery, Resource};

/// Decisions that are recorded of one request. They differ in outcome or in the policies that determined it; that many
/// different ones are a policy that nobody can read.
const MAX_RECORDED: usize = 16;

/// Decisions in a row before others may run: each takes some tens of microseconds.
const IN_A_ROW: usize = 64;

/// One caller's question about many resources.
pub(super) struct Many<'a> {
    ports: &'a Ports,
    revision: &'a Revision,
    query: PolicyQuery,
    seen: BTreeSet<(bool, Vec<PolicyId>)>,
    asked: usize,
    error: Option<String>,
    /// The first decision of each kind.
    pub(super) decisions: Vec<Decision>,
}

impl<'a> Many<'a> {
    /// Nothing is asked yet.
    pub(super) async fn new(
        ports: &'a Ports,
        revision: &'a Revision,
        identity: &VerifiedIdentity,
        action: Action,
    ) -> Result<Self, ServiceError> {
        let query = query_of(ports, revision, identity, action, Resource::Broker).await?;
        let (seen, decisions) = (BTreeSet::new(), Vec::new());
        Ok(Self { ports, revision, query, seen, asked: 0, error: None, decisions })
    }

    /// Whether the caller may do it to `resource`; `holder` says whether the caller holds it. A policy that cannot be
    /// evaluated allows nothing.
    pub(super) async fn may(&mut self, resource: Resource, holder: bool) -> Result<bool, ServiceError> {
        self.asked = self.asked.saturating_add(1);
        if self.asked.is_multiple_of(IN_A_ROW) {
            tokio::task::yield_now().await;
        }
        let mut query = with_owner_membership(PolicyQuery { resource, ..self.query.clone() });
        query.context.holder = holder;
        let engine = self.revision.policy.as_ref();
        let verdict = match engine.decide(&query) {
            Ok(verdict) => verdict,
            Err(error) => {
                self.error.get_or_insert(error.to_string());
                return Ok(false);
            }
        };
        let allowed = verdict.outcome == Outcome::Allow;
        if self.decisions.len() < MAX_RECORDED && self.seen.insert((allowed, verdict.determining.clone())) {
            self.decisions.push(Decision {
                id: self.ports.fresh_id()?,
                decided_at: self.ports.now(),
                revision: engine.revision().clone(),
                schema_version: engine.schema_version(),
                query,
                verdict,
            });
        }
        Ok(allowed)
    }

    /// The refusal of whoever may do it to nothing, with the decision to record for it.
    pub(super) fn refusal(mut self, detail: &str) -> (Refusal, Option<Decision>) {
        let refusal = Refusal::new(Step::Policy, Reason::PolicyDenied, detail);
        let refusal = match self.error {
            Some(error) => refusal.because(error).recorded_as(Reason::PolicyError),
            None => refusal,
        };
        (refusal, self.decisions.pop())
    }
}
