//! The audit log and its proofs, for who may read it.

use super::Caller;
use crate::audit::proof::{ConsistencyProof, InclusionProof};
use crate::audit::tree::TreeHash;
use crate::audit::{AuditObject, Leaf, RecordedEntry, SignedCheckpoint};
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::policy::{Action, Resource};
use crate::port::{AuditFilter, Page, PageRequest};
use crate::request::Origin;
use crate::service::Ports;
use crate::service::decide::permit;

/// Shows that an entry is in the log.
#[derive(Debug)]
pub struct Included {
    /// The entry's leaf.
    pub leaf: Leaf,
    /// Its way up the tree.
    pub proof: InclusionProof,
    /// What the log came to, signed.
    pub checkpoint: SignedCheckpoint,
}

/// Shows that the log begins with what it was.
#[derive(Debug)]
pub struct Extended {
    /// How the two hang together.
    pub proof: ConsistencyProof,
    /// What the log came to when it was shorter.
    pub from_root: TreeHash,
    /// What it came to when it was longer, signed.
    pub checkpoint: SignedCheckpoint,
}

impl Caller {
    /// The audit log, if the caller may read it.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn audit(
        &self,
        ports: &Ports,
        filter: &AuditFilter,
        page: &PageRequest,
        origin: &Origin,
    ) -> Result<Page<RecordedEntry>, ServiceError> {
        self.permit_log(ports, origin).await?;
        Ok(ports.store.audit(filter, page).await?)
    }

    /// What the audit log has come to, signed, if the caller may read it.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn checkpoint(&self, ports: &Ports, origin: &Origin) -> Result<SignedCheckpoint, ServiceError> {
        self.permit_log(ports, origin).await?;
        self.signed_at(ports, None).await
    }

    /// Shows that the entry at `sequence` is in the log of `size` entries, or of all that there are.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn inclusion(
        &self,
        ports: &Ports,
        sequence: u64,
        size: Option<u64>,
        origin: &Origin,
    ) -> Result<Included, ServiceError> {
        self.permit_log(ports, origin).await?;
        let checkpoint = self.signed_at(ports, size).await?;
        included(ports, sequence, checkpoint).await?.ok_or_else(|| {
            let size = size.unwrap_or_else(|| ports.store.log_size());
            beyond("entry", format!("`entry` is counted from 0 and below {size}, the number of entries"))
        })
    }

    /// Shows that the log of `size` entries, or of all that there are, begins with the first `from`.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn consistency(
        &self,
        ports: &Ports,
        from: u64,
        size: Option<u64>,
        origin: &Origin,
    ) -> Result<Extended, ServiceError> {
        self.permit_log(ports, origin).await?;
        let checkpoint = self.signed_at(ports, size).await?;
        let size = checkpoint.checkpoint.head.size;
        let proof = ports.store.consistency(from, size).await?;
        let from_root = ports.store.root_at(from).await?;
        match (proof, from_root) {
            (Some(proof), Some(from_root)) => Ok(Extended { proof, from_root, checkpoint }),
            _ => Err(beyond("from", format!("`from` is a number of entries, {size} at most"))),
        }
    }

    async fn permit_log(&self, ports: &Ports, origin: &Origin) -> Result<(), ServiceError> {
        let query = self.query(ports, Action::Read, Resource::AuditLog).await?;
        let refusal = Refusal::new(Step::Policy, Reason::PolicyDenied, "policy does not let you read the audit log");
        permit(ports, &self.revision, query, self.trail(AuditObject::Broker, origin), refusal).await.map(|_| ())
    }

    async fn signed_at(&self, ports: &Ports, size: Option<u64>) -> Result<SignedCheckpoint, ServiceError> {
        ports.evidence.checkpoint_at(ports, size).await?.ok_or_else(|| {
            let entries = ports.store.log_size();
            beyond("size", format!("`size` is a number of entries, and the log has {entries}"))
        })
    }
}

/// The entry at `sequence` with its way up to what `checkpoint` signs; `None` where that does not cover it.
pub(in crate::service) async fn included(
    ports: &Ports,
    sequence: u64,
    checkpoint: SignedCheckpoint,
) -> Result<Option<Included>, ServiceError> {
    let head = checkpoint.checkpoint.head;
    let Some((proof, _)) = ports.store.inclusion(sequence, head.size).await? else { return Ok(None) };
    let leaf = ports.store.leaves(sequence, 1).await?.into_iter().next();
    Ok(leaf.map(|leaf| Included { leaf, proof, checkpoint }))
}

fn beyond(parameter: &str, detail: String) -> ServiceError {
    Refusal::request(Reason::MalformedRequest, parameter, detail).into()
}
