//! Who checks what was signed about a change or a build.

use crate::attestation::Vouched;
use crate::error::{Reason, Refusal};
use crate::time::Timestamp;

/// Verifies signed statements against what is configured. CPU only, synchronous, offline; bound to one bundle revision.
pub trait AttestationVerifier: Send + Sync {
    /// Every statement that was offered, verified, in order.
    ///
    /// # Errors
    /// A [`Refusal`] that names the first that does not verify: none is ever left out. Before its signature verified,
    /// nothing of it is repeated.
    fn verify(&self, offered: &[String], now: Timestamp) -> Result<Vec<Vouched>, Refusal>;
}

/// Nobody is configured to sign anything: whatever is offered is refused.
#[derive(Clone, Copy, Debug)]
pub struct NoAttestors;

impl AttestationVerifier for NoAttestors {
    fn verify(&self, offered: &[String], _: Timestamp) -> Result<Vec<Vouched>, Refusal> {
        if offered.is_empty() {
            return Ok(Vec::new());
        }
        let detail = "no attestor is configured here: leave `attestations` out";
        Err(Refusal::request(Reason::BadAttestation, "attestations", detail))
    }
}
