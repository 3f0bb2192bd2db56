//! Receipts for grants: proof that what was told of an opening is in the log.

use super::Ports;
use super::inspect::Included;
use super::inspect::log::included;
use crate::audit::{AuditAction, AuditOutcome, Leaf, Receipt};
use crate::error::{Reason, ServiceError};
use crate::id::GrantId;
use crate::port::{AuditFilter, PageRequest};

/// A receipt with the entry that it is for.
#[derive(Debug)]
pub struct GrantReceipt {
    /// The entry that made the grant active, or that told of its opening.
    pub leaf: Leaf,
    /// What shows that it is in the log.
    pub receipt: Receipt,
}

/// A receipt for the opening of a grant: its newest entry of being opened or made active, in the log as it stands now.
///
/// # Errors
/// [`ServiceError::Unavailable`]; the grant is open all the same, and its caller must not be told that it has no receipt
/// by not getting one.
pub async fn receipt(ports: &Ports, grant: GrantId) -> Result<GrantReceipt, ServiceError> {
    let filter = AuditFilter { grant: Some(grant), request_id: None };
    let page = PageRequest { cursor: None, limit: PageRequest::MAX_LIMIT };
    let told = ports.store.audit(&filter, &page).await?.items;
    let opened = told.into_iter().rev().find(|recorded| {
        let of_opening = matches!(recorded.entry.action, AuditAction::GrantActivate | AuditAction::GrantOpen);
        of_opening && recorded.entry.outcome == AuditOutcome::Success
    });
    let missing = || ServiceError::unavailable(Reason::StoreUnavailable, "the audit log does not tell of the grant");
    let sequence = opened.ok_or_else(missing)?.sequence;
    let checkpoint = ports.evidence.checkpoint_at(ports, None).await?.ok_or_else(missing)?;
    let Included { leaf, proof, checkpoint } = included(ports, sequence, checkpoint).await?.ok_or_else(missing)?;
    let receipt = Receipt { sequence, hashes: proof.hashes, checkpoint: checkpoint.note };
    Ok(GrantReceipt { leaf, receipt })
}
