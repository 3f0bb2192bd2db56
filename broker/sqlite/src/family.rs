//! What is derived from a grant ends with it, in the same transaction: there is no moment at which the one has ended and the
//! other can still be introspected as alive.

use std::ops::Range;

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::grant::{Cause, Ending, Grant, GrantRecord};
use hallpass_core::id::{GrantId, RequestId};
use hallpass_core::in_force::InForce;
use hallpass_core::port::StoreError;
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, params};

use crate::error::Outcome;
use crate::rows::audit::EncodedEntry;
use crate::rows::grant::{self, ChangedGrant};
use crate::rows::{id_bytes, integer};
use crate::transaction::Transaction;

/// Most live grants below one root, at any depth. All of them may have to end in one commit, which others wait for.
pub(crate) const MOST_DERIVED: i64 = 256;

/// How many live grants there are below `root`.
pub(crate) fn live_below(transaction: &Transaction<'_>, root: GrantId) -> Outcome<i64> {
    let sql = "SELECT count(*) FROM grants WHERE root_id = ?1 AND state IN ('pending', 'active')";
    Ok(transaction.find(sql, [id_bytes(root.as_uuid())], |row| row.get(0))?.unwrap_or(0))
}

/// Whether something that a grant of this record is derived from, at any height, has ended: by its row, or by a command
/// whose rows have yet to follow.
pub(crate) fn ancestor_ended(
    connection: &Connection,
    in_force: &InForce,
    record: &GrantRecord,
    now: Timestamp,
) -> Outcome<bool> {
    let mut above = record.parent;
    while let Some(id) = above {
        match grant::by_id(connection, id)? {
            Some(parent) if in_force.is_live(&parent, now) => above = parent.record.parent,
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// Adds to `found` the status indexes of live grants that are derived from what has ended and whose own rows have yet to
/// follow.
pub(crate) fn derived_ended_ahead(
    connection: &Connection,
    in_force: &InForce,
    indexes: &Range<u64>,
    found: &mut Vec<u64>,
) -> Outcome<()> {
    if in_force.revocations.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT {} FROM grants INDEXED BY grants_root WHERE root_id IS NOT NULL AND state IN ('pending', 'active')
         AND status_index >= ?1 AND status_index < ?2",
        *grant::SELECTED
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![integer(indexes.start), integer(indexes.end)])?;
    let before = found.len();
    while let Some(row) = rows.next()? {
        let derived = grant::read(row)?;
        // Only what was commanded is looked for here: what ends by its own time ends what is derived from it, too.
        if ancestor_ended(connection, in_force, &derived.record, derived.record.created_at)? {
            found.push(derived.record.status_index);
        }
    }
    if found.len() > before {
        found.sort_unstable();
        found.dedup();
    }
    Ok(())
}

/// Ends everything that is derived from `ended`, whose life is over or being ended.
pub(crate) fn end_derived(
    transaction: &mut Transaction<'_>,
    ended: GrantId,
    at: Timestamp,
    request_id: Option<RequestId>,
) -> Outcome<()> {
    let mut parents = vec![ended];
    while let Some(parent) = parents.pop() {
        for child in live_children(transaction, parent)? {
            parents.push(child.record.id);
            end(transaction, child, parent, at, request_id)?;
        }
    }
    Ok(())
}

fn live_children(transaction: &Transaction<'_>, parent: GrantId) -> Outcome<Vec<Grant>> {
    let sql = format!(
        "SELECT {} FROM grants INDEXED BY grants_parent WHERE parent_id = ?1 AND state IN ('pending', 'active')",
        *grant::SELECTED
    );
    let mut statement = transaction.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id_bytes(parent.as_uuid())])?;
    let mut children = Vec::new();
    while let Some(row) = rows.next()? {
        children.push(grant::read(row)?);
    }
    Ok(children)
}

fn end(
    transaction: &mut Transaction<'_>,
    child: Grant,
    parent: GrantId,
    at: Timestamp,
    request_id: Option<RequestId>,
) -> Outcome<()> {
    let failed = |problem: String| StoreError::Unavailable(format!("a derived grant could not end: {problem}"));
    // Whether verifiers refuse it already is found by the step that is due at once.
    let ended = child
        .begin_ending(Ending::by_broker(Cause::PARENT_ENDED, at), false)
        .map_err(|error| failed(error.to_string()))?;
    let changed = ChangedGrant { grant: &ended, handle: None, evaluated: None, reservation: None };
    if !changed.update(transaction)? {
        return Err(failed("it was not there any more".to_owned()).into());
    }
    let about = AuditObject::Grant { id: ended.record.id };
    let mut entry = AuditEntry::success(at, Actor::Broker, AuditAction::GrantRevoke, about)
        .for_reason(Cause::PARENT_ENDED.as_str())
        .with("parent", &parent.to_string());
    entry.request_id = request_id;
    transaction.append(&[EncodedEntry::encode(entry)?])
}
