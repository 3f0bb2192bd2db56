//! Stopping new grants for a while, and lifting that.

use std::collections::BTreeSet;

use super::decide::{Trail, may, query_of, role_facts};
use super::many::Many;
use super::revoke::checked_reason;
use super::{Ports, Use, authenticate};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::catalog::Revision;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::id::{QuarantineId, RoleName};
use crate::identity::{Proof, VerifiedIdentity};
use crate::policy::{Action, Resource};
use crate::port::{Added, GrantFilter, QuarantineOrder};
use crate::quarantine::{Lifted, Quarantine, Roles};
use crate::request::Origin;
use crate::revocation::selector_in_words;
use crate::role::Role;
use crate::selector::{Criteria, Selector};
use crate::time::Timestamp;

/// How often a decision is made again because the world moved meanwhile.
const MAX_DECISIONS: usize = 4;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Quarantining {
    /// Which grants to stop. Required, but where it comes with a revocation.
    pub selector: Option<Selector>,
    /// Why. Required.
    pub reason: Option<String>,
    /// Until when.
    pub until: Timestamp,
}

/// Stops what is selected, as far as the caller may. It holds when this answers.
///
/// # Errors
/// [`ServiceError`]; then nothing is stopped.
pub async fn add(
    ports: &Ports,
    proof: &Proof,
    asked: &Quarantining,
    origin: &Origin,
) -> Result<Quarantine, ServiceError> {
    for _ in 0..MAX_DECISIONS {
        // Before the revision: see `open`.
        let epoch = ports.store.epoch();
        let revision = ports.governance.current();
        let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
        let order = order(ports, &revision, &identity, asked, origin, "").await?;
        let quarantine = order.quarantine.clone();
        match ports.store.add_quarantine(order, epoch).await? {
            Added::Done => return Ok(quarantine),
            Added::TooMany => return Err(too_many("lift one")),
            Added::Moved => {}
        }
    }
    Err(ServiceError::unavailable(Reason::StateConflict, "policy or revocations are changing too fast to decide"))
}

/// Lifts the quarantine `id`. Idempotent: one that is over is answered as it is.
///
/// # Errors
/// [`ServiceError`]; [`ServiceError::NotFound`] also for what the caller may not see, whatever it may stop.
pub async fn lift(ports: &Ports, proof: &Proof, id: QuarantineId, origin: &Origin) -> Result<Quarantine, ServiceError> {
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
    let mut quarantine = ports.store.quarantine(id).await?.ok_or(ServiceError::NotFound)?;
    let object = AuditObject::Quarantine { id };
    let trail = Trail {
        actor: Actor::from(&identity),
        action: AuditAction::QuarantineLift,
        object,
        origin,
        on_behalf_of: None,
    };
    if !may_see(ports, &revision, &identity, &quarantine.author).await? {
        let detail = "policy does not let you see this quarantine";
        trail.refuse(ports, &Refusal::new(Step::Policy, Reason::PolicyDenied, detail), None).await?;
        return Err(ServiceError::NotFound);
    }
    let mut many = Many::new(ports, &revision, &identity, Action::Suspend).await?;
    let mut allowed = true;
    match &quarantine.roles {
        Roles::All => allowed = many.may(Resource::Broker, false).await?,
        Roles::Some(roles) => {
            // A role that is gone may come back, and its quarantine must still be there: then whoever may halt all decides.
            for name in roles {
                let facts = revision.catalog.roles.get(name).and_then(|role| facts(&revision, role));
                allowed = allowed && many.may(facts.unwrap_or(Resource::Broker), false).await?;
            }
            allowed = allowed && !roles.is_empty();
        }
    }
    if !allowed {
        let (refusal, decision) = many.refusal("policy does not let you lift this quarantine");
        trail.refuse(ports, &refusal, decision).await?;
        return Err(refusal.into());
    }
    if quarantine.lifted.is_some() {
        return Ok(quarantine);
    }
    let lifted = Lifted { at: ports.now(), by: Actor::from(&identity) };
    let mut entry = trail.success(ports);
    entry.decision = many.decisions.first().map(|decision| decision.id);
    if ports.store.lift_quarantine(id, lifted.clone(), entry, many.decisions).await? {
        quarantine.lifted = Some(lifted);
        return Ok(quarantine);
    }
    // Somebody was faster.
    ports.store.quarantine(id).await?.ok_or(ServiceError::NotFound)
}

/// What adding the quarantine writes, once it is decided. `place` is where its fields stand in the request.
pub(super) async fn order(
    ports: &Ports,
    revision: &Revision,
    identity: &VerifiedIdentity,
    asked: &Quarantining,
    origin: &Origin,
    place: &str,
) -> Result<QuarantineOrder, ServiceError> {
    let (id, now): (QuarantineId, Timestamp) = (ports.fresh_id()?, ports.now());
    let object = AuditObject::Quarantine { id };
    let trail =
        Trail { actor: Actor::from(identity), action: AuditAction::QuarantineAdd, object, origin, on_behalf_of: None };
    let (selector, reason) = match checked(asked, now, place) {
        Ok(checked) => checked,
        Err(refusal) => {
            trail.refuse(ports, &refusal, None).await?;
            return Err(refusal.into());
        }
    };
    let mut many = Many::new(ports, revision, identity, Action::Suspend).await?;
    let Some(roles) = suspendable(revision, &selector, &mut many).await? else {
        let (refusal, decision) = many.refusal("policy lets you stop no grants like these");
        trail.refuse(ports, &refusal, decision).await?;
        return Err(refusal.into());
    };
    let quarantine = Quarantine {
        id,
        selector,
        roles,
        author: Actor::from(identity),
        reason,
        created_at: now,
        until: asked.until,
        lifted: None,
    };
    let entry = entry(&quarantine, trail.success(ports));
    let entry = AuditEntry { decision: many.decisions.first().map(|decision| decision.id), ..entry };
    Ok(QuarantineOrder { quarantine, decisions: many.decisions, entry })
}

fn entry(quarantine: &Quarantine, entry: AuditEntry) -> AuditEntry {
    let roles = match &quarantine.roles {
        Roles::All => "all".to_owned(),
        Roles::Some(roles) => roles.iter().map(RoleName::as_str).collect::<Vec<_>>().join(" "),
    };
    entry
        .with("selector", &selector_in_words(&quarantine.selector).to_string())
        .with("roles", &roles)
        .with("reason", &quarantine.reason)
        .with("until", &quarantine.until.to_rfc3339())
}

/// The roles of the selection that the caller may suspend; `None` when there is none. Whoever may suspend the broker
/// and every role of the selection stops the roles to come, too.
async fn suspendable(
    revision: &Revision,
    selector: &Selector,
    many: &mut Many<'_>,
) -> Result<Option<Roles>, ServiceError> {
    let (mut allowed, mut refused) = (BTreeSet::new(), false);
    for role in revision.catalog.roles.values().filter(|role| may_select(selector, role)) {
        let Some(facts) = facts(revision, role) else { continue };
        if many.may(facts, false).await? {
            allowed.insert(role.name.clone());
        } else {
            refused = true;
        }
    }
    if !refused && many.may(Resource::Broker, false).await? {
        return Ok(Some(Roles::All));
    }
    Ok(if allowed.is_empty() { None } else { Some(Roles::Some(allowed)) })
}

fn facts(revision: &Revision, role: &Role) -> Option<Resource> {
    let backend = revision.backends.get(&role.backend)?;
    Some(Resource::Role(role_facts(revision, role, backend.as_ref())))
}

/// Whether a grant of `role` could be among the selected.
fn may_select(selector: &Selector, role: &Role) -> bool {
    let Some(Criteria { grants, .. }) = selector.criteria() else { return true };
    let wanted = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
    wanted(&grants.role, Some(role.name.as_str()))
        && wanted(&grants.owner, Some(role.owner.as_str()))
        && wanted(&grants.backend, Some(role.backend.as_str()))
        && wanted(&grants.environment, role.environment.as_ref().map(|name| name.as_str()))
}

/// A selector without what only a grant that is there has: its state and when it was created.
pub(super) fn lasting(selector: Selector) -> Selector {
    let Some(criteria) = selector.criteria() else { return selector };
    let grants = GrantFilter { states: Vec::new(), since: None, until: None, ..criteria.grants.clone() };
    // What is left of a selector by time alone is nothing, and is refused as that.
    Selector::of(Criteria { grants, ..criteria.clone() }).unwrap_or(selector)
}

fn checked(asked: &Quarantining, now: Timestamp, place: &str) -> Result<(Selector, String), Refusal> {
    let malformed =
        |member: &str, detail: String| Refusal::request(Reason::MalformedRequest, format!("{place}{member}"), detail);
    let reason = checked_reason(asked.reason.clone())?
        .ok_or_else(|| malformed("reason", "say in `reason` why these grants must not be opened".to_owned()))?;
    let longest = Quarantine::MAX_LENGTH;
    if asked.until <= now || asked.until > now.plus(longest) {
        return Err(malformed(
            "until",
            format!("`{place}until` is a time in the future, {longest} from now at the latest"),
        ));
    }
    let selector =
        asked.selector.clone().ok_or_else(|| malformed("selector", "say in `selector` what to stop".to_owned()))?;
    let of_what_is_there = selector.criteria().is_some_and(|criteria| {
        let GrantFilter { states, since, until, .. } = &criteria.grants;
        !states.is_empty() || since.is_some() || until.is_some()
    });
    if of_what_is_there {
        let detail = "what is not opened yet has no state and no time of creation: select by something else";
        return Err(malformed("selector", detail.to_owned()));
    }
    Ok((selector, reason))
}

/// Whether a command by `author` is for the caller to see: its own, or any for whoever may read the broker.
pub(super) async fn may_see(
    ports: &Ports,
    revision: &Revision,
    identity: &VerifiedIdentity,
    author: &Actor,
) -> Result<bool, ServiceError> {
    if *author == Actor::from(identity) {
        return Ok(true);
    }
    Ok(may(revision, &query_of(ports, revision, identity, Action::Read, Resource::Broker).await?))
}

/// No place is left for one more. `way_out` is what to do about it.
pub(super) fn too_many(way_out: &str) -> ServiceError {
    let (halts, of_one) = (Quarantine::RESERVED_FOR_HALTS, Quarantine::MAX_IN_FORCE_OF_ONE);
    let all = Quarantine::MAX_IN_FORCE - halts;
    let of_some = all - Quarantine::RESERVED_FOR_EVERY_ROLE;
    let detail = format!(
        "no more quarantines fit: {all} may be in force, {of_some} of them of some roles only and {of_one} of one author; \
         and {halts} of everything, {} of them of one author; {way_out}",
        Quarantine::MAX_HALTS_OF_ONE
    );
    ServiceError::Conflict { reason: Reason::StateConflict, detail, retry_after: None }
}
