//! The store: transitions, not create-read-update-delete.
//!
//! Writes are guarded by the version that was read and must touch exactly one row. A call that answers has made its
//! change durable together with the audit entries that tell of it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{QuarantineStore, Quota, Quotas, RevocationStore};
use crate::audit::{AuditEntry, RecordedEntry};
use crate::credential::Handle;
use crate::grant::{Grant, StateName};
use crate::id::{BackendName, DecisionId, GrantId, IssuerName, LineageId, ReservationId, RoleName, SpareId};
use crate::identity::VerifiedProof;
use crate::in_force::Bar;
use crate::policy::Decision;
use crate::time::{Timestamp, Ttl};

/// The durable record.
#[async_trait]
pub trait Store:
    super::AuditLog
    + super::DataKeyRecord
    + super::EndedGrants
    + super::Families
    + super::History
    + super::KeyRecord
    + super::Restart
    + super::RestoreRecord
    + super::Spares
    + super::Standing
    + super::StatusRecord
    + super::UsedProofs
    + RevocationStore
    + QuarantineStore
{
    /// Opens a grant: replay record, idempotency record, decision, grant, handle and audit entries in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn open(&self, opening: Opening) -> Result<OpenOutcome, StoreError>;

    /// Makes one change to a grant, guarded by the version that was read.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn apply(&self, change: Change) -> Result<Applied, StoreError>;

    /// Appends audit entries that change nothing else, with the decision behind them.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn record(&self, entries: Vec<AuditEntry>, decision: Option<Decision>) -> Result<(), StoreError>;

    /// Takes an exclusive, expiring hold on grants that are due at `now`, the longest due first, and gives them out.
    /// Grants that end by themselves ([`Store::expire_due`]) are not among them.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn reserve_due(
        &self,
        now: Timestamp,
        hold: Ttl,
        reservation: ReservationId,
        share: &Share,
        limit: usize,
    ) -> Result<Vec<Reserved>, StoreError>;

    /// Gives up a hold before it expires. Only the holder's own.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn release(&self, reservation: ReservationId) -> Result<(), StoreError>;

    /// Expires up to `limit` grants whose credentials ended by themselves (fenced and expiry-only, `expires_at` and the
    /// skew passed), with one audit entry that lists them. Answers how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn expire_due(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Removes up to `limit` records that nothing will ask for again: replay and idempotency records past their horizon, and
    /// lineages that paused for longer than [`LineageClaim::PAUSE`]. Answers how many.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// One grant.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn grant(&self, id: GrantId) -> Result<Option<Grant>, StoreError>;

    /// The sealed handle of one grant, opened.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn handle(&self, id: GrantId) -> Result<Option<Handle>, StoreError>;

    /// Grants that match, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::InvalidCursor`] for a cursor that this store did not give.
    async fn grants(&self, filter: &GrantFilter, page: &PageRequest) -> Result<Page<Grant>, StoreError>;

    /// Grants of a kind of backend that are refused by verifiers and not yet over: the content of its revocation list. By
    /// kind and not by name, which a bundle may change while credentials live.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn fenced(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<Fenced>, StoreError>;

    /// How long a workload has held a role without a pause.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn lineage(&self, key: &LineageKey, now: Timestamp) -> Result<Option<Lineage>, StoreError>;

    /// A recorded decision.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn decision(&self, id: DecisionId) -> Result<Option<Decision>, StoreError>;

    /// The newest recorded decisions.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn decisions(&self, limit: usize) -> Result<Vec<Decision>, StoreError>;

    /// Audit entries, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::InvalidCursor`] for a cursor that this store did not give.
    async fn audit(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Page<RecordedEntry>, StoreError>;

    /// A status-list index that no grant has yet. In memory; durable with the grant that uses it.
    fn next_status_index(&self) -> u64;

    /// The epoch: moved by everything that ends or forbids sets of grants. Read it before a decision, pass it with
    /// [`Opening`] and [`Change`].
    fn epoch(&self) -> u64;

    /// Moves the epoch, with the audit entries of what moved it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn move_epoch(&self, entries: Vec<AuditEntry>) -> Result<u64, StoreError>;

    /// Whether the store can write now; for readiness.
    ///
    /// # Errors
    /// [`StoreError`] says what is unwell.
    async fn check(&self, now: Timestamp) -> Result<(), StoreError>;
}

/// What opening a grant writes.
#[derive(Debug)]
pub struct Opening {
    /// The grant: pending, or already active where minting is local.
    pub grant: Grant,
    /// What it takes to undo its credential.
    pub handle: Handle,
    /// The decision that allowed it.
    pub decision: Decision,
    /// Entries that tell of it.
    pub entries: Vec<AuditEntry>,
    /// The proof that it consumes, where the issuer's proofs are for single use.
    pub proof_use: Option<ProofUse>,
    /// What goes with whoever acts for the subject, where somebody does.
    pub acting: Option<Acted>,
    /// The caller's idempotency key.
    pub idempotency: Option<IdempotencyClaim>,
    /// The lineage as it was when the terms were computed.
    pub lineage: LineageClaim,
    /// How many live grants of its owner and of its role there may be, counted in the transaction that opens it.
    pub quotas: Quotas,
    /// The epoch at the time of the decision.
    pub epoch: u64,
    /// The broker's clock: checked against the persisted high-water mark.
    pub now: Timestamp,
    /// Whether the backend's own records are the rule that verifiers consult, so that a superseded grant of this role is
    /// fenced by the commit itself.
    pub fenced_by_record: bool,
    /// The grant whose place it takes, where that ends with this commit: the credential is there already.
    pub replaced: Option<Replaced>,
    /// The spare that its credential is made with; `handle` is the spare's. If somebody else took it, the opening is
    /// answered [`OpenOutcome::Moved`].
    pub spare: Option<SpareId>,
}

/// A grant that begins to end in the transaction that puts another in its place, if it is active and of the same holder
/// (issuer and subject). Anything else is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The grant that ends.
    pub id: GrantId,
    /// Whether the broker's own records are the rule that verifiers of its credential consult, so that the commit itself
    /// fences it.
    pub fenced_by_record: bool,
}

/// What somebody who acts for another brings to an opening.
#[derive(Clone, Debug)]
pub struct Acted {
    /// The decision that let it act.
    pub decision: Decision,
    /// Its own proof, where that issuer's are for single use.
    pub proof_use: Option<ProofUse>,
}

/// The use of a single-use proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofUse {
    /// Configured issuer.
    pub issuer: IssuerName,
    /// `jti`.
    pub proof_id: String,
    /// Until when the record must be kept.
    pub keep_until: Timestamp,
}

/// A caller's idempotency key, in its scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyClaim {
    /// SHA-256 over issuer, subject, proof id, binding key and the caller's key.
    pub scope: [u8; 32],
    /// SHA-256 of the request's content.
    pub request_digest: [u8; 32],
    /// Until when the record must be kept.
    pub keep_until: Timestamp,
}

impl IdempotencyClaim {
    /// How often one key may be repeated: enough for a flaky network, too few to mint in a loop.
    pub const MAX_REPEATS: u32 = 3;
}

/// Who holds what, for lineages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LineageKey {
    /// Configured issuer.
    pub issuer: IssuerName,
    /// Subject at that issuer, or [`LineageKey::repository`].
    pub subject: String,
    /// Role.
    pub role: RoleName,
}

impl LineageKey {
    /// Kinds of issuers whose jobs have a say in what their subject is made of: by `--subject-claim`, or by who started them.
    pub const KINDS_OF_CHOSEN_SUBJECTS: [&'static str; 2] = ["buildkite", "circleci"];

    /// Of whoever `proof` is of. Where jobs have a say in their subject, what they hold is counted for their repository.
    #[must_use]
    pub fn of(proof: &VerifiedProof, role: &RoleName) -> Self {
        let is_chosen = Self::KINDS_OF_CHOSEN_SUBJECTS.contains(&&*proof.issuer_kind);
        let chosen = proof.provenance.repository_id.as_deref().filter(|_| is_chosen);
        let subject = chosen.map_or_else(|| proof.subject.clone(), Self::repository);
        Self { issuer: proof.issuer.clone(), subject, role: role.clone() }
    }

    /// What stands for the subject of all jobs of one repository.
    #[must_use]
    pub fn repository(id: &str) -> String {
        format!("repository_id={id}")
    }
}

/// A chain of re-exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Its id.
    pub id: LineageId,
    /// When it began.
    pub started_at: Timestamp,
}

/// Continues the lineage of `key`, or starts one with the id `fresh` when the last credential of it ended more than
/// `pause` ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageClaim {
    /// Whose.
    pub key: LineageKey,
    /// Id of a new lineage, should one start.
    pub fresh: LineageId,
    /// Start of the lineage that the terms were computed with: `None` when nothing bounds it. If the store finds another
    /// start, the opening is answered [`OpenOutcome::Moved`].
    pub assumed_start: Option<Option<Timestamp>>,
}

impl LineageClaim {
    /// How long nothing may have been held for a lineage to be over. Shorter, and a workload could hold access without
    /// end by pausing for a moment.
    pub const PAUSE: Ttl = Ttl::from_hours(1);
}

/// How an opening ended.
#[derive(Debug)]
pub enum OpenOutcome {
    /// Written.
    Opened(Box<Grant>),
    /// There are as many live grants as there may be. Nothing was consumed.
    OverQuota(Quota),
    /// The proof was used before; also when its own request is repeated after somebody ended the grant.
    Replayed,
    /// The idempotency key came with another request before.
    RequestMismatch,
    /// The first request with this key is still pending.
    StillPending,
    /// The key has been repeated too often.
    TooManyRepeats,
    /// The epoch or the lineage moved since the decision, or the spare is gone: decide again.
    Moved,
    /// A command in force stops it.
    Barred(Bar),
}

/// One change to one grant.
#[derive(Debug)]
pub struct Change {
    /// The grant after the change; its version is one more than the version that was read.
    pub grant: Grant,
    /// A better handle, where activation brought one.
    pub handle: Option<Handle>,
    /// Entries that tell of it. May be empty for signs of life.
    pub entries: Vec<AuditEntry>,
    /// A decision behind it, where one was made.
    pub decision: Option<Decision>,
    /// The epoch at the time of a decision that the grant may live on; `None` where nothing was decided, or that it may be
    /// ended: an end is as right after the world has moved, and by a clock that is behind.
    pub epoch: Option<u64>,
    /// The single-use proof that renewing consumes.
    pub proof_use: Option<ProofUse>,
    /// Present to release the hold together with the change; the change is refused if the hold was lost.
    pub reservation: Option<ReservationId>,
    /// The grant whose place this one takes by becoming active.
    pub replaced: Option<Replaced>,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Written.
    Done,
    /// Somebody else changed the grant, or the hold was lost: read again.
    Conflict,
    /// The epoch moved since the decision: decide again.
    Moved,
    /// The proof was used before.
    Replayed,
    /// The grant would be active after it, and a command in force stops that: a revocation that ends it; or a quarantine,
    /// where the change was decided.
    Barred(Bar),
}

/// Whose due grants are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// Everybody's.
    All,
    /// This backend's.
    Of(BackendName),
    /// Those of all backends but these: what is left of backends that are no longer configured.
    ExceptOf(Vec<BackendName>),
    /// Those of every backend whose end has not begun: nothing is called for their next step.
    NotEnding,
}

/// A due grant with the hold on it.
#[derive(Debug)]
pub struct Reserved {
    /// The grant.
    pub grant: Grant,
    /// Its handle, opened; an error here must not hide the other due grants.
    pub handle: Result<Handle, StoreError>,
    /// The hold.
    pub reservation: ReservationId,
    /// When the hold ends.
    pub held_until: Timestamp,
}

impl Change {
    /// A change that nothing was decided for: `grant` as it is after it, and the entry that tells of it.
    #[must_use]
    pub fn of(grant: Grant, entry: AuditEntry) -> Self {
        Self {
            grant,
            handle: None,
            entries: vec![entry],
            decision: None,
            epoch: None,
            proof_use: None,
            reservation: None,
            replaced: None,
        }
    }
}

/// A grant that verifiers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// Its id.
    pub id: GrantId,
    /// Since when.
    pub fenced_at: Timestamp,
}

/// Which grants. All given parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrantFilter {
    /// In one of these states; any, when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateName>,
    /// Of this owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Of this role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Proved by this issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Held by this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// From this repository, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// From this repository, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// From this commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// From this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Reaching this environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Of this backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Allowed by this policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// With exactly this purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// With this ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Created at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Created before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Which audit entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this request.
    pub request_id: Option<crate::id::RequestId>,
    /// About this grant.
    pub grant: Option<GrantId>,
}

/// Which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// How many at most.
    pub limit: usize,
}

impl PageRequest {
    /// The largest page.
    pub const MAX_LIMIT: usize = 500;

    /// Bytes of a page, about: one that would have more ends early, and the next one begins there. As many pages are in
    /// memory as are asked for at once, and what is on them may be hundreds of times as large as it usually is.
    pub const MAX_BYTES: usize = 1024 * 1024;
}

/// What fits on a page: so many items, of so many bytes together.
#[derive(Clone, Copy, Debug)]
pub struct PageRoom {
    items: usize,
    bytes: usize,
    is_empty: bool,
}

impl PageRoom {
    /// That of a page with nothing on it.
    #[must_use]
    pub fn of(page: &PageRequest) -> Self {
        Self { items: page.limit.clamp(1, PageRequest::MAX_LIMIT), bytes: PageRequest::MAX_BYTES, is_empty: true }
    }

    /// Makes room for one more item of so many bytes; false when there is none. The first one always fits: a list must
    /// not end at an item that is too large for a page.
    pub fn takes(&mut self, bytes: usize) -> bool {
        let left = if self.is_empty { Some(self.bytes.saturating_sub(bytes)) } else { self.bytes.checked_sub(bytes) };
        match (self.items.checked_sub(1), left) {
            (Some(items), Some(bytes)) => {
                *self = Self { items, bytes, is_empty: false };
                true
            }
            _ => false,
        }
    }
}

/// One page. It may have fewer items than it was asked to have and yet not be the last.
#[derive(Debug)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one starts, if there is one.
    pub next: Option<String>,
}

/// How the store fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot write or read now (full, read-only, locked, gone); trying again later can help.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The broker's clock is behind the latest time that the store has seen.
    #[error("the clock is {behind} behind the latest time in the store")]
    ClockBehind {
        /// By how much.
        behind: Ttl,
    },
    /// A row that no version of this program writes.
    #[error("inconsistent row in {table}.{column} ({row}): {problem}")]
    Inconsistent {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Primary key.
        row: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A sealed value does not open.
    #[error(transparent)]
    Sealed(#[from] super::SealError),
    /// The cursor was not given by this store for this query.
    #[error("the cursor is not one that this list gave")]
    InvalidCursor,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample;

    #[test]
    fn a_job_that_chooses_another_subject_is_no_other_workload() {
        let role = RoleName::new("app/deploy").unwrap();
        let key = |subject: &str, kind: &'static str| {
            let mut proof = sample::proof(subject, "a");
            proof.issuer_kind = kind.into();
            proof.provenance.repository_id = Some("222".to_owned());
            LineageKey::of(&proof, &role)
        };
        assert_eq!(key("queue-1", "buildkite"), key("job-7", "buildkite"));
        assert_ne!(key("queue-1", "github-actions"), key("job-7", "github-actions"));
        assert_ne!(key("queue-1", "buildkite"), key("222", "github-actions"));
    }
}
