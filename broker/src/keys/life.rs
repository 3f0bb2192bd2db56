//! Where each key is in its life. Everything follows from the keys as they are kept and the time: nothing has to happen
//! for a key to begin to sign, or to stop.
//!
//! ```text
//! (requested) ──► announced ──► active ──► retired ──► (removed)      published in the three
//!       └─────────────┴───────────┴──────────┴───────► distrusted     never published, never used, at once
//! ```
//!
//! Of the keys of one purpose and algorithm the newest whose time has come is active: it takes the place of the one
//! before it, which stays published for as long as what it signed can be in use. A key that has stopped to sign never
//! begins again, also when the one that took its place is distrusted. A key of the authority that an offline root has yet
//! to certify is requested: it is kept, and nothing else, until its certificate comes.

use hallpass_core::port::{KeyPurpose, SignatureAlgorithm, StoredKey};
use hallpass_core::time::{Timestamp, Ttl};

/// How long a key stays published after it has stopped to sign: as long as the longest-lived credential that it signed (a
/// day, the most that a role may give), and what verifiers' clocks and leeways add.
pub(super) const OVERLAP: Ttl = Ttl::from_mins(24 * 60 + 10);

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// An offline root has yet to certify it.
    Requested,
    /// Published, so that relying parties know it when it begins to sign.
    Announced {
        /// When it does.
        signs_from: Timestamp,
    },
    /// It signs.
    Active,
    /// Another signs; what it signed still verifies.
    Retired {
        /// Until when.
        published_until: Timestamp,
    },
    /// Nothing that it signed counts.
    Distrusted {
        /// Since when.
        since: Timestamp,
    },
}

impl Phase {
    /// Where `key`, one of `keys`, is at `now`.
    pub(super) fn of(key: &StoredKey, keys: &[StoredKey], now: Timestamp) -> Self {
        if let Some(since) = key.distrusted_at {
            return Self::Distrusted { since };
        }
        if is_requested(key) {
            return Self::Requested;
        }
        if now < key.activates_at {
            return Self::Announced { signs_from: key.activates_at };
        }
        match stops_at(key, keys) {
            Some(at) if at <= now => Self::Retired { published_until: at.plus(OVERLAP) },
            _ => Self::Active,
        }
    }

    /// The word shown for it.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Announced { .. } => "announced",
            Self::Active => "active",
            Self::Retired { .. } => "retired",
            Self::Distrusted { .. } => "distrusted",
        }
    }
}

/// When `key` stops to sign: when the next of its kind begins, or at an end of its own. One that was distrusted before its
/// time never begins; and one that begins at the instant of a distrust does so in the distrusted key's place.
pub(super) fn stops_at(key: &StoredKey, keys: &[StoredKey]) -> Option<Timestamp> {
    let begins = |other: &&StoredKey| {
        if is_requested(other) {
            return false;
        }
        let had_begun = |at: Timestamp| key.activates_at < other.activates_at && other.activates_at <= at;
        other.distrusted_at.is_none_or(had_begun)
    };
    let next = |other: &&StoredKey| is_of_kind(other, &key.purpose, &key.algorithm) && order(other) > order(key);
    let successors = keys.iter().filter(begins).filter(next);
    successors.map(|successor| successor.activates_at).chain(key.retires_at).min()
}

/// Whether an offline root has yet to certify `key`. A version that does not know of such keys takes it for one that is
/// announced for the end of time.
pub(super) fn is_requested(key: &StoredKey) -> bool {
    key.activates_at == Timestamp::MAX
}

/// Whether nothing that `key` signed can be in use any longer, and nobody need know it.
pub(super) fn is_over(key: &StoredKey, keys: &[StoredKey], now: Timestamp) -> bool {
    let last_signed = stops_at(key, keys).into_iter().chain(key.distrusted_at).min();
    last_signed.is_some_and(|at| at.plus(OVERLAP) <= now)
}

/// Whether the row of `key` stays when nothing that it signed can be in use any longer. Checkpoints of the log are verified
/// by the key of their time, however long ago that was; and what was made elsewhere could be brought again, or be asked
/// for by a certificate in a file: that it was distrusted must not be forgotten.
pub(super) fn is_kept_for_good(key: &StoredKey) -> bool {
    key.purpose == KeyPurpose::Audit.as_str()
        || (key.distrusted_at.is_some()
            && (key.purpose == KeyPurpose::Ca.as_str() || key.algorithm == SignatureAlgorithm::Rs256.as_str()))
}

/// Whether a key is one of this purpose and algorithm.
pub(super) fn is_of_kind(key: &StoredKey, purpose: &str, algorithm: &str) -> bool {
    key.purpose == purpose && key.algorithm == algorithm
}

/// In which keys of a kind take each other's place: every replica sees the same.
pub(super) fn order(key: &StoredKey) -> impl Ord + use<> {
    (key.activates_at, key.created_at, key.id)
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::sample::{self, NOW};

    use super::*;

    fn key(n: u64, created: u64, activates: u64) -> StoredKey {
        StoredKey {
            id: sample::id(n),
            key_id: format!("kid-{n}"),
            purpose: "token".to_owned(),
            algorithm: "ES256".to_owned(),
            sealed_private_key: Vec::new(),
            public: String::new(),
            created_at: at(created),
            activates_at: at(activates),
            retires_at: None,
            distrusted_at: None,
        }
    }

    fn at(minutes: u64) -> Timestamp {
        NOW.plus(Ttl::from_mins(minutes))
    }

    fn phases(keys: &[StoredKey], now: Timestamp) -> Vec<&'static str> {
        keys.iter().map(|key| Phase::of(key, keys, now).as_str()).collect()
    }

    #[test]
    fn a_key_signs_from_its_announced_time_until_the_next_one_does() {
        let keys = [key(1, 0, 0), key(2, 60, 120)];
        for (minute, expected) in [
            (0, ["active", "announced"]),
            (119, ["active", "announced"]),
            (120, ["retired", "active"]),
            (120 + 24 * 60, ["retired", "active"]),
        ] {
            assert_eq!(phases(&keys, at(minute)), expected, "{minute}");
        }
        let published_until = at(120).plus(OVERLAP);
        assert_eq!(Phase::of(&keys[0], &keys, at(120)), Phase::Retired { published_until });
        assert!(!is_over(&keys[0], &keys, published_until.minus(Ttl::from_secs(1))));
        assert!(is_over(&keys[0], &keys, published_until));
        assert!(!is_over(&keys[1], &keys, Timestamp::MAX), "the last one signs for ever");
    }

    #[test]
    fn a_key_that_was_distrusted_before_its_time_takes_nobodys_place() {
        let mut keys = [key(1, 0, 0), key(2, 60, 120), key(3, 130, 130)];
        keys[1].distrusted_at = Some(at(115));
        assert_eq!(phases(&keys, at(125)), ["active", "distrusted", "announced"]);
        assert_eq!(phases(&keys, at(130)), ["retired", "distrusted", "active"]);
        assert!(!is_over(&keys[1], &keys, at(115)));
        assert!(is_over(&keys[1], &keys, at(115).plus(OVERLAP)));
    }

    #[test]
    fn the_key_whose_place_a_distrusted_one_had_taken_does_not_come_back() {
        let mut keys = [key(1, 0, 0), key(2, 60, 120), key(3, 130, 130)];
        keys[1].distrusted_at = Some(at(125));
        assert_eq!(phases(&keys, at(125)), ["retired", "distrusted", "announced"]);
        assert_eq!(phases(&keys, at(130)), ["retired", "distrusted", "active"]);
        assert_eq!(Phase::of(&keys[0], &keys, at(125)), Phase::Retired { published_until: at(120).plus(OVERLAP) });
    }

    #[test]
    fn keys_of_other_kinds_do_not_take_its_place() {
        let mut keys = [key(1, 0, 0), key(2, 1, 1), key(3, 2, 2)];
        keys[1].algorithm = "EdDSA".to_owned();
        keys[2].purpose = "ca".to_owned();
        assert_eq!(phases(&keys, at(10)), ["active", "active", "active"]);
        keys[0].retires_at = Some(at(5));
        assert_eq!(phases(&keys, at(10)), ["retired", "active", "active"]);
    }

    #[test]
    fn of_keys_that_begin_at_once_one_is_active() {
        let keys = [key(1, 0, 0), key(2, 0, 0)];
        assert_eq!(phases(&keys, at(0)), ["retired", "active"]);
    }
}
