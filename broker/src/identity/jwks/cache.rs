//! The keys of one issuer, kept fresh.
//!
//! The invariants: a key that its issuer removed verifies nothing after `max_age` while the issuer answers, and after
//! `max_age + grace` in any case; whatever key ids arrive, the issuer is asked at most once per `min_interval`, by one
//! request at a time on which all others wait. An unknown key id needs no memory of its own for that: until the next
//! request is allowed, every id that is not in the set is answered from the set, however many there are. A trust bundle
//! whose sequence is lower than that of the one held does not take its place, for as long as the broker runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::id::IssuerName;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use tokio::sync::watch;
use url::Url;

use super::source::{FetchError, Fetched, File, Remote, Source, WorkloadApi, discovery_url};
use super::{KeySet, KeySetError, NoKey, VerificationKey};
use crate::config::issuer::{BundleSource, Issuer, JwsAlgorithm, KeyRefresh, KeySource, SpiffeIssuer};
use crate::outbound::workload_api;
use crate::outbound::{AllowHttp, Outbound, OutboundError, check_url};

/// A file of keys is looked at this often at most.
const FILE_INTERVAL: Ttl = Ttl::from_secs(1);

/// Why an issuer's keys cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysUnusable {
    /// The keys in the configuration cannot be read.
    #[error("the inline keys are not usable: {0}")]
    Inline(#[source] KeySetError),
    /// None of the keys in the configuration can verify anything.
    #[error("the inline keys hold none that can verify{0}")]
    NoInlineKey(String),
    /// The URL of the keys or of the issuer is not absolute.
    #[error("{0:?} is not an absolute URL")]
    Url(String),
    /// The URL may not be called.
    #[error("{0:?} cannot be used: {1}")]
    RefusedUrl(String, #[source] OutboundError),
}

/// The keys of one issuer. Cheap to clone; clones share the keys.
#[derive(Clone, Debug)]
pub struct KeyCache(Arc<Inner>);

struct Inner {
    issuer: IssuerName,
    clock: Arc<dyn Clock>,
    refresh: KeyRefresh,
    kind: Kind,
    held: ArcSwapOption<Held>,
    source: tokio::sync::Mutex<Option<Source>>,
    flight: Mutex<Flight>,
}

/// Where the keys are.
enum Place {
    Inline(KeySet),
    File(File),
    Remote(Source),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Never refreshed.
    Inline,
    /// Refreshed when asked for and due; that takes no time worth avoiding.
    File,
    /// Refreshed before it is due, and in the background while the issuer does not answer.
    Remote,
}

/// Keys, and since when they are held.
struct Held {
    keys: Arc<KeySet>,
    since: Moment,
    /// How long they are fresh.
    lifetime: Ttl,
}

/// What is known of fetching.
#[derive(Default)]
struct Flight {
    /// When the last fetch began.
    began: Option<Duration>,
    /// Resolves when the fetch that is under way has ended.
    running: Option<watch::Receiver<bool>>,
    /// How the last fetch failed.
    failure: Option<FetchError>,
    /// When the discovery document was last read.
    discovered: Option<Moment>,
}

/// A reading of both clocks. Age is the greater of the two differences: a wall clock that is set back, or a machine
/// that slept, must not keep keys alive.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall: Timestamp,
    monotonic: Duration,
}

impl KeyCache {
    /// The keys of an issuer. Nothing is fetched yet. `allow_http` is where plain http may go, unless the issuer's own
    /// setting allows more.
    ///
    /// # Errors
    /// [`KeysUnusable`] when the settings cannot work.
    pub fn new(
        settings: &Issuer,
        clock: Arc<dyn Clock>,
        client: Arc<Outbound>,
        allow_http: AllowHttp,
    ) -> Result<Self, KeysUnusable> {
        let source = match &settings.keys {
            KeySource::Inline(text) => Place::Inline(inline(text)?),
            KeySource::File(path) => Place::File(File::new(path.clone(), KeySet::parse)),
            KeySource::JwksUri { url, dangerous_allow_http } => {
                let allow_http = widen(allow_http, *dangerous_allow_http);
                let url = callable(url, Url::parse(url), allow_http)?;
                Place::Remote(Source::Remote(Box::new(Remote::fixed(client, allow_http, url, KeySet::parse))))
            }
            KeySource::Discovery { jwks_origins, dangerous_allow_http } => {
                let allow_http = widen(allow_http, *dangerous_allow_http);
                let document = callable(&settings.url, discovery_url(&settings.url), allow_http)?;
                let remote = Remote::discovered(client, allow_http, &settings.url, document, jwks_origins.clone());
                Place::Remote(Source::Remote(Box::new(remote)))
            }
        };
        Ok(Self::at(&settings.name, source, settings.refresh, clock))
    }

    /// The trust bundle of a trust domain: its keys, and its authorities. Nothing is fetched yet.
    ///
    /// # Errors
    /// [`KeysUnusable`] when the settings cannot work.
    pub fn of_bundle(
        settings: &SpiffeIssuer,
        clock: Arc<dyn Clock>,
        client: Arc<Outbound>,
        allow_http: AllowHttp,
    ) -> Result<Self, KeysUnusable> {
        let source = match &settings.bundle {
            BundleSource::Inline(text) => {
                Place::Inline(KeySet::parse_bundle(text.as_bytes()).map_err(KeysUnusable::Inline)?)
            }
            BundleSource::File(path) => Place::File(File::new(path.clone(), KeySet::parse_bundle)),
            BundleSource::HttpsWeb { url, dangerous_allow_http } => {
                let allow_http = widen(allow_http, *dangerous_allow_http);
                let url = callable(url, Url::parse(url), allow_http)?;
                let remote = Remote::fixed(client, allow_http, url, KeySet::parse_bundle);
                Place::Remote(Source::Remote(Box::new(remote)))
            }
            BundleSource::WorkloadApi(socket) => {
                let api = workload_api::Client::new(socket.clone());
                Place::Remote(Source::WorkloadApi(WorkloadApi::new(api, settings.trust_domain.clone())))
            }
        };
        Ok(Self::at(&settings.name, source, settings.refresh, clock))
    }

    fn at(issuer: &IssuerName, place: Place, mut refresh: KeyRefresh, clock: Arc<dyn Clock>) -> Self {
        let mut held = None;
        let (kind, source) = match place {
            Place::Inline(keys) => {
                report(issuer, &keys, None);
                held = Some(Arc::new(Held { keys: Arc::new(keys), since: Moment::read(&*clock), lifetime: Ttl::ZERO }));
                (Kind::Inline, None)
            }
            Place::File(file) => {
                refresh = KeyRefresh { max_age: FILE_INTERVAL, min_interval: FILE_INTERVAL, grace: refresh.grace };
                (Kind::File, Some(Source::File(file)))
            }
            Place::Remote(source) => (Kind::Remote, Some(source)),
        };
        Self(Arc::new(Inner {
            issuer: issuer.clone(),
            clock,
            refresh,
            kind,
            held: ArcSwapOption::new(held),
            source: tokio::sync::Mutex::new(source),
            flight: Mutex::default(),
        }))
    }

    /// The key that a proof's header means, fetching keys where that is due and allowed.
    ///
    /// # Errors
    /// A [`Refusal`]: no such key, not a fit one, or no keys that are fresh enough.
    pub async fn find(&self, key_id: Option<&str>, algorithm: JwsAlgorithm) -> Result<Arc<VerificationKey>, Refusal> {
        let inner = &self.0;
        if let Some(held) = inner.held.load_full() {
            let fresh = inner.is_fresh(&held);
            if fresh || (inner.is_in_grace(&held) && inner.issuer_is_silent()) {
                match held.keys.select(key_id, algorithm) {
                    Err(NoKey::Unknown) => {} // It may have been published since.
                    selected => {
                        if !fresh || inner.is_nearly_due(&held) {
                            inner.join_or_begin();
                        }
                        return selected.cloned().map_err(Refusal::from);
                    }
                }
            }
        }
        self.refresh().await;
        let failure = inner.flight().failure.clone();
        match (inner.held.load_full(), failure) {
            (Some(held), failure) if inner.is_fresh(&held) || inner.is_in_grace(&held) => {
                match (held.keys.select(key_id, algorithm), failure) {
                    // Whether the issuer has such a key by now is not known.
                    (Err(NoKey::Unknown), Some(failure @ FetchError::Unavailable(_))) => Err(unavailable(&failure)),
                    (selected, _) => selected.cloned().map_err(Refusal::from),
                }
            }
            (None, Some(FetchError::Unusable(error))) => {
                Err(Refusal::from(NoKey::Unknown).because(FetchError::Unusable(error).to_string()))
            }
            (_, Some(failure)) => Err(unavailable(&failure)),
            (_, None) => Err(unavailable(&"they have not been fetched yet")),
        }
    }

    /// All keys that may verify now, fetching them where that is due and allowed.
    ///
    /// # Errors
    /// A [`Refusal`] where there are none that are fresh enough.
    pub async fn current(&self) -> Result<Arc<KeySet>, Refusal> {
        let inner = &self.0;
        if let Some(held) = inner.held.load_full() {
            let fresh = inner.is_fresh(&held);
            if fresh || (inner.is_in_grace(&held) && inner.issuer_is_silent()) {
                if !fresh || inner.is_nearly_due(&held) {
                    inner.join_or_begin();
                }
                return Ok(Arc::clone(&held.keys));
            }
        }
        self.refresh().await;
        let failure = inner.flight().failure.clone();
        match (inner.held.load_full(), failure) {
            (Some(held), _) if inner.is_fresh(&held) || inner.is_in_grace(&held) => Ok(Arc::clone(&held.keys)),
            (_, Some(failure)) => Err(unavailable(&failure)),
            (_, None) => Err(unavailable(&"they have not been fetched yet")),
        }
    }

    /// Whether the key that a proof's header means is held and may verify now. Fetches nothing.
    #[must_use]
    pub fn holds(&self, key_id: Option<&str>, algorithm: JwsAlgorithm) -> bool {
        let held = self.0.held.load_full().filter(|held| self.0.is_fresh(held) || self.0.is_in_grace(held));
        held.is_some_and(|held| held.keys.select(key_id, algorithm).is_ok())
    }

    /// Fetches the keys, or waits for the fetch that is under way; does nothing within `min_interval` of the last.
    /// Whether it worked shows in [`KeyCache::is_usable`].
    pub async fn refresh(&self) {
        if let Some(mut landed) = self.0.join_or_begin() {
            // An error says that the fetch ended without a word, which is an end too.
            let _ended = landed.wait_for(|landed| *landed).await;
        }
    }

    /// Whether keys are held that may verify now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.0.held.load_full().is_some_and(|held| self.0.is_fresh(&held) || self.0.is_in_grace(&held))
    }
}

/// How an issuer's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHealth {
    /// They are held, and fresh.
    Held,
    /// Nobody needed them yet.
    NotAsked,
    /// They are held, and could not be fetched again: they verify for as long as they may.
    Ageing,
    /// There are none that may verify, and fetching them failed.
    Away,
}

impl KeyCache {
    /// How the keys are. Where there are none although they were asked for, they are asked for again in the background,
    /// within the bounds of every fetch: whoever sends no requests because of that would never learn that it is over.
    #[must_use]
    pub fn health(&self) -> KeyHealth {
        let failed = self.0.flight().failure.is_some();
        match (self.is_usable(), failed) {
            (true, false) => KeyHealth::Held,
            (true, true) => KeyHealth::Ageing,
            (false, false) => KeyHealth::NotAsked,
            (false, true) => {
                let _landing = self.0.join_or_begin();
                KeyHealth::Away
            }
        }
    }
}

impl Inner {
    fn is_fresh(&self, held: &Held) -> bool {
        self.kind == Kind::Inline || held.since.age(&*self.clock) < held.lifetime.as_duration()
    }

    fn is_in_grace(&self, held: &Held) -> bool {
        held.since.age(&*self.clock) < self.refresh.max_age.plus(self.refresh.grace).as_duration()
    }

    /// Whether three quarters of the lifetime are over: fetching now, in the background, spares requests the wait.
    fn is_nearly_due(&self, held: &Held) -> bool {
        self.kind == Kind::Remote && held.since.age(&*self.clock) >= held.lifetime.as_duration().mul_f32(0.75)
    }

    /// Whether the last fetch failed. Then requests are served under grace without waiting for the next attempt, or a
    /// hanging issuer would make every request hang with it.
    fn issuer_is_silent(&self) -> bool {
        self.kind == Kind::Remote && self.flight().failure.is_some()
    }

    /// Joins the fetch that is under way, or begins one if that is allowed again. It runs in a task of its own, so that
    /// a caller who hangs up does not end it for the others.
    fn join_or_begin(self: &Arc<Self>) -> Option<watch::Receiver<bool>> {
        if self.kind == Kind::Inline {
            return None;
        }
        let mut flight = self.flight();
        if flight.running.is_some() {
            return flight.running.clone();
        }
        let now = self.clock.monotonic();
        if flight.began.is_some_and(|began| now.saturating_sub(began) < self.refresh.min_interval.as_duration()) {
            return None;
        }
        let (landed, landing) = watch::channel(false);
        flight.began = Some(now);
        flight.running = Some(landing.clone());
        drop(flight);
        let ends = Landing { cache: Arc::clone(self), landed };
        tokio::spawn(async move {
            ends.cache.fetch().await;
            drop(ends);
        });
        Some(landing)
    }

    async fn fetch(&self) {
        let mut source = self.source.lock().await;
        let Some(source) = source.as_mut() else { return };
        let began = Moment::read(&*self.clock);
        let discovered = self.flight().discovered;
        let discover = discovered.is_none_or(|at| at.age(&*self.clock) >= self.refresh.max_age.as_duration());
        let fetched = source.fetch(discover).await;
        let outcome = match fetched {
            Ok(Fetched::Keys(keys, max_age)) => {
                let previous = self.held.load_full();
                match previous.as_ref().and_then(|held| outdated(&keys, &held.keys)) {
                    Some(outdated) => {
                        // What its source has is not what is held, though it may never change again.
                        source.forget();
                        Err(outdated)
                    }
                    None => {
                        let max_age = keys.refresh_hint.or(max_age);
                        report(&self.issuer, &keys, previous.as_ref().map(|held| &*held.keys));
                        self.hold(Arc::new(keys), began, max_age);
                        Ok(())
                    }
                }
            }
            Ok(Fetched::Unchanged(max_age)) => match self.held.load_full() {
                Some(held) => {
                    let max_age = held.keys.refresh_hint.or(max_age);
                    self.hold(Arc::clone(&held.keys), began, max_age);
                    Ok(())
                }
                None => Err(FetchError::Unavailable("unchanged keys, though none are held".to_owned())),
            },
            Err(error) => Err(error),
        };
        let told = if outcome.is_ok() { "ok" } else { "failed" };
        let issuer = self.issuer.to_string();
        metrics::counter!("hallpass_issuer_key_fetches_total", "issuer" => issuer, "outcome" => told).increment(1);
        let mut flight = self.flight();
        if let Err(error) = &outcome {
            tracing::warn!(issuer = %self.issuer, %error, "cannot refresh the keys of an issuer");
        } else if discover {
            flight.discovered = Some(began);
        }
        flight.failure = outcome.err();
    }

    /// Holds keys as of when their fetch began. Their issuer says how long; the operator says within which bounds.
    fn hold(&self, keys: Arc<KeySet>, since: Moment, max_age: Option<Ttl>) {
        let KeyRefresh { max_age: longest, min_interval: shortest, .. } = self.refresh;
        let lifetime = max_age.unwrap_or(longest).max(shortest).min(longest);
        self.held.store(Some(Arc::new(Held { keys, since, lifetime })));
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // Nothing that holds the lock can panic, and every field stands on its own.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a fetch for those who wait, also if it panicked.
struct Landing {
    cache: Arc<Inner>,
    landed: watch::Sender<bool>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.cache.flight().running = None;
        self.landed.send_replace(true);
    }
}

impl Moment {
    fn read(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    fn age(self, clock: &dyn Clock) -> Duration {
        let wall = clock.now().as_millis().saturating_sub(self.wall.as_millis());
        let wall = Duration::from_millis(u64::try_from(wall).unwrap_or(0));
        wall.max(clock.monotonic().saturating_sub(self.monotonic))
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyCache").field("issuer", &self.issuer).field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn inline(text: &str) -> Result<KeySet, KeysUnusable> {
    let keys = KeySet::parse(text.as_bytes()).map_err(KeysUnusable::Inline)?;
    if keys.keys().len() == 0 {
        let why = keys.refused().first().map(|refused| format!(": {}", refused.why)).unwrap_or_default();
        return Err(KeysUnusable::NoInlineKey(why));
    }
    Ok(keys)
}

fn callable(given: &str, url: Result<Url, url::ParseError>, allow_http: AllowHttp) -> Result<Url, KeysUnusable> {
    let url = url.map_err(|_| KeysUnusable::Url(given.to_owned()))?;
    check_url(&url, allow_http).map_err(|error| KeysUnusable::RefusedUrl(given.to_owned(), error))?;
    Ok(url)
}

const fn widen(allow_http: AllowHttp, dangerous_allow_http: bool) -> AllowHttp {
    if dangerous_allow_http { AllowHttp::DangerousAnywhere } else { allow_http }
}

fn unavailable(why: &dyn std::fmt::Display) -> Refusal {
    let detail = "the issuer's keys cannot be had at the moment, or not freshly enough; try again later";
    Refusal::proof(Reason::JwksUnavailable, detail).because(why.to_string())
}

/// Why a bundle must not take the place of the one that is held (SPIFFE Trust Domain and Bundle §4.1.1: the sequence of a
/// trust domain's bundles only grows). Whoever can put an older copy where the bundle is read would otherwise bring an
/// authority back that was removed, for whose key somebody may have waited. One that does not say its place, where the one
/// before it did, could be any.
fn outdated(fetched: &KeySet, held: &KeySet) -> Option<FetchError> {
    let before = held.sequence?;
    fetched.sequence.is_none_or(|now| now < before).then_some(FetchError::Outdated { now: fetched.sequence, before })
}

/// Tells the operator once of keys that are refused: a weak key is a misconfigured issuer, a private one a compromised.
fn report(issuer: &IssuerName, keys: &KeySet, previous: Option<&KeySet>) {
    for refused in keys.refused() {
        if previous.is_some_and(|previous| previous.refused().contains(refused)) {
            continue;
        }
        if refused.is_compromised {
            tracing::error!(%issuer, key_id = ?refused.key_id, why = refused.why, "an issuer is compromised");
        } else {
            tracing::warn!(%issuer, key_id = ?refused.key_id, why = refused.why, "refusing a key that an issuer publishes");
        }
    }
    if let Some(previous) = previous
        && let Some(sequence) = keys.sequence.filter(|sequence| previous.sequence == Some(*sequence))
        && !keys.trusts_the_same(previous)
    {
        tracing::warn!(%issuer, sequence, "a trust bundle changed and its spiffe_sequence did not: which of the two is newer cannot be told");
    }
    if keys.keys().len() == 0 && keys.authorities().is_empty() {
        tracing::warn!(%issuer, "an issuer publishes no key that can verify: none of its proofs is accepted");
    }
}
