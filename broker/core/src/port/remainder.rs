//! What policies leave open of a question.

use std::collections::BTreeSet;

use crate::time::Ttl;

/// What is left of the policies that bear on a question, once everything is settled that the question settles for good: it
/// is answered by the circumstances alone. Conditions are texts that are the same only where they mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remainder {
    /// When it is permitted, and for how long at most. Without those that never hold.
    pub permits: BTreeSet<(String, Option<Ttl>)>,
    /// When it is forbidden. Without those that never hold.
    pub forbids: BTreeSet<String>,
    /// What may not be evaluable, and refuses then.
    pub doubts: BTreeSet<String>,
}

impl Remainder {
    /// The condition that always holds.
    pub const ALWAYS: &'static str = "always";

    /// Whether there could be circumstances in which this allows what `before` does not, or for longer. True when in
    /// doubt: conditions are compared as they are written.
    #[must_use]
    pub fn gives_more_than(&self, before: &Self) -> bool {
        if self.permits.is_empty() || self.forbids.contains(Self::ALWAYS) {
            return false;
        }
        let is_kept = |forbid| self.forbids.contains(forbid);
        let are_kept = |doubt| self.doubts.contains(doubt);
        !before.forbids.iter().all(is_kept)
            || !before.doubts.iter().all(are_kept)
            || self.permits.iter().any(|permit| !before.permits.iter().any(|earlier| covers(earlier, permit)))
            || before.permits.iter().any(|bound| self.loses(bound))
    }

    /// Whether this permits something for longer than `bound` did, and has nothing left that bounds it the same: the
    /// strictest of all permits that hold is what counts.
    fn loses(&self, (condition, life): &(String, Option<Ttl>)) -> bool {
        let Some(life) = life else { return false };
        let is_within = |other: &Option<Ttl>| other.is_some_and(|other| other <= *life);
        let stays =
            self.permits.iter().any(|(other, bound)| (other == condition || other == Self::ALWAYS) && is_within(bound));
        !stays && self.permits.iter().any(|(_, bound)| !is_within(bound))
    }
}

/// Whether `earlier` permitted all that `permit` does, for as long.
fn covers(earlier: &(String, Option<Ttl>), permit: &(String, Option<Ttl>)) -> bool {
    (earlier.0 == permit.0 || earlier.0 == Remainder::ALWAYS)
        && earlier.1.is_none_or(|bound| permit.1.is_some_and(|life| life <= bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remainder(permits: &[(&str, u64)], forbids: &[&str]) -> Remainder {
        let life = |minutes: u64| (minutes > 0).then(|| Ttl::from_mins(minutes));
        Remainder {
            permits: permits.iter().map(|(condition, bound)| ((*condition).to_owned(), life(*bound))).collect(),
            forbids: forbids.iter().map(|condition| (*condition).to_owned()).collect(),
            doubts: BTreeSet::new(),
        }
    }

    #[test]
    fn what_can_only_allow_less_gives_no_more() {
        const ALWAYS: &str = Remainder::ALWAYS;
        for (before, after) in [
            (remainder(&[], &[]), remainder(&[], &[])),
            (remainder(&[("a", 0)], &["f"]), remainder(&[("a", 0)], &["f"])),
            (remainder(&[("a", 0), ("b", 0)], &[]), remainder(&[("a", 0)], &["f"])),
            (remainder(&[("a", 20)], &[]), remainder(&[("a", 10)], &[])),
            (remainder(&[("a", 0)], &["f"]), remainder(&[], &[])),
            (remainder(&[], &[]), remainder(&[("a", 0)], &[ALWAYS])),
            (remainder(&[(ALWAYS, 0)], &[]), remainder(&[("a", 0)], &[])),
            (remainder(&[("a", 10), ("b", 20)], &[]), remainder(&[("a", 10)], &[])),
            (remainder(&[("a", 10), (ALWAYS, 10)], &[]), remainder(&[(ALWAYS, 10)], &[])),
        ] {
            assert!(!after.gives_more_than(&before), "{before:?} {after:?}");
        }
    }

    #[test]
    fn what_could_allow_more_gives_more() {
        for (before, after) in [
            (remainder(&[], &[]), remainder(&[("a", 0)], &[])),
            (remainder(&[("a", 0)], &[]), remainder(&[("b", 0)], &[])),
            (remainder(&[("a", 10)], &[]), remainder(&[("a", 20)], &[])),
            (remainder(&[("a", 10)], &[]), remainder(&[("a", 0)], &[])),
            (remainder(&[("a", 0)], &["f"]), remainder(&[("a", 0)], &[])),
            (remainder(&[("a", 0)], &["f"]), remainder(&[("a", 0)], &["g"])),
            (remainder(&[("a", 10), ("b", 0)], &[]), remainder(&[("b", 0)], &[])),
            (remainder(&[("a", 10), ("b", 20)], &[]), remainder(&[("b", 20)], &[])),
            (remainder(&[("a", 0)], &[]), remainder(&[(Remainder::ALWAYS, 0)], &[])),
        ] {
            assert!(after.gives_more_than(&before), "{before:?} {after:?}");
        }
        let doubtful = Remainder { doubts: ["d".to_owned()].into(), ..remainder(&[("a", 0)], &[]) };
        assert!(remainder(&[("a", 0)], &[]).gives_more_than(&doubtful));
        assert!(!doubtful.gives_more_than(&doubtful));
    }
}
