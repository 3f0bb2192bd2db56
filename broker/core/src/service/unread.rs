//! Requests that were refused before any use-case saw them: their shape was wrong, or they brought no proof.

use super::Ports;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::{Refusal, ServiceError};
use crate::request::Origin;

/// Records such a refusal of what would have been `action`, within the budget of `actor`, or of the source while nobody
/// has proved anything.
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
    let told = match &actor {
        Some(actor) => ports.refusals.take_of(actor, refusal.reason, now),
        None => ports.refusals.take(origin.source, refusal.reason, now),
    };
    if !told {
        return Ok(());
    }
    let unverified = || Actor::Unverified { source: origin.source.map(|address| address.to_string()) };
    let actor = actor.unwrap_or_else(unverified);
    let entry = AuditEntry::denied(now, actor, action, AuditObject::Broker, refusal).in_request(origin.request_id);
    Ok(ports.store.record(vec![entry], None).await?)
}
