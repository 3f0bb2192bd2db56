//! Access for whoever can run commands beside the store and its keys: the way in when no identity of the bundle works.
//!
//! It is a grant like any other: recorded, owned, short, and revocable. What its credential may do is policy's to say.

use std::sync::Arc;

use super::Ports;
use super::barred::Barred;
use super::decide::Trail;
use super::open::Opened;
use crate::attestation::Attested;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::credential::IssueOrder;
use crate::delegation::ActorChain;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::{DecisionSummary, Grant, GrantRecord, GrantState, Holder};
use crate::id::{IssuerName, OwnerName, PolicyId, RoleName};
use crate::identity::{Attributes, PrincipalKind};
use crate::owner::OwnerSnapshot;
use crate::policy::{
    Action, Decision, Obligations, Outcome, PolicyQuery, Principal, QueryContext, Resource, RoleFacts, Terms,
    TermsInput, Verdict,
};
use crate::port::{CredentialBackend, LineageClaim, LineageKey, OpenOutcome, Opening, Quotas};
use crate::provenance::Provenance;
use crate::request::{Origin, Purpose};
use crate::role::{PurposeRule, Role, RoleState, TtlRule};
use crate::time::Ttl;

/// The longest life of an operator's grant: long enough for one intervention, too short to become a habit.
pub const MAX_TTL: Ttl = Ttl::from_mins(15);

/// Name of the built-in role.
const ROLE: &str = "hallpass/operator";
/// Name of its owner: the group of people who run the broker.
const OWNER: &str = OwnerName::RESERVED;
/// What stands in for a policy: nobody wrote one for this.
const RULE: &str = "hallpass:operator-token";

/// Opens a grant of the built-in role `hallpass/operator`, minted by `backend` for the broker itself as audience. A
/// refusal is audited here.
///
/// # Errors
/// [`ServiceError`]; a purpose is required here as everywhere.
pub async fn open_operator(
    ports: &Ports,
    backend: &dyn CredentialBackend,
    audience: &str,
    purpose: &str,
    ttl: Option<Ttl>,
    origin: &Origin,
) -> Result<Opened, ServiceError> {
    let opened = open(ports, backend, audience, purpose, ttl, origin).await;
    if let Err(ServiceError::Refused(refusal)) = &opened {
        let (actor, object) = (Actor::LocalAdministrator, AuditObject::Role { name: ROLE.to_owned() });
        let trail = Trail { actor, action: AuditAction::GrantOpen, object, origin, on_behalf_of: None };
        trail.refuse(ports, refusal, None).await?;
    }
    opened
}

async fn open(
    ports: &Ports,
    backend: &dyn CredentialBackend,
    audience: &str,
    purpose: &str,
    ttl: Option<Ttl>,
    origin: &Origin,
) -> Result<Opened, ServiceError> {
    // Read before anything is decided or signed: what ends everything meanwhile is noticed in the transaction that opens.
    let (epoch, now) = (ports.store.epoch(), ports.now());
    let role = Arc::new(role(audience)?);
    let purpose = Purpose::resolve(Some(purpose), &role)?.into_string();
    let terms = Terms::compute(&TermsInput {
        now,
        class: backend.class(&role),
        requested: ttl,
        role_default: role.ttl.default,
        role_max: role.ttl.max,
        policy_max: None,
        proof_ends_at: None,
        approval_ends_at: None,
        exception_ends_at: None,
        continuous_ends_at: None,
        environment_ends_at: None,
        parent_ends_at: None,
        spare_ends_at: None,
        backend_max: backend.max_life(&role),
        backend_min: backend.min_life(&role),
        call_deadline: ports.limits.call_deadline,
        skew: ports.limits.skew,
    })?;
    let decision = decision(ports, &role, backend, &purpose)?;
    let owner = OwnerSnapshot { name: role.owner.clone(), contacts: vec!["whoever runs this broker".to_owned()] };
    let order = IssueOrder {
        grant: ports.fresh_id()?,
        role: Arc::clone(&role),
        owner: owner.clone(),
        issuer: IssuerName::RESERVED.to_owned(),
        subject: "operator".to_owned(),
        actors: ActorChain::default(),
        attributes: Attributes::new(),
        provenance: Provenance::default(),
        plan_digest: None,
        purpose: purpose.clone(),
        scope: Vec::new(),
        csr: None,
        status_index: ports.store.next_status_index(),
        issued_at: now,
        expires_at: terms.expires_at,
        binding_key: None,
    };
    let unavailable = |error: String| ServiceError::unavailable(Reason::SigningUnavailable, error);
    let handle = backend.plan(&order).map_err(|error| unavailable(error.to_string()))?;
    let mut issued = backend.issue(&order, &handle).await.map_err(|error| unavailable(error.to_string()))?;
    let holder = Holder {
        principal: PrincipalKind::Operator,
        issuer: IssuerName::hallpass(),
        issuer_kind: IssuerName::RESERVED.to_owned(),
        subject: "operator".to_owned(),
        attributes: Attributes::new(),
        proof_id: None,
        proof_key_id: None,
        binding_key: None,
        source: origin.source,
    };
    let grant = Grant {
        end_at: terms.end_at,
        expires_at: terms.expires_at,
        state: GrantState::Pending { deadline: now.plus(ports.limits.pending_deadline()) },
        fingerprint: None,
        last_seen_at: None,
        heartbeats_from: None,
        version: 0,
        record: GrantRecord {
            id: order.grant,
            role: role.name.clone(),
            role_digest: role.digest.clone(),
            backend: role.backend.clone(),
            backend_kind: backend.kind().to_owned(),
            target: role.target.clone(),
            fence: None,
            environment: None,
            environment_class: None,
            stage: None,
            tier: None,
            owner,
            purpose,
            ticket: None,
            task: None,
            holder: holder.clone(),
            provenance: Provenance::default(),
            decision: DecisionSummary::from(&decision),
            terms,
            created_at: now,
            status_index: order.status_index,
            lineage: None,
            replaces: None,
            parent: None,
            attested: Attested::default(),
            actors: ActorChain::default(),
            signed_by: issued.signed_by.take(),
        },
    };
    let fingerprint = ports.sealer.fingerprint(issued.material.fingerprint_input());
    let grant = grant
        .activate(now, issued.expires_at, fingerprint)
        .map_err(|error| ServiceError::unavailable(Reason::StateConflict, error.to_string()))?;
    let entry = AuditEntry::success(
        now,
        Actor::LocalAdministrator,
        AuditAction::GrantOpen,
        AuditObject::Grant { id: grant.record.id },
    )
    .in_request(origin.request_id)
    .by_decision(decision.id)
    .with("role", ROLE)
    .with("purpose", &grant.record.purpose)
    .with("expires_at", &grant.expires_at.to_rfc3339());
    let key = LineageKey { issuer: holder.issuer, subject: holder.subject, role: role.name.clone() };
    let opening = Opening {
        lineage: LineageClaim { key, fresh: ports.fresh_id()?, assumed_start: None },
        epoch,
        grant,
        handle,
        decision,
        entries: vec![entry],
        proof_use: None,
        acting: None,
        idempotency: None,
        quotas: Quotas::NONE,
        now,
        fenced_by_record: true,
        replaced: None,
        spare: None,
    };
    match ports.store.open(opening).await? {
        OpenOutcome::Opened(grant) => Ok(Opened { grant: *grant, credential: issued }),
        OpenOutcome::Barred(bar) => Err(Barred::by(bar, now).into()),
        _ => Err(ServiceError::unavailable(Reason::StateConflict, "the broker is busy revoking; try again")),
    }
}

fn role(audience: &str) -> Result<Role, ServiceError> {
    let invalid = |error: crate::id::InvalidName| ServiceError::unavailable(Reason::StateConflict, error.to_string());
    Ok(Role {
        name: RoleName::new(ROLE).map_err(invalid)?,
        digest: "0".repeat(64),
        owner: OwnerName::new(OWNER).map_err(invalid)?,
        description: "administers this broker".to_owned(),
        backend: crate::id::BackendName::new(IssuerName::RESERVED).map_err(invalid)?,
        environment: None,
        ttl: TtlRule { default: MAX_TTL, max: MAX_TTL },
        purpose: PurposeRule::default(),
        review_every: None,
        review_at: None,
        revocation_floor: None,
        max_continuous: None,
        max_live: None,
        state: RoleState::Active,
        stage: None,
        tier: None,
        target: Some(audience.to_owned()),
        parameters: serde_json::json!({ "audience": audience }),
    })
}

/// The record of why: not a policy's decision, and it says so.
fn decision(
    ports: &Ports,
    role: &Role,
    backend: &dyn CredentialBackend,
    purpose: &str,
) -> Result<Decision, ServiceError> {
    let rule =
        PolicyId::new(RULE).map_err(|error| Refusal::new(Step::Policy, Reason::PolicyError, error.to_string()))?;
    let revision = ports.governance.current();
    Ok(Decision {
        id: ports.fresh_id()?,
        decided_at: ports.now(),
        revision: revision.id.clone(),
        schema_version: revision.policy.schema_version(),
        query: PolicyQuery {
            principal: Principal {
                kind: PrincipalKind::Operator,
                issuer: IssuerName::hallpass(),
                issuer_kind: IssuerName::RESERVED.to_owned(),
                subject: "operator".to_owned(),
                groups: Vec::new(),
                attributes: Attributes::new(),
                multi_audience: false,
                via_role: None,
            },
            action: Action::Mint,
            resource: Resource::Role(RoleFacts {
                name: role.name.clone(),
                owner: role.owner.clone(),
                backend_kind: backend.kind().to_owned(),
                environment: None,
                environment_class: None,
                class: backend.class(role),
                max_ttl: role.ttl.max,
                stage: None,
                tier: None,
                target: role.target.clone(),
            }),
            context: QueryContext {
                time: ports.now(),
                purpose: Some(purpose.to_owned()),
                ticket: None,
                task: None,
                ttl: Some(role.ttl.max),
                scope: Vec::new(),
                provenance: Provenance::default(),
                source_ip: None,
                binding: "bearer".to_owned(),
                exception: None,
                approvals: Vec::new(),
                holder: false,
                owner_member: false,
                actor_chain: Vec::new(),
                on_behalf_of: None,
                build: None,
                change: None,
            },
        },
        verdict: Verdict { outcome: Outcome::Allow, determining: vec![rule], obligations: Obligations::default() },
    })
}
