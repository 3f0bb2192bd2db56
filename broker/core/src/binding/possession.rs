//! Proofs of possession, and that each is used once.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ring::digest::{Context, SHA256};

use super::BindingKey;
use crate::error::{Reason, Refusal, ServiceError};
use crate::id::IssuerName;
use crate::time::{Timestamp, Ttl};

/// A key whose possession was shown with a request, by a proof that is for this one request alone (RFC 9449 §4.3).
#[derive(Debug)]
pub struct Possession {
    key: BindingKey,
    proof: [u8; 16],
    until: Timestamp,
    spent: AtomicBool,
}

impl Possession {
    /// Of `key`, by a proof with this `jti` that verified. At `until` it would not be accepted any more.
    #[must_use]
    pub fn new(key: BindingKey, jti: &str, until: Timestamp) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&key.sha256);
        context.update(jti.as_bytes());
        let mut proof = [0; 16];
        // Half of it tells as many proofs apart as there will ever be.
        proof.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self { key, proof, until, spent: AtomicBool::new(false) }
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> BindingKey {
        self.key
    }
}

/// Remembers which proofs of possession were used, for as long as they would be accepted (RFC 9449 §11.1).
///
/// In memory of a bounded size. Nothing is forgotten early: when there is no room the request is refused, since a proof
/// that was forgotten could be used again. Only callers whose token verified take room, and each identity a share of it, so
/// that none keeps others from ending what they hold. A restart forgets all, and whoever verifies proofs accepts none from
/// before it.
#[derive(Debug, Default)]
pub struct UsedPossessions {
    used: Mutex<Used>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Used {
    /// By the part of a minute in which they end.
    parts: Vec<Part>,
    held: usize,
    /// The first part that nothing was forgotten of.
    from: i64,
}

/// The proofs that end within one part of a minute.
#[derive(Debug)]
struct Part {
    ends: i64,
    proofs: HashSet<[u8; 16]>,
    /// How many of them each identity showed.
    of_identities: HashMap<u64, usize>,
}

impl UsedPossessions {
    /// Most proofs that are remembered, at about 30 bytes each: for a minute and a half that is 5,800 requests a second.
    pub const MOST: usize = 524_288;

    /// Most of one identity: 720 requests a second.
    pub const MOST_OF_ONE: usize = Self::MOST / 8;

    /// Seconds that are forgotten at once.
    const PART: i64 = 10;

    /// Takes the one use that a proof has, which came with a request of `whose`: an issuer, and what it calls whoever is
    /// behind it. What one request asks again is the same use.
    ///
    /// # Errors
    /// A refusal of a proof that was used before; unavailable when there is no room to remember another.
    pub fn take(
        &self,
        possession: &Possession,
        whose: (&IssuerName, &str),
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        if possession.spent.load(Ordering::Acquire) {
            return Ok(());
        }
        let identity = self.hasher.hash_one(whose);
        self.first_use(possession, identity, now, (Self::MOST, Self::MOST_OF_ONE))?;
        possession.spent.store(true, Ordering::Release);
        Ok(())
    }

    fn first_use(
        &self,
        possession: &Possession,
        identity: u64,
        now: Timestamp,
        (most, most_of_one): (usize, usize),
    ) -> Result<(), ServiceError> {
        const AFTER: Ttl = Ttl::from_secs(10);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget(now.as_secs().div_euclid(Self::PART));
        let part = possession.until.as_secs().div_euclid(Self::PART);
        // Behind a clock that stepped back it may be one of those that were forgotten.
        if part < used.from || used.parts.iter().any(|part| part.proofs.contains(&possession.proof)) {
            let detail = "this DPoP proof was used before; make one for each request";
            return Err(Refusal::proof(Reason::PopInvalid, detail).about("DPoP").after_signature().into());
        }
        let of_one: usize = used.parts.iter().filter_map(|part| part.of_identities.get(&identity)).sum();
        if used.held >= most || of_one >= most_of_one {
            let detail = "more proofs of possession are in use than the broker remembers; try again in a moment";
            return Err(ServiceError::Unavailable {
                reason: Reason::RateLimited,
                detail: detail.to_owned(),
                retry_after: AFTER,
            });
        }
        used.held = used.held.saturating_add(1);
        match used.parts.iter_mut().find(|known| known.ends == part) {
            Some(known) => {
                known.proofs.insert(possession.proof);
                let of_one = known.of_identities.entry(identity).or_default();
                *of_one = of_one.saturating_add(1);
            }
            None => {
                let (proofs, of_identities) = (HashSet::from([possession.proof]), HashMap::from([(identity, 1)]));
                used.parts.push(Part { ends: part, proofs, of_identities });
            }
        }
        Ok(())
    }
}

impl Used {
    /// Forgets what ended before the part of a minute that is now.
    fn forget(&mut self, now: i64) {
        self.from = self.from.max(now);
        if self.parts.iter().any(|part| part.ends < now) {
            self.parts.retain(|part| part.ends >= now);
            self.held = self.parts.iter().map(|part| part.proofs.len()).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binding::Binding;
    use crate::testing::sample::NOW;

    fn key(octet: u8) -> BindingKey {
        BindingKey::new(Binding::Dpop, [octet; 32])
    }

    fn possession(octet: u8, jti: &str) -> Possession {
        Possession::new(key(octet), jti, NOW.plus(Ttl::from_secs(60)))
    }

    fn take(used: &UsedPossessions, possession: &Possession, now: Timestamp) -> Result<(), ServiceError> {
        used.take(possession, (&"ci".parse().unwrap(), "repo:acme/app"), now)
    }

    #[test]
    fn a_proof_has_one_use_and_one_request_may_ask_for_it_again() {
        let used = UsedPossessions::default();
        let first = possession(1, "a");
        assert_eq!(take(&used, &first, NOW), Ok(()));
        assert_eq!(take(&used, &first, NOW), Ok(()), "the same request");
        let again = take(&used, &possession(1, "a"), NOW.plus(Ttl::from_secs(60))).unwrap_err();
        assert_eq!(again.reason(), Reason::PopInvalid);
        for other in [possession(1, "b"), possession(2, "a")] {
            assert_eq!(take(&used, &other, NOW), Ok(()));
        }
    }

    #[test]
    fn of_many_at_once_one_is_the_first() {
        let used = UsedPossessions::default();
        let first = std::thread::scope(|scope| {
            let racing: Vec<_> =
                (0..16).map(|_| scope.spawn(|| take(&used, &possession(1, "a"), NOW).is_ok())).collect();
            racing.into_iter().map(|one| one.join().unwrap()).filter(|first| *first).count()
        });
        assert_eq!(first, 1);
    }

    #[test]
    fn without_room_nothing_is_accepted_until_something_has_ended() {
        let used = UsedPossessions::default();
        let take = |jti: &str, now: Timestamp| used.first_use(&possession(1, jti), 7, now, (2, 2));
        assert_eq!((take("a", NOW), take("b", NOW)), (Ok(()), Ok(())));
        assert_eq!(take("c", NOW).unwrap_err().reason(), Reason::RateLimited);
        assert_eq!(take("a", NOW).unwrap_err().reason(), Reason::PopInvalid, "what is known is still known");
        let later = NOW.plus(Ttl::from_secs(80));
        let fresh = Possession::new(key(1), "c", later.plus(Ttl::from_secs(60)));
        assert_eq!(used.first_use(&fresh, 7, later, (2, 2)), Ok(()));
        assert_eq!(used.used.lock().unwrap().held, 1, "what has ended takes no room");
    }

    #[test]
    fn one_identity_leaves_room_for_others() {
        let used = UsedPossessions::default();
        let take = |identity: u64, jti: &str| used.first_use(&possession(1, jti), identity, NOW, (9, 2));
        assert_eq!((take(1, "a"), take(1, "b")), (Ok(()), Ok(())));
        assert_eq!(take(1, "c").unwrap_err().reason(), Reason::RateLimited, "also by other keys");
        assert_eq!(take(2, "c"), Ok(()));
    }

    #[test]
    fn a_clock_that_steps_back_brings_no_use_back() {
        let used = UsedPossessions::default();
        let later = NOW.plus(Ttl::from_secs(80));
        assert_eq!(take(&used, &possession(1, "a"), NOW), Ok(()));
        let fresh = Possession::new(key(1), "b", later.plus(Ttl::from_secs(60)));
        assert_eq!(take(&used, &fresh, later), Ok(()));
        assert_eq!(take(&used, &possession(1, "a"), NOW).unwrap_err().reason(), Reason::PopInvalid);
    }
}
