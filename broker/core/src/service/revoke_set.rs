//! Ending every grant that is like this, and that the caller may end.
//!
//! Who may end which is decided once for all that policy cannot tell apart ([`Likeness`]), and not for each of a hundred
//! thousand grants. The answer is there before any row has followed: from the commit on, the revocation itself is what
//! everybody asks.

use std::collections::BTreeSet;

use super::decide::{Trail, facts_of, grant_resource, likeness_of, may, query_of};
use super::known::unknown_name;
use super::many::Many;
use super::quarantine::{self, Quarantining};
use super::revoke::checked_reason;
use super::{Ports, Use, authenticate, idempotency};
use crate::audit::{Actor, AuditAction, AuditObject};
use crate::catalog::Revision;
use crate::error::{Reason, Refusal, ServiceError};
use crate::grant::StateName;
use crate::grant::{Grant, HolderKey};
use crate::id::{GrantId, RevocationId};
use crate::identity::{Proof, VerifiedIdentity};
use crate::in_force::InForce;
use crate::policy::{Action, Resource};
use crate::port::{Beginning, Begun, Count, IdempotencyClaim, QuarantineOrder};
use crate::quarantine::Quarantine;
use crate::request::{Idempotency, Origin};
use crate::revocation::{Likeness, Progress, Reach, Revocation, Right, selector_in_words};
use crate::selector::Selector;
use crate::time::{Timestamp, Ttl};

/// How often a decision is made again because the world moved meanwhile.
const MAX_DECISIONS: usize = 4;

/// How many of the grants a preview shows.
const SHOWN: usize = 50;

/// For how long a key is remembered.
const KEY_KEPT: Ttl = Ttl::from_hours(24);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct RevokeSet {
    /// Which grants.
    pub selector: Selector,
    /// Why. Required.
    pub reason: Option<String>,
    /// Stop new ones too.
    pub quarantine: Option<Quarantining>,
    /// Lets a caller repeat a request whose answer was lost.
    pub idempotency: Option<Idempotency>,
}

/// What would end.
#[derive(Debug)]
pub struct Preview {
    /// How many of which kind and state.
    pub counts: Vec<Count>,
    /// The newest of them, as far as the caller may see them.
    pub grants: Vec<Grant>,
}

/// A revocation that holds.
#[derive(Debug)]
pub struct Revoking {
    /// The revocation.
    pub revocation: Revocation,
    /// How far it has come.
    pub progress: Progress,
    /// The quarantine that came with it.
    pub quarantine: Option<Quarantine>,
}

/// Ends what is selected. It holds when this answers; the rows follow.
///
/// # Errors
/// [`ServiceError`]; then nothing is ended.
pub async fn revoke_set(
    ports: &Ports,
    proof: &Proof,
    asked: &RevokeSet,
    origin: &Origin,
) -> Result<Revoking, ServiceError> {
    for _ in 0..MAX_DECISIONS {
        // Before the revision: see `open`.
        let epoch = ports.store.epoch();
        let revision = ports.governance.current();
        let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
        let order = Order { ports, revision: &revision, identity: &identity, asked, origin, now: ports.now() };
        if let Some(begun) = order.begin(epoch).await? {
            return Ok(begun);
        }
    }
    Err(ServiceError::unavailable(Reason::StateConflict, "policy or revocations are changing too fast to decide"))
}

/// Counts and lists what would end, and changes nothing.
///
/// # Errors
/// [`ServiceError`], as from [`revoke_set`].
pub async fn preview(
    ports: &Ports,
    proof: &Proof,
    asked: &RevokeSet,
    origin: &Origin,
) -> Result<Preview, ServiceError> {
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
    let order = Order { ports, revision: &revision, identity: &identity, asked, origin, now: ports.now() };
    order.reason().await?;
    let id = ports.fresh_id()?;
    let decided = order.decide(id).await?;
    order.names_are_known(id, &decided.reach).await?;
    if asked.quarantine.is_some() {
        order.quarantine().await?;
    }
    let counts = ports.store.count_selected(&asked.selector, &decided.reach).await?;
    let found = ports.store.first_selected(&asked.selector, &decided.reach, SHOWN).await?;
    let mut query = query_of(ports, &revision, &identity, Action::Read, Resource::Broker).await?;
    let readable = |grant: &Grant| {
        query.resource = grant_resource(&grant.record);
        query.context.holder = grant.record.is_held_by(&identity);
        query.context.owner_member = query.principal.groups.contains(&grant.record.owner.name);
        may(&revision, &query)
    };
    Ok(Preview { counts, grants: found.into_iter().filter(readable).collect() })
}

struct Order<'a> {
    ports: &'a Ports,
    revision: &'a Revision,
    identity: &'a VerifiedIdentity,
    asked: &'a RevokeSet,
    origin: &'a Origin,
    now: Timestamp,
}

struct Decided {
    reach: Reach,
    decisions: Vec<crate::policy::Decision>,
    kinds: usize,
}

impl Order<'_> {
    /// `None` when the world moved and it must be decided again.
    async fn begin(&self, epoch: u64) -> Result<Option<Revoking>, ServiceError> {
        let reason = self.reason().await?;
        let id: RevocationId = self.ports.fresh_id()?;
        let decided = self.decide(id).await?;
        self.names_are_known(id, &decided.reach).await?;
        let quarantine = match &self.asked.quarantine {
            Some(_) => Some(self.quarantine().await?),
            None => None,
        };
        let revocation = Revocation {
            id,
            selector: self.asked.selector.clone(),
            reach: decided.reach,
            author: Actor::from(self.identity),
            reason,
            quarantine: quarantine.as_ref().map(|order| order.quarantine.id),
            created_at: self.now,
            completed: None,
        };
        let mut entry = self
            .trail(id)
            .success(self.ports)
            .with("selector", &selector_in_words(&revocation.selector).to_string())
            .with("reason", &revocation.reason)
            .with("kinds_of_grants", &decided.kinds.to_string());
        entry.decision = decided.decisions.first().map(|decision| decision.id);
        if let Some(id) = revocation.quarantine {
            entry = entry.with("quarantine", &id.to_string());
        }
        let beginning = Beginning {
            revocation: revocation.clone(),
            decisions: decided.decisions,
            entries: vec![entry],
            idempotency: self.asked.idempotency.as_ref().map(|key| self.idempotency_claim(key)),
            quarantine: quarantine.clone(),
            epoch,
        };
        fail::fail_point!("revocation::before-commit");
        let begun = self.ports.store.begin_revocation(beginning).await?;
        fail::fail_point!("revocation::after-commit");
        let refusal = match begun {
            Begun::Begun => {
                self.ports.revocations.notify_one();
                let quarantine = quarantine.map(|order| order.quarantine);
                return Ok(Some(Revoking { revocation, progress: Progress::default(), quarantine }));
            }
            Begun::Already(id) => return self.as_it_is(id).await.map(Some),
            Begun::Moved => return Ok(None),
            Begun::RequestMismatch => Refusal::request(
                Reason::IdempotencyConflict,
                "Idempotency-Key",
                "this `Idempotency-Key` came with another request before; use a new one",
            ),
            Begun::TooMany => {
                let (all, of_one) = (InForce::MAX_REVOCATIONS, InForce::MAX_REVOCATIONS_OF_ONE);
                let detail = format!(
                    "too many revocations are running: {} may, {of_one} of one author; try again when one is complete",
                    all - InForce::RESERVED_REVOCATIONS
                );
                return Err(ServiceError::unavailable(Reason::RateLimited, detail));
            }
            Begun::TooManyQuarantines => {
                return Err(quarantine::too_many("nothing is revoked: lift one, or leave `quarantine` out"));
            }
        };
        self.trail(id).refuse(self.ports, &refusal, None).await?;
        Err(refusal.into())
    }

    async fn reason(&self) -> Result<String, ServiceError> {
        let reason = checked_reason(self.asked.reason.clone()).and_then(|reason| {
            reason.ok_or_else(|| {
                let detail = "say in `reason` why these grants must end";
                Refusal::request(Reason::MalformedRequest, "reason", detail)
            })
        });
        match reason {
            Ok(reason) => Ok(reason),
            Err(refusal) => {
                let trail = Trail { object: AuditObject::Broker, ..self.trail(self.ports.fresh_id()?) };
                trail.refuse(self.ports, &refusal, None).await?;
                Err(refusal.into())
            }
        }
    }

    /// What of any selection the caller may end.
    async fn decide(&self, id: RevocationId) -> Result<Decided, ServiceError> {
        let mut many = Many::new(self.ports, self.revision, self.identity, Action::Revoke).await?;
        let mut likenesses: BTreeSet<Likeness> = self.ports.store.likenesses().await?.into_iter().collect();
        // Those that may be opened while it runs, too.
        likenesses.extend(self.of_the_catalog());
        let lives = self.revision.policy.telling_lives(Action::Revoke);
        let mut rights = Vec::with_capacity(likenesses.len());
        for likeness in likenesses {
            let others = self.may_end(&mut many, &lives, &likeness, false).await?;
            rights.push((likeness, Right { own: false, others }));
        }
        // Whoever may end nothing but what it holds itself ends that one by one: revocations that run are asked for every
        // grant that is opened, and places among them are for those who answer for others' grants.
        if !rights.iter().any(|(_, right)| right.others) {
            let (refusal, decision) =
                many.refusal("policy lets you revoke no grants but your own; end those one by one");
            self.trail(id).refuse(self.ports, &refusal, decision).await?;
            return Err(refusal.into());
        }
        for (likeness, right) in &mut rights {
            right.own = self.may_end(&mut many, &lives, likeness, true).await?;
        }
        let reach = Reach::new(HolderKey::of(self.identity), rights, self.identity.proof().grant);
        // The allowing ones first: they are what it rests on.
        let mut decisions = many.decisions;
        decisions.sort_by_key(|decision| decision.verdict.outcome != crate::policy::Outcome::Allow);
        Ok(Decided { kinds: reach.kinds(), reach, decisions })
    }

    /// Refuses a selector that names what nothing knows.
    async fn names_are_known(&self, id: RevocationId, reach: &Reach) -> Result<(), ServiceError> {
        let Some(refusal) = unknown_name(self.ports, self.revision, &self.asked.selector, reach).await? else {
            return Ok(());
        };
        self.trail(id).refuse(self.ports, &refusal, None).await?;
        Err(refusal.into())
    }

    /// The longest life that a grant may have is the one fact in which grants of one likeness differ. It is asked for
    /// each of `lives`, between which policy makes no difference, and all must be allowed.
    async fn may_end(
        &self,
        many: &mut Many<'_>,
        lives: &BTreeSet<Ttl>,
        likeness: &Likeness,
        own: bool,
    ) -> Result<bool, ServiceError> {
        for max_ttl in lives {
            // None of them in particular.
            let id = GrantId::from(uuid::Uuid::nil());
            let resource = Resource::Grant { id, role: facts_of(likeness, *max_ttl) };
            if !many.may(resource, own).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn of_the_catalog(&self) -> impl Iterator<Item = Likeness> {
        self.revision.catalog.roles.values().filter_map(|role| {
            let backend = self.revision.backends.get(&role.backend)?;
            Some(likeness_of(self.revision, role, backend.as_ref()))
        })
    }

    /// The quarantine that shall come with it, decided.
    async fn quarantine(&self) -> Result<QuarantineOrder, ServiceError> {
        let fallback = Quarantining {
            selector: Some(self.asked.selector.clone()),
            reason: self.asked.reason.clone(),
            until: self.now,
        };
        let wanted = self.asked.quarantine.as_ref().map_or(fallback.clone(), |wanted| Quarantining {
            selector: wanted.selector.clone().or(fallback.selector.map(quarantine::lasting)),
            reason: wanted.reason.clone().or(fallback.reason),
            until: wanted.until,
        });
        quarantine::order(self.ports, self.revision, self.identity, &wanted, self.origin, "quarantine.").await
    }

    /// The revocation that the same request began before.
    async fn as_it_is(&self, id: RevocationId) -> Result<Revoking, ServiceError> {
        let revocation = self.ports.store.revocation(id).await?.ok_or(ServiceError::NotFound)?;
        let progress = self.ports.store.revocation_progress(id).await?;
        let quarantine = match revocation.quarantine {
            Some(id) => self.ports.store.quarantine(id).await?,
            None => None,
        };
        Ok(Revoking { revocation, progress, quarantine })
    }

    fn idempotency_claim(&self, key: &Idempotency) -> IdempotencyClaim {
        let holder = HolderKey::of(self.identity);
        let scope = idempotency::scope([
            "revocation",
            holder.issuer.as_str(),
            &holder.subject,
            holder.run.as_deref().unwrap_or_default(),
            holder.run_attempt.as_deref().unwrap_or_default(),
            &holder.binding_key.map(|key| key.to_string()).unwrap_or_default(),
            &key.key,
        ]);
        IdempotencyClaim { scope, request_digest: key.request_digest, keep_until: self.now.plus(KEY_KEPT) }
    }

    fn trail(&self, id: RevocationId) -> Trail<'_> {
        let object = AuditObject::Revocation { id };
        Trail {
            actor: Actor::from(self.identity),
            action: AuditAction::RevocationBegin,
            object,
            origin: self.origin,
            on_behalf_of: None,
        }
    }
}

/// Of `counts`, how many grants would end.
#[must_use]
pub fn would_end(counts: &[Count]) -> u64 {
    counts.iter().filter(|count| count.would_end).fold(0, |sum, count| sum.saturating_add(count.grants))
}

/// Of `counts`, how many are ending already.
#[must_use]
pub fn ending_already(counts: &[Count]) -> u64 {
    let ending = counts.iter().filter(|count| count.state == StateName::Revoking);
    ending.fold(0, |sum, count| sum.saturating_add(count.grants))
}
