//! Drives the worker ticks: periodically, when nudged, and again at once while there is more to do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hallpass_core::service::Ports;
use hallpass_core::time::{ClockWatch, Ttl};
use hallpass_core::work::{checkpoint, revocations, step, sweep};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How long a worker waits for a nudge before it looks by itself: the longest that a due grant waits for its step.
const PERIOD: Duration = Duration::from_secs(1);

/// The background workers.
#[derive(Debug)]
pub struct Driver {
    clock_watch: Arc<Mutex<ClockWatch>>,
}

impl Driver {
    /// Starts the workers; they stop when `stopping` turns true, after the tick they are in.
    #[must_use]
    pub fn start(ports: &Ports, checkpoint_every: Ttl, tasks: &TaskTracker, stopping: &watch::Receiver<bool>) -> Self {
        let clock_watch = Arc::new(Mutex::new(ClockWatch::new(ports.clock.as_ref())));
        tasks.spawn(steps(ports.clone(), Arc::clone(&clock_watch), stopping.clone()));
        tasks.spawn(follow(ports.clone(), stopping.clone()));
        tasks.spawn(sweeps(ports.clone(), Arc::clone(&clock_watch), stopping.clone()));
        tasks.spawn(checkpoints(ports.clone(), checkpoint_every.as_duration(), stopping.clone()));
        Self { clock_watch }
    }

    /// An operator confirms that the wall clock is right after a forward step.
    pub fn confirm_clock(&self, ports: &Ports) {
        self.clock_watch.lock().unwrap_or_else(PoisonError::into_inner).confirm(ports.clock.as_ref());
    }
}

async fn steps(ports: Ports, clock_watch: Arc<Mutex<ClockWatch>>, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() {
        let more = match step::tick(&ports, &clock_watch).await {
            Ok(ticked) => {
                metrics::counter!("hallpass_worker_steps_total").increment(u64::try_from(ticked.stepped).unwrap_or(0));
                ticked.taken >= step::BATCH
            }
            Err(error) => {
                tracing::error!(%error, "due grants could not be read; they stay due");
                false
            }
        };
        if !more {
            tokio::select! {
                () = ports.nudge.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
                _ = stopping.changed() => {}
            }
        }
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

async fn sweeps(ports: Ports, clock_watch: Arc<Mutex<ClockWatch>>, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() {
        let more = match sweep::tick(&ports, &clock_watch).await {
            Ok(swept) => {
                metrics::counter!("hallpass_grants_expired_total").increment(u64::try_from(swept.expired).unwrap_or(0));
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
}

async fn checkpoints(ports: Ports, every: Duration, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() {
        sign_checkpoint(&ports).await;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Signs what the audit log has come to. What cannot be done is done the next time.
pub async fn sign_checkpoint(ports: &Ports) {
    match checkpoint::tick(ports).await {
        Ok(size) => tracing::debug!(size, "the audit log's newest checkpoint"),
        Err(error) => tracing::error!(%error, "there is no new checkpoint of the audit log; it is tried again"),
    }
}
