//! What the audit log is proved with, and whether it still is what was signed.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::Ports;
use super::exports::{self, Export};
use crate::audit::note::unverified_signers;
use crate::audit::tree::TreeHead;
use crate::audit::{Actor, AuditAction, AuditEntry, CheckpointRejected, CheckpointSigner, SignedCheckpoint};
use crate::error::{Reason, ServiceError};
use crate::id::LogId;
use crate::port::{Anchor, AnchorFailed, AuditLog, SigningFailed, StoreError};

/// What the audit log is proved with.
#[derive(Clone)]
pub struct Evidence {
    /// Signs what the log comes to.
    pub checkpoints: CheckpointSigner,
    /// Where the newest checkpoint is kept beside the store.
    pub anchor: Option<Arc<dyn Anchor>>,
    /// Where the log is taken to as it grows.
    pub exports: Vec<Arc<Export>>,
    /// Held while a checkpoint is signed and kept: of two at once the older one could stay beside the store, by a key
    /// that is distrusted meanwhile.
    pub turn: Arc<Mutex<()>>,
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evidence").field("checkpoints", &self.checkpoints).finish_non_exhaustive()
    }
}

/// Why the log is not the one that was signed. The broker does not start on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryBroken {
    /// It is shorter.
    #[error(
        "the audit log had {signed} entries when {place} was signed, and now it has {found}: an older database was put \
         back, or entries were removed"
    )]
    Shorter {
        /// Where the checkpoint is.
        place: &'static str,
        /// How many there were.
        signed: u64,
        /// How many there are.
        found: u64,
    },
    /// It is another.
    #[error(
        "the first {signed} entries of the audit log are not those that were there when {place} was signed: entries were \
         changed, or another database was put in its place"
    )]
    Changed {
        /// Where the checkpoint is.
        place: &'static str,
        /// How many it is about.
        signed: u64,
    },
    /// What is kept beside the store is of another log.
    #[error("the checkpoint file is of the log {found}, and this is {expected}; if that is meant to be, move it away")]
    OtherLog {
        /// Origin in the file.
        found: String,
        /// Origin of this log.
        expected: String,
    },
    /// Nothing is kept beside the store, and something may have been.
    #[error(
        "there is no checkpoint file, and the audit log has {entries} entries: nothing outside of the database says that they \
         are those that were written. `hallpass-broker audit accept --reason …` takes the log as it is, and {}",
        by_default(*anchored)
    )]
    NoAnchor {
        /// How many there are.
        entries: u64,
        /// Whether there was a place for it when the newest checkpoint was signed, where that is recorded.
        anchored: Option<bool>,
    },
    /// What is kept beside the store is not this log's.
    #[error("the checkpoint file cannot be believed ({0}); to go on without it, look at why, and move it away")]
    Unbelievable(#[source] CheckpointRejected),
    /// What is to be kept beside the store cannot be signed.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
    /// What is kept beside the store cannot be read.
    #[error(transparent)]
    Anchor(#[from] AnchorFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Evidence {
    /// Whether `log` begins with what was signed last: by what the store keeps itself, and by what is kept beside it. At
    /// start, before anything but the first keys is appended to it. Only beside a log that [`announce`] has said begins may
    /// nothing be signed yet; from then on something is: whoever puts an older log back must not be rid of this by taking a
    /// file away.
    ///
    /// # Errors
    /// [`HistoryBroken`].
    pub async fn confirm(&self, log: &(impl AuditLog + ?Sized)) -> Result<(), HistoryBroken> {
        self.confirm_kept(log).await?;
        let Some(anchor) = &self.anchor else { return Ok(()) };
        if self.confirm_beside(log, anchor.as_ref()).await? {
            return Ok(());
        }
        let announced = anchor.read().await?.is_some();
        if !announced || !has_only_keys(log).await? {
            let anchored = was_anchored(log).await?;
            return Err(HistoryBroken::NoAnchor { entries: log.log_size(), anchored });
        }
        let signed = self.checkpoints.sign(log.tree_head())?;
        Ok(anchor.keep(&signed.note).await?)
    }

    /// The same by what is kept beside the store; false where nothing was signed.
    pub(super) async fn confirm_beside(
        &self,
        log: &(impl AuditLog + ?Sized),
        anchor: &dyn Anchor,
    ) -> Result<bool, HistoryBroken> {
        let note = anchor.read().await?.filter(|note| *note != announcement(log.log_id()));
        let Some(note) = note else { return Ok(false) };
        let origin = note.lines().next().unwrap_or_default();
        // What is empty or cut off is of no log at all, and is told as that below.
        let is_whole = !unverified_signers(&note).is_empty();
        if is_whole && origin != self.checkpoints.origin() {
            let (found, expected) = (origin.chars().take(200).collect(), self.checkpoints.origin().to_owned());
            return Err(HistoryBroken::OtherLog { found, expected });
        }
        let newest = SignedCheckpoint::open(&note, &self.checkpoints.verifier_key());
        let earlier =
            || self.checkpoints.verifier_keys().iter().find_map(|key| SignedCheckpoint::open(&note, key).ok());
        let signed = newest.or_else(|error| earlier().ok_or(HistoryBroken::Unbelievable(error)))?;
        extends(log, signed.checkpoint.head, "the checkpoint file").await?;
        Ok(true)
    }

    /// The same by what the store keeps itself.
    pub(super) async fn confirm_kept(&self, log: &(impl AuditLog + ?Sized)) -> Result<(), HistoryBroken> {
        match log.newest_checkpoint().await? {
            Some(kept) => extends(log, kept.head, "the newest checkpoint in the store").await,
            None => Ok(()),
        }
    }

    /// Whether something may be issued, as far as the log's destinations keep up.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] while one of them is too far behind.
    pub(crate) fn allows_issuing(&self, log: &(impl AuditLog + ?Sized)) -> Result<(), ServiceError> {
        if self.exports.is_empty() { Ok(()) } else { exports::check(&self.exports, log.log_size()) }
    }

    /// Signs what the log comes to now, or came to when it had `size` entries; `None` if it has not had so many.
    pub(crate) async fn checkpoint_at(
        &self,
        ports: &Ports,
        size: Option<u64>,
    ) -> Result<Option<SignedCheckpoint>, ServiceError> {
        let head = match size {
            None => ports.store.tree_head(),
            Some(size) => match ports.store.root_at(size).await? {
                Some(root) => TreeHead { size, root },
                None => return Ok(None),
            },
        };
        let unavailable =
            |_| ServiceError::unavailable(Reason::SigningUnavailable, "the audit log's key does not sign");
        self.checkpoints.sign(head).map(Some).map_err(unavailable)
    }
}

/// Says beside the store that `log` begins, where it has no entry yet: that something can be kept there is known before
/// keys are made, and a first start that ends before the first checkpoint is one that the next start goes on with.
///
/// # Errors
/// [`AnchorFailed`].
pub async fn announce(anchor: &dyn Anchor, log: &(impl AuditLog + ?Sized)) -> Result<(), AnchorFailed> {
    if log.log_size() > 0 {
        return Ok(());
    }
    match anchor.read().await? {
        // What was signed is not written over, whichever log it is of.
        Some(note) if !note.starts_with(ANNOUNCED) => Ok(()),
        _ => anchor.keep(&announcement(log.log_id())).await,
    }
}

/// Whether there was a place beside the store when the newest checkpoint was signed, where that is recorded.
pub(super) async fn was_anchored(log: &(impl AuditLog + ?Sized)) -> Result<Option<bool>, StoreError> {
    Ok(log.newest_checkpoint().await?.and_then(|kept| kept.anchored))
}

/// What accepting a log does beside which nothing is kept.
const fn by_default(anchored: Option<bool>) -> &'static str {
    match anchored {
        Some(false) => {
            "ends nothing: by the record the file is new to the configuration. If an older database was put back all the \
             same, say `--end-grants`, which ends what it has live: what came after the copy is not known"
        }
        Some(true) => {
            "ends what it has live: there was such a file, and what came after an older copy is not known. If the database \
             was not put back, `--keep-grants` keeps that"
        }
        None => {
            "wants to be told what happened, for it is not recorded whether there was such a file: `--keep-grants` where \
             the file is new to the configuration and the database was not put back, else `--end-grants`, which ends what \
             the log has live"
        }
    }
}

const ANNOUNCED: &str = "no checkpoint is signed yet of the log ";

fn announcement(log: LogId) -> String {
    format!("{ANNOUNCED}{log}\n")
}

/// Whether nobody has done anything yet but the broker, which has made its first keys.
async fn has_only_keys(log: &(impl AuditLog + ?Sized)) -> Result<bool, StoreError> {
    /// More than it makes.
    const MOST: u64 = 32;
    if log.log_size() > MOST || log.newest_checkpoint().await?.is_some() {
        return Ok(false);
    }
    let leaves = log.leaves(0, usize::try_from(MOST).unwrap_or(usize::MAX)).await?;
    Ok(leaves.iter().all(|leaf| {
        serde_json::from_str(leaf.entry()).is_ok_and(|entry: AuditEntry| {
            entry.actor == Actor::Broker && matches!(entry.action, AuditAction::KeyWrap | AuditAction::KeyCreate)
        })
    }))
}

async fn extends(log: &(impl AuditLog + ?Sized), signed: TreeHead, place: &'static str) -> Result<(), HistoryBroken> {
    match log.root_at(signed.size).await? {
        None => Err(HistoryBroken::Shorter { place, signed: signed.size, found: log.log_size() }),
        Some(root) if root != signed.root => Err(HistoryBroken::Changed { place, signed: signed.size }),
        Some(_) => Ok(()),
    }
}
