//! Key-encryption keys: what wraps the data key that everything sealed in the store is under.
//!
//! The key itself may be out of reach for good, in Vault's Transit engine, a PKCS #11 token or a cloud's KMS: the port asks
//! only that 32 bytes are wrapped and unwrapped, which may take a while and may fail. It is asked at the start and when
//! keys are wrapped anew, never while a request waits.

use std::fmt;

use async_trait::async_trait;

use crate::secret::SecretBytes;

/// One key-encryption key, wherever it is.
#[async_trait]
pub trait KeyEncryptionKey: Send + Sync {
    /// What a [`Wrapping`] names it by: the same wherever the same key is reached, with no secret in it.
    fn name(&self) -> &str;

    /// Where it is reached, in words for whoever runs the broker: `the file /etc/hallpass/kek`.
    fn place(&self) -> String;

    /// Wraps the data key `id` under the newest version of this key.
    ///
    /// # Errors
    /// [`KekError`].
    async fn wrap_key(&self, id: DataKeyId, key: &SecretBytes) -> Result<Wrapping, KekError>;

    /// Unwraps what any version of this key wrapped for the same `id`.
    ///
    /// # Errors
    /// [`KekError`]; [`KekError::DoesNotOpen`] when another key wrapped it, or it was changed.
    async fn unwrap_key(&self, id: DataKeyId, wrapping: &Wrapping) -> Result<SecretBytes, KekError>;
}

/// Which data key: a digest of it, which discloses nothing of 256 random bits. Each sealed value names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataKeyId(pub [u8; 8]);

impl fmt::Display for DataKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A data key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// [`KeyEncryptionKey::name`] of the key that wrapped it.
    pub kek: String,
    /// Which version of that key did; `1` where there are no versions.
    pub version: String,
    /// The wrapped key, in that key's own form.
    pub wrapped: Vec<u8>,
}

/// A key-encryption key did not do what it was asked for. None of these repeats key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// It cannot be reached now, or does not answer as it should. Later it may.
    #[error("it cannot be reached: {0}")]
    Unavailable(String),
    /// Whoever holds it does not let us use it.
    #[error("it may not be used: {0}")]
    Refused(String),
    /// There is no such key.
    #[error("it is not there: {0}")]
    Missing(String),
    /// What was to be unwrapped was wrapped by another key, for another data key, or was changed.
    #[error("it does not open what is kept: that was wrapped by another key, or changed ({0})")]
    DoesNotOpen(String),
    /// The key or the random generator failed.
    #[error("it failed")]
    Failed,
}
