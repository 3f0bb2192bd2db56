//! One change to one grant, guarded by the version that was read and by the hold it was read under.

use hallpass_core::audit::AuditEntry;
use hallpass_core::grant::{Grant, GrantState, StateName};
use hallpass_core::id::RequestId;
use hallpass_core::in_force::Bar;
use hallpass_core::policy::Decision;
use hallpass_core::port::{Applied, Change, LineageKey, ProofUse, Replaced, Sealer, StoreError};
use rusqlite::params;

use crate::displace::Successor;
use crate::error::Outcome;
use crate::family;
use crate::rows::audit::EncodedEntry;
use crate::rows::decision::NewDecision;
use crate::rows::grant::{ChangedGrant, seal_handle};
use crate::rows::{id_bytes, proof};
use crate::transaction::Transaction;
use crate::writer::Operation;

/// A change, written out.
pub(crate) struct Apply {
    grant: Grant,
    handle: Option<Vec<u8>>,
    entries: Vec<EncodedEntry>,
    decision: Option<NewDecision>,
    epoch: Option<u64>,
    proof_use: Option<ProofUse>,
    reservation: Option<[u8; 16]>,
    replaced: Option<Replaced>,
    request_id: Option<RequestId>,
}

impl Apply {
    pub(crate) fn prepare(change: Change, sealer: &dyn Sealer) -> Result<Self, StoreError> {
        let Change { grant, handle, entries, decision, epoch, proof_use, reservation, replaced } = change;
        Ok(Self {
            request_id: entries.first().and_then(|entry| entry.request_id),
            replaced,
            handle: handle.map(|handle| seal_handle(sealer, grant.record.id, &handle)).transpose()?,
            entries: EncodedEntry::encode_all(entries)?,
            decision: decision.map(NewDecision::prepare).transpose()?,
            epoch,
            proof_use,
            reservation: reservation.map(|id| id_bytes(id.as_uuid())),
            grant,
        })
    }
}

impl Operation for Apply {
    type Found = Applied;
    type Answer = Applied;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Applied> {
        if self.epoch.is_some_and(|epoch| epoch != transaction.numbers.epoch) {
            return Ok(Applied::Moved);
        }
        if let Some(bar) = self.barred(transaction)? {
            return Ok(Applied::Barred(bar));
        }
        if self.outlives_ancestor(transaction)? {
            return Ok(Applied::Conflict);
        }
        // What lengthens a life is decided by the clock, and so refused when that is behind. An end waits for no clock.
        if let Some(decision) = self.examination() {
            transaction.observe_clock(decision.decided_at)?;
        }
        // Asked before anything is written, recorded after: a change that is refused consumes no proof.
        if let Some(used) = &self.proof_use
            && !proof::may_be_used(transaction.connection, used, None)?
        {
            return Ok(Applied::Replayed);
        }
        let changed = ChangedGrant {
            grant: &self.grant,
            handle: self.handle.as_deref(),
            evaluated: self.examination(),
            reservation: self.reservation,
        };
        if !changed.update(transaction)? {
            return Ok(Applied::Conflict);
        }
        if let Some(used) = &self.proof_use {
            proof::consume(transaction.connection, used, None)?;
        }
        if let Some(decision) = &self.decision {
            decision.insert(transaction)?;
        }
        self.lengthen_lineage(transaction)?;
        transaction.append(&self.entries)?;
        if !matches!(self.grant.state, GrantState::Pending { .. } | GrantState::Active { .. })
            && let Some(entry) = self.entries.first()
        {
            family::end_derived(transaction, self.grant.record.id, entry.entry.time, self.request_id)?;
        }
        if let (Some(replaced), GrantState::Active { activated_at }) = (self.replaced, &self.grant.state) {
            let successor = Successor { record: &self.grant.record, at: *activated_at, request_id: self.request_id };
            successor.replace(transaction, replaced)?;
        }
        Ok(Applied::Done)
    }

    fn answer(self, found: Applied) -> Applied {
        found
    }
}

impl Apply {
    /// The decision, where it was one on the grant's own right to live: then it brings the epoch that it was made at.
    fn examination(&self) -> Option<&Decision> {
        self.decision.as_ref().filter(|_| self.epoch.is_some()).map(|decision| &decision.decision)
    }

    /// The command in force that stops the grant from being, or staying, active. Nearly always there is none.
    fn barred(&self, transaction: &Transaction<'_>) -> Outcome<Option<Bar>> {
        let in_force = &transaction.numbers.in_force;
        let (record, now) = (&self.grant.record, self.entries.first().map(|entry| entry.entry.time));
        if !matches!(self.grant.state, GrantState::Active { .. }) {
            return Ok(None);
        }
        if !in_force.revocations.is_empty() {
            // A revocation of what is pending must find it as it was.
            let sql = "SELECT state FROM grants WHERE id = ?1";
            let before: Option<String> = transaction.find(sql, [id_bytes(record.id.as_uuid())], |row| row.get(0))?;
            let states = before.as_deref().and_then(StateName::parse).into_iter().chain([StateName::Active]);
            if let Some(id) = states.into_iter().find_map(|state| in_force.ends_in(record, state)) {
                return Ok(Some(Bar::Revoked(id)));
            }
        }
        let decided = self.epoch.is_some();
        let now = now.unwrap_or(transaction.numbers.clock_high_water);
        Ok(if decided { in_force.stops(record, now) } else { None })
    }

    /// Whether it would become, or stay, active below something that has ended.
    fn outlives_ancestor(&self, transaction: &Transaction<'_>) -> Outcome<bool> {
        let (record, in_force) = (&self.grant.record, &transaction.numbers.in_force);
        if record.parent.is_none() || !matches!(self.grant.state, GrantState::Active { .. }) {
            return Ok(false);
        }
        let now = self.entries.first().map_or(transaction.numbers.clock_high_water, |entry| entry.entry.time);
        family::ancestor_ended(transaction.connection, in_force, record, now)
    }

    /// A grant that was renewed is held for longer than its opening said.
    fn lengthen_lineage(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        let record = &self.grant.record;
        let renewed = self.grant.expires_at > record.terms.expires_at;
        let Some(lineage) = record.lineage.filter(|_| renewed && matches!(self.grant.state, GrantState::Active { .. }))
        else {
            return Ok(());
        };
        let sql = "UPDATE lineages SET held_until = max(held_until, ?1)
                   WHERE issuer = ?2 AND subject IN (?3, ?6) AND role = ?4 AND id = ?5";
        let values = params![
            self.grant.expires_at.as_millis(),
            record.holder.issuer.as_str(),
            record.holder.subject,
            record.role.as_str(),
            id_bytes(lineage.as_uuid()),
            record.provenance.repository_id.as_deref().map(LineageKey::repository),
        ];
        transaction.execute(sql, values).map(|_| ())
    }
}

/// Entries that change nothing else, with the decision behind them.
pub(crate) struct Record {
    entries: Vec<EncodedEntry>,
    decision: Option<NewDecision>,
}

impl Record {
    pub(crate) fn prepare(entries: Vec<AuditEntry>, decision: Option<Decision>) -> Result<Self, StoreError> {
        Ok(Self {
            entries: EncodedEntry::encode_all(entries)?,
            decision: decision.map(NewDecision::prepare).transpose()?,
        })
    }
}

impl Operation for Record {
    type Found = ();
    type Answer = ();

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<()> {
        if let Some(decision) = &self.decision {
            decision.insert(transaction)?;
        }
        transaction.append(&self.entries)
    }

    fn answer(self, (): ()) {}
}
