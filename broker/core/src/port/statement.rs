//! Statements that the broker signs about itself.

use serde_json::{Map, Value};

use super::SigningFailed;

/// Signs statements with the key that tokens are signed with, so that whoever verifies tokens can verify them.
pub trait StatementSigner: Send + Sync + 'static {
    /// A JWS (RFC 7515, compact) over `claims` and `iss`, whose `typ` is `kind`: no token, and not to be taken for one.
    ///
    /// # Errors
    /// [`SigningFailed`] when no key can sign now.
    fn sign(&self, kind: &str, claims: Map<String, Value>) -> Result<String, SigningFailed>;
}
