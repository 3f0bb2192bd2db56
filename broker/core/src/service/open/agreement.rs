//! What is asked for, decided and agreed, before anything is made of it.

use super::plan::Permits;
use super::{Attempt, Subject};
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::{GrantRecord, HolderKey};
use crate::identity::VerifiedIdentity;
use crate::policy::{Action, Party, PolicyQuery, QueryContext, Resource, Terms, TermsInput};
use crate::port::{Lineage, LineageKey, Replaced};
use crate::provenance::Provenance;
use crate::request::Purpose;
use crate::role::{Role, RoleState};
use crate::service::decide::{ROLE_NOT_AVAILABLE, binding_of, grant_resource, may, permit, query_of, role_facts};
use crate::service::revoke::is_fenced_by_record;
use crate::service::spares::TakenSpare;
use crate::time::{Timestamp, Ttl};

/// The longest time without a sign of life that a caller may ask for.
const MAX_HEARTBEAT: Ttl = Ttl::from_hours(1);
/// The shortest: below, a slow network would end grants.
const MIN_HEARTBEAT: Ttl = Ttl::from_secs(5);

impl Attempt<'_> {
    /// The role that was asked for, with who answers for it and who mints it.
    pub(super) fn subject(&self) -> Result<Subject<'_>, Refusal> {
        let unknown = || Refusal::new(Step::Role, Reason::RoleNotAvailable, ROLE_NOT_AVAILABLE).about("role");
        let catalog = &self.revision.catalog;
        let role = catalog.role(&self.request.role).ok_or_else(|| unknown().because("no such role"))?;
        if role.state != RoleState::Active {
            return Err(unknown().because(format!("the role is {}", role.state.as_str())));
        }
        let owner = catalog.owners.get(&role.owner).filter(|owner| owner.resolves()).ok_or_else(|| {
            unknown().recorded_as(Reason::OwnerUnresolved).because(format!("owner {} does not resolve", role.owner))
        })?;
        let backend = self.revision.backends.get(&role.backend).ok_or_else(|| unknown().because("no such backend"))?;
        Ok(Subject { role, owner, backend })
    }

    /// The grant whose place the new one shall take. Refused unless it is the caller's own and policy lets the caller end
    /// it: nobody ends another's grant by naming it, nor has a record say that this one followed it.
    pub(super) async fn replaced(&self) -> Result<Result<Option<Replaced>, Refusal>, ServiceError> {
        let Some(id) = self.request.replaces else { return Ok(Ok(None)) };
        let found = self.ports.store.grant(id).await?;
        let is_own = |record: &GrantRecord| match self.delegation {
            None => HolderKey::of(self.identity).holds(record),
            // Nobody replaces what its subject holds itself, or what another acts with for the same subject.
            Some(delegation) => {
                HolderKey::of(self.identity).holds(record)
                    && record.actors.current().is_some_and(|acting| acting.is(&delegation.identity))
            }
        };
        let Some(own) = found.filter(|grant| is_own(&grant.record)) else {
            let detail = "`replaces` is not the id of a grant of yours: of this run, and bound to the same key";
            return Ok(Err(Refusal::request(Reason::MalformedRequest, "replaces", detail)));
        };
        let resource = grant_resource(&own.record);
        let mut query = query_of(self.ports, self.revision, self.caller(), Action::Revoke, resource).await?;
        query.context.holder = true;
        if !may(self.revision, &query) {
            let detail = "policy does not let you end the grant that `replaces` names";
            return Ok(Err(Refusal::new(Step::Policy, Reason::PolicyDenied, detail).about("replaces")));
        }
        Ok(Ok(Some(Replaced { id, fenced_by_record: is_fenced_by_record(self.ports, &own) })))
    }

    pub(super) async fn permits(&self, subject: &Subject<'_>, stated: Option<String>) -> Result<Permits, ServiceError> {
        let query = self.query(subject, stated).await?;
        let asked = match self.delegation {
            Some(_) => Some(self.query_of_actor(&query).await?),
            None => None,
        };
        let refusal = Self::not_available;
        let mint = permit(self.ports, self.revision, query, self.trail(), refusal()).await?;
        let delegate = match asked {
            Some(query) => Some(permit(self.ports, self.revision, query, self.trail(), refusal()).await?),
            None => None,
        };
        Ok(Permits { mint, delegate })
    }

    /// What is asked of the policy about whoever acts: the same request, by it and for the subject.
    pub(super) async fn query_of_actor(&self, of_subject: &PolicyQuery) -> Result<PolicyQuery, ServiceError> {
        let resource = of_subject.resource.clone();
        let query = query_of(self.ports, self.revision, self.caller(), Action::Delegate, resource).await?;
        let (own, asked) = (query.context, of_subject.context.clone());
        let subject = self.identity.proof();
        let on_behalf_of = Some(Party { issuer: subject.issuer.clone(), subject: subject.subject.clone() });
        let context = QueryContext {
            provenance: Provenance { attestation_digests: self.attested.digests(), ..own.provenance },
            binding: own.binding,
            source_ip: own.source_ip,
            owner_member: own.owner_member,
            on_behalf_of,
            ..asked
        };
        Ok(PolicyQuery { context, ..query })
    }

    /// What is asked of the policy.
    pub(super) async fn query(
        &self,
        subject: &Subject<'_>,
        stated: Option<String>,
    ) -> Result<PolicyQuery, ServiceError> {
        let facts = role_facts(self.revision, subject.role, subject.backend.as_ref());
        let resource = Resource::Role(facts);
        let mut query = query_of(self.ports, self.revision, self.identity, Action::Mint, resource).await?;
        query.context.binding = binding_of(self.caller().shown_key().or_else(|| self.identity.shown_key()));
        query.context.purpose = stated.or_else(|| subject.role.purpose.default.clone());
        query.context.ticket.clone_from(&self.request.ticket);
        query.context.task.clone_from(&self.request.task);
        query.context.ttl = Some(self.request.ttl.unwrap_or(subject.role.ttl.default));
        query.context.scope.clone_from(&self.request.scope);
        query.context.provenance.attestation_digests = self.attested.digests();
        query.context.build.clone_from(&self.attested.build);
        query.context.change.clone_from(&self.attested.change);
        query.context.actor_chain =
            self.delegation.map(|delegation| Party::all_of(&delegation.chain)).unwrap_or_default();
        Ok(query)
    }

    pub(super) fn not_available() -> Refusal {
        Refusal::new(Step::Policy, Reason::RoleNotAvailable, ROLE_NOT_AVAILABLE).about("role")
    }

    /// How long the caller has held the role without a pause, where the role bounds that.
    pub(super) async fn lineage(&self, role: &Role) -> Result<Option<Lineage>, ServiceError> {
        match role.max_continuous {
            Some(_) => Ok(self.ports.store.lineage(&self.lineage_key(role), self.ports.now()).await?),
            None => Ok(None),
        }
    }

    pub(super) fn terms(
        &self,
        subject: &Subject<'_>,
        permits: &Permits,
        lineage: Option<Lineage>,
        spare_ends_at: Option<Timestamp>,
    ) -> Result<(Purpose, Terms), Refusal> {
        let purpose = Purpose::resolve(self.request.purpose.as_deref(), subject.role)?;
        // One instant for the whole record: what is counted from creation must not start later.
        let (role, backend, now) = (subject.role.as_ref(), subject.backend.as_ref(), permits.decision().decided_at);
        let class = backend.class(role);
        if let Some(floor) = role.revocation_floor.filter(|floor| class < *floor) {
            let detail =
                format!("the role asks for revocation {} and its backend gives {}", floor.as_str(), class.as_str());
            return Err(Refusal::new(Step::Terms, Reason::RevocationFloor, detail));
        }
        if self.request.single_token && !backend.yields_single_token(role) {
            let detail = "this role's credential is not one token; ask for it at /v1/grants";
            return Err(Refusal::new(Step::Role, Reason::RoleNotAvailable, detail).about("role"));
        }
        let heartbeat = self.request.heartbeat;
        if heartbeat.is_some_and(|every| !(MIN_HEARTBEAT..=MAX_HEARTBEAT).contains(&every)) {
            let detail = format!("`ends_when.heartbeat` lies between {MIN_HEARTBEAT} and {MAX_HEARTBEAT}");
            return Err(Refusal::request(Reason::MalformedRequest, "ends_when.heartbeat", detail));
        }
        let environment = role.environment.as_ref().and_then(|name| self.revision.catalog.environments.get(name));
        let started_at = lineage.map_or(now, |lineage| lineage.started_at);
        let terms = Terms::compute(&TermsInput {
            now,
            class,
            requested: self.request.ttl,
            role_default: role.ttl.default,
            role_max: role.ttl.max,
            policy_max: permits.obligations().max_ttl,
            proof_ends_at: self.proofs_end_at(),
            approval_ends_at: None,
            exception_ends_at: None,
            continuous_ends_at: role.max_continuous.map(|longest| started_at.plus(longest)),
            environment_ends_at: environment.and_then(|environment| environment.ends_at),
            parent_ends_at: self.parent().map(|parent| parent.ends_at),
            spare_ends_at,
            backend_max: backend.max_life(role),
            backend_min: backend.min_life(role),
            call_deadline: self.ports.limits.latest_answer(),
            skew: self.ports.limits.skew,
        });
        let terms = terms.map_err(|mut refusal| {
            if let Some(why) = backend.min_life_reason().filter(|_| refusal.reason == Reason::BackendMinTtl) {
                refusal.detail = format!("{} ({why})", refusal.detail);
            }
            refusal
        })?;
        let scope = backend
            .scope(role, &self.request.scope)
            .map_err(|error| Refusal::new(Step::Terms, Reason::ScopeNotGranted, error.to_string()).about("scope"))?;
        self.refuse_wider_than_parent(&scope)?;
        let parameters = role.parameters.clone();
        Ok((purpose, Terms { scope, heartbeat, parameters, ..terms }))
    }

    /// When the first of the proofs ends whose issuers say that nothing minted with them outlives them.
    fn proofs_end_at(&self) -> Option<Timestamp> {
        let acting = self.delegation.map(|delegation| &delegation.identity);
        let bounding = [Some(self.identity), acting].into_iter().flatten().filter(|one| one.proof().rules.bounds_ttl);
        bounding.map(VerifiedIdentity::expires_at).min()
    }

    /// Where the grant that this one is derived from has a scope, nothing beyond it is handed on.
    fn refuse_wider_than_parent(&self, scope: &[String]) -> Result<(), Refusal> {
        let Some(parent) = self.parent().filter(|parent| !parent.record.terms.scope.is_empty()) else { return Ok(()) };
        let beyond = scope.iter().find(|one| !parent.record.terms.scope.contains(one));
        let detail = match beyond {
            Some(beyond) => {
                format!("the grant behind `subject_token` has no scope {beyond:?} to hand on; ask for less")
            }
            // A role that knows no scope gives all that it has.
            None if scope.is_empty() => {
                "the grant behind `subject_token` has a scope, and this role cannot be held to one".to_owned()
            }
            None => return Ok(()),
        };
        Err(Refusal::new(Step::Terms, Reason::ScopeNotGranted, detail).about("scope"))
    }

    pub(super) fn lineage_key(&self, role: &Role) -> LineageKey {
        LineageKey::of(self.identity.proof(), &role.name)
    }

    /// The same terms, or those with a spare where one is at hand that lives for most of what was granted and no longer.
    pub(super) fn with_spare(
        &self,
        subject: &Subject<'_>,
        permits: &Permits,
        lineage: Option<Lineage>,
        terms: Terms,
    ) -> (Terms, Option<TakenSpare>) {
        let three_quarters = Ttl::from_secs(terms.ttl.as_secs().saturating_mul(3).div_ceil(4));
        let earliest = permits.decision().decided_at.plus(three_quarters);
        let role = subject.role;
        let spare = self.ports.spares.take(&role.backend, &role.digest, earliest, terms.expires_at);
        // One of a server that the backend was configured for before is left to whoever keeps the spares.
        let spare = spare.filter(|spare| spare.handle().is_some_and(|handle| subject.backend.recognises(&handle)));
        let ends_at = spare.as_ref().and_then(TakenSpare::expires_at);
        match ends_at.map(|ends_at| self.terms(subject, permits, lineage, Some(ends_at))) {
            Some(Ok((_, with_spare))) => (with_spare, spare),
            Some(Err(_)) | None => (terms, None),
        }
    }
}
