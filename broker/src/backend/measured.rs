//! Any backend, with its calls counted and timed, and whether it is well remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::credential::{Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::{BackendName, SpareId};
use hallpass_core::port::{
    CredentialBackend, ExtendError, FenceRule, InvalidParameters, InventoryItem, InventoryScope, IssueError, Prepared,
    RevokeError, SpareRule, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use metrics::{counter, gauge, histogram};

/// A backend in front of which calls are counted.
pub struct Measured {
    inner: Arc<dyn CredentialBackend>,
    name: BackendName,
    clock: Arc<dyn Clock>,
    health: Arc<BackendHealth>,
}

/// How a backend has been lately.
#[derive(Debug, Default)]
pub struct BackendHealth {
    failing: AtomicU32,
    /// When the last call failed, in milliseconds of the monotonic clock.
    failed_at: AtomicU64,
}

/// For how long a failure says something of the present. Beyond, without another call, nothing is known: whoever stays
/// away because of a failure would never learn that it is over.
const LATELY: Duration = Duration::from_secs(60);

impl BackendHealth {
    /// Calls that failed since the last that did not. A refusal is an answer, and no failure.
    #[must_use]
    pub fn failing_calls(&self) -> u32 {
        self.failing.load(Ordering::Relaxed)
    }

    /// The same, of failures that are no older than a minute at `now`.
    #[must_use]
    pub fn failing_lately(&self, now: Duration) -> u32 {
        let failed_at = Duration::from_millis(self.failed_at.load(Ordering::Relaxed));
        if now.saturating_sub(failed_at) <= LATELY { self.failing_calls() } else { 0 }
    }
}

impl Measured {
    /// Counts the calls to `inner` under `name`; `health` outlives one revision of the bundle.
    #[must_use]
    pub fn new(
        inner: Arc<dyn CredentialBackend>,
        name: BackendName,
        clock: Arc<dyn Clock>,
        health: Arc<BackendHealth>,
    ) -> Self {
        Self { inner, name, clock, health }
    }

    fn call(&self, call: &'static str) -> Call<'_> {
        Call { backend: self, call, began: self.clock.monotonic(), outcome: Outcome::GivenUp }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Refused,
    Unavailable,
    Unknown,
    /// Whoever waited for it stopped waiting.
    GivenUp,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unknown => "outcome_unknown",
            Self::GivenUp => "given_up",
        }
    }
}

/// A call under way. Counted when it is dropped: a caller that stops waiting drops it unfinished.
struct Call<'a> {
    backend: &'a Measured,
    call: &'static str,
    began: Duration,
    outcome: Outcome,
}

impl Call<'_> {
    fn ended<T, E>(mut self, result: Result<T, E>, failed: impl FnOnce(&E) -> Outcome) -> Result<T, E> {
        self.outcome = result.as_ref().err().map_or(Outcome::Ok, failed);
        result
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let Measured { name, clock, health, .. } = self.backend;
        let failing = match self.outcome {
            Outcome::Ok | Outcome::Refused => {
                health.failing.store(0, Ordering::Relaxed);
                0
            }
            Outcome::Unavailable | Outcome::Unknown | Outcome::GivenUp => {
                let now = u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX);
                health.failed_at.store(now, Ordering::Relaxed);
                health.failing.fetch_add(1, Ordering::Relaxed).saturating_add(1)
            }
        };
        let (backend, call) = (name.to_string(), self.call);
        gauge!("hallpass_backend_failing_calls", "backend" => backend.clone()).set(f64::from(failing));
        histogram!("hallpass_backend_call_seconds", "backend" => backend.clone(), "call" => call)
            .record(clock.monotonic().saturating_sub(self.began));
        let outcome = self.outcome.as_str();
        counter!("hallpass_backend_calls_total", "backend" => backend, "call" => call, "outcome" => outcome)
            .increment(1);
    }
}

#[async_trait]
impl CredentialBackend for Measured {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn effect(&self) -> Effect {
        self.inner.effect()
    }

    fn class(&self, role: &Role) -> RevocationClass {
        self.inner.class(role)
    }

    fn min_life(&self, role: &Role) -> Ttl {
        self.inner.min_life(role)
    }

    fn min_life_reason(&self) -> Option<&'static str> {
        self.inner.min_life_reason()
    }

    fn max_life(&self, role: &Role) -> Option<Ttl> {
        self.inner.max_life(role)
    }

    fn yields_single_token(&self, role: &Role) -> bool {
        self.inner.yields_single_token(role)
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        self.inner.validate(role)
    }

    fn serve(&self, roles: &[Arc<Role>]) {
        self.inner.serve(roles);
    }

    fn scope(&self, role: &Role, asked: &[String]) -> Result<Vec<String>, IssueError> {
        self.inner.scope(role, asked)
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        self.inner.plan(order)
    }

    async fn prepare(&self, order: &IssueOrder, planned: &Handle) -> Result<Option<Handle>, IssueError> {
        let call = self.call("prepare");
        call.ended(self.inner.prepare(order, planned).await, outcome)
    }

    fn recognises(&self, handle: &Handle) -> bool {
        self.inner.recognises(handle)
    }

    fn undoes_what_is_late(&self, handle: &Handle) -> bool {
        self.inner.undoes_what_is_late(handle)
    }

    fn fence(&self, role: &Role) -> Option<FenceRule> {
        self.inner.fence(role)
    }

    fn spares(&self, role: &Role) -> Option<SpareRule> {
        self.inner.spares(role)
    }

    async fn make_spare(&self, role: &Role, id: SpareId, expires_at: Timestamp) -> Result<Prepared, IssueError> {
        let call = self.call("make_spare");
        call.ended(self.inner.make_spare(role, id, expires_at).await, outcome)
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let call = self.call("issue");
        call.ended(self.inner.issue(order, handle).await, outcome)
    }

    async fn extend(&self, handle: &Handle, until: Timestamp) -> Result<Timestamp, ExtendError> {
        let call = self.call("extend");
        call.ended(self.inner.extend(handle, until).await, |error| match error {
            ExtendError::Unsupported | ExtendError::Refused(_) => Outcome::Refused,
            ExtendError::Unavailable(_) => Outcome::Unavailable,
        })
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let call = self.call("revoke");
        call.ended(self.inner.revoke(handle).await, |_| Outcome::Unavailable)
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        let call = self.call("inventory");
        call.ended(self.inner.inventory().await, |_| Outcome::Unavailable)
    }

    fn inventory_scope(&self) -> InventoryScope {
        self.inner.inventory_scope()
    }

    async fn tend(&self) -> Result<(), RevokeError> {
        self.inner.tend().await
    }
}

const fn outcome(error: &IssueError) -> Outcome {
    match error {
        IssueError::Refused { .. } | IssueError::Suspended { .. } => Outcome::Refused,
        IssueError::Unavailable { .. } => Outcome::Unavailable,
        IssueError::OutcomeUnknown { .. } => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::{Call as Called, Fault, FaultingBackend, MockClock, Nature, sample};

    use super::*;

    #[tokio::test]
    async fn what_does_not_answer_is_failing_until_it_answers_again() {
        let clock = Arc::new(MockClock::starting_at(sample::NOW));
        let inner = Arc::new(FaultingBackend::new(Arc::clone(&clock), Nature::hard()));
        let health = Arc::new(BackendHealth::default());
        let name = BackendName::new("tokens").unwrap();
        let adapter = Arc::clone(&inner) as Arc<dyn CredentialBackend>;
        let measured = Measured::new(adapter, name, Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(&health));
        for failing in 1..4 {
            inner.next(Called::Revoke, [Some(Fault::Unavailable)]);
            measured.revoke(&sample::handle(1)).await.unwrap_err();
            assert_eq!(health.failing_calls(), failing);
        }
        drop(measured.revoke(&sample::handle(1)));
        assert_eq!(health.failing_calls(), 3, "a call that never began is none");
        assert_eq!(health.failing_lately(clock.monotonic()), 3);
        clock.advance(Ttl::from_secs(61));
        assert_eq!(health.failing_lately(clock.monotonic()), 0, "nothing is known of the present any more");
        clock.advance(Ttl::from_secs(1));
        inner.next(Called::Revoke, [Some(Fault::Unavailable)]);
        measured.revoke(&sample::handle(1)).await.unwrap_err();
        assert_eq!(health.failing_lately(clock.monotonic()), 4, "the first try says that it goes on");
        measured.revoke(&sample::handle(1)).await.unwrap();
        assert_eq!(health.failing_calls(), 0);
    }
}
