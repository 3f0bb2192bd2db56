//! Decisions: what was asked, what the policy said, and the permit that an allowing decision yields.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::attestation::{Build, ChangeReview};
use crate::binding::Binding;
use crate::credential::RevocationClass;
use crate::delegation::ActorChain;
use crate::error::{Reason, Refusal, Step};
use crate::id::{DecisionId, EnvironmentName, GrantId, IssuerName, OwnerName, PolicyId, RevisionId, RoleName};
use crate::identity::{Attributes, PrincipalKind, VerifiedIdentity};
use crate::port::PolicyEngine;
use crate::provenance::Provenance;
use crate::time::{Timestamp, Ttl};

/// The typed inputs of a decision, complete: evaluated again with the same revision they give the same outcome.
///
/// The canonical form is this struct as JSON, its members in the order written here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyQuery {
    /// Who asks.
    pub principal: Principal,
    /// What for.
    pub action: Action,
    /// On what.
    pub resource: Resource,
    /// Under which circumstances.
    pub context: QueryContext,
}

/// Who asks, in policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// What kind of caller.
    pub kind: PrincipalKind,
    /// Configured issuer.
    pub issuer: IssuerName,
    /// The issuer's kind.
    pub issuer_kind: String,
    /// Subject at that issuer.
    pub subject: String,
    /// Owners that the identity is a member of.
    pub groups: Vec<OwnerName>,
    /// Typed attributes.
    pub attributes: Attributes,
    /// Whether the proof names other audiences besides this broker.
    pub multi_audience: bool,
    /// Role of the grant whose credential served as proof, for proofs that this broker minted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via_role: Option<RoleName>,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Have a credential minted.
    Mint,
    /// Have one minted for another, as whoever acts for it.
    Delegate,
    /// Have a later end.
    Renew,
    /// End a grant.
    Revoke,
    /// Give up on a grant by hand.
    Abandon,
    /// See something.
    Read,
    /// Ask what the broker would decide for oneself.
    Preview,
    /// Check whether a token is alive.
    Introspect,
    /// Put another bundle into force.
    Publish,
    /// Stop new grants of a role for a while; of the broker as a whole, those of roles to come included.
    Suspend,
}

impl Action {
    /// Every action.
    pub const ALL: &'static [Self] = &[
        Self::Mint,
        Self::Delegate,
        Self::Renew,
        Self::Revoke,
        Self::Abandon,
        Self::Read,
        Self::Preview,
        Self::Introspect,
        Self::Publish,
        Self::Suspend,
    ];

    /// Whether it is asked of things such as `resource`, in the vocabulary of policies.
    #[must_use]
    pub const fn is_asked_of(self, resource: &Resource) -> bool {
        match self {
            Self::Mint | Self::Delegate => matches!(resource, Resource::Role(_)),
            Self::Renew | Self::Revoke | Self::Abandon => matches!(resource, Resource::Grant { .. }),
            Self::Read => true,
            Self::Preview => matches!(resource, Resource::Role(_) | Resource::Broker),
            Self::Introspect => matches!(resource, Resource::Grant { .. } | Resource::Broker),
            Self::Suspend => matches!(resource, Resource::Role(_) | Resource::Broker),
            Self::Publish => matches!(resource, Resource::Bundle),
        }
    }

    /// The word used in policy, on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Delegate => "delegate",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
            Self::Abandon => "abandon",
            Self::Read => "read",
            Self::Preview => "preview",
            Self::Introspect => "introspect",
            Self::Publish => "publish",
            Self::Suspend => "suspend",
        }
    }
}

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Resource {
    /// A role.
    Role(RoleFacts),
    /// A grant, with the facts of its role as they were when it was opened.
    Grant {
        /// The grant.
        id: GrantId,
        /// Facts about its role.
        role: RoleFacts,
    },
    /// An owner.
    Owner {
        /// Its name.
        name: OwnerName,
    },
    /// The audit log.
    AuditLog,
    /// The broker itself.
    Broker,
    /// What is governed: the bundle in force and its history.
    Bundle,
}

/// What policy may know of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleFacts {
    /// Its name.
    pub name: RoleName,
    /// Who answers for it.
    pub owner: OwnerName,
    /// The backend's kind, such as `jwt`.
    pub backend_kind: String,
    /// Environment that it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// That environment's class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_class: Option<String>,
    /// How its credentials can be stopped.
    pub class: RevocationClass,
    /// Its longest TTL.
    pub max_ttl: Ttl,
    /// Its stage in a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// How much harm it could do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// What it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Circumstances of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryContext {
    /// Time of the decision.
    pub time: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Ticket or change reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// What an agent was asked to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// TTL that was asked for, or the role's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
    /// Scope that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// Change and run behind the request.
    #[serde(default)]
    pub provenance: Provenance,
    /// Address of the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<std::net::IpAddr>,
    /// How the proof is bound to its holder: `bearer` when it is not.
    pub binding: String,
    /// Kind of exception that is claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception: Option<String>,
    /// Who agreed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
    /// For a grant: whether the caller holds it (same issuer, subject, run, attempt and binding key as opened it).
    #[serde(default)]
    pub holder: bool,
    /// Whether the caller belongs to the owner of the role.
    #[serde(default)]
    pub owner_member: bool,
    /// Who acts for the subject, the one who asks first. Empty where the subject asks itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actor_chain: Vec<Party>,
    /// What was built, where a signed statement with the request says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// What was agreed to, where one says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeReview>,
    /// Whom the principal acts for, where it acts for somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Party>,
}

/// Somebody, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Configured issuer.
    pub issuer: IssuerName,
    /// Subject at that issuer.
    pub subject: String,
}

impl Party {
    /// Everybody who acts, in the order of the chain.
    #[must_use]
    pub fn all_of(chain: &ActorChain) -> Vec<Self> {
        chain.iter().map(|acting| Self { issuer: acting.issuer.clone(), subject: acting.subject.clone() }).collect()
    }
}

/// What the policy engine found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub outcome: Outcome,
    /// Policies that decided, sorted.
    pub determining: Vec<PolicyId>,
    /// What the permits among them ask for; the strictest of each.
    pub obligations: Obligations,
}

impl Verdict {
    /// What to tell a caller that is allowed but for the key that it shows none of.
    #[must_use]
    pub fn unbound(&self) -> Option<Refusal> {
        let lacks_it = self.outcome == Outcome::Deny && !self.obligations.binding.is_empty();
        lacks_it.then(|| self.obligations.unbound())
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Yes.
    Allow,
    /// No.
    Deny,
}

/// What the determining permits ask for. The strictest of each holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligations {
    /// `@max_ttl`: longest life, counted from the grant's creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<Ttl>,
    /// `@binding`: how the caller must be bound to a key. Where several are asked for none can do.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub binding: BTreeSet<Binding>,
}

impl Obligations {
    /// What a caller is told that is not bound as the policies ask it to be.
    #[must_use]
    pub fn unbound(&self) -> Refusal {
        let asked: Vec<_> = self.binding.iter().map(|binding| binding.as_str()).collect();
        let how = match asked.as_slice() {
            ["dpop"] => "send a DPoP proof with the request (RFC 9449)",
            ["mtls"] => "connect with a client certificate (RFC 8705)",
            _ => "they ask for several at once, which nobody can show",
        };
        let detail =
            format!("policy gives this only to callers that are bound to a key by {}: {how}", asked.join(" and "));
        Refusal::new(Step::Policy, Reason::ObligationUnmet, detail).about("binding")
    }
}

/// A recorded decision, allowing or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its id.
    pub id: DecisionId,
    /// When it was made.
    pub decided_at: Timestamp,
    /// Revision of the bundle that decided.
    pub revision: RevisionId,
    /// Version of the schema that the inputs conform to.
    pub schema_version: u32,
    /// Everything that went in.
    pub query: PolicyQuery,
    /// What came out.
    pub verdict: Verdict,
}

impl Obligations {
    /// The strictest of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let max_ttl = [self.max_ttl, other.max_ttl].into_iter().flatten().min();
        Self { max_ttl, binding: self.binding.union(&other.binding).copied().collect() }
    }
}

impl Decision {
    /// Asks `engine`. The one function that decides: opening, renewing and re-examining all come here.
    ///
    /// # Errors
    /// A [`Refusal`] with [`Reason::PolicyError`] when a policy cannot be evaluated: a `forbid` that errors must not
    /// fail open.
    pub fn make(
        engine: &dyn PolicyEngine,
        query: PolicyQuery,
        id: DecisionId,
        decided_at: Timestamp,
    ) -> Result<Self, Refusal> {
        let verdict = engine.decide(&query).map_err(|error| {
            Refusal::new(Step::Policy, Reason::PolicyError, "the policy could not be evaluated")
                .because(error.to_string())
        })?;
        let (revision, schema_version) = (engine.revision().clone(), engine.schema_version());
        Ok(Self { id, decided_at, revision, schema_version, query, verdict })
    }

    /// The permit of an allowing decision; a refusing one is handed back for the record.
    ///
    /// # Errors
    /// The decision itself, when it refused.
    pub fn into_permit(self) -> Result<Permit, Box<Self>> {
        match self.verdict.outcome {
            Outcome::Allow => Ok(Permit { decision: self }),
            Outcome::Deny => Err(Box::new(self)),
        }
    }
}

/// Proof that a decision allowed an action. Not `Clone`: it is spent by what it permits.
#[derive(Debug)]
pub struct Permit {
    decision: Decision,
}

impl Permit {
    /// The decision behind it.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Spends the permit.
    #[must_use]
    pub fn spend(self) -> Decision {
        self.decision
    }
}

/// The life a credential gets, with every bound that was considered and the one that won.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How it can be stopped.
    pub class: RevocationClass,
    /// Granted life.
    pub ttl: Ttl,
    /// Which bound won.
    pub bounded_by: BoundKind,
    /// All bounds.
    pub bounds: Vec<Bound>,
    /// Scope granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// When we begin to end it.
    pub end_at: Timestamp,
    /// The latest instant at which it can work.
    pub expires_at: Timestamp,
    /// The latest `end_at` that renewing can reach.
    pub max_expires_at: Timestamp,
    /// Ends when no sign of life came for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Ttl>,
    /// Role parameters as they were.
    #[serde(default)]
    pub parameters: serde_json::Value,
}

/// One limit on a credential's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Where it comes from.
    pub kind: BoundKind,
    /// Life that it leaves.
    pub ttl: Ttl,
}

/// Where a limit on a credential's life comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoundKind {
    /// The request asked for it.
    Request,
    /// The request asked for nothing: the role's default.
    RoleDefault,
    /// The role's maximum.
    RoleMax,
    /// A policy's `@max_ttl`.
    Policy,
    /// The proof's own expiry, for issuers that say so.
    Proof,
    /// The window of an approval.
    Approval,
    /// The window of an exception.
    Exception,
    /// The backend's own maximum.
    Backend,
    /// The role's `max_continuous`, counted from the start of the lineage.
    Continuous,
    /// The end of the environment.
    Environment,
    /// The parent grant's own end.
    Parent,
    /// The end of what was prepared ahead, and is used.
    Spare,
}

impl BoundKind {
    /// What sets the limit, in words.
    const fn whose(self) -> &'static str {
        match self {
            Self::Request | Self::RoleDefault => "the request's `ttl`",
            Self::RoleMax => "the role's `ttl.max`",
            Self::Policy => "the `@max_ttl` of a policy",
            Self::Proof => "the proof's own expiry",
            Self::Approval => "the approval's window",
            Self::Exception => "the exception's window",
            Self::Backend => "the backend's own maximum",
            Self::Continuous => "the role's `max_continuous`, from when its holder began,",
            Self::Environment => "the end of the environment",
            Self::Parent => "the end of the grant that it is derived from",
            Self::Spare => "what was prepared ahead",
        }
    }
}

/// Everything that limits a credential's life. All limits are here, so that none is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct TermsInput {
    /// When the grant is created.
    pub now: Timestamp,
    /// How it can be stopped.
    pub class: RevocationClass,
    /// Asked for.
    pub requested: Option<Ttl>,
    /// The role's default.
    pub role_default: Ttl,
    /// The role's maximum.
    pub role_max: Ttl,
    /// Obligation of the determining policies.
    pub policy_max: Option<Ttl>,
    /// End of the proof, where the issuer bounds.
    pub proof_ends_at: Option<Timestamp>,
    /// End of an approval's window.
    pub approval_ends_at: Option<Timestamp>,
    /// End of an exception's window.
    pub exception_ends_at: Option<Timestamp>,
    /// End of what one lineage may hold without a pause.
    pub continuous_ends_at: Option<Timestamp>,
    /// End of the environment.
    pub environment_ends_at: Option<Timestamp>,
    /// End of the parent.
    pub parent_ends_at: Option<Timestamp>,
    /// End of the spare that the credential is made with.
    pub spare_ends_at: Option<Timestamp>,
    /// The backend's maximum.
    pub backend_max: Option<Ttl>,
    /// The backend's minimum.
    pub backend_min: Ttl,
    /// When the backend can answer at the latest: a remote credential may begin its life that much after `now`.
    pub call_deadline: Ttl,
    /// Clock difference allowed between us and the backend.
    pub skew: Ttl,
}

impl Terms {
    /// The minimum of all bounds (promise 6).
    ///
    /// # Errors
    /// [`Reason::NoTimeLeft`] when some bound leaves nothing; [`Reason::BackendMinTtl`] when the backend cannot make a
    /// credential that short and could not kill it early either.
    pub fn compute(input: &TermsInput) -> Result<Self, Refusal> {
        let until = |at: Timestamp| at.since(input.now);
        let asked = match input.requested {
            Some(ttl) => (BoundKind::Request, Some(ttl)),
            None => (BoundKind::RoleDefault, Some(input.role_default)),
        };
        // `lasting` bounds hold for renewals too; the request, the proof and a spare bound this life alone.
        let lasting = [
            (BoundKind::RoleMax, Some(input.role_max)),
            (BoundKind::Policy, input.policy_max),
            (BoundKind::Approval, input.approval_ends_at.map(until)),
            (BoundKind::Exception, input.exception_ends_at.map(until)),
            (BoundKind::Continuous, input.continuous_ends_at.map(until)),
            (BoundKind::Environment, input.environment_ends_at.map(until)),
            (BoundKind::Parent, input.parent_ends_at.map(until)),
            (BoundKind::Backend, input.backend_max),
        ];
        let longest = lasting.iter().filter_map(|(_, ttl)| *ttl).min().unwrap_or(Ttl::ZERO);
        let this_life = [
            asked,
            (BoundKind::Proof, input.proof_ends_at.map(until)),
            (BoundKind::Spare, input.spare_ends_at.map(until)),
        ];
        let bounds: Vec<Bound> =
            this_life.into_iter().chain(lasting).filter_map(|(kind, ttl)| ttl.map(|ttl| Bound { kind, ttl })).collect();
        let winner = bounds.iter().min_by_key(|bound| bound.ttl).copied();
        let winner = winner.unwrap_or(Bound { kind: BoundKind::RoleMax, ttl: Ttl::ZERO });
        if winner.ttl == Ttl::ZERO {
            let detail = format!("no time is left for a credential: the bound {:?} leaves none", winner.kind);
            return Err(Refusal::new(Step::Terms, Reason::NoTimeLeft, detail).about("ttl"));
        }
        if winner.ttl < input.backend_min && input.class != RevocationClass::Hard {
            let what_would_do = match winner.kind {
                BoundKind::Request | BoundKind::RoleDefault => "ask for a longer `ttl`".to_owned(),
                bound => format!("{} would have to allow it", bound.whose()),
            };
            let detail = format!(
                "the backend makes no credential shorter than {}, this one may live for {} only, and nothing would surely \
                 end it before: {what_would_do}",
                input.backend_min, winner.ttl
            );
            return Err(Refusal::new(Step::Terms, Reason::BackendMinTtl, detail).about("ttl"));
        }
        let end_at = input.now.plus(winner.ttl);
        let expires_at = match input.class {
            // Policy bounds the end that we bring about; the worst case is a backend that starts late and lasts its minimum.
            RevocationClass::Hard => {
                input.now.plus(input.call_deadline).plus(winner.ttl.max(input.backend_min)).plus(input.skew)
            }
            // Nothing kills these early: policy bounds the life itself.
            RevocationClass::Fenced | RevocationClass::ExpiryOnly => end_at,
        };
        // What is made with a spare ends with it.
        let expires_at = input.spare_ends_at.map_or(expires_at, |spare_ends_at| expires_at.min(spare_ends_at));
        Ok(Self {
            class: input.class,
            ttl: winner.ttl,
            bounded_by: winner.kind,
            bounds,
            scope: Vec::new(),
            end_at,
            expires_at,
            max_expires_at: input.now.plus(longest),
            heartbeat: None,
            parameters: serde_json::Value::Null,
        })
    }
}

/// The principal of a query: `identity` as policy sees it.
#[must_use]
pub fn principal_of(identity: &VerifiedIdentity, groups: Vec<OwnerName>, via_role: Option<RoleName>) -> Principal {
    let proof = identity.proof();
    Principal {
        kind: proof.principal,
        issuer: proof.issuer.clone(),
        issuer_kind: proof.issuer_kind.clone().into_owned(),
        subject: proof.subject.clone(),
        groups,
        attributes: proof.attributes.clone(),
        multi_audience: identity.multi_audience(),
        via_role,
    }
}
