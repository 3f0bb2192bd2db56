//! Ending a grant before its time.

use super::decide::{Trail, permit, permitted_grant, query_of_holder};
use super::{Ports, Use, authenticate};
use crate::audit::{Actor, AuditAction, AuditObject};
use crate::binding::BindingKey;
use crate::credential::Effect;
use crate::delegation;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::{Cause, Ending, Grant, StateName};
use crate::id::GrantId;
use crate::identity::Proof;
use crate::measure::EndTakenHold;
use crate::policy::{Action, Permit};
use crate::port::{Applied, Change};
use crate::request::Origin;

/// Longest reason in characters.
pub const MAX_REASON_CHARS: usize = 400;

/// Ends the grant `id` for whoever policy lets do so. Idempotent: a grant that is ending or over is answered as it is.
///
/// # Errors
/// [`ServiceError`].
pub async fn revoke(
    ports: &Ports,
    proof: &Proof,
    id: GrantId,
    reason: Option<String>,
    origin: &Origin,
) -> Result<Grant, ServiceError> {
    let reason = checked_reason(reason)?;
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
    let trail = trail(Actor::from(&identity), id, origin);
    let (grant, permit) = permitted_grant(ports, &revision, &identity, id, Action::Revoke, trail.clone()).await?;
    let actor = format!("{}:{}", identity.issuer(), identity.subject());
    end(ports, grant, &permit, actor, reason, trail).await
}

/// Ends the grant of a token that was shown to the broker (RFC 7009): who has it may end it, if the holder may. Of one that
/// is `bound_to` a key, who has the key: `shown` is what came with the request.
///
/// # Errors
/// [`ServiceError`].
pub async fn revoke_by_credential(
    ports: &Ports,
    shown: &Proof,
    bound_to: Option<BindingKey>,
    id: GrantId,
    origin: &Origin,
) -> Result<Option<Grant>, ServiceError> {
    let revision = ports.governance.current();
    let Some(grant) = ports.store.grant(id).await? else { return Ok(None) };
    let holder = &grant.record.holder;
    let name = match grant.record.actors.current() {
        Some(acting) => acting.name(),
        None => format!("{}:{}", holder.issuer, holder.subject),
    };
    let (actor, on_behalf_of) = delegation::parties(&grant.record);
    let query = query_of_holder(ports, &revision, &grant.record, Action::Revoke);
    let trail = Trail { on_behalf_of, ..trail(actor, id, origin) };
    if let Some(key) = bound_to {
        if let Err(refusal) = shown.shown().confirm(key) {
            trail.refuse(ports, &refusal, None).await?;
            return Err(refusal.into());
        }
        if let Some(possession) = &shown.possession {
            ports.possessions.take(possession, delegation::counted_for(&grant.record), ports.now())?;
        }
    }
    let refusal = Refusal::new(Step::Policy, Reason::PolicyDenied, "policy does not let the holder revoke this grant");
    let permit = permit(ports, &revision, query, trail.clone(), refusal).await?;
    let reason = Some("the credential itself was presented for revocation".to_owned());
    end(ports, grant, &permit, name, reason, trail).await.map(Some)
}

/// Makes the end that `permit` allows, and keeps the decision behind it with the change.
async fn end(
    ports: &Ports,
    mut grant: Grant,
    permit: &Permit,
    actor: String,
    reason: Option<String>,
    trail: Trail<'_>,
) -> Result<Grant, ServiceError> {
    let id = grant.record.id;
    loop {
        if !matches!(grant.state_name(), StateName::Pending | StateName::Active) {
            return Ok(grant);
        }
        let ending =
            Ending { cause: Cause::REQUESTED, actor: Some(actor.clone()), reason: reason.clone(), at: ports.now() };
        let fenced = is_fenced_by_record(ports, &grant);
        let ended = grant.begin_ending(ending, fenced).map_err(|error| ServiceError::Conflict {
            reason: Reason::StateConflict,
            detail: error.to_string(),
            retry_after: None,
        })?;
        let decision = permit.decision();
        let mut entry = trail.success(ports).by_decision(decision.id).for_reason(Cause::REQUESTED.as_str());
        if let Some(reason) = &reason {
            entry = entry.with("reason", reason);
        }
        let mut change = Change::of(ended.clone(), entry);
        change.decision = Some(decision.clone());
        fail::fail_point!("revoke::before-commit");
        let applied = ports.store.apply(change).await?;
        fail::fail_point!("revoke::after-commit");
        ports.nudge.notify_one();
        if applied == Applied::Done {
            EndTakenHold::of(&ended).into_iter().for_each(EndTakenHold::count);
            return Ok(ended);
        }
        // Somebody else changed it: look again. Each round means that another change was made, so this ends.
        grant = ports.store.grant(id).await?.ok_or(ServiceError::NotFound)?;
    }
}

/// Whether the broker's own records are the rule that verifiers of this credential consult. Asked of the kind of
/// backend: its name in the bundle may have changed since.
pub(crate) fn is_fenced_by_record(ports: &Ports, grant: &Grant) -> bool {
    let revision = ports.governance.current();
    let of_its_kind =
        |backend: &&std::sync::Arc<dyn crate::port::CredentialBackend>| backend.kind() == grant.record.backend_kind;
    grant.record.class() == crate::credential::RevocationClass::Fenced
        && revision.backends.values().find(of_its_kind).is_some_and(|backend| backend.effect() == Effect::Local)
}

fn trail(actor: Actor, id: GrantId, origin: &Origin) -> Trail<'_> {
    Trail { actor, action: AuditAction::GrantRevoke, object: AuditObject::Grant { id }, origin, on_behalf_of: None }
}

/// A reason that is short and on one line.
pub(super) fn checked_reason(reason: Option<String>) -> Result<Option<String>, Refusal> {
    match reason {
        Some(text) if text.chars().count() > MAX_REASON_CHARS || text.chars().any(char::is_control) => {
            let detail = format!("`reason` is one line of at most {MAX_REASON_CHARS} characters");
            Err(Refusal::request(Reason::MalformedRequest, "reason", detail))
        }
        other => Ok(other.filter(|text| !text.trim().is_empty())),
    }
}
