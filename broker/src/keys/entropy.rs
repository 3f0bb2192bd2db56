//! The one source of randomness in production: the operating system's generator.

use hallpass_core::entropy::{Entropy, EntropyUnavailable};
use ring::rand::{SecureRandom as _, SystemRandom};

/// The operating system's random generator.
#[derive(Clone, Debug)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// The operating system's random generator.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the port's one production implementation")]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }

    /// The same generator as ring's signing functions want it: their trait is sealed, so that the port cannot stand in.
    pub(super) fn for_signing(&self) -> &SystemRandom {
        &self.0
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyUnavailable> {
        self.0.fill(bytes).map_err(|_| EntropyUnavailable)
    }
}
