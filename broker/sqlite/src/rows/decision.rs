//! Decisions as rows.

use hallpass_core::id::DecisionId;
use hallpass_core::policy::{Decision, Outcome as Decided, Verdict};
use hallpass_core::port::StoreError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Columns, id_bytes, json};
use crate::error::Outcome;
use crate::transaction::Transaction;

/// A decision to insert, with its structures written out.
pub(crate) struct NewDecision {
    pub(crate) decision: Decision,
    inputs: String,
    determining: String,
    obligations: String,
}

impl NewDecision {
    pub(crate) fn prepare(decision: Decision) -> Result<Self, StoreError> {
        Ok(Self {
            inputs: json(&decision.query)?,
            determining: json(&decision.verdict.determining)?,
            obligations: json(&decision.verdict.obligations)?,
            decision,
        })
    }

    pub(crate) fn insert(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        // A change that is tried again brings its decision again.
        let sql = "INSERT INTO decisions (id, decided_at, revision, schema_version, action, inputs, outcome,
                       determining_policies, obligations)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING";
        let decision = &self.decision;
        let values = params![
            id_bytes(decision.id.as_uuid()),
            decision.decided_at.as_millis(),
            decision.revision.as_str(),
            decision.schema_version,
            decision.query.action.as_str(),
            self.inputs,
            outcome_word(decision.verdict.outcome),
            self.determining,
            self.obligations,
        ];
        transaction.execute(sql, values).map(|_| ())
    }
}

/// One decision.
pub(crate) fn by_id(connection: &Connection, id: DecisionId) -> Outcome<Option<Decision>> {
    let sql = format!("SELECT {SELECTED} FROM decisions WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id_bytes(id.as_uuid())], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

/// The last `limit` that were recorded, newest first.
pub(crate) fn newest(connection: &Connection, limit: usize) -> Outcome<Vec<Decision>> {
    let sql = format!("SELECT {SELECTED} FROM decisions ORDER BY seq DESC LIMIT ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut decisions = Vec::new();
    while let Some(row) = rows.next()? {
        decisions.push(read(row)?);
    }
    Ok(decisions)
}

/// The columns that [`read`] reads.
const SELECTED: &str = "id, decided_at, revision, schema_version, inputs, outcome, determining_policies, obligations";

/// A row of [`SELECTED`] as a decision.
fn read(row: &Row<'_>) -> Result<Decision, StoreError> {
    let columns = &mut Columns::new(row, "decisions");
    let id: DecisionId = columns.id("id")?;
    columns.keyed(id);
    Ok(Decision {
        id,
        decided_at: columns.time("decided_at")?,
        revision: columns.name("revision")?,
        schema_version: columns.natural("schema_version")?,
        query: columns.json("inputs")?,
        verdict: Verdict {
            outcome: columns.parsed("outcome", |word| {
                [Decided::Allow, Decided::Deny].into_iter().find(|outcome| outcome_word(*outcome) == word)
            })?,
            determining: columns.json("determining_policies")?,
            obligations: columns.json("obligations")?,
        },
    })
}

const fn outcome_word(outcome: Decided) -> &'static str {
    match outcome {
        Decided::Allow => "allow",
        Decided::Deny => "deny",
    }
}
