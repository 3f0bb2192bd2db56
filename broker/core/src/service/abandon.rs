//! Giving up by hand on a grant whose credential cannot be undone.

use super::decide::{Trail, permitted_grant};
use super::revoke::checked_reason;
use super::{Ports, Use, authenticate};
use crate::audit::{Actor, AuditAction, AuditObject};
use crate::error::{Reason, Refusal, ServiceError};
use crate::grant::Grant;
use crate::id::GrantId;
use crate::identity::Proof;
use crate::policy::Action;
use crate::port::{Applied, Change};
use crate::request::Origin;

/// Gives up on the grant `id`, with a reason. It is then abandoned, never revoked: its credential may still work.
///
/// # Errors
/// [`ServiceError`]; a conflict unless the grant is revoking.
pub async fn abandon(
    ports: &Ports,
    proof: &Proof,
    id: GrantId,
    reason: Option<String>,
    origin: &Origin,
) -> Result<Grant, ServiceError> {
    let reason = checked_reason(reason)?.ok_or_else(|| {
        Refusal::request(Reason::MalformedRequest, "reason", "say in `reason` why nobody will undo this credential")
    })?;
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
    let object = AuditObject::Grant { id };
    let trail =
        Trail { actor: Actor::from(&identity), action: AuditAction::GrantAbandon, object, origin, on_behalf_of: None };
    let (grant, permit) = permitted_grant(ports, &revision, &identity, id, Action::Abandon, trail.clone()).await?;
    let actor = format!("{}:{}", identity.issuer(), identity.subject());
    let conflict = |detail: String| ServiceError::Conflict { reason: Reason::StateConflict, detail, retry_after: None };
    let abandoned = grant.abandon(ports.now(), actor, reason.clone()).map_err(|error| conflict(error.to_string()))?;
    let decision = permit.spend();
    let entry = trail.success(ports).by_decision(decision.id).with("reason", &reason);
    let mut change = Change::of(abandoned.clone(), entry);
    change.decision = Some(decision);
    match ports.store.apply(change).await? {
        Applied::Done => Ok(abandoned),
        _ => Err(conflict("the grant changed meanwhile; read it again".to_owned())),
    }
}
