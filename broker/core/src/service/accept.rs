//! Going on from an audit log that is not the one that was signed, or that nothing outside of the database speaks for: after
//! an older copy of the database was put back.
//!
//! What came after the copy is lost, so nothing is believed of it: what the copy holds live ends, proofs that may have been
//! used are refused, and what may have been opened counts as ended. All of it is one commit with the entry that tells of
//! it. Whoever knows that nothing came after the copy can keep the grants, and nothing else.
//!
//! A place beside the store that is new, by the record, is no restore: nothing but the log's word for it is written.

use super::Evidence;
use super::distrust::everything;
use super::evidence::{HistoryBroken, was_anchored};
use super::revoke::{MAX_REASON_CHARS, checked_reason};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::id::RevocationId;
use crate::port::{Beginning, GrantFilter, PageRequest, Restoration, Restored, SigningFailed, Store, StoreError};
use crate::revocation::{Revocation, selector_in_words};
use crate::selector::{Criteria, Selector};
use crate::time::{Timestamp, Ttl};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Accepting<'a> {
    /// Why. Required.
    pub reason: &'a str,
    /// What becomes of the grants that the log has live. Where nothing is said, they end if it is an older copy, and nothing
    /// happens to them if the place beside the store is new.
    pub live: Option<Live>,
    /// Id of the revocation that ends it otherwise.
    pub fresh: RevocationId,
    /// The time.
    pub now: Timestamp,
}

/// What becomes of the grants that a log has live which is gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// They are kept: whoever asks for it knows that nothing came after the copy.
    Kept,
    /// They end: what came after the copy is not known.
    Ended,
}

/// A log that was taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How many entries it has.
    pub entries: u64,
    /// The restore that it tells of; none where the place beside the store is only new.
    pub restored: Option<Restored>,
}

/// Why the log was not taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Nothing is configured to be kept beside the store.
    #[error("no checkpoint_file is configured: there is nothing to accept")]
    NoPlace,
    /// What is kept says that the log is the one that was signed.
    #[error(
        "there is a checkpoint file, and the audit log is the one that it was signed for: the broker starts on it. If an \
         older database was put back all the same, from after that checkpoint, move the file away first"
    )]
    Kept,
    /// It cannot be told whether the place beside the store is new, or an older copy was put back.
    #[error(
        "it is not recorded whether there was a checkpoint file before: say `--keep-grants` if the file is new to the \
         configuration and the database was not put back, or `--end-grants`, which ends what the log has live, if it was"
    )]
    Undecided,
    /// The reason is missing or too long.
    #[error("say in --reason why, on one line of at most {MAX_REASON_CHARS} characters")]
    Reason,
    /// The log contradicts itself, what is kept beside it is of another, or something failed.
    #[error(transparent)]
    Broken(#[from] HistoryBroken),
}

impl From<StoreError> for NotAccepted {
    fn from(error: StoreError) -> Self {
        Self::Broken(error.into())
    }
}

impl From<SigningFailed> for NotAccepted {
    fn from(error: SigningFailed) -> Self {
        Self::Broken(error.into())
    }
}

impl Evidence {
    /// Takes the log as it is, where what is kept beside the store says that it is an older one or another, or nothing is
    /// kept there; has it tell of that, and keeps what it comes to. Asked again after a crash it goes on where it was.
    ///
    /// # Errors
    /// [`NotAccepted`]; then what is kept beside the store is what was.
    pub async fn accept(&self, store: &dyn Store, asked: &Accepting<'_>) -> Result<Accepted, NotAccepted> {
        let anchor = self.anchor.as_ref().ok_or(NotAccepted::NoPlace)?;
        let lost_entries = match self.confirm_beside(store, anchor.as_ref()).await {
            Ok(true) => return Err(NotAccepted::Kept),
            Ok(false) => None,
            Err(HistoryBroken::Shorter { signed, found, .. }) => Some(signed.saturating_sub(found)),
            Err(HistoryBroken::Changed { signed, .. }) => Some(signed),
            Err(broken) => return Err(broken.into()),
        };
        self.confirm_kept(store).await?;
        let reason = checked_reason(Some(asked.reason.to_owned())).ok().flatten().ok_or(NotAccepted::Reason)?;
        let entry =
            AuditEntry::success(asked.now, Actor::LocalAdministrator, AuditAction::AuditAccept, AuditObject::Broker)
                .with("entries", &store.log_size().to_string())
                .with("reason", &reason);
        let live = match (asked.live, lost_entries) {
            (Some(live), _) => Some(live),
            (None, Some(_)) => Some(Live::Ended),
            (None, None) => match was_anchored(store).await? {
                Some(true) => Some(Live::Ended),
                // Nothing is restored: from now on there is a place, and before there was none.
                Some(false) => None,
                None => return Err(NotAccepted::Undecided),
            },
        };
        let restored = match live {
            Some(live) => Some(restore(store, asked, live, lost_entries.unwrap_or(0), entry).await?),
            None => {
                store.record(vec![entry.with("grants", "kept").with("checkpoint_file", "new")], None).await?;
                None
            }
        };
        fail::fail_point!("accept::after-commit");
        let signed = self.checkpoints.sign(store.tree_head())?;
        anchor.keep(&signed.note).await.map_err(HistoryBroken::from)?;
        Ok(Accepted { entries: signed.checkpoint.head.size, restored })
    }
}

/// Goes on from an older copy: nothing is believed of what came after it.
async fn restore(
    store: &dyn Store,
    asked: &Accepting<'_>,
    live: Live,
    lost_entries: u64,
    entry: AuditEntry,
) -> Result<Restored, NotAccepted> {
    let (ending, grants) = match live {
        Live::Kept => (None, "kept"),
        Live::Ended => (Some(ending(store, asked).await?), "ended"),
    };
    let entry = entry.with("lost_entries", &lost_entries.to_string()).with("grants", grants);
    Ok(store.restore(Restoration { at: asked.now, ending, lost_entries, entry }).await?)
}

/// The revocation of everything that the copy has: what was ended since it was made is live in it.
async fn ending(store: &dyn Store, asked: &Accepting<'_>) -> Result<Beginning, NotAccepted> {
    let newest = store.grants(&GrantFilter::default(), &PageRequest { cursor: None, limit: 1 }).await?;
    // A clock may be a little behind: what is there was opened before now, whatever its date is.
    let after = newest.items.first().map(|grant| grant.record.created_at.plus(Ttl::from_secs(1)));
    let grants = GrantFilter { until: Some(asked.now.max(after.unwrap_or(asked.now))), ..GrantFilter::default() };
    let selector = Selector::of(Criteria { grants, ..Criteria::default() })
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let (id, author) = (asked.fresh, Actor::LocalAdministrator);
    let revocation = Revocation {
        id,
        selector,
        reach: everything(store).await?,
        author: author.clone(),
        reason: "restored from an older copy".to_owned(),
        quarantine: None,
        created_at: asked.now,
        completed: None,
    };
    let entry = AuditEntry::success(asked.now, author, AuditAction::RevocationBegin, AuditObject::Revocation { id })
        .with("selector", &selector_in_words(&revocation.selector).to_string())
        .with("reason", &revocation.reason);
    Ok(Beginning {
        revocation,
        quarantine: None,
        decisions: Vec::new(),
        entries: vec![entry],
        idempotency: None,
        epoch: store.epoch(),
    })
}
