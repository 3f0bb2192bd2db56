//! Renewing: a later end for a credential that its backend can extend. Never a new credential.

use std::sync::Arc;

use super::barred::Barred;
use super::decide::{Trail, permitted_grant};
use super::open::{proof_use_of, replayed};
use super::{Ports, Use, authenticate, rates};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::catalog::Revision;
use crate::credential::{Effect, Handle, RevocationClass};
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::{Grant, IllegalTransition};
use crate::id::GrantId;
use crate::identity::{Proof, VerifiedIdentity};
use crate::in_force::Bar;
use crate::policy::{Action, Permit};
use crate::port::{Applied, Change, CredentialBackend, ExtendError, LineageKey};
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
    ports.evidence.allows_issuing(ports.store.as_ref())?;
    // Before the revision: see `open`.
    let epoch = ports.store.epoch();
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Mint, origin).await?;
    rates::identity(ports, &identity, origin).await?;
    let object = AuditObject::Grant { id };
    let trail =
        Trail { actor: Actor::from(&identity), action: AuditAction::GrantRenew, object, origin, on_behalf_of: None };
    let (grant, permit) = permitted_grant(ports, &revision, &identity, id, Action::Renew, trail.clone()).await?;
    if !grant.record.is_held_by(&identity) {
        return Err(ServiceError::NotFound);
    }
    if !grant.record.actors.is_empty() {
        let detail = "a delegated grant is not renewed: ask for another, with fresh proofs of both";
        return Err(conflict(Reason::CannotExtend, detail.to_owned()));
    }
    let in_force = ports.store.in_force();
    if let Some(id) = in_force.ends(&grant) {
        let barred = Barred::by(Bar::Revoked(id), ports.now());
        trail.refuse(ports, &barred.refusal, None).await?;
        return Err(barred.into());
    }
    if !grant.is_live(ports.now()) {
        return Err(conflict(Reason::StateConflict, format!("the grant is {}", grant.state_name().as_str())));
    }
    let renewal = Renewal {
        ports,
        revision: &revision,
        identity: &identity,
        grant: &grant,
        permit: &permit,
        trail: &trail,
        epoch,
    };
    let (role, backend) = renewal.subject()?;
    let continuous_ends_at = renewal.continuous_ends_at(role).await?;
    let until = match renewal.until(role, ttl, continuous_ends_at) {
        Ok(until) => until,
        Err(refusal) => {
            trail.refuse(ports, &refusal, None).await?;
            return Err(refusal.into());
        }
    };
    let handle = ports.store.handle(id).await?.ok_or(ServiceError::NotFound)?;
    renewal.extend(backend, &handle, until).await
}

/// How often a change is made again because a sign of life came in between.
const MAX_ROUNDS: usize = 8;

/// What goes with a change of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// The decision, the proof that it consumes, and the epoch that it was made at.
    Decision,
    /// The epoch of the decision that was written before.
    Epoch,
    /// Nothing was decided for it.
    Nothing,
}

struct Renewal<'a> {
    ports: &'a Ports,
    revision: &'a Revision,
    identity: &'a VerifiedIdentity,
    grant: &'a Grant,
    permit: &'a Permit,
    trail: &'a Trail<'a>,
    epoch: u64,
}

impl Renewal<'_> {
    /// The role as it is now: renewing is minting again, and a role that is gone or has lost its owner mints nothing.
    fn subject(&self) -> Result<(&Role, &dyn CredentialBackend), ServiceError> {
        let record = &self.grant.record;
        let gone = || Refusal::new(Step::Role, Reason::RoleNotAvailable, "the role is no longer available");
        let catalog = &self.revision.catalog;
        let role = catalog.roles.get(&record.role).filter(|role| role.state == RoleState::Active).ok_or_else(gone)?;
        catalog.owners.get(&role.owner).filter(|owner| owner.resolves()).ok_or_else(gone)?;
        // A backend of another kind under the same name would read the handle as something else.
        let same_kind = |backend: &&Arc<dyn CredentialBackend>| backend.kind() == record.backend_kind;
        let backend = self.revision.backends.get(&record.backend).filter(same_kind).ok_or_else(gone)?;
        Ok((role, backend.as_ref()))
    }

    /// The new end: what was asked for, within everything that bounded the first one and everything that bounds now.
    fn until(
        &self,
        role: &Role,
        ttl: Option<Ttl>,
        continuous_ends_at: Option<Timestamp>,
    ) -> Result<Timestamp, Refusal> {
        let (now, record) = (self.ports.now(), &self.grant.record);
        let from_creation = |longest: Ttl| record.created_at.plus(longest);
        let obligation = self.permit.decision().verdict.obligations.max_ttl;
        let rules = &self.identity.proof().rules;
        let environments = &self.revision.catalog.environments;
        let environment = record.environment.as_ref().and_then(|name| environments.get(name));
        let bounds = [
            Some(now.plus(ttl.unwrap_or(role.ttl.default))),
            Some(record.terms.max_expires_at),
            Some(from_creation(role.ttl.max)),
            obligation.map(from_creation),
            rules.bounds_ttl.then(|| self.identity.expires_at()),
            environment.and_then(|environment| environment.ends_at),
            continuous_ends_at,
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

    /// The end of what this workload may hold without a pause, as the role says now.
    async fn continuous_ends_at(&self, role: &Role) -> Result<Option<Timestamp>, ServiceError> {
        let Some(longest) = role.max_continuous else { return Ok(None) };
        let record = &self.grant.record;
        let key = LineageKey::of(self.identity.proof(), &role.name);
        let lineage = self.ports.store.lineage(&key, self.ports.now()).await?;
        let began_at = lineage.map_or(record.created_at, |lineage| lineage.started_at.min(record.created_at));
        Ok(Some(began_at.plus(longest)))
    }

    /// Asks the backend, and records what came of it. That the credential may live longer is durable before a remote
    /// backend hears of it: an answer that is lost must not leave a credential that outlives its record (promise 2).
    async fn extend(
        &self,
        backend: &dyn CredentialBackend,
        handle: &Handle,
        until: Timestamp,
    ) -> Result<Grant, ServiceError> {
        let asked = match backend.effect() {
            Effect::Local => None,
            Effect::Remote => {
                let entry = || self.entry("may_work_until", until);
                Some(self.change(Carries::Decision, entry, |grant| grant.expect_until(until)).await?)
            }
        };
        // What this renewal alone has raised, it may lower again; what others changed meanwhile stands.
        let settled = |grant: Grant, end_at: Timestamp, at: Timestamp| {
            let ours = asked.as_ref().is_some_and(|asked| asked.version == grant.version);
            let expires_at = if ours { at } else { at.max(grant.expires_at) };
            grant.extend(end_at, expires_at)
        };
        let before = self.grant.expires_at;
        let deadline = self.ports.limits.call_deadline.as_duration();
        let name = &self.grant.record.backend;
        let failure = match tokio::time::timeout(deadline, backend.extend(handle, until)).await {
            // The end that we bring about stays within the bounds, even if the backend did more than it was asked to.
            Ok(Ok(extended_to)) => {
                let end_at = extended_to.min(until);
                let carries = if asked.is_some() { Carries::Epoch } else { Carries::Decision };
                let extend = |grant: Grant| settled(grant, end_at, extended_to.max(before));
                return self.change(carries, || self.entry("until", end_at), extend).await;
            }
            Ok(Err(ExtendError::Unavailable(_))) | Err(_) => {
                let detail = format!("backend {name} does not answer");
                return Err(ServiceError::unavailable(Reason::BackendUnavailable, detail));
            }
            Ok(Err(ExtendError::Unsupported)) => {
                let detail = "this kind of credential cannot be extended; open a new grant";
                conflict(Reason::CannotExtend, detail.to_owned())
            }
            Ok(Err(ExtendError::Refused(internal))) => {
                tracing::warn!(grant = %self.grant.record.id, %internal, "extending was refused");
                let detail = format!("backend {name} refused to extend");
                ServiceError::Backend { reason: Reason::BackendRefused, detail }
            }
        };
        if asked.is_some() {
            let entry = || self.entry("may_work_until", before).failed().for_reason(failure.reason().as_str());
            self.change(Carries::Nothing, entry, |grant: Grant| settled(grant.clone(), grant.end_at, before)).await?;
        }
        Err(failure)
    }

    /// Makes one change to the grant, over again when it was a sign of life that came in between.
    async fn change(
        &self,
        carries: Carries,
        entry: impl Fn() -> AuditEntry,
        make: impl Fn(Grant) -> Result<Grant, IllegalTransition>,
    ) -> Result<Grant, ServiceError> {
        let id = self.grant.record.id;
        for _ in 0..MAX_ROUNDS {
            let grant = self.ports.store.grant(id).await?.ok_or(ServiceError::NotFound)?;
            let changed = make(grant).map_err(|error| conflict(Reason::StateConflict, error.to_string()))?;
            let mut change = Change::of(changed.clone(), entry());
            if carries != Carries::Nothing {
                change.epoch = Some(self.epoch);
            }
            if carries == Carries::Decision {
                change.decision = Some(self.permit.decision().clone());
                change.proof_use = proof_use_of(self.identity);
            }
            match self.ports.store.apply(change).await? {
                Applied::Done => return Ok(changed),
                Applied::Replayed => {
                    let refusal = replayed();
                    self.trail.refuse(self.ports, &refusal, None).await?;
                    return Err(refusal.into());
                }
                Applied::Barred(bar) => {
                    let barred = Barred::by(bar, self.ports.now());
                    self.trail.refuse(self.ports, &barred.refusal, None).await?;
                    return Err(barred.into());
                }
                Applied::Moved => break,
                Applied::Conflict => {}
            }
        }
        // The end that was recorded stands and is the earlier one: at it, the credential is undone.
        Err(conflict(Reason::StateConflict, "the grant or the policy changed meanwhile; try again".to_owned()))
    }

    fn entry(&self, name: &str, at: Timestamp) -> AuditEntry {
        self.trail.success(self.ports).by_decision(self.permit.decision().id).with(name, &at.to_rfc3339())
    }
}

fn conflict(reason: Reason, detail: String) -> ServiceError {
    ServiceError::Conflict { reason, detail, retry_after: None }
}
