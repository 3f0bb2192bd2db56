//! The grant and the order that follow from what was agreed.

use std::sync::Arc;

use super::{Attempt, Subject};
use crate::audit::AuditEntry;
use crate::credential::{Handle, IssueOrder};
use crate::error::ServiceError;
use crate::grant::{DecisionSummary, Grant, GrantRecord, GrantState, Holder};
use crate::id::SpareId;
use crate::owner::OwnerSnapshot;
use crate::policy::{Decision, Obligations, Permit, Terms};
use crate::port::{Lineage, Replaced};
use crate::provenance::Provenance;
use crate::request::Purpose;
use crate::service::spares::TakenSpare;
use crate::time::Timestamp;

/// A pending grant with the order that would mint its credential.
pub(super) struct Planned {
    pub(super) order: IssueOrder,
    pub(super) grant: Grant,
    pub(super) permits: Permits,
    pub(super) assumed_start: Option<Option<Timestamp>>,
    /// The grant whose place it takes when it becomes active.
    pub(super) replaced: Option<Replaced>,
    /// What its credential is made with, where something was prepared ahead.
    pub(super) spare: Option<TakenSpare>,
}

/// What becomes durable with one commit.
pub(super) struct Intent {
    pub(super) grant: Grant,
    pub(super) handle: Handle,
    pub(super) permits: Permits,
    pub(super) assumed_start: Option<Option<Timestamp>>,
    pub(super) entries: Vec<AuditEntry>,
    pub(super) replaced: Option<Replaced>,
    pub(super) spare: Option<SpareId>,
}

/// What policy allowed: the subject the role, and whoever acts for it to do so.
pub(super) struct Permits {
    pub(super) mint: Permit,
    pub(super) delegate: Option<Permit>,
}

impl Permits {
    /// The decision on the role itself.
    pub(super) fn decision(&self) -> &Decision {
        self.mint.decision()
    }

    /// Every decision.
    pub(super) fn decisions(&self) -> impl Iterator<Item = &Decision> {
        [Some(&self.mint), self.delegate.as_ref()].into_iter().flatten().map(Permit::decision)
    }

    /// What all of them ask for.
    pub(super) fn obligations(&self) -> Obligations {
        self.decisions().fold(Obligations::default(), |all, decision| all.and(&decision.verdict.obligations))
    }
}

impl From<&Permits> for DecisionSummary {
    fn from(permits: &Permits) -> Self {
        let mut determining: Vec<_> =
            permits.decisions().flat_map(|decision| decision.verdict.determining.iter().cloned()).collect();
        determining.sort();
        determining.dedup();
        Self { determining, obligations: permits.obligations(), ..Self::from(permits.decision()) }
    }
}

impl Attempt<'_> {
    /// The pending grant, with the order that would mint its credential.
    pub(super) fn plan(
        &self,
        subject: &Subject<'_>,
        permits: Permits,
        purpose: Purpose,
        terms: Terms,
        lineage: Option<Lineage>,
    ) -> Result<Planned, ServiceError> {
        let now = permits.decision().decided_at;
        let order = self.order(subject, &purpose, &terms, now, self.ports.store.next_status_index())?;
        let grant = self.grant(subject, &order, &permits, purpose, terms);
        let assumed_start = subject.role.max_continuous.map(|_| lineage.map(|lineage| lineage.started_at));
        Ok(Planned { order, grant, permits, assumed_start, replaced: None, spare: None })
    }

    /// The pending grant that an order is of.
    pub(super) fn grant(
        &self,
        subject: &Subject<'_>,
        order: &IssueOrder,
        permits: &Permits,
        purpose: Purpose,
        terms: Terms,
    ) -> Grant {
        let (role, now) = (subject.role, permits.decision().decided_at);
        Grant {
            end_at: terms.end_at,
            expires_at: terms.expires_at,
            state: GrantState::Pending { deadline: now.plus(self.ports.limits.pending_deadline()) },
            fingerprint: None,
            last_seen_at: terms.heartbeat.map(|_| now),
            heartbeats_from: None,
            version: 0,
            record: GrantRecord {
                id: order.grant,
                role: role.name.clone(),
                role_digest: role.digest.clone(),
                backend: role.backend.clone(),
                backend_kind: subject.backend.kind().to_owned(),
                target: role.target.clone(),
                fence: subject.backend.fence(role).map(|fence| fence.name),
                environment: role.environment.clone(),
                environment_class: self.revision.catalog.environment_class(role),
                stage: role.stage.clone(),
                tier: role.tier.clone(),
                owner: order.owner.clone(),
                purpose: purpose.into_string(),
                ticket: self.request.ticket.clone(),
                task: self.request.task.clone(),
                holder: self.holder(),
                provenance: self.provenance(),
                decision: DecisionSummary::from(permits),
                terms,
                created_at: now,
                status_index: order.status_index,
                lineage: None,
                replaces: self.request.replaces,
                parent: self.parent().map(|parent| parent.record.id),
                attested: self.attested.clone(),
                actors: self.delegation.map(|delegation| delegation.chain.clone()).unwrap_or_default(),
                signed_by: None,
            },
        }
    }

    /// The order that mints a credential of these terms.
    pub(super) fn order(
        &self,
        subject: &Subject<'_>,
        purpose: &Purpose,
        terms: &Terms,
        issued_at: Timestamp,
        status_index: u64,
    ) -> Result<IssueOrder, ServiceError> {
        let proof = self.identity.proof();
        Ok(IssueOrder {
            grant: self.ports.fresh_id()?,
            role: Arc::clone(subject.role),
            owner: OwnerSnapshot::from(subject.owner),
            issuer: proof.issuer.as_str().to_owned(),
            subject: proof.subject.clone(),
            actors: self.delegation.map(|delegation| delegation.chain.clone()).unwrap_or_default(),
            attributes: proof.attributes.clone(),
            provenance: self.provenance(),
            plan_digest: self.attested.change.as_ref().and_then(|change| change.plan_digest.clone()),
            purpose: purpose.as_str().to_owned(),
            scope: terms.scope.clone(),
            csr: self.request.csr.clone(),
            status_index,
            issued_at,
            expires_at: terms.expires_at,
            // Whoever calls is who will use it.
            binding_key: self.caller().shown_key().or_else(|| self.identity.shown_key()),
        })
    }

    /// What the proof says of the change, and which statements came with it.
    fn provenance(&self) -> Provenance {
        let attestation_digests = self.attested.digests();
        Provenance { attestation_digests, ..self.identity.proof().provenance.clone() }
    }

    fn holder(&self) -> Holder {
        let proof = self.identity.proof();
        Holder {
            principal: proof.principal,
            issuer: proof.issuer.clone(),
            issuer_kind: proof.issuer_kind.clone().into_owned(),
            subject: proof.subject.clone(),
            attributes: proof.attributes.clone(),
            proof_id: proof.proof_id.clone(),
            proof_key_id: proof.key_id.clone(),
            binding_key: self.identity.binding_key(),
            source: self.identity.source(),
        }
    }
}

impl From<&Decision> for DecisionSummary {
    fn from(decision: &Decision) -> Self {
        Self {
            id: decision.id,
            revision: decision.revision.clone(),
            determining: decision.verdict.determining.clone(),
            obligations: decision.verdict.obligations.clone(),
        }
    }
}
