//! Any backend that is called over the network, with as many calls at once as it bears, one more try where nothing can
//! have happened, and nothing minted for a while when it does not answer. Undoing is never put off: it has places of its
//! own, and its callers wait longer from try to try.
//!
//! What undoes a credential names the server that it was made at: another server under the same backend's name would know
//! nothing of it, and its "not there" would be taken for the end.
//!
//! Deadlines are the caller's: a call that is given up counts as one that failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hallpass_core::credential::{Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::entropy::Entropy;
use hallpass_core::id::SpareId;
use hallpass_core::port::{
    CredentialBackend, Ended, EndedGrant, EndedGrants, EndedPage, ExtendError, FenceName, FenceRule, InvalidParameters,
    InventoryItem, InventoryScope, IssueError, Prepared, RevokeError, SpareRule, StoreError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::SecretBytes;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Calls to one backend at once. More would wait there and not here.
const PLACES: usize = 64;
/// Of those, how many are for undoing alone: however many ask for credentials, what must end does end.
const KEPT_TO_UNDO: usize = 16;
/// How long a call waits for a place.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// So many calls in a row that failed, and the next ones are not made.
const FAILURES: u32 = 5;
/// How long they are not made at first; doubled each time that the one call after it fails, too.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long at most, half of it at least, until a call is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A backend with a guard before it.
pub struct Guarded {
    inner: Arc<dyn CredentialBackend>,
    guard: Arc<Guard>,
    server: Server,
}

impl Guarded {
    /// Puts the guard, which outlives one revision of the bundle, before `inner`, which mints at `server`.
    #[must_use]
    pub fn new(inner: Arc<dyn CredentialBackend>, guard: Arc<Guard>, server: &str) -> Self {
        Self { inner, guard, server: Server::of(server) }
    }
}

/// Which server a handle is of: the beginning of the SHA-256 of its name in configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server([u8; 16]);

impl Server {
    fn of(name: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let mut server = [0; 16];
        server.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(server)
    }

    /// The handle with the server's name before it.
    fn seal(self, handle: &Handle) -> Handle {
        Handle(SecretBytes::new([&self.0, handle.0.expose()].concat()))
    }

    /// The handle as the adapter made it, if it was made for this server.
    fn open(self, handle: &Handle) -> Option<Handle> {
        let inner = handle.0.expose().strip_prefix(&self.0)?;
        Some(Handle(SecretBytes::new(inner.to_vec())))
    }
}

/// What is over in a record, as the adapter of one server made it: its handles alone, and as they were.
pub struct EndedAt {
    inner: Arc<dyn EndedGrants>,
    server: Server,
}

impl EndedAt {
    /// Of the record, what was minted at `server`.
    #[must_use]
    pub fn new(inner: Arc<dyn EndedGrants>, server: &str) -> Self {
        Self { inner, server: Server::of(server) }
    }
}

#[async_trait]
impl EndedGrants for EndedAt {
    async fn ended_alive(&self, fence: FenceName<'_>, now: Timestamp, page: EndedPage) -> Result<Ended, StoreError> {
        let of_server = |ended: EndedGrant| match ended.handle {
            Ok(handle) => self.server.open(&handle).map(|handle| EndedGrant { handle: Ok(handle), ..ended }),
            // One that cannot be opened must not be taken for one that is not there.
            Err(error) => Some(EndedGrant { handle: Err(error), ..ended }),
        };
        let Ended { grants, next } = self.inner.ended_alive(fence, now, page).await?;
        Ok(Ended { grants: grants.into_iter().filter_map(of_server).collect(), next })
    }

    async fn fences(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<String>, StoreError> {
        self.inner.fences(backend_kind, now).await
    }
}

/// Why a handle of another server is not used.
const ELSEWHERE: &str = "it was made at another server than this backend is configured for now; until that one is \
                         configured again, under this name, it cannot be ended there";

/// What is known of one backend, and how many calls to it run.
pub struct Guard {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    minting: Semaphore,
    undoing: Semaphore,
    breaker: Mutex<Breaker>,
}

#[derive(Debug, Default)]
struct Breaker {
    /// Calls that failed since the last that did not.
    failures: u32,
    /// Until when, in monotonic time, no call is made.
    until: Option<Duration>,
    /// Whether the one call that tells whether it is over is on its way.
    is_probing: bool,
}

impl Guard {
    /// A guard that has seen nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            clock,
            entropy,
            minting: Semaphore::new(PLACES - KEPT_TO_UNDO),
            undoing: Semaphore::new(KEPT_TO_UNDO),
            breaker: Mutex::default(),
        }
    }

    /// Lets a call that mints through, or says why not. Nothing was sent then.
    async fn admit(&self) -> Result<Call<'_>, String> {
        self.breaker().admits(self.clock.monotonic())?;
        // From here on a call that is given up is counted, and a probe that is does not stay one for ever.
        let mut call = Call { guard: self, _place: None, outcome: Some(Outcome::NotMade) };
        call._place = Some(place(&self.minting).await?);
        call.outcome = None;
        Ok(call)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Between half of it and all of it.
    fn jittered(&self, longest: Duration) -> Duration {
        let mut random = [0_u8; 2];
        // Without randomness nothing but the jitter is lost.
        let _ = self.entropy.fill(&mut random);
        longest.mul_f64(0.5 + f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX) / 2.0)
    }
}

/// A place for one call, awaited for as long as a caller may be kept waiting.
async fn place(places: &Semaphore) -> Result<SemaphorePermit<'_>, String> {
    match tokio::time::timeout(LONGEST_WAIT, places.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err("too many calls to it are under way".to_owned()),
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("breaker", &self.breaker).finish_non_exhaustive()
    }
}

impl Breaker {
    fn admits(&mut self, now: Duration) -> Result<(), String> {
        let Some(until) = self.until else { return Ok(()) };
        if now < until || self.is_probing {
            return Err(format!("{} calls to it failed in a row; it is left alone for a moment", self.failures));
        }
        self.is_probing = true;
        Ok(())
    }

    fn note(&mut self, outcome: Outcome, now: Duration, jittered: impl FnOnce(Duration) -> Duration) {
        match outcome {
            Outcome::Answered => *self = Self::default(),
            Outcome::NotMade => self.is_probing = false,
            Outcome::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.is_probing = false;
                if let Some(more) = self.failures.checked_sub(FAILURES) {
                    let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(more).unwrap_or(u32::MAX));
                    self.until = Some(now.saturating_add(jittered(pause.min(LONGEST_PAUSE))));
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Also with a refusal.
    Answered,
    /// Not reached, or not answered.
    Failed,
    /// Not even tried.
    NotMade,
}

/// A call under way. Counted when it is dropped: a caller that stops waiting drops it unfinished.
struct Call<'a> {
    guard: &'a Guard,
    _place: Option<SemaphorePermit<'a>>,
    outcome: Option<Outcome>,
}

impl Call<'_> {
    fn ended<T, E>(mut self, result: Result<T, E>, failed: impl FnOnce(&E) -> bool) -> Result<T, E> {
        self.outcome = Some(if result.as_ref().is_err_and(failed) { Outcome::Failed } else { Outcome::Answered });
        result
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let (guard, outcome) = (self.guard, self.outcome.unwrap_or(Outcome::Failed));
        guard.breaker().note(outcome, guard.clock.monotonic(), |longest| guard.jittered(longest));
    }
}

impl Guarded {
    /// The handle as the adapter made it.
    fn own(&self, handle: &Handle) -> Result<Handle, IssueError> {
        let elsewhere = || IssueError::Unavailable { internal: ELSEWHERE.to_owned() };
        self.server.open(handle).ok_or_else(elsewhere)
    }

    /// One call that mints or prepares, and one more where the first surely had no effect.
    async fn mint<T, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<T, IssueError>
    where
        T: Send,
        F: Future<Output = Result<T, IssueError>> + Send,
    {
        match self.mint_once(&call).await {
            Err(IssueError::Unavailable { .. }) => {}
            answered => return answered,
        }
        tokio::time::sleep(self.guard.jittered(RETRY_AFTER)).await;
        self.mint_once(&call).await
    }

    async fn mint_once<T, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<T, IssueError>
    where
        T: Send,
        F: Future<Output = Result<T, IssueError>> + Send,
    {
        let admitted = self.guard.admit().await.map_err(|internal| IssueError::Unavailable { internal })?;
        admitted.ended(call().await, |error| match error {
            IssueError::Unavailable { .. } | IssueError::OutcomeUnknown { .. } => true,
            IssueError::Refused { .. } | IssueError::Suspended { .. } => false,
        })
    }
}

#[async_trait]
impl CredentialBackend for Guarded {
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
        self.inner.plan(order).map(|planned| self.server.seal(&planned))
    }

    async fn prepare(&self, order: &IssueOrder, planned: &Handle) -> Result<Option<Handle>, IssueError> {
        let planned = self.own(planned)?;
        let prepared = self.mint(|| self.inner.prepare(order, &planned)).await?;
        Ok(prepared.map(|prepared| self.server.seal(&prepared)))
    }

    fn recognises(&self, handle: &Handle) -> bool {
        self.server.open(handle).is_some_and(|handle| self.inner.recognises(&handle))
    }

    fn undoes_what_is_late(&self, handle: &Handle) -> bool {
        self.server.open(handle).is_none_or(|handle| self.inner.undoes_what_is_late(&handle))
    }

    fn fence(&self, role: &Role) -> Option<FenceRule> {
        self.inner.fence(role)
    }

    fn spares(&self, role: &Role) -> Option<SpareRule> {
        self.inner.spares(role)
    }

    async fn make_spare(&self, role: &Role, id: SpareId, expires_at: Timestamp) -> Result<Prepared, IssueError> {
        // No second try: whoever keeps spares comes back by itself.
        let prepared = self.mint_once(|| self.inner.make_spare(role, id, expires_at)).await?;
        Ok(Prepared { handle: self.server.seal(&prepared.handle), ..prepared })
    }

    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let handle = self.own(handle)?;
        let mut issued = self.mint(|| self.inner.issue(order, &handle)).await?;
        issued.handle = issued.handle.map(|handle| self.server.seal(&handle));
        Ok(issued)
    }

    async fn extend(&self, handle: &Handle, until: Timestamp) -> Result<Timestamp, ExtendError> {
        let handle = self.server.open(handle).ok_or_else(|| ExtendError::Refused(ELSEWHERE.to_owned()))?;
        let call = self.guard.admit().await.map_err(ExtendError::Unavailable)?;
        call.ended(self.inner.extend(&handle, until).await, |error| matches!(error, ExtendError::Unavailable(_)))
    }

    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError> {
        let elsewhere = || RevokeError { internal: ELSEWHERE.to_owned() };
        let handle = self.server.open(handle).ok_or_else(elsewhere)?;
        let _place = place(&self.guard.undoing).await.map_err(|internal| RevokeError { internal })?;
        self.inner.revoke(&handle).await
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        let mut items = self.inner.inventory().await?;
        for item in &mut items {
            item.handle = item.handle.take().map(|handle| self.server.seal(&handle));
        }
        Ok(items)
    }

    fn inventory_scope(&self) -> InventoryScope {
        self.inner.inventory_scope()
    }

    async fn tend(&self) -> Result<(), RevokeError> {
        self.inner.tend().await
    }
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::{Call as Called, Fault, FaultingBackend, MockClock, Nature, SeededEntropy, sample};

    use super::*;

    const SERVER: &str = "https://one.test";

    fn guarded_at(server: &str, clock: &Arc<MockClock>, inner: &Arc<FaultingBackend>) -> Guarded {
        let guard = Guard::new(Arc::clone(clock) as Arc<dyn Clock>, Arc::new(SeededEntropy::new(1)));
        Guarded::new(Arc::clone(inner) as Arc<dyn CredentialBackend>, Arc::new(guard), server)
    }

    fn guarded() -> (Arc<MockClock>, Arc<FaultingBackend>, Guarded) {
        let clock = Arc::new(MockClock::starting_at(sample::NOW));
        let inner = Arc::new(FaultingBackend::new(Arc::clone(&clock), Nature::hard()));
        let guarded = guarded_at(SERVER, &clock, &inner);
        (clock, inner, guarded)
    }

    fn order() -> IssueOrder {
        sample::order(1, sample::role("payments/prod/deploy"))
    }

    #[tokio::test]
    async fn where_nothing_is_answered_nothing_is_minted_until_one_call_tells_that_it_is_over() {
        let (clock, inner, guarded) = guarded();
        let (order, handle) = (order(), guarded.plan(&order()).unwrap());
        guarded.issue(&order, &handle).await.unwrap();
        inner.always(Called::Issue, Some(Fault::AnswerLost));
        for _ in 0..FAILURES {
            guarded.issue(&order, &handle).await.unwrap_err();
        }
        let made = inner.calls(Called::Issue);
        let refused = guarded.mint_once(|| guarded.inner.issue(&order, &handle)).await.unwrap_err();
        assert!(refused.to_string().contains("left alone"), "{refused}");
        assert_eq!(inner.calls(Called::Issue), made, "the call is not made");
        guarded.revoke(&handle).await.unwrap();
        assert_eq!(inner.calls(Called::Revoke), 1, "undoing is never put off");

        clock.advance(Ttl::from_secs(1));
        guarded.issue(&order, &handle).await.unwrap_err();
        assert_eq!(inner.calls(Called::Issue), made + 1, "one tells whether it is over");
        guarded.mint_once(|| guarded.inner.issue(&order, &handle)).await.unwrap_err();
        assert_eq!(inner.calls(Called::Issue), made + 1, "it is not, and the rest is not made");

        inner.always(Called::Issue, None);
        clock.advance(Ttl::from_secs(2));
        guarded.issue(&order, &handle).await.unwrap();
        guarded.issue(&order, &handle).await.unwrap();
        assert_eq!(inner.calls(Called::Issue), made + 3, "it answers, and every call is made");
    }

    #[tokio::test]
    async fn what_cannot_be_undone_keeps_nothing_from_being_minted_nor_undone() {
        let (_, inner, guarded) = guarded();
        let (order, handle) = (order(), guarded.plan(&order()).unwrap());
        inner.always(Called::Revoke, Some(Fault::Unavailable));
        for _ in 0..3 * FAILURES {
            guarded.revoke(&handle).await.unwrap_err();
        }
        assert_eq!(inner.calls(Called::Revoke), 3 * FAILURES as usize);
        guarded.issue(&order, &handle).await.unwrap();
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_counts_as_failed_and_gives_its_turn_back() {
        let (clock, inner, guarded) = guarded();
        let (order, handle) = (order(), guarded.plan(&order()).unwrap());
        inner.always(Called::Issue, Some(Fault::Held));
        for _ in 0..FAILURES {
            tokio::time::timeout(Duration::ZERO, guarded.issue(&order, &handle)).await.unwrap_err();
        }
        guarded.mint_once(|| guarded.inner.issue(&order, &handle)).await.unwrap_err();
        assert_eq!(inner.calls(Called::Issue), FAILURES as usize, "after that it is left alone");
        inner.always(Called::Issue, None);
        for wait in [1, 2] {
            clock.advance(Ttl::from_secs(wait));
            guarded.issue(&order, &handle).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_surely_had_no_effect_is_tried_once_more_and_nothing_else_is() {
        let (_, inner, guarded) = guarded();
        let (order, handle) = (order(), guarded.plan(&order()).unwrap());
        inner.next(Called::Issue, [Some(Fault::Unavailable), None]);
        guarded.issue(&order, &handle).await.unwrap();
        assert_eq!(inner.calls(Called::Issue), 2);
        for fault in [Fault::Refused, Fault::AnswerLost] {
            inner.next(Called::Issue, [Some(fault)]);
            let before = inner.calls(Called::Issue);
            guarded.issue(&order, &handle).await.unwrap_err();
            assert_eq!(inner.calls(Called::Issue), before + 1, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn what_was_made_at_one_server_is_not_said_to_be_gone_by_another() {
        let (clock, inner, guarded) = guarded();
        let (order, handle) = (order(), guarded.plan(&order()).unwrap());
        guarded.issue(&order, &handle).await.unwrap();
        let moved = guarded_at("https://other.test", &clock, &inner);
        assert!(guarded.recognises(&handle) && !moved.recognises(&handle));
        let refused = moved.revoke(&handle).await.unwrap_err();
        assert!(refused.internal.contains("another server"), "{refused}");
        moved.issue(&order, &handle).await.unwrap_err();
        moved.extend(&handle, order.expires_at).await.unwrap_err();
        assert_eq!((inner.calls(Called::Revoke), inner.calls(Called::Extend)), (0, 0), "the other one is not asked");
        let again = guarded_at(SERVER, &clock, &inner);
        again.revoke(&handle).await.unwrap();
        assert!(inner.working().is_empty());
    }
}
