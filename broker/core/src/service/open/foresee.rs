//! What opening would answer, without minting, consuming or recording anything: the same steps in the same order, up to
//! the one that takes effect.

use super::commit::{proof_use_of, replayed};
use super::failure::issue_failure;
use super::plan::Permits;
use super::{Attempt, Subject, delegation};
use crate::attestation::Attested;
use crate::catalog::Revision;
use crate::delegation::Delegation;
use crate::error::{Reason, Refusal, ServiceError};
use crate::id::IssuerName;
use crate::identity::VerifiedIdentity;
use crate::in_force::Bar;
use crate::policy::{Decision, Permit, PolicyQuery, Terms};
use crate::port::IssueError;
use crate::request::{GrantRequest, Origin, Purpose};
use crate::service::Ports;
use crate::service::barred::Barred;

/// What the same request would get.
#[derive(Debug)]
pub struct Foreseen {
    /// What policy said, where it was asked and could answer: of whoever it is for, and then of whoever would act.
    pub decisions: Vec<Decision>,
    /// The terms of the grant, or the refusal in the words that opening would use.
    pub terms: Result<Terms, Refusal>,
}

/// Says what [`open`](super::open) would do with `request` by `identity` now, asked without an idempotency key. What a
/// backend says is only told when it is called, and places are only counted when one is taken.
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
    if identity.issuer().as_str() == IssuerName::RESERVED {
        // What authenticating would say: re-exchanging a token of the broker's own would launder the identity behind it.
        let detail = "a token that this broker minted is no proof for another credential";
        return Ok(Foreseen::refused(Refusal::proof(Reason::UnknownIssuer, detail).after_signature()));
    }
    if let Some(restored_at) = ports.store.in_force().restored_at
        && let Err(refusal) = identity.confirm_unused_before(restored_at)
    {
        return Ok(Foreseen::refused(refusal.after_signature()));
    }
    foresee_between(ports, revision, identity, None, request, origin).await
}

/// The same of [`open_for_actor`](super::open_for_actor), with `acting` for `subject`, whose proofs both hold for that.
///
/// # Errors
/// As [`foresee`].
pub(in crate::service) async fn foresee_for_actor(
    ports: &Ports,
    revision: &Revision,
    subject: VerifiedIdentity,
    acting: VerifiedIdentity,
    request: &GrantRequest,
    origin: &Origin,
) -> Result<Foreseen, ServiceError> {
    match delegation(ports, revision, subject, acting).await? {
        Ok((identity, delegation)) => {
            foresee_between(ports, revision, &identity, Some(&delegation), request, origin).await
        }
        Err(refusal) => Ok(Foreseen::refused(refusal)),
    }
}

async fn foresee_between(
    ports: &Ports,
    revision: &Revision,
    identity: &VerifiedIdentity,
    delegation: Option<&Delegation>,
    request: &GrantRequest,
    origin: &Origin,
) -> Result<Foreseen, ServiceError> {
    let epoch = ports.store.epoch();
    let attested = Attested::default();
    let attempt = Attempt { ports, revision, identity, delegation, request, origin, attested, epoch };
    let mut decisions = Vec::new();
    let attempt = match attempt.attested() {
        Ok(attested) => Attempt { attested, ..attempt },
        Err(refusal) => return Ok(Foreseen::refused(refusal)),
    };
    match attempt.foresee(&mut decisions).await {
        Ok(terms) => Ok(Foreseen { decisions, terms: Ok(terms) }),
        Err(ServiceError::Refused(refusal)) => Ok(Foreseen { decisions, terms: Err(refusal) }),
        Err(other) => Err(other),
    }
}

impl Foreseen {
    fn refused(refusal: Refusal) -> Self {
        Self { decisions: Vec::new(), terms: Err(refusal) }
    }
}

impl Attempt<'_> {
    async fn foresee(&self, decided: &mut Vec<Decision>) -> Result<Terms, ServiceError> {
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
        let (in_force, now) = (self.ports.store.in_force(), self.ports.now());
        let grant = self.grant(&subject, &order, &permits, purpose, terms.clone());
        if let Some(bar) = in_force.ends(&grant).map(Bar::Revoked).or_else(|| in_force.stops(&grant.record, now)) {
            return Err(Barred::by(bar, now).refusal.into());
        }
        let acting = self.delegation.map(|delegation| &delegation.identity);
        for proof in [Some(self.identity), acting].into_iter().flatten().filter_map(proof_use_of) {
            if self.ports.store.was_used(&proof).await? {
                return Err(replayed().into());
            }
        }
        Ok(terms)
    }

    async fn foreseen_permits(
        &self,
        subject: &Subject<'_>,
        stated: Option<String>,
        decided: &mut Vec<Decision>,
    ) -> Result<Permits, ServiceError> {
        let query = self.query(subject, stated).await?;
        let asked = match self.delegation {
            Some(_) => Some(self.query_of_actor(&query).await?),
            None => None,
        };
        let mint = self.foreseen_permit(query, decided)?;
        let delegate = asked.map(|query| self.foreseen_permit(query, decided)).transpose()?;
        Ok(Permits { mint, delegate })
    }

    fn foreseen_permit(&self, query: PolicyQuery, decided: &mut Vec<Decision>) -> Result<Permit, ServiceError> {
        let (id, now) = (self.ports.fresh_id()?, self.ports.now());
        let decision =
            Decision::make(self.revision.policy.as_ref(), query, id, now).map_err(|_| Self::not_available())?;
        decided.push(decision.clone());
        let refused = |refused: Box<Decision>| refused.verdict.unbound().unwrap_or_else(Self::not_available).into();
        decision.into_permit().map_err(refused)
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
