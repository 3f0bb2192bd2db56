//! Reading what is governed, and how it came to be.

use super::Changes;
use crate::audit::{Actor, AuditAction, AuditObject};
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::id::RevisionId;
use crate::identity::Proof;
use crate::policy::{Action, Resource};
use crate::port::{Files, Page, PageRequest, RevisionRecord};
use crate::request::Origin;
use crate::service::decide::{Trail, permit, query_of};
use crate::service::{Ports, Use, authenticate};

/// Somebody who may read the bundle and its history.
#[derive(Debug)]
pub struct Reader(());

/// A revision with its content.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its last publication.
    pub record: RevisionRecord,
    /// Its content; none where it is no longer kept.
    pub files: Option<Files>,
}

/// Says whether the caller may read what is governed.
///
/// # Errors
/// [`ServiceError`].
pub async fn reader(ports: &Ports, proof: &Proof, origin: &Origin) -> Result<Reader, ServiceError> {
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, proof, Use::Manage, origin).await?;
    let query = query_of(ports, &revision, &identity, Action::Read, Resource::Bundle).await?;
    let object = AuditObject::Configuration { revision: revision.id.to_string() };
    let trail = Trail { actor: Actor::from(&identity), action: AuditAction::Read, object, origin, on_behalf_of: None };
    let refusal = Refusal::new(Step::Policy, Reason::PolicyDenied, "policy does not let you read the configuration");
    permit(ports, &revision, query, trail, refusal).await?;
    Ok(Reader(()))
}

impl Reader {
    /// The revision in force, as the record has it.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn active(&self, ports: &Ports) -> Result<Shown, ServiceError> {
        let record = ports.store.active_revision().await?.ok_or(ServiceError::NotFound)?;
        let files = ports.store.revision_files(&record.id).await?;
        Ok(Shown { record, files })
    }

    /// All publications, newest first.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn revisions(&self, ports: &Ports, page: &PageRequest) -> Result<Page<RevisionRecord>, ServiceError> {
        Ok(ports.store.revisions(page).await?)
    }

    /// One revision.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] for one that was never published.
    pub async fn revision(&self, ports: &Ports, id: &RevisionId) -> Result<Shown, ServiceError> {
        let record = ports.store.revision(id).await?.ok_or(ServiceError::NotFound)?;
        let files = ports.store.revision_files(id).await?;
        Ok(Shown { record, files })
    }

    /// Both revisions' content, for whoever wants to see what leads from `before` to `after`.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] for one that was never published; a conflict where the content is no longer kept.
    pub async fn difference(
        &self,
        ports: &Ports,
        before: &RevisionId,
        after: &RevisionId,
    ) -> Result<(Changes, Files, Files), ServiceError> {
        let before = kept(self.revision(ports, before).await?)?;
        let after = kept(self.revision(ports, after).await?)?;
        Ok((Changes::between(&before, &after), before, after))
    }
}

/// The content, or that there is none any more.
pub(super) fn kept(shown: Shown) -> Result<Files, ServiceError> {
    shown.files.ok_or_else(|| ServiceError::Conflict {
        reason: Reason::StateConflict,
        detail: format!("the content of revision {} is no longer kept", shown.record.id),
        retry_after: None,
    })
}
