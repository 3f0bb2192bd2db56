//! Reading: grants, roles, owners, the audit log, oneself, and what would be decided.

mod commands;
pub(super) mod log;

use std::sync::Arc;

use super::decide::{Trail, grant_resource, may, permitted_grant, query_of, role_facts};
use super::open::{self, Foreseen};
use super::{Ports, Use, authenticate};
use crate::audit::{Actor, AuditAction, AuditObject};
use crate::catalog::Revision;
use crate::error::ServiceError;
use crate::grant::Grant;
use crate::id::{GrantId, OwnerName};
use crate::identity::{Proof, VerifiedIdentity};
use crate::owner::Owner;
use crate::policy::{Action, PolicyQuery, Resource};
use crate::port::{GrantFilter, Page, PageRequest, PageRoom};
use crate::request::{GrantRequest, Origin};
use crate::role::Role;

pub use log::{Extended, Included};

pub use commands::Standing;

/// How many grants one list looks at: each is read and decided on, and anybody with a proof may ask.
const MAX_EXAMINED: usize = 1_000;

/// Decisions in a row before others may run: each takes some tens of microseconds.
const IN_A_ROW: usize = 64;

/// Somebody who proved who it is, with the revision that the rest of its request is decided by.
#[derive(Debug)]
pub struct Caller {
    revision: Arc<Revision>,
    identity: VerifiedIdentity,
}

/// Says who is calling, for everything here.
///
/// # Errors
/// [`ServiceError`].
pub async fn caller(ports: &Ports, proof: &Proof, origin: &Origin) -> Result<Caller, ServiceError> {
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
    Ok(Caller { revision, identity })
}

/// What opening would answer if whoever `actor` is of asked for `wanted` now, for whoever `proof` is of, without minting,
/// consuming or recording anything; and that one, who asks.
///
/// # Errors
/// [`ServiceError`], also for a proof of either that does not hold; what policy or the terms refuse is an answer.
pub async fn preview_for_actor(
    ports: &Ports,
    proof: &Proof,
    actor: &Proof,
    wanted: &GrantRequest,
    origin: &Origin,
) -> Result<(Caller, Foreseen), ServiceError> {
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, actor, Use::Act, origin).await?;
    let subject = authenticate::authenticate(ports, &revision, proof, Use::BeActedFor, origin).await?;
    let foreseen = open::foresee_for_actor(ports, &revision, subject, identity.clone(), wanted, origin).await?;
    Ok((Caller { revision, identity }, foreseen))
}

impl Caller {
    /// What the broker sees of the caller's proof.
    #[must_use]
    pub fn identity(&self) -> &VerifiedIdentity {
        &self.identity
    }

    /// Owners that the caller is a member of.
    pub fn groups(&self) -> impl Iterator<Item = &OwnerName> {
        self.revision.catalog.owners_of(self.identity.issuer(), self.identity.subject())
    }

    /// One grant, if the caller may read it. Its answer comes from its own record: editing role, owner or policy later
    /// does not change it.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] also for what the caller may not see.
    pub async fn grant(&self, ports: &Ports, id: GrantId, origin: &Origin) -> Result<Grant, ServiceError> {
        let trail = self.trail(AuditObject::Grant { id }, origin);
        let found = permitted_grant(ports, &self.revision, &self.identity, id, Action::Read, trail).await;
        found.map(|(grant, _permit)| grant)
    }

    /// Grants that match and that the caller may read.
    ///
    /// What may not be read is left out, and is not told of by a next page either: with a filter for each question,
    /// "there is more" would say who holds what, and since when. Only beyond `MAX_EXAMINED` grants in a row that may
    /// not be read does a page end early, and where what `write` makes of its grants is as large as a page may be.
    ///
    /// # Errors
    /// [`ServiceError`], and what `write` fails with.
    pub async fn grants<E: From<ServiceError>>(
        &self,
        ports: &Ports,
        filter: &GrantFilter,
        page: &PageRequest,
        mut write: impl FnMut(&Grant) -> Result<Vec<u8>, E>,
    ) -> Result<Page<Vec<u8>>, E> {
        let mut query = self.query(ports, Action::Read, Resource::Broker).await?;
        let mut readable = |grant: &Grant| {
            query.resource = grant_resource(&grant.record);
            query.context.holder = grant.record.is_held_by(&self.identity);
            query.context.owner_member = query.principal.groups.contains(&grant.record.owner.name);
            may(&self.revision, &query)
        };
        let (mut items, mut room) = (Vec::new(), PageRoom::of(page));
        // Behind the last grant that was taken: a page, and how many of its grants.
        let mut end: Option<(PageRequest, usize)> = None;
        let mut part = page.clone();
        let mut examined = 0_usize;
        loop {
            let found = ports.store.grants(filter, &part).await.map_err(ServiceError::from)?;
            for (before, grant) in found.items.into_iter().enumerate() {
                examined = examined.saturating_add(1);
                if examined.is_multiple_of(IN_A_ROW) {
                    tokio::task::yield_now().await;
                }
                if !readable(&grant) {
                    continue;
                }
                let written = write(&grant)?;
                if !room.takes(written.len())
                    && let Some((part, taken)) = &end
                {
                    // One more may be read: there is a next page, and it begins where this one ends.
                    let part = PageRequest { cursor: part.cursor.clone(), limit: *taken };
                    let next = ports.store.grants(filter, &part).await.map_err(ServiceError::from)?.next;
                    return Ok(Page { items, next });
                }
                items.push(written);
                end = Some((part.clone(), before.saturating_add(1)));
            }
            if found.next.is_none() || examined >= MAX_EXAMINED {
                return Ok(Page { items, next: found.next });
            }
            // Few at first: for who may read all, the very next one ends the search.
            let limit = examined.saturating_sub(page.limit).saturating_mul(2).clamp(16, PageRequest::MAX_LIMIT);
            part = PageRequest { cursor: found.next, limit };
        }
    }

    /// Whether the caller may learn that the grant of a token is alive (RFC 7662), and the grant if it is.
    ///
    /// # Errors
    /// [`ServiceError`]; a grant that is over, unknown or not the caller's to ask about is `None`, indistinguishably.
    pub async fn introspect(&self, ports: &Ports, id: GrantId) -> Result<Option<Grant>, ServiceError> {
        let Some(grant) = ports.store.live_grant(id, ports.now()).await? else { return Ok(None) };
        let resource = grant_resource(&grant.record);
        let mut query = self.query(ports, Action::Introspect, resource).await?;
        query.context.holder = grant.record.is_held_by(&self.identity);
        Ok(may(&self.revision, &query).then_some(grant))
    }

    /// Roles that the caller may read.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn roles(&self, ports: &Ports) -> Result<Vec<Arc<Role>>, ServiceError> {
        let mut query = self.query(ports, Action::Read, Resource::Broker).await?;
        let mut seen = Vec::new();
        for role in self.revision.catalog.roles.values() {
            let Some(backend) = self.revision.backends.get(&role.backend) else { continue };
            query.resource = Resource::Role(role_facts(&self.revision, role, backend.as_ref()));
            query.context.owner_member = query.principal.groups.contains(&role.owner);
            if may(&self.revision, &query) {
                seen.push(Arc::clone(role));
            }
        }
        Ok(seen)
    }

    /// One role that the caller may read.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] also for what the caller may not see.
    pub async fn role(&self, ports: &Ports, name: &str) -> Result<Arc<Role>, ServiceError> {
        let seen = self.roles(ports).await?;
        seen.into_iter().find(|role| role.name.as_str() == name).ok_or(ServiceError::NotFound)
    }

    /// Owners that the caller may read.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn owners(&self, ports: &Ports) -> Result<Vec<Arc<Owner>>, ServiceError> {
        let mut query = self.query(ports, Action::Read, Resource::Broker).await?;
        let mut seen = Vec::new();
        for owner in self.revision.catalog.owners.values() {
            query.resource = Resource::Owner { name: owner.name.clone() };
            query.context.owner_member = query.principal.groups.contains(&owner.name);
            if may(&self.revision, &query) {
                seen.push(Arc::clone(owner));
            }
        }
        Ok(seen)
    }

    /// One owner that the caller may read.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] also for what the caller may not see.
    pub async fn owner(&self, ports: &Ports, name: &str) -> Result<Arc<Owner>, ServiceError> {
        let seen = self.owners(ports).await?;
        seen.into_iter().find(|owner| owner.name.as_str() == name).ok_or(ServiceError::NotFound)
    }

    /// What opening would answer if the caller asked for `wanted` now, without minting, consuming or recording anything.
    ///
    /// # Errors
    /// [`ServiceError`]; a refusal is an answer.
    pub async fn preview(
        &self,
        ports: &Ports,
        wanted: &GrantRequest,
        origin: &Origin,
    ) -> Result<Foreseen, ServiceError> {
        open::foresee(ports, &self.revision, &self.identity, wanted, origin).await
    }

    /// The revision that answers this caller.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    async fn query(&self, ports: &Ports, action: Action, resource: Resource) -> Result<PolicyQuery, ServiceError> {
        query_of(ports, &self.revision, &self.identity, action, resource).await
    }

    fn trail<'a>(&self, object: AuditObject, origin: &'a Origin) -> Trail<'a> {
        Trail { actor: Actor::from(&self.identity), action: AuditAction::Read, object, origin, on_behalf_of: None }
    }
}
