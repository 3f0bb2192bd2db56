//! Randomness as a port, so that tests can seed it and production has one source.

use crate::id::fresh_uuid;
use crate::time::Clock;

/// A source of cryptographically secure random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`EntropyUnavailable`] when the system's generator fails; what needed it is refused.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyUnavailable>;
}

/// The system's random generator failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct EntropyUnavailable;

/// Makes a new id of type `I`: time-ordered (UUIDv7, RFC 9562 §5.7), 74 bits of it random.
///
/// # Errors
/// [`EntropyUnavailable`] as from [`Entropy::fill`].
pub fn fresh_id<I: From<uuid::Uuid>>(clock: &dyn Clock, entropy: &dyn Entropy) -> Result<I, EntropyUnavailable> {
    let mut random = [0_u8; 10];
    entropy.fill(&mut random)?;
    Ok(fresh_uuid(clock.now(), random).into())
}
