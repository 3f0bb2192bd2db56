//! How every part of the broker is, for `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::id::BackendName;
use hallpass_core::port::{AuditKeys as _, KeyPurpose, SignatureAlgorithm, StoreError, TokenSigners as _};
use hallpass_core::service::Ports;
use hallpass_core::time::{Timestamp, Ttl};

use super::composer::{BackendsHealth, Composer};
use crate::http::desk::{Condition, Part, Readiness};
use crate::identity::jwks::KeyHealth;
use crate::keys::KeyRing;
use crate::runtime::vitals::Vitals;

/// A store that takes longer for one small write does not answer.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a grant may wait for its worker, or for its end, before that is worth a look.
const LONGEST_WAIT: Ttl = Ttl::from_mins(1);
/// So many calls in a row that failed are no accident.
const FAILING: u32 = 3;

/// Looks at the parts.
pub(super) struct Health {
    pub(super) ports: Ports,
    pub(super) composer: Arc<Composer>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) vitals: Arc<Vitals>,
}

#[async_trait]
impl Readiness for Health {
    async fn report(&self) -> Vec<Part> {
        let (store, behind) = self.store().await;
        let queue = match store.status {
            Condition::Ok => queue(&self.ports).await,
            _ => Part::ok("queue").in_condition(Condition::Degraded, "it is in the store"),
        };
        let mut parts = vec![store, queue];
        parts.extend(self.vitals.parts().into_iter().map(|part| match (part.part, &behind) {
            ("clock", Some(behind)) => part.in_condition(Condition::Unready, behind.clone()),
            ("configuration", _) if part.detail.is_none() => {
                Part { detail: Some(format!("revision {} is in force", self.ports.governance.current().id)), ..part }
            }
            _ => part,
        }));
        parts.push(self.signing_keys());
        parts.extend(self.exports());
        parts.extend(self.issuers());
        parts.extend(backends(&self.composer.health.load(), &self.vitals, self.ports.clock.monotonic()));
        parts
    }
}

impl Health {
    /// The store, by a write of its own; and what is wrong with the clock by the latest time that the store has seen.
    async fn store(&self) -> (Part, Option<String>) {
        let part = Part::ok("store");
        match tokio::time::timeout(STORE_DEADLINE, self.ports.store.check(self.ports.now())).await {
            Ok(Ok(())) => (part, None),
            Ok(Err(error @ StoreError::ClockBehind { .. })) => (part, Some(error.to_string())),
            Ok(Err(error)) => (part.in_condition(Condition::Unready, error.to_string()), None),
            Err(_) => (part.in_condition(Condition::Unready, "a write to it does not come to its end"), None),
        }
    }

    fn signing_keys(&self) -> Part {
        let part = Part::ok("signing_keys");
        let signs = |purpose| self.keys.signing(purpose, SignatureAlgorithm::Es256).is_some();
        let uncertified = self.composer.authorities.load().as_ref().and_then(|authorities| authorities.trouble());
        match (signs(KeyPurpose::Token), signs(KeyPurpose::Ca), !self.keys.audit_signers().is_empty()) {
            (true, true, true) => match uncertified {
                Some(trouble) => part.in_condition(Condition::Degraded, trouble),
                None if self.lacks(SignatureAlgorithm::Rs256) => {
                    part.in_condition(Condition::Degraded, "the RS256 key was distrusted, and none was imported since")
                }
                None => part,
            },
            (false, _, _) => part.without_which_nothing_is_issued("there is no key that signs tokens"),
            (_, false, _) => part.in_condition(Condition::Degraded, "there is no key that signs certificates"),
            _ => part.in_condition(Condition::Degraded, "there is no key that signs checkpoints of the audit log"),
        }
    }

    /// Whether the broker has no key for this any more, and something in force asks for one.
    fn lacks(&self, algorithm: SignatureAlgorithm) -> bool {
        self.keys.awaits(algorithm) && self.composer.asked_algorithms.load().contains(&algorithm)
    }

    fn exports(&self) -> Vec<Part> {
        let size = self.ports.store.log_size();
        let part = |export: &Arc<hallpass_core::service::Export>| {
            let (name, lag) = (export.sink.name(), export.lag(size));
            let part = Part::ok("audit_export").named(export.shown_name());
            match self.vitals.trouble("audit_export", Some(name)) {
                _ if lag > export.max_lag => part.without_which_nothing_is_issued(format!(
                    "{lag} entries wait, more than {}: nothing is issued",
                    export.max_lag
                )),
                Some(why) => part.in_condition(Condition::Degraded, format!("{why}; {lag} entries wait")),
                None => part,
            }
        };
        self.ports.evidence.exports.iter().map(part).collect()
    }

    /// Proofs of one issuer are no use for another's: that one is away keeps its own callers waiting, and nobody else.
    fn issuers(&self) -> Vec<Part> {
        let verifiers = self.composer.verifiers.load();
        let domains = self.composer.domains.load();
        let issuers = verifiers.iter().map(|(name, (_, verifier))| (name, verifier.keys().health()));
        let domains = domains.iter().map(|(name, (_, verifier))| (name, verifier.bundle().health()));
        let all: Vec<_> = issuers.chain(domains).collect();
        let nobody = !all.is_empty() && all.iter().all(|(_, health)| *health == KeyHealth::Away);
        let part = |(name, health): (&_, KeyHealth)| {
            let part = Part::ok("issuer").named(name);
            match health {
                KeyHealth::Held => part,
                KeyHealth::NotAsked => part.in_condition(Condition::Ok, "nobody needed its keys lately"),
                KeyHealth::Ageing => part.in_condition(
                    Condition::Degraded,
                    "its keys cannot be fetched again; those that are held verify for as long as they may",
                ),
                KeyHealth::Away if nobody => part.without_which_nothing_is_issued(AWAY),
                KeyHealth::Away => part.in_condition(Condition::Degraded, AWAY),
            }
        };
        all.into_iter().map(part).collect()
    }
}

const AWAY: &str = "its keys cannot be fetched, so that none of its proofs is accepted; the log says why";

/// How long what is to be ended waits.
async fn queue(ports: &Ports) -> Part {
    let part = Part::ok("queue");
    let Ok(backlog) = ports.store.backlog().await else {
        return part.in_condition(Condition::Degraded, "what is due cannot be read");
    };
    let now = ports.now();
    let waited = |since: Option<Timestamp>| since.map_or(Ttl::ZERO, |since| now.since(since));
    let (over, due) = (waited(backlog.over), waited(backlog.due));
    if over > LONGEST_WAIT {
        return part.in_condition(Condition::Degraded, format!("a grant that is over has waited {over} for its end"));
    }
    if due > LONGEST_WAIT {
        return part.in_condition(Condition::Degraded, format!("a grant has been due for {due}"));
    }
    part
}

/// One backend that fails keeps its own roles from being issued; all of them, every role.
fn backends(health: &BackendsHealth, vitals: &Vitals, now: Duration) -> Vec<Part> {
    let all: Vec<_> = health.iter().map(|(name, health)| (name, health.failing_lately(now))).collect();
    let nothing = !all.is_empty() && all.iter().all(|(_, failing)| *failing >= FAILING);
    let part = |(name, failing): (&BackendName, u32)| {
        let part = Part::ok("backend").named(name);
        let why = || format!("{failing} calls failed since the last that did not");
        match failing {
            0 => match vitals.trouble("backend", Some(name.as_str())) {
                Some(why) => part.in_condition(Condition::Degraded, why),
                None => part,
            },
            _ if nothing => part.without_which_nothing_is_issued(why()),
            _ => part.in_condition(Condition::Degraded, why()),
        }
    };
    all.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use hallpass_core::port::CredentialBackend;
    use hallpass_core::testing::{Call, Fault, FaultingBackend, MockClock, Nature, TestSealer, World, sample};
    use hallpass_core::time::Clock;
    use hallpass_sqlite::SqliteStore;

    use super::*;
    use crate::backend::measured::Measured;

    #[tokio::test]
    async fn a_grant_that_waits_too_long_for_its_end_is_told_until_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(TestSealer::new(1));
        let store = SqliteStore::open(&folder.path().join("db"), sealer.clone(), sample::id(99)).unwrap();
        let clock = Arc::new(MockClock::starting_at(sample::NOW));
        let world = World::new(Arc::new(store), sealer, clock, Nature::hard());
        let opened = world.open(&world.request()).await.unwrap();
        assert_eq!(queue(&world.ports).await, Part::ok("queue"));
        let life = opened.grant.end_at.since(world.ports.now());
        world.clock.advance(life.plus(LONGEST_WAIT));
        assert_eq!(queue(&world.ports).await, Part::ok("queue"), "a minute is forgiven");
        world.clock.advance(Ttl::from_secs(2));
        let part = queue(&world.ports).await;
        assert_eq!(part.status, Condition::Degraded, "{part:?}");
        world.step().await.unwrap();
        assert_eq!(queue(&world.ports).await, Part::ok("queue"));
    }

    #[tokio::test]
    async fn a_backend_that_fails_is_told_and_all_that_fail_are_the_end_of_issuing() {
        let clock = Arc::new(MockClock::starting_at(sample::NOW));
        let (mut inner, mut calls, mut health) = (Vec::new(), Vec::new(), BackendsHealth::new());
        for name in ["one", "two"] {
            let name = BackendName::new(name).unwrap();
            let backend = Arc::new(FaultingBackend::new(Arc::clone(&clock), Nature::hard()));
            let of_backend = health.entry(name.clone()).or_default();
            let adapter = Arc::clone(&backend) as Arc<dyn CredentialBackend>;
            calls.push(Measured::new(adapter, name, Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(of_backend)));
            inner.push(backend);
        }
        const OK: (Condition, bool) = (Condition::Ok, true);
        const DEGRADED: (Condition, bool) = (Condition::Degraded, true);
        const ENDS_ALONE: (Condition, bool) = (Condition::Degraded, false);
        let told = || {
            let parts = backends(&health, &Vitals::default(), clock.monotonic());
            parts.into_iter().map(|part| (part.status, part.lets_issue())).collect::<Vec<_>>()
        };
        let fail = async |which: usize| {
            inner[which].next(Call::Revoke, [Some(Fault::Unavailable)]);
            calls[which].revoke(&sample::handle(1)).await.unwrap_err();
        };
        assert_eq!(told(), [OK, OK]);
        fail(0).await;
        assert_eq!(told(), [DEGRADED, OK]);
        for _ in 0..FAILING {
            fail(0).await;
            fail(1).await;
        }
        assert_eq!(told(), [ENDS_ALONE, ENDS_ALONE]);
        calls[1].revoke(&sample::handle(1)).await.unwrap();
        assert_eq!(told(), [DEGRADED, OK]);
        clock.advance(Ttl::from_mins(2));
        assert_eq!(told(), [OK, OK], "of the present nothing is known");
    }
}
