//! What proofs must carry of the broker's (RFC 9449 §8), so that none can be made ahead of time, or for the process before.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::entropy::{Entropy, EntropyUnavailable};
use hallpass_core::time::{Timestamp, Ttl};
use ring::hmac;

/// How long one is given out. It is accepted for as long again.
const PART: Ttl = Ttl::from_secs(120);

/// Gives nonces and knows its own again, without keeping any: each is the keyed digest of a part of time. The key is of
/// this process alone.
pub(super) struct Nonces {
    key: hmac::Key,
}

impl Nonces {
    pub(super) fn new(entropy: &dyn Entropy) -> Result<Self, EntropyUnavailable> {
        let mut key = [0; 32];
        entropy.fill(&mut key)?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// The one that is given out now.
    pub(super) fn current(&self, now: Timestamp) -> String {
        self.of(part(now))
    }

    /// Whether it is the one that is given out now, or was just before.
    pub(super) fn is_fresh(&self, nonce: &str, now: Timestamp) -> bool {
        let part = part(now);
        nonce == self.of(part) || nonce == self.of(part.saturating_sub(1))
    }

    fn of(&self, part: i64) -> String {
        let tag = hmac::sign(&self.key, &part.to_be_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..18).unwrap_or_default())
    }
}

fn part(now: Timestamp) -> i64 {
    now.as_secs().div_euclid(i64::try_from(PART.as_secs()).unwrap_or(1))
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces")
    }
}

#[cfg(test)]
mod tests {
    use hallpass_core::testing::SeededEntropy;
    use hallpass_core::testing::sample::NOW;

    use super::*;

    #[test]
    fn a_nonce_is_good_for_a_while_and_for_its_own_process() {
        let nonces = Nonces::new(&SeededEntropy::new(1)).unwrap();
        let nonce = nonces.current(NOW);
        assert!(nonces.is_fresh(&nonce, NOW.plus(PART)));
        assert!(!nonces.is_fresh(&nonce, NOW.plus(PART).plus(PART)));
        assert!(!nonces.is_fresh(&nonce, NOW.minus(PART)), "from the future");
        assert_ne!(nonce, nonces.current(NOW.plus(PART)));
        assert!(!Nonces::new(&SeededEntropy::new(2)).unwrap().is_fresh(&nonce, NOW), "after a restart");
        for wrong in ["", &nonce[1..], &format!("{nonce}=")] {
            assert!(!nonces.is_fresh(wrong, NOW));
        }
    }
}
