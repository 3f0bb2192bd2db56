//! How fast a source, an identity, an issuer and an owner may ask.
//!
//! Each is counted where nobody else can spend it. A source, before anything of its request is read. An identity, once its
//! proof has verified: anybody can write a name into a token, and would spend another's budget with forgeries. An issuer
//! and an owner, only for what policy allows: of a public issuer everybody has proofs, and who may not have a role cannot
//! keep the others from theirs.
//!
//! What is refused here is recorded within the budget of unverified refusals, and counted beyond it: a limit that wrote
//! to the disk for each request over it would protect nothing.

use std::net::IpAddr;

use super::Ports;
use super::refusals::network;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::id::{IssuerName, OwnerName};
use crate::identity::VerifiedIdentity;
use crate::rate::{Limiter, Rate};
use crate::request::Origin;
use crate::time::Ttl;

/// Sources that are told apart: a megabyte.
const SOURCES: usize = 65_536;
/// Identities that are told apart: a megabyte.
const IDENTITIES: usize = 65_536;
/// Issuers, or owners. Both are configured, so that there are never as many.
const NAMES: usize = 8_192;

/// The rates that are configured. What has none is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateRules {
    /// Requests of one source.
    pub per_source: Option<Rate>,
    /// Requests that mint, by proofs of one identity: of a repository, where its issuer says which; else of a subject.
    pub per_identity: Option<Rate>,
    /// Requests that mint and that policy allows, by proofs of one issuer.
    pub per_issuer: Option<Rate>,
    /// Requests that mint and that policy allows, for roles of one owner.
    pub per_owner: Option<Rate>,
}

/// What of its rate everybody has used.
#[derive(Debug, Default)]
pub struct Rates {
    sources: Option<Limiter>,
    identities: Option<Limiter>,
    issuers: Option<Limiter>,
    owners: Option<Limiter>,
}

impl Rates {
    /// Nothing used yet.
    #[must_use]
    pub fn new(rules: &RateRules) -> Self {
        Self {
            sources: rules.per_source.map(|rate| Limiter::new(rate, SOURCES)),
            identities: rules.per_identity.map(|rate| Limiter::new(rate, IDENTITIES)),
            issuers: rules.per_issuer.map(|rate| Limiter::new(rate, NAMES)),
            owners: rules.per_owner.map(|rate| Limiter::new(rate, NAMES)),
        }
    }
}

/// What a request is for, as far as limits ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// To get a credential, or to ask about one.
    Ordinary,
    /// To end or to oversee what is there. It has budgets and places of its own, so that no flood of the others can
    /// keep somebody from ending a grant.
    Control,
}

/// Counts a request of a source. The addresses of one network count together, and those that are not known do.
///
/// # Errors
/// [`Reason::RateLimited`], with when to try again.
pub async fn source(ports: &Ports, lane: Lane, action: AuditAction, origin: &Origin) -> Result<(), ServiceError> {
    let Some(sources) = &ports.rates.sources else { return Ok(()) };
    let whose: (Option<IpAddr>, Lane) = (origin.source.map(network), lane);
    let Err(after) = sources.take(&whose, ports.clock.monotonic()) else { return Ok(()) };
    let actor = Actor::Unverified { source: origin.source.map(|address| address.to_string()) };
    let limited = Limited { detail: "too many requests come from this address", actor, action, after };
    Err(limited.refuse(ports, AuditObject::Broker, origin).await)
}

/// Whose requests with this proof are: its repository's, which makes as many subjects as it likes, or else its subject's.
pub(super) fn counted_for(identity: &VerifiedIdentity) -> (&IssuerName, &str) {
    let repository = identity.proof().provenance.repository_id.as_deref();
    (identity.issuer(), repository.unwrap_or(identity.subject()))
}

/// Counts a request that mints, by a proof that has verified.
///
/// Where the proof says its repository, all of that repository's subjects count together: whoever may write to one has as
/// many subjects as it makes branches.
pub(super) async fn identity(ports: &Ports, identity: &VerifiedIdentity, origin: &Origin) -> Result<(), ServiceError> {
    let Some(identities) = &ports.rates.identities else { return Ok(()) };
    let repository = identity.proof().provenance.repository_id.as_deref();
    let (issuer, name) = counted_for(identity);
    let whose = (issuer, repository.is_some(), name);
    let Err(after) = identities.take(&whose, ports.clock.monotonic()) else { return Ok(()) };
    let detail = match repository {
        Some(_) => "too many requests come with proofs of this repository",
        None => "too many requests come with proofs of this subject",
    };
    let limited = Limited { detail, actor: Actor::from(identity), action: AuditAction::GrantOpen, after };
    Err(limited.refuse(ports, AuditObject::Broker, origin).await)
}

/// Counts a request that mints and that policy allows, for its role's owner and its issuer. One that is over the rate of
/// either spends nothing of the other's.
pub(super) async fn allowed(
    ports: &Ports,
    owner_name: &OwnerName,
    identity: &VerifiedIdentity,
    object: AuditObject,
    origin: &Origin,
) -> Result<(), ServiceError> {
    owner(ports, owner_name, identity, object.clone(), origin).await?;
    let counted = issuer(ports, identity, object, origin).await;
    if let (Err(_), Some(owners)) = (&counted, &ports.rates.owners) {
        owners.give_back(owner_name, ports.clock.monotonic());
    }
    counted
}

async fn issuer(
    ports: &Ports,
    identity: &VerifiedIdentity,
    object: AuditObject,
    origin: &Origin,
) -> Result<(), ServiceError> {
    let Some(issuers) = &ports.rates.issuers else { return Ok(()) };
    let Err(after) = issuers.take(identity.issuer(), ports.clock.monotonic()) else { return Ok(()) };
    let detail = "too many requests come with proofs of this issuer";
    let limited = Limited { detail, actor: Actor::from(identity), action: AuditAction::GrantOpen, after };
    Err(limited.refuse(ports, object, origin).await)
}

async fn owner(
    ports: &Ports,
    owner: &OwnerName,
    identity: &VerifiedIdentity,
    object: AuditObject,
    origin: &Origin,
) -> Result<(), ServiceError> {
    let Some(owners) = &ports.rates.owners else { return Ok(()) };
    let Err(after) = owners.take(owner, ports.clock.monotonic()) else { return Ok(()) };
    let detail = "too many credentials are asked for of this role's owner";
    let limited = Limited { detail, actor: Actor::from(identity), action: AuditAction::GrantOpen, after };
    Err(limited.refuse(ports, object, origin).await)
}

/// A request over a rate.
struct Limited {
    detail: &'static str,
    actor: Actor,
    action: AuditAction,
    after: Ttl,
}

impl Limited {
    /// Records it, and gives the error to answer: of the two failures, a record that cannot be made is the worse one.
    async fn refuse(self, ports: &Ports, object: AuditObject, origin: &Origin) -> ServiceError {
        let now = ports.now();
        if ports.refusals.take(origin.source, Reason::RateLimited, now) {
            let refusal = Refusal::new(Step::Request, Reason::RateLimited, self.detail);
            let entry =
                AuditEntry::denied(now, self.actor, self.action, object, &refusal).in_request(origin.request_id);
            if let Err(error) = ports.store.record(vec![entry], None).await {
                return error.into();
            }
        }
        ServiceError::Unavailable {
            reason: Reason::RateLimited,
            detail: format!("{}; try again in {}", self.detail, self.after),
            retry_after: self.after,
        }
    }
}
