use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::entropy::{Entropy, EntropyUnavailable};

/// Bytes that look random and repeat with the seed (xorshift64*). Never outside tests.
#[derive(Debug)]
pub struct SeededEntropy {
    state: Mutex<u64>,
    fails: AtomicBool,
}

impl SeededEntropy {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), fails: AtomicBool::new(false) }
    }

    /// Fails from now on, or no longer.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyUnavailable> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(EntropyUnavailable);
        }
        let mut state = self.state.lock().unwrap();
        for byte in bytes {
            *state ^= *state >> 12;
            *state ^= *state << 25;
            *state ^= *state >> 27;
            *byte = state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0];
        }
        Ok(())
    }
}
