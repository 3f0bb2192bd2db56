//! Opening: everything that one grant brings, in one transaction, or nothing.
//!
//! What can refuse is asked first and writes nothing, so that a refused opening consumes nothing: neither the proof nor
//! the idempotency key nor a place in a lineage.

use hallpass_core::delegation::Acting;
use hallpass_core::grant::{Grant, HolderKey, StateName};
use hallpass_core::id::{GrantId, LineageId, RequestId, SpareId};
use hallpass_core::in_force::Bar;
use hallpass_core::port::{
    IdempotencyClaim, Lineage, LineageClaim, OpenOutcome, Opening, ProofUse, Quota, Quotas, Replaced, Sealer,
    StoreError,
};
use hallpass_core::time::Timestamp;
use rusqlite::params;
use uuid::Uuid;

use crate::displace::Successor;
use crate::error::Outcome;
use crate::family;
use crate::quota;
use crate::rows::audit::EncodedEntry;
use crate::rows::decision::NewDecision;
use crate::rows::grant::{self, Kin, NewGrant};
use crate::rows::{id_bytes, lineage, proof};
use crate::select;
use crate::spares;
use crate::transaction::Transaction;
use crate::writer::Operation;

/// An opening, written out as far as it can be without the database.
pub(crate) struct Open {
    new: NewGrant,
    decision: NewDecision,
    entries: Vec<EncodedEntry>,
    request_id: Option<RequestId>,
    /// Of the subject, and of whoever acts for it.
    proof_uses: Vec<ProofUse>,
    acting: Option<NewDecision>,
    idempotency: Option<IdempotencyClaim>,
    lineage: LineageClaim,
    quotas: Quotas,
    epoch: u64,
    now: Timestamp,
    fenced_by_record: bool,
    replaced: Option<Replaced>,
    spare: Option<SpareId>,
}

/// How it went, without the grant.
pub(crate) enum Found {
    Opened { lineage: LineageId, replaces: Option<GrantId> },
    OverQuota(Quota),
    Replayed,
    RequestMismatch,
    StillPending,
    TooManyRepeats,
    Moved,
    Barred(Bar),
}

impl Open {
    pub(crate) fn prepare(opening: Opening, sealer: &dyn Sealer) -> Result<Self, StoreError> {
        let Opening {
            grant,
            handle,
            decision,
            entries,
            proof_use,
            acting,
            idempotency,
            lineage,
            quotas,
            epoch,
            now,
            fenced_by_record,
            replaced,
            spare,
        } = opening;
        let (acting, acting_use) = acting.map(|acted| (acted.decision, acted.proof_use)).unzip();
        Ok(Self {
            new: NewGrant::prepare(grant, &handle, &decision, sealer)?,
            decision: NewDecision::prepare(decision)?,
            request_id: entries.first().and_then(|entry| entry.request_id),
            entries: EncodedEntry::encode_all(entries)?,
            proof_uses: proof_use.into_iter().chain(acting_use.flatten()).collect(),
            acting: acting.map(NewDecision::prepare).transpose()?,
            idempotency,
            lineage,
            quotas,
            epoch,
            now,
            fenced_by_record,
            replaced,
            spare,
        })
    }
}

impl Operation for Open {
    type Found = Found;
    type Answer = OpenOutcome;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Found> {
        transaction.observe_clock(self.now)?;
        if transaction.numbers.epoch != self.epoch {
            return Ok(Found::Moved);
        }
        if let Some(bar) = self.barred(transaction) {
            return Ok(Found::Barred(bar));
        }
        let earlier = match self.earlier(transaction)? {
            Ok(earlier) => earlier,
            Err(refused) => return Ok(refused),
        };
        let Some(lineage) = self.lineage(transaction)? else { return Ok(Found::Moved) };
        if let Some(quota) = self.over_quota(transaction, earlier.as_ref())? {
            return Ok(Found::OverQuota(quota));
        }
        if !self.spare_is_free(transaction)? {
            return Ok(Found::Moved);
        }
        if let Some(refused) = self.kept_by_parent(transaction)? {
            return Ok(refused);
        }
        if !self.consume_proofs(transaction)? {
            return Ok(Found::Replayed);
        }
        self.take_spare(transaction)?;

        let replaces = self.new.grant.record.replaces.or(earlier.as_ref().map(|earlier| earlier.record.id));
        let (root, depth) = self.place_below_parent(transaction)?;
        self.decision.insert(transaction)?;
        if let Some(acting) = &self.acting {
            acting.insert(transaction)?;
        }
        let seq = self.new.insert(transaction, &Kin { lineage: lineage.id, replaces, root, depth })?;
        self.depend(transaction, seq)?;
        lineage::hold(transaction.connection, &self.lineage.key, lineage, self.new.grant.expires_at)?;
        self.remember_key(transaction)?;
        transaction.append(&self.entries)?;
        let successor = Successor { record: &self.new.grant.record, at: self.now, request_id: self.request_id };
        if let Some(earlier) = earlier {
            successor.supersede(transaction, earlier, self.fenced_by_record)?;
        }
        if let Some(replaced) = self.replaced {
            successor.replace(transaction, replaced)?;
        }
        Ok(Found::Opened { lineage: lineage.id, replaces })
    }

    fn answer(self, found: Found) -> OpenOutcome {
        match found {
            Found::Opened { lineage, replaces } => {
                let mut grant = self.new.grant;
                grant.record.lineage = Some(lineage);
                grant.record.replaces = replaces;
                OpenOutcome::Opened(Box::new(grant))
            }
            Found::OverQuota(quota) => OpenOutcome::OverQuota(quota),
            Found::Replayed => OpenOutcome::Replayed,
            Found::RequestMismatch => OpenOutcome::RequestMismatch,
            Found::StillPending => OpenOutcome::StillPending,
            Found::TooManyRepeats => OpenOutcome::TooManyRepeats,
            Found::Moved => OpenOutcome::Moved,
            Found::Barred(bar) => OpenOutcome::Barred(bar),
        }
    }
}

impl Open {
    /// The command in force that stops it. Nearly always there is none.
    fn barred(&self, transaction: &Transaction<'_>) -> Option<Bar> {
        let (in_force, grant) = (&transaction.numbers.in_force, &self.new.grant);
        let ended = in_force.ends(grant).map(Bar::Revoked);
        ended.or_else(|| in_force.stops(&grant.record, self.now))
    }

    /// The grant that the same idempotency key opened before, if it may be repeated.
    fn earlier(&self, transaction: &Transaction<'_>) -> Outcome<Result<Option<Grant>, Found>> {
        let Some(claim) = &self.idempotency else { return Ok(Ok(None)) };
        let sql = "SELECT request_digest, grant_id, repeats FROM idempotency WHERE scope = ?1";
        let found = transaction.find(sql, [claim.scope], |row| {
            let (digest, grant, repeats): ([u8; 32], [u8; 16], u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok((digest, GrantId::from(Uuid::from_bytes(grant)), repeats))
        })?;
        let Some((digest, id, repeats)) = found else { return Ok(Ok(None)) };
        if digest != claim.request_digest {
            return Ok(Err(Found::RequestMismatch));
        }
        let earlier = grant::by_id(transaction.connection, id)?;
        let in_force = &transaction.numbers.in_force;
        if earlier.as_ref().is_some_and(|earlier| !earlier.leaves_repeats() || in_force.ends(earlier).is_some()) {
            return Ok(Err(Found::Replayed));
        }
        if earlier.as_ref().is_some_and(|earlier| earlier.state_name() == StateName::Pending) {
            return Ok(Err(Found::StillPending));
        }
        if repeats >= IdempotencyClaim::MAX_REPEATS {
            return Ok(Err(Found::TooManyRepeats));
        }
        Ok(Ok(earlier))
    }

    /// The lineage that the grant joins or starts. `None` when it is not the one that the terms were computed with.
    fn lineage(&self, transaction: &Transaction<'_>) -> Outcome<Option<Lineage>> {
        let LineageClaim { key, fresh, assumed_start } = &self.lineage;
        let continued = lineage::continued(transaction.connection, key, self.now)?;
        let start = continued.map(|lineage| lineage.started_at);
        if assumed_start.is_some_and(|assumed| assumed != start) {
            return Ok(None);
        }
        Ok(Some(continued.unwrap_or(Lineage { id: *fresh, started_at: self.now })))
    }

    /// The quota that leaves no room. A grant whose place this one takes makes room for it.
    fn over_quota(&self, transaction: &Transaction<'_>, earlier: Option<&Grant>) -> Outcome<Option<Quota>> {
        if self.quotas == Quotas::NONE {
            return Ok(None);
        }
        let record = &self.new.grant.record;
        let replaced = match self.replaced {
            Some(replaced) if earlier.is_none() => grant::by_id(transaction.connection, replaced.id)?,
            _ => None,
        };
        let holder = HolderKey::of_record(record);
        let leaves = |grant: &&Grant| {
            holder.holds(&grant.record) && grant.record.role == record.role && grant.state_name() == StateName::Active
        };
        let making_room = earlier.or(replaced.as_ref()).iter().filter(|grant| leaves(grant)).count();
        quota::exceeded(transaction, &self.quotas, record, making_room)
    }

    fn consume_proofs(&self, transaction: &Transaction<'_>) -> Outcome<bool> {
        let scope = self.idempotency.as_ref().map(|claim| claim.scope);
        // Asked of all before any is written: a refused opening consumes nothing.
        for proof in &self.proof_uses {
            if self.proof_uses.len() > 1 && !proof::may_be_used(transaction.connection, proof, scope)? {
                return Ok(false);
            }
        }
        for proof in &self.proof_uses {
            if !proof::consume(transaction.connection, proof, scope)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether nobody has taken the spare that its credential is to be made with.
    fn spare_is_free(&self, transaction: &Transaction<'_>) -> Outcome<bool> {
        self.spare.map_or(Ok(true), |spare| spares::is_free(transaction, spare))
    }

    fn take_spare(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        self.spare.map_or(Ok(()), |spare| spares::take(transaction, spare, self.new.grant.record.id))
    }

    /// Why nothing can be derived from the parent now: it has ended, or what was derived from the same root is too much to
    /// end in one commit.
    fn kept_by_parent(&self, transaction: &Transaction<'_>) -> Outcome<Option<Found>> {
        let Some(parent) = self.new.grant.record.parent else { return Ok(None) };
        let in_force = &transaction.numbers.in_force;
        if family::live(transaction.connection, in_force, parent, self.now)?.is_none() {
            // Decided again, it is seen to have ended. One that never was is found where the new one takes its place below it.
            return Ok(grant::by_id(transaction.connection, parent)?.map(|_| Found::Moved));
        }
        let (root, _) = self.place_below_parent(transaction)?;
        let root = root.unwrap_or(parent);
        let derived = family::live_below(transaction, root)?;
        if derived >= family::MOST_DERIVED {
            return Ok(Some(Found::OverQuota(Quota::Derived)));
        }
        let Some(share) = self.quotas.actor.map(i64::from) else { return Ok(None) };
        for acting in self.new.grant.record.actors.iter() {
            // Nobody has more of them than there are.
            if derived >= share && family::live_below_of(transaction, root, acting)? >= share {
                return Ok(Some(Found::OverQuota(Quota::Actor)));
            }
        }
        Ok(None)
    }

    fn place_below_parent(&self, transaction: &Transaction<'_>) -> Outcome<(Option<GrantId>, i64)> {
        let Some(parent) = self.new.grant.record.parent else { return Ok((None, 0)) };
        let sql = "SELECT coalesce(root_id, id), depth FROM grants WHERE id = ?1";
        let found = transaction
            .find(sql, [id_bytes(parent.as_uuid())], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?)))?;
        let Some((root, depth)) = found else {
            let problem = format!("the parent {parent} is not in the store");
            return Err(StoreError::Unavailable(problem).into());
        };
        Ok((Some(Uuid::from_bytes(root).into()), depth.saturating_add(1)))
    }

    fn depend(&self, transaction: &Transaction<'_>, seq: i64) -> Outcome<()> {
        let record = &self.new.grant.record;
        let policies = record.decision.determining.iter().map(|policy| ("policy", policy.as_str()));
        let groups = self.decision.decision.query.principal.groups.iter().map(|group| ("group", group.as_str()));
        let digests = record.provenance.attestation_digests.iter().map(|digest| ("attestation", digest.as_str()));
        let names: Vec<_> = record.actors.iter().map(Acting::name).collect();
        let acting = names.iter().map(|name| ("actor", name.as_str()));
        let parties = record.actors.iter().flat_map(select::party_of);
        for (kind, name) in policies.chain(groups).chain(digests).chain(acting).chain(parties) {
            let sql = "INSERT INTO dependencies (kind, name, created_at, grant_seq) VALUES (?1, ?2, ?3, ?4)
                       ON CONFLICT DO NOTHING";
            transaction.execute(sql, params![kind, name, record.created_at.as_millis(), seq])?;
        }
        Ok(())
    }

    fn remember_key(&self, transaction: &Transaction<'_>) -> Outcome<()> {
        let Some(claim) = &self.idempotency else { return Ok(()) };
        let sql = "INSERT INTO idempotency (scope, request_digest, grant_id, repeats, keep_until)
                   VALUES (?1, ?2, ?3, 0, ?4)
                   ON CONFLICT DO UPDATE SET grant_id = excluded.grant_id, repeats = repeats + 1,
                       keep_until = max(keep_until, excluded.keep_until)";
        let id = id_bytes(self.new.grant.record.id.as_uuid());
        let values = params![claim.scope, claim.request_digest, id, claim.keep_until.as_millis()];
        transaction.execute(sql, values).map(|_| ())
    }
}
