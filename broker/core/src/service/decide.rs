//! What every use-case asks of the policy, and how a refusing decision is told and recorded.

use super::Ports;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::binding::{Binding, BindingKey};
use crate::catalog::Revision;
use crate::delegation::ActorChain;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::{Grant, GrantRecord};
use crate::id::RoleName;
use crate::identity::VerifiedIdentity;
use crate::policy::{
    Action, Decision, Party, Permit, PolicyQuery, Principal, QueryContext, Resource, RoleFacts, principal_of,
};
use crate::port::CredentialBackend;
use crate::request::Origin;
use crate::revocation::Likeness;
use crate::role::Role;
use crate::time::Ttl;
use crate::trace;

/// The wording of "unknown" and of "not yours": they must not be told apart.
pub(super) const ROLE_NOT_AVAILABLE: &str = "the role does not exist, or policy does not allow it to this identity";

/// A query by `identity`.
pub(super) async fn query_of(
    ports: &Ports,
    revision: &Revision,
    identity: &VerifiedIdentity,
    action: Action,
    resource: Resource,
) -> Result<PolicyQuery, ServiceError> {
    let groups = revision.catalog.owners_of(identity.issuer(), identity.subject()).cloned().collect();
    let (via_role, actors) = behind_credential(ports, identity).await?.unzip();
    let principal = principal_of(identity, groups, via_role);
    let context = QueryContext {
        time: ports.now(),
        purpose: None,
        ticket: None,
        task: None,
        ttl: None,
        scope: Vec::new(),
        provenance: identity.proof().provenance.clone(),
        source_ip: identity.source(),
        // What the holder of a grant is bound to, whoever shows a credential of that grant need not have shown.
        binding: binding_of(identity.shown_key()),
        exception: None,
        approvals: Vec::new(),
        holder: false,
        owner_member: false,
        actor_chain: actors.as_ref().map(Party::all_of).unwrap_or_default(),
        on_behalf_of: None,
        build: None,
        change: None,
    };
    Ok(with_owner_membership(PolicyQuery { principal, action, resource, context }))
}

/// Role of the grant whose credential is the proof, and who acts with it, where it is one of ours.
async fn behind_credential(
    ports: &Ports,
    identity: &VerifiedIdentity,
) -> Result<Option<(RoleName, ActorChain)>, ServiceError> {
    match identity.proof().grant {
        None => Ok(None),
        Some(id) => Ok(ports.store.grant(id).await?.map(|grant| (grant.record.role, grant.record.actors))),
    }
}

/// A query by the holder of `record`, on its own grant: for callers who show the credential itself.
pub(super) fn query_of_holder(ports: &Ports, revision: &Revision, record: &GrantRecord, action: Action) -> PolicyQuery {
    let holder = &record.holder;
    let groups = revision.catalog.owners_of(&holder.issuer, &holder.subject).cloned().collect();
    let principal = Principal {
        kind: holder.principal,
        issuer: holder.issuer.clone(),
        issuer_kind: holder.issuer_kind.clone(),
        subject: holder.subject.clone(),
        groups,
        attributes: holder.attributes.clone(),
        multi_audience: false,
        via_role: None,
    };
    let context = QueryContext {
        time: ports.now(),
        purpose: None,
        ticket: None,
        task: None,
        ttl: None,
        scope: Vec::new(),
        provenance: record.provenance.clone(),
        source_ip: None,
        binding: binding_of(holder.binding_key),
        exception: None,
        approvals: Vec::new(),
        holder: true,
        owner_member: false,
        actor_chain: Party::all_of(&record.actors),
        on_behalf_of: None,
        build: None,
        change: None,
    };
    with_owner_membership(PolicyQuery { principal, action, resource: grant_resource(record), context })
}

/// How somebody is bound, in the word of policies.
pub(super) fn binding_of(key: Option<BindingKey>) -> String {
    let binding = key.map(|key| key.binding());
    // By whichever certificate it has: that is how it is shown.
    let binding = binding.map(|binding| if binding == Binding::Svid { Binding::Mtls } else { binding });
    binding.map_or(Binding::BEARER, Binding::as_str).to_owned()
}

pub(super) fn with_owner_membership(mut query: PolicyQuery) -> PolicyQuery {
    let owner = match &query.resource {
        Resource::Role(facts) | Resource::Grant { role: facts, .. } => Some(&facts.owner),
        Resource::Owner { name } => Some(name),
        Resource::AuditLog | Resource::Broker | Resource::Bundle => None,
    };
    query.context.owner_member = owner.is_some_and(|owner| query.principal.groups.contains(owner));
    query
}

/// What policy may know of a role.
pub(super) fn role_facts(revision: &Revision, role: &Role, backend: &dyn CredentialBackend) -> RoleFacts {
    RoleFacts {
        name: role.name.clone(),
        owner: role.owner.clone(),
        backend_kind: backend.kind().to_owned(),
        environment: role.environment.clone(),
        environment_class: revision.catalog.environment_class(role).map(|class| class.as_str().to_owned()),
        class: backend.class(role),
        max_ttl: role.ttl.max,
        stage: role.stage.clone(),
        tier: role.tier.clone(),
        target: role.target.clone(),
    }
}

/// What grants of a role that are opened now have in common.
pub(super) fn likeness_of(revision: &Revision, role: &Role, backend: &dyn CredentialBackend) -> Likeness {
    Likeness {
        role: role.name.clone(),
        owner: role.owner.clone(),
        environment: role.environment.clone(),
        backend_kind: backend.kind().to_owned(),
        class: backend.class(role),
        target: role.target.clone(),
        environment_class: revision.catalog.environment_class(role),
        stage: role.stage.clone(),
        tier: role.tier.clone(),
    }
}

/// A grant as a resource: its role as it was when it was opened. Nothing of it comes from the revision in force, so that
/// whoever edits, moves or removes a role comes by no rights over the grants that are there.
pub(super) fn grant_resource(record: &GrantRecord) -> Resource {
    let max_ttl = record.terms.max_expires_at.since(record.created_at);
    Resource::Grant { id: record.id, role: facts_of(&Likeness::of(record), max_ttl) }
}

/// What policy may know of the role of grants that are alike.
pub(super) fn facts_of(likeness: &Likeness, max_ttl: Ttl) -> RoleFacts {
    RoleFacts {
        name: likeness.role.clone(),
        owner: likeness.owner.clone(),
        backend_kind: likeness.backend_kind.clone(),
        environment: likeness.environment.clone(),
        environment_class: likeness.environment_class.map(|class| class.as_str().to_owned()),
        class: likeness.class,
        max_ttl,
        stage: likeness.stage.clone(),
        tier: likeness.tier.clone(),
        target: likeness.target.clone(),
    }
}

/// Asks the policy. An allowing decision yields its permit; a refusing one, or one that cannot be made, is recorded with
/// its reason and told as `refusal`.
pub(super) async fn permit(
    ports: &Ports,
    revision: &Revision,
    query: PolicyQuery,
    trail: Trail<'_>,
    refusal: Refusal,
) -> Result<Permit, ServiceError> {
    let (id, now) = (ports.fresh_id()?, ports.now());
    let made =
        trace::decide(query.action.as_str()).in_scope(|| Decision::make(revision.policy.as_ref(), query, id, now));
    let decision = match made {
        Ok(decision) => decision,
        Err(error) => {
            let refusal = Refusal { internal: error.internal, ..refusal }.recorded_as(Reason::PolicyError);
            trail.refuse(ports, &refusal, None).await?;
            return Err(refusal.into());
        }
    };
    match decision.into_permit() {
        Ok(permit) => Ok(permit),
        Err(decision) => {
            let refusal = decision.verdict.unbound().unwrap_or_else(|| refusal.recorded_as(Reason::PolicyDenied));
            trail.refuse(ports, &refusal, Some(*decision)).await?;
            Err(refusal.into())
        }
    }
}

/// Who did what to what, for the entries of one request.
#[derive(Clone)]
pub(super) struct Trail<'a> {
    pub actor: Actor,
    pub action: AuditAction,
    pub object: AuditObject,
    pub origin: &'a Origin,
    /// For whom, where somebody acts for another.
    pub on_behalf_of: Option<Actor>,
}

impl Trail<'_> {
    /// Records a refusal, with the decision behind it; beyond the actor's budget it is counted.
    pub(super) async fn refuse(
        &self,
        ports: &Ports,
        refusal: &Refusal,
        decision: Option<Decision>,
    ) -> Result<(), ServiceError> {
        let now = ports.now();
        if !ports.refusals.take_of(&self.actor, refusal.audit_reason.unwrap_or(refusal.reason), now) {
            return Ok(());
        }
        let mut entry = AuditEntry::denied(now, self.actor.clone(), self.action, self.object.clone(), refusal)
            .for_another(self.on_behalf_of.clone())
            .in_request(self.origin.request_id);
        if let Some(decision) = &decision {
            entry = entry.by_decision(decision.id);
        }
        Ok(ports.store.record(vec![entry], decision).await?)
    }

    /// An entry about something that was done.
    pub(super) fn success(&self, ports: &Ports) -> AuditEntry {
        AuditEntry::success(ports.now(), self.actor.clone(), self.action, self.object.clone())
            .for_another(self.on_behalf_of.clone())
            .in_request(self.origin.request_id)
    }
}

/// The grant `id`, if `identity` may do `action` with it. What may not even be read is not found.
pub(super) async fn permitted_grant(
    ports: &Ports,
    revision: &Revision,
    identity: &VerifiedIdentity,
    id: crate::id::GrantId,
    action: Action,
    trail: Trail<'_>,
) -> Result<(Grant, Permit), ServiceError> {
    let grant = ports.store.grant(id).await?.ok_or(ServiceError::NotFound)?;
    let resource = grant_resource(&grant.record);
    let mut query = query_of(ports, revision, identity, action, resource).await?;
    query.context.holder = grant.record.is_held_by(identity);
    if action == Action::Renew {
        // To renew is to have it minted again, by what it was minted by: no statement is offered a second time.
        let record = &grant.record;
        query.context.provenance.attestation_digests.clone_from(&record.provenance.attestation_digests);
        if record.attested.is_vouched_for(&revision.catalog) {
            query.context.build.clone_from(&record.attested.build);
            query.context.change.clone_from(&record.attested.change);
        }
    }
    let may_read = may(revision, &PolicyQuery { action: Action::Read, ..query.clone() });
    let refusal = Refusal::new(
        Step::Policy,
        Reason::PolicyDenied,
        format!("policy does not let you {} this grant", action.as_str()),
    );
    match permit(ports, revision, query, trail, refusal).await {
        Ok(permit) => Ok((grant, permit)),
        Err(ServiceError::Refused(_)) if !may_read => Err(ServiceError::NotFound),
        Err(error) => Err(error),
    }
}

/// Whether the policy allows `query`; a policy that errors allows nothing. For filtering what may be seen.
pub(super) fn may(revision: &Revision, query: &PolicyQuery) -> bool {
    revision.policy.decide(query).is_ok_and(|verdict| verdict.outcome == crate::policy::Outcome::Allow)
}
