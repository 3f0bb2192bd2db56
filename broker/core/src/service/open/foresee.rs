//! What opening would answer, without minting, consuming or recording anything: the same steps in the same order, up to
//! the one that takes effect.

use super::commit::{proof_use_of, replayed};
use super::failure::issue_failure;
use super::plan::Permits;
use super::{Attempt, Subject};
use crate::attestation::Attested;
use crate::catalog::Revision;
use crate::error::{Reason, Refusal, ServiceError};
use crate::id::IssuerName;
use crate::identity::VerifiedIdentity;
use crate::policy::{Decision, Terms};
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

/// Says what [`open`](super::open) would do with `request` by `identity` now, asked without an idempotency key. What a
/// backend says is only told when it is called.
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
    let epoch = ports.store.epoch();
    let attested = Attested::default();
    let attempt = Attempt { ports, revision, identity, delegation: None, request, origin, attested, epoch };
    let mut decision = None;
    let attempt = match attempt.attested() {
        Ok(attested) => Attempt { attested, ..attempt },
        Err(refusal) => return Ok(Foreseen { decision, terms: Err(refusal) }),
    };
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
        if let Some(restored_at) = self.ports.store.in_force().restored_at {
            self.identity.confirm_unused_before(restored_at).map_err(Refusal::after_signature)?;
        }
        let stated = Purpose::stated(self.request.purpose.as_deref())?;
        let subject = self.subject()?;
        let permits = self.foreseen_permits(&subject, stated, decided).await?;
        let _replaced = self.replaced().await??;
        let lineage = self.lineage(subject.role).await?;
        let (purpose, terms) = self.terms(&subject, &permits, lineage, None)?;
        // No index of the status list is spent on what is never minted.
        let order = self.order(&subject, &purpose, &terms, permits.decision().decided_at, 0)?;
        if let Err(error) = subject.backend.plan(&order) {
            return Err(self.unplannable(&subject, error));
        }
        match proof_use_of(self.identity) {
            Some(proof) if self.ports.store.was_used(&proof).await? => Err(replayed().into()),
            _ => Ok(terms),
        }
    }

    async fn foreseen_permits(
        &self,
        subject: &Subject<'_>,
        stated: Option<String>,
        decided: &mut Option<Decision>,
    ) -> Result<Permits, ServiceError> {
        let query = self.query(subject, stated).await?;
        let (id, now) = (self.ports.fresh_id()?, self.ports.now());
        let decision =
            Decision::make(self.revision.policy.as_ref(), query, id, now).map_err(|_| Self::not_available())?;
        *decided = Some(decision.clone());
        let mint = decision.into_permit();
        let mint = mint.map_err(|refused| refused.verdict.unbound().unwrap_or_else(Self::not_available))?;
        Ok(Permits { mint, delegate: None })
    }

    /// What a backend says to an order that it could not even plan for.
    fn unplannable(&self, subject: &Subject<'_>, error: IssueError) -> ServiceError {
        if let IssueError::Refused { detail, internal, parameter: Some(parameter) } = error {
            return Self::backend_refusal(parameter, detail, internal).into();
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
