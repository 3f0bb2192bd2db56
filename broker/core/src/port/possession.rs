//! Verification of proofs of possession.

use crate::binding::Possession;
use crate::error::Refusal;
use crate::time::Timestamp;

/// Verifies that a request was made by whoever has a key (RFC 9449 §4.3).
///
/// That each proof is used once is not judged here: [`crate::binding::UsedPossessions`] does, once it is known who asks.
pub trait PossessionVerifier: Send + Sync {
    /// The key that `proof` shows possession of for `request`.
    ///
    /// # Errors
    /// [`NotShown`].
    fn verify(&self, proof: &str, request: &ProvedRequest<'_>, now: Timestamp) -> Result<Possession, NotShown>;

    /// What the next proof must carry, where proofs must carry something of the broker's.
    fn nonce(&self, now: Timestamp) -> Option<String>;

    /// JOSE names of the algorithms that proofs may be signed with.
    fn algorithms(&self) -> Vec<&'static str>;
}

/// What a proof of possession is for.
#[derive(Clone, Copy, Debug)]
pub struct ProvedRequest<'a> {
    /// Method.
    pub method: &'a str,
    /// The listener's own origin, as it is configured; empty where that is not known.
    pub origin: &'a str,
    /// Path of the request.
    pub path: &'a str,
    /// The token that is sent with the request.
    pub token: Option<Presented<'a>>,
}

/// A token that is sent with a request.
#[derive(Clone, Copy)]
pub enum Presented<'a> {
    /// As the caller's own proof in a header: the proof of possession must name it.
    AsAuthorization(&'a str),
    /// In the body of an exchange, that of whoever is acted for as well: the proof of possession may name one of them.
    InBody(&'a [&'a str]),
}

impl std::fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AsAuthorization(_) => "AsAuthorization(…)",
            Self::InBody(_) => "InBody(…)",
        })
    }
}

/// Why possession of a key was not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotShown {
    /// The proof does not hold.
    Refused(Box<Refusal>),
    /// The proof holds and carries nothing of the broker's that is fresh (RFC 9449 §8): the same caller can make one that
    /// does at once.
    NonceWanted,
}
