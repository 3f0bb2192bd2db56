//! What is derived from a grant ends with it, in the same transaction: there is no moment at which the one has ended and the
//! other can still be introspected as alive.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::delegation::Acting;
use hallpass_core::grant::{Cause, Ending, Grant, GrantRecord};
use hallpass_core::id::{GrantId, RequestId};
use hallpass_core::in_force::InForce;
use hallpass_core::port::{Families, StoreError};
use hallpass_core::revocation::Revocation;
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, params};

use crate::SqliteStore;
use crate::error::Outcome;
use crate::revocations::follow;
use crate::rows::audit::EncodedEntry;
use crate::rows::grant::{self, ChangedGrant};
use crate::rows::{id_bytes, integer};
use crate::transaction::Transaction;

/// Most live grants below one root, at any depth. All of them may have to end in one commit, which others wait for.
pub(crate) const MOST_DERIVED: i64 = 256;

#[async_trait]
impl Families for SqliteStore {
    async fn live_grant(&self, id: GrantId, now: Timestamp) -> Result<Option<Grant>, StoreError> {
        // Before the rows: see `InForce::is_live`.
        let in_force = self.writer.in_force();
        self.readers.read(move |connection| live(connection, &in_force, id, now)).await
    }
}

/// The grant `id`, if its credential works: it lives, and so does everything that it is derived from.
pub(crate) fn live(connection: &Connection, in_force: &InForce, id: GrantId, now: Timestamp) -> Outcome<Option<Grant>> {
    let Some(grant) = grant::by_id(connection, id)?.filter(|grant| in_force.is_live(grant, now)) else {
        return Ok(None);
    };
    Ok((!ancestor_ended(connection, in_force, &grant.record, now)?).then_some(grant))
}

/// How many live grants there are below `root`.
pub(crate) fn live_below(transaction: &Transaction<'_>, root: GrantId) -> Outcome<i64> {
    let sql = "SELECT count(*) FROM grants WHERE root_id = ?1 AND state IN ('pending', 'active')";
    Ok(transaction.find(sql, [id_bytes(root.as_uuid())], |row| row.get(0))?.unwrap_or(0))
}

/// How many of them `acting` holds or is acted through.
pub(crate) fn live_below_of(transaction: &Transaction<'_>, root: GrantId, acting: &Acting) -> Outcome<i64> {
    let sql = "SELECT count(*) FROM grants AS g WHERE g.root_id = ?1 AND g.state IN ('pending', 'active')
               AND EXISTS (SELECT 1 FROM json_each(g.actor_chain) AS a
                   WHERE a.value ->> '$.issuer' = ?2 AND a.value ->> '$.subject' = ?3)";
    let values = params![id_bytes(root.as_uuid()), acting.issuer.as_str(), acting.subject];
    Ok(transaction.find(sql, values, |row| row.get(0))?.unwrap_or(0))
}

/// Named here word for word, so that the partial index serves it: of all that was ever derived, what lives.
pub(crate) const DERIVED: &str = "grants INDEXED BY grants_derived
    WHERE root_id IS NOT NULL AND state IN ('pending', 'active') AND status_index >= ?1 AND status_index < ?2";

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
    let sql = format!("SELECT {} FROM {DERIVED}", *grant::SELECTED);
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
    let in_force = Arc::clone(&transaction.numbers.in_force);
    let mut parents = vec![ended];
    while let Some(parent) = parents.pop() {
        for child in live_children(transaction, parent)? {
            parents.push(child.record.id);
            // What a revocation selects ends by that, however it came to be reached: the record says who asked and why.
            let selects = |revocation: &&Arc<Revocation>| revocation.ends(&child.record, child.state_name());
            let why = match in_force.revocations.iter().find(selects) {
                Some(revocation) => Why::Revoked(revocation),
                None => Why::ParentEnded,
            };
            end(transaction, child, parent, why, at, request_id)?;
        }
    }
    Ok(())
}

/// Why something derived ends.
#[derive(Clone, Copy)]
enum Why<'a> {
    ParentEnded,
    Revoked(&'a Revocation),
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
    why: Why<'_>,
    at: Timestamp,
    request_id: Option<RequestId>,
) -> Outcome<()> {
    let failed = |problem: String| StoreError::Unavailable(format!("a derived grant could not end: {problem}"));
    let ending = match why {
        Why::ParentEnded => Ending::by_broker(Cause::PARENT_ENDED, at),
        Why::Revoked(revocation) => Ending {
            cause: Cause::REVOCATION,
            actor: follow::ending_actor(revocation),
            reason: Some(revocation.reason.clone()),
            at,
        },
    };
    // Whether verifiers refuse it already is found by the step that is due at once.
    let ended = child.begin_ending(ending, false).map_err(|error| failed(error.to_string()))?;
    let changed = ChangedGrant { grant: &ended, handle: None, evaluated: None, reservation: None };
    if !changed.update(transaction)? {
        return Err(failed("it was not there any more".to_owned()).into());
    }
    let about = AuditObject::Grant { id: ended.record.id };
    let mut entry = match why {
        Why::ParentEnded => AuditEntry::success(at, Actor::Broker, AuditAction::GrantRevoke, about)
            .for_reason(Cause::PARENT_ENDED.as_str()),
        Why::Revoked(revocation) => {
            follow::count_among(transaction, revocation.id, ended.record.id)?;
            follow::entry(revocation.id, revocation.author.clone(), &revocation.reason, about, at)
        }
    }
    .with("parent", &parent.to_string());
    entry.request_id = request_id;
    transaction.append(&[EncodedEntry::encode(entry)?])
}
