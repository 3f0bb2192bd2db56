//! Key sets of issuers (RFC 7517), and the keys that may verify a proof.
//!
//! The invariant: a key in a [`KeySet`] is public, strong, well-formed and meant for signatures. Keys that are not are
//! either not ours (another use, an unknown type) and skipped, or refused and remembered, so that a token signed with
//! one is told that its key is weak.

mod bundle;
mod cache;
#[cfg(test)]
mod fetch_tests;
mod key;
#[cfg(test)]
mod set_tests;
mod source;

pub use bundle::Authority;
pub use cache::{KeyCache, KeyHealth, KeysUnusable};
pub use key::VerificationKey;
pub use source::discovery_url;

use std::sync::Arc;

use hallpass_core::error::{Reason, Refusal};
use hallpass_core::time::Ttl;

use self::key::Unfit;
use super::jose::json::{Document, Json, JsonError, Object};
use crate::config::issuer::JwsAlgorithm;

/// Largest key set or discovery document that is read. An issuer that was taken over must not be able to fill the
/// broker's memory.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// Most keys in one set. Each costs a check of its curve point and a comparison per proof.
pub const MAX_KEYS: usize = 100;

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
    refused: Vec<RefusedKey>,
    /// Who may sign certificates, where it is a trust bundle.
    authorities: Vec<Arc<Authority>>,
    /// `spiffe_sequence`.
    sequence: Option<u64>,
    /// `spiffe_refresh_hint`: how long its publisher wants it to be kept.
    refresh_hint: Option<Ttl>,
}

/// A key that an issuer published and that must not verify anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedKey {
    /// Its `kid`, if it has a fit one.
    pub key_id: Option<String>,
    /// What is wrong with it, for the operator.
    pub why: &'static str,
    /// Whether its private half is published, so that everybody can sign in the issuer's name.
    pub is_compromised: bool,
}

impl RefusedKey {
    fn new(jwk: &Object, why: &'static str, is_compromised: bool) -> Self {
        let key_id = jwk.get("kid").and_then(Json::as_text).filter(|kid| key::is_fit_name(kid));
        Self { key_id: key_id.map(str::to_owned), why, is_compromised }
    }
}

/// Why a document is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`MAX_DOCUMENT_BYTES`].
    #[error("the key set is longer than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// More keys than [`MAX_KEYS`].
    #[error("the key set holds more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// Not one strict JSON object.
    #[error("the key set cannot be read: {0}")]
    Json(#[from] JsonError),
    /// No array of objects named `keys` (RFC 7517 §5).
    #[error("the key set has no array `keys` of objects")]
    NoKeys,
    /// Certificates in DER, one behind the other, that are none.
    #[error("the certificates of the authorities cannot be read")]
    Certificates,
}

/// Why a set has no key for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// None is published under this `kid`, or none could be meant without one: newer keys could have it.
    Unknown,
    /// Several could be meant.
    Ambiguous,
    /// The `kid` is of a key for another algorithm (RFC 8725 §3.1).
    OtherAlgorithm,
    /// The `kid` is of a key that was refused.
    Weak,
}

impl KeySet {
    /// Reads a key set. Unknown members, key types, curves and uses are skipped, as RFC 7517 §5 says; a document on
    /// which readers could differ is refused whole.
    ///
    /// # Errors
    /// [`KeySetError`] when the document is not usable at all.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let members = Document::parse(document)?.members;
        let Some(Json::List(entries)) = members.get("keys") else { return Err(KeySetError::NoKeys) };
        if entries.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let mut set = Self::default();
        for entry in entries {
            let Json::Object(jwk) = entry else { return Err(KeySetError::NoKeys) };
            match VerificationKey::from_jwk(jwk) {
                Ok(key) if set.keys.iter().any(|known| **known == key) => {}
                Ok(key) => set.keys.push(Arc::new(key)),
                Err(Unfit::NotOurs) => {}
                Err(Unfit::Refused(why)) => set.refused.push(RefusedKey::new(jwk, why, false)),
                Err(Unfit::Private) => {
                    let why = "its private half is published: whoever reads the key set can sign with it";
                    set.refused.push(RefusedKey::new(jwk, why, true));
                }
            }
        }
        Ok(set)
    }

    /// The keys that can verify.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &VerificationKey> {
        self.keys.iter().map(AsRef::as_ref)
    }

    /// Who may sign certificates of the trust domain, where it is a trust bundle.
    #[must_use]
    pub fn authorities(&self) -> &[Arc<Authority>] {
        &self.authorities
    }

    /// Its place among the bundles of its publisher, where it tells: greater is newer.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// How long its publisher wants it to be kept, where it tells.
    #[must_use]
    pub const fn refresh_hint(&self) -> Option<Ttl> {
        self.refresh_hint
    }

    /// Whether the same may sign, in whatever order they stand.
    fn trusts_the_same(&self, other: &Self) -> bool {
        let keys = |set: &Self, other: &Self| set.keys.iter().all(|key| other.keys.contains(key));
        let authorities = |set: &Self, other: &Self| set.authorities.iter().all(|one| other.authorities.contains(one));
        [(self, other), (other, self)].into_iter().all(|(one, two)| keys(one, two) && authorities(one, two))
    }

    /// The keys that were refused.
    #[must_use]
    pub fn refused(&self) -> &[RefusedKey] {
        &self.refused
    }

    /// The key that a proof's header means. Without a `kid` a key is only meant where it is the only one that fits
    /// (OpenID Connect Core §10.1).
    pub(super) fn select(&self, key_id: Option<&str>, algorithm: JwsAlgorithm) -> Result<&Arc<VerificationKey>, NoKey> {
        let meant = |key: &&Arc<VerificationKey>| key_id.is_none() || key.key_id() == key_id;
        let mut fitting = self.keys.iter().filter(meant).filter(|key| key.verifies(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) if key_id.is_none() => Err(NoKey::Unknown),
            (None, _) if self.keys.iter().any(|key| key.key_id() == key_id) => Err(NoKey::OtherAlgorithm),
            (None, _) if self.refused.iter().any(|key| key.key_id.as_deref() == key_id) => Err(NoKey::Weak),
            (None, _) => Err(NoKey::Unknown),
        }
    }
}

impl From<NoKey> for Refusal {
    fn from(no_key: NoKey) -> Self {
        let (reason, detail) = match no_key {
            NoKey::Unknown => (Reason::UnknownKid, "the issuer publishes no such key"),
            NoKey::Ambiguous => (Reason::UnknownKid, "the proof's header does not say which key signed it"),
            NoKey::OtherAlgorithm => (Reason::AlgKeyMismatch, "the key named is for another algorithm"),
            NoKey::Weak => (Reason::WeakKey, "the key named is too weak or malformed"),
        };
        Self::proof(reason, detail).about("kid")
    }
}
