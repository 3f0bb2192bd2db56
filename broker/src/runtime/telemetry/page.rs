//! The metrics page. What is a state and not an event is looked at when the page is asked for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::port::{Backlog, LiveGrants, StoreError};
use hallpass_core::service::Ports;
use hallpass_core::time::Timestamp;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::http::desk::MetricsPage;

/// Counting all live grants takes longer the more there are: once in this time is enough, however often one asks.
const RECOUNT: Duration = Duration::from_secs(10);

/// The page.
pub struct Page {
    handle: PrometheusHandle,
    ports: Ports,
    counted: Mutex<Option<Duration>>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl Page {
    /// The page of what `handle` collects and of how the record behind `ports` stands.
    #[must_use]
    pub fn new(handle: PrometheusHandle, ports: Ports) -> Self {
        Self { handle, ports, counted: Mutex::default() }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let store = &self.ports.store;
        counter!("hallpass_audit_entries_total").absolute(store.log_size());
        self.show_backlog(store.backlog().await?);
        if self.is_count_due() {
            show_live(store.live().await?);
        }
        for key in store.keys().await? {
            let age = self.seconds_since(Some(key.created_at));
            let labels = [("purpose", key.purpose), ("algorithm", key.algorithm), ("key", key.key_id)];
            gauge!("hallpass_signing_key_age_seconds", &labels).set(age);
        }
        Ok(())
    }

    fn show_backlog(&self, backlog: Backlog) {
        gauge!("hallpass_due_oldest_seconds").set(self.seconds_since(backlog.due));
        gauge!("hallpass_over_oldest_seconds").set(self.seconds_since(backlog.over));
        gauge!("hallpass_revocation_unconfirmed_oldest_seconds").set(self.seconds_since(backlog.unconfirmed));
    }

    /// Zero for what is to come.
    fn seconds_since(&self, instant: Option<Timestamp>) -> f64 {
        let waited = instant.map_or(0, |instant| self.ports.now().as_millis().saturating_sub(instant.as_millis()));
        Duration::from_millis(u64::try_from(waited).unwrap_or(0)).as_secs_f64()
    }

    fn is_count_due(&self) -> bool {
        let now = self.ports.clock.monotonic();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let due = counted.is_none_or(|at| now.saturating_sub(at) >= RECOUNT);
        if due {
            *counted = Some(now);
        }
        due
    }
}

#[async_trait]
impl MetricsPage for Page {
    async fn render(&self) -> String {
        if let Err(error) = self.look().await {
            // The page is most wanted when the store is unwell; what it last said stays on it.
            tracing::warn!(%error, "the metrics page could not look at the store");
        }
        self.handle.render()
    }
}

fn show_live(live: LiveGrants) {
    for (state, number) in [("pending", live.pending), ("active", live.active), ("revoking", live.revoking)] {
        // Exact up to four billion, which no store holds at once.
        gauge!("hallpass_grants", "state" => state).set(f64::from(u32::try_from(number).unwrap_or(u32::MAX)));
    }
}
