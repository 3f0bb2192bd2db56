//! The data key: what seals what the store keeps. It is kept in the store itself, wrapped by a key-encryption key, and
//! unwrapped once, at the start; from then on nothing waits for whoever holds the key-encryption key.
//!
//! Wrapping it anew is one row: no sealed value changes. Only where a new data key is wanted, or values are still sealed
//! under a key-encryption key directly, are the values themselves sealed anew, in the same transaction.
//!
//! A store whose data key does not open stops the broker: to make a new one instead would lose what the old one sealed.

use std::sync::Arc;

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::entropy::{Entropy, EntropyUnavailable};
use hallpass_core::port::{
    DataKeyChange, DataKeyId, DataKeyRecord, KekError, KeyEncryptionKey, KeyRecord, SealError, Sealer as _, StoreError,
    StoredDataKey, Wrapping,
};
use hallpass_core::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::kek::LocalKek;
use super::keyring::place;
use super::sealer::DataKeySealer;
use super::secret_key::SecretKey;

/// The key-encryption keys that there are: the first wraps, all of them unwrap.
#[derive(Default)]
pub struct KeyEncryptionKeys {
    keys: Vec<Arc<dyn KeyEncryptionKey>>,
    /// Those of them that values may be sealed under directly.
    direct: Vec<Arc<SecretKey>>,
}

impl KeyEncryptionKeys {
    /// Adds a key that the broker holds itself.
    ///
    /// # Errors
    /// [`NamedTwice`].
    pub fn add_local(&mut self, key: LocalKek) -> Result<(), NamedTwice> {
        if let Some(other) = self.keys.iter().find(|other| other.name() == key.name()) {
            return Err(NamedTwice { place: key.place(), other: other.place() });
        }
        self.direct.push(key.key());
        self.keys.push(Arc::new(key));
        Ok(())
    }

    /// Adds a key that somebody else holds.
    pub fn add_remote(&mut self, key: impl KeyEncryptionKey + 'static) {
        self.keys.push(Arc::new(key));
    }

    /// Unwraps a data key by whichever key wrapped it.
    async fn unwrap(&self, stored: StoredDataKey) -> Result<Unwrapped, DataKeyError> {
        let mut failed = None;
        for (at, kek) in self.keys.iter().enumerate().filter(|(_, kek)| kek.name() == stored.wrapping.kek) {
            let unwrapped = kek.unwrap_key(stored.id, &stored.wrapping).await;
            match unwrapped
                .map(|bytes| SecretKey::from_bytes(bytes.expose()).filter(|key| key.data_key_id() == stored.id))
            {
                Ok(Some(key)) => return Ok(Unwrapped { key: Arc::new(key), stored, by_active: at == 0 }),
                Ok(None) => {
                    let source = KekError::DoesNotOpen("it is another data key than its row says".to_owned());
                    failed.get_or_insert(DataKeyError::Kek { place: kek.place(), source });
                }
                Err(source) => {
                    failed.get_or_insert(DataKeyError::Kek { place: kek.place(), source });
                }
            }
        }
        let named = || self.keys.iter().map(|kek| format!("{} ({})", kek.name(), kek.place())).collect::<Vec<_>>();
        Err(failed.unwrap_or_else(|| DataKeyError::NotNamed { by: stored.wrapping.kek, named: named().join(" and ") }))
    }

    /// Wraps a data key by the active key, and sees that it unwraps.
    async fn wrap(&self, key: &SecretKey) -> Result<Wrapping, DataKeyError> {
        let Some(kek) = self.keys.first() else {
            return Err(DataKeyError::NotNamed { by: "none".to_owned(), named: "none".to_owned() });
        };
        let failed = |source| DataKeyError::Kek { place: kek.place(), source };
        let bytes = key.expose();
        let wrapping = kek.wrap_key(key.data_key_id(), &bytes).await.map_err(failed)?;
        let unwrapped = kek.unwrap_key(key.data_key_id(), &wrapping).await.map_err(failed)?;
        (unwrapped == bytes).then_some(wrapping).ok_or_else(|| failed(KekError::Failed))
    }
}

impl std::fmt::Debug for KeyEncryptionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| key.place())).finish()
    }
}

/// A data key, in memory.
struct Unwrapped {
    key: Arc<SecretKey>,
    stored: StoredDataKey,
    by_active: bool,
}

/// Data keys in memory, the newest first: that one seals.
pub struct DataKeys(Vec<Unwrapped>);

impl DataKeys {
    /// Unwraps the data keys of a store. None where it has none yet.
    ///
    /// # Errors
    /// [`DataKeyError`].
    pub async fn unwrap(stored: Vec<StoredDataKey>, keks: &KeyEncryptionKeys) -> Result<Option<Self>, DataKeyError> {
        let mut keys = Vec::with_capacity(stored.len());
        for stored in stored.into_iter().rev() {
            keys.push(keks.unwrap(stored).await?);
        }
        Ok((!keys.is_empty()).then_some(Self(keys)))
    }

    /// Has `sealer` seal under the newest, and open under all of them.
    pub fn hand_to(&self, sealer: &DataKeySealer, keks: &KeyEncryptionKeys) {
        sealer.hold(self.0.iter().map(|key| Arc::clone(&key.key)).chain(keks.direct.iter().cloned()).collect());
    }

    /// The newest in the wrapping that the active key-encryption key gives it now; none where that is the one it has.
    ///
    /// # Errors
    /// [`DataKeyError`].
    pub async fn wrapped_anew(&self, keks: &KeyEncryptionKeys) -> Result<Option<Wrapping>, DataKeyError> {
        let Some(Unwrapped { key, stored, by_active }) = self.0.first() else { return Ok(None) };
        let wrapping = keks.wrap(key).await?;
        let same = *by_active && wrapping.kek == stored.wrapping.kek && wrapping.version == stored.wrapping.version;
        Ok((!same).then_some(wrapping))
    }

    /// The id of the newest, and the wrapping that it was unwrapped from.
    #[must_use]
    pub fn newest(&self) -> Option<(DataKeyId, &Wrapping)> {
        self.0.first().map(|key| (key.key.data_key_id(), &key.stored.wrapping))
    }
}

impl std::fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.stored.id)).finish()
    }
}

/// Keeps the data key of a store.
pub struct DataKeyKeeper {
    store: Arc<dyn DataKeyRecord>,
    sealer: Arc<DataKeySealer>,
    clock: Arc<dyn Clock>,
    changing: Arc<Mutex<()>>,
}

/// What wrapping the data key anew came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrapped {
    /// Id of the data key.
    pub data_key: String,
    /// The key-encryption key that wraps it now.
    pub kek: String,
    /// Which version of it.
    pub version: String,
    /// Whether that is another wrapping than before.
    pub changed: bool,
    /// How many values were sealed anew.
    pub sealed_anew: u64,
}

impl DataKeyKeeper {
    /// Keeps what `sealer` seals under in `store`. Whoever holds `changing` changes keys, of whichever kind, alone.
    #[must_use]
    pub fn new(
        store: Arc<dyn DataKeyRecord>,
        sealer: Arc<DataKeySealer>,
        clock: Arc<dyn Clock>,
        changing: Arc<Mutex<()>>,
    ) -> Self {
        Self { store, sealer, clock, changing }
    }

    /// Has the sealer hold the data key of the store; makes one where there is none.
    ///
    /// # Errors
    /// [`DataKeyError`]; then the sealer is as it was.
    pub async fn unlock<K: KeyRecord + ?Sized>(
        &self,
        signing_keys: &K,
        keks: &KeyEncryptionKeys,
        entropy: &dyn Entropy,
    ) -> Result<(), DataKeyError> {
        let _changing = self.changing.lock().await;
        let stored = self.store.data_keys().await?;
        let keys = match DataKeys::unwrap(stored, keks).await? {
            Some(keys) => keys,
            None => self.first(signing_keys, keks, entropy).await?,
        };
        keys.hand_to(&self.sealer, keks);
        if let Some(key) = keys.0.first().filter(|key| !key.by_active) {
            tracing::warn!(
                wrapped_by = %key.stored.wrapping.kek,
                "the data key is wrapped by a retired key-encryption key: run `hallpass-broker keys rewrap`"
            );
        }
        Ok(())
    }

    /// Makes the first data key.
    async fn first<K: KeyRecord + ?Sized>(
        &self,
        signing_keys: &K,
        keks: &KeyEncryptionKeys,
        entropy: &dyn Entropy,
    ) -> Result<DataKeys, DataKeyError> {
        // A store of an earlier version is sealed under a key-encryption key directly. Under a wrong one nothing may be
        // made: the right one would then find a data key that it did not wrap.
        let direct = DataKeySealer::locked(Arc::new(super::SystemEntropy::new()));
        direct.hold(keks.direct.clone());
        for key in signing_keys.keys().await?.iter().filter(|key| !key.sealed_private_key.is_empty()) {
            let opened = direct.open(place(&key.id.to_string()), &key.sealed_private_key);
            opened.map_err(DataKeyError::SealedOtherwise)?;
        }
        let (key, now) = (SecretKey::generate(entropy)?, self.clock.now());
        let made =
            StoredDataKey { id: key.data_key_id(), wrapping: keks.wrap(&key).await?, created_at: now, wrapped_at: now };
        let entries = vec![entry_about(&made, now, Actor::Broker)];
        self.store.change_data_keys(DataKeyChange { put: Some(made), entries, ..DataKeyChange::default() }).await?;
        // Read again: another replica may have made one too, and all must choose alike.
        let stored = self.store.data_keys().await?;
        DataKeys::unwrap(stored, keks).await?.ok_or(DataKeyError::Gone)
    }

    /// Wraps the data key by the active key-encryption key of `keks`, and seals under it what is sealed otherwise. With
    /// `fresh`, a new data key takes its place: then nobody else may be using the store.
    ///
    /// # Errors
    /// [`DataKeyError`]; then nothing has changed.
    pub async fn rewrap(
        &self,
        keks: &KeyEncryptionKeys,
        fresh: Option<&dyn Entropy>,
        actor: Actor,
    ) -> Result<Rewrapped, DataKeyError> {
        let _changing = self.changing.lock().await;
        let keys = DataKeys::unwrap(self.store.data_keys().await?, keks).await?.ok_or(DataKeyError::Gone)?;
        let Some(entropy) = fresh else {
            let (newest, read) = keys.newest().ok_or(DataKeyError::Gone)?;
            return self.keep(newest, read, keys.wrapped_anew(keks).await?, actor).await;
        };
        let (key, now) = (Arc::new(SecretKey::generate(entropy)?), self.clock.now());
        let put =
            StoredDataKey { id: key.data_key_id(), wrapping: keks.wrap(&key).await?, created_at: now, wrapped_at: now };
        let before = keys.0.iter().map(|key| Arc::clone(&key.key)).chain(keks.direct.iter().cloned());
        self.sealer.hold(std::iter::once(key).chain(before).collect());
        let remove = keys.0.iter().map(|key| key.stored.id).collect();
        let changed = self.change(put, None, remove, actor).await;
        if changed.is_err() {
            keys.hand_to(&self.sealer, keks);
        }
        changed
    }

    /// Takes the data key that seals now, which was `read` in its wrapping, into another, which whoever asks has seen to
    /// unwrap; seals under it what is sealed otherwise.
    ///
    /// # Errors
    /// [`DataKeyError`]; then nothing has changed. [`DataKeyError::Gone`] when somebody wrapped it anew since it was read.
    pub async fn take_over(
        &self,
        id: DataKeyId,
        read: &Wrapping,
        wrapping: Option<Wrapping>,
        actor: Actor,
    ) -> Result<Rewrapped, DataKeyError> {
        let _changing = self.changing.lock().await;
        self.keep(id, read, wrapping, actor).await
    }

    async fn keep(
        &self,
        id: DataKeyId,
        read: &Wrapping,
        wrapping: Option<Wrapping>,
        actor: Actor,
    ) -> Result<Rewrapped, DataKeyError> {
        let mut stored = self.store.data_keys().await?;
        let is_it = |newest: &StoredDataKey| newest.id == id && newest.wrapping == *read;
        let newest = stored.pop().filter(|newest| is_it(newest) && self.sealer.seals_under(id));
        let mut newest = newest.ok_or(DataKeyError::Gone)?;
        if let Some(wrapping) = wrapping {
            newest = StoredDataKey { wrapping, wrapped_at: self.clock.now(), ..newest };
        }
        let remove = stored.into_iter().map(|other| other.id).collect();
        self.change(newest, Some(read), remove, actor).await
    }

    async fn change(
        &self,
        put: StoredDataKey,
        read: Option<&Wrapping>,
        remove: Vec<DataKeyId>,
        actor: Actor,
    ) -> Result<Rewrapped, DataKeyError> {
        let changed = read != Some(&put.wrapping);
        let otherwise = self.store.sealed_otherwise().await?;
        let Wrapping { kek, version, .. } = put.wrapping.clone();
        let mut rewrapped = Rewrapped { data_key: put.id.to_string(), kek, version, changed, sealed_anew: 0 };
        if !changed && otherwise == 0 && remove.is_empty() {
            return Ok(rewrapped);
        }
        let entry = entry_about(&put, self.clock.now(), actor).with("sealed_anew", &otherwise.to_string());
        let (put, in_place_of) = (Some(put), read.cloned());
        let change = DataKeyChange { put, in_place_of, remove, reseals: otherwise > 0, entries: vec![entry] };
        rewrapped.sealed_anew = self.store.change_data_keys(change).await?.ok_or(DataKeyError::Gone)?;
        metrics::counter!("hallpass_key_changes_total", "change" => "wrap", "purpose" => "data").increment(1);
        Ok(rewrapped)
    }
}

impl std::fmt::Debug for DataKeyKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKeyKeeper").field("sealer", &self.sealer).finish_non_exhaustive()
    }
}

fn entry_about(key: &StoredDataKey, now: Timestamp, actor: Actor) -> AuditEntry {
    AuditEntry::success(now, actor, AuditAction::KeyWrap, AuditObject::Key { id: key.id.to_string() })
        .with("purpose", "data")
        .with("wrapped_by", &key.wrapping.kek)
        .with("version", &key.wrapping.version)
}

/// The list names one key twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[keys]: {place} and {other} hold the same key: name it once")]
pub struct NamedTwice {
    /// Where it is.
    pub place: String,
    /// Where it is too.
    pub other: String,
}

/// The data key cannot be had, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum DataKeyError {
    /// The store failed.
    #[error("the data key cannot be read or kept")]
    Store(#[from] StoreError),
    /// None of the key-encryption keys that are named wrapped it.
    #[error(
        "the store's data key is wrapped by {by}, and [keys] names {named}: name the key that wrapped it too, as a \
         retired one, and run `hallpass-broker keys rewrap` to do without it"
    )]
    NotNamed {
        /// Name of the key that did.
        by: String,
        /// Those that are named.
        named: String,
    },
    /// The key-encryption key does not do it.
    #[error("the key-encryption key is {place}, and without it nothing that is sealed opens")]
    Kek {
        /// Where it is.
        place: String,
        /// Why not.
        #[source]
        source: KekError,
    },
    /// The values of a store of an earlier version do not open.
    #[error(
        "the store has signing keys that are sealed under another key than [keys] names: name the file that they were \
         sealed under in retired_key_encryption_key_files"
    )]
    SealedOtherwise(#[source] SealError),
    /// The data key was changed meanwhile.
    #[error("the store has another data key than a moment ago, or another wrapping of it: try again")]
    Gone,
    /// A key could not be made.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
}

#[cfg(test)]
mod tests;
