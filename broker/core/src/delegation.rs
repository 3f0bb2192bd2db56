//! Who acts for whom (RFC 8693 §1.1: the one acts *as itself*, for the other, and both are seen).
//!
//! A grant that was delegated is opened for its subject, a person or a job, and handed to whoever acts for it: an agent,
//! most of all. Both are asked of the policy, both are in the record, and the credential carries both (`act`, §4.1).

use serde::{Deserialize, Serialize};

use crate::audit::Actor;
use crate::binding::BindingKey;
use crate::error::{Reason, Refusal};
use crate::grant::{GrantRecord, Holder};
use crate::id::IssuerName;
use crate::identity::{PrincipalKind, VerifiedIdentity};
use crate::provenance::Provenance;
use crate::time::Timestamp;

/// Who acts, as it was when the grant was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acting {
    /// What kind of caller.
    pub principal: PrincipalKind,
    /// Configured issuer of its proof.
    pub issuer: IssuerName,
    /// The issuer's kind.
    pub issuer_kind: String,
    /// Subject at that issuer.
    pub subject: String,
    /// `jti` of its proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_id: Option<String>,
    /// `kid` of the key that verified that proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_key_id: Option<String>,
    /// Change and run that it is, where its proof names them.
    #[serde(default)]
    pub provenance: Provenance,
    /// Key that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_key: Option<BindingKey>,
    /// Whether the subject's issuer named it as the only one who may act (`may_act`): then it hands nothing on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// Whether its proof named others than this broker too: what it hands on is no better.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_audience: bool,
}

impl Acting {
    /// `identity`, as it acts.
    #[must_use]
    pub fn of(identity: &VerifiedIdentity) -> Self {
        let proof = identity.proof();
        Self {
            principal: proof.principal,
            issuer: proof.issuer.clone(),
            issuer_kind: proof.issuer_kind.clone().into_owned(),
            subject: proof.subject.clone(),
            proof_id: proof.proof_id.clone(),
            proof_key_id: proof.key_id.clone(),
            provenance: proof.provenance.clone(),
            binding_key: identity.binding_key(),
            alone: false,
            multi_audience: identity.multi_audience(),
        }
    }

    /// Whether `identity` is this one: the same run of it, with the same key, where it has those.
    #[must_use]
    pub fn is(&self, identity: &VerifiedIdentity) -> bool {
        let proof = identity.proof();
        self.issuer == proof.issuer
            && self.subject == proof.subject
            && self.provenance.run == proof.provenance.run
            && self.provenance.run_attempt == proof.provenance.run_attempt
            && self.binding_key == identity.binding_key()
    }

    /// `<issuer>:<subject>`, as dependencies and selectors name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.issuer, self.subject)
    }
}

/// Who acts for the subject of a grant, the one who holds the credential first, then for whom that one acts, and so on
/// (as `act` claims nest, RFC 8693 §4.1). Empty where the subject acts itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActorChain(Vec<Acting>);

impl ActorChain {
    /// Whoever holds the credential.
    #[must_use]
    pub fn current(&self) -> Option<&Acting> {
        self.0.first()
    }

    /// Everybody who acts, the current one first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Acting> {
        self.0.iter()
    }

    /// How many act.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// Whether the subject acts itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The chain once `acting` acts for the one who did so far.
    #[must_use]
    pub fn extended(&self, acting: Acting) -> Self {
        Self(std::iter::once(acting).chain(self.0.iter().cloned()).collect())
    }
}

/// Whom a subject's own proof names as the only one who may act for it (`may_act`, RFC 8693 §4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MayAct {
    /// `iss` of the actor's proof, as it stands there; that of the subject's own where none is named.
    pub issuer: Option<String>,
    /// `sub` of the actor's proof.
    pub subject: String,
}

/// Somebody who acts for somebody, before anything is opened.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// Who acts.
    pub identity: VerifiedIdentity,
    /// Everybody who acts, this one first.
    pub chain: ActorChain,
    /// The grant whose credential was shown as the subject's proof, where it was one of the broker's own.
    pub parent: Option<Box<Parent>>,
}

/// A grant that another is derived from.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its record.
    pub record: GrantRecord,
    /// When it ends, if nothing ends it before: nothing that is derived from it lives on.
    pub ends_at: Timestamp,
}

impl Delegation {
    /// `identity` acting for `subject`, on whose side there may be a grant already.
    ///
    /// # Errors
    /// A [`Refusal`] for a chain that is longer than `longest`, for an identity that would act for itself, for what was given
    /// to one that alone may act, and for the broker's own identities: nobody acts for those.
    pub fn new(
        subject: &VerifiedIdentity,
        identity: VerifiedIdentity,
        parent: Option<Parent>,
        longest: usize,
    ) -> Result<Self, Refusal> {
        let refuse =
            |detail: String| Refusal::proof(Reason::NotAllowedActor, detail).about("actor_token").after_signature();
        let (of, by) = (subject.proof(), identity.proof());
        if (&of.issuer, &of.subject) == (&by.issuer, &by.subject) {
            return Err(refuse("an identity does not act for itself: leave `actor_token` out".to_owned()));
        }
        if of.issuer.as_str() == IssuerName::RESERVED {
            return Err(refuse("nobody acts for an identity of the broker's own".to_owned()));
        }
        let before = parent.as_ref().map(|parent| parent.record.actors.clone()).unwrap_or_default();
        if let Some(alone) = before.iter().find(|acting| acting.alone) {
            return Err(refuse(format!("{:?} alone may act for the subject, and hands nothing on", alone.subject)));
        }
        let chain = before.extended(Acting { alone: of.may_act.is_some(), ..Acting::of(&identity) });
        if chain.depth() > longest {
            let detail = match longest {
                0 => "this broker lets nobody act for another".to_owned(),
                longest => format!("more than {longest} would act for one another"),
            };
            return Err(refuse(detail));
        }
        Ok(Self { identity, chain, parent: parent.map(Box::new) })
    }
}

/// For whom somebody acts, for the audit log.
#[must_use]
pub fn on_behalf_of(holder: &Holder) -> Actor {
    Actor::Identity { issuer: holder.issuer.clone(), subject: holder.subject.clone() }
}

/// Whose requests with a credential of this grant are: of whoever acts, or of its holder, by repository or else by subject.
#[must_use]
pub fn counted_for(record: &GrantRecord) -> (&IssuerName, &str) {
    let (issuer, subject, provenance) = match record.actors.current() {
        Some(acting) => (&acting.issuer, &acting.subject, &acting.provenance),
        None => (&record.holder.issuer, &record.holder.subject, &record.provenance),
    };
    (issuer, provenance.repository_id.as_deref().unwrap_or(subject))
}

/// Whoever has the credential of a grant, and for whom it acts if it acts for another, for the audit log.
#[must_use]
pub fn parties(record: &GrantRecord) -> (Actor, Option<Actor>) {
    let holder = on_behalf_of(&record.holder);
    match record.actors.current() {
        None => (holder, None),
        Some(acting) => {
            let acting = Actor::Identity { issuer: acting.issuer.clone(), subject: acting.subject.clone() };
            (acting, Some(holder))
        }
    }
}
