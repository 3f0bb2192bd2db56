//! Use-cases, one a file. Each takes the [`Ports`], who is calling and what is wanted, and answers or fails typed.

pub mod abandon;
pub mod accept;
pub mod authenticate;
mod barred;
pub mod configuration;
mod decide;
pub mod distrust;
mod evidence;
mod exports;
pub mod heartbeat;
mod idempotency;
pub mod inspect;
mod known;
mod many;
pub mod open;
pub mod operator;
pub mod quarantine;
pub mod rates;
pub mod receipt;
mod refusals;
pub mod renew;
pub mod revoke;
pub mod revoke_set;
pub mod spares;
pub mod undelivered;
pub mod unread;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::binding::UsedPossessions;
use crate::entropy::{Entropy, EntropyUnavailable, fresh_id};
use crate::error::{Reason, ServiceError};
use crate::port::{Governance, ProofReader, Sealer, StatementSigner, Store, StoreError};
use crate::time::{Clock, Timestamp, Ttl};

pub use accept::{Accepted, Accepting, Live, NotAccepted};
pub use authenticate::Use;
pub use evidence::{Evidence, HistoryBroken, announce};
pub use exports::Export;
pub use rates::{Lane, RateRules, Rates};
pub use refusals::RefusalBudget;
pub use spares::SpareRoom;

/// Everything that the use-cases and the workers need of the world.
#[derive(Clone)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The durable record.
    pub store: Arc<dyn Store>,
    /// The bundle revision in force.
    pub governance: Arc<dyn Governance>,
    /// Who claims to have signed a proof.
    pub reader: Arc<dyn ProofReader>,
    /// Keyed digests of credentials.
    pub sealer: Arc<dyn Sealer>,
    /// Refusals that may still be written one by one.
    pub refusals: Arc<RefusalBudget>,
    /// What the audit log is proved with.
    pub evidence: Arc<Evidence>,
    /// How fast sources, issuers and owners may ask.
    pub rates: Arc<Rates>,
    /// Signs receipts.
    pub statements: Arc<dyn StatementSigner>,
    /// Wakes the worker that follows revocations.
    pub revocations: Arc<Notify>,
    /// Wakes the worker that ends grants.
    pub nudge: Arc<Notify>,
    /// What backends prepared ahead.
    pub spares: Arc<SpareRoom>,
    /// Which proofs of possession were used.
    pub possessions: Arc<UsedPossessions>,
    /// Limits of what the use-cases do.
    pub limits: Limits,
}

/// Limits of what the use-cases do: time limits around backend calls, and how much there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Hard limit of one backend call.
    pub call_deadline: Ttl,
    /// Clock difference allowed between us and a backend.
    pub skew: Ttl,
    /// Most live grants of one owner's roles.
    pub max_live_per_owner: Option<u32>,
    /// Most who may act for one another behind one grant; with 0 nobody acts for anybody.
    pub max_actors: usize,
    /// Most live grants below one that was handed on, at any depth, that one actor holds or is acted through.
    pub max_derived_per_actor: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_deadline: Ttl::from_secs(10),
            skew: Ttl::from_secs(2),
            max_live_per_owner: None,
            max_actors: 3,
            max_derived_per_actor: 64,
        }
    }
}

impl Limits {
    /// How long after the decision the backend may still be called: longer than a store takes to make an intent durable.
    pub(crate) const SENDING: Ttl = Ttl::from_secs(5);

    /// How long after the decision the backend can answer at the latest, and a credential begin its life.
    #[must_use]
    pub fn latest_answer(&self) -> Ttl {
        Self::SENDING.plus(self.call_deadline)
    }

    /// How long a grant may be pending. Longer than the latest answer by the skew: a worker that gives up on a pending
    /// grant must never overtake a call that is still running.
    #[must_use]
    pub fn pending_deadline(&self) -> Ttl {
        self.latest_answer().plus(self.skew)
    }

    /// After an unknown outcome, when undoing is believed: the first try may have run before the credential existed.
    #[must_use]
    pub fn settling(&self) -> Ttl {
        self.pending_deadline().plus(self.call_deadline)
    }
}

impl Ports {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new id.
    ///
    /// # Errors
    /// [`EntropyUnavailable`].
    pub fn fresh_id<I: From<uuid::Uuid>>(&self) -> Result<I, EntropyUnavailable> {
        fresh_id(self.clock.as_ref(), self.entropy.as_ref())
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InvalidCursor => Self::Refused(crate::error::Refusal::request(
                Reason::MalformedRequest,
                "cursor",
                "`cursor` is not one that this list gave; start again without it",
            )),
            StoreError::ClockBehind { .. } => Self::unavailable(
                Reason::ClockBehind,
                "the broker's clock is behind; nothing is issued until it is right",
            ),
            error => {
                tracing::error!(%error, "the store failed");
                Self::unavailable(Reason::StoreUnavailable, "the broker's store does not answer; nothing was changed")
            }
        }
    }
}
