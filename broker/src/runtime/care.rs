//! Drives the care for backends, each in a task of its own: one that does not answer delays no other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hallpass_core::credential::Effect;
use hallpass_core::id::BackendName;
use hallpass_core::port::CredentialBackend;
use hallpass_core::service::Ports;
use hallpass_core::work::care::{self, Care, CareFailed, Counted};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::vitals::Vitals;

/// How often a backend's session and spares are looked after.
const PERIOD: Duration = Duration::from_secs(2);
/// How often what is alive there is compared with the record.
const RECONCILE_PERIOD: Duration = Duration::from_secs(30);

/// Looks after every backend that is called over the network, until `stopping` turns true.
pub(super) async fn care(ports: Ports, vitals: Arc<Vitals>, mut stopping: watch::Receiver<bool>) {
    let mut looked_after = HashSet::new();
    let mut tasks = JoinSet::new();
    while !*stopping.borrow() {
        // First: a backend that trusts the broker as an issuer asks it for its keys, and it must answer by then.
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            Some(ended) = tasks.join_next() => match ended {
                Ok(name) => {
                    looked_after.remove(&name);
                }
                Err(error) => {
                    tracing::error!(%error, "looking after a backend broke off; all begin anew");
                    tasks.shutdown().await;
                    looked_after.clear();
                }
            },
            _ = stopping.changed() => continue,
        }
        for name in ports.governance.current().backends.keys() {
            if remote(&ports, name).is_some() && looked_after.insert(name.clone()) {
                tasks.spawn(look_after(ports.clone(), name.clone(), Arc::clone(&vitals), stopping.clone()));
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// The backend of this name, if it is one that is called over the network.
fn remote(ports: &Ports, name: &BackendName) -> Option<Arc<dyn CredentialBackend>> {
    let revision = ports.governance.current();
    revision.backends.get(name).filter(|backend| backend.effect() == Effect::Remote).map(Arc::clone)
}

/// Until it is no longer configured, or `stopping` turns true.
async fn look_after(
    ports: Ports,
    name: BackendName,
    vitals: Arc<Vitals>,
    mut stopping: watch::Receiver<bool>,
) -> BackendName {
    let memory = Care::default();
    let (mut reconcile_at, mut well) = (Duration::ZERO, true);
    while let Some(backend) = remote(&ports, &name).filter(|_| !*stopping.borrow()) {
        let now = ports.clock.monotonic();
        let due = now >= reconcile_at;
        let (counted, trouble) = round(&ports, &name, backend.as_ref(), due.then_some(&memory)).await;
        if counted.is_some() {
            reconcile_at = now.saturating_add(RECONCILE_PERIOD);
        }
        note(&name, counted, trouble, &mut well, &vitals);
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            _ = stopping.changed() => {}
        }
    }
    vitals.note("backend", Some(name.as_str()), None);
    name
}

/// What was counted, where that was due and could be, and what went wrong first. A session that cannot be renewed, or a
/// role whose spares cannot be made, is no reason not to look for what should not be there.
async fn round(
    ports: &Ports,
    name: &BackendName,
    backend: &dyn CredentialBackend,
    reconciling: Option<&Care>,
) -> (Option<Counted>, Option<CareFailed>) {
    let tended = care::tend(ports, backend).await.err();
    let stocked = care::stock(ports, name, backend).await.err();
    let trouble = tended.or(stocked);
    let Some(memory) = reconciling else { return (None, trouble) };
    match care::reconcile(ports, name, backend, memory).await {
        Ok(counted) => (Some(counted), trouble),
        Err(error) => (None, trouble.or(Some(error))),
    }
}

fn note(name: &BackendName, counted: Option<Counted>, trouble: Option<CareFailed>, well: &mut bool, vitals: &Vitals) {
    if let Some(counted) = counted {
        show(name, counted);
    }
    match trouble {
        None => {
            if !std::mem::replace(well, true) {
                tracing::info!(backend = %name, "a backend is looked after again");
            }
            vitals.note("backend", Some(name.as_str()), None);
        }
        Some(error) => {
            // Once, until it is over: an outage must not fill the log.
            if std::mem::replace(well, false) {
                tracing::warn!(backend = %name, %error, "a backend cannot be looked after; it is tried again");
            }
            vitals.note("backend", Some(name.as_str()), Some(format!("it cannot be looked after: {error}")));
        }
    }
}

fn show(name: &BackendName, counted: Counted) {
    let Counted { ours, strays, undone, others, doors } = counted;
    for (what, number) in [("ours", ours), ("stray", strays), ("others", others), ("door", doors)] {
        metrics::gauge!("hallpass_backend_inventory", "backend" => name.to_string(), "what" => what)
            .set(f64::from(u32::try_from(number).unwrap_or(u32::MAX)));
    }
    metrics::counter!("hallpass_backend_strays_undone_total", "backend" => name.to_string())
        .increment(u64::try_from(undone).unwrap_or(0));
}
