//! The states of a grant. Each holds only its own data; transitions consume the grant and can only go forward.
//!
//! ```text
//! pending ──► active ──► revoking ──► revoked   (hard, confirmed)
//!    │           │          ├───────► expired   (fenced, expiry_only; hard, where nothing could be undone)
//!    │           └► expired └───────► abandoned (an operator, with a reason)
//!    ├► failed  (refused before any effect)
//!    └► revoking (any other failure)
//! ```

use serde::{Deserialize, Serialize};

use super::Grant;
use crate::credential::RevocationClass;
use crate::time::{Timestamp, Ttl};

/// Where a grant is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantState {
    /// Durable intent; the backend has not answered yet.
    Pending {
        /// When waiting for the backend ends.
        deadline: Timestamp,
    },
    /// The credential may be in use.
    Active {
        /// Since when.
        activated_at: Timestamp,
    },
    /// On its way out: undone, or waiting until it can no longer work.
    Revoking {
        /// Since when the credential was in use, if it ever was.
        activated_at: Option<Timestamp>,
        /// Why it ends.
        ending: Ending,
        /// Since when verifiers refuse it.
        fenced_at: Option<Timestamp>,
        /// How often undoing was tried.
        attempts: u32,
        /// When it is tried next.
        retry_at: Timestamp,
        /// What the last try said, scrubbed.
        last_error: Option<String>,
    },
    /// The backend confirmed that the credential is gone.
    Revoked {
        /// Since when the credential was in use, if it ever was.
        activated_at: Option<Timestamp>,
        /// Why it ended.
        ending: Ending,
        /// How often undoing was tried.
        attempts: u32,
        /// When the backend confirmed.
        confirmed_at: Timestamp,
    },
    /// Its time is over.
    Expired {
        /// Since when the credential was in use, if it ever was.
        activated_at: Option<Timestamp>,
        /// Why it ended.
        ending: Ending,
        /// Since when verifiers refused it, if they did before it expired.
        fenced_at: Option<Timestamp>,
        /// When it was over.
        ended_at: Timestamp,
    },
    /// The backend refused before any effect.
    Failed {
        /// Why.
        ending: Ending,
        /// When.
        ended_at: Timestamp,
    },
    /// An operator gave up on it; the credential may still work.
    Abandoned {
        /// Since when the credential was in use, if it ever was.
        activated_at: Option<Timestamp>,
        /// Why it was ending, and who gave up.
        ending: Ending,
        /// Since when verifiers refuse it: giving up does not lift a fence that stands.
        fenced_at: Option<Timestamp>,
        /// How often undoing was tried.
        attempts: u32,
        /// When.
        ended_at: Timestamp,
    },
}

/// Why and by whom a grant ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Stable word.
    pub cause: Cause,
    /// Who asked for it, as `issuer:subject`; none for the broker itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub at: Timestamp,
}

/// Why a grant ends: an open set of stable words, these among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cause(std::borrow::Cow<'static, str>);

impl Cause {
    /// Its time was over.
    pub const EXPIRED: Self = Self(std::borrow::Cow::Borrowed("expired"));
    /// Somebody asked. Not called "revoked": that is a state, and said only when it is true.
    pub const REQUESTED: Self = Self(std::borrow::Cow::Borrowed("requested"));
    /// The caller repeated its request.
    pub const SUPERSEDED: Self = Self(std::borrow::Cow::Borrowed("superseded"));
    /// Another grant took its place.
    pub const REPLACED: Self = Self(std::borrow::Cow::Borrowed("replaced"));
    /// It was one of a set that was revoked.
    pub const REVOCATION: Self = Self(std::borrow::Cow::Borrowed("revocation"));
    /// The grant that it was derived from ended.
    pub const PARENT_ENDED: Self = Self(std::borrow::Cow::Borrowed("parent_ended"));
    /// No sign of life came in time.
    pub const HEARTBEAT_MISSED: Self = Self(std::borrow::Cow::Borrowed("heartbeat_missed"));
    /// The backend did not answer in time.
    pub const DEADLINE_PASSED: Self = Self(std::borrow::Cow::Borrowed("deadline_passed"));
    /// The backend's answer was lost.
    pub const OUTCOME_UNKNOWN: Self = Self(std::borrow::Cow::Borrowed("outcome_unknown"));
    /// The backend refused.
    pub const BACKEND_REFUSED: Self = Self(std::borrow::Cow::Borrowed("backend_refused"));
    /// The backend did not answer.
    pub const BACKEND_UNAVAILABLE: Self = Self(std::borrow::Cow::Borrowed("backend_unavailable"));

    /// The caller hung up before its credential left.
    pub const UNDELIVERED: Self = Self(std::borrow::Cow::Borrowed("undelivered"));

    /// Whether the request that opened the grant may still be repeated under its idempotency key. Not where somebody
    /// decided that the grant ends: whoever captured the request, or a client that retries in good faith, would undo it.
    #[must_use]
    pub fn leaves_repeats(&self) -> bool {
        [
            Self::SUPERSEDED,
            Self::UNDELIVERED,
            Self::EXPIRED,
            Self::HEARTBEAT_MISSED,
            Self::DEADLINE_PASSED,
            Self::OUTCOME_UNKNOWN,
            Self::BACKEND_REFUSED,
            Self::BACKEND_UNAVAILABLE,
        ]
        .contains(self)
    }

    /// A cause from its stored word.
    #[must_use]
    pub fn from_stored(word: String) -> Self {
        Self(std::borrow::Cow::Owned(word))
    }

    /// The stable word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ending {
    /// An ending that the broker itself begins.
    #[must_use]
    pub const fn by_broker(cause: Cause, at: Timestamp) -> Self {
        Self { cause, actor: None, reason: None, at }
    }
}

/// The names of the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// See [`GrantState::Pending`].
    Pending,
    /// See [`GrantState::Active`].
    Active,
    /// See [`GrantState::Revoking`].
    Revoking,
    /// See [`GrantState::Revoked`].
    Revoked,
    /// See [`GrantState::Expired`].
    Expired,
    /// See [`GrantState::Failed`].
    Failed,
    /// See [`GrantState::Abandoned`].
    Abandoned,
}

impl StateName {
    /// Every state.
    pub const ALL: &'static [Self] =
        &[Self::Pending, Self::Active, Self::Revoking, Self::Revoked, Self::Expired, Self::Failed, Self::Abandoned];

    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == word)
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::Failed | Self::Abandoned)
    }
}

/// A transition that the grant's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grant that is {} cannot {attempted}", .from.as_str())]
pub struct IllegalTransition {
    /// State it was in.
    pub from: StateName,
    /// What was attempted.
    pub attempted: &'static str,
}

/// What a worker must do for a grant now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing before this instant; never, when none.
    Wait(Option<Timestamp>),
    /// The backend did not answer in time: begin to undo.
    GiveUpWaiting,
    /// Its end has come: begin to undo.
    BeginEnding,
    /// No sign of life: begin to undo.
    HeartbeatMissed,
    /// Call the backend.
    Undo,
    /// Its time is over and nothing is left behind.
    Expire,
}

/// How long after `expires_at` a credential may still be accepted by a verifier whose clock is behind.
pub const EXPIRY_SKEW: Ttl = Ttl::from_secs(2);

impl Grant {
    /// The name of its state.
    #[must_use]
    pub const fn state_name(&self) -> StateName {
        match self.state {
            GrantState::Pending { .. } => StateName::Pending,
            GrantState::Active { .. } => StateName::Active,
            GrantState::Revoking { .. } => StateName::Revoking,
            GrantState::Revoked { .. } => StateName::Revoked,
            GrantState::Expired { .. } => StateName::Expired,
            GrantState::Failed { .. } => StateName::Failed,
            GrantState::Abandoned { .. } => StateName::Abandoned,
        }
    }

    /// Whether the request that opened it may be repeated: see [`Cause::leaves_repeats`].
    #[must_use]
    pub fn leaves_repeats(&self) -> bool {
        match &self.state {
            GrantState::Pending { .. } | GrantState::Active { .. } => true,
            GrantState::Revoking { ending, .. }
            | GrantState::Revoked { ending, .. }
            | GrantState::Expired { ending, .. }
            | GrantState::Failed { ending, .. }
            | GrantState::Abandoned { ending, .. } => ending.cause.leaves_repeats(),
        }
    }

    /// Whether a verifier that asks the broker should accept its credential now.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        matches!(self.state, GrantState::Active { .. }) && now < self.end_at && !self.missed_heartbeat(now)
    }

    /// Whether a token of the broker's own that names the grant can be its credential: signed by the key that the record
    /// names, and over no later than the grant. Whoever has a signing key can write any token; the record tells it apart.
    #[must_use]
    pub fn can_have_token(&self, key_id: Option<&str>, expires_at: Timestamp) -> bool {
        let signed_by = self.record.signed_by.as_deref();
        expires_at <= self.expires_at && signed_by.is_none_or(|signed_by| key_id == Some(signed_by))
    }

    fn missed_heartbeat(&self, now: Timestamp) -> bool {
        self.heartbeat_deadline().is_some_and(|deadline| now >= deadline)
    }

    fn heartbeat_deadline(&self) -> Option<Timestamp> {
        let seen = self.last_seen_at.unwrap_or(self.record.created_at);
        let silent_since = self.heartbeats_from.map_or(seen, |from| from.max(seen));
        self.record.terms.heartbeat.map(|every| silent_since.plus(every))
    }

    /// When the next step is due; the store keeps this in one indexed column. `None` for final states.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match &self.state {
            GrantState::Pending { deadline } => Some(*deadline),
            GrantState::Active { .. } => {
                // What ends by itself needs no step at its end, unless its end comes before its expiry.
                let by_itself = self.ends_by_itself() && self.end_at >= self.expires_at;
                let natural = if by_itself { self.over_at() } else { self.end_at };
                Some(self.heartbeat_deadline().map_or(natural, |deadline| deadline.min(natural)))
            }
            GrantState::Revoking { retry_at, .. } => Some(*retry_at),
            GrantState::Revoked { .. }
            | GrantState::Expired { .. }
            | GrantState::Failed { .. }
            | GrantState::Abandoned { .. } => None,
        }
    }

    /// When a worker must take a step; `None` where nothing follows, or nothing but the grant's own end
    /// ([`Grant::ends_by_itself_at`]).
    #[must_use]
    pub fn step_due_at(&self) -> Option<Timestamp> {
        let due = self.due_at()?;
        match self.next_step(due) {
            NextStep::Wait(_) | NextStep::Expire => None,
            NextStep::GiveUpWaiting | NextStep::BeginEnding | NextStep::HeartbeatMissed | NextStep::Undo => Some(due),
        }
    }

    /// When the grant is over without anybody's doing: fenced and expiry-only credentials that may be in use.
    #[must_use]
    pub fn ends_by_itself_at(&self) -> Option<Timestamp> {
        let may_be_used = matches!(self.state, GrantState::Active { .. } | GrantState::Revoking { .. });
        (may_be_used && self.ends_by_itself()).then(|| self.over_at())
    }

    /// What a worker must do now. Pure: the same grant and the same instant give the same step.
    #[must_use]
    pub fn next_step(&self, now: Timestamp) -> NextStep {
        let due = self.due_at();
        if due.is_none_or(|due| now < due) {
            return NextStep::Wait(due);
        }
        match &self.state {
            GrantState::Pending { .. } => NextStep::GiveUpWaiting,
            GrantState::Active { .. } if self.ends_by_itself() && now >= self.over_at() => NextStep::Expire,
            GrantState::Active { .. } if now >= self.end_at => NextStep::BeginEnding,
            GrantState::Active { .. } => NextStep::HeartbeatMissed,
            GrantState::Revoking { fenced_at, .. } => match self.record.class() {
                RevocationClass::Hard => NextStep::Undo,
                RevocationClass::Fenced | RevocationClass::ExpiryOnly if now >= self.over_at() => NextStep::Expire,
                RevocationClass::Fenced if fenced_at.is_none() => NextStep::Undo,
                RevocationClass::Fenced | RevocationClass::ExpiryOnly => NextStep::Wait(Some(self.over_at())),
            },
            _ => NextStep::Wait(None),
        }
    }

    /// Fenced and expiry-only credentials leave nothing behind when their time is over.
    fn ends_by_itself(&self) -> bool {
        self.record.class() != RevocationClass::Hard
    }

    /// When its credential can surely not work any more, whoever's clock is asked.
    #[must_use]
    pub fn over_at(&self) -> Timestamp {
        self.expires_at.plus(EXPIRY_SKEW)
    }

    /// What its credential is made with was made: pending still, and its handle is another.
    ///
    /// # Errors
    /// [`IllegalTransition`] from any other state.
    pub fn prepare(self) -> Result<Self, IllegalTransition> {
        let GrantState::Pending { .. } = self.state else { return Err(self.illegal("be prepared")) };
        Ok(self.next_version())
    }

    /// The backend answered: pending → active. `expires_at` can only become earlier.
    ///
    /// # Errors
    /// [`IllegalTransition`] from any other state.
    pub fn activate(
        mut self,
        at: Timestamp,
        backend_expires_at: Timestamp,
        fingerprint: Option<String>,
    ) -> Result<Self, IllegalTransition> {
        let GrantState::Pending { .. } = self.state else { return Err(self.illegal("be activated")) };
        self.expires_at = self.expires_at.min(backend_expires_at);
        self.end_at = self.end_at.min(self.expires_at);
        self.fingerprint = fingerprint;
        // A holder cannot give a sign of life before it holds anything.
        self.last_seen_at = self.last_seen_at.map(|seen| seen.max(at));
        self.state = GrantState::Active { activated_at: at };
        Ok(self.next_version())
    }

    /// The backend refused before any effect: pending → failed.
    ///
    /// # Errors
    /// [`IllegalTransition`] from any other state.
    pub fn fail(mut self, ending: Ending) -> Result<Self, IllegalTransition> {
        let GrantState::Pending { .. } = self.state else { return Err(self.illegal("fail")) };
        self.state = GrantState::Failed { ended_at: ending.at, ending };
        Ok(self.next_version())
    }

    /// Its end begins: pending or active → revoking, first try at once. `fenced` says that this record is itself the
    /// rule that verifiers consult, so that the fence stands with the commit.
    ///
    /// # Errors
    /// [`IllegalTransition`] from any other state.
    pub fn begin_ending(mut self, ending: Ending, fenced: bool) -> Result<Self, IllegalTransition> {
        let activated_at = match self.state {
            GrantState::Pending { .. } => None,
            GrantState::Active { activated_at } => Some(activated_at),
            _ => return Err(self.illegal("begin to end")),
        };
        let at = ending.at;
        let (fenced_at, waits) = match self.record.class() {
            RevocationClass::Hard => (None, false),
            RevocationClass::Fenced => (fenced.then_some(at), fenced),
            RevocationClass::ExpiryOnly => (None, true),
        };
        let retry_at = if waits { self.over_at().max(at) } else { at };
        self.state = GrantState::Revoking { activated_at, ending, fenced_at, attempts: 0, retry_at, last_error: None };
        Ok(self.next_version())
    }

    /// Undoing failed: try again at `retry_at`. There is no attempt after which we stop.
    ///
    /// # Errors
    /// [`IllegalTransition`] unless revoking.
    pub fn retry(mut self, retry_at: Timestamp, error: String) -> Result<Self, IllegalTransition> {
        let GrantState::Revoking { attempts, retry_at: next, last_error, .. } = &mut self.state else {
            return Err(self.illegal("be retried"));
        };
        *attempts = attempts.saturating_add(1);
        *next = retry_at;
        *last_error = Some(error);
        Ok(self.next_version())
    }

    /// The backend confirmed: revoking → revoked, said only of a hard credential (promise 4).
    ///
    /// # Errors
    /// [`IllegalTransition`] unless revoking and hard.
    pub fn confirm(mut self, at: Timestamp) -> Result<Self, IllegalTransition> {
        if self.record.class() != RevocationClass::Hard {
            return Err(self.illegal("be confirmed as revoked, being no hard credential,"));
        }
        let GrantState::Revoking { activated_at, ending, attempts, .. } = self.state else {
            return Err(self.illegal("be confirmed"));
        };
        self.state =
            GrantState::Revoked { activated_at, ending, attempts: attempts.saturating_add(1), confirmed_at: at };
        Ok(self.next_version())
    }

    /// Verifiers refuse the credential now; it stays revoking until it expires.
    ///
    /// # Errors
    /// [`IllegalTransition`] unless revoking and fenced.
    pub fn fence(mut self, at: Timestamp) -> Result<Self, IllegalTransition> {
        let (over_at, fenced) = (self.over_at(), self.record.class() == RevocationClass::Fenced);
        let GrantState::Revoking { fenced_at, attempts, retry_at, last_error, .. } = &mut self.state else {
            return Err(self.illegal("be fenced"));
        };
        if !fenced {
            return Err(self.illegal("be fenced, not being of that class,"));
        }
        *fenced_at = Some(fenced_at.unwrap_or(at));
        *attempts = attempts.saturating_add(1);
        *retry_at = over_at.max(at);
        *last_error = None;
        Ok(self.next_version())
    }

    /// Its time is over and nothing is left behind: active or revoking → expired.
    ///
    /// # Errors
    /// [`IllegalTransition`] for a hard credential, before its time, or from any other state.
    pub fn expire(mut self, at: Timestamp) -> Result<Self, IllegalTransition> {
        if !self.ends_by_itself() || at < self.over_at() {
            return Err(self.illegal("expire yet"));
        }
        let (activated_at, ending, fenced_at) = match self.state {
            GrantState::Active { activated_at } => {
                (Some(activated_at), Ending::by_broker(Cause::EXPIRED, self.expires_at), None)
            }
            GrantState::Revoking { activated_at, ending, fenced_at, .. } => (activated_at, ending, fenced_at),
            _ => return Err(self.illegal("expire")),
        };
        self.state = GrantState::Expired { activated_at, ending, fenced_at, ended_at: at };
        Ok(self.next_version())
    }

    /// Its backend says that nothing but time ends it, whatever its class, and its time is over: revoking → expired. So
    /// it is with a credential that only its own answer could have named, where that answer was lost.
    ///
    /// # Errors
    /// [`IllegalTransition`] before its time, or unless revoking.
    pub fn run_out(mut self, at: Timestamp) -> Result<Self, IllegalTransition> {
        if at < self.over_at() {
            return Err(self.illegal("run out yet"));
        }
        let GrantState::Revoking { activated_at, ending, fenced_at, .. } = self.state else {
            return Err(self.illegal("run out"));
        };
        self.state = GrantState::Expired { activated_at, ending, fenced_at, ended_at: at };
        Ok(self.next_version())
    }

    /// An operator gives up: revoking → abandoned, never revoked.
    ///
    /// # Errors
    /// [`IllegalTransition`] unless revoking.
    pub fn abandon(mut self, at: Timestamp, actor: String, reason: String) -> Result<Self, IllegalTransition> {
        let GrantState::Revoking { activated_at, ending, fenced_at, attempts, .. } = self.state else {
            return Err(self.illegal("be abandoned"));
        };
        let ending = Ending { actor: Some(actor), reason: Some(reason), ..ending };
        self.state = GrantState::Abandoned { activated_at, ending, fenced_at, attempts, ended_at: at };
        Ok(self.next_version())
    }

    /// The backend is about to be asked to extend: from now on the credential may work until `at`, whether or not its
    /// answer ever comes. The end that we bring about stays where it is.
    ///
    /// # Errors
    /// [`IllegalTransition`] unless active.
    pub fn expect_until(mut self, at: Timestamp) -> Result<Self, IllegalTransition> {
        let GrantState::Active { .. } = self.state else { return Err(self.illegal("be renewed")) };
        self.expires_at = self.expires_at.max(at);
        Ok(self.next_version())
    }

    /// A later end, never past `max_expires_at`, never earlier than before; and the latest instant at which the
    /// credential can work, now that the backend has answered.
    ///
    /// # Errors
    /// [`IllegalTransition`] unless active.
    pub fn extend(mut self, end_at: Timestamp, expires_at: Timestamp) -> Result<Self, IllegalTransition> {
        let GrantState::Active { .. } = self.state else { return Err(self.illegal("be renewed")) };
        self.end_at = end_at.min(self.record.terms.max_expires_at).max(self.end_at);
        self.expires_at = expires_at.max(self.end_at);
        Ok(self.next_version())
    }

    /// The holder is alive.
    ///
    /// # Errors
    /// [`IllegalTransition`] unless active.
    pub fn seen(mut self, at: Timestamp) -> Result<Self, IllegalTransition> {
        let GrantState::Active { .. } = self.state else { return Err(self.illegal("be kept alive")) };
        self.last_seen_at = Some(self.last_seen_at.unwrap_or(at).max(at));
        Ok(self.next_version())
    }

    /// A broker runs again, from `at` on: the silence of the holder counts from there, since nobody could hear it before.
    ///
    /// # Errors
    /// [`IllegalTransition`] unless active.
    pub fn resume(mut self, at: Timestamp) -> Result<Self, IllegalTransition> {
        let GrantState::Active { .. } = self.state else { return Err(self.illegal("be resumed")) };
        self.heartbeats_from = Some(self.heartbeats_from.unwrap_or(at).max(at));
        Ok(self.next_version())
    }

    const fn next_version(mut self) -> Self {
        self.version = self.version.saturating_add(1);
        self
    }

    const fn illegal(&self, attempted: &'static str) -> IllegalTransition {
        IllegalTransition { from: self.state_name(), attempted }
    }
}
