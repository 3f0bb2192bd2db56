//! The ports: what the domain needs of the world, as small traits. Adapters implement them.

mod anchor;
mod attestation;
mod backend;
mod data_key;
mod ended;
mod family;
mod history;
mod kek;
mod keys;
mod log;
mod policy;
mod possession;
mod press;
mod quarantine;
mod quota;
mod remainder;
mod restart;
mod restore;
mod revocation;
mod sealing;
mod sink;
mod spare;
mod standing;
mod statement;
mod status;
mod store;
mod used_proofs;
mod verifier;

pub use anchor::{Anchor, AnchorFailed};
pub use attestation::{AttestationVerifier, NoAttestors};
pub use backend::{
    Belongs, CredentialBackend, ExtendError, FenceRule, InvalidParameters, InventoryItem, InventoryScope, IssueError,
    ItemKind, Prepared, RevokeError, SpareRule, Undone, scrubbed,
};
pub use data_key::{DataKeyChange, DataKeyRecord, StoredDataKey};
pub use ended::{Ended, EndedGrant, EndedGrants, EndedPage, FenceName};
pub use family::Families;
pub use history::{
    Files, History, KEPT_PUBLICATIONS, NamedFiles, Occasion, OnceRecorded, Publication, PublishOutcome, RevisionRecord,
};
pub use kek::{DataKeyId, KekError, KeyEncryptionKey, Wrapping};
pub use keys::{
    Attests, AuditKeys, AuthorityKey, AuthorityKeys, DistrustedAuthority, EndsSigned, KeyChange, KeyPurpose, KeyRecord,
    NotAttested, StoredKey, TokenSigners,
};
pub use log::{AuditLog, KeptCheckpoint};
pub use policy::{Effect, EvaluationError, PolicyEngine, PolicyFacts};
pub use possession::{NotShown, PossessionVerifier, Presented, ProvedRequest};
pub use press::{BundleSource, Candidate, CompileError, Press};
pub use quarantine::{Added, QuarantineOrder, QuarantineStore};
pub use quota::{Quota, Quotas};
pub use remainder::Remainder;
pub use restart::Restart;
pub use restore::{Restoration, RestoreRecord, Restored};
pub use revocation::{Beginning, Begun, Count, Followed, RevocationStore};
pub use sealing::{Place, SealError, Sealer, SignatureAlgorithm, Signer, SigningFailed};
pub use sink::{AuditSink, ExportLine, SinkFailed};
pub use spare::{Spare, Spares};
pub use standing::{Backlog, LiveGrants, Standing};
pub use statement::StatementSigner;
pub use status::StatusRecord;
pub use store::{
    Acted, Applied, AuditFilter, Change, Fenced, GrantFilter, IdempotencyClaim, Lineage, LineageClaim, LineageKey,
    OpenOutcome, Opening, Page, PageRequest, PageRoom, ProofUse, Replaced, Reserved, Share, Store, StoreError,
};
pub use used_proofs::UsedProofs;
pub use verifier::{IdentityVerifier, ProofReader, UnverifiedSource};

use std::sync::Arc;

use crate::catalog::Revision;

/// Gives the bundle revision in force. A request asks once and keeps what it got.
///
/// Whoever reads a moved epoch must find the new revision here, and nobody one that is not recorded
/// ([`History::publish_revision`]).
pub trait Governance: Send + Sync + 'static {
    /// The revision in force.
    fn current(&self) -> Arc<Revision>;
}
