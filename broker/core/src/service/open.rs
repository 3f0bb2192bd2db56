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
pub(super) use foresee::{foresee, foresee_for_actor};

use self::plan::Planned;
use super::decide::Trail;
use super::{Ports, Use, authenticate, rates};
use crate::attestation::Attested;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::catalog::Revision;
use crate::credential::{Effect, IssuedCredential};
use crate::delegation::{Delegation, Parent, on_behalf_of};
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
    open_between(ports, proof, None, request, origin).await
}

/// The same for whoever `proof` is of, into the hands of whoever `actor` is of, who acts for the one (RFC 8693 §2.1).
///
/// # Errors
/// As [`open`].
pub async fn open_for_actor(
    ports: &Ports,
    proof: &Proof,
    actor: &Proof,
    request: &GrantRequest,
    origin: &Origin,
) -> Result<Opened, ServiceError> {
    open_between(ports, proof, Some(actor), request, origin).await
}

async fn open_between(
    ports: &Ports,
    proof: &Proof,
    actor: Option<&Proof>,
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
        let (identity, delegation) = parties(ports, &revision, proof, actor, origin).await?;
        let (identity, delegation) = (&identity, delegation.as_ref());
        let attested = Attested::default();
        let attempt = Attempt { ports, revision: &revision, identity, delegation, request, origin, attested, epoch };
        if !std::mem::replace(&mut counted.of_identity, true) {
            // Not before: anybody can write a name into a token, and would spend its budget with forgeries.
            rates::identity(ports, attempt.caller(), origin).await?;
        }
        let attempt = match attempt.attested() {
            Ok(attested) => Attempt { attested, ..attempt },
            Err(refusal) => return Err(attempt.refuse(refusal).await?),
        };
        if let Some(opened) = attempt.run(&mut counted).await? {
            return Ok(opened);
        }
    }
    Err(ServiceError::unavailable(Reason::StateConflict, "policy or revocations are changing too fast to decide"))
}

/// For whom it is opened, and who acts for that one, if somebody does.
async fn parties(
    ports: &Ports,
    revision: &Revision,
    proof: &Proof,
    actor: Option<&Proof>,
    origin: &Origin,
) -> Result<(VerifiedIdentity, Option<Delegation>), ServiceError> {
    let Some(actor) = actor else {
        return Ok((authenticate::authenticate(ports, revision, proof, Use::Mint, origin).await?, None));
    };
    let acting = authenticate::authenticate(ports, revision, actor, Use::Act, origin).await?;
    let subject = authenticate::authenticate(ports, revision, proof, Use::BeActedFor, origin).await?;
    let trail = Trail {
        actor: Actor::from(&acting),
        action: AuditAction::GrantOpen,
        object: AuditObject::Broker,
        origin,
        on_behalf_of: Some(Actor::from(&subject)),
    };
    let found = match delegation(ports, revision, subject, acting).await? {
        Ok(found) => found,
        Err(refusal) => {
            trail.refuse(ports, &refusal, None).await?;
            return Err(refusal.into());
        }
    };
    Ok((found.0, Some(found.1)))
}

/// `acting` for `subject`, or for whoever is behind the credential that `subject` is.
async fn delegation(
    ports: &Ports,
    revision: &Revision,
    subject: VerifiedIdentity,
    acting: VerifiedIdentity,
) -> Result<Result<(VerifiedIdentity, Delegation), Refusal>, ServiceError> {
    if let Some(only) = &subject.proof().may_act {
        let issuer_is_named = |named: &str| {
            revision.verifiers.iter().any(|verifier| verifier.issuer() == acting.issuer() && verifier.accepts(named))
        };
        let same_issuer = only.issuer.as_deref().map_or_else(|| subject.issuer() == acting.issuer(), issuer_is_named);
        if !same_issuer || only.subject != acting.subject() {
            let detail = format!("the proof lets {:?} alone act for its subject", only.subject);
            return Ok(Err(Refusal::proof(Reason::NotAllowedActor, detail).about("may_act").after_signature()));
        }
    }
    let parent = match subject.proof().grant {
        None => None,
        Some(id) => match ports.store.live_grant(id, ports.now()).await? {
            Some(grant) => Some(Parent { ends_at: grant.end_at, record: grant.record }),
            None => {
                let detail = "the grant behind this token has ended";
                return Ok(Err(Refusal::proof(Reason::GrantEnded, detail).after_signature()));
            }
        },
    };
    let subject = match &parent {
        Some(parent) => {
            let opened_by = ports.store.decision(parent.record.decision.id).await?;
            let acted = parent.record.actors.iter().any(|acting| acting.multi_audience);
            let multi_audience = acted || opened_by.is_none_or(|decision| decision.query.principal.multi_audience);
            subject.behind_credential_of(&parent.record, multi_audience)
        }
        None => subject,
    };
    let delegation = Delegation::new(&subject, acting, parent, ports.limits.max_actors);
    Ok(delegation.map(|delegation| (subject, delegation)))
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
    /// For whom.
    identity: &'a VerifiedIdentity,
    /// Who acts for it, where it does not ask itself.
    delegation: Option<&'a Delegation>,
    request: &'a GrantRequest,
    origin: &'a Origin,
    /// What was signed about the change or the build behind the request.
    attested: Attested,
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
        let permits = self.permits(&subject, stated).await?;
        if !std::mem::replace(&mut counted.allowed, true) {
            rates::allowed(self.ports, &subject.owner.name, self.caller(), self.trail().object, self.origin).await?;
        }
        let replaced = match self.replaced().await? {
            Ok(replaced) => replaced,
            Err(refusal) => return Err(self.refuse(refusal).await?),
        };
        let lineage = self.lineage(subject.role).await?;
        let (purpose, terms) = match self.terms(&subject, &permits, lineage, None) {
            Ok(agreed) => agreed,
            Err(refusal) => return Err(self.refuse(refusal).await?),
        };
        let (terms, spare) = self.with_spare(&subject, &permits, lineage, terms);
        let planned = Planned { replaced, spare, ..self.plan(&subject, permits, purpose, terms, lineage)? };
        match subject.backend.effect() {
            Effect::Local => self.open_local(&subject, planned).await,
            Effect::Remote => self.open_remote(&subject, planned).await,
        }
    }

    /// What the statements that came with the request say together.
    fn attested(&self) -> Result<Attested, Refusal> {
        let offered = &self.request.attestations;
        if offered.is_empty() {
            return Ok(Attested::default());
        }
        let vouched = self.revision.attestors.verify(offered, self.ports.now())?;
        let acting = self.delegation.map(|delegation| &delegation.identity);
        let askers: Vec<_> = [Some(self.identity), acting].into_iter().flatten().collect();
        Attested::weigh(&vouched, &askers, &self.revision.catalog)
    }

    /// Who asks: whoever acts, or the one that it is for.
    fn caller(&self) -> &VerifiedIdentity {
        self.delegation.map_or(self.identity, |delegation| &delegation.identity)
    }

    /// The grant that this one is derived from.
    fn parent(&self) -> Option<&Parent> {
        self.delegation.and_then(|delegation| delegation.parent.as_deref())
    }

    fn trail(&self) -> Trail<'_> {
        Trail {
            actor: Actor::from(self.caller()),
            on_behalf_of: self.delegation.map(|_| Actor::from(self.identity)),
            action: AuditAction::GrantOpen,
            object: AuditObject::Role { name: self.request.role.chars().take(200).collect() },
            origin: self.origin,
        }
    }

    fn entry(&self, grant: &Grant, action: AuditAction) -> AuditEntry {
        let record = &grant.record;
        let entry = AuditEntry::success(
            self.ports.now(),
            Actor::from(self.caller()),
            action,
            AuditObject::Grant { id: record.id },
        )
        .for_another(self.delegation.map(|_| on_behalf_of(&record.holder)))
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
        let attested = &record.attested;
        let entry = match attested.statements.is_empty() {
            true => entry,
            false => entry.with("attestations", &attested.digests().join(" ")),
        };
        let entry = match attested.change.as_ref().and_then(|change| change.plan_digest.as_deref()) {
            Some(plan) => entry.with("plan_digest", plan),
            None => entry,
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
