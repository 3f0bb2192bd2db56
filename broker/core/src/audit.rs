//! The audit log: its entries, the tree that is built over them, and what the log can prove with it.
//!
//! An entry says who did what to what, whether it was allowed, and why. Every state change appends its entry in the
//! transaction of the change itself (promise 8). Each entry is a [`Leaf`] of a Merkle tree ([`tree`]); a signed
//! [`Checkpoint`] commits to all of them, and a [`proof`] shows that one is among them, or that nothing before was changed.

mod checkpoint;
pub mod event;
pub mod examine;
mod leaf;
pub mod note;
pub mod proof;
mod receipt;
mod strict;
pub mod told;
pub mod tree;

pub use checkpoint::{Checkpoint, CheckpointRejected, CheckpointSigner, SignedCheckpoint};
pub use leaf::{InvalidLeaf, Leaf};
pub use receipt::{Receipt, ReceiptRejected};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::id::{DecisionId, GrantId, IssuerName, LogId, QuarantineId, RequestId, RevocationId};
use crate::identity::VerifiedIdentity;
use crate::time::Timestamp;

/// One entry, before the log gives it a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When it happened, by the broker's clock.
    pub time: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// For whom, where somebody acts for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Actor>,
    /// What was done, such as `grant.open`.
    pub action: AuditAction,
    /// What it was done to.
    pub object: AuditObject,
    /// Whether it was.
    pub outcome: AuditOutcome,
    /// Stable reason code of a refusal or an ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Decision behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Request that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// What several entries have in common, such as the run of a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Further facts by name. Never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<String, String>,
}

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Actor {
    /// A verified identity.
    Identity {
        /// Configured issuer.
        issuer: IssuerName,
        /// Subject at that issuer.
        subject: String,
    },
    /// The broker itself: expiry, sweeps, retries.
    Broker,
    /// Somebody whose proof was not accepted.
    Unverified {
        /// Address of the peer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// Whoever can run commands beside the store and its keys.
    LocalAdministrator,
}

impl From<&VerifiedIdentity> for Actor {
    fn from(identity: &VerifiedIdentity) -> Self {
        Self::Identity { issuer: identity.issuer().clone(), subject: identity.subject().to_owned() }
    }
}

/// What was done to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AuditObject {
    /// A grant.
    Grant {
        /// Its id.
        id: GrantId,
    },
    /// Several grants that ended together.
    Grants {
        /// Their ids.
        ids: Vec<GrantId>,
    },
    /// A role, by the name that the caller gave.
    Role {
        /// The name.
        name: String,
    },
    /// The bundle.
    Configuration {
        /// Revision it is about.
        revision: String,
    },
    /// A signing key.
    Key {
        /// Its id.
        id: String,
    },
    /// The revocation of a set of grants.
    Revocation {
        /// Its id.
        id: RevocationId,
    },
    /// A quarantine.
    Quarantine {
        /// Its id.
        id: QuarantineId,
    },
    /// The broker itself, or nothing in particular.
    Broker,
}

/// What was done. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AuditAction {
    /// A proof was checked and refused.
    #[serde(rename = "proof.verify")]
    ProofVerify,
    /// Refusals of proofs that were counted and not written one by one.
    #[serde(rename = "proof.refusals")]
    ProofRefusals,
    /// Refusals of callers whose proofs verified, that were counted and not written one by one.
    #[serde(rename = "request.refusals")]
    RequestRefusals,
    /// A grant was asked for.
    #[serde(rename = "grant.open")]
    GrantOpen,
    /// What a credential is made with was made at the backend.
    #[serde(rename = "grant.prepare")]
    GrantPrepare,
    /// A credential became active.
    #[serde(rename = "grant.activate")]
    GrantActivate,
    /// A grant failed before any effect.
    #[serde(rename = "grant.fail")]
    GrantFail,
    /// A later end was asked for.
    #[serde(rename = "grant.renew")]
    GrantRenew,
    /// An end began.
    #[serde(rename = "grant.revoke")]
    GrantRevoke,
    /// Verifiers refuse the credential.
    #[serde(rename = "grant.fence")]
    GrantFence,
    /// An attempt to undo failed and will be repeated.
    #[serde(rename = "grant.retry")]
    GrantRetry,
    /// The backend confirmed the end.
    #[serde(rename = "grant.confirm")]
    GrantConfirm,
    /// A credential reached its end.
    #[serde(rename = "grant.expire")]
    GrantExpire,
    /// Something alive at a backend whose grant is over, or unknown, was undone.
    #[serde(rename = "reconcile.undo")]
    ReconcileUndo,
    /// An operator gave up on a grant.
    #[serde(rename = "grant.abandon")]
    GrantAbandon,
    /// A grant, or a list of them, was read, or a decision previewed.
    #[serde(rename = "read")]
    Read,
    /// The revocation of a set of grants was asked for.
    #[serde(rename = "revocation.begin")]
    RevocationBegin,
    /// No grant of the set was left.
    #[serde(rename = "revocation.complete")]
    RevocationComplete,
    /// New grants were stopped.
    #[serde(rename = "quarantine.add")]
    QuarantineAdd,
    /// They may be opened again.
    #[serde(rename = "quarantine.lift")]
    QuarantineLift,
    /// A bundle was published.
    #[serde(rename = "configuration.publish")]
    ConfigurationPublish,
    /// A signing key was made at first start.
    #[serde(rename = "key.create")]
    KeyCreate,
    /// A signing key was made to take the place of another.
    #[serde(rename = "key.rotate")]
    KeyRotate,
    /// A signing key that was made elsewhere was taken in.
    #[serde(rename = "key.import")]
    KeyImport,
    /// An authority key was made, for an offline root to certify.
    #[serde(rename = "key.request")]
    KeyRequest,
    /// What an offline root certified about an authority key was taken in.
    #[serde(rename = "key.certify")]
    KeyCertify,
    /// Nothing that a signing key signed counts any longer.
    #[serde(rename = "key.distrust")]
    KeyDistrust,
    /// A signing key that nobody need know any longer was removed.
    #[serde(rename = "key.remove")]
    KeyRemove,
    /// The data key was wrapped by a key-encryption key: a new one, or the same anew.
    #[serde(rename = "key.wrap")]
    KeyWrap,
    /// The log was taken as it is, with nothing outside of the database to say what it was.
    #[serde(rename = "audit.accept")]
    AuditAccept,
    /// The broker started.
    #[serde(rename = "broker.start")]
    BrokerStart,
}

/// Whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// Done.
    Success,
    /// Refused.
    Denied,
    /// Tried, and it failed.
    Failure,
}

impl AuditEntry {
    /// An entry about something that was done.
    #[must_use]
    pub fn success(time: Timestamp, actor: Actor, action: AuditAction, object: AuditObject) -> Self {
        Self {
            time,
            actor,
            on_behalf_of: None,
            action,
            object,
            outcome: AuditOutcome::Success,
            reason: None,
            decision: None,
            request_id: None,
            correlation_id: None,
            detail: BTreeMap::new(),
        }
    }

    /// An entry about something that was refused.
    #[must_use]
    pub fn denied(time: Timestamp, actor: Actor, action: AuditAction, object: AuditObject, refusal: &Refusal) -> Self {
        let mut entry = Self::success(time, actor, action, object);
        entry.outcome = AuditOutcome::Denied;
        entry.reason = Some(refusal.audit_reason.unwrap_or(refusal.reason).as_str().to_owned());
        entry = entry.with("step", refusal.step.as_str()).with("detail", &refusal.detail);
        if let Some(parameter) = &refusal.parameter {
            entry = entry.with("parameter", parameter);
        }
        if let Some(internal) = &refusal.internal {
            entry = entry.with("internal", internal);
        }
        entry
    }

    /// Adds for whom it was done, where somebody acted for another.
    #[must_use]
    pub fn for_another(mut self, whom: Option<Actor>) -> Self {
        self.on_behalf_of = whom;
        self
    }

    /// Adds the request it belongs to.
    #[must_use]
    pub fn in_request(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    /// Adds the decision behind it.
    #[must_use]
    pub fn by_decision(mut self, id: DecisionId) -> Self {
        self.decision = Some(id);
        self
    }

    /// Adds the reason code.
    #[must_use]
    pub fn for_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Says that it was tried and failed.
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.outcome = AuditOutcome::Failure;
        self
    }

    /// Adds a fact. Control characters are escaped, so that an entry stays one line wherever it is printed.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        const MAX_CHARS: usize = 2_000;
        let clean = value.chars().take(MAX_CHARS).flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> =
                if c.is_control() { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) };
            escaped
        });
        self.detail.insert(name.to_owned(), clean.collect());
        self
    }
}

/// An entry with its place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEntry {
    /// Which log.
    pub log: LogId,
    /// Place in it, from 0, without gaps.
    pub sequence: u64,
    /// The entry.
    pub entry: AuditEntry,
}
