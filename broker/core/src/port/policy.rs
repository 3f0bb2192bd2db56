//! The policy decision point.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Remainder;
use crate::binding::Binding;
use crate::id::{PolicyId, RevisionId};
use crate::policy::{Action, PolicyQuery, Principal, Resource, Verdict};
use crate::time::Ttl;

/// Decides. CPU only, synchronous; bound to one bundle revision.
pub trait PolicyEngine: Send + Sync {
    /// Decides `query`. Pure: the same query gives the same verdict.
    ///
    /// # Errors
    /// [`EvaluationError`] when any policy that may apply cannot be evaluated, or when the inputs do not conform to the
    /// schema. The caller refuses.
    fn decide(&self, query: &PolicyQuery) -> Result<Verdict, EvaluationError>;

    /// The revision it is bound to.
    fn revision(&self) -> &RevisionId;

    /// Version of the schema that queries conform to.
    fn schema_version(&self) -> u32;

    /// Every policy, as it is compared with those of another revision.
    fn policies(&self) -> Vec<PolicyFacts>;

    /// Whether the scope of `policy` could hold for `principal`, whatever its conditions are. True when in doubt.
    fn could_concern(&self, policy: &PolicyId, principal: &Principal) -> bool;

    /// Whether some permit's scope holds for this question, whatever its conditions and the forbids are. True when in
    /// doubt.
    fn could_permit(&self, principal: &Principal, action: Action, resource: &Resource) -> bool;

    /// What is left of `query` to the circumstances, which are not looked at: they will be others. Settled are who asks
    /// and its teams, what is to be done, to what, the role's environment, and whether the caller is of the owner's team;
    /// open are the whole rest of the context, what the proof says besides who it is of, and the longest life of a grant.
    ///
    /// # Errors
    /// [`EvaluationError`], as from [`decide`](Self::decide).
    fn left_open(&self, query: &PolicyQuery) -> Result<Remainder, EvaluationError>;

    /// The longest lives of a grant between which no answer about `action` on it changes: what is asked for each of them
    /// is asked for all.
    fn telling_lives(&self, action: Action) -> BTreeSet<Ttl>;
}

/// A policy, as it is compared with those of another revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFacts {
    /// Its name.
    pub id: PolicyId,
    /// What it does where it holds.
    pub effect: Effect,
    /// What it says, in one spelling: without its name, its obligations, its remarks and its layout.
    pub text: String,
    /// Its `@max_ttl`.
    pub max_ttl: Option<Ttl>,
    /// Its `@binding`.
    pub binding: Option<Binding>,
    /// What can be asked for that it bears on.
    pub actions: BTreeSet<Action>,
    /// File, relative to the bundle.
    pub file: PathBuf,
    /// Line, from 1, where it is known.
    pub line: Option<usize>,
}

/// What a policy does where it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It permits.
    Permit,
    /// It forbids, whatever is permitted.
    Forbid,
}

/// A policy or the inputs could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy evaluation failed: {0}")]
pub struct EvaluationError(pub String);
