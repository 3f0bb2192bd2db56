//! Publishing over the API: a decision like any other, and nobody's way to rights of their own.

use std::sync::Arc;

use super::read::kept;
use super::{Changes, Publishing, Shown, put_in_force, widening};
use crate::audit::{Actor, AuditAction, AuditObject};
use crate::binding::Binding;
use crate::catalog::Revision;
use crate::error::{Reason, Refusal, ServiceError, Step};
use crate::finding::Finding;
use crate::id::{PolicyId, RevisionId, RoleName};
use crate::identity::{Proof, VerifiedIdentity};
use crate::policy::{Action, Permit, PolicyQuery, Principal, Resource};
use crate::port::{
    BundleSource, Candidate, CompileError, Files, Occasion, OnceRecorded, Publication, PublishOutcome, RevisionRecord,
};
use crate::request::Origin;
use crate::service::decide::{Trail, permit, query_of};
use crate::service::{Ports, Use, authenticate};
use crate::time::Ttl;

/// How often a publication is decided again because the epoch moved: each time, something else was done.
const MAX_TRIES: usize = 3;

/// Somebody who may publish. Who that is, and whether it still may, is asked again when it does.
#[derive(Debug)]
pub struct Publisher {
    proof: Proof,
    identity: VerifiedIdentity,
    origin: Origin,
}

/// What is to be published.
#[derive(Debug)]
pub struct Wanted {
    /// What.
    pub content: Content,
    /// The revisions of which one must be in force, as the caller named them; none named for a preview that does not
    /// care.
    pub replaces: Option<Vec<RevisionId>>,
    /// Only say what would be.
    pub preview: bool,
}

/// The content of a publication.
#[derive(Debug)]
pub enum Content {
    /// These files.
    Files(Files),
    /// What an earlier revision had.
    Earlier(RevisionId),
}

/// What was published, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The revision.
    pub revision: RevisionId,
    /// The one before it.
    pub replaces: RevisionId,
    /// Whether it was put into force by this call: not where it was in force already, and not by a preview.
    pub published: bool,
    /// What differs.
    pub changes: Changes,
    /// What is not wrong with it and yet will refuse requests.
    pub warnings: Vec<Finding>,
    /// What would have it refused: everything by which it widens the publisher's own rights.
    pub widening: Vec<Finding>,
    /// What it bears on.
    pub touched: Touched,
}

/// What a publication bears on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Roles that are new, gone or changed.
    pub roles: Vec<RoleName>,
    /// Policies that are new, gone or changed.
    pub policies: Vec<PolicyId>,
    /// Pending and active grants of those roles or allowed by those policies.
    pub live_grants: u64,
}

/// Says whether the caller may publish, before anything large is read of it.
///
/// # Errors
/// [`ServiceError`].
pub async fn publisher(
    ports: &Ports,
    publishing: &Publishing,
    proof: Proof,
    origin: &Origin,
) -> Result<Publisher, ServiceError> {
    let revision = ports.governance.current();
    let identity = authenticate::authenticate(ports, &revision, &proof, Use::Manage, origin).await?;
    let publisher = Publisher { proof, identity, origin: *origin };
    let permit = publisher.permit(ports, &revision).await?;
    if publishing.source == BundleSource::Files {
        let detail = "this broker's bundle comes from files: change them where they lie, and have them loaded again";
        let refusal = Refusal::new(Step::Configuration, Reason::ConfigurationFromFiles, detail);
        return Err(publisher.refuse(ports, &revision, refusal, permit).await);
    }
    Ok(publisher)
}

impl Publisher {
    /// Who that is, for the log.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::from(&self.identity)
    }

    /// Publishes, or says what publishing would do.
    ///
    /// Not to be dropped halfway: what was published is on record and in force, and whoever asked might not be told. After
    /// a commit whose answer was lost, nobody would look whether it is.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn publish(
        &mut self,
        ports: &Ports,
        publishing: &Publishing,
        wanted: Wanted,
    ) -> Result<Published, ServiceError> {
        let _turn = publishing.turn.lock().await;
        let revision = ports.governance.current();
        let occasion = match &wanted.content {
            Content::Files(_) => Occasion::Api,
            Content::Earlier(_) => Occasion::Rollback,
        };
        self.prove(ports, &revision).await?;
        let permit = self.permit(ports, &revision).await?;
        if let Some(refusal) = outdated(&wanted, &revision.id) {
            return Err(self.refuse(ports, &revision, refusal, permit).await);
        }
        let files = match wanted.content {
            Content::Files(files) => files,
            Content::Earlier(id) => {
                let record = ports.store.revision(&id).await?.ok_or(ServiceError::NotFound)?;
                kept(Shown { files: ports.store.revision_files(&id).await?, record })?
            }
        };
        let candidate = match publishing.press.compile(files).await {
            Ok(candidate) => candidate,
            Err(CompileError::Invalid(findings)) => {
                let detail = format!("the bundle is refused: {} things are wrong in it", findings.len());
                let internal = findings.first().map(ToString::to_string).unwrap_or_default();
                let refusal = Refusal::new(Step::Configuration, Reason::InvalidConfiguration, detail)
                    .because(internal)
                    .with_findings(findings);
                return Err(self.refuse(ports, &revision, refusal, permit).await);
            }
            Err(CompileError::Unavailable(detail)) => {
                return Err(ServiceError::unavailable(Reason::SigningUnavailable, detail));
            }
        };
        let mut answer = self.examine(ports, &revision, &candidate).await?;
        if wanted.preview || answer.revision == answer.replaces {
            return Ok(answer);
        }
        if !answer.widening.is_empty() {
            let detail = "it would widen your own rights, and nobody else has agreed: have somebody publish it whose \
                          rights it does not widen";
            let internal: Vec<_> = answer.widening.iter().map(ToString::to_string).collect();
            let refusal = Refusal::new(Step::Configuration, Reason::WidensOwnRights, detail)
                .because(internal.join("; "))
                .with_findings(answer.widening);
            return Err(self.refuse(ports, &revision, refusal, permit).await);
        }
        self.put_in_force(ports, &revision, &candidate, occasion, &answer).await?;
        answer.published = true;
        Ok(answer)
    }

    /// What publishing `candidate` would change.
    async fn examine(
        &self,
        ports: &Ports,
        revision: &Arc<Revision>,
        candidate: &Candidate,
    ) -> Result<Published, ServiceError> {
        let questions = self.questions(ports, revision).await?;
        let held = ports.store.likenesses().await?;
        let (before, after) = (Arc::clone(revision), Arc::clone(&candidate.revision));
        let compared = tokio::task::spawn_blocking(move || {
            let widening = widening::of_own_rights(&before, &after, &questions, &held);
            (widening, touched(&before, &after))
        });
        let (widening, (roles, policies)) = compared.await.map_err(|error| {
            tracing::error!(%error, "two revisions could not be compared");
            ServiceError::unavailable(Reason::PolicyError, "the revisions could not be compared; nothing was changed")
        })?;
        let live_grants = ports.store.live_grants_touched(&roles, &policies).await?;
        let files = ports.store.revision_files(&revision.id).await?.unwrap_or_default();
        Ok(Published {
            revision: candidate.revision.id.clone(),
            replaces: revision.id.clone(),
            published: false,
            changes: Changes::between(&files, &candidate.files),
            warnings: candidate.warnings.clone(),
            widening,
            touched: Touched { roles, policies, live_grants },
        })
    }

    /// The question of publishing, by everybody that the publisher is: by who its proof says, and, behind a token of
    /// the broker's own, by who opened its grant. To publish by a token that one minted is to publish.
    async fn questions(&self, ports: &Ports, revision: &Revision) -> Result<Vec<PolicyQuery>, ServiceError> {
        let own = query_of(ports, revision, &self.identity, Action::Publish, Resource::Bundle).await?;
        let behind = match self.identity.proof().grant {
            Some(id) => ports.store.grant(id).await?,
            None => None,
        };
        let behind = behind.map(|grant| {
            let holder = grant.record.holder;
            let principal = Principal {
                kind: holder.principal,
                groups: revision.catalog.owners_of(&holder.issuer, &holder.subject).cloned().collect(),
                issuer: holder.issuer,
                issuer_kind: holder.issuer_kind,
                subject: holder.subject,
                attributes: holder.attributes,
                multi_audience: false,
                via_role: None,
            };
            let mut query = PolicyQuery { principal, ..own.clone() };
            query.context.provenance = grant.record.provenance;
            query
        });
        Ok(std::iter::once(own).chain(behind).collect())
    }

    async fn put_in_force(
        &mut self,
        ports: &Ports,
        revision: &Arc<Revision>,
        candidate: &Candidate,
        occasion: Occasion,
        answer: &Published,
    ) -> Result<(), ServiceError> {
        for _ in 0..MAX_TRIES {
            let epoch = ports.store.epoch();
            let now = ports.governance.current();
            if now.id != revision.id {
                return Err(moved(&now.id).into());
            }
            self.prove(ports, &now).await?;
            let decision = self.permit(ports, &now).await?.spend();
            let entry = self.trail(&candidate.revision.id).success(ports);
            let entry = entry.by_decision(decision.id).with("occasion", occasion.as_str());
            let entry = answer.changes.tell(entry.with("from", revision.id.as_str()));
            let record = RevisionRecord {
                id: candidate.revision.id.clone(),
                published_at: ports.now(),
                author: Some(format!("{}:{}", self.identity.issuer(), self.identity.subject())),
                approvers: None,
                parent: Some(revision.id.clone()),
                commit: self.identity.proof().provenance.commit.clone(),
                occasion: Some(occasion),
            };
            let publication = Publication {
                record,
                files: candidate.files.clone(),
                decision: Some(decision),
                entries: vec![entry],
                epoch: Some(epoch),
                then: OnceRecorded::default(),
            };
            match put_in_force(ports, candidate, publication).await? {
                PublishOutcome::Published => return Ok(()),
                PublishOutcome::Superseded => return Err(moved(&revision.id).into()),
                PublishOutcome::Moved => {}
            }
        }
        Err(ServiceError::Unavailable {
            reason: Reason::StateConflict,
            detail: "the broker is busy revoking; nothing was changed".to_owned(),
            retry_after: Ttl::from_secs(1),
        })
    }

    /// Looks at the proof again, by the configuration in force: receiving and compiling a bundle takes its time, in which
    /// proofs expire, grants end and keys are distrusted.
    async fn prove(&mut self, ports: &Ports, revision: &Revision) -> Result<(), ServiceError> {
        self.identity = authenticate::authenticate(ports, revision, &self.proof, Use::Manage, &self.origin).await?;
        Ok(())
    }

    async fn permit(&self, ports: &Ports, revision: &Revision) -> Result<Permit, ServiceError> {
        let query = query_of(ports, revision, &self.identity, Action::Publish, Resource::Bundle).await?;
        let refusal =
            Refusal::new(Step::Policy, Reason::PolicyDenied, "policy does not let you publish the configuration");
        permit(ports, revision, query, self.trail(&revision.id), refusal).await
    }

    /// Records a refusal that policy had no part in.
    async fn refuse(&self, ports: &Ports, revision: &Revision, refusal: Refusal, permit: Permit) -> ServiceError {
        let trail = self.trail(&revision.id);
        match trail.refuse(ports, &refusal, Some(permit.spend())).await {
            Ok(()) => refusal.into(),
            Err(error) => error,
        }
    }

    fn trail(&self, about: &RevisionId) -> Trail<'_> {
        Trail {
            actor: self.actor(),
            action: AuditAction::ConfigurationPublish,
            object: AuditObject::Configuration { revision: about.to_string() },
            origin: &self.origin,
            on_behalf_of: None,
        }
    }
}

/// Why the caller did not mean to replace the revision in force.
fn outdated(wanted: &Wanted, in_force: &RevisionId) -> Option<Refusal> {
    match &wanted.replaces {
        Some(named) if named.contains(in_force) => None,
        Some(_) => Some(moved(in_force)),
        None if wanted.preview => None,
        None => {
            let detail = "say which revision it replaces: `If-Match: \"<revision>\"`, from the `ETag` of \
                          `GET /v1/configuration`";
            Some(Refusal::new(Step::Configuration, Reason::RevisionRequired, detail).about("If-Match"))
        }
    }
}

fn moved(in_force: &RevisionId) -> Refusal {
    let detail = format!("another revision is in force than `If-Match` names: {in_force}");
    Refusal::new(Step::Configuration, Reason::RevisionMoved, detail).about("If-Match")
}

/// Roles and policies that are not the same in both.
fn touched(before: &Revision, after: &Revision) -> (Vec<RoleName>, Vec<PolicyId>) {
    let (earlier, later) = (&before.catalog.roles, &after.catalog.roles);
    let digest = |revision: &Revision, name: &RoleName| -> Option<(String, Option<String>)> {
        let role = revision.catalog.roles.get(name)?;
        Some((role.digest.clone(), revision.catalog.backends.get(&role.backend).cloned()))
    };
    let names = earlier.keys().chain(later.keys()).collect::<std::collections::BTreeSet<_>>();
    let roles = names.into_iter().filter(|name| digest(before, name) != digest(after, name)).cloned().collect();
    let says = |revision: &Revision| -> std::collections::BTreeMap<PolicyId, (String, Option<Ttl>, Option<Binding>)> {
        let policies = revision.policy.policies().into_iter();
        policies.map(|policy| (policy.id, (policy.text, policy.max_ttl, policy.binding))).collect()
    };
    let (earlier, later) = (says(before), says(after));
    let ids = earlier.keys().chain(later.keys()).collect::<std::collections::BTreeSet<_>>();
    let policies = ids.into_iter().filter(|id| earlier.get(*id) != later.get(*id)).cloned().collect();
    (roles, policies)
}
