//! Drives the steps of due grants, each backend's apart from the others': one that does not answer delays no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hallpass_core::credential::Effect;
use hallpass_core::id::BackendName;
use hallpass_core::port::{Share, StoreError};
use hallpass_core::service::Ports;
use hallpass_core::time::ClockWatch;
use hallpass_core::work::step::{self, Ticked};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::driver::PERIOD;
use super::vitals::Vitals;

/// Ticks until `stopping` turns true, and then awaits the ticks that run.
pub(super) async fn steps(
    ports: Ports,
    clock_watch: Arc<Mutex<ClockWatch>>,
    vitals: Arc<Vitals>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut hands = Hands { ports, clock_watch, hands: BTreeMap::new(), ticks: JoinSet::new() };
    while !*stopping.borrow() {
        let next = hands.set_to_work();
        tokio::select! {
            () = hands.ports.nudge.notified() => hands.nudge(),
            () = tokio::time::sleep(next) => {}
            Some(done) = hands.ticks.join_next_with_id() => {
                match done {
                    Ok((id, ticked)) => hands.rest(id, note(ticked, &vitals)),
                    Err(error) => {
                        tracing::error!(%error, "a tick broke off; what it held stays due");
                        hands.rest(error.id(), false);
                    }
                }
            }
            _ = stopping.changed() => {}
        }
    }
    while hands.ticks.join_next().await.is_some() {}
}

/// What a hand works on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    /// What begins to end, of whatever backend: it is said at once, also while another call to its backend hangs.
    NotEnding,
    /// What is due of a backend that is called over the network.
    Of(BackendName),
    /// Everything else.
    Rest,
}

struct Hands {
    ports: Ports,
    clock_watch: Arc<Mutex<ClockWatch>>,
    hands: BTreeMap<Whose, Hand>,
    ticks: JoinSet<Result<Ticked, StoreError>>,
}

/// Works on one share.
enum Hand {
    Idle {
        /// In monotonic time.
        until: Duration,
    },
    Working {
        tick: Id,
        again: bool,
    },
}

impl Hands {
    /// Begins a tick for every share whose turn it is. Answers how long until the next one's is.
    fn set_to_work(&mut self) -> Duration {
        let now = self.now();
        let shares = self.shares();
        self.hands.retain(|whose, hand| shares.contains_key(whose) || matches!(hand, Hand::Working { .. }));
        let mut next = PERIOD;
        for (whose, share) in shares {
            match self.hands.get(&whose) {
                Some(Hand::Working { .. }) => {}
                Some(Hand::Idle { until }) if *until > now => next = next.min(until.saturating_sub(now)),
                _ => {
                    let (ports, clock_watch) = (self.ports.clone(), Arc::clone(&self.clock_watch));
                    let tick = self.ticks.spawn(async move { step::tick(&ports, &clock_watch, &share).await });
                    self.hands.insert(whose, Hand::Working { tick: tick.id(), again: false });
                }
            }
        }
        next
    }

    fn shares(&self) -> BTreeMap<Whose, Share> {
        let revision = self.ports.governance.current();
        let remote = revision.backends.iter().filter(|(_, backend)| backend.effect() == Effect::Remote);
        let remote: Vec<BackendName> = remote.map(|(name, _)| name.clone()).collect();
        let rest = if remote.is_empty() { Share::All } else { Share::ExceptOf(remote.clone()) };
        let of_each = remote.into_iter().map(|name| (Whose::Of(name.clone()), Share::Of(name)));
        of_each.chain([(Whose::Rest, rest), (Whose::NotEnding, Share::NotEnding)]).collect()
    }

    fn now(&self) -> Duration {
        self.ports.clock.monotonic()
    }

    /// Something is due that no tick has seen.
    fn nudge(&mut self) {
        let now = self.now();
        for hand in self.hands.values_mut() {
            match hand {
                Hand::Idle { until } => *until = now,
                Hand::Working { again, .. } => *again = true,
            }
        }
    }

    fn rest(&mut self, done: Id, more: bool) {
        let now = self.now();
        for hand in self.hands.values_mut() {
            if let Hand::Working { tick, again } = hand
                && *tick == done
            {
                let until = if *again || more { now } else { now.saturating_add(PERIOD) };
                *hand = Hand::Idle { until };
            }
        }
    }
}

/// Whether more is due than one tick takes.
fn note(ticked: Result<Ticked, StoreError>, vitals: &Vitals) -> bool {
    match ticked {
        Ok(ticked) => {
            vitals.note("workers", None, None);
            metrics::counter!("hallpass_worker_steps_total").increment(u64::try_from(ticked.stepped).unwrap_or(0));
            ticked.taken >= step::BATCH
        }
        Err(error) => {
            tracing::error!(%error, "due grants could not be read; they stay due");
            vitals.note("workers", None, Some("due grants cannot be read; they stay due".to_owned()));
            false
        }
    }
}
