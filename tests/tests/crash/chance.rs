//! Chance, from a seed that a failure names: `HALLPASS_CHAOS_SEED` draws the same again.

use std::hash::{BuildHasher as _, RandomState};

/// A small generator (splitmix64): the moments of crashes need to be spread, not secret.
pub(crate) struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    pub(crate) fn new() -> Self {
        let given = std::env::var("HALLPASS_CHAOS_SEED").ok().map(|seed| seed.parse().expect("a number as seed"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one("a seed"));
        Self { seed, state: seed }
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

impl Drop for Chance {
    #[expect(clippy::print_stderr, reason = "a failed test says how to draw the same again")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("drawn with HALLPASS_CHAOS_SEED={}", self.seed);
        }
    }
}
