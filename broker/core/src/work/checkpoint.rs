//! Signs what the audit log has come to, keeps it, and keeps it beside the store as well.

use std::sync::Arc;

use async_trait::async_trait;

use crate::audit::SignedCheckpoint;
use crate::port::{AnchorFailed, Attests, KeptCheckpoint, NotAttested, SigningFailed, Store, StoreError};
use crate::service::{Evidence, Ports};
use crate::time::{Clock, Timestamp};

/// Why there is no new checkpoint. The next tick tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFailed {
    /// It cannot be kept in the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
    /// It is kept in the store and not beside it.
    #[error("the newest checkpoint cannot be kept beside the store: {0}")]
    Anchor(#[from] AnchorFailed),
}

/// Signs a checkpoint if the log has grown since the last, or nobody's word stands behind that any longer, and sees to it
/// that the newest is beside the store too. Answers how many entries it covers.
///
/// # Errors
/// [`CheckpointFailed`].
pub async fn tick(ports: &Ports) -> Result<u64, CheckpointFailed> {
    let (store, evidence) = (ports.store.as_ref(), &ports.evidence);
    let _turn = evidence.turn.lock().await;
    let size = store.tree_head().size;
    let kept = match store.newest_checkpoint().await? {
        Some(kept)
            if kept.head.size >= size
                && evidence.checkpoints.has_signed(&kept.note)
                && kept.anchored == Some(evidence.anchor.is_some()) =>
        {
            kept
        }
        _ => sign(store, evidence, ports.now()).await?,
    };
    keep_beside(evidence, &kept).await?;
    // The next start asks for it, and should have no more to walk through than what comes after this.
    store.last_publication().await?;
    Ok(kept.head.size)
}

/// Signs a checkpoint whatever is kept: before the word of a key that may have signed that is worth nothing any more.
pub struct Attestation {
    /// The record.
    pub store: Arc<dyn Store>,
    /// What the log is proved with.
    pub evidence: Evidence,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Attestation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attestation").field("evidence", &self.evidence).finish_non_exhaustive()
    }
}

#[async_trait]
impl Attests for Attestation {
    async fn attest(&self) -> Result<(), NotAttested> {
        let _turn = self.evidence.turn.lock().await;
        let attest = async {
            let kept = sign(self.store.as_ref(), &self.evidence, self.clock.now()).await?;
            keep_beside(&self.evidence, &kept).await
        };
        attest.await.map_err(|error| NotAttested(error.to_string()))
    }
}

async fn sign(store: &dyn Store, evidence: &Evidence, now: Timestamp) -> Result<KeptCheckpoint, CheckpointFailed> {
    let head = store.tree_head();
    let SignedCheckpoint { checkpoint, note } = evidence.checkpoints.sign(head)?;
    let anchored = evidence.anchor.is_some();
    store.keep_checkpoint(SignedCheckpoint { checkpoint, note: note.clone() }, now, anchored).await?;
    Ok(KeptCheckpoint { head, note, anchored: Some(anchored) })
}

async fn keep_beside(evidence: &Evidence, kept: &KeptCheckpoint) -> Result<(), CheckpointFailed> {
    if let Some(anchor) = &evidence.anchor
        && anchor.read().await?.as_deref() != Some(&kept.note)
    {
        anchor.keep(&kept.note).await?;
    }
    Ok(())
}
