//! Changes of the signing keys: rotation, import, certification, distrust, removal. One at a time, each durable with its audit entry
//! before it takes effect, and in effect when it is answered.
//!
//! The one exception to that order is distrust: the ring lets go of the key *before* the store knows. What the store then
//! commits moves the epoch, so that whatever was being signed by the key meanwhile is decided and signed again.
//!
//! What the store keeps is what holds. Where an answer of its was lost, or whoever asked for a change did not see it
//! through, the next tick has the ring follow; until then a key whose distrust may have been kept counts as distrusted.

mod offline_root;

use std::sync::Arc;

use hallpass_core::audit::{Actor, AuditAction};
use hallpass_core::entropy::Entropy;
use hallpass_core::id::KeyId;
use hallpass_core::port::{
    Attests, EndsSigned, KeyChange, KeyPurpose, KeyRecord, NotAttested, Sealer, SignatureAlgorithm, StoreError,
    StoredKey, TokenSigners as _,
};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub use self::offline_root::{CertificateRequest, Certification, Judge, MakeRequest};
use super::keyring::{self, KeyRing, KeyRingError, entry_about, make, place};
use super::life::{self, Phase};
use super::own_token::VerificationKey;

/// The longest that a new key can be announced before it signs. Longer is a mistake in a unit.
const LONGEST_ANNOUNCEMENT: Ttl = Ttl::from_hours(24 * 90);

/// Keys of one kind that are kept at once. Each is published for a day after it stopped to sign: whoever rotates more
/// often than this allows is in a loop, and relying parties would have to read all of them.
const MOST_OF_A_KIND: usize = 24;

/// Longest reason in characters.
const MAX_REASON_CHARS: usize = 400;

/// Changes the keys of a ring.
pub struct KeyKeeper {
    ring: Arc<KeyRing>,
    store: Arc<dyn KeyRecord>,
    sealer: Arc<dyn Sealer>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    certification: Certification,
    announce: Ttl,
    ends: Arc<dyn EndsSigned>,
    attests: Arc<dyn Attests>,
    changing: Arc<Mutex<()>>,
}

/// What becomes of whom: a key as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// `kid`.
    pub key_id: String,
    /// What it signs.
    pub purpose: String,
    /// JOSE name of its algorithm.
    pub algorithm: String,
    /// `requested`, `announced`, `active`, `retired` or `distrusted`.
    pub phase: String,
    /// When it was made or imported.
    pub created_at: Timestamp,
    /// When it begins, or began, to sign. The end of time, while that is not known.
    pub signs_from: Timestamp,
    /// Until when it is published, where that is decided.
    pub published_until: Option<Timestamp>,
}

impl KeyView {
    fn of(key: &StoredKey, keys: &[StoredKey], now: Timestamp) -> Self {
        let phase = Phase::of(key, keys, now);
        let published_until = match phase {
            Phase::Retired { published_until } => Some(published_until),
            Phase::Distrusted { since } => Some(since),
            Phase::Requested | Phase::Announced { .. } | Phase::Active => None,
        };
        Self {
            key_id: key.key_id.clone(),
            purpose: key.purpose.clone(),
            algorithm: key.algorithm.clone(),
            phase: phase.as_str().to_owned(),
            created_at: key.created_at,
            signs_from: key.activates_at,
            published_until,
        }
    }
}

/// A rotation as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// What the new key signs.
    pub purpose: KeyPurpose,
    /// How; a key for each algorithm of the purpose that the broker makes keys for, when none is said.
    pub algorithm: Option<SignatureAlgorithm>,
    /// How long it is published before it signs; the configured time, when none is said.
    pub activate_after: Option<Ttl>,
}

/// A key that was made elsewhere, sealed already for its place.
#[derive(Clone, Debug)]
pub struct Import {
    /// The id that it was sealed for.
    pub id: KeyId,
    /// What it signs.
    pub purpose: KeyPurpose,
    /// How.
    pub algorithm: SignatureAlgorithm,
    /// PKCS #8, sealed.
    pub sealed_private_key: Vec<u8>,
    /// How long it is published before it signs. A key that takes nobody's place signs at once.
    pub activate_after: Option<Ttl>,
}

impl KeyKeeper {
    /// Changes the keys of `ring`, which are kept in `store`. A new key is published for `announce` before it signs; what
    /// a distrusted one signed is ended by `ends`, and before one of the audit log is, `attests` has another sign that.
    /// Whoever holds `changing` changes keys, of whichever kind, alone.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of its own, given once, where all is put together")]
    pub fn new(
        ring: Arc<KeyRing>,
        store: Arc<dyn KeyRecord>,
        sealer: Arc<dyn Sealer>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        certification: Certification,
        announce: Ttl,
        ends: Arc<dyn EndsSigned>,
        attests: Arc<dyn Attests>,
        changing: Arc<Mutex<()>>,
    ) -> Self {
        Self { ring, store, sealer, clock, entropy, certification, announce, ends, attests, changing }
    }

    /// Every key, in the order in which they begin to sign.
    ///
    /// # Errors
    /// [`KeyChangeError`].
    pub async fn list(&self) -> Result<Vec<KeyView>, KeyChangeError> {
        let (mut keys, now) = (self.stored().await?, self.clock.now());
        keys.sort_by(|a, b| {
            (&a.purpose, &a.algorithm)
                .cmp(&(&b.purpose, &b.algorithm))
                .then_with(|| life::order(a).cmp(&life::order(b)))
        });
        Ok(keys.iter().map(|key| KeyView::of(key, &keys, now)).collect())
    }

    /// Makes new keys, publishes them now, and has them sign after a while.
    ///
    /// # Errors
    /// [`KeyChangeError`]; then nothing has changed.
    pub async fn rotate(&self, rotation: Rotation, actor: Actor) -> Result<Vec<KeyView>, KeyChangeError> {
        let _changing = self.changing.lock().await;
        let Rotation { purpose, algorithm, activate_after } = rotation;
        let made_here: &[SignatureAlgorithm] = match purpose {
            KeyPurpose::Token => &[SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa],
            KeyPurpose::Ca => &[SignatureAlgorithm::Es256],
            KeyPurpose::Audit => &[SignatureAlgorithm::EdDsa],
        };
        let algorithms: Vec<_> =
            made_here.iter().filter(|made| algorithm.is_none_or(|asked| asked == **made)).collect();
        if algorithms.is_empty() {
            return Err(KeyChangeError::NotMadeHere { purpose });
        }
        let (stored, now) = (self.stored().await?, self.clock.now());
        let activates_at = self.activation(now, activate_after.unwrap_or(self.announce))?;
        let mut change = KeyChange::default();
        for algorithm in algorithms {
            make_room(&stored, purpose, *algorithm, now)?;
            let key = self.make(purpose, *algorithm, activates_at)?;
            change.entries.push(entry_about(&key, now, actor.clone(), AuditAction::KeyRotate));
            change.put.push(key);
        }
        let made: Vec<_> = change.put.iter().map(|key| key.key_id.clone()).collect();
        self.store.change_keys(change).await?;
        count("rotate", purpose.as_str());
        self.in_effect(&made).await
    }

    /// Takes in a key that was made elsewhere.
    ///
    /// # Errors
    /// [`KeyChangeError`]; then nothing has changed.
    pub async fn import(&self, import: Import, actor: Actor) -> Result<KeyView, KeyChangeError> {
        let _changing = self.changing.lock().await;
        let Import { id, purpose, algorithm, sealed_private_key, activate_after } = import;
        if (purpose, algorithm) != (KeyPurpose::Token, SignatureAlgorithm::Rs256) {
            return Err(KeyChangeError::NotImported);
        }
        let (stored, now) = (self.stored().await?, self.clock.now());
        make_room(&stored, purpose, algorithm, now)?;
        let first = !stored.iter().any(|key| {
            life::is_of_kind(key, purpose.as_str(), algorithm.as_str())
                && matches!(Phase::of(key, &stored, now), Phase::Active)
        });
        let announce = activate_after.unwrap_or(if first { Ttl::ZERO } else { self.announce });
        let activates_at = self.activation(now, announce)?;
        let opened = self.sealer.open(place(&id.to_string()), &sealed_private_key).map_err(KeyRingError::from)?;
        let signer = super::LocalSigner::from_pkcs8(algorithm, opened.expose());
        let signer = signer.map_err(|_| KeyChangeError::Unusable)?;
        if !VerificationKey::of(&signer).1.verifies_what_it_signs(&signer) {
            return Err(KeyChangeError::Unusable);
        }
        let key = keyring::describe(
            id,
            purpose,
            Arc::new(signer),
            sealed_private_key,
            activates_at,
            now,
            &*self.certification.own_root,
        )?;
        if stored.iter().any(|known| known.id == key.id || known.key_id == key.key_id) {
            return Err(KeyChangeError::Known { key_id: key.key_id });
        }
        let entries = vec![entry_about(&key, now, actor, AuditAction::KeyImport)];
        let made = [key.key_id.clone()];
        self.store.change_keys(KeyChange { put: vec![key], entries, ..KeyChange::default() }).await?;
        count("import", purpose.as_str());
        self.in_effect(&made).await?.pop().ok_or(KeyChangeError::Unusable)
    }

    /// Has nothing that this key signed count any longer, now. Where it is the one that signs, another does in its place:
    /// one that was announced, or a new one. An imported key has no such other.
    ///
    /// # Errors
    /// [`KeyChangeError`]; then the key signs and verifies as before, but with [`KeyChangeError::Unconfirmed`], when the
    /// store did not say, and it counts for nothing until it does, and with [`KeyChangeError::NotEnded`], when it is
    /// distrusted. A key that was begun to take over stays.
    pub async fn distrust(&self, key_id: &str, reason: &str, actor: Actor) -> Result<Vec<KeyView>, KeyChangeError> {
        let _changing = self.changing.lock().await;
        if reason.trim().is_empty() || reason.chars().count() > MAX_REASON_CHARS || reason.chars().any(char::is_control)
        {
            return Err(KeyChangeError::Reason);
        }
        let (mut stored, now) = (self.stored().await?, self.clock.now());
        let unknown = || KeyChangeError::Unknown { key_id: key_id.chars().take(64).collect() };
        let key = stored.iter().find(|key| key.key_id == key_id).ok_or_else(unknown)?.clone();
        if key.distrusted_at.is_some() {
            return Err(KeyChangeError::Distrusted);
        }
        // The key that takes over is durable before it signs anything.
        if matches!(Phase::of(&key, &stored, now), Phase::Active)
            && let Some(change) = self.replacement(&key, &stored, now, actor.clone())?
        {
            self.store.change_keys(change).await?;
            stored = self.stored().await?;
        }
        let distrusted = StoredKey { distrusted_at: Some(now), sealed_private_key: Vec::new(), ..key.clone() };
        let mut after = stored.clone();
        after.iter_mut().filter(|other| other.id == key.id).for_each(|other| other.clone_from(&distrusted));
        self.ring.replace(&after, self.sealer.as_ref())?;
        // The next start believes the log by what was signed last: that must be by a key that counts then.
        if key.purpose == KeyPurpose::Audit.as_str()
            && let Err(error) = self.attests.attest().await
        {
            self.ring.replace(&stored, self.sealer.as_ref())?;
            return Err(error.into());
        }
        let entry = entry_about(&distrusted, now, actor, AuditAction::KeyDistrust).for_reason("key_distrusted");
        let entries = vec![entry.with("reason", reason)];
        let change = KeyChange { put: vec![distrusted], entries, moves_epoch: true, ..KeyChange::default() };
        fail::fail_point!("keys::before-distrust");
        if let Err(error) = self.store.change_keys(change).await {
            // It may be kept all the same. Until the store says that it is not, nothing that the key signed counts here.
            let Ok(kept) = self.stored().await else { return Err(KeyChangeError::Unconfirmed(error)) };
            if !kept.iter().any(|other| other.id == key.id && other.distrusted_at.is_some()) {
                self.ring.replace(&kept, self.sealer.as_ref())?;
                return Err(error.into());
            }
        }
        fail::fail_point!("keys::after-distrust");
        count("distrust", &key.purpose);
        if SignatureAlgorithm::parse(&key.algorithm).is_some_and(|algorithm| self.ring.awaits(algorithm)) {
            let algorithm = &key.algorithm;
            tracing::warn!(algorithm, "no key signs such tokens any more, until one is imported; they are refused");
        }
        // Should this fail, the next tick does it: the key itself is done with.
        self.end_signed_by(&key).await?;
        let of_kind: Vec<_> = after
            .iter()
            .filter(|other| life::is_of_kind(other, &key.purpose, &key.algorithm))
            .map(|other| other.key_id.clone())
            .collect();
        self.in_effect(&of_kind).await
    }

    /// Catches up, and removes keys that nobody need know any longer. Answers how many. What cannot be done for one key
    /// keeps nothing from being done for the others.
    ///
    /// # Errors
    /// [`KeyChangeError`], the first of them.
    pub async fn tick(&self) -> Result<usize, KeyChangeError> {
        let _changing = self.changing.lock().await;
        let (stored, now) = (self.stored().await?, self.clock.now());
        let caught_up = self.follow(&stored, |key| !life::is_over(key, &stored, now)).await;
        let removed = self.remove_what_is_over(&stored, now).await?;
        caught_up.map(|()| removed)
    }

    /// Has the ring follow what the store keeps, and ends what distrusted keys signed, where a crash or a lost answer came
    /// in between. Of every one of them: by a clock that may be wrong, none of what they signed is over.
    ///
    /// # Errors
    /// [`KeyChangeError`], the first of them.
    pub async fn catch_up(&self) -> Result<(), KeyChangeError> {
        let _changing = self.changing.lock().await;
        self.follow(&self.stored().await?, |_| true).await
    }

    async fn follow(
        &self,
        stored: &[StoredKey],
        may_have_signed: impl Fn(&StoredKey) -> bool,
    ) -> Result<(), KeyChangeError> {
        let mut followed = Ok(());
        if !self.ring.agrees_with(stored) {
            tracing::warn!("the signing keys in use are not those that the store keeps; they are taken over");
            followed = self.ring.replace(stored, self.sealer.as_ref()).map_err(KeyChangeError::from);
        }
        for key in stored.iter().filter(|key| key.distrusted_at.is_some() && may_have_signed(key)) {
            followed = followed.and(self.end_signed_by(key).await);
        }
        followed
    }

    async fn remove_what_is_over(&self, stored: &[StoredKey], now: Timestamp) -> Result<usize, KeyChangeError> {
        let over = stored.iter().filter(|key| !life::is_kept_for_good(key) && life::is_over(key, stored, now));
        let over: Vec<_> = over.collect();
        if over.is_empty() {
            return Ok(0);
        }
        let entries = over.iter().map(|key| entry_about(key, now, Actor::Broker, AuditAction::KeyRemove)).collect();
        let remove: Vec<_> = over.iter().map(|key| key.id).collect();
        let removed = remove.len();
        self.store.change_keys(KeyChange { remove, entries, ..KeyChange::default() }).await?;
        self.ring.replace(&self.stored().await?, self.sealer.as_ref())?;
        Ok(removed)
    }

    /// Ends every grant whose credential `key` signed.
    async fn end_signed_by(&self, key: &StoredKey) -> Result<(), KeyChangeError> {
        if key.purpose == KeyPurpose::Audit.as_str() {
            // It signs what the log comes to, and no credential.
            return Ok(());
        }
        self.ends.end_signed_by(&key.key_id).await.map_err(|error| KeyChangeError::NotEnded(error.to_string()))
    }

    /// What takes over from `key` at once: the announced key of its kind, begun early, or a new one.
    fn replacement(
        &self,
        key: &StoredKey,
        stored: &[StoredKey],
        now: Timestamp,
        actor: Actor,
    ) -> Result<Option<KeyChange>, KeyChangeError> {
        let announced = stored.iter().find(|other| {
            life::is_of_kind(other, &key.purpose, &key.algorithm)
                && matches!(Phase::of(other, stored, now), Phase::Announced { .. })
        });
        let next = match (announced, KeyPurpose::parse(&key.purpose), SignatureAlgorithm::parse(&key.algorithm)) {
            (Some(announced), _, _) => StoredKey { activates_at: now, ..announced.clone() },
            // Made elsewhere: whoever made it makes another.
            (None, _, Some(SignatureAlgorithm::Rs256)) => return Ok(None),
            (None, Some(purpose), Some(algorithm)) => self.make(purpose, algorithm, now)?,
            (None, _, _) => return Ok(None),
        };
        let entry = entry_about(&next, now, actor, AuditAction::KeyRotate).for_reason("key_distrusted");
        Ok(Some(KeyChange {
            put: vec![next],
            entries: vec![entry.with("in_place_of", &key.key_id)],
            ..KeyChange::default()
        }))
    }

    fn make(
        &self,
        purpose: KeyPurpose,
        algorithm: SignatureAlgorithm,
        activates_at: Timestamp,
    ) -> Result<StoredKey, KeyChangeError> {
        let (sealer, clock, entropy) = (self.sealer.as_ref(), self.clock.as_ref(), self.entropy.as_ref());
        Ok(make(purpose, algorithm, activates_at, sealer, clock, entropy, &*self.certification.own_root)?)
    }

    fn activation(&self, now: Timestamp, announce: Ttl) -> Result<Timestamp, KeyChangeError> {
        if announce > LONGEST_ANNOUNCEMENT {
            return Err(KeyChangeError::TooFarAhead { longest: LONGEST_ANNOUNCEMENT });
        }
        Ok(now.plus(announce))
    }

    /// The ring as the store now says, and the named keys as they are in it.
    async fn in_effect(&self, key_ids: &[String]) -> Result<Vec<KeyView>, KeyChangeError> {
        let (stored, now) = (self.stored().await?, self.clock.now());
        self.ring.replace(&stored, self.sealer.as_ref())?;
        let named = stored.iter().filter(|key| key_ids.contains(&key.key_id));
        Ok(named.map(|key| KeyView::of(key, &stored, now)).collect())
    }

    async fn stored(&self) -> Result<Vec<StoredKey>, KeyChangeError> {
        let mut keys = self.store.keys().await?;
        // A store of an earlier version does not say by which names the world knows its keys.
        for key in keys.iter_mut().filter(|key| key.key_id.is_empty()) {
            use hallpass_core::port::Signer as _;
            key.key_id = keyring::unseal(key, self.sealer.as_ref())?.key_id().to_owned();
        }
        Ok(keys)
    }
}

impl std::fmt::Debug for KeyKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyKeeper").field("ring", &self.ring).field("announce", &self.announce).finish_non_exhaustive()
    }
}

/// Whether a further key of this kind can be announced.
fn make_room(
    stored: &[StoredKey],
    purpose: KeyPurpose,
    algorithm: SignatureAlgorithm,
    now: Timestamp,
) -> Result<(), KeyChangeError> {
    let of_kind = stored.iter().filter(|key| life::is_of_kind(key, purpose.as_str(), algorithm.as_str()));
    for key in of_kind {
        if let Phase::Announced { signs_from } = Phase::of(key, stored, now) {
            return Err(KeyChangeError::Announced { key_id: key.key_id.clone(), signs_from });
        }
    }
    bounded(stored, purpose, algorithm, now)
}

/// Whether there may be a further key of this kind.
fn bounded(
    stored: &[StoredKey],
    purpose: KeyPurpose,
    algorithm: SignatureAlgorithm,
    now: Timestamp,
) -> Result<(), KeyChangeError> {
    let of_kind = stored.iter().filter(|key| life::is_of_kind(key, purpose.as_str(), algorithm.as_str()));
    // What was distrusted and is kept only to be known again is not published, and takes nobody's place.
    let published = of_kind.filter(|key| key.distrusted_at.is_none() || !life::is_over(key, stored, now));
    if published.count() >= MOST_OF_A_KIND {
        return Err(KeyChangeError::TooMany { most: MOST_OF_A_KIND });
    }
    Ok(())
}

fn count(change: &'static str, purpose: &str) {
    metrics::counter!("hallpass_key_changes_total", "change" => change, "purpose" => purpose.to_owned()).increment(1);
}

/// The keys could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyChangeError {
    /// The store failed.
    #[error("the change cannot be kept: {0}")]
    Store(#[from] StoreError),
    /// A key could not be made, opened or put to use.
    #[error("{0}")]
    Ring(#[from] KeyRingError),
    /// No key has this id.
    #[error("there is no key {key_id:?}; `keys list` names those that there are")]
    Unknown {
        /// What was asked for.
        key_id: String,
    },
    /// It is distrusted already.
    #[error("that key is distrusted already")]
    Distrusted,
    /// A key of this kind is waiting to sign.
    #[error("key {key_id} is announced and signs from {signs_from}; wait until then, or distrust it")]
    Announced {
        /// Which.
        key_id: String,
        /// From when.
        signs_from: Timestamp,
    },
    /// Too many keys of this kind are published.
    #[error("{most} keys of this kind are still published; rotate again when the oldest is removed")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// Keys of this algorithm do not come from here.
    #[error("the broker makes no such key for {purpose}; an RS256 key is imported with `keys import`", purpose = purpose.as_str())]
    NotMadeHere {
        /// For what.
        purpose: KeyPurpose,
    },
    /// Keys of this kind are made here.
    #[error("only RS256 keys for tokens are imported; others are made by `keys rotate`")]
    NotImported,
    /// What was imported does not sign.
    #[error("this is not an RSA key in PKCS #8 of 2048 to 4096 bits that the broker can sign with")]
    Unusable,
    /// A key that signs something else, or is distrusted, has no certificate.
    #[error("only a key of the authority that is not distrusted is certified by an offline root")]
    NoAuthority,
    /// The certificates cannot be used.
    #[error("what the offline root certified cannot be used: {0}")]
    Certificates(String),
    /// The certificates are of a key that is not here, or no longer signs.
    #[error(
        "the first certificate is of no key of the authority that signs, or will; have what `keys csr` prints signed"
    )]
    NotOurs,
    /// There is nothing to announce.
    #[error("key {key_id} is here for longer than this certificate, which counts at once: leave --activate-after away")]
    SignsAlready {
        /// Which.
        key_id: String,
    },
    /// It is here.
    #[error("key {key_id} is here, or was distrusted here, already")]
    Known {
        /// Which.
        key_id: String,
    },
    /// The key would not sign for too long.
    #[error("a key is announced {longest} ahead at most")]
    TooFarAhead {
        /// How long it can be.
        longest: Ttl,
    },
    /// The key is done with, and what it signed is not ended yet.
    #[error("the key is distrusted, and what it signed is not ended yet: {0}; the broker tries again by itself")]
    NotEnded(String),
    /// The key that takes over could not sign what the audit log comes to.
    #[error(
        "the key still counts, because the one that takes over could not sign the audit log's newest checkpoint: {0}"
    )]
    NotAttested(#[from] NotAttested),
    /// The store did not say whether the distrust is kept.
    #[error(
        "the store failed, and did not say whether the change is kept: {0}; until it does, the key counts for nothing"
    )]
    Unconfirmed(StoreError),
    /// The reason says nothing, or too much.
    #[error("say why, in one line of at most {MAX_REASON_CHARS} characters")]
    Reason,
}

#[cfg(test)]
mod tests;
