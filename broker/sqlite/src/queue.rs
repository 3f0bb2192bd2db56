//! What is due: holds on it, and the two things that are done in bulk.
//!
//! A grant is driven by one of two indexed columns. `due_at` is when a worker must take a step; `over_at` is when a
//! fenced or expiry-only grant is over without anybody's doing. Most grants only ever have the second, so that the
//! expiry of thousands is one statement and the workers' queue stays short.

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::grant::{Cause, Grant};
use hallpass_core::id::{GrantId, ReservationId};
use hallpass_core::port::{LineageClaim, Share};
use hallpass_core::time::{Timestamp, Ttl};
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::error::{Failure, Outcome};
use crate::lock::Lock;
use crate::rows::audit::EncodedEntry;
use crate::rows::{grant, id_bytes};
use crate::spares;
use crate::transaction::Transaction;

/// Whose due grants are asked for, by the name, or the names as a JSON array, that are the fifth parameter.
const ALL: &str = "?5 = ?5";
const OF: &str = "backend = ?5";
const NOT_ENDING: &str = "state <> 'revoking' AND ?5 = ?5";
const EXCEPT_OF: &str = "backend NOT IN (SELECT value FROM json_each(?5))";

/// A grant that was reserved, with its handle still sealed.
pub(crate) struct Held {
    pub(crate) grant: Grant,
    pub(crate) sealed_handle: Vec<u8>,
}

/// Takes the hold; answers where the held grants are, the longest due first.
pub(crate) fn reserve(
    transaction: &Transaction<'_>,
    now: Timestamp,
    hold: Ttl,
    reservation: ReservationId,
    share: &Share,
    limit: usize,
) -> Outcome<Vec<i64>> {
    let (whose, names) = match share {
        Share::All => (ALL, String::new()),
        Share::Of(backend) => (OF, backend.to_string()),
        Share::NotEnding => (NOT_ENDING, String::new()),
        Share::ExceptOf(backends) => (EXCEPT_OF, serde_json::json!(backends).to_string()),
    };
    let sql = format!(
        "UPDATE grants SET reservation = ?1, reserved_until = ?2 WHERE seq IN (
             SELECT seq FROM grants
             WHERE due_at IS NOT NULL AND due_at <= ?3
                 AND (reserved_until IS NULL OR reserved_until <= ?3) AND (over_at IS NULL OR over_at > ?3)
                 AND {whose}
             ORDER BY due_at, seq LIMIT ?4)
         RETURNING due_at, seq"
    );
    let mut statement = transaction.prepare(&sql)?;
    let values = params![
        id_bytes(reservation.as_uuid()),
        now.plus(hold).as_millis(),
        now.as_millis(),
        i64::try_from(limit).unwrap_or(i64::MAX),
        names,
    ];
    let rows = statement.query_map(values, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let mut held = rows.collect::<Result<Vec<_>, _>>()?;
    held.sort_unstable();
    Ok(held.into_iter().map(|(_, seq)| seq).collect())
}

/// Reads what was reserved. A row that does not read must not hide the others: it is reported, and stays held until
/// the hold expires.
pub(crate) fn read_held(connection: &Connection, places: &[i64]) -> Outcome<Vec<Held>> {
    let mut held = Vec::with_capacity(places.len());
    for &seq in places {
        match grant::by_seq(connection, seq) {
            Ok(Some(grant)) => {
                let sql = "SELECT handle FROM grants WHERE seq = ?1";
                let sealed_handle = connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0))?;
                held.push(Held { grant, sealed_handle });
            }
            Ok(None) => {}
            Err(Failure::Store(error)) => tracing::error!(%error, seq, "a due grant cannot be read"),
            Err(failure) => return Err(failure),
        }
    }
    Ok(held)
}

pub(crate) fn release(transaction: &Transaction<'_>, reservation: ReservationId) -> Outcome<()> {
    let sql = "UPDATE grants SET reservation = NULL, reserved_until = NULL WHERE reservation = ?1";
    transaction.execute(sql, [id_bytes(reservation.as_uuid())]).map(|_| ())
}

/// Gives up every hold. The lock proves that no other process lives, so whoever held them is dead: what it was ending
/// must not wait until its holds expire.
pub(crate) fn release_all(connection: &Connection, _alone: &Lock) -> rusqlite::Result<()> {
    let sql = "UPDATE grants SET reservation = NULL, reserved_until = NULL WHERE reservation IS NOT NULL";
    connection.execute(sql, []).map(|_| ())
}

/// Does in one statement what [`Grant::expire`] does to one grant. The conformance suite holds the two together.
pub(crate) fn expire(transaction: &mut Transaction<'_>, now: Timestamp, limit: usize) -> Outcome<usize> {
    let sql = "UPDATE grants SET version = version + 1, state = 'expired', ended_at = ?1,
                   cause = coalesce(cause, ?2), ending_at = coalesce(ending_at, expires_at),
                   attempts = NULL, retry_at = NULL, last_error = NULL,
                   due_at = NULL, over_at = NULL, reservation = NULL, reserved_until = NULL
               WHERE seq IN (
                   SELECT seq FROM grants WHERE over_at IS NOT NULL AND over_at <= ?1 ORDER BY over_at, seq LIMIT ?3)
               RETURNING id";
    let ids = {
        let mut statement = transaction.prepare(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = params![now.as_millis(), Cause::EXPIRED.as_str(), limit];
        let rows = statement.query_map(values, |row| row.get::<_, [u8; 16]>(0))?;
        let ids: Result<Vec<GrantId>, _> = rows.map(|id| id.map(|id| Uuid::from_bytes(id).into())).collect();
        ids?
    };
    if ids.is_empty() {
        return Ok(0);
    }
    let expired = ids.len();
    let entry = AuditEntry::success(now, Actor::Broker, AuditAction::GrantExpire, AuditObject::Grants { ids })
        .for_reason(Cause::EXPIRED.as_str());
    transaction.append(&[EncodedEntry::encode(entry)?])?;
    Ok(expired)
}

/// Removes records of proofs and idempotency keys that have outlived what they guard against, and lineages that are over.
pub(crate) fn purge(transaction: &Transaction<'_>, now: Timestamp, limit: usize) -> Outcome<usize> {
    let proofs = "DELETE FROM proof_uses WHERE (issuer, proof_id) IN (
                      SELECT issuer, proof_id FROM proof_uses WHERE keep_until < ?1 ORDER BY keep_until LIMIT ?2)";
    let keys = "DELETE FROM idempotency WHERE scope IN (
                    SELECT scope FROM idempotency WHERE keep_until < ?1 ORDER BY keep_until LIMIT ?2)";
    let lineages = "DELETE FROM lineages WHERE (issuer, subject, role) IN (
                        SELECT issuer, subject, role FROM lineages WHERE held_until < ?1 ORDER BY held_until LIMIT ?2)";
    let paused = now.minus(LineageClaim::PAUSE);
    let mut removed = 0_usize;
    for (sql, horizon) in [(proofs, now), (keys, now), (lineages, paused)] {
        let left = i64::try_from(limit.saturating_sub(removed)).unwrap_or(i64::MAX);
        removed = removed.saturating_add(transaction.execute(sql, params![horizon.as_millis(), left])?);
    }
    Ok(removed.saturating_add(spares::purge(transaction, now, limit.saturating_sub(removed))?))
}
