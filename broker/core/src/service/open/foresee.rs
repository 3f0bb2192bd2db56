//! What opening would answer, without minting, consuming or recording anything: the same steps in the same order, up to
//! the one that takes effect.

use super::{Attempt, Subject, issue_failure};
use crate::catalog::Revision;
use crate::error::{Reason, Refusal, ServiceError};
use crate::id::IssuerName;
use crate::identity::VerifiedIdentity;
use crate::policy::{Decision, Permit, Terms};
use crate::port::IssueError;
use crate::request::{GrantRequest, Origin, Purpose};
use crate::service::Ports;

/// What the same request would get.
#[derive(Debug)]
pub struct Foreseen {
    /// What policy said, where it was asked and could answer.
    pub decision: Option<Decision>,
    /// The terms of the grant, or the refusal in the words that opening would use.
    pub terms: Result<Terms, Refusal>,
}

/// Says what [`open`](super::open) would do with `request` by `identity` now. Whether a single-use proof was used before
/// is only told when it is used, and what a backend says only when it is called.
///
/// # Errors
/// [`ServiceError::Unavailable`] when a part of the broker does not answer; a refusal is an answer.
pub(in crate::service) async fn foresee(
    ports: &Ports,
    revision: &Revision,
    identity: &VerifiedIdentity,
    request: &GrantRequest,
    origin: &Origin,
) -> Result<Foreseen, ServiceError> {
    let attempt = Attempt { ports, revision, identity, request, origin, epoch: ports.store.epoch() };
    let mut decision = None;
    match attempt.foresee(&mut decision).await {
        Ok(terms) => Ok(Foreseen { decision, terms: Ok(terms) }),
        Err(ServiceError::Refused(refusal)) => Ok(Foreseen { decision, terms: Err(refusal) }),
        Err(other) => Err(other),
    }
}

impl Attempt<'_> {
    async fn foresee(&self, decided: &mut Option<Decision>) -> Result<Terms, ServiceError> {
        if self.identity.issuer().as_str() == IssuerName::RESERVED {
            // What authenticating would say: re-exchanging a token of the broker's own would launder the identity behind it.
            let detail = "a token that this broker minted is no proof for another credential";
            return Err(Refusal::proof(Reason::UnknownIssuer, detail).after_signature().into());
        }
        let stated = Purpose::stated(self.request.purpose.as_deref())?;
        let subject = self.subject()?;
        let permit = self.foreseen_permit(&subject, stated, decided).await?;
        let lineage = self.lineage(subject.role).await?;
        let (purpose, terms) = self.terms(&subject, &permit, lineage)?;
        // No index of the status list is spent on what is never minted.
        let order = self.order(&subject, &purpose, &terms, permit.decision().decided_at, 0)?;
        match subject.backend.plan(&order) {
            Ok(_) => Ok(terms),
            Err(error) => Err(self.unplannable(&subject, error)),
        }
    }

    async fn foreseen_permit(
        &self,
        subject: &Subject<'_>,
        stated: Option<String>,
        decided: &mut Option<Decision>,
    ) -> Result<Permit, ServiceError> {
        let query = self.query(subject, stated).await?;
        let (id, now) = (self.ports.fresh_id()?, self.ports.now());
        let decision =
            Decision::make(self.revision.policy.as_ref(), query, id, now).map_err(|_| Self::not_available())?;
        *decided = Some(decision.clone());
        Ok(decision.into_permit().map_err(|_| Self::not_available())?)
    }

    /// What a backend says to an order that it could not even plan for.
    fn unplannable(&self, subject: &Subject<'_>, error: IssueError) -> ServiceError {
        if let IssueError::Refused { detail, parameter: Some(parameter) } = error {
            return Self::backend_refusal(parameter, detail).into();
        }
        let (failure, internal, _cause) = issue_failure(&subject.role.backend, error);
        match failure {
            ServiceError::Backend { reason, detail } => {
                Refusal::new(crate::error::Step::Backend, reason, detail).because(internal).into()
            }
            other => other,
        }
    }
}
