//! The revocation of a set of grants: who ended what, how far that has come, and what is left of it.
//!
//! A revocation holds from its own commit on: whatever it selects is treated as ended, and nothing that it selects is
//! opened, activated or renewed, while the rows of the grants follow in chunks. When no row is left it is complete, and
//! what is created later is not its concern (a [`crate::quarantine::Quarantine`] is for that).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::audit::Actor;
use crate::catalog::EnvironmentClass;
use crate::credential::RevocationClass;
use crate::grant::{GrantRecord, HolderKey, StateName};
use crate::id::{EnvironmentName, GrantId, OwnerName, QuarantineId, RevocationId, RoleName};
use crate::selector::Selector;
use crate::time::Timestamp;

/// The revocation of a set of grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its id.
    pub id: RevocationId,
    /// Which grants it asks for.
    pub selector: Selector,
    /// Which of them its author may end.
    pub reach: Reach,
    /// Who asked for it.
    pub author: Actor,
    /// Why, in words.
    pub reason: String,
    /// The quarantine that came with it.
    pub quarantine: Option<QuarantineId>,
    /// When it was asked for. It holds from the commit that wrote this.
    pub created_at: Timestamp,
    /// When no row was left to follow.
    pub completed: Option<Completed>,
}

/// What was found when no row was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// When.
    pub at: Timestamp,
    /// SHA-256 of the ids of its grants in their canonical form, sorted, each followed by a line feed: the same as of
    /// `sort ids | sha256sum`.
    pub grants_digest: [u8; 32],
}

impl Revocation {
    /// Whether it ends a grant of this record that is in `state`.
    #[must_use]
    pub fn ends(&self, record: &GrantRecord, state: StateName) -> bool {
        matches!(state, StateName::Pending | StateName::Active)
            && self.selector.wants_state(state)
            && self.selector.selects(record)
            && self.reach.covers(record)
    }
}

/// What grants have in common that policy cannot tell apart, but for who holds them: what the author of a revocation
/// may do with one of them it may do with all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Likeness {
    /// Role.
    pub role: RoleName,
    /// Who answered for it.
    pub owner: OwnerName,
    /// Environment that it reaches.
    pub environment: Option<EnvironmentName>,
    /// The backend's kind.
    pub backend_kind: String,
    /// How it can be stopped.
    pub class: RevocationClass,
    /// What it reaches.
    pub target: Option<String>,
    /// Class of that environment.
    #[serde(default)]
    pub environment_class: Option<EnvironmentClass>,
    /// The role's stage.
    #[serde(default)]
    pub stage: Option<String>,
    /// The role's tier.
    #[serde(default)]
    pub tier: Option<String>,
}

impl Likeness {
    /// That of one grant.
    #[must_use]
    pub fn of(record: &GrantRecord) -> Self {
        Self {
            role: record.role.clone(),
            owner: record.owner.name.clone(),
            environment: record.environment.clone(),
            backend_kind: record.backend_kind.clone(),
            class: record.class(),
            target: record.target.clone(),
            environment_class: record.environment_class,
            stage: record.stage.clone(),
            tier: record.tier.clone(),
        }
    }
}

/// Which grants of a selection its author may end, as policy decided when it was asked for.
///
/// A role may be edited while the revocation runs, and its grants are then like none that was decided on: such a one may be
/// ended where everything of its role may be that was decided on. What is there when it begins was all decided on, so that
/// this keeps grants from being opened meanwhile, and ends none that policy kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenReach", into = "WrittenReach")]
pub struct Reach {
    author: HolderKey,
    /// Those of each role of which something may be ended.
    rights: BTreeMap<RoleName, BTreeMap<Likeness, Right>>,
    /// Whether what may not be ended of these roles is among them. Earlier versions left it out.
    is_whole: bool,
    spared: Option<GrantId>,
}

/// What may be ended of one likeness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// What the author itself holds.
    pub own: bool,
    /// What others hold.
    pub others: bool,
}

impl Right {
    /// Whether it is none.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.own && !self.others
    }
}

impl Reach {
    /// What `author` may end. `spared` is the grant whose credential it came with: it would cut off whoever is at work.
    #[must_use]
    pub fn new(
        author: HolderKey,
        rights: impl IntoIterator<Item = (Likeness, Right)>,
        spared: Option<GrantId>,
    ) -> Self {
        let mut of_roles: BTreeMap<RoleName, BTreeMap<Likeness, Right>> = BTreeMap::new();
        for (likeness, right) in rights {
            of_roles.entry(likeness.role.clone()).or_default().insert(likeness, right);
        }
        of_roles.retain(|_, rights| rights.values().any(|right| !right.is_none()));
        Self { author, rights: of_roles, is_whole: true, spared }
    }

    /// Whether nothing may be ended at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rights.is_empty()
    }

    /// What something may be ended of.
    pub fn likenesses(&self) -> impl Iterator<Item = &Likeness> {
        self.rights.values().flatten().filter(|(_, right)| !right.is_none()).map(|(likeness, _)| likeness)
    }

    /// How many likenesses something may be ended of.
    #[must_use]
    pub fn kinds(&self) -> usize {
        self.rights.values().flat_map(BTreeMap::values).filter(|right| !right.is_none()).count()
    }

    /// Whether a grant of this record may be ended.
    #[must_use]
    pub fn covers(&self, record: &GrantRecord) -> bool {
        self.spared != Some(record.id) && self.allows(&Likeness::of(record), self.author.holds(record))
    }

    /// Whether grants of this likeness may be ended that the author holds itself (`own`), or that others hold.
    #[must_use]
    pub fn allows(&self, likeness: &Likeness, own: bool) -> bool {
        let allows = |right: &Right| if own { right.own } else { right.others };
        self.rights.get(&likeness.role).is_some_and(|rights| match rights.get(likeness) {
            Some(right) => allows(right),
            None => self.is_whole && rights.values().all(allows),
        })
    }

    /// Who counts as the holder.
    #[must_use]
    pub fn author(&self) -> &HolderKey {
        &self.author
    }

    /// The grant that is spared.
    #[must_use]
    pub fn spared(&self) -> Option<GrantId> {
        self.spared
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct WrittenReach {
    author: HolderKey,
    rights: Vec<(Likeness, Right)>,
    #[serde(default)]
    is_whole: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spared: Option<GrantId>,
}

impl From<Reach> for WrittenReach {
    fn from(reach: Reach) -> Self {
        let Reach { author, rights, is_whole, spared } = reach;
        Self { author, rights: rights.into_values().flatten().collect(), is_whole, spared }
    }
}

impl From<WrittenReach> for Reach {
    fn from(written: WrittenReach) -> Self {
        Self { is_whole: written.is_whole, ..Self::new(written.author, written.rights, written.spared) }
    }
}

/// How many grants of a revocation are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Revoking, and still to be undone or waiting for their time: their credentials may work.
    pub revoking: u64,
    /// Of those, the ones whose undoing has failed so far.
    pub failing: u64,
    /// Revoking, and refused by verifiers until they expire.
    pub fenced: u64,
    /// Undone, and confirmed by the backend.
    pub revoked: u64,
    /// Expired.
    pub expired: u64,
    /// Failed before any effect.
    pub failed: u64,
    /// Given up on by an operator.
    pub abandoned: u64,
}

impl Tally {
    /// All of them.
    #[must_use]
    pub const fn reached(&self) -> u64 {
        self.revoking.saturating_add(self.ended())
    }

    /// Those whose credentials are known to be dead or refused, or that somebody has given up on.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.fenced
            .saturating_add(self.revoked)
            .saturating_add(self.expired)
            .saturating_add(self.failed)
            .saturating_add(self.abandoned)
    }

    fn by_state(&self) -> Value {
        json!({
            "revoking": self.revoking, "fenced": self.fenced, "revoked": self.revoked, "expired": self.expired,
            "failed": self.failed, "abandoned": self.abandoned,
        })
    }
}

/// How far a revocation has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many grants there are to end, once they have been counted.
    pub selected: Option<u64>,
    /// Where those are whose rows have followed.
    pub tally: Tally,
}

impl Progress {
    /// How many grants it ends, as far as that is known.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.selected.unwrap_or(0).max(self.tally.reached())
    }

    /// How many of them are still to end.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.matched().saturating_sub(self.tally.ended())
    }
}

/// What a signed receipt says of a complete revocation: what was asked, by whom and why, and how it stands at `now`.
/// `None` while it runs.
#[must_use]
pub fn receipt(revocation: &Revocation, progress: &Progress, now: Timestamp) -> Option<serde_json::Map<String, Value>> {
    let completed = revocation.completed.as_ref()?;
    let by = match &revocation.author {
        Actor::Identity { issuer, subject } => json!({"issuer": issuer, "subject": subject}),
        other => serde_json::to_value(other).unwrap_or_default(),
    };
    let digest: String = completed.grants_digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let claims = json!({
        "iat": now.as_secs(),
        "jti": revocation.id,
        "revocation": {
            "id": revocation.id,
            "selector": selector_in_words(&revocation.selector),
            "reason": revocation.reason,
            "by": by,
            "created_at": revocation.created_at.to_rfc3339(),
            "completed_at": completed.at.to_rfc3339(),
            "matched": progress.matched(),
            "ended": progress.tally.ended(),
            "remaining": progress.remaining(),
            "failing": progress.tally.failing,
            "by_state": progress.tally.by_state(),
            "grants_sha256": digest,
        },
    });
    match claims {
        Value::Object(claims) => Some(claims),
        _ => None,
    }
}

/// The selector as the contract writes it: its times are those of people.
#[must_use]
pub fn selector_in_words(selector: &Selector) -> Value {
    let mut written = serde_json::to_value(selector).unwrap_or_default();
    if let (Some(criteria), Some(members)) = (selector.criteria(), written.as_object_mut()) {
        for (name, at) in [("since", criteria.grants.since), ("until", criteria.grants.until)] {
            if let Some(at) = at {
                members.insert(name.to_owned(), Value::String(at.to_rfc3339()));
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::{Grant, StateName};
    use crate::port::GrantFilter;
    use crate::selector::Criteria;
    use crate::testing::sample::{self, NOW};

    fn reach_of(grant: &Grant, right: Right) -> Reach {
        let author = HolderKey { subject: "user:ada".to_owned(), ..HolderKey::of_record(&grant.record) };
        Reach::new(author, [(Likeness::of(&grant.record), right)], None)
    }

    #[test]
    fn a_reach_tells_what_is_held_by_its_author_from_what_others_hold() {
        let grant = sample::active(1, RevocationClass::Fenced, NOW);
        let mut own = grant.record.clone();
        own.holder.subject = "user:ada".to_owned();
        let both = [&grant.record, &own];
        let covered = |right: Right| both.map(|record| reach_of(&grant, right).covers(record));
        assert_eq!(covered(Right { own: false, others: true }), [true, false]);
        assert_eq!(covered(Right { own: true, others: false }), [false, true]);
        assert!(reach_of(&grant, Right::default()).is_empty());
        let mut elsewhere = grant.record.clone();
        elsewhere.role = RoleName::new("another/role").unwrap();
        assert!(!reach_of(&grant, Right { own: true, others: true }).covers(&elsewhere), "nobody decided on that");
    }

    #[test]
    fn a_role_that_is_edited_meanwhile_does_not_escape_where_all_of_it_may_be_ended() {
        let grant = sample::active(1, RevocationClass::Fenced, NOW).record;
        let [mut kept, mut edited] = [grant.clone(), grant.clone()];
        kept.stage = Some("kept".to_owned());
        (edited.stage, edited.environment_class) = (Some("edited".to_owned()), None);
        let author = HolderKey { subject: "user:ada".to_owned(), ..HolderKey::of_record(&grant) };
        let others = |others| Right { own: false, others };
        let whole = Reach::new(author.clone(), [(Likeness::of(&grant), others(true))], None);
        assert_eq!([&grant, &edited].map(|record| whole.covers(record)), [true, true]);
        let part = [(Likeness::of(&grant), others(true)), (Likeness::of(&kept), others(false))];
        let part = Reach::new(author, part, None);
        assert_eq!([&grant, &kept, &edited].map(|record| part.covers(record)), [true, false, false]);
        assert_eq!((part.kinds(), part.is_empty()), (1, false));
        let written = serde_json::to_string(&part).unwrap();
        assert_eq!(serde_json::from_str::<Reach>(&written).unwrap(), part);
        // Of an earlier version nobody knows what was decided besides.
        let mut earlier = serde_json::to_value(&whole).unwrap();
        earlier.as_object_mut().unwrap().remove("is_whole");
        let earlier: Reach = serde_json::from_value(earlier).unwrap();
        assert_eq!([&grant, &edited].map(|record| earlier.covers(record)), [true, false]);
    }

    #[test]
    fn the_grant_that_is_spared_is_not_covered() {
        let grant = sample::active(1, RevocationClass::Fenced, NOW);
        let right = Right { own: true, others: true };
        let author = HolderKey::of_record(&grant.record);
        let reach = Reach::new(author, [(Likeness::of(&grant.record), right)], Some(grant.record.id));
        assert!(!reach.covers(&grant.record));
        assert_eq!(serde_json::from_str::<Reach>(&serde_json::to_string(&reach).unwrap()).unwrap(), reach);
    }

    #[test]
    fn only_what_can_still_be_ended_is_ended() {
        let grant = sample::active(1, RevocationClass::Fenced, NOW);
        let criteria = Criteria {
            grants: GrantFilter { states: vec![StateName::Pending], ..GrantFilter::default() },
            ..Criteria::default()
        };
        let revocation = |selector| Revocation {
            id: sample::id(1),
            selector,
            reach: reach_of(&grant, Right { own: true, others: true }),
            author: Actor::Broker,
            reason: "leaked".to_owned(),
            quarantine: None,
            created_at: NOW,
            completed: None,
        };
        let ended = |selector: Selector| {
            StateName::ALL.iter().filter(|state| revocation(selector.clone()).ends(&grant.record, **state)).count()
        };
        assert_eq!(ended(Selector::all()), 2);
        assert_eq!(ended(Selector::of(criteria).unwrap()), 1);
    }
}
