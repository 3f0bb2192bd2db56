//! Audit entries as rows. The canonical JSON is the entry; the columns beside it repeat parts for queries.

use hallpass_core::audit::tree::TreeHash;
use hallpass_core::audit::{AuditEntry, AuditObject, Leaf, RecordedEntry};
use hallpass_core::id::{GrantId, LogId};
use hallpass_core::port::StoreError;
use rusqlite::{Row, params};

use super::{Columns, id_bytes, word};
use crate::error::Outcome;
use crate::transaction::Transaction;

/// An entry to append, written out.
pub(crate) struct EncodedEntry {
    pub(crate) entry: AuditEntry,
    action: String,
    outcome: String,
    canonical: Vec<u8>,
}

impl EncodedEntry {
    pub(crate) fn encode(entry: AuditEntry) -> Result<Self, StoreError> {
        let canonical = serde_json::to_vec(&entry).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { action: word(&entry.action)?, outcome: word(&entry.outcome)?, canonical, entry })
    }

    pub(crate) fn encode_all(entries: Vec<AuditEntry>) -> Result<Vec<Self>, StoreError> {
        entries.into_iter().map(Self::encode).collect()
    }

    /// The hash of its leaf at that place.
    pub(crate) fn leaf_hash(&self, log: LogId, sequence: u64) -> TreeHash {
        Leaf::hash_of(log, sequence, &self.canonical)
    }

    pub(crate) fn insert(&self, transaction: &Transaction<'_>, sequence: i64) -> Outcome<()> {
        let sql = "INSERT INTO audit_entries (sequence, time, action, outcome, reason, decision_id, request_id,
                       correlation_id, grant_id, entry)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let entry = &self.entry;
        let (one, several) = self.grants();
        let values = params![
            sequence,
            entry.time.as_millis(),
            self.action,
            self.outcome,
            entry.reason,
            entry.decision.map(|id| id_bytes(id.as_uuid())),
            entry.request_id.map(|id| id_bytes(id.as_uuid())),
            entry.correlation_id,
            one.map(|id| id_bytes(id.as_uuid())),
            self.canonical,
        ];
        transaction.execute(sql, values)?;
        for grant in several {
            let sql = "INSERT INTO audit_grants (grant_id, sequence) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            transaction.execute(sql, params![id_bytes(grant.as_uuid()), sequence])?;
        }
        Ok(())
    }

    /// The grant that the entry is about, or the several.
    fn grants(&self) -> (Option<GrantId>, &[GrantId]) {
        match &self.entry.object {
            AuditObject::Grant { id } => (Some(*id), &[]),
            AuditObject::Grants { ids } => (None, ids),
            AuditObject::Role { .. }
            | AuditObject::Configuration { .. }
            | AuditObject::Key { .. }
            | AuditObject::Revocation { .. }
            | AuditObject::Quarantine { .. }
            | AuditObject::Broker => (None, &[]),
        }
    }
}

/// The columns that [`read`] reads.
pub(crate) const SELECTED: &str = "sequence, entry";

/// A row of [`SELECTED`] as an entry of `log`.
pub(crate) fn read(row: &Row<'_>, log: LogId) -> Result<RecordedEntry, StoreError> {
    let columns = &mut Columns::new(row, "audit_entries");
    let sequence: u64 = columns.natural("sequence")?;
    columns.keyed(sequence);
    let canonical: Vec<u8> = columns.value("entry")?;
    let entry = serde_json::from_slice(&canonical).map_err(|error| columns.inconsistent("entry", error))?;
    Ok(RecordedEntry { log, sequence, entry })
}

/// A row of [`SELECTED`] as a leaf of the tree of `log`.
pub(crate) fn read_leaf(row: &Row<'_>, log: LogId) -> Result<Leaf, StoreError> {
    let columns = &mut Columns::new(row, "audit_entries");
    let sequence: u64 = columns.natural("sequence")?;
    columns.keyed(sequence);
    let canonical: Vec<u8> = columns.value("entry")?;
    let canonical = String::from_utf8(canonical).map_err(|error| columns.inconsistent("entry", error))?;
    Ok(Leaf::new(log, sequence, &canonical))
}
