//! Opening a grant: proof → decision → durable record → credential.

mod foresee;
mod remote;

use std::sync::Arc;

use tracing::Instrument as _;

pub use foresee::Foreseen;
pub(super) use foresee::foresee;

use super::barred::Barred;
use super::decide::{ROLE_NOT_AVAILABLE, Trail, grant_resource, may, permit, query_of, role_facts};
use super::revoke::is_fenced_by_record;
use super::spares::TakenSpare;
use super::{Ports, Use, authenticate, rates};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::catalog::Revision;
use crate::credential::{Effect, Handle, IssueOrder, IssuedCredential};
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::{Cause, DecisionSummary, Grant, GrantRecord, GrantState, Holder};
use crate::id::SpareId;
use crate::identity::{Proof, VerifiedIdentity};
use crate::owner::{Owner, OwnerSnapshot};
use crate::policy::{Action, Permit, PolicyQuery, Resource, Terms, TermsInput};
use crate::port::{
    CredentialBackend, IdempotencyClaim, IssueError, Lineage, LineageClaim, LineageKey, OpenOutcome, Opening, ProofUse,
    Quota, Quotas, Replaced,
};
use crate::request::{GrantRequest, Idempotency, Origin, Purpose};
use crate::role::{Role, RoleState};
use crate::time::{Timestamp, Ttl};
use crate::trace;

/// A grant that was opened, with the credential that leaves once.
#[derive(Debug)]
pub struct Opened {
    /// The grant, active.
    pub grant: Grant,
    /// The credential.
    pub credential: IssuedCredential,
}

/// How often a decision is made again because the world moved meanwhile. More would mean that revocations arrive faster
/// than a decision takes; then refusing is right.
const MAX_DECISIONS: usize = 4;

/// The longest time without a sign of life that a caller may ask for.
const MAX_HEARTBEAT: Ttl = Ttl::from_hours(1);
/// The shortest: below, a slow network would end grants.
const MIN_HEARTBEAT: Ttl = Ttl::from_secs(5);

/// Verifies, decides, records, mints.
///
/// A remote backend is called only after the intent is durable; a local one mints before the one commit that records
/// both. Either way no credential is returned before its grant is durably active (promise 1).
///
/// # Errors
/// [`ServiceError`]; a refusal leaves no grant and consumes nothing.
pub async fn open(
    ports: &Ports,
    proof: &Proof,
    request: &GrantRequest,
    origin: &Origin,
) -> Result<Opened, ServiceError> {
    ports.evidence.allows_issuing(ports.store.as_ref())?;
    // However often it is decided, it is one request.
    let mut counted = Counted::default();
    for _ in 0..MAX_DECISIONS {
        // Read before anything else, the revision above all: what moves it later is noticed in the transaction that opens
        // the grant. Read after the revision, a revision published in between would go unnoticed.
        let epoch = ports.store.epoch();
        let revision = ports.governance.current();
        let identity = authenticate::authenticate(ports, &revision, proof, Use::Mint, origin).await?;
        let attempt = Attempt { ports, revision: &revision, identity: &identity, request, origin, epoch };
        if !std::mem::replace(&mut counted.of_identity, true) {
            // Not before: anybody can write a name into a token, and would spend its budget with forgeries.
            rates::identity(ports, &identity, origin).await?;
        }
        if let Some(opened) = attempt.run(&mut counted).await? {
            return Ok(opened);
        }
    }
    Err(ServiceError::unavailable(Reason::StateConflict, "policy or revocations are changing too fast to decide"))
}

/// Which rates a request is counted for.
#[derive(Default)]
struct Counted {
    of_identity: bool,
    allowed: bool,
}

/// One decision and what follows from it.
struct Attempt<'a> {
    ports: &'a Ports,
    revision: &'a Revision,
    identity: &'a VerifiedIdentity,
    request: &'a GrantRequest,
    origin: &'a Origin,
    epoch: u64,
}

/// What was found for a request, before it is decided.
struct Subject<'a> {
    role: &'a Arc<Role>,
    owner: &'a Owner,
    backend: &'a Arc<dyn CredentialBackend>,
}

impl Attempt<'_> {
    /// `None` when the world moved and it must be decided again.
    async fn run(&self, counted: &mut Counted) -> Result<Option<Opened>, ServiceError> {
        let found = Purpose::stated(self.request.purpose.as_deref()).and_then(|stated| Ok((self.subject()?, stated)));
        let (subject, stated) = match found {
            Ok(found) => found,
            Err(refusal) => return Err(self.refuse(refusal).await?),
        };
        let permit = self.permit(&subject, stated).await?;
        if !std::mem::replace(&mut counted.allowed, true) {
            rates::allowed(self.ports, &subject.owner.name, self.identity, self.trail().object, self.origin).await?;
        }
        let replaced = match self.replaced().await? {
            Ok(replaced) => replaced,
            Err(refusal) => return Err(self.refuse(refusal).await?),
        };
        let lineage = self.lineage(subject.role).await?;
        let (purpose, terms) = match self.terms(&subject, &permit, lineage, None) {
            Ok(agreed) => agreed,
            Err(refusal) => return Err(self.refuse(refusal).await?),
        };
        let (terms, spare) = self.with_spare(&subject, &permit, lineage, terms);
        let planned = Planned { replaced, spare, ..self.plan(&subject, permit, purpose, terms, lineage)? };
        match subject.backend.effect() {
            Effect::Local => self.open_local(&subject, planned).await,
            Effect::Remote => self.open_remote(&subject, planned).await,
        }
    }

    /// The role that was asked for, with who answers for it and who mints it.
    fn subject(&self) -> Result<Subject<'_>, Refusal> {
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
    async fn replaced(&self) -> Result<Result<Option<Replaced>, Refusal>, ServiceError> {
        let Some(id) = self.request.replaces else { return Ok(Ok(None)) };
        let found = self.ports.store.grant(id).await?;
        let Some(own) = found.filter(|grant| grant.record.is_held_by(self.identity)) else {
            let detail = "`replaces` is not the id of a grant of yours: of this run, and bound to the same key";
            return Ok(Err(Refusal::request(Reason::MalformedRequest, "replaces", detail)));
        };
        let resource = grant_resource(&own.record);
        let mut query = query_of(self.ports, self.revision, self.identity, Action::Revoke, resource).await?;
        query.context.holder = true;
        if !may(self.revision, &query) {
            let detail = "policy does not let you end the grant that `replaces` names";
            return Ok(Err(Refusal::new(Step::Policy, Reason::PolicyDenied, detail).about("replaces")));
        }
        Ok(Ok(Some(Replaced { id, fenced_by_record: is_fenced_by_record(self.ports, &own) })))
    }

    async fn permit(&self, subject: &Subject<'_>, stated: Option<String>) -> Result<Permit, ServiceError> {
        let query = self.query(subject, stated).await?;
        permit(self.ports, self.revision, query, self.trail(), Self::not_available()).await
    }

    /// What is asked of the policy.
    async fn query(&self, subject: &Subject<'_>, stated: Option<String>) -> Result<PolicyQuery, ServiceError> {
        let facts = role_facts(self.revision, subject.role, subject.backend.as_ref());
        let resource = Resource::Role(facts);
        let mut query = query_of(self.ports, self.revision, self.identity, Action::Mint, resource).await?;
        query.context.purpose = stated.or_else(|| subject.role.purpose.default.clone());
        query.context.ticket.clone_from(&self.request.ticket);
        query.context.task.clone_from(&self.request.task);
        query.context.ttl = Some(self.request.ttl.unwrap_or(subject.role.ttl.default));
        query.context.scope.clone_from(&self.request.scope);
        Ok(query)
    }

    fn not_available() -> Refusal {
        Refusal::new(Step::Policy, Reason::RoleNotAvailable, ROLE_NOT_AVAILABLE).about("role")
    }

    /// How long the caller has held the role without a pause, where the role bounds that.
    async fn lineage(&self, role: &Role) -> Result<Option<Lineage>, ServiceError> {
        match role.max_continuous {
            Some(_) => Ok(self.ports.store.lineage(&self.lineage_key(role), self.ports.now()).await?),
            None => Ok(None),
        }
    }

    fn terms(
        &self,
        subject: &Subject<'_>,
        permit: &Permit,
        lineage: Option<Lineage>,
        spare_ends_at: Option<Timestamp>,
    ) -> Result<(Purpose, Terms), Refusal> {
        let purpose = Purpose::resolve(self.request.purpose.as_deref(), subject.role)?;
        // One instant for the whole record: what is counted from creation must not start later.
        let (role, backend, now) = (subject.role.as_ref(), subject.backend.as_ref(), permit.decision().decided_at);
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
            policy_max: permit.decision().verdict.obligations.max_ttl,
            proof_ends_at: self.identity.proof().rules.bounds_ttl.then(|| self.identity.expires_at()),
            approval_ends_at: None,
            exception_ends_at: None,
            continuous_ends_at: role.max_continuous.map(|longest| started_at.plus(longest)),
            environment_ends_at: environment.and_then(|environment| environment.ends_at),
            parent_ends_at: None,
            spare_ends_at,
            backend_max: backend.max_life(role),
            backend_min: backend.min_life(role),
            call_deadline: self.ports.limits.latest_answer(),
            skew: self.ports.limits.skew,
        })?;
        let scope = backend
            .scope(role, &self.request.scope)
            .map_err(|error| Refusal::new(Step::Terms, Reason::ScopeNotGranted, error.to_string()).about("scope"))?;
        let parameters = role.parameters.clone();
        Ok((purpose, Terms { scope, heartbeat, parameters, ..terms }))
    }

    /// The same terms, or those with a spare where one is at hand that lives for most of what was granted and no longer.
    fn with_spare(
        &self,
        subject: &Subject<'_>,
        permit: &Permit,
        lineage: Option<Lineage>,
        terms: Terms,
    ) -> (Terms, Option<TakenSpare>) {
        let three_quarters = Ttl::from_secs(terms.ttl.as_secs().saturating_mul(3).div_ceil(4));
        let earliest = permit.decision().decided_at.plus(three_quarters);
        let role = subject.role;
        let spare = self.ports.spares.take(&role.backend, &role.digest, earliest, terms.expires_at);
        let ends_at = spare.as_ref().and_then(TakenSpare::expires_at);
        match ends_at.map(|ends_at| self.terms(subject, permit, lineage, Some(ends_at))) {
            Some(Ok((_, with_spare))) => (with_spare, spare),
            Some(Err(_)) | None => (terms, None),
        }
    }

    /// The pending grant, with the order that would mint its credential.
    fn plan(
        &self,
        subject: &Subject<'_>,
        permit: Permit,
        purpose: Purpose,
        terms: Terms,
        lineage: Option<Lineage>,
    ) -> Result<Planned, ServiceError> {
        let (role, proof, now) = (subject.role, self.identity.proof(), permit.decision().decided_at);
        let order = self.order(subject, &purpose, &terms, now, self.ports.store.next_status_index())?;
        let grant = Grant {
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
                environment: role.environment.clone(),
                environment_class: self.revision.catalog.environment_class(role),
                stage: role.stage.clone(),
                tier: role.tier.clone(),
                owner: order.owner.clone(),
                purpose: purpose.into_string(),
                ticket: self.request.ticket.clone(),
                task: self.request.task.clone(),
                holder: self.holder(),
                provenance: proof.provenance.clone(),
                decision: DecisionSummary::from(permit.decision()),
                terms,
                created_at: now,
                status_index: order.status_index,
                lineage: None,
                replaces: self.request.replaces,
                parent: None,
                signed_by: None,
            },
        };
        let assumed_start = role.max_continuous.map(|_| lineage.map(|lineage| lineage.started_at));
        Ok(Planned { order, grant, permit, assumed_start, replaced: None, spare: None })
    }

    /// The order that mints a credential of these terms.
    fn order(
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
            attributes: proof.attributes.clone(),
            provenance: proof.provenance.clone(),
            purpose: purpose.as_str().to_owned(),
            scope: terms.scope.clone(),
            csr: self.request.csr.clone(),
            status_index,
            issued_at,
            expires_at: terms.expires_at,
        })
    }

    /// Mints here, then records intent and activation in one commit.
    async fn open_local(&self, subject: &Subject<'_>, planned: Planned) -> Result<Option<Opened>, ServiceError> {
        let (handle, mut issued) = match self.mint_local(subject, &planned.order).await {
            Ok(minted) => minted,
            Err(error) => return Err(self.refuse_issue(&subject.role.backend, error).await?),
        };
        let fingerprint = self.ports.sealer.fingerprint(issued.material.fingerprint_input());
        let Planned { grant, permit, assumed_start, replaced, .. } = planned;
        let now = self.ports.now();
        let activated = grant.activate(now, issued.expires_at, fingerprint).ok();
        // Whatever took too long to sign has not left the broker: nothing is recorded, and nothing is returned.
        let Some(mut grant) = activated.filter(|grant| grant.is_live(now)) else {
            let error = IssueError::Unavailable { internal: "its end came while it was being signed".to_owned() };
            return Err(self.refuse_issue(&subject.role.backend, error).await?);
        };
        fail::fail_point!("open::before-commit");
        let entries = vec![self.entry(&grant, AuditAction::GrantOpen), self.entry(&grant, AuditAction::GrantActivate)];
        grant.record.signed_by = issued.signed_by.take();
        let intent = Intent { grant, handle, permit, assumed_start, entries, replaced, spare: None };
        let opened = self.commit(subject, intent).await?;
        fail::fail_point!("open::after-commit");
        Ok(opened.map(|grant| Opened { grant, credential: issued }))
    }

    async fn mint_local(
        &self,
        subject: &Subject<'_>,
        order: &IssueOrder,
    ) -> Result<(Handle, IssuedCredential), IssueError> {
        let planned = subject.backend.plan(order)?;
        // A key that signs may live elsewhere; waiting for it has the same limit as any other call.
        let deadline = self.ports.limits.call_deadline.as_duration();
        let call = tokio::time::timeout(deadline, subject.backend.issue(order, &planned));
        let call = call.instrument(trace::mint(subject.backend.kind())).await;
        let late = |_| IssueError::Unavailable { internal: "no answer within the call deadline".to_owned() };
        let mut issued = call.map_err(late)??;
        if issued.expires_at > order.expires_at {
            return Err(IssueError::Refused { detail: OUTLIVES.to_owned(), parameter: None });
        }
        Ok((issued.handle.take().unwrap_or(planned), issued))
    }

    async fn commit(&self, subject: &Subject<'_>, intent: Intent) -> Result<Option<Grant>, ServiceError> {
        let Intent { grant, handle, permit, assumed_start, entries, replaced, spare } = intent;
        let proof_use = proof_use_of(self.identity);
        let now = grant.record.created_at;
        let opening = Opening {
            handle,
            decision: permit.spend(),
            entries,
            proof_use,
            idempotency: self.request.idempotency.as_ref().map(|key| self.idempotency_claim(key, now)),
            lineage: LineageClaim { key: self.lineage_key(subject.role), fresh: self.ports.fresh_id()?, assumed_start },
            quotas: Quotas { owner: self.ports.limits.max_live_per_owner, role: subject.role.max_live },
            epoch: self.epoch,
            now,
            fenced_by_record: subject.backend.effect() == Effect::Local,
            replaced,
            spare,
            grant,
        };
        let refusal = match self.ports.store.open(opening).instrument(trace::store()).await? {
            OpenOutcome::Opened(grant) => {
                if self.request.idempotency.is_some() || replaced.is_some() {
                    // A repeat has begun to end the earlier grant, a replacement the one whose place it took.
                    self.ports.nudge.notify_one();
                }
                return Ok(Some(*grant));
            }
            OpenOutcome::Moved => return Ok(None),
            OpenOutcome::OverQuota(quota) => return Err(self.over_quota(quota).await?),
            OpenOutcome::Barred(bar) => {
                let barred = Barred::by(bar, self.ports.now());
                self.trail().refuse(self.ports, &barred.refusal, None).await?;
                return Err(barred.into());
            }
            OpenOutcome::Replayed => replayed(),
            OpenOutcome::RequestMismatch => Refusal::request(
                Reason::IdempotencyConflict,
                "Idempotency-Key",
                "this `Idempotency-Key` came with another request before; use a new one",
            ),
            OpenOutcome::StillPending => {
                return Err(ServiceError::Conflict {
                    reason: Reason::IdempotencyPending,
                    detail: "the first request with this `Idempotency-Key` is still running".to_owned(),
                    retry_after: Some(Ttl::from_secs(1)),
                });
            }
            OpenOutcome::TooManyRepeats => {
                return Err(ServiceError::Conflict {
                    reason: Reason::IdempotencyExhausted,
                    detail: format!(
                        "this `Idempotency-Key` has been repeated {} times; use a fresh proof and a new key",
                        IdempotencyClaim::MAX_REPEATS
                    ),
                    retry_after: None,
                });
            }
        };
        Err(self.refuse(refusal).await?)
    }

    /// The scope of an idempotency key: nobody else's, and no other proof's, can meet it.
    fn idempotency_claim(&self, key: &Idempotency, now: Timestamp) -> IdempotencyClaim {
        let proof = self.identity.proof();
        let scope = super::idempotency::scope([
            proof.issuer.as_str(),
            &proof.subject,
            // Every run of a workflow shares its subject, and not every issuer gives proofs an id.
            proof.provenance.run.as_deref().unwrap_or_default(),
            proof.provenance.run_attempt.as_deref().unwrap_or_default(),
            proof.proof_id.as_deref().unwrap_or_default(),
            proof.binding_key.as_deref().unwrap_or_default(),
            &key.key,
        ]);
        let keep_until = self.identity.replay_horizon().max(now.plus(Ttl::from_hours(24)));
        IdempotencyClaim { scope, request_digest: key.request_digest, keep_until }
    }

    fn lineage_key(&self, role: &Role) -> LineageKey {
        let proof = self.identity.proof();
        LineageKey { issuer: proof.issuer.clone(), subject: proof.subject.clone(), role: role.name.clone() }
    }

    fn holder(&self) -> Holder {
        let proof = self.identity.proof();
        Holder {
            principal: proof.principal,
            issuer: proof.issuer.clone(),
            issuer_kind: proof.issuer_kind.to_owned(),
            subject: proof.subject.clone(),
            attributes: proof.attributes.clone(),
            proof_id: proof.proof_id.clone(),
            proof_key_id: proof.key_id.clone(),
            binding_key: proof.binding_key.clone(),
            source: self.identity.source(),
        }
    }

    fn trail(&self) -> Trail<'_> {
        Trail {
            actor: Actor::from(self.identity),
            action: AuditAction::GrantOpen,
            object: AuditObject::Role { name: self.request.role.chars().take(200).collect() },
            origin: self.origin,
        }
    }

    fn entry(&self, grant: &Grant, action: AuditAction) -> AuditEntry {
        let record = &grant.record;
        let entry = AuditEntry::success(
            self.ports.now(),
            Actor::from(self.identity),
            action,
            AuditObject::Grant { id: record.id },
        )
        .in_request(self.origin.request_id)
        .by_decision(record.decision.id);
        if action != AuditAction::GrantOpen {
            return entry;
        }
        let entry = entry
            .with("role", record.role.as_str())
            .with("owner", record.owner.name.as_str())
            .with("purpose", &record.purpose)
            .with("expires_at", &grant.expires_at.to_rfc3339());
        if self.identity.multi_audience() { entry.with("multi_audience", "true") } else { entry }
    }

    /// One that ends makes room: trying again is no mistake.
    async fn over_quota(&self, quota: Quota) -> Result<ServiceError, ServiceError> {
        const AFTER: Ttl = Ttl::from_secs(10);
        let whose = match quota {
            Quota::Owner => "the role's owner",
            Quota::Role => "the role",
        };
        let detail = format!("{whose} has as many live grants as it may have; ending one makes room");
        self.refuse(Refusal::new(Step::Terms, Reason::QuotaExceeded, detail.as_str())).await?;
        Ok(ServiceError::Unavailable { reason: Reason::QuotaExceeded, detail, retry_after: AFTER })
    }

    /// Records a refusal and hands it back as the error to answer.
    async fn refuse(&self, refusal: Refusal) -> Result<ServiceError, ServiceError> {
        self.trail().refuse(self.ports, &refusal, None).await?;
        Ok(refusal.into())
    }

    /// The refusal of a backend that does not take a parameter of the caller's.
    fn backend_refusal(parameter: &'static str, detail: String) -> Refusal {
        let reason = if parameter == "csr" { Reason::BadCsr } else { Reason::BackendRefused };
        Refusal::new(Step::Backend, reason, detail).about(parameter)
    }

    /// Records that minting failed with nothing left behind.
    async fn refuse_issue(
        &self,
        backend: &crate::id::BackendName,
        error: IssueError,
    ) -> Result<ServiceError, ServiceError> {
        if let IssueError::Refused { detail, parameter: Some(parameter) } = error {
            return self.refuse(Self::backend_refusal(parameter, detail)).await;
        }
        let (failure, internal, cause) = issue_failure(backend, error);
        let refusal = Refusal::new(Step::Backend, failure.reason(), failure.to_string()).because(internal);
        tracing::warn!(%backend, cause = cause.as_str(), "minting failed");
        self.trail().refuse(self.ports, &refusal, None).await?;
        Ok(failure)
    }
}

/// A pending grant with the order that would mint its credential.
struct Planned {
    order: IssueOrder,
    grant: Grant,
    permit: Permit,
    assumed_start: Option<Option<Timestamp>>,
    /// The grant whose place it takes when it becomes active.
    replaced: Option<Replaced>,
    /// What its credential is made with, where something was prepared ahead.
    spare: Option<TakenSpare>,
}

/// What becomes durable with one commit.
struct Intent {
    grant: Grant,
    handle: Handle,
    permit: Permit,
    assumed_start: Option<Option<Timestamp>>,
    entries: Vec<AuditEntry>,
    replaced: Option<Replaced>,
    spare: Option<SpareId>,
}

impl From<&crate::policy::Decision> for DecisionSummary {
    fn from(decision: &crate::policy::Decision) -> Self {
        Self {
            id: decision.id,
            revision: decision.revision.clone(),
            determining: decision.verdict.determining.clone(),
            obligations: decision.verdict.obligations.clone(),
        }
    }
}

/// The use of the proof, where the issuer's proofs are for single use.
pub(super) fn proof_use_of(identity: &VerifiedIdentity) -> Option<ProofUse> {
    let proof = identity.proof();
    let proof_id = proof.proof_id.clone().filter(|_| proof.rules.single_use)?;
    Some(ProofUse { issuer: proof.issuer.clone(), proof_id, keep_until: identity.replay_horizon() })
}

/// The refusal of a proof that was used before.
pub(super) fn replayed() -> Refusal {
    Refusal::proof(Reason::Replayed, "this proof was used before; ask your issuer for a fresh one")
        .about("jti")
        .after_signature()
}

/// A backend that answers with a life longer than was asked for has broken its bound; what it made must not be used.
const OUTLIVES: &str = "it made a credential that outlives what was asked for";

/// What a failure at the backend is to the caller, to the audit log and to the grant.
fn issue_failure(backend: &crate::id::BackendName, error: IssueError) -> (ServiceError, String, Cause) {
    match error {
        IssueError::Refused { detail, .. } => {
            let failure = ServiceError::Backend {
                reason: Reason::BackendRefused,
                detail: format!("backend {backend} refused: {detail}"),
            };
            (failure, detail, Cause::BACKEND_REFUSED)
        }
        IssueError::Suspended { detail } => {
            let told = format!("backend {backend} mints nothing for now: {detail}");
            (ServiceError::unavailable(Reason::SigningUnavailable, told), detail, Cause::BACKEND_UNAVAILABLE)
        }
        IssueError::Unavailable { internal } => {
            let detail = format!("backend {backend} does not answer");
            let failure = ServiceError::unavailable(Reason::BackendUnavailable, detail);
            (failure, internal, Cause::BACKEND_UNAVAILABLE)
        }
        IssueError::OutcomeUnknown { internal } => {
            let detail = format!("backend {backend} gave no answer in time; what it may have made is being undone");
            (ServiceError::unavailable(Reason::BackendOutcomeUnknown, detail), internal, Cause::OUTCOME_UNKNOWN)
        }
    }
}
