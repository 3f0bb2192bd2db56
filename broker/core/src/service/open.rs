//! Opening a grant: proof → decision → durable record → credential.

mod agreement;
mod commit;
mod failure;
mod foresee;
mod local;
mod plan;
mod remote;

use std::sync::Arc;

pub(super) use commit::{proof_use_of, replayed};
pub use foresee::Foreseen;
pub(super) use foresee::foresee;

use self::plan::Planned;
use super::decide::Trail;
use super::{Ports, Use, authenticate, rates};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::catalog::Revision;
use crate::credential::{Effect, IssuedCredential};
use crate::error::{Reason, Refusal, ServiceError};
use crate::grant::Grant;
use crate::identity::{AttributeValue, Proof, ProofForm, VerifiedIdentity};
use crate::owner::Owner;
use crate::port::CredentialBackend;
use crate::request::{GrantRequest, Origin, Purpose};
use crate::role::Role;

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
        let proof = self.identity.proof();
        let entry = match (proof.form, &proof.proof_id, proof.attributes.get("x509_sha256")) {
            // Which of a workload's certificates it was: they are replaced within the hour.
            (ProofForm::Certificate, Some(serial), Some(AttributeValue::Text(sha256))) => {
                entry.with("certificate_serial", serial).with("certificate_sha256", sha256)
            }
            _ => entry,
        };
        let entry = if proof.rules.single_use { entry } else { entry.with("proof_single_use", "false") };
        let entry = entry
            .with("role", record.role.as_str())
            .with("owner", record.owner.name.as_str())
            .with("purpose", &record.purpose)
            .with("expires_at", &grant.expires_at.to_rfc3339());
        if self.identity.multi_audience() { entry.with("multi_audience", "true") } else { entry }
    }

    /// Records a refusal and hands it back as the error to answer.
    async fn refuse(&self, refusal: Refusal) -> Result<ServiceError, ServiceError> {
        self.trail().refuse(self.ports, &refusal, None).await?;
        Ok(refusal.into())
    }
}
