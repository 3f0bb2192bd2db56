//! The one commit by which a grant is there, and what keeps it from being there.

use tracing::Instrument as _;

use super::plan::{Intent, Permits};
use super::{Attempt, Subject};
use crate::credential::Effect;
use crate::delegation::Acting;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::grant::Grant;
use crate::identity::VerifiedIdentity;
use crate::port::{Acted, IdempotencyClaim, LineageClaim, OpenOutcome, Opening, ProofUse, Quota, Quotas};
use crate::request::Idempotency;
use crate::service::barred::Barred;
use crate::service::idempotency;
use crate::time::{Timestamp, Ttl};
use crate::trace;

impl Attempt<'_> {
    pub(super) async fn commit(&self, subject: &Subject<'_>, intent: Intent) -> Result<Option<Grant>, ServiceError> {
        let Intent { grant, handle, permits, assumed_start, entries, replaced, spare } = intent;
        let Permits { mint, delegate } = permits;
        let proof_use = proof_use_of(self.identity);
        let acting = self.delegation.zip(delegate).map(|(delegation, permit)| Acted {
            decision: permit.spend(),
            proof_use: proof_use_of(&delegation.identity),
        });
        let now = grant.record.created_at;
        let opening = Opening {
            handle,
            decision: mint.spend(),
            entries,
            proof_use,
            acting,
            idempotency: self.request.idempotency.as_ref().map(|key| self.idempotency_claim(key, now)),
            lineage: LineageClaim { key: self.lineage_key(subject.role), fresh: self.ports.fresh_id()?, assumed_start },
            quotas: Quotas {
                owner: self.ports.limits.max_live_per_owner,
                role: subject.role.max_live,
                fence: subject.backend.fence(subject.role).and_then(|fence| fence.places),
                actor: self.parent().map(|_| self.ports.limits.max_derived_per_actor),
            },
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
        // Whoever else acts for the same subject has keys of its own.
        let acting = self.delegation.map(|delegation| Acting::of(&delegation.identity).name()).unwrap_or_default();
        let bound_to =
            |identity: &VerifiedIdentity| identity.binding_key().map(|key| key.to_string()).unwrap_or_default();
        let bound_to = format!("{} {}", bound_to(self.identity), bound_to(self.caller()));
        let scope = idempotency::scope([
            proof.issuer.as_str(),
            &proof.subject,
            // Every run of a workflow shares its subject, and not every issuer gives proofs an id.
            proof.provenance.run.as_deref().unwrap_or_default(),
            proof.provenance.run_attempt.as_deref().unwrap_or_default(),
            proof.proof_id.as_deref().unwrap_or_default(),
            &bound_to,
            &acting,
            &key.key,
        ]);
        let keep_until = self.identity.replay_horizon().max(now.plus(Ttl::from_hours(24)));
        IdempotencyClaim { scope, request_digest: key.request_digest, keep_until }
    }

    /// One that ends makes room: trying again is no mistake.
    async fn over_quota(&self, quota: Quota) -> Result<ServiceError, ServiceError> {
        const AFTER: Ttl = Ttl::from_secs(10);
        let detail = match quota {
            Quota::Owner => "the role's owner has as many live grants as it may have; ending one makes room",
            Quota::Role => "the role has as many live grants as it may have; ending one makes room",
            Quota::Fence => {
                "the backend could not stop one more credential of this role before it expires: the fence that would hold \
                 all of them is full. Room comes as they expire, not as they end; shorter lives make more of it, and so \
                 does a role that lets all older ones be fenced together"
            }
            Quota::Derived => {
                "as much is derived from the grant behind `subject_token` as may be, at any depth; ending some of it makes room"
            }
            Quota::Actor => {
                "whoever acts here, or is acted through, has as much of what is derived from the grant behind `subject_token` \
                 as one may have (`max_derived_per_actor` in `[limits]`), so that some is left for others; ending some of it \
                 makes room"
            }
        };
        let detail = detail.to_owned();
        self.refuse(Refusal::new(Step::Terms, Reason::QuotaExceeded, detail.as_str())).await?;
        Ok(ServiceError::Unavailable { reason: Reason::QuotaExceeded, detail, retry_after: AFTER })
    }
}

/// The use of the proof, where the issuer's proofs are for single use.
pub(in crate::service) fn proof_use_of(identity: &VerifiedIdentity) -> Option<ProofUse> {
    let proof = identity.proof();
    let proof_id = proof.proof_id.clone().filter(|_| proof.rules.single_use)?;
    Some(ProofUse { issuer: proof.issuer.clone(), proof_id, keep_until: identity.replay_horizon() })
}

/// The refusal of a proof that was used before.
pub(in crate::service) fn replayed() -> Refusal {
    Refusal::proof(Reason::Replayed, "this proof was used before; ask your issuer for a fresh one")
        .about("jti")
        .after_signature()
}
