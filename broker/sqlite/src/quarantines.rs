//! Quarantines: in force from the commit that adds them to the one that lifts them.

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::id::QuarantineId;
use hallpass_core::policy::Decision;
use hallpass_core::port::{Added, Page, PageRequest, QuarantineOrder, QuarantineStore, StoreError};
use hallpass_core::quarantine::{Lifted, Quarantine};
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, params};

use crate::SqliteStore;
use crate::error::Outcome;
use crate::revocations::newest;
use crate::rows::audit::EncodedEntry;
use crate::rows::decision::NewDecision;
use crate::rows::{id_bytes, json, quarantine, revocation};
use crate::transaction::Transaction;
use crate::writer::Operation;

#[async_trait]
impl QuarantineStore for SqliteStore {
    async fn add_quarantine(&self, order: QuarantineOrder, epoch: u64) -> Result<Added, StoreError> {
        self.writer.write(Add::prepare(order, epoch)?).await
    }

    async fn lift_quarantine(
        &self,
        id: QuarantineId,
        lifted: Lifted,
        entry: AuditEntry,
        decisions: Vec<Decision>,
    ) -> Result<bool, StoreError> {
        let entry = EncodedEntry::encode(entry)?;
        let decisions = decisions.into_iter().map(NewDecision::prepare).collect::<Result<Vec<_>, _>>()?;
        let lift = move |transaction: &mut Transaction<'_>| {
            if !lift(transaction, id, &lifted)? {
                return Ok(false);
            }
            for decision in &decisions {
                decision.insert(transaction)?;
            }
            transaction.append(std::slice::from_ref(&entry))?;
            Ok(true)
        };
        self.writer.run(lift).await
    }

    async fn lift_ended_quarantines(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.writer.run(move |transaction| lift_ended(transaction, now)).await
    }

    async fn quarantine(&self, id: QuarantineId) -> Result<Option<Quarantine>, StoreError> {
        self.readers.read(move |connection| quarantine::by_id(connection, id)).await
    }

    async fn quarantines(&self, author: Option<&Actor>, page: &PageRequest) -> Result<Page<Quarantine>, StoreError> {
        let author = author.map(revocation::author).transpose()?;
        let page = page.clone();
        let read = move |connection: &Connection| {
            newest(connection, "quarantines", quarantine::SELECTED, quarantine::read, author.as_deref(), &page)
        };
        self.readers.read(read).await
    }
}

/// A quarantine, written out.
pub(crate) struct Add {
    quarantine: Arc<Quarantine>,
    selector: String,
    roles: String,
    author: String,
    decisions: Vec<NewDecision>,
    entry: EncodedEntry,
    epoch: u64,
}

/// Whether there was room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Taken,
    None,
}

impl Add {
    pub(crate) fn prepare(order: QuarantineOrder, epoch: u64) -> Result<Self, StoreError> {
        let QuarantineOrder { quarantine, decisions, entry } = order;
        Ok(Self {
            selector: json(&quarantine.selector)?,
            roles: json(&quarantine.roles)?,
            author: revocation::author(&quarantine.author)?,
            decisions: decisions.into_iter().map(NewDecision::prepare).collect::<Result<_, _>>()?,
            entry: EncodedEntry::encode(entry)?,
            quarantine: Arc::new(quarantine),
            epoch,
        })
    }

    /// Puts it in force, where there is room for it.
    pub(crate) fn place(&self, transaction: &mut Transaction<'_>) -> Outcome<Place> {
        if !transaction.numbers.in_force.has_room_for_quarantine(&self.quarantine) {
            return Ok(Place::None);
        }
        for decision in &self.decisions {
            decision.insert(transaction)?;
        }
        let sql = "INSERT INTO quarantines (id, selector, roles, author, reason, created_at, until)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let quarantine = &self.quarantine;
        let values = params![
            id_bytes(quarantine.id.as_uuid()),
            self.selector,
            self.roles,
            self.author,
            quarantine.reason,
            quarantine.created_at.as_millis(),
            quarantine.until.as_millis(),
        ];
        transaction.execute(sql, values)?;
        transaction.numbers.epoch = transaction.numbers.epoch.saturating_add(1);
        transaction.command(|in_force| in_force.quarantines.push(Arc::clone(&self.quarantine)));
        transaction.append(std::slice::from_ref(&self.entry))?;
        Ok(Place::Taken)
    }
}

impl Operation for Add {
    type Found = Added;
    type Answer = Added;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Added> {
        transaction.observe_clock(self.quarantine.created_at)?;
        if transaction.numbers.epoch != self.epoch {
            return Ok(Added::Moved);
        }
        Ok(match self.place(transaction)? {
            Place::Taken => Added::Done,
            Place::None => Added::TooMany,
        })
    }

    fn answer(self, found: Added) -> Added {
        found
    }
}

/// False when it is not in force.
fn lift(transaction: &mut Transaction<'_>, id: QuarantineId, lifted: &Lifted) -> Outcome<bool> {
    let sql = "UPDATE quarantines SET lifted_at = ?1, lifted_by = ?2 WHERE id = ?3 AND lifted_at IS NULL";
    let values = params![lifted.at.as_millis(), json(&lifted.by)?, id_bytes(id.as_uuid())];
    if transaction.execute(sql, values)? == 0 {
        return Ok(false);
    }
    transaction.command(|in_force| in_force.quarantines.retain(|quarantine| quarantine.id != id));
    Ok(true)
}

fn lift_ended(transaction: &mut Transaction<'_>, now: Timestamp) -> Outcome<usize> {
    let in_force = Arc::clone(&transaction.numbers.in_force);
    let over: Vec<_> = in_force.quarantines.iter().filter(|quarantine| quarantine.until <= now).collect();
    for quarantine in &over {
        lift(transaction, quarantine.id, &Lifted { at: now, by: Actor::Broker })?;
        let object = AuditObject::Quarantine { id: quarantine.id };
        let entry = AuditEntry::success(now, Actor::Broker, AuditAction::QuarantineLift, object)
            .with("until", &quarantine.until.to_rfc3339());
        transaction.append(&[EncodedEntry::encode(entry)?])?;
    }
    Ok(over.len())
}
