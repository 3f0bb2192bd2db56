//! Reading commands: revocations of sets, with how far they have come, and quarantines.

use super::Caller;
use crate::audit::Actor;
use crate::error::ServiceError;
use crate::id::{QuarantineId, RevocationId};
use crate::policy::{Action, Resource};
use crate::port::{Page, PageRequest};
use crate::quarantine::Quarantine;
use crate::revocation::{Progress, Revocation, receipt};
use crate::service::Ports;
use crate::service::decide::may;
use crate::service::quarantine::may_see;

/// `typ` of the receipt of a revocation.
const RECEIPT: &str = "hallpass-revocation+jwt";

/// A revocation as it stands.
#[derive(Debug)]
pub struct Standing {
    /// The revocation.
    pub revocation: Revocation,
    /// How far it has come.
    pub progress: Progress,
    /// What the broker puts its signature to, once the revocation is complete. It says how it stands when it is asked
    /// for: what a backend has not confirmed is counted as such.
    pub receipt: Option<String>,
}

impl Caller {
    /// One revocation: the caller's own, or any for whoever may read the broker.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] also for what the caller may not see.
    pub async fn revocation(&self, ports: &Ports, id: RevocationId) -> Result<Standing, ServiceError> {
        let found = ports.store.revocation(id).await?.ok_or(ServiceError::NotFound)?;
        self.must_see(ports, &found.author).await?;
        standing(ports, found).await
    }

    /// Revocations that the caller may see, newest first.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn revocations(&self, ports: &Ports, page: &PageRequest) -> Result<Page<Standing>, ServiceError> {
        let author = self.author_to_see(ports).await?;
        let found = ports.store.revocations(author.as_ref(), page).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for revocation in found.items {
            let progress = ports.store.revocation_progress(revocation.id).await?;
            items.push(Standing { revocation, progress, receipt: None });
        }
        Ok(Page { items, next: found.next })
    }

    /// One quarantine: the caller's own, or any for whoever may read the broker.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] also for what the caller may not see.
    pub async fn quarantine(&self, ports: &Ports, id: QuarantineId) -> Result<Quarantine, ServiceError> {
        let found = ports.store.quarantine(id).await?.ok_or(ServiceError::NotFound)?;
        self.must_see(ports, &found.author).await?;
        Ok(found)
    }

    /// Quarantines that the caller may see, newest first.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn quarantines(&self, ports: &Ports, page: &PageRequest) -> Result<Page<Quarantine>, ServiceError> {
        let author = self.author_to_see(ports).await?;
        Ok(ports.store.quarantines(author.as_ref(), page).await?)
    }

    async fn must_see(&self, ports: &Ports, author: &Actor) -> Result<(), ServiceError> {
        if may_see(ports, &self.revision, &self.identity, author).await? { Ok(()) } else { Err(ServiceError::NotFound) }
    }

    /// Whose commands the caller sees: everybody's, or its own.
    async fn author_to_see(&self, ports: &Ports) -> Result<Option<Actor>, ServiceError> {
        let query = self.query(ports, Action::Read, Resource::Broker).await?;
        Ok((!may(&self.revision, &query)).then(|| Actor::from(&self.identity)))
    }
}

async fn standing(ports: &Ports, revocation: Revocation) -> Result<Standing, ServiceError> {
    let progress = ports.store.revocation_progress(revocation.id).await?;
    let receipt = receipt(&revocation, &progress, ports.now()).and_then(|claims| {
        let signed = ports.statements.sign(RECEIPT, claims);
        // How far a revocation has come can be told without a signature.
        signed.inspect_err(|error| tracing::error!(%error, "a revocation's receipt could not be signed")).ok()
    });
    Ok(Standing { revocation, progress, receipt })
}
