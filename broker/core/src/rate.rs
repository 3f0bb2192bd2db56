//! Rates, and how much of them is used up: in memory of a fixed size, whoever asks.
//!
//! A budget is one number, the instant at which it is whole again (the generic cell rate algorithm, ITU-T I.371): who
//! has used nothing lately needs no memory. The numbers lie in sets of a few each. Where a set is full, whoever has used
//! the least gives way: what is forgotten is the use of those who hardly used any, never that of who uses most.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::Ttl;

/// So many in such a time, all at once if they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    per: Duration,
}

impl Rate {
    /// Longest time that a rate is over. A longer one would be a quota, and a restart forgets it.
    pub const MAX_PER: Ttl = Ttl::from_hours(1);
    /// Most in that time.
    pub const MAX_COUNT: u32 = 1_000_000;

    /// `count` in `per`.
    ///
    /// # Errors
    /// What is wrong, for whoever wrote it.
    pub fn new(count: u32, per: Ttl) -> Result<Self, String> {
        match NonZeroU32::new(count).filter(|count| count.get() <= Self::MAX_COUNT) {
            Some(count) if per > Ttl::ZERO && per <= Self::MAX_PER => Ok(Self { count, per: per.as_duration() }),
            Some(_) => Err(format!("{per} is not between 1s and {}", Self::MAX_PER)),
            None => Err(format!("{count} is not between 1 and {}", Self::MAX_COUNT)),
        }
    }

    /// The time that one takes up.
    fn spacing(self) -> u64 {
        nanos(self.per) / u64::from(self.count.get())
    }
}

/// Budgets that are told apart in one set. More would take longer to look through than to hash again.
const WAYS: usize = 8;

/// What of a rate each of many has used. Budgets are told apart by a keyed hash, so that nobody can choose to share
/// another's.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    hasher: RandomState,
    sets: Box<[Mutex<[Budget; WAYS]>]>,
}

/// Whole, and nobody's, until used.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    owner: u64,
    /// In nanoseconds of the monotonic clock.
    whole_at: u64,
}

impl Limiter {
    /// Tells at least `capacity` apart, in 16 bytes each.
    #[must_use]
    pub fn new(rate: Rate, capacity: usize) -> Self {
        let sets = capacity.div_ceil(WAYS).max(1);
        let sets = (0..sets).map(|_| Mutex::default()).collect();
        Self { rate, hasher: RandomState::new(), sets }
    }

    /// Uses one of `whose` budget at `now`, on the monotonic clock.
    ///
    /// # Errors
    /// How long to wait until there is one, in seconds rounded up. Nothing is used then.
    pub fn take(&self, whose: &impl Hash, now: Duration) -> Result<(), Ttl> {
        let (owner, now, per) = (self.hasher.hash_one(whose), nanos(now), nanos(self.rate.per));
        let Some(mut set) = self.set_of(owner) else { return Ok(()) };
        let known = set.iter().position(|budget| budget.owner == owner && budget.whole_at > now);
        let lightest = || set.iter().enumerate().min_by_key(|(_, budget)| budget.whole_at).map(|(at, _)| at);
        let Some(budget) = known.or_else(lightest).and_then(|at| set.get_mut(at)) else { return Ok(()) };
        let from = if known.is_some() { budget.whole_at } else { now };
        let whole_at = from.saturating_add(self.rate.spacing());
        let over = whole_at.saturating_sub(now).saturating_sub(per);
        if over > 0 {
            return Err(Ttl::from_secs(over.div_ceil(1_000_000_000)));
        }
        *budget = Budget { owner, whole_at };
        Ok(())
    }
}

impl Limiter {
    /// Gives back one that was taken, of what came to nothing.
    pub fn give_back(&self, whose: &impl Hash, now: Duration) {
        let (owner, now) = (self.hasher.hash_one(whose), nanos(now));
        let Some(mut set) = self.set_of(owner) else { return };
        if let Some(budget) = set.iter_mut().find(|budget| budget.owner == owner && budget.whole_at > now) {
            budget.whole_at = budget.whole_at.saturating_sub(self.rate.spacing());
        }
    }

    fn set_of(&self, owner: u64) -> Option<MutexGuard<'_, [Budget; WAYS]>> {
        let count = u64::try_from(self.sets.len()).unwrap_or(u64::MAX);
        let at = usize::try_from(owner.checked_rem(count).unwrap_or(0)).unwrap_or(0);
        self.sets.get(at).map(|set| set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(count: u32, secs: u64, capacity: usize) -> Limiter {
        Limiter::new(Rate::new(count, Ttl::from_secs(secs)).unwrap(), capacity)
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_budget_is_used_up_and_comes_back_evenly() {
        let limiter = limiter(3, 60, 1_000);
        assert_eq!((0..5).filter(|_| limiter.take(&"a", at(0)).is_ok()).count(), 3);
        assert_eq!(limiter.take(&"a", at(0)), Err(Ttl::from_secs(20)), "one comes back every twenty seconds");
        assert_eq!(limiter.take(&"a", at(19_001)), Err(Ttl::from_secs(1)), "and the wait is rounded up");
        assert!(limiter.take(&"b", at(19_001)).is_ok(), "nobody else waits");
        assert!(limiter.take(&"a", at(20_000)).is_ok());
        assert!(limiter.take(&"a", at(20_000)).is_err());
        assert_eq!((0..5).filter(|_| limiter.take(&"a", at(200_000)).is_ok()).count(), 3, "never more than all of it");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more_than_that() {
        let limiter = limiter(2, 60, 1_000);
        limiter.give_back(&"a", at(0));
        assert_eq!((0..5).filter(|_| limiter.take(&"a", at(0)).is_ok()).count(), 2, "what was not taken is not given");
        limiter.give_back(&"a", at(0));
        limiter.give_back(&"b", at(0));
        assert_eq!((0..5).filter(|_| limiter.take(&"a", at(0)).is_ok()).count(), 1);
    }

    #[test]
    fn to_be_refused_costs_nothing() {
        let limiter = limiter(1, 10, 8);
        assert!(limiter.take(&"a", at(0)).is_ok());
        for millis in 1..10_000 {
            assert!(limiter.take(&"a", at(millis)).is_err());
        }
        assert!(limiter.take(&"a", at(10_000)).is_ok());
    }

    #[test]
    fn who_uses_most_is_remembered_however_many_others_come() {
        let limiter = limiter(100, 60, 64);
        let used = (0..200).filter(|_| limiter.take(&"noisy", at(0)).is_ok()).count();
        assert_eq!(used, 100);
        for other in 0..100_000 {
            assert!(limiter.take(&other, at(1)).is_ok(), "a newcomer has a budget of its own");
        }
        assert!(limiter.take(&"noisy", at(1)).is_err(), "many others did not make the broker forget");
        assert_eq!(limiter.sets.len() * WAYS, 64, "nor did they take memory");
    }

    #[test]
    fn a_rate_has_bounds() {
        for (count, per) in
            [(0, Ttl::from_secs(1)), (1, Ttl::ZERO), (1, Ttl::from_hours(2)), (1_000_001, Ttl::from_secs(1))]
        {
            assert!(Rate::new(count, per).is_err(), "{count} in {per}");
        }
        let most = Limiter::new(Rate::new(Rate::MAX_COUNT, Ttl::from_secs(1)).unwrap(), 1);
        assert_eq!(
            (0..Rate::MAX_COUNT + 10).filter(|_| most.take(&1, at(0)).is_ok()).count(),
            Rate::MAX_COUNT as usize
        );
    }
}
