//! When a call is sent again, and how long to wait before.

use std::time::Duration;

use super::error::TransportError;
use super::transport::Reply;

/// How often and how fast calls that are safe to repeat are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included. The broker opens a grant again for one idempotency key three times at most.
    pub attempts: u32,
    /// Longest wait before the second try; it doubles with each further one, and the actual wait is random below it.
    pub first_wait: Duration,
    /// Never wait longer than this, whatever `Retry-After` says: the call fails instead.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 3, first_wait: Duration::from_millis(250), max_wait: Duration::from_secs(10) }
    }
}

/// Whether sending a call twice can do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or the same thing only once.
    Safe,
    /// An idempotency key makes it safe; while the first try is still pending the broker answers `409`.
    Keyed,
    /// It may consume the proof: only when nothing was sent.
    Unsent,
}

impl RetryPolicy {
    /// How long to wait before trying again; `None` when the outcome stands.
    pub(crate) fn wait(&self, tried: u32, repeat: Repeat, outcome: &Result<Reply, TransportError>) -> Option<Duration> {
        if tried >= self.attempts {
            return None;
        }
        let asked = match (outcome, repeat) {
            (Err(TransportError::TooLarge), _) => return None,
            (Err(TransportError::Connect(_)), _) | (Err(_), Repeat::Safe | Repeat::Keyed) => None,
            (Ok(reply), Repeat::Safe | Repeat::Keyed) if matches!(reply.status, 429 | 502..=504) => reply.retry_after,
            (Ok(reply), Repeat::Keyed) if reply.status == 409 && reply.retry_after.is_some() => reply.retry_after,
            _ => return None,
        };
        match asked {
            Some(asked) if asked > self.max_wait => None,
            Some(asked) => Some(asked),
            None => {
                let doubled =
                    self.first_wait.saturating_mul(1_u32.checked_shl(tried.saturating_sub(1)).unwrap_or(u32::MAX));
                Some(doubled.min(self.max_wait).mul_f64(fraction()))
            }
        }
    }
}

/// A random number from a half to one, so that many callers do not come back at once.
fn fraction() -> f64 {
    let mut byte = [0_u8; 1];
    // Without randomness the longest wait is as good as any.
    match random(&mut byte) {
        Ok(()) => 0.5 + f64::from(u8::from_be_bytes(byte)) / 510.0,
        Err(NoRandomness) => 1.0,
    }
}

/// A new `Idempotency-Key`: 128 random bits, so that no two calls ever share one.
pub(crate) fn idempotency_key() -> Result<String, NoRandomness> {
    let mut bytes = [0_u8; 16];
    random(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoRandomness;

fn random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    rustls::crypto::ring::default_provider().secure_random.fill(bytes).map_err(|_| NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ() {
        let (one, other) = (idempotency_key().unwrap(), idempotency_key().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }

    #[test]
    fn waits_are_at_least_half_of_the_bound() {
        for _ in 0..100 {
            assert!((0.5..=1.0).contains(&fraction()));
        }
    }
}
