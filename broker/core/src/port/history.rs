//! The history of what was governed: every publication of a bundle, with its content.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Page, PageRequest, StoreError};
use crate::audit::AuditEntry;
use crate::id::{PolicyId, RevisionId, RoleName};
use crate::policy::Decision;
use crate::time::Timestamp;

/// The files of a bundle: text by path, relative to the bundle, with `/`.
pub type Files = BTreeMap<String, String>;

/// Digests of the files that a bundle names beside itself, by path: SHA-256 in lower-case hexadecimal. None of them is
/// secret: keys that verify, and certificates.
pub type NamedFiles = BTreeMap<String, String>;

/// Keeps publications. The last one is in force.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Records a publication with its content, its decision and its audit entries as the one in force, and moves the
    /// epoch; all in one transaction. Between the commit and the moment at which anybody can read the moved epoch it does
    /// what the publication has to be done then.
    ///
    /// # Errors
    /// [`StoreError`]. Then it may be on record all the same, where only the answer of the commit was lost:
    /// [`History::active_revision`] says so, and what is to be done then is done before anybody can read the moved epoch.
    async fn publish_revision(&self, publication: Publication) -> Result<PublishOutcome, StoreError>;

    /// The publication in force, if there was any.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn active_revision(&self) -> Result<Option<RevisionRecord>, StoreError>;

    /// Where the newest entry of the audit log is that tells of a publication that was made, by what the entries say and
    /// not by what an index says of them. Walks the log from where an earlier call came to: seldom asked, it takes long.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Inconsistent`] where the entries are not those that the log's tree was built over.
    async fn last_publication(&self) -> Result<Option<u64>, StoreError>;

    /// The last publication of this revision.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn revision(&self, id: &RevisionId) -> Result<Option<RevisionRecord>, StoreError>;

    /// The content of a revision, if it is kept: that of the last [`KEPT_PUBLICATIONS`] is.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn revision_files(&self, id: &RevisionId) -> Result<Option<Files>, StoreError>;

    /// All publications, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::InvalidCursor`] for a cursor that this store did not give.
    async fn revisions(&self, page: &PageRequest) -> Result<Page<RevisionRecord>, StoreError>;

    /// How many pending and active grants are of one of these roles, or were allowed by one of these policies.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn live_grants_touched(&self, roles: &[RoleName], policies: &[PolicyId]) -> Result<u64, StoreError>;
}

/// How many publications' content is kept. Of older ones the record stays, with its digest; texts that several
/// revisions share are kept once.
pub const KEPT_PUBLICATIONS: usize = 1_000;

/// What publishing writes.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Who, when, from which revision to which.
    pub record: RevisionRecord,
    /// The content.
    pub files: Files,
    /// The decision that allowed it; none for whoever runs the broker.
    pub decision: Option<Decision>,
    /// Entries that tell of it.
    pub entries: Vec<AuditEntry>,
    /// The epoch at the time of the decision; `None` where nothing was decided.
    pub epoch: Option<u64>,
    /// What is to be done once it is recorded.
    pub then: OnceRecorded,
}

/// What puts a revision into force once it is recorded, and not before. Short: the store does nothing else meanwhile.
#[derive(Clone, Default)]
pub struct OnceRecorded(Option<Arc<dyn Fn() + Send + Sync>>);

impl OnceRecorded {
    /// Does this.
    pub fn does(then: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(then)))
    }

    /// Does it.
    pub fn run(&self) {
        if let Some(then) = &self.0 {
            then();
        }
    }
}

impl std::fmt::Debug for OnceRecorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnceRecorded").field(&self.0.is_some()).finish()
    }
}

/// How publishing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Written, and in force.
    Published,
    /// Another revision than the publication's parent is in force.
    Superseded,
    /// The epoch moved since the decision: decide again.
    Moved,
}

/// One publication of a bundle revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRecord {
    /// Digest of the content.
    pub id: RevisionId,
    /// When it was published.
    pub published_at: Timestamp,
    /// Who published it: `issuer:subject`, or `hallpass:local-administrator`.
    pub author: Option<String>,
    /// Who else agreed. Nothing fills it yet.
    pub approvers: Option<Vec<String>>,
    /// Revision before it.
    pub parent: Option<RevisionId>,
    /// Source commit, where the publisher's proof named one.
    pub commit: Option<String>,
    /// What it was published by; `None` for those of earlier versions.
    pub occasion: Option<Occasion>,
}

/// What a bundle was published by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// The broker's start, from the folder of its bundle.
    Start,
    /// SIGHUP, from the same folder.
    Reload,
    /// The very first start of a broker whose bundles come over the API.
    Bootstrap,
    /// `PUT /v1/configuration`.
    Api,
    /// An earlier revision, published again.
    Rollback,
}

impl Occasion {
    /// Every occasion.
    pub const ALL: &'static [Self] = &[Self::Start, Self::Reload, Self::Bootstrap, Self::Api, Self::Rollback];

    /// The word used on the wire, in the audit log and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Bootstrap => "bootstrap",
            Self::Api => "api",
            Self::Rollback => "rollback",
        }
    }

    /// The occasion of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|occasion| occasion.as_str() == word)
    }
}
