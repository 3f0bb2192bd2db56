//! Drives the worker ticks: periodically, when nudged, and again at once while there is more to do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hallpass_core::service::{Export, Ports};
use hallpass_core::time::{ClockWatch, Ttl};
use hallpass_core::work::{checkpoint, export, revocations, sweep};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::vitals::Vitals;
use super::{care, hands};
use crate::keys::KeyKeeper;

/// How long a worker waits for a nudge before it looks by itself: the longest that a due grant waits for its step.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// How often the signing keys are looked after: their lives are counted in hours.
const KEY_PERIOD: Duration = Duration::from_secs(30);

/// The background workers.
#[derive(Debug)]
pub struct Driver {
    clock_watch: Arc<Mutex<ClockWatch>>,
    vitals: Arc<Vitals>,
}

impl Driver {
    /// Starts the workers; they stop when `stopping` turns true, after the tick they are in.
    #[must_use]
    pub fn start(ports: &Ports, checkpoint_every: Ttl, tasks: &TaskTracker, stopping: &watch::Receiver<bool>) -> Self {
        let clock_watch = Arc::new(Mutex::new(ClockWatch::new(ports.clock.as_ref())));
        let vitals = Arc::<Vitals>::default();
        let noted = || Arc::clone(&vitals);
        tasks.spawn(hands::steps(ports.clone(), Arc::clone(&clock_watch), noted(), stopping.clone()));
        tasks.spawn(care::care(ports.clone(), noted(), stopping.clone()));
        tasks.spawn(follow(ports.clone(), stopping.clone()));
        tasks.spawn(sweeps(ports.clone(), Arc::clone(&clock_watch), noted(), stopping.clone()));
        for destination in &ports.evidence.exports {
            tasks.spawn(exports(ports.clone(), Arc::clone(destination), noted(), stopping.clone()));
        }
        tasks.spawn(checkpoints(ports.clone(), checkpoint_every.as_duration(), noted(), stopping.clone()));
        Self { clock_watch, vitals }
    }

    /// How the work goes.
    #[must_use]
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.vitals)
    }

    /// Looks after the signing keys: what nobody need know any longer is removed.
    pub fn tend_keys(
        &self,
        keeper: Arc<KeyKeeper>,
        ports: &Ports,
        tasks: &TaskTracker,
        stopping: &watch::Receiver<bool>,
    ) {
        tasks.spawn(tend_keys(keeper, ports.clone(), Arc::clone(&self.clock_watch), self.vitals(), stopping.clone()));
    }

    /// An operator confirms that the wall clock is right after a forward step.
    pub fn confirm_clock(&self, ports: &Ports) {
        self.clock_watch.lock().unwrap_or_else(PoisonError::into_inner).confirm(ports.clock.as_ref());
        self.vitals.note("clock", None, None);
    }
}

/// Follows revocations. A step of one keeps the store's writer for a moment; whoever came meanwhile is served before the
/// next.
async fn follow(ports: Ports, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() {
        let ticked = revocations::tick(&ports).await;
        metrics::counter!("hallpass_grants_ended_by_revocations_total")
            .increment(u64::try_from(ticked.ended).unwrap_or(0));
        metrics::counter!("hallpass_revocations_completed_total")
            .increment(u64::try_from(ticked.completed).unwrap_or(0));
        if !ticked.more {
            tokio::select! {
                () = ports.revocations.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
                _ = stopping.changed() => {}
            }
        }
    }
}

async fn sweeps(
    ports: Ports,
    clock_watch: Arc<Mutex<ClockWatch>>,
    vitals: Arc<Vitals>,
    mut stopping: watch::Receiver<bool>,
) {
    while !*stopping.borrow() {
        let more = match sweep::tick(&ports, &clock_watch).await {
            Ok(swept) => {
                metrics::counter!("hallpass_grants_expired_total").increment(u64::try_from(swept.expired).unwrap_or(0));
                let stepped =
                    |by| format!("it stepped forward by {by}; expiry and purging pause until SIGHUP confirms it");
                vitals.note("clock", None, swept.clock_stepped_by.map(stepped));
                if let Some(by) = swept.clock_stepped_by {
                    tracing::error!(%by, "the wall clock stepped forward; expiry and purging pause until SIGHUP confirms it");
                }
                swept.expired >= sweep::BATCH || swept.purged >= sweep::BATCH
            }
            Err(error) => {
                tracing::error!(%error, "sweeping failed; it is tried again");
                false
            }
        };
        if !more {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                _ = stopping.changed() => {}
            }
        }
    }
    if let Err(error) = sweep::close(&ports).await {
        tracing::error!(%error, "refusals that were counted could not be told");
    }
}

async fn checkpoints(ports: Ports, every: Duration, vitals: Arc<Vitals>, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() {
        let signed = sign_checkpoint(&ports).await;
        let trouble = (!signed).then(|| "the newest checkpoint cannot be signed or kept; the log says why".to_owned());
        vitals.note("audit_checkpoint", None, trouble);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Signs what the audit log has come to; answers whether that is done. What cannot be done is done the next time.
pub async fn sign_checkpoint(ports: &Ports) -> bool {
    match checkpoint::tick(ports).await {
        Ok(size) => tracing::debug!(size, "the audit log's newest checkpoint"),
        Err(error) => {
            tracing::error!(%error, "there is no new checkpoint of the audit log; it is tried again");
            return false;
        }
    }
    true
}

/// The longest wait before a destination that took nothing is tried again.
const LONGEST_EXPORT_WAIT: Duration = Duration::from_secs(5);

async fn exports(ports: Ports, destination: Arc<Export>, vitals: Arc<Vitals>, mut stopping: watch::Receiver<bool>) {
    let name = destination.sink.name().to_owned();
    // Whoever reads logs and metrics need not know what the collector asks for.
    let shown = destination.shown_name().to_owned();
    let lag = metrics::gauge!("hallpass_audit_export_lag", "destination" => shown.clone());
    let mut wait = PERIOD;
    let mut well = true;
    while !*stopping.borrow() {
        let more = match export::tick(&ports, &destination).await {
            Ok(exported) => {
                if !well {
                    tracing::info!(destination = %shown, "the audit log is taken away again");
                }
                (well, wait) = (true, PERIOD);
                vitals.note("audit_export", Some(&name), None);
                exported.taken > 0
            }
            Err(error) => {
                // Once, until it is over: whoever does not read must not fill the log with it.
                if well {
                    tracing::error!(destination = %shown, %error, "the audit log is not taken away; it is tried again");
                }
                vitals.note("audit_export", Some(&name), Some("it takes nothing; the log says why".to_owned()));
                (well, wait) = (false, wait.saturating_mul(2).min(LONGEST_EXPORT_WAIT));
                false
            }
        };
        lag.set(f64::from(u32::try_from(destination.lag(ports.store.log_size())).unwrap_or(u32::MAX)));
        if !more {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopping.changed() => {}
            }
        }
    }
}

async fn tend_keys(
    keeper: Arc<KeyKeeper>,
    ports: Ports,
    clock_watch: Arc<Mutex<ClockWatch>>,
    vitals: Arc<Vitals>,
    mut stopping: watch::Receiver<bool>,
) {
    while !*stopping.borrow() {
        // A key that went too early would take live credentials with it: not by a clock that may be wrong.
        let stepped = clock_watch.lock().unwrap_or_else(PoisonError::into_inner).observe(ports.clock.as_ref());
        let tended = if stepped.is_none() { keeper.tick().await.map(|_removed| ()) } else { keeper.catch_up().await };
        if let Err(error) = &tended {
            tracing::error!(%error, "the signing keys could not be looked after; it is tried again");
        }
        let trouble = tended.is_err().then(|| "the keys cannot be looked after; the log says why".to_owned());
        vitals.note("key_care", None, trouble);
        tokio::select! {
            () = tokio::time::sleep(KEY_PERIOD) => {}
            _ = stopping.changed() => {}
        }
    }
}
