//! The part of a store that knows that it is an older copy of itself.

use async_trait::async_trait;

use super::{Beginning, StoreError};
use crate::audit::AuditEntry;
use crate::id::RevocationId;
use crate::time::{Timestamp, Ttl};

/// Going on from an older copy that was put back. What came between is lost: this says once, in one transaction, what is
/// made of that.
#[async_trait]
pub trait RestoreRecord: Send + Sync + 'static {
    /// Records the restore, begins the revocation that comes with it and moves the epoch. From the commit on
    /// [`InForce::restored_at`](crate::in_force::InForce::restored_at) tells of it, and
    /// [`Store::next_status_index`](super::Store::next_status_index) is past whatever may have been given out since the copy
    /// was made. Indexes below that are without a grant here count as ended
    /// ([`StatusRecord::ended_early`](super::StatusRecord::ended_early)).
    ///
    /// Asked for once more while nothing was appended to the log since, it writes nothing and answers what is recorded,
    /// unless it is asked now to end what was kept before, or the other way round. While no broker runs: places among
    /// running revocations are not counted.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn restore(&self, restoration: Restoration) -> Result<Restored, StoreError>;
}

/// What going on from a copy writes.
#[derive(Clone, Debug)]
pub struct Restoration {
    /// When.
    pub at: Timestamp,
    /// The revocation of what the copy holds live; `None` where that is kept.
    pub ending: Option<Beginning>,
    /// How many entries the lost log is known to have had beyond the copy's.
    pub lost_entries: u64,
    /// The entry that tells of it. The store adds the number of the restore, and which indexes are given up.
    pub entry: AuditEntry,
}

impl Restoration {
    /// Status indexes that are given up for each second since the copy was made: one list of 16 KiB, and ten times what
    /// a broker opens at its fastest. Not counted in entries alone, because refused requests spend indexes too, and what
    /// came after the last checkpoint is in no count.
    const INDEXES_PER_SECOND: u64 = 1 << 17;

    /// Added to that time: what was under way when the copy was made was dated before it, and clocks are corrected.
    const MARGIN: Ttl = Ttl::from_mins(1);

    /// How many status indexes are given up, in a copy that was last written to by an opening at `last_seen`: more than
    /// may have been given out since. The entries that are known to be lost count too, each for one: a clock that was
    /// wrong does not take that away.
    #[must_use]
    pub fn indexes_given_up(&self, last_seen: Timestamp) -> u64 {
        let time = self.at.since(last_seen).plus(Self::MARGIN);
        time.as_secs().saturating_mul(Self::INDEXES_PER_SECOND).saturating_add(self.lost_entries)
    }
}

/// A restore on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The restore epoch: how many there were, with this one.
    pub number: u64,
    /// When it was.
    pub at: Timestamp,
    /// The revocation that ends what the copy held live.
    pub revocation: Option<RevocationId>,
}
