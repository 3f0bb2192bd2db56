//! Publishing by whoever runs the broker: at its start, and on SIGHUP.
//!
//! Files that a bundle only names are not its content, and govern as much: whose keys verify, and which authority signs.
//! Each entry lists them with their digests, and where one of them has changed there is an entry that says which.

use super::told::{Told, digest_of};
use super::{Changes, NotAsPublished, Publishing, put_in_force, superseded, told};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::{Reason, ServiceError};
use crate::finding::Finding;
use crate::id::RevisionId;
use crate::port::{
    Candidate, Files, NamedFiles, Occasion, OnceRecorded, Publication, PublishOutcome, RevisionRecord, StoreError,
};
use crate::service::Ports;

/// Records what is in force already, with its content and what it names beside itself. What is recorded as in force is not
/// recorded again.
///
/// # Errors
/// [`ServiceError`].
pub async fn record_local(
    ports: &Ports,
    id: &RevisionId,
    files: Files,
    named: &NamedFiles,
    occasion: Occasion,
) -> Result<(), ServiceError> {
    let Some(publication) = publication(ports, id, files, named, occasion).await? else { return Ok(()) };
    match ports.store.publish_revision(publication).await? {
        PublishOutcome::Published => Ok(()),
        PublishOutcome::Superseded | PublishOutcome::Moved => Err(superseded()),
    }
}

/// Puts what was loaded again into force, or records why it was not. A bad bundle changes nothing.
///
/// # Errors
/// [`ServiceError`].
pub async fn reload(
    ports: &Ports,
    publishing: &Publishing,
    loaded: Result<Candidate, Vec<Finding>>,
) -> Result<RevisionId, ServiceError> {
    let _turn = publishing.turn.lock().await;
    let candidate = match loaded {
        Ok(candidate) => candidate,
        Err(findings) => {
            ports.store.record(vec![refused(ports, &findings)], None).await?;
            let refusal = crate::error::Refusal::new(
                crate::error::Step::Configuration,
                Reason::InvalidConfiguration,
                "the bundle is refused",
            );
            return Err(refusal.with_findings(findings).into());
        }
    };
    let id = candidate.revision.id.clone();
    match publication(ports, &id, candidate.files.clone(), &candidate.named, Occasion::Reload).await? {
        // Also where nothing of it is new: whoever asked for it may expect that what it names is read again.
        None => candidate.put_in_force.run(),
        Some(publication) => match put_in_force(ports, &candidate, publication).await? {
            PublishOutcome::Published => {}
            PublishOutcome::Superseded | PublishOutcome::Moved => return Err(superseded()),
        },
    }
    Ok(id)
}

/// What there is to record; nothing where it is in force by the record, by the audit log too, with the same files beside it,
/// and its content is kept.
async fn publication(
    ports: &Ports,
    id: &RevisionId,
    files: Files,
    named: &NamedFiles,
    occasion: Occasion,
) -> Result<Option<Publication>, ServiceError> {
    let active = ports.store.active_revision().await?.map(|active| active.id);
    let before = match &active {
        Some(active) => ports.store.revision_files(active).await?,
        None => None,
    };
    let told = match told(ports.store.as_ref()).await {
        // What is published now is to be told of whatever the log was made to say.
        Err(error @ (NotAsPublished::Changed(_) | NotAsPublished::Store(StoreError::Inconsistent { .. }))) => {
            tracing::error!(%error, "the audit log does not tell what was published last");
            None
        }
        told => told?,
    };
    let (told, told_named) = told.map_or_else(Default::default, |Told { revision, named }| (Some(revision), named));
    if active != told {
        let [active, told] = [&active, &told].map(|id| id.as_ref().map_or("none", RevisionId::as_str));
        tracing::warn!(active, told, "another revision was in force than the audit log tells of: it is published anew");
    }
    if active.as_ref() == Some(id) && told.as_ref() == Some(id) && told_named == *named && before.is_some() {
        return Ok(None);
    }
    let now = ports.now();
    let entry = entry(ports, id.to_string()).with("occasion", occasion.as_str());
    let entry = active.iter().fold(entry, |entry, active| entry.with("from", active.as_str()));
    let entry = named.iter().fold(entry, |entry, (path, digest)| entry.with(&digest_of(path), digest));
    let entry = Changes::between(&told_named, named).tell_named(entry);
    let changes = Changes::between(&before.unwrap_or_default(), &files);
    let record = RevisionRecord {
        id: id.clone(),
        published_at: now,
        author: Some("hallpass:local-administrator".to_owned()),
        approvers: None,
        parent: active,
        commit: None,
        occasion: Some(occasion),
    };
    Ok(Some(Publication {
        record,
        files,
        decision: None,
        entries: vec![changes.tell(entry)],
        epoch: None,
        then: OnceRecorded::default(),
    }))
}

/// A bundle that was to be loaded and was not.
fn refused(ports: &Ports, findings: &[Finding]) -> AuditEntry {
    let first = findings.first().map(ToString::to_string).unwrap_or_default();
    entry(ports, String::new())
        .failed()
        .for_reason(Reason::InvalidConfiguration.as_str())
        .with("occasion", Occasion::Reload.as_str())
        .with("findings", &findings.len().to_string())
        .with("first", &first)
}

fn entry(ports: &Ports, revision: String) -> AuditEntry {
    let object = AuditObject::Configuration { revision };
    AuditEntry::success(ports.now(), Actor::LocalAdministrator, AuditAction::ConfigurationPublish, object)
}
