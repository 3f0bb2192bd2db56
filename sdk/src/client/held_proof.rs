//! Which proof a call is made with.
//!
//! Opening, renewing and exchanging may consume a single-use proof, so each takes one that consumed nothing yet, as far
//! as the source can give one. Everything else may present a consumed proof: it still authenticates reading and ending
//! its own grants until it expires, and spares the issuer a token per heartbeat.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::proof::{Proof, ProofContext, ProofError, ProofSource};
use super::transport::Transport;
use crate::wire::Timestamp;

/// A proof that expires sooner than this is fetched anew: it could expire on the way.
const EXPIRY_MARGIN_SECONDS: u64 = 30;

pub(super) struct HeldProof {
    source: Option<Arc<dyn ProofSource>>,
    audience: String,
    clock: fn() -> Timestamp,
    held: Mutex<Option<Held>>,
}

struct Held {
    proof: Arc<Proof>,
    consumed: bool,
}

impl HeldProof {
    pub(super) fn new(source: Option<Arc<dyn ProofSource>>, audience: String, clock: fn() -> Timestamp) -> Self {
        Self { source, audience, clock, held: Mutex::new(None) }
    }

    pub(super) fn source(&self) -> Option<&dyn ProofSource> {
        self.source.as_deref()
    }

    /// A proof for a call that may consume it.
    pub(super) async fn consume(&self, transport: &Transport) -> Result<Arc<Proof>, ProofError> {
        let mut held = self.held.lock().await;
        let usable = held
            .as_ref()
            .filter(|held| self.lives(&held.proof) && (!held.consumed || !self.refreshable()))
            .map(|held| Arc::clone(&held.proof));
        let proof = match usable {
            Some(proof) => proof,
            None => self.fetch(transport).await?,
        };
        *held = Some(Held { proof: Arc::clone(&proof), consumed: true });
        Ok(proof)
    }

    /// A proof for a call that consumes nothing.
    pub(super) async fn present(&self, transport: &Transport) -> Result<Arc<Proof>, ProofError> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| self.lives(&held.proof)) {
            return Ok(Arc::clone(&held.proof));
        }
        let proof = self.fetch(transport).await?;
        // A source that cannot refresh gives the same token, which may have been consumed already.
        let consumed = held.as_ref().is_some_and(|held| held.consumed) && !self.refreshable();
        *held = Some(Held { proof: Arc::clone(&proof), consumed });
        Ok(proof)
    }

    /// Forgets a proof that was not accepted; says whether the source may give a better one.
    pub(super) async fn discard(&self, refused: &Arc<Proof>) -> bool {
        if !self.refreshable() {
            return false;
        }
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.proof, refused)) {
            *held = None;
        }
        true
    }

    async fn fetch(&self, transport: &Transport) -> Result<Arc<Proof>, ProofError> {
        let source = self.source.as_ref().ok_or(ProofError::NotFound)?;
        source.fetch(&ProofContext { audience: &self.audience, transport }).await.map(Arc::new)
    }

    fn refreshable(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.refreshable())
    }

    /// A proof that does not say when it expires is used until it is refused.
    fn lives(&self, proof: &Proof) -> bool {
        proof.unverified_expires_at().is_none_or(|at| at.seconds_since((self.clock)()) > EXPIRY_MARGIN_SECONDS)
    }
}
