//! Grants as rows.

use std::sync::LazyLock;

use hallpass_core::attestation::Attested;
use hallpass_core::credential::Handle;
use hallpass_core::delegation::ActorChain;
use hallpass_core::grant::{DecisionSummary, EXPIRY_SKEW, Grant, GrantRecord, Holder};
use hallpass_core::id::{GrantId, LineageId};
use hallpass_core::identity::PrincipalKind;
use hallpass_core::owner::OwnerSnapshot;
use hallpass_core::policy::{Decision, Terms};
use hallpass_core::port::{Fenced, Place, Sealer, StoreError};
use hallpass_core::provenance::Provenance;
use hallpass_core::revocation::Likeness;
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::life::{self, LIFE, Life};
use super::{Columns, bytes_of, columns, id_bytes, integer, json};
use crate::error::Outcome;
use crate::transaction::Transaction;

const TABLE: &str = "grants";

/// A grant to insert. Whatever costs time is done when it is made, on the caller's task.
pub(crate) struct NewGrant {
    pub(crate) grant: Grant,
    evaluated_at: Timestamp,
    attributes: String,
    owner_snapshot: String,
    attestation_digests: Option<String>,
    attested: Option<String>,
    actor_chain: Option<String>,
    determining: String,
    obligations: String,
    terms: String,
    handle: Vec<u8>,
    likeness: String,
}

/// What only the writer knows of a new grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kin {
    pub(crate) lineage: LineageId,
    pub(crate) replaces: Option<GrantId>,
    pub(crate) root: Option<GrantId>,
    pub(crate) depth: i64,
}

impl NewGrant {
    pub(crate) fn prepare(
        grant: Grant,
        handle: &Handle,
        decision: &Decision,
        sealer: &dyn Sealer,
    ) -> Result<Self, StoreError> {
        let record = &grant.record;
        let digests = &record.provenance.attestation_digests;
        Ok(Self {
            evaluated_at: decision.decided_at,
            attributes: json(&record.holder.attributes)?,
            owner_snapshot: json(&record.owner)?,
            attestation_digests: if digests.is_empty() { None } else { Some(json(digests)?) },
            attested: if record.attested.statements.is_empty() { None } else { Some(json(&record.attested)?) },
            actor_chain: if record.actors.is_empty() { None } else { Some(json(&record.actors)?) },
            determining: json(&record.decision.determining)?,
            obligations: json(&record.decision.obligations)?,
            terms: json(&record.terms)?,
            handle: seal_handle(sealer, record.id, handle)?,
            likeness: json(&Likeness::of(record))?,
            grant,
        })
    }

    /// Inserts it; answers its `seq`.
    pub(crate) fn insert(&self, transaction: &Transaction<'_>, kin: &Kin) -> Outcome<i64> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let places: Vec<String> = (1..=INSERTED.len()).map(|at| format!("?{at}")).collect();
            format!("INSERT INTO grants ({}) VALUES ({})", INSERTED.join(", "), places.join(", "))
        });
        let mut statement = transaction.prepare(&SQL)?;
        let (grant, record) = (&self.grant, &self.grant.record);
        let row = Inserted {
            new: self,
            kin,
            grant,
            life: Life::of(grant),
            record,
            holder: &record.holder,
            change: &record.provenance,
        };
        bind_inserted(&mut statement, &row)?;
        statement.raw_execute()?;
        let seq = transaction.connection.last_insert_rowid();
        // Almost always there already: one look into a table of a few pages.
        transaction
            .execute("INSERT INTO likenesses (likeness) VALUES (?1) ON CONFLICT DO NOTHING", [&self.likeness])?;
        Ok(seq)
    }
}

/// A new grant with its parts at hand.
struct Inserted<'a> {
    new: &'a NewGrant,
    kin: &'a Kin,
    grant: &'a Grant,
    life: Life<'a>,
    record: &'a GrantRecord,
    holder: &'a Holder,
    change: &'a Provenance,
}

columns! {
    INSERTED, bind_inserted(row: &Inserted<'_>),
    "id": id_bytes(row.record.id.as_uuid()),
    "version": integer(row.grant.version),
    "state": row.grant.state_name().as_str(),
    "deadline": millis(row.life.deadline),
    "activated_at": millis(row.life.activated_at),
    "cause": row.life.ending.map(|ending| ending.cause.as_str()),
    "ending_actor": row.life.ending.and_then(|ending| ending.actor.as_deref()),
    "ending_reason": row.life.ending.and_then(|ending| ending.reason.as_deref()),
    "ending_at": row.life.ending.map(|ending| ending.at.as_millis()),
    "fenced_at": millis(row.life.fenced_at),
    "attempts": row.life.attempts,
    "retry_at": millis(row.life.retry_at),
    "last_error": row.life.last_error,
    "confirmed_at": millis(row.life.confirmed_at),
    "ended_at": millis(row.life.ended_at),
    "end_at": row.grant.end_at.as_millis(),
    "expires_at": row.grant.expires_at.as_millis(),
    "max_expires_at": row.record.terms.max_expires_at.as_millis(),
    "last_seen_at": millis(row.grant.last_seen_at),
    "credential_fingerprint": row.grant.fingerprint.as_deref(),
    "due_at": millis(row.grant.step_due_at()),
    "over_at": millis(row.grant.ends_by_itself_at()),
    "created_at": row.record.created_at.as_millis(),
    "role": row.record.role.as_str(),
    "role_digest": row.record.role_digest,
    "backend": row.record.backend.as_str(),
    "backend_kind": row.record.backend_kind,
    "target": row.record.target.as_deref(),
    "fence": row.record.fence.as_deref(),
    "environment": row.record.environment.as_ref().map(|name| name.as_str()),
    "environment_class": row.record.environment_class.map(|class| class.as_str()),
    "stage": row.record.stage.as_deref(),
    "tier": row.record.tier.as_deref(),
    "owner": row.record.owner.name.as_str(),
    "owner_snapshot": row.new.owner_snapshot,
    "purpose": row.record.purpose,
    "ticket": row.record.ticket.as_deref(),
    "task": row.record.task.as_deref(),
    "principal": row.holder.principal.as_str(),
    "issuer": row.holder.issuer.as_str(),
    "issuer_kind": row.holder.issuer_kind,
    "subject": row.holder.subject,
    "attributes": row.new.attributes,
    "proof_id": row.holder.proof_id.as_deref(),
    "proof_key_id": row.holder.proof_key_id.as_deref(),
    "cnf": row.holder.binding_key.map(|key| key.to_string()),
    "source_address": row.holder.source.map(|address| address.to_string()),
    "repository": row.change.repository.as_deref(),
    "repository_id": row.change.repository_id.as_deref(),
    "repository_owner_id": row.change.repository_owner_id.as_deref(),
    "\"ref\"": row.change.git_ref.as_deref(),
    "ref_protected": row.change.ref_protected,
    "\"commit\"": row.change.commit.as_deref(),
    "workflow": row.change.workflow.as_deref(),
    "workflow_ref": row.change.workflow_ref.as_deref(),
    "run": row.change.run.as_deref(),
    "run_attempt": row.change.run_attempt.as_deref(),
    "job": row.change.job.as_deref(),
    "actor": row.change.actor.as_deref(),
    "actor_id": row.change.actor_id.as_deref(),
    "event": row.change.event.as_deref(),
    "pull_request": row.change.pull_request.as_deref(),
    "provenance_environment": row.change.environment.as_deref(),
    "runner": row.change.runner.as_deref(),
    "attestation_digests": row.new.attestation_digests.as_deref(),
    "decision_id": id_bytes(row.record.decision.id.as_uuid()),
    "policy_revision": row.record.decision.revision.as_str(),
    "determining_policies": row.new.determining,
    "obligations": row.new.obligations,
    "revocation_class": row.record.terms.class.as_str(),
    "terms": row.new.terms,
    "evaluated_revision": row.record.decision.revision.as_str(),
    "evaluated_at": row.new.evaluated_at.as_millis(),
    "handle": row.new.handle,
    "status_index": integer(row.record.status_index),
    "lineage_id": id_bytes(row.kin.lineage.as_uuid()),
    "replaces": row.kin.replaces.map(|id| id_bytes(id.as_uuid())),
    "parent_id": row.record.parent.map(|id| id_bytes(id.as_uuid())),
    "root_id": row.kin.root.map(|id| id_bytes(id.as_uuid())),
    "depth": row.kin.depth,
    "actor_chain": row.new.actor_chain.as_deref(),
    "attested": row.new.attested.as_deref(),
    "signed_by": row.record.signed_by.as_deref(),
}

/// A change to one grant.
pub(crate) struct ChangedGrant<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) handle: Option<&'a [u8]>,
    pub(crate) evaluated: Option<&'a Decision>,
    /// The hold that the change releases.
    pub(crate) reservation: Option<[u8; 16]>,
}

impl ChangedGrant<'_> {
    /// Updates the one row that is still at the version before, under the hold if there is one. False when there is
    /// none such.
    pub(crate) fn update(&self, transaction: &Transaction<'_>) -> Outcome<bool> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let set = UPDATED.iter().zip(1..).map(|(name, at)| match *name {
                "handle" | "evaluated_revision" | "evaluated_at" => format!("{name} = coalesce(?{at}, {name})"),
                // Bound to whether the hold stays.
                "reservation" | "reserved_until" => format!("{name} = CASE WHEN ?{at} THEN {name} END"),
                _ => format!("{name} = ?{at}"),
            });
            let set = set.collect::<Vec<_>>().join(", ");
            let at = UPDATED.len();
            let (id, version, hold) = (at.saturating_add(1), at.saturating_add(2), at.saturating_add(3));
            format!(
                "UPDATE grants SET {set} WHERE id = ?{id} AND version = ?{version} \
                 AND (?{hold} IS NULL OR reservation = ?{hold})"
            )
        });
        let mut statement = transaction.prepare(&SQL)?;
        let row = Updated { changed: self, grant: self.grant, life: Life::of(self.grant) };
        bind_updated(&mut statement, &row)?;
        let Some(version) = self.grant.version.checked_sub(1) else { return Ok(false) };
        let at = UPDATED.len();
        statement.raw_bind_parameter(at.saturating_add(1), id_bytes(self.grant.record.id.as_uuid()))?;
        statement.raw_bind_parameter(at.saturating_add(2), integer(version))?;
        statement.raw_bind_parameter(at.saturating_add(3), self.reservation)?;
        Ok(statement.raw_execute()? == 1)
    }

    /// A hold on a grant that is over would hold nothing.
    fn hold_stays(&self) -> bool {
        self.reservation.is_none() && !self.grant.state_name().is_final()
    }
}

/// A change with its parts at hand.
struct Updated<'a> {
    changed: &'a ChangedGrant<'a>,
    grant: &'a Grant,
    life: Life<'a>,
}

columns! {
    UPDATED, bind_updated(row: &Updated<'_>),
    "version": integer(row.grant.version),
    "state": row.grant.state_name().as_str(),
    "deadline": millis(row.life.deadline),
    "activated_at": millis(row.life.activated_at),
    "cause": row.life.ending.map(|ending| ending.cause.as_str()),
    "ending_actor": row.life.ending.and_then(|ending| ending.actor.as_deref()),
    "ending_reason": row.life.ending.and_then(|ending| ending.reason.as_deref()),
    "ending_at": row.life.ending.map(|ending| ending.at.as_millis()),
    "fenced_at": millis(row.life.fenced_at),
    "attempts": row.life.attempts,
    "retry_at": millis(row.life.retry_at),
    "last_error": row.life.last_error,
    "confirmed_at": millis(row.life.confirmed_at),
    "ended_at": millis(row.life.ended_at),
    "end_at": row.grant.end_at.as_millis(),
    "expires_at": row.grant.expires_at.as_millis(),
    "last_seen_at": millis(row.grant.last_seen_at),
    "credential_fingerprint": row.grant.fingerprint.as_deref(),
    "heartbeats_from": millis(row.grant.heartbeats_from),
    "due_at": millis(row.grant.step_due_at()),
    "over_at": millis(row.grant.ends_by_itself_at()),
    "reservation": row.changed.hold_stays(),
    "reserved_until": row.changed.hold_stays(),
    "handle": row.changed.handle,
    "evaluated_revision": row.changed.evaluated.map(|decision| decision.revision.as_str()),
    "evaluated_at": row.changed.evaluated.map(|decision| decision.decided_at.as_millis()),
}

/// What [`read`] reads, after [`LIFE`].
const REST: &str = "end_at, expires_at, last_seen_at, heartbeats_from, credential_fingerprint, created_at, role, role_digest, backend, \
    backend_kind, target, fence, environment, environment_class, stage, tier, owner_snapshot, purpose, ticket, task, principal, issuer, issuer_kind, subject, \
    attributes, proof_id, proof_key_id, cnf, source_address, repository, repository_id, repository_owner_id, \"ref\", \
    ref_protected, \"commit\", workflow, workflow_ref, run, run_attempt, job, actor, actor_id, event, pull_request, \
    provenance_environment, runner, attestation_digests, decision_id, policy_revision, determining_policies, \
    obligations, terms, status_index, lineage_id, replaces, parent_id, actor_chain, attested, signed_by";

/// The columns of one grant, for a `SELECT` of which nothing comes before `id`.
pub(crate) static SELECTED: LazyLock<String> = LazyLock::new(|| format!("id, version, {}, {REST}", LIFE.join(", ")));

/// A row of [`SELECTED`] as a grant.
pub(crate) fn read(row: &Row<'_>) -> Result<Grant, StoreError> {
    let columns = &mut Columns::new(row, TABLE);
    let id: GrantId = columns.id("id")?;
    columns.keyed(id);
    let version = columns.natural("version")?;
    let state = life::read(columns)?;
    Ok(Grant {
        end_at: columns.time("end_at")?,
        expires_at: columns.time("expires_at")?,
        last_seen_at: columns.optional_time("last_seen_at")?,
        heartbeats_from: columns.optional_time("heartbeats_from")?,
        fingerprint: columns.value("credential_fingerprint")?,
        record: read_record(id, columns)?,
        state,
        version,
    })
}

fn read_record(id: GrantId, columns: &mut Columns<'_>) -> Result<GrantRecord, StoreError> {
    let created_at = columns.time("created_at")?;
    Ok(GrantRecord {
        id,
        created_at,
        role: columns.name("role")?,
        role_digest: columns.value("role_digest")?,
        backend: columns.name("backend")?,
        backend_kind: columns.value("backend_kind")?,
        target: columns.value("target")?,
        fence: columns.value("fence")?,
        environment: columns.optional_name("environment")?,
        environment_class: columns.optional_json_word("environment_class")?,
        stage: columns.value("stage")?,
        tier: columns.value("tier")?,
        owner: columns.json::<OwnerSnapshot>("owner_snapshot")?,
        purpose: columns.value("purpose")?,
        ticket: columns.value("ticket")?,
        task: columns.value("task")?,
        holder: read_holder(columns)?,
        provenance: read_provenance(columns)?,
        decision: DecisionSummary {
            id: columns.id("decision_id")?,
            revision: columns.name("policy_revision")?,
            determining: columns.json("determining_policies")?,
            obligations: columns.json("obligations")?,
        },
        terms: columns.json::<Terms>("terms")?,
        status_index: columns.natural("status_index")?,
        lineage: columns.optional_id("lineage_id")?,
        replaces: columns.optional_id("replaces")?,
        parent: columns.optional_id("parent_id")?,
        actors: columns.optional_json::<ActorChain>("actor_chain")?.unwrap_or_default(),
        attested: columns.optional_json::<Attested>("attested")?.unwrap_or_default(),
        signed_by: columns.value("signed_by")?,
    })
}

fn read_holder(columns: &mut Columns<'_>) -> Result<Holder, StoreError> {
    Ok(Holder {
        principal: columns.parsed("principal", principal)?,
        issuer: columns.name("issuer")?,
        issuer_kind: columns.value("issuer_kind")?,
        subject: columns.value("subject")?,
        attributes: columns.json("attributes")?,
        proof_id: columns.value("proof_id")?,
        proof_key_id: columns.value("proof_key_id")?,
        binding_key: columns.optional_parsed("cnf", |text| text.parse().ok())?,
        source: columns.optional_parsed("source_address", |text| text.parse().ok())?,
    })
}

fn read_provenance(columns: &mut Columns<'_>) -> Result<Provenance, StoreError> {
    Ok(Provenance {
        repository: columns.value("repository")?,
        repository_id: columns.value("repository_id")?,
        repository_owner_id: columns.value("repository_owner_id")?,
        git_ref: columns.value("ref")?,
        ref_protected: columns.value("ref_protected")?,
        commit: columns.value("commit")?,
        workflow: columns.value("workflow")?,
        workflow_ref: columns.value("workflow_ref")?,
        run: columns.value("run")?,
        run_attempt: columns.value("run_attempt")?,
        job: columns.value("job")?,
        actor: columns.value("actor")?,
        actor_id: columns.value("actor_id")?,
        event: columns.value("event")?,
        pull_request: columns.value("pull_request")?,
        environment: columns.value("provenance_environment")?,
        runner: columns.value("runner")?,
        attestation_digests: columns.optional_json("attestation_digests")?.unwrap_or_default(),
    })
}

/// One grant by its id.
pub(crate) fn by_id(connection: &Connection, id: GrantId) -> Outcome<Option<Grant>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM grants WHERE id = ?1", *SELECTED));
    let mut statement = connection.prepare_cached(&SQL)?;
    let found = statement.query_row([id_bytes(id.as_uuid())], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

/// One grant by its place in the table.
pub(crate) fn by_seq(connection: &Connection, seq: i64) -> Outcome<Option<Grant>> {
    Ok(weighed_by_seq(connection, seq)?.map(|(grant, _)| grant))
}

/// The same, and how many bytes its row has.
pub(crate) fn weighed_by_seq(connection: &Connection, seq: i64) -> Outcome<Option<(Grant, usize)>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("SELECT {} FROM grants WHERE seq = ?1", *SELECTED));
    let mut statement = connection.prepare_cached(&SQL)?;
    let found = statement.query_row([seq], |row| Ok(read(row).map(|grant| (grant, bytes_of(row))))).optional()?;
    Ok(found.transpose()?)
}

/// What verifiers of a kind of backend must refuse now.
pub(crate) fn fenced(connection: &Connection, backend_kind: &str, now: Timestamp) -> Outcome<Vec<Fenced>> {
    // A verifier whose clock is behind still accepts for the skew; so the fence, too, stands until the grant is over.
    let sql = "SELECT id, fenced_at FROM grants
               WHERE backend_kind = ?1 AND fenced_at IS NOT NULL AND expires_at > ?2
                 AND state IN ('revoking', 'abandoned')
               ORDER BY expires_at, seq";
    let mut statement = connection.prepare_cached(sql)?;
    let still_accepted = now.minus(EXPIRY_SKEW).as_millis();
    let mut rows = statement.query(rusqlite::params![backend_kind, still_accepted])?;
    let mut fenced = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = &mut Columns::new(row, TABLE);
        fenced.push(Fenced { id: columns.id("id")?, fenced_at: columns.time("fenced_at")? });
    }
    Ok(fenced)
}

/// The handle of one grant as it is stored.
pub(crate) fn sealed_handle(connection: &Connection, id: GrantId) -> Outcome<Option<Vec<u8>>> {
    let mut statement = connection.prepare_cached("SELECT handle FROM grants WHERE id = ?1")?;
    Ok(statement.query_row([id_bytes(id.as_uuid())], |row| row.get(0)).optional()?)
}

/// Seals what it takes to undo the credential of `id`, for its place.
pub(crate) fn seal_handle(sealer: &dyn Sealer, id: GrantId, handle: &Handle) -> Result<Vec<u8>, StoreError> {
    Ok(sealer.seal(handle_place(&id.to_string()), handle.0.expose())?)
}

/// Opens what [`seal_handle`] sealed.
pub(crate) fn open_handle(sealer: &dyn Sealer, id: GrantId, sealed: &[u8]) -> Result<Handle, StoreError> {
    Ok(Handle(sealer.open(handle_place(&id.to_string()), sealed)?))
}

fn handle_place(row: &str) -> Place<'_> {
    Place { table: TABLE, row, column: "handle" }
}

fn principal(word: &str) -> Option<PrincipalKind> {
    [PrincipalKind::Workload, PrincipalKind::Operator, PrincipalKind::Agent]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}
