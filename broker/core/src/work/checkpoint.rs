//! Signs what the audit log has come to, keeps it, and keeps it beside the store as well.

use crate::audit::SignedCheckpoint;
use crate::port::{AnchorFailed, KeptCheckpoint, SigningFailed, StoreError};
use crate::service::Ports;

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

/// Signs a checkpoint if the log has grown since the last, and sees to it that the newest is beside the store too.
/// Answers how many entries it covers.
///
/// # Errors
/// [`CheckpointFailed`].
pub async fn tick(ports: &Ports) -> Result<u64, CheckpointFailed> {
    let (store, evidence) = (&ports.store, &ports.evidence);
    let head = store.tree_head();
    let kept = match store.newest_checkpoint().await? {
        Some(kept) if kept.head.size >= head.size => kept,
        _ => {
            let SignedCheckpoint { checkpoint, note } = evidence.checkpoints.sign(head)?;
            store.keep_checkpoint(SignedCheckpoint { checkpoint, note: note.clone() }, ports.now()).await?;
            KeptCheckpoint { head, note }
        }
    };
    if let Some(anchor) = &evidence.anchor
        && anchor.read().await?.as_deref() != Some(&kept.note)
    {
        anchor.keep(&kept.note).await?;
    }
    Ok(kept.head.size)
}
