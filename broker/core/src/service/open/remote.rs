//! Minting at a remote backend: the intent is durable before the call, and whatever the call brings, or does not bring,
//! ends either as an active grant whose holder has its credential, or as one that is being undone.
//!
//! A grant whose place the new one takes ends when that becomes active, not at the intent: a backend that fails must not
//! leave the caller with nothing.

use std::time::Duration;

use tracing::Instrument as _;

use super::failure::{OUTLIVES, issue_failure};
use super::plan::{Intent, Planned};
use super::{Attempt, MAX_DECISIONS, Opened, Subject};
use crate::audit::AuditAction;
use crate::credential::{Handle, IssueOrder, IssuedCredential, RevocationClass};
use crate::error::{Reason, ServiceError};
use crate::grant::{Cause, Ending, Grant, GrantState, IllegalTransition};
use crate::id::{BackendName, GrantId, IssuerName};
use crate::policy::{Outcome, PolicyQuery};
use crate::port::{Applied, Change, CredentialBackend, IssueError, Replaced, StoreError};
use crate::role::RoleState;
use crate::service::Limits;
use crate::service::spares::TakenSpare;
use crate::time::Timestamp;
use crate::trace;

/// What a call that was sent comes to within its limit.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, IssueError>>) -> Result<T, IssueError> {
    let late = |_| IssueError::OutcomeUnknown { internal: "no answer within the call deadline".to_owned() };
    tokio::time::timeout(limit, call).await.map_err(late)?
}

/// A credential that is being made.
struct Minting {
    order: IssueOrder,
    grant: Grant,
    handle: Handle,
    /// Whether something is at the backend already that must be undone, whatever becomes of the credential.
    is_prepared: bool,
}

/// A credential that came too late, or should not have come, with what it takes to undo it.
struct Unwanted {
    grant: GrantId,
    planned: Handle,
    better: Option<Handle>,
    expires_at: Timestamp,
    cause: Cause,
}

impl Attempt<'_> {
    /// Records the intent, then calls the backend, then records what came of it.
    pub(super) async fn open_remote(
        &self,
        subject: &Subject<'_>,
        planned: Planned,
    ) -> Result<Option<Opened>, ServiceError> {
        let backend_name = &subject.role.backend;
        let Planned { order, grant, permits, assumed_start, replaced, spare } = planned;
        let taken = spare.as_ref().and_then(TakenSpare::handle);
        let is_prepared = taken.is_some();
        let handle = match taken.map_or_else(|| subject.backend.plan(&order), Ok) {
            Ok(handle) => handle,
            Err(error) => return Err(self.refuse_issue(backend_name, error).await?),
        };
        let entries = vec![self.entry(&grant, AuditAction::GrantOpen)];
        let queries = permits.decisions().map(|decision| decision.query.clone()).collect();
        let call_handle = handle.duplicate();
        let spare_id = spare.as_ref().and_then(TakenSpare::id);
        fail::fail_point!("open::before-intent");
        let intent = Intent { grant, handle, permits, assumed_start, entries, replaced: None, spare: spare_id };
        let committed = self.commit(subject, intent).await;
        // Whatever came of it: the store knows who has the spare now.
        if let Some(spare) = spare {
            spare.spend();
        }
        let Some(grant) = committed? else {
            return Ok(None);
        };
        fail::fail_point!("open::after-intent");
        let mut minting = Minting { order, grant, handle: call_handle, is_prepared };
        let outcome = self.call(subject.backend.as_ref(), &mut minting).await;
        fail::fail_point!("open::after-call");
        let Minting { grant, handle, is_prepared, .. } = minting;
        match outcome {
            Ok(issued) => self.activate_remote(subject, grant, issued, handle, queries, replaced).await.map(Some),
            Err(error) => Err(self.abort_remote(backend_name, grant, error, is_prepared).await?),
        }
    }

    /// The calls, within their hard limit, and not at all when the deadline is near.
    async fn call(
        &self,
        backend: &dyn CredentialBackend,
        minting: &mut Minting,
    ) -> Result<IssuedCredential, IssueError> {
        if self.ports.now() > minting.order.issued_at.plus(Limits::SENDING) {
            return Err(IssueError::Unavailable { internal: "recording the intent took too long".to_owned() });
        }
        // One limit for both calls, and for what is made durable between them.
        let began = self.ports.clock.monotonic();
        if !minting.is_prepared {
            self.prepare(backend, minting).instrument(trace::mint(backend.kind())).await?;
        }
        let taken = self.ports.clock.monotonic().saturating_sub(began);
        let left = self.ports.limits.call_deadline.as_duration().saturating_sub(taken);
        within(left, backend.issue(&minting.order, &minting.handle)).instrument(trace::mint(backend.kind())).await
    }

    /// Has made what must be at the backend before the credential, and makes durable what undoes it.
    async fn prepare(&self, backend: &dyn CredentialBackend, minting: &mut Minting) -> Result<(), IssueError> {
        let deadline = self.ports.limits.call_deadline.as_duration();
        let prepared = within(deadline, backend.prepare(&minting.order, &minting.handle)).await?;
        let Some(prepared) = prepared else { return Ok(()) };
        fail::fail_point!("open::after-prepare");
        let unlikely = |error: IllegalTransition| IssueError::OutcomeUnknown { internal: error.to_string() };
        let grant = minting.grant.clone().prepare().map_err(unlikely)?;
        let mut change = Change::of(grant.clone(), self.entry(&grant, AuditAction::GrantPrepare));
        change.handle = Some(prepared.duplicate());
        let recorded = self.ports.store.apply(change).await;
        if matches!(recorded, Ok(Applied::Done)) {
            (minting.grant, minting.handle, minting.is_prepared) = (grant, prepared, true);
            fail::fail_point!("open::after-prepared");
            return Ok(());
        }
        // Nothing was minted under it. What the planned handle does not find the inventory will.
        if !matches!(tokio::time::timeout(deadline, backend.revoke(&prepared)).await, Ok(Ok(_))) {
            tracing::warn!(grant = %grant.record.id, "what was prepared for a grant that ended is left to the inventory");
        }
        let internal = "what was prepared could not be recorded; nothing was minted with it".to_owned();
        Err(IssueError::OutcomeUnknown { internal })
    }

    async fn activate_remote(
        &self,
        subject: &Subject<'_>,
        grant: Grant,
        mut issued: IssuedCredential,
        planned: Handle,
        queries: Vec<PolicyQuery>,
        replaced: Option<Replaced>,
    ) -> Result<Opened, ServiceError> {
        let (id, now) = (grant.record.id, self.ports.now());
        let fingerprint = self.ports.sealer.fingerprint(issued.material.fingerprint_input());
        let better = issued.handle.take();
        let (expires_at, outlives) = (issued.expires_at, issued.expires_at > grant.expires_at);
        let cause = if outlives { Cause::BACKEND_REFUSED } else { Cause::OUTCOME_UNKNOWN };
        let unwanted = Unwanted { grant: id, planned, better, expires_at, cause };
        let activated = match grant.state {
            // The same instant at which a worker gives up waiting: an answer is late or it is not.
            GrantState::Pending { deadline } if now < deadline && !outlives => {
                grant.activate(now, expires_at, fingerprint).ok().filter(|grant| grant.is_live(now))
            }
            _ => None,
        };
        let recorded = match &activated {
            Some(grant) => self.record_activation(grant, unwanted.better.as_ref(), &queries, replaced).await,
            None => Ok(false),
        };
        if let (Some(grant), Ok(true)) = (activated, &recorded) {
            return Ok(Opened { grant, credential: issued });
        }
        drop(issued);
        let dropped = self.drop_unwanted(subject.backend.as_ref(), &unwanted).await;
        recorded?;
        dropped?;
        if outlives {
            let detail = format!("backend {} failed: {OUTLIVES}; it is being undone", subject.role.backend);
            return Err(ServiceError::Backend { reason: Reason::BackendRefused, detail });
        }
        let detail = "the grant ended while its credential was being made; the credential is being undone";
        Err(ServiceError::Conflict { reason: Reason::StateConflict, detail: detail.to_owned(), retry_after: None })
    }

    /// Makes the activation durable. `false` when the grant ended, or is no longer allowed, while the backend worked.
    async fn record_activation(
        &self,
        grant: &Grant,
        handle: Option<&Handle>,
        queries: &[PolicyQuery],
        replaced: Option<Replaced>,
    ) -> Result<bool, StoreError> {
        let mut epoch = self.epoch;
        for _ in 0..MAX_DECISIONS {
            let mut change = Change::of(grant.clone(), self.entry(grant, AuditAction::GrantActivate));
            change.handle = handle.map(Handle::duplicate);
            change.epoch = Some(epoch);
            change.replaced = replaced;
            match self.ports.store.apply(change).instrument(trace::store()).await? {
                Applied::Done => {
                    if replaced.is_some() {
                        self.ports.nudge.notify_one();
                    }
                    return Ok(true);
                }
                Applied::Conflict | Applied::Replayed | Applied::Barred(_) => return Ok(false),
                Applied::Moved => {
                    epoch = self.ports.store.epoch();
                    if !self.still_allowed(grant, queries) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Whether the grant would be opened as it is now that the world has moved: the same role, an owner who answers for
    /// it, an issuer that is still trusted, and a policy that allows it for as long.
    fn still_allowed(&self, grant: &Grant, queries: &[PolicyQuery]) -> bool {
        let revision = self.ports.governance.current();
        let (record, catalog) = (&grant.record, &revision.catalog);
        let role = catalog.roles.get(&record.role);
        let role_stands = role.is_some_and(|role| {
            role.state == RoleState::Active
                && role.digest == record.role_digest
                && catalog.owners.get(&role.owner).is_some_and(|owner| owner.resolves())
        });
        let stands = |issuer: &IssuerName| revision.verifiers.iter().any(|verifier| verifier.issuer() == issuer);
        let issuers_stand = stands(&record.holder.issuer) && record.actors.iter().all(|acting| stands(&acting.issuer));
        let allows = |query: &PolicyQuery| {
            let mut query = query.clone();
            query.context.time = self.ports.now();
            revision.policy.decide(&query).is_ok_and(|verdict| {
                let longest = verdict.obligations.max_ttl;
                verdict.outcome == Outcome::Allow
                    && longest.is_none_or(|longest| grant.end_at <= record.created_at.plus(longest))
            })
        };
        role_stands && issuers_stand && queries.iter().all(allows)
    }

    /// A credential whose grant is over is undone at once, and again by the worker: the worker may have undone it before
    /// it existed. What it takes to undo it, if only the answer said so, is kept for the worker.
    async fn drop_unwanted(&self, backend: &dyn CredentialBackend, unwanted: &Unwanted) -> Result<(), ServiceError> {
        let id = unwanted.grant;
        let deadline = self.ports.limits.call_deadline.as_duration();
        let handle = unwanted.better.as_ref().unwrap_or(&unwanted.planned);
        let undone = matches!(tokio::time::timeout(deadline, backend.revoke(handle)).await, Ok(Ok(_)));
        if !undone {
            tracing::error!(grant = %id, "an unwanted credential could not be undone at once");
        }
        for _ in 0..MAX_DECISIONS {
            let Some(grant) = self.ports.store.grant(id).await? else { break };
            let Some(change) = self.ending_of(grant, unwanted, undone) else { break };
            if self.ports.store.apply(change).await? == Applied::Done {
                break;
            }
        }
        self.ports.nudge.notify_one();
        Ok(())
    }

    /// What must still be recorded of an unwanted credential, given how its grant is now.
    fn ending_of(&self, mut grant: Grant, unwanted: &Unwanted, undone: bool) -> Option<Change> {
        let (now, cause) = (self.ports.now(), &unwanted.cause);
        let outlives = unwanted.expires_at > grant.expires_at;
        // The truth, even where it breaks the bound: an end that is said too early would lift its fence too early.
        grant.expires_at = grant.expires_at.max(unwanted.expires_at);
        let (action, ended) = match &grant.state {
            GrantState::Pending { .. } | GrantState::Active { .. } => {
                (AuditAction::GrantRevoke, grant.begin_ending(Ending::by_broker(cause.clone(), now), false))
            }
            GrantState::Revoking { fenced_at: None, .. }
                if grant.record.class() != RevocationClass::ExpiryOnly
                    && (outlives || (unwanted.better.is_some() && !undone)) =>
            {
                (AuditAction::GrantRetry, grant.retry(now, "a late answer is still to be undone".to_owned()))
            }
            _ => return None,
        };
        let ended = ended.ok()?;
        let entry = self.entry(&ended, action).for_reason(cause.as_str());
        let mut change = Change::of(ended, entry);
        change.handle = unwanted.better.as_ref().map(Handle::duplicate);
        Some(change)
    }

    /// Nothing was made, or it is not known: record which, and have it undone.
    async fn abort_remote(
        &self,
        backend: &BackendName,
        grant: Grant,
        error: IssueError,
        is_prepared: bool,
    ) -> Result<ServiceError, ServiceError> {
        let now = self.ports.now();
        let (failure, internal, cause) = issue_failure(backend, error);
        let ending = Ending::by_broker(cause.clone(), now);
        let (action, ended) = if cause == Cause::BACKEND_REFUSED && !is_prepared {
            (AuditAction::GrantFail, grant.fail(ending))
        } else {
            (AuditAction::GrantRevoke, grant.begin_ending(ending, false))
        };
        if let Ok(ended) = ended {
            let entry = self.entry(&ended, action).failed().for_reason(cause.as_str()).with("internal", &internal);
            // A conflict means that the worker was faster; it does the same.
            self.ports.store.apply(Change::of(ended, entry)).await?;
        }
        self.ports.nudge.notify_one();
        Ok(failure)
    }
}
