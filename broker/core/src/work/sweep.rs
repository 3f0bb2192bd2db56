//! What ends by itself, and what need not be kept any longer.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::audit::AuditEntry;
use crate::port::StoreError;
use crate::service::Ports;
use crate::time::{ClockWatch, Ttl};

/// How many rows one tick touches at most: a tick must not keep requests waiting.
pub const BATCH: usize = 500;

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Grants that expired.
    pub expired: usize,
    /// Replay and idempotency records and lineages that were removed.
    pub purged: usize,
    /// Quarantines that came to their end.
    pub lifted: usize,
    /// Set while a forward step of the wall clock is unconfirmed: then nothing was swept.
    pub clock_stepped_by: Option<Ttl>,
}

/// Expires, purges, lifts quarantines that are over, and sums up held-back refusals, up to [`BATCH`] rows of each.
///
/// # Errors
/// [`StoreError`].
pub async fn tick(ports: &Ports, watch: &Mutex<ClockWatch>) -> Result<Swept, StoreError> {
    let now = ports.now();
    tell_refusals(ports, ports.refusals.summaries(now)).await?;
    let stepped = watch.lock().unwrap_or_else(PoisonError::into_inner).observe(ports.clock.as_ref());
    if stepped.is_some() {
        return Ok(Swept { clock_stepped_by: stepped, ..Swept::default() });
    }
    let expired = ports.store.expire_due(now, BATCH).await?;
    let purged = ports.store.purge(now, BATCH).await?;
    let anything_over = ports.store.in_force().quarantines.iter().any(|quarantine| quarantine.until <= now);
    let lifted = if anything_over { ports.store.lift_ended_quarantines(now).await? } else { 0 };
    Ok(Swept { expired, purged, lifted, clock_stepped_by: None })
}

/// Sums up the refusals that were held back and not told yet, before the broker stops.
///
/// # Errors
/// [`StoreError`].
pub async fn close(ports: &Ports) -> Result<(), StoreError> {
    tell_refusals(ports, ports.refusals.rest(ports.now())).await
}

async fn tell_refusals(ports: &Ports, summaries: Vec<AuditEntry>) -> Result<(), StoreError> {
    if summaries.is_empty() {
        return Ok(());
    }
    let told = ports.store.record(summaries.clone(), None).await;
    told.inspect_err(|_| summaries.iter().for_each(|summary| ports.refusals.take_back(summary)))
}
