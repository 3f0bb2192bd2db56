//! What a failure at the backend is to the caller, to the audit log and to the grant.

use super::Attempt;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::Cause;
use crate::id::BackendName;
use crate::port::IssueError;

/// A backend that answers with a life longer than was asked for has broken its bound; what it made must not be used.
pub(super) const OUTLIVES: &str = "it made a credential that outlives what was asked for";

impl Attempt<'_> {
    /// The refusal of a backend that does not take a parameter of the caller's.
    pub(super) fn backend_refusal(parameter: &'static str, detail: String, said: Option<String>) -> Refusal {
        let reason = if parameter == "csr" { Reason::BadCsr } else { Reason::BackendRefused };
        let refusal = Refusal::new(Step::Backend, reason, detail).about(parameter);
        match said {
            Some(said) => refusal.because(said),
            None => refusal,
        }
    }

    /// Records that minting failed with nothing left behind.
    pub(super) async fn refuse_issue(
        &self,
        backend: &BackendName,
        error: IssueError,
    ) -> Result<ServiceError, ServiceError> {
        if let IssueError::Refused { detail, internal, parameter: Some(parameter) } = error {
            return self.refuse(Self::backend_refusal(parameter, detail, internal)).await;
        }
        let (failure, internal, cause) = issue_failure(backend, error);
        let refusal = Refusal::new(Step::Backend, failure.reason(), failure.to_string()).because(internal);
        tracing::warn!(%backend, cause = cause.as_str(), "minting failed");
        self.trail().refuse(self.ports, &refusal, None).await?;
        Ok(failure)
    }
}

/// What a failure at the backend is to the caller, to the audit log and to the grant. Where the backend said something
/// itself, that is what the audit log has of it, beside what the caller is told.
pub(super) fn issue_failure(backend: &BackendName, error: IssueError) -> (ServiceError, String, Cause) {
    match error {
        IssueError::Refused { detail, internal, .. } => {
            let internal = internal.unwrap_or_else(|| detail.clone());
            let failure = ServiceError::Backend {
                reason: Reason::BackendRefused,
                detail: format!("backend {backend} refused: {detail}"),
            };
            (failure, internal, Cause::BACKEND_REFUSED)
        }
        IssueError::Suspended { detail, internal } => {
            let internal = internal.unwrap_or_else(|| detail.clone());
            let told = format!("backend {backend} mints nothing for now: {detail}");
            (ServiceError::unavailable(Reason::SigningUnavailable, told), internal, Cause::BACKEND_UNAVAILABLE)
        }
        IssueError::Unavailable { internal } => {
            let detail = format!("backend {backend} does not answer");
            let failure = ServiceError::unavailable(Reason::BackendUnavailable, detail);
            (failure, internal, Cause::BACKEND_UNAVAILABLE)
        }
        IssueError::OutcomeUnknown { internal } => {
            let detail = format!("backend {backend} gave no answer in time; what it may have made is being undone");
            (ServiceError::unavailable(Reason::BackendOutcomeUnknown, detail), internal, Cause::OUTCOME_UNKNOWN)
        }
    }
}
