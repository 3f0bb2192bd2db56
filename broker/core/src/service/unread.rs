//! Requests that were refused before any use-case saw them: their shape was wrong, or they brought no proof.

use super::Ports;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::{Refusal, ServiceError};
use crate::request::Origin;

/// Records such a refusal of what would have been `action`. While nobody has proved anything (`actor` is none), within
/// the budget of the source: nobody may fill the log without a proof.
///
/// # Errors
/// [`ServiceError::Unavailable`] when the store does not answer.
pub async fn record(
    ports: &Ports,
    action: AuditAction,
    actor: Option<Actor>,
    refusal: &Refusal,
    origin: &Origin,
) -> Result<(), ServiceError> {
    let now = ports.now();
    if actor.is_none() && !ports.refusals.take(origin.source, refusal.reason, now) {
        return Ok(());
    }
    let unverified = || Actor::Unverified { source: origin.source.map(|address| address.to_string()) };
    let actor = actor.unwrap_or_else(unverified);
    let entry = AuditEntry::denied(now, actor, action, AuditObject::Broker, refusal).in_request(origin.request_id);
    Ok(ports.store.record(vec![entry], None).await?)
}
