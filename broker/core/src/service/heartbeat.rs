//! Signs of life: a grant that was opened with a heartbeat ends when none comes.

use super::{Ports, Use, authenticate};
use crate::error::{Reason, ServiceError};
use crate::grant::Grant;
use crate::id::GrantId;
use crate::identity::Proof;
use crate::port::{Applied, Change};
use crate::request::Origin;

/// The holder says that it is alive. Only the holder can; a consumed proof still serves until it expires.
///
/// # Errors
/// [`ServiceError`]; a conflict once the grant is no longer active.
pub async fn heartbeat(ports: &Ports, proof: &Proof, id: GrantId, origin: &Origin) -> Result<Grant, ServiceError> {
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
    loop {
        let in_force = ports.store.in_force();
        let grant = ports.store.grant(id).await?.ok_or(ServiceError::NotFound)?;
        if !grant.record.is_held_by(&identity) {
            return Err(ServiceError::NotFound);
        }
        let now = ports.now();
        let ended =
            |detail: String| ServiceError::Conflict { reason: Reason::StateConflict, detail, retry_after: None };
        if in_force.ends(&grant).is_some() {
            return Err(ended("the grant is being revoked".to_owned()));
        }
        if !grant.is_live(now) {
            return Err(ended(format!("the grant is {}", grant.state_name().as_str())));
        }
        let seen = grant.seen(now).map_err(|error| ended(error.to_string()))?;
        // A sign of life changes no state and tells nobody anything: it has no audit entry.
        let change = Change {
            grant: seen.clone(),
            handle: None,
            entries: Vec::new(),
            decision: None,
            epoch: None,
            proof_use: None,
            reservation: None,
            replaced: None,
        };
        if ports.store.apply(change).await? == Applied::Done {
            return Ok(seen);
        }
    }
}
