//! Beginning: the row, the decisions behind it, and from the commit on it holds.

use std::sync::Arc;

use hallpass_core::id::RevocationId;
use hallpass_core::port::{Beginning, Begun, IdempotencyClaim, StoreError};
use hallpass_core::revocation::Revocation;
use rusqlite::params;
use uuid::Uuid;

use crate::error::Outcome;
use crate::quarantines::{self, Place};
use crate::rows::audit::EncodedEntry;
use crate::rows::decision::NewDecision;
use crate::rows::{id_bytes, json, revocation};
use crate::transaction::Transaction;
use crate::writer::Operation;

/// A revocation, written out.
pub(crate) struct Begin {
    revocation: Arc<Revocation>,
    selector: String,
    reach: String,
    author: String,
    quarantine: Option<quarantines::Add>,
    decisions: Vec<NewDecision>,
    entries: Vec<EncodedEntry>,
    idempotency: Option<IdempotencyClaim>,
    epoch: u64,
}

impl Begin {
    pub(crate) fn prepare(beginning: Beginning) -> Result<Self, StoreError> {
        let Beginning { revocation, quarantine, decisions, entries, idempotency, epoch } = beginning;
        Ok(Self {
            selector: json(&revocation.selector)?,
            reach: json(&revocation.reach)?,
            author: revocation::author(&revocation.author)?,
            quarantine: quarantine.map(|order| quarantines::Add::prepare(order, epoch)).transpose()?,
            decisions: decisions.into_iter().map(NewDecision::prepare).collect::<Result<_, _>>()?,
            entries: EncodedEntry::encode_all(entries)?,
            revocation: Arc::new(revocation),
            idempotency,
            epoch,
        })
    }

    pub(crate) fn id(&self) -> RevocationId {
        self.revocation.id
    }

    /// Writes it; with the commit it holds.
    pub(crate) fn place(&self, transaction: &mut Transaction<'_>) -> Outcome<()> {
        for decision in &self.decisions {
            decision.insert(transaction)?;
        }
        let sql = "INSERT INTO revocations (id, selector, reach, author, reason, quarantine_id, created_at,
                       idempotency_scope, request_digest)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let revocation = &self.revocation;
        let values = params![
            id_bytes(revocation.id.as_uuid()),
            self.selector,
            self.reach,
            self.author,
            revocation.reason,
            revocation.quarantine.map(|id| id_bytes(id.as_uuid())),
            revocation.created_at.as_millis(),
            self.idempotency.as_ref().map(|claim| claim.scope),
            self.idempotency.as_ref().map(|claim| claim.request_digest),
        ];
        transaction.execute(sql, values)?;
        transaction.numbers.epoch = transaction.numbers.epoch.saturating_add(1);
        transaction.command(|in_force| in_force.revocations.push(Arc::clone(&self.revocation)));
        transaction.append(&self.entries)?;
        Ok(())
    }

    /// What the same idempotency key began before.
    fn earlier(&self, transaction: &Transaction<'_>) -> Outcome<Option<Begun>> {
        let Some(claim) = &self.idempotency else { return Ok(None) };
        let sql = "SELECT id, request_digest FROM revocations WHERE idempotency_scope = ?1";
        let found =
            transaction.find(sql, [claim.scope], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, [u8; 32]>(1)?)))?;
        Ok(found.map(|(id, digest)| {
            let id: RevocationId = Uuid::from_bytes(id).into();
            if digest == claim.request_digest { Begun::Already(id) } else { Begun::RequestMismatch }
        }))
    }
}

impl Operation for Begin {
    type Found = Begun;
    type Answer = Begun;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Begun> {
        transaction.observe_clock(self.revocation.created_at)?;
        if let Some(earlier) = self.earlier(transaction)? {
            return Ok(earlier);
        }
        if transaction.numbers.epoch != self.epoch {
            return Ok(Begun::Moved);
        }
        if !transaction.numbers.in_force.has_room_for_revocation(&self.revocation.author) {
            return Ok(Begun::TooMany);
        }
        if let Some(quarantine) = &self.quarantine
            && quarantine.place(transaction)? == Place::None
        {
            return Ok(Begun::TooManyQuarantines);
        }
        self.place(transaction)?;
        Ok(Begun::Begun)
    }

    fn answer(self, found: Begun) -> Begun {
        found
    }
}
