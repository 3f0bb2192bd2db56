//! Whether the revision that the record has in force is the one that the audit log tells of: whoever can write the database
//! could otherwise have the next start govern by another.

use crate::audit::{AuditAction, AuditEntry, AuditObject, AuditOutcome};
use crate::error::{Reason, ServiceError};
use crate::id::RevisionId;
use crate::port::{AuditLog, History, NamedFiles, StoreError};

/// Why the record is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsPublished {
    /// Another revision is in force than was published last.
    #[error(
        "the database has the revision {} in force, and by the audit log {} was published last: the database was changed \
         by hand. Look at both; then start once with [bundle] source = \"files\" on a bundle that you have reviewed, which \
         the log will tell of, and go back to \"api\" after that", named(.recorded), named(.told)
    )]
    Another {
        /// In force by the record.
        recorded: Option<RevisionId>,
        /// Published last by the log.
        told: Option<RevisionId>,
    },
    /// The entry that tells of the last publication is not one of the log.
    #[error("entry {0} of the audit log, about the last publication, is not the one that was written: it was changed")]
    Changed(u64),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn named(id: &Option<RevisionId>) -> String {
    id.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

impl From<NotAsPublished> for ServiceError {
    fn from(error: NotAsPublished) -> Self {
        match error {
            NotAsPublished::Store(error) => error.into(),
            error => Self::unavailable(Reason::StoreUnavailable, error.to_string()),
        }
    }
}

/// What was published last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The revision.
    pub revision: RevisionId,
    /// What it named beside itself.
    pub named: NamedFiles,
}

/// What begins the name of a fact about a file that a bundle names.
const DIGEST_OF: &str = "sha256 of ";

/// The name under which an entry has the digest of a file.
pub(super) fn digest_of(path: &str) -> String {
    format!("{DIGEST_OF}{path}")
}

/// What was published last, by an entry that the log's tree was built over.
///
/// # Errors
/// [`NotAsPublished`].
pub async fn told<S: History + AuditLog + ?Sized>(store: &S) -> Result<Option<Told>, NotAsPublished> {
    let Some(sequence) = store.last_publication().await? else { return Ok(None) };
    let changed = || NotAsPublished::Changed(sequence);
    let head = store.tree_head();
    let leaf = store.leaves(sequence, 1).await?.into_iter().next().filter(|leaf| leaf.sequence() == sequence);
    let leaf = leaf.ok_or_else(changed)?;
    let (proof, root) = store.inclusion(sequence, head.size).await?.ok_or_else(changed)?;
    if root != head.root || proof.verify(leaf.hash(), root).is_err() {
        return Err(changed());
    }
    let entry: AuditEntry = serde_json::from_str(leaf.entry()).map_err(|_| changed())?;
    match entry.object {
        AuditObject::Configuration { revision }
            if entry.action == AuditAction::ConfigurationPublish && entry.outcome == AuditOutcome::Success =>
        {
            let revision = RevisionId::new(revision).map_err(|_| changed())?;
            let facts = entry.detail.into_iter();
            let named = facts.filter_map(|(name, value)| Some((name.strip_prefix(DIGEST_OF)?.to_owned(), value)));
            Ok(Some(Told { revision, named: named.collect() }))
        }
        _ => Err(changed()),
    }
}

/// Whether the record has in force what was published last.
///
/// # Errors
/// [`NotAsPublished`].
pub async fn confirm<S: History + AuditLog + ?Sized>(store: &S) -> Result<(), NotAsPublished> {
    let told = told(store).await?.map(|told| told.revision);
    let recorded = store.active_revision().await?.map(|active| active.id);
    if recorded == told { Ok(()) } else { Err(NotAsPublished::Another { recorded, told }) }
}
