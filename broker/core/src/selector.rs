//! Which grants a command is about: the filters of the list of grants, and a few more that only an emergency asks for.
//!
//! The same selector is understood three times: here, for one grant at hand; by a store, as a query; and for what is
//! about to be opened. A suite holds a store's query to [`Selector::matches`].

use serde::{Deserialize, Serialize};

use crate::grant::{Grant, GrantRecord, StateName};
use crate::id::{GrantId, IssuerName};
use crate::port::GrantFilter;
use crate::provenance::Provenance;

/// Which grants. Everything is said so, never by leaving all out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Selector {
    criteria: Option<Box<Criteria>>,
}

/// What grants must be like. All given parts must match.
///
/// Who and what runs (issuer, subject, repository, commit, run) is asked of each party: of whoever a grant is for, and of
/// everybody who acts for that one, as one of them is wholly so. What an incident is about is to end whichever part it had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criteria {
    /// What lists of grants can be filtered by.
    #[serde(flatten)]
    pub grants: GrantFilter,
    /// Opened by a proof that this key signed, of whoever it is for or acts, or with a credential that this key of the broker's own signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Opened by the proof of this id (`jti`), of whoever it is for or acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof_id: Option<String>,
    /// Derived from this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GrantId>,
    /// Held by this one who acts for another, or acted through: `<issuer>:<subject>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Decided on this build attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation_digest: Option<String>,
}

/// A selector that selects by nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("select by at least one thing; everything is {{\"all\": true}}")]
pub struct EmptySelector;

impl Selector {
    /// Every grant there is.
    #[must_use]
    pub const fn all() -> Self {
        Self { criteria: None }
    }

    /// Grants that are like this.
    ///
    /// # Errors
    /// [`EmptySelector`] when nothing is asked of them: a forgotten criterion must not end everything.
    pub fn of(criteria: Criteria) -> Result<Self, EmptySelector> {
        if criteria == Criteria::default() {
            return Err(EmptySelector);
        }
        Ok(Self { criteria: Some(Box::new(criteria)) })
    }

    /// What grants must be like; `None` where every grant is meant.
    #[must_use]
    pub fn criteria(&self) -> Option<&Criteria> {
        self.criteria.as_deref()
    }

    /// Whether `grant`, as it is now, is among the selected.
    #[must_use]
    pub fn matches(&self, grant: &Grant) -> bool {
        self.wants_state(grant.state_name()) && self.selects(&grant.record)
    }

    /// Whether a grant in `state` can be among the selected.
    #[must_use]
    pub fn wants_state(&self, state: StateName) -> bool {
        self.criteria().is_none_or(|criteria| {
            let states = &criteria.grants.states;
            states.is_empty() || states.contains(&state)
        })
    }

    /// Whether a grant of this record is among the selected, whatever its state.
    #[must_use]
    pub fn selects(&self, record: &GrantRecord) -> bool {
        self.criteria().is_none_or(|criteria| criteria.select(record))
    }
}

impl Criteria {
    fn select(&self, record: &GrantRecord) -> bool {
        // Exhaustive: a filter that is added is asked here too, or this does not compile.
        let Self { grants, key_id, proof_id, parent, actor, attestation_digest } = self;
        let GrantFilter {
            states: _,
            owner,
            role,
            issuer,
            subject,
            repository,
            repository_id,
            commit,
            run,
            environment,
            backend,
            policy,
            purpose,
            ticket,
            since,
            until,
        } = grants;
        let (holder, change) = (&record.holder, &record.provenance);
        let texts = [
            (owner, Some(record.owner.name.as_str())),
            (role, Some(record.role.as_str())),
            (environment, record.environment.as_ref().map(|name| name.as_str())),
            (backend, Some(record.backend.as_str())),
            (purpose, Some(record.purpose.as_str())),
            (ticket, record.ticket.as_deref()),
        ];
        let wanted = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        let among = |wanted: &Option<String>, mut are: Box<dyn Iterator<Item = &str> + '_>| {
            wanted.as_deref().is_none_or(|wanted| are.any(|one| one == wanted))
        };
        let acting = || record.actors.iter();
        let is = |by: &IssuerName, of: &str, change: &Provenance| {
            let party = [
                (issuer, Some(by.as_str())),
                (subject, Some(of)),
                (repository, change.repository.as_deref()),
                (repository_id, change.repository_id.as_deref()),
                (commit, change.commit.as_deref()),
                (run, change.run.as_deref()),
            ];
            party.into_iter().all(|(asked, is)| wanted(asked, is))
        };
        let a_party_is = || {
            is(&holder.issuer, &holder.subject, change)
                || acting().any(|acting| is(&acting.issuer, &acting.subject, &acting.provenance))
        };
        let keys = [holder.proof_key_id.as_deref(), record.signed_by.as_deref()].into_iter();
        let keys = keys.chain(acting().map(|acting| acting.proof_key_id.as_deref())).flatten();
        let proofs = std::iter::once(holder.proof_id.as_deref());
        let proofs = proofs.chain(acting().map(|acting| acting.proof_id.as_deref())).flatten();
        texts.into_iter().all(|(asked, is)| wanted(asked, is))
            && a_party_is()
            && among(key_id, Box::new(keys))
            && among(proof_id, Box::new(proofs))
            && actor.as_ref().is_none_or(|wanted| acting().any(|acting| acting.name() == *wanted))
            && among(policy, Box::new(record.decision.determining.iter().map(|policy| policy.as_str())))
            && among(attestation_digest, Box::new(change.attestation_digests.iter().map(String::as_str)))
            && (parent.is_none() || *parent == record.parent)
            && since.is_none_or(|since| record.created_at >= since)
            && until.is_none_or(|until| record.created_at < until)
    }
}

/// A selector as it is stored and signed: `{"all": true}`, or the criteria by their names in the contract.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(flatten)]
    criteria: Criteria,
}

impl From<Selector> for Written {
    fn from(selector: Selector) -> Self {
        let all = selector.criteria.is_none();
        Self { all, criteria: selector.criteria.map(|criteria| *criteria).unwrap_or_default() }
    }
}

impl TryFrom<Written> for Selector {
    type Error = EmptySelector;

    fn try_from(written: Written) -> Result<Self, EmptySelector> {
        match (written.all, written.criteria) {
            (true, criteria) if criteria == Criteria::default() => Ok(Self::all()),
            (true, _) => Err(EmptySelector),
            (false, criteria) => Self::of(criteria),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::RevocationClass;
    use crate::testing::sample::{self, NOW};

    #[test]
    fn nothing_is_not_everything() {
        assert_eq!(Selector::of(Criteria::default()), Err(EmptySelector));
        assert!(serde_json::from_str::<Selector>("{}").is_err());
        assert!(serde_json::from_str::<Selector>(r#"{"all": false}"#).is_err());
        assert!(serde_json::from_str::<Selector>(r#"{"all": true, "owner": "payments"}"#).is_err());
        let grant = sample::active(1, RevocationClass::Fenced, NOW);
        assert!(Selector::all().matches(&grant));
    }

    #[test]
    fn a_selector_is_read_back_as_it_was_written() {
        let grants = GrantFilter {
            states: vec![StateName::Active],
            commit: Some("6dcb09b".to_owned()),
            since: Some(NOW),
            ..GrantFilter::default()
        };
        let criteria = Criteria { grants, parent: Some(sample::id(7)), ..Criteria::default() };
        for selector in [Selector::all(), Selector::of(criteria).unwrap()] {
            let text = serde_json::to_string(&selector).unwrap();
            assert_eq!(serde_json::from_str::<Selector>(&text).unwrap(), selector, "{text}");
        }
        assert_eq!(serde_json::to_string(&Selector::all()).unwrap(), r#"{"all":true}"#);
    }
}
