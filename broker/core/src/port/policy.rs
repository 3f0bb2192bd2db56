//! The policy decision point.

use crate::id::RevisionId;
use crate::policy::{PolicyQuery, Verdict};

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
}

/// A policy or the inputs could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy evaluation failed: {0}")]
pub struct EvaluationError(pub String);
