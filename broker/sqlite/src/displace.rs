//! One grant ends because another takes its place, in the transaction that opens or activates the other.

use hallpass_core::audit::{AuditAction, AuditEntry, AuditObject};
use hallpass_core::credential::RevocationClass;
use hallpass_core::delegation;
use hallpass_core::grant::{Cause, Ending, Grant, GrantRecord, HolderKey, StateName};
use hallpass_core::id::RequestId;
use hallpass_core::port::{Replaced, StoreError};
use hallpass_core::time::Timestamp;

use crate::error::Outcome;
use crate::family;
use crate::rows::audit::EncodedEntry;
use crate::rows::grant::{self, ChangedGrant};
use crate::transaction::Transaction;

/// What takes another's place, when, and in which request.
pub(crate) struct Successor<'a> {
    pub(crate) record: &'a GrantRecord,
    pub(crate) at: Timestamp,
    pub(crate) request_id: Option<RequestId>,
}

impl Successor<'_> {
    /// Ends the earlier grant of a repeated request: whoever lost its answer must not be left with two.
    pub(crate) fn supersede(
        &self,
        transaction: &mut Transaction<'_>,
        earlier: Grant,
        fenced_by_record: bool,
    ) -> Outcome<()> {
        let fenced = fenced_by_record && earlier.record.backend == self.record.backend;
        self.end(transaction, earlier, Cause::SUPERSEDED, fenced, "superseded_by")
    }

    /// Ends the grant that its holder asked to have replaced. Another's is left alone, whatever the request says.
    pub(crate) fn replace(&self, transaction: &mut Transaction<'_>, replaced: Replaced) -> Outcome<()> {
        let holder = HolderKey::of_record(self.record);
        let found = grant::by_id(transaction.connection, replaced.id)?;
        let Some(earlier) = found.filter(|earlier| holder.holds(&earlier.record)) else { return Ok(()) };
        self.end(transaction, earlier, Cause::REPLACED, replaced.fenced_by_record, "replaced_by")
    }

    fn end(
        &self,
        transaction: &mut Transaction<'_>,
        earlier: Grant,
        cause: Cause,
        fenced_by_record: bool,
        by: &str,
    ) -> Outcome<()> {
        if earlier.state_name() != StateName::Active {
            return Ok(());
        }
        let fenced = fenced_by_record && earlier.record.class() == RevocationClass::Fenced;
        let holder = &self.record.holder;
        let actor = Some(format!("{}:{}", holder.issuer, holder.subject));
        let ending = Ending { cause: cause.clone(), actor, reason: None, at: self.at };
        let failed = |problem: String| StoreError::Unavailable(format!("an earlier grant could not end: {problem}"));
        let ended = earlier.begin_ending(ending, fenced).map_err(|error| failed(error.to_string()))?;
        let changed = ChangedGrant { grant: &ended, handle: None, evaluated: None, reservation: None };
        if !changed.update(transaction)? {
            return Err(failed("it was not there any more".to_owned()).into());
        }
        let (actor, whom) = delegation::parties(self.record);
        let about = AuditObject::Grant { id: ended.record.id };
        let mut entry = AuditEntry::success(self.at, actor, AuditAction::GrantRevoke, about)
            .for_another(whom)
            .for_reason(cause.as_str())
            .with(by, &self.record.id.to_string());
        if fenced {
            entry = entry.with("fenced_at", &self.at.to_rfc3339());
        }
        entry.request_id = self.request_id;
        transaction.append(&[EncodedEntry::encode(entry)?])?;
        family::end_derived(transaction, ended.record.id, self.at, self.request_id)
    }
}
