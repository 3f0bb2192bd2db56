//! The use of single-use proofs as rows.

use hallpass_core::port::ProofUse;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Outcome;

/// The scope of an idempotency key: a proof that was used in it may be used in it again.
pub(crate) type Scope = [u8; 32];

/// Records the use of a proof. False, and nothing written, when it was used before other than in the same scope.
pub(crate) fn consume(connection: &Connection, proof: &ProofUse, scope: Option<Scope>) -> Outcome<bool> {
    let sql = "INSERT INTO proof_uses (issuer, proof_id, idempotency_scope, keep_until) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT DO NOTHING";
    let values = params![proof.issuer.as_str(), proof.proof_id, scope, proof.keep_until.as_millis()];
    let first = connection.prepare_cached(sql)?.execute(values)? == 1;
    Ok(first || may_be_used(connection, proof, scope)?)
}

/// Whether [`consume`] would accept the proof.
pub(crate) fn may_be_used(connection: &Connection, proof: &ProofUse, scope: Option<Scope>) -> Outcome<bool> {
    let sql = "SELECT idempotency_scope FROM proof_uses WHERE issuer = ?1 AND proof_id = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let used_in: Option<Option<Scope>> =
        statement.query_row(params![proof.issuer.as_str(), proof.proof_id], |row| row.get(0)).optional()?;
    Ok(used_in.is_none_or(|used_in| used_in.is_some() && used_in == scope))
}
