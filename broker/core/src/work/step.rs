//! One step for each grant that is due: give up waiting, begin to end, undo at the backend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::credential::{Handle, RevocationClass};
use crate::grant::{Cause, Ending, Grant, GrantState, NextStep};
use crate::id::{BackendName, ReservationId};
use crate::measure::EndTakenHold;
use crate::port::{Applied, Change, Reserved, Share, StoreError, Undone, scrubbed};
use crate::service::Ports;
use crate::service::revoke::is_fenced_by_record;
use crate::time::{ClockWatch, Timestamp, Ttl};

/// How many due grants one tick takes.
pub const BATCH: usize = 256;
/// How many calls run at once against one backend: a slow one must not take all hands.
const PER_BACKEND: usize = 16;
/// The first wait after a failed try.
const FIRST_BACKOFF: Ttl = Ttl::from_secs(1);
/// The longest wait between tries. There is no last try.
const LONGEST_BACKOFF: Ttl = Ttl::from_mins(5);

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// How many due grants were taken.
    pub taken: usize,
    /// How many of them took their step.
    pub stepped: usize,
}

/// Takes what is due of a share and takes one step for each. A backend that does not answer delays the tick of its share
/// only.
///
/// While a forward step of the wall clock is unconfirmed, what is already ending is undone and nothing new begins to
/// end: a clock that is wrong would otherwise end every live grant at once (promise 5).
///
/// # Errors
/// [`StoreError`] when nothing could be reserved. What fails for one grant is logged and retried after its hold ends.
pub async fn tick(ports: &Ports, watch: &Mutex<ClockWatch>, share: &Share) -> Result<Ticked, StoreError> {
    let stepped = watch.lock().unwrap_or_else(PoisonError::into_inner).observe(ports.clock.as_ref());
    let time_is_right = stepped.is_none();
    let reservation: ReservationId = ports.fresh_id().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let hold = hold(ports);
    let due = ports.store.reserve_due(ports.now(), hold, reservation, share, BATCH).await?;
    let taken = due.len();
    let mut hands: HashMap<BackendName, Arc<Semaphore>> = HashMap::new();
    let mut steps = JoinSet::new();
    for reserved in due {
        let hand = Arc::clone(
            hands.entry(reserved.grant.record.backend.clone()).or_insert_with(|| Arc::new(Semaphore::new(PER_BACKEND))),
        );
        let ports = ports.clone();
        steps.spawn(async move {
            let id = reserved.grant.record.id;
            // What is only written down waits for nobody's answer.
            let is_called = matches!(reserved.grant.next_step(ports.now()), NextStep::Undo);
            let _hand = if is_called { Some(hand.acquire_owned().await.ok()?) } else { None };
            // Whoever waited for a hand may have no time left for a call within its hold; somebody else takes it next.
            if is_called && reserved.held_until <= ports.now().plus(ports.limits.call_deadline).plus(ports.limits.skew)
            {
                return None;
            }
            match step(&ports, reserved, time_is_right).await {
                Ok(stepped) => stepped.then_some(()),
                Err(error) => {
                    tracing::error!(grant = %id, %error, "a due grant could not take its step; it stays due");
                    None
                }
            }
        });
    }
    let mut stepped = 0_usize;
    while let Some(joined) = steps.join_next().await {
        match joined {
            Ok(done) => stepped = stepped.saturating_add(usize::from(done.is_some())),
            // One grant whose step panics must not keep the others from theirs, nor end the worker.
            Err(error) => tracing::error!(%error, "the step of a due grant broke off; it stays due"),
        }
    }
    if stepped < taken {
        // What took no step is still held: somebody else was faster, or it failed. Let go of it, so that it is looked at
        // again when it is due and not when the hold ends.
        ports.store.release(reservation).await?;
    }
    Ok(Ticked { taken, stepped })
}

/// Longer than the longest step, so that a hold is lost only by a worker that is stuck.
fn hold(ports: &Ports) -> Ttl {
    ports.limits.call_deadline.plus(ports.limits.call_deadline).plus(ports.limits.skew)
}

/// `false` when somebody else was faster, or nothing was to do.
async fn step(ports: &Ports, reserved: Reserved, time_is_right: bool) -> Result<bool, StoreError> {
    let now = ports.now();
    match reserved.grant.next_step(now) {
        NextStep::Wait(_) => Ok(false),
        NextStep::GiveUpWaiting | NextStep::BeginEnding | NextStep::HeartbeatMissed | NextStep::Expire
            if !time_is_right =>
        {
            Ok(false)
        }
        NextStep::GiveUpWaiting => begin_ending(ports, reserved, Cause::DEADLINE_PASSED).await,
        NextStep::BeginEnding => begin_ending(ports, reserved, Cause::EXPIRED).await,
        NextStep::HeartbeatMissed => begin_ending(ports, reserved, Cause::HEARTBEAT_MISSED).await,
        NextStep::Expire => {
            let Reserved { grant, reservation, .. } = reserved;
            let expired = grant.expire(now).map_err(illegal)?;
            let entry = entry(ports, &expired, AuditAction::GrantExpire);
            apply(ports, expired, entry, reservation).await
        }
        NextStep::Undo => undo(ports, reserved).await,
    }
}

/// Records that the end begins; the undoing itself is the next step, due at once.
async fn begin_ending(ports: &Ports, reserved: Reserved, cause: Cause) -> Result<bool, StoreError> {
    let Reserved { grant, reservation, .. } = reserved;
    let fenced = is_fenced_by_record(ports, &grant);
    let ended = grant.begin_ending(Ending::by_broker(cause.clone(), ports.now()), fenced).map_err(illegal)?;
    let entry = entry(ports, &ended, AuditAction::GrantRevoke).for_reason(cause.as_str());
    fail::fail_point!("step::before-begin-ending");
    let done = apply(ports, ended, entry, reservation).await?;
    ports.nudge.notify_one();
    Ok(done)
}

async fn undo(ports: &Ports, reserved: Reserved) -> Result<bool, StoreError> {
    let Reserved { grant, handle, reservation, .. } = reserved;
    if let (Ok(handle), Some(at)) = (&handle, settles_at(ports, &grant, ports.now()))
        && !undoes_what_is_late(ports, &grant, handle)
    {
        let waiting =
            grant.retry(at, "waiting until a lost answer can no longer take effect".to_owned()).map_err(illegal)?;
        let entry = entry(ports, &waiting, AuditAction::GrantRetry);
        return apply(ports, waiting, entry, reservation).await;
    }
    let outcome = match handle {
        Ok(handle) => call(ports, &grant, &handle).await,
        Err(error) => Err(error.to_string()),
    };
    fail::fail_point!("step::after-undo");
    let now = ports.now();
    let class = grant.record.class();
    let settles_at = settles_at(ports, &grant, now);
    let (changed, entry) = match (outcome, settles_at) {
        // The backend has nothing more to undo now, but what was never heard of may still be on its way there.
        (Ok(Undone::Gone | Undone::Fenced), Some(at)) => {
            let waiting = grant.retry(at, "waiting until a lost answer can no longer take effect".to_owned());
            let waiting = waiting.map_err(illegal)?;
            let entry = entry(ports, &waiting, AuditAction::GrantRetry);
            (waiting, entry)
        }
        // Done, and not yet true everywhere.
        (Ok(Undone::Fencing { until }), settles_at) if class == RevocationClass::Fenced => {
            let at = settles_at.map_or(until, |settles_at| settles_at.max(until)).max(now);
            let waiting = grant.retry(at, "the fence stands; waiting until every verifier has heard of it".to_owned());
            let waiting = waiting.map_err(illegal)?;
            let entry = entry(ports, &waiting, AuditAction::GrantRetry);
            (waiting, entry)
        }
        (Ok(Undone::Gone), None) if class == RevocationClass::Hard => {
            let revoked = grant.confirm(now).map_err(illegal)?;
            let entry = entry(ports, &revoked, AuditAction::GrantConfirm);
            (revoked, entry)
        }
        (Ok(Undone::Gone | Undone::Fenced), None) if class == RevocationClass::Fenced => {
            let fenced = grant.fence(now).map_err(illegal)?;
            let entry = entry(ports, &fenced, AuditAction::GrantFence);
            (fenced, entry)
        }
        // Neither gone nor about to be: it is over when its time is, and only that is said of it. A late answer that tells
        // how to undo it comes with a step of its own.
        (Ok(Undone::OnlyTime), _) if class == RevocationClass::Hard && now >= grant.over_at() => {
            let expired = grant.run_out(now).map_err(illegal)?;
            let entry = entry(ports, &expired, AuditAction::GrantExpire);
            (expired, entry)
        }
        (Ok(Undone::OnlyTime), _) if class == RevocationClass::Hard => {
            let over_at = grant.over_at();
            let waiting =
                grant.retry(over_at, "nobody knows how to undo what may have been made; time does".to_owned());
            let waiting = waiting.map_err(illegal)?;
            let entry = entry(ports, &waiting, AuditAction::GrantRetry);
            (waiting, entry)
        }
        (Ok(undone), _) => {
            let class = class.as_str();
            retry(ports, grant, format!("the backend answered {undone:?} for a credential of class {class}"))?
        }
        (Err(error), _) => retry(ports, grant, error)?,
    };
    apply(ports, changed, entry, reservation).await
}

/// Whether undoing a grant now misses nothing of an answer that nobody heard.
fn undoes_what_is_late(ports: &Ports, grant: &Grant, handle: &Handle) -> bool {
    let revision = ports.governance.current();
    revision.backends.get(&grant.record.backend).is_none_or(|backend| backend.undoes_what_is_late(handle))
}

/// When undoing can be believed, if that is later than now: for a grant that never became active.
fn settles_at(ports: &Ports, grant: &Grant, now: Timestamp) -> Option<Timestamp> {
    let settled = grant.record.created_at.plus(ports.limits.settling());
    let never_active = matches!(&grant.state, GrantState::Revoking { activated_at: None, .. });
    (never_active && now < settled).then_some(settled)
}

async fn call(ports: &Ports, grant: &Grant, handle: &Handle) -> Result<Undone, String> {
    let revision = ports.governance.current();
    let name = &grant.record.backend;
    let backend = revision.backends.get(name).ok_or_else(|| format!("backend {name} is no longer configured"))?;
    // A backend of another kind under the same name would find nothing there, and say so: that is no confirmation.
    if backend.kind() != grant.record.backend_kind {
        return Err(format!("backend {name} is no longer of the kind {}", grant.record.backend_kind));
    }
    fail::fail_point!("step::before-undo");
    match tokio::time::timeout(ports.limits.call_deadline.as_duration(), backend.revoke(handle)).await {
        Ok(Ok(undone)) => Ok(undone),
        // Whoever holds the grant reads it there: whatever a backend said, no secret of anybody's is repeated.
        Ok(Err(error)) => Err(scrubbed(&error.internal)),
        Err(_) => Err("no answer within the call deadline".to_owned()),
    }
}

fn retry(ports: &Ports, grant: Grant, error: String) -> Result<(Grant, AuditEntry), StoreError> {
    let attempts = match &grant.state {
        GrantState::Revoking { attempts, .. } => *attempts,
        _ => 0,
    };
    let retry_at = ports.now().plus(backoff(ports, attempts));
    let again = grant.retry(retry_at, error.clone()).map_err(illegal)?;
    let entry = entry(ports, &again, AuditAction::GrantRetry).failed().with("error", &error);
    Ok((again, entry))
}

/// Doubles with each attempt up to the longest, half of it random: many grants that failed together do not come back
/// together.
fn backoff(ports: &Ports, attempts: u32) -> Ttl {
    let doubled = FIRST_BACKOFF.as_secs().saturating_mul(1_u64.checked_shl(attempts).unwrap_or(u64::MAX));
    let longest = doubled.min(LONGEST_BACKOFF.as_secs()).max(1);
    let mut random = [0_u8; 8];
    // Without randomness the backoff loses its jitter and nothing else.
    let _ = ports.entropy.fill(&mut random);
    let jitter = u64::from_be_bytes(random).checked_rem(longest.div_ceil(2)).unwrap_or(0);
    Ttl::from_secs(longest.saturating_sub(jitter).max(1))
}

async fn apply(ports: &Ports, grant: Grant, entry: AuditEntry, reservation: ReservationId) -> Result<bool, StoreError> {
    let held = EndTakenHold::of(&grant);
    let mut change = Change::of(grant, entry);
    change.reservation = Some(reservation);
    let done = ports.store.apply(change).await? == Applied::Done;
    if let Some(held) = held.filter(|_| done) {
        held.count();
    }
    Ok(done)
}

fn entry(ports: &Ports, grant: &Grant, action: AuditAction) -> AuditEntry {
    AuditEntry::success(ports.now(), Actor::Broker, action, AuditObject::Grant { id: grant.record.id })
}

/// The step was computed from the same grant a moment ago; if it is illegal now, the grant is not what its row says.
fn illegal(error: crate::grant::IllegalTransition) -> StoreError {
    StoreError::Inconsistent { table: "grants", column: "state", row: String::new(), problem: error.to_string() }
}
