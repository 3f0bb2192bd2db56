//! Following: the rows of a revocation's grants come to say what holds already, a few at a time.

use std::time::{Duration, Instant};

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::grant::{Cause, EXPIRY_SKEW};
use hallpass_core::id::{GrantId, RevocationId};
use hallpass_core::port::{Followed, StoreError};
use hallpass_core::revocation::Revocation;
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, Row, params};

use super::selection::{Examine, Place, Selection, Walked};
use crate::error::Outcome;
use crate::family;
use crate::rows::audit::EncodedEntry;
use crate::rows::{Columns, id_bytes, json};
use crate::transaction::Transaction;
use crate::writer::Operation;

/// How long the writer works for one step: whoever waits meanwhile waits for no more than this and the sync.
const STEP: Duration = Duration::from_millis(12);

/// Grants that one step can end at most. What a fast disk and a fast machine do in a [`STEP`].
const CANDIDATES: usize = 1_000;

/// Rows that one step looks at, selected or not: of a selection most may be others' to end, and of a large table next to
/// nothing may be selected.
const EXAMINED: usize = 20_000;

/// What was read for a step.
pub(crate) struct Step {
    seq: i64,
    walked: Walked,
    measured: bool,
}

/// Reads what the next step may end.
pub(crate) fn read(connection: &Connection, revocation: &Revocation) -> Outcome<Step> {
    let sql = "SELECT seq, place, selected IS NOT NULL AS measured FROM revocations WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([id_bytes(revocation.id.as_uuid())], |row| Ok(read_place(row, revocation.id)))?;
    let (seq, place, measured) = found?;
    let walked = Selection::of(revocation).walk(connection, place, CANDIDATES, Examine::Rows(EXAMINED))?;
    Ok(Step { seq, walked, measured })
}

fn read_place(row: &Row<'_>, id: RevocationId) -> Result<(i64, Place, bool), StoreError> {
    let columns = &mut Columns::new(row, "revocations");
    columns.keyed(id);
    let seq = columns.value("seq")?;
    let place: Option<Place> = columns.optional_json("place")?;
    Ok((seq, place.unwrap_or_default(), columns.value("measured")?))
}

/// How many grants a revocation ends: those that have followed, and those that have yet to.
pub(crate) fn selected(connection: &Connection, id: RevocationId, selection: &Selection) -> Outcome<i64> {
    let sql = "SELECT count(*) FROM grants WHERE revocation_seq = (SELECT seq FROM revocations WHERE id = ?1)";
    let followed: i64 = connection.prepare_cached(sql)?.query_row([id_bytes(id.as_uuid())], |row| row.get(0))?;
    let counts = selection.count(connection)?;
    let left = hallpass_core::service::revoke_set::would_end(&counts);
    Ok(followed.saturating_add(crate::rows::integer(left)))
}

/// One step.
pub(crate) struct Follow {
    id: RevocationId,
    author: Actor,
    ending_actor: Option<String>,
    reason: String,
    step: Step,
    fenced_kinds: String,
    now: Timestamp,
}

impl Follow {
    pub(crate) fn new(revocation: &Revocation, step: Step, fenced_kinds: &[String], now: Timestamp) -> Self {
        Self {
            id: revocation.id,
            author: revocation.author.clone(),
            ending_actor: ending_actor(revocation),
            reason: revocation.reason.clone(),
            step,
            // A list of plain words is always written.
            fenced_kinds: json(&fenced_kinds).unwrap_or_else(|_| "[]".to_owned()),
            now,
        }
    }

    /// Does in one statement what `Grant::begin_ending` does to one grant. The conformance suite holds the two together.
    /// What is active keeps its place among those that end by themselves, and so its index.
    fn end(&self, transaction: &Transaction<'_>, seq: i64) -> Outcome<bool> {
        const FENCED: &str = "(revocation_class = 'fenced' AND backend_kind IN (SELECT value FROM json_each(?5)))";
        let statement = |from: &str, over: &str| {
            format!(
                "UPDATE grants SET version = version + 1, state = 'revoking', deadline = NULL, cause = ?1,
                     ending_actor = ?2, ending_reason = ?3, ending_at = ?4, attempts = 0, last_error = NULL,
                     fenced_at = CASE WHEN {FENCED} THEN ?4 END,
                     retry_at = CASE WHEN revocation_class = 'expiry_only' OR {FENCED} THEN max(expires_at + ?6, ?4)
                                ELSE ?4 END,
                     due_at = CASE WHEN revocation_class = 'expiry_only' OR {FENCED}
                                       OR (revocation_class <> 'hard' AND expires_at + ?6 <= ?4) THEN NULL ELSE ?4 END,
                     revocation_seq = ?7{over}
                 WHERE seq = ?8 AND state = '{from}'"
            )
        };
        let values = params![
            Cause::REVOCATION.as_str(),
            self.ending_actor,
            self.reason,
            self.now.as_millis(),
            self.fenced_kinds,
            i64::try_from(EXPIRY_SKEW.as_secs().saturating_mul(1000)).unwrap_or(i64::MAX),
            self.step.seq,
            seq,
        ];
        let over = ", over_at = CASE WHEN revocation_class <> 'hard' THEN expires_at + ?6 END";
        Ok(transaction.execute(&statement("active", ""), values)? == 1
            || transaction.execute(&statement("pending", over), values)? == 1)
    }
}

impl Operation for Follow {
    type Found = Followed;
    type Answer = Followed;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Followed> {
        let Step { seq, walked, measured } = &self.step;
        let begun = stopwatch();
        let mut ended: Vec<GrantId> = Vec::with_capacity(walked.candidates.len());
        let mut goes_on = walked.goes_on;
        for (done, candidate) in walked.candidates.iter().enumerate() {
            if done % 8 == 7 && begun.elapsed() > STEP {
                // What is not reached in time is read again.
                goes_on = done.checked_sub(1).and_then(|last| walked.candidates.get(last)).map(|last| last.place);
                break;
            }
            if self.end(transaction, candidate.seq)? {
                ended.push(candidate.id);
                family::end_derived(transaction, candidate.id, self.now, None)?;
            }
        }
        let place = goes_on.as_ref().map(json).transpose()?;
        let sql = "UPDATE revocations SET place = ?1 WHERE seq = ?2 AND completed_at IS NULL";
        transaction.execute(sql, params![place, seq])?;
        let followed = Followed { ended: ended.len(), more: goes_on.is_some(), measured: *measured };
        if !ended.is_empty() {
            let object = AuditObject::Grants { ids: ended };
            let entry = entry(self.id, self.author.clone(), &self.reason, object, self.now);
            transaction.append(&[EncodedEntry::encode(entry)?])?;
        }
        Ok(followed)
    }

    fn answer(self, found: Followed) -> Followed {
        found
    }
}

/// Who asked, as the record of a grant names it.
pub(crate) fn ending_actor(revocation: &Revocation) -> Option<String> {
    match &revocation.author {
        Actor::Identity { issuer, subject } => Some(format!("{issuer}:{subject}")),
        Actor::Broker | Actor::Unverified { .. } | Actor::LocalAdministrator => None,
    }
}

/// What the log says of grants that a revocation ends.
pub(crate) fn entry(id: RevocationId, author: Actor, reason: &str, about: AuditObject, now: Timestamp) -> AuditEntry {
    AuditEntry::success(now, author, AuditAction::GrantRevoke, about)
        .for_reason(Cause::REVOCATION.as_str())
        .with("revocation", &id.to_string())
        .with("reason", reason)
}

/// Counts a grant that began to end with another among those of the revocation that selects it.
pub(crate) fn count_among(transaction: &Transaction<'_>, id: RevocationId, grant: GrantId) -> Outcome<()> {
    let sql = "UPDATE grants SET revocation_seq = (SELECT seq FROM revocations WHERE id = ?1) WHERE id = ?2";
    transaction.execute(sql, params![id_bytes(id.as_uuid()), id_bytes(grant.as_uuid())]).map(|_| ())
}

#[expect(clippy::disallowed_methods, reason = "measures how long the writer has been kept, and decides nothing else")]
fn stopwatch() -> Instant {
    Instant::now()
}
