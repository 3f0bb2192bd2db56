//! A grant: the durable record that a credential was asked for, decided, minted, and how it ended.
//!
//! The states and their transitions are in `state`; this file is the record around them.

mod state;

use serde::{Deserialize, Serialize};

use crate::attestation::Attested;
use crate::binding::BindingKey;
use crate::catalog::EnvironmentClass;
use crate::credential::RevocationClass;
use crate::delegation::ActorChain;
use crate::id::{BackendName, DecisionId, EnvironmentName, GrantId, IssuerName, LineageId, RevisionId, RoleName};
use crate::identity::{Attributes, PrincipalKind, VerifiedIdentity};
use crate::owner::OwnerSnapshot;
use crate::policy::{Obligations, Terms};
use crate::provenance::Provenance;
use crate::time::Timestamp;

pub use state::{Cause, EXPIRY_SKEW, Ending, GrantState, IllegalTransition, NextStep, StateName};

/// A grant as it is at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// What was fixed when it was opened.
    pub record: GrantRecord,
    /// Where it is in its life.
    pub state: GrantState,
    /// When we begin to end it. Moves later by renewing, within the terms.
    pub end_at: Timestamp,
    /// The latest instant at which the credential can work. Only ever moves earlier, but for renewing.
    pub expires_at: Timestamp,
    /// Keyed digest of the credential, for tracing one that was found.
    pub fingerprint: Option<String>,
    /// Last sign of life from the holder.
    pub last_seen_at: Option<Timestamp>,
    /// Since when the holder's silence counts, where that is later: the start of a broker after one that heard nobody.
    pub heartbeats_from: Option<Timestamp>,
    /// Counts changes; a writer that read another version conflicts.
    pub version: u64,
}

/// What is fixed when a grant is opened: who, whose, why, from which change, by which rule.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantRecord {
    /// Its id.
    pub id: GrantId,
    /// Role that was minted.
    pub role: RoleName,
    /// Digest of the role's definition at the time.
    pub role_digest: String,
    /// Backend that mints.
    pub backend: BackendName,
    /// The backend's kind, such as `jwt`.
    pub backend_kind: String,
    /// What the credential reaches, in the backend's words.
    pub target: Option<String>,
    /// The rule at the backend that holds its credential once it is over, where there is one: its room is limited.
    pub fence: Option<String>,
    /// Environment that it reaches.
    pub environment: Option<EnvironmentName>,
    /// That environment's class at the time.
    pub environment_class: Option<EnvironmentClass>,
    /// The role's stage at the time.
    pub stage: Option<String>,
    /// The role's tier at the time.
    pub tier: Option<String>,
    /// Who answered for the role at the time.
    pub owner: OwnerSnapshot,
    /// Why.
    pub purpose: String,
    /// Ticket or change reference.
    pub ticket: Option<String>,
    /// What an agent was asked to do.
    pub task: Option<String>,
    /// Who holds it.
    pub holder: Holder,
    /// Change and run behind it.
    pub provenance: Provenance,
    /// Decision that allowed it.
    pub decision: DecisionSummary,
    /// Its life, with every bound.
    pub terms: Terms,
    /// When it was created.
    pub created_at: Timestamp,
    /// Index into the status list.
    pub status_index: u64,
    /// Chain of re-exchanges that it belongs to; assigned by the store.
    pub lineage: Option<LineageId>,
    /// Grant that it took the place of.
    pub replaces: Option<GrantId>,
    /// Grant that it was derived from: when that ends, so does this one.
    pub parent: Option<GrantId>,
    /// What was signed about the change or the build behind it, and offered with the request.
    pub attested: Attested,
    /// Who acts for the holder, where somebody does.
    pub actors: ActorChain,
    /// The key of the broker's own that signed its credential (`kid`), where one did.
    pub signed_by: Option<String>,
}

/// Who holds a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// What kind of caller.
    pub principal: PrincipalKind,
    /// Configured issuer.
    pub issuer: IssuerName,
    /// The issuer's kind.
    pub issuer_kind: String,
    /// Subject at that issuer.
    pub subject: String,
    /// Typed attributes.
    pub attributes: Attributes,
    /// `jti` of the proof that opened it.
    pub proof_id: Option<String>,
    /// `kid` of the key that verified that proof.
    pub proof_key_id: Option<String>,
    /// Key that the holder is bound to.
    pub binding_key: Option<BindingKey>,
    /// Address that the request came from.
    pub source: Option<std::net::IpAddr>,
}

/// The decision that allowed a grant, as far as the grant's own answer needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionSummary {
    /// The recorded decision.
    pub id: DecisionId,
    /// Revision that decided.
    pub revision: RevisionId,
    /// Policies that decided.
    pub determining: Vec<crate::id::PolicyId>,
    /// What they ask for.
    pub obligations: Obligations,
}

impl GrantRecord {
    /// How its credential can be stopped.
    #[must_use]
    pub fn class(&self) -> RevocationClass {
        self.terms.class
    }

    /// Whether `identity` is the one that opened the grant, see [`HolderKey`]; of a delegated one, the one that acts or the
    /// one that it acts for.
    #[must_use]
    pub fn is_held_by(&self, identity: &VerifiedIdentity) -> bool {
        HolderKey::of(identity).holds(self) || self.actors.current().is_some_and(|acting| acting.is(identity))
    }
}

/// What makes a caller the holder of a grant: same issuer and subject, same run and attempt where the proof names them,
/// same binding key. Sharing `sub` is not enough: every run of a workflow shares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderKey {
    /// Configured issuer.
    pub issuer: IssuerName,
    /// Subject at that issuer.
    pub subject: String,
    /// Run.
    pub run: Option<String>,
    /// Attempt of that run.
    pub run_attempt: Option<String>,
    /// Key that it is bound to.
    pub binding_key: Option<BindingKey>,
}

impl HolderKey {
    /// That of a caller.
    #[must_use]
    pub fn of(identity: &VerifiedIdentity) -> Self {
        let proof = identity.proof();
        Self {
            issuer: proof.issuer.clone(),
            subject: proof.subject.clone(),
            run: proof.provenance.run.clone(),
            run_attempt: proof.provenance.run_attempt.clone(),
            binding_key: identity.binding_key(),
        }
    }

    /// That of whoever holds a grant.
    #[must_use]
    pub fn of_record(record: &GrantRecord) -> Self {
        Self {
            issuer: record.holder.issuer.clone(),
            subject: record.holder.subject.clone(),
            run: record.provenance.run.clone(),
            run_attempt: record.provenance.run_attempt.clone(),
            binding_key: record.holder.binding_key,
        }
    }

    /// Whether it is the one that opened the grant of `record`.
    #[must_use]
    pub fn holds(&self, record: &GrantRecord) -> bool {
        self.issuer == record.holder.issuer
            && self.subject == record.holder.subject
            && self.run == record.provenance.run
            && self.run_attempt == record.provenance.run_attempt
            && self.binding_key == record.holder.binding_key
    }
}
