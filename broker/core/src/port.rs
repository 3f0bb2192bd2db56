//! The ports: what the domain needs of the world, as small traits. Adapters implement them.

mod anchor;
mod backend;
mod log;
mod policy;
mod quarantine;
mod restart;
mod revocation;
mod sealing;
mod statement;
mod status;
mod store;
mod verifier;

pub use anchor::{Anchor, AnchorFailed};
pub use backend::{
    CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, RevokeError, Undone,
};
pub use log::{AuditLog, KeptCheckpoint};
pub use policy::{EvaluationError, PolicyEngine};
pub use quarantine::{Added, QuarantineOrder, QuarantineStore};
pub use restart::Restart;
pub use revocation::{Beginning, Begun, Count, Followed, RevocationStore};
pub use sealing::{Place, SealError, Sealer, SignatureAlgorithm, Signer, SigningFailed, TokenSigners};
pub use statement::StatementSigner;
pub use status::StatusRecord;
pub use store::{
    Applied, AuditFilter, Change, Fenced, GrantFilter, IdempotencyClaim, Lineage, LineageClaim, LineageKey,
    OpenOutcome, Opening, Page, PageRequest, ProofUse, Replaced, Reserved, RevisionRecord, Store, StoreError,
    StoredKey,
};
pub use verifier::{IdentityVerifier, ProofReader};

use std::sync::Arc;

use crate::catalog::Revision;

/// Gives the bundle revision in force. A request asks once and keeps what it got.
///
/// Whoever reads a moved epoch must find the new revision here: put it in force first, then move the epoch
/// ([`Store::publish_revision`]).
pub trait Governance: Send + Sync + 'static {
    /// The revision in force.
    fn current(&self) -> Arc<Revision>;
}
