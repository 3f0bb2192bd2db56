//! Renewing: a later end for a credential that its backend can extend. Never a new credential.

use super::decide::{Trail, permitted_grant};
use super::open::{proof_use_of, replayed};
use super::{Ports, Use, authenticate};
use crate::audit::{Actor, AuditAction, AuditObject};
use crate::catalog::Revision;
use crate::credential::RevocationClass;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::Grant;
use crate::id::GrantId;
use crate::identity::{Proof, VerifiedIdentity};
use crate::policy::{Action, Permit};
use crate::port::{Applied, Change, CredentialBackend, ExtendError};
use crate::request::Origin;
use crate::role::{Role, RoleState};
use crate::time::{Timestamp, Ttl};

/// Gives the holder a later end, with a fresh proof and a fresh decision, never past `max_expires_at`.
///
/// # Errors
/// [`ServiceError`]; a conflict where the backend cannot extend.
pub async fn renew(
    ports: &Ports,
    proof: &Proof,
    id: GrantId,
    ttl: Option<Ttl>,
    origin: &Origin,
) -> Result<Grant, ServiceError> {
    // Before the revision: see `open`.
    let epoch = ports.store.epoch();
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Mint, origin).await?;
    let object = AuditObject::Grant { id };
    let trail = Trail { actor: Actor::from(&identity), action: AuditAction::GrantRenew, object, origin };
    let (grant, permit) = permitted_grant(ports, &revision, &identity, id, Action::Renew, trail.clone()).await?;
    if !grant.record.is_held_by(&identity) {
        return Err(ServiceError::NotFound);
    }
    if !grant.is_live(ports.now()) {
        return Err(conflict(Reason::StateConflict, format!("the grant is {}", grant.state_name().as_str())));
    }
    let renewal = Renewal { ports, revision: &revision, identity: &identity, grant: &grant, permit: &permit };
    let (role, backend) = renewal.subject()?;
    let until = match renewal.until(role, ttl) {
        Ok(until) => until,
        Err(refusal) => {
            trail.refuse(ports, &refusal, None).await?;
            return Err(refusal.into());
        }
    };
    let handle = ports.store.handle(id).await?.ok_or(ServiceError::NotFound)?;
    let call = tokio::time::timeout(ports.limits.call_deadline.as_duration(), backend.extend(&handle, until));
    let extended_to = match call.await {
        Ok(Ok(expires_at)) => expires_at.min(until),
        Ok(Err(ExtendError::Unsupported)) => {
            let detail = "this kind of credential cannot be extended; open a new grant";
            return Err(conflict(Reason::CannotExtend, detail.to_owned()));
        }
        Ok(Err(ExtendError::Refused(internal))) => {
            tracing::warn!(grant = %id, %internal, "extending was refused");
            let detail = format!("backend {} refused to extend", grant.record.backend);
            return Err(ServiceError::Backend { reason: Reason::BackendRefused, detail });
        }
        Ok(Err(ExtendError::Unavailable(_))) | Err(_) => {
            let detail = format!("backend {} does not answer", grant.record.backend);
            return Err(ServiceError::unavailable(Reason::BackendUnavailable, detail));
        }
    };
    let entry = trail.success(ports).by_decision(permit.decision().id).with("until", &extended_to.to_rfc3339());
    let renewed =
        grant.extend(extended_to, extended_to).map_err(|error| conflict(Reason::StateConflict, error.to_string()))?;
    let mut change = Change::of(renewed.clone(), entry);
    change.decision = Some(permit.spend());
    change.epoch = Some(epoch);
    change.proof_use = proof_use_of(&identity);
    match ports.store.apply(change).await? {
        Applied::Done => Ok(renewed),
        Applied::Replayed => {
            let refusal = replayed();
            trail.refuse(ports, &refusal, None).await?;
            Err(refusal.into())
        }
        // The end that was recorded stands and is the earlier one: at it, the credential is undone.
        Applied::Conflict | Applied::Moved => {
            Err(conflict(Reason::StateConflict, "the grant or the policy changed meanwhile; try again".to_owned()))
        }
    }
}

struct Renewal<'a> {
    ports: &'a Ports,
    revision: &'a Revision,
    identity: &'a VerifiedIdentity,
    grant: &'a Grant,
    permit: &'a Permit,
}

impl Renewal<'_> {
    /// The role as it is now: renewing is minting again, and a role that is gone or has lost its owner mints nothing.
    fn subject(&self) -> Result<(&Role, &dyn CredentialBackend), ServiceError> {
        let record = &self.grant.record;
        let gone = || Refusal::new(Step::Role, Reason::RoleNotAvailable, "the role is no longer available");
        let catalog = &self.revision.catalog;
        let role = catalog.roles.get(&record.role).filter(|role| role.state == RoleState::Active).ok_or_else(gone)?;
        catalog.owners.get(&role.owner).filter(|owner| owner.resolves()).ok_or_else(gone)?;
        let backend = self.revision.backends.get(&record.backend).ok_or_else(gone)?;
        Ok((role, backend.as_ref()))
    }

    /// The new end: what was asked for, within everything that bounded the first one and everything that bounds now.
    fn until(&self, role: &Role, ttl: Option<Ttl>) -> Result<Timestamp, Refusal> {
        let (now, record) = (self.ports.now(), &self.grant.record);
        let from_creation = |longest: Ttl| record.created_at.plus(longest);
        let obligation = self.permit.decision().verdict.obligations.max_ttl;
        let rules = &self.identity.proof().rules;
        let bounds = [
            Some(now.plus(ttl.unwrap_or(role.ttl.default))),
            Some(record.terms.max_expires_at),
            Some(from_creation(role.ttl.max)),
            obligation.map(from_creation),
            rules.bounds_ttl.then(|| self.identity.expires_at()),
        ];
        let until = bounds.into_iter().flatten().min().unwrap_or(now);
        let current = match record.class() {
            RevocationClass::Hard => self.grant.end_at,
            RevocationClass::Fenced | RevocationClass::ExpiryOnly => self.grant.expires_at,
        };
        if until <= current {
            let detail = format!("no later end is allowed: the grant ends at {current}, and its bounds allow {until}");
            return Err(Refusal::new(Step::Terms, Reason::NoTimeLeft, detail).about("ttl"));
        }
        Ok(until)
    }
}

fn conflict(reason: Reason, detail: String) -> ServiceError {
    ServiceError::Conflict { reason, detail, retry_after: None }
}
