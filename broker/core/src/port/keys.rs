//! The broker's signing keys at rest, and those of them that are in use.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{SignatureAlgorithm, Signer, StoreError};
use crate::audit::AuditEntry;
use crate::id::KeyId;
use crate::time::Timestamp;

/// The part of the record that keeps signing keys.
#[async_trait]
pub trait KeyRecord: Send + Sync {
    /// All signing keys, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// Makes a change of the keys with the entries that tell of it, all or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was written.
    async fn change_keys(&self, change: KeyChange) -> Result<(), StoreError>;
}

/// What becomes of signing keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// New keys, and keys that are here already in their new form. The private half of one that is here stays as it is
    /// kept, however it was read: it may have been sealed anew since. It can only go, when it is empty here.
    pub put: Vec<StoredKey>,
    /// Keys that go.
    pub remove: Vec<KeyId>,
    /// What tells of it.
    pub entries: Vec<AuditEntry>,
    /// Whether the epoch moves: whatever a key that is distrusted signs at this moment must be decided and signed again.
    pub moves_epoch: bool,
}

/// A signing key at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its id.
    pub id: KeyId,
    /// `kid`: the thumbprint of its public key (RFC 7638), by which the world knows it.
    pub key_id: String,
    /// What it signs: a [`KeyPurpose`]. A later version may have more.
    pub purpose: String,
    /// JOSE name of its algorithm.
    pub algorithm: String,
    /// PKCS #8, sealed for `(signing_keys, id, private_key)`. Empty once the key is distrusted: it signs nothing ever
    /// again, whoever asks.
    pub sealed_private_key: Vec<u8>,
    /// Further public material: the JWK of a token key, the certificate of an authority's in PEM, followed by those above
    /// it where it is not its own root.
    pub public: String,
    /// When it was made, and published.
    pub created_at: Timestamp,
    /// When it begins to sign, and the key before it stops. [`Timestamp::MAX`] while an offline root has yet to certify it.
    pub activates_at: Timestamp,
    /// When it stops to sign, where no other takes its place.
    pub retires_at: Option<Timestamp>,
    /// Since when nothing that it signed counts.
    pub distrusted_at: Option<Timestamp>,
}

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPurpose {
    /// Tokens, and the lists that tell of them.
    Token,
    /// Certificates and revocation lists of the built-in authority.
    Ca,
    /// Checkpoints of the audit log.
    Audit,
}

impl KeyPurpose {
    /// Every purpose.
    pub const ALL: [Self; 3] = [Self::Token, Self::Ca, Self::Audit];

    /// The word used in the store and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Ca => "ca",
            Self::Audit => "audit",
        }
    }

    /// The purpose of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == word)
    }
}

/// The keys that tokens are signed with. They change while the broker runs, so whoever signs asks each time.
pub trait TokenSigners: Send + Sync {
    /// The key that signs with `algorithm` now, if there is one.
    fn signer(&self, algorithm: SignatureAlgorithm) -> Option<Arc<dyn Signer>>;

    /// Whether the last key of `algorithm` was distrusted and none has come in its place: what asks for it stays
    /// configured, and is minted again once there is another.
    fn awaits(&self, _algorithm: SignatureAlgorithm) -> bool {
        false
    }
}

/// Keys that stay: for tests, and for checks that have no store.
impl TokenSigners for Vec<Arc<dyn Signer>> {
    fn signer(&self, algorithm: SignatureAlgorithm) -> Option<Arc<dyn Signer>> {
        self.iter().find(|signer| signer.algorithm() == algorithm).cloned()
    }
}

/// The keys of the built-in authority.
pub trait AuthorityKeys: Send + Sync {
    /// Grows whenever [`AuthorityKeys::authority_keys`] answers something else.
    fn generation(&self) -> u64;

    /// All that verifiers should trust: those that sign, will sign, or signed what may still be in use. In the order in
    /// which they begin to sign.
    fn authority_keys(&self) -> Vec<AuthorityKey>;

    /// Those that are distrusted: what else is of such a key can be told by its certificate.
    fn distrusted_authorities(&self) -> Vec<DistrustedAuthority> {
        Vec::new()
    }
}

/// Ends the grants whose credentials a key of the broker's own signed.
#[async_trait]
pub trait EndsSigned: Send + Sync {
    /// Begins to end all of them, if that has not begun: it may be asked again.
    ///
    /// # Errors
    /// [`StoreError`]; then it has not begun.
    async fn end_signed_by(&self, key_id: &str) -> Result<(), StoreError>;
}

/// Has the key of the audit log that signs now attest to it.
#[async_trait]
pub trait Attests: Send + Sync {
    /// Signs what the log comes to, and keeps that in the store and beside it, in the place of whatever another key signed.
    ///
    /// # Errors
    /// [`NotAttested`]; then what is kept may be of another key.
    async fn attest(&self) -> Result<(), NotAttested>;
}

/// Why the log is not attested to by the key that signs now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAttested(pub String);

/// The keys of the audit log's checkpoints, which sign nothing else.
pub trait AuditKeys: Send + Sync {
    /// The one that signs now first, then those that have, and whose checkpoints still count.
    fn audit_signers(&self) -> Vec<Arc<dyn Signer>>;
}

/// Keys that stay.
impl AuditKeys for Vec<Arc<dyn Signer>> {
    fn audit_signers(&self) -> Vec<Arc<dyn Signer>> {
        self.clone()
    }
}

/// A key of the built-in authority that is distrusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistrustedAuthority {
    /// Its certificate, PEM, followed by those above it where it was not its own root.
    pub certificates: String,
    /// Since when it signed; none where it was distrusted before its time.
    pub signed_from: Option<Timestamp>,
}

/// A key of the built-in authority.
#[derive(Clone)]
pub struct AuthorityKey {
    /// What signs.
    pub signer: Arc<dyn Signer>,
    /// Its certificate, PEM: self-signed, or followed by those above it up to an offline root.
    pub certificates: String,
    /// When it begins to sign.
    pub activates_at: Timestamp,
}
