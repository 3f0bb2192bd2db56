//! Ending a grant whose credential never reached its caller.

use super::Ports;
use super::revoke::is_fenced_by_record;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::ServiceError;
use crate::grant::{Cause, Ending, StateName};
use crate::id::GrantId;
use crate::measure::EndTakenHold;
use crate::port::{Applied, Change};
use crate::request::Origin;

/// How often a change by somebody else is looked at again. Each means that the grant went forward, and its life has
/// fewer steps than this.
const MAX_ROUNDS: usize = 8;

/// Ends the grant `id`: its caller hung up before the credential left, so that nobody can use it, renew it or end it.
///
/// Not for requests that carried an idempotency key: their repetition supersedes the grant.
///
/// # Errors
/// [`ServiceError::Unavailable`] when the store does not answer; the grant then lives until its `end_at`.
pub async fn undelivered(ports: &Ports, id: GrantId, origin: &Origin) -> Result<(), ServiceError> {
    for _ in 0..MAX_ROUNDS {
        let Some(grant) = ports.store.grant(id).await? else { return Ok(()) };
        if !matches!(grant.state_name(), StateName::Pending | StateName::Active) {
            return Ok(());
        }
        let fenced = is_fenced_by_record(ports, &grant);
        let ending = Ending::by_broker(Cause::UNDELIVERED, ports.now());
        let Ok(ended) = grant.begin_ending(ending, fenced) else { return Ok(()) };
        let object = AuditObject::Grant { id };
        let entry = AuditEntry::success(ports.now(), Actor::Broker, AuditAction::GrantRevoke, object)
            .in_request(origin.request_id)
            .for_reason(Cause::UNDELIVERED.as_str());
        let held = EndTakenHold::of(&ended);
        let applied = ports.store.apply(Change::of(ended, entry)).await?;
        ports.nudge.notify_one();
        if applied == Applied::Done {
            held.into_iter().for_each(EndTakenHold::count);
            return Ok(());
        }
    }
    Ok(())
}
