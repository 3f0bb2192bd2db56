//! The broker's signing keys in use: loaded from the store, and changed while the broker runs.
//!
//! What a key is for at an instant follows from when it begins to sign (`life`): a key that was announced signs from its
//! time on without anything having to happen. What changes the keys themselves (`keeper`) puts a whole new ring in the
//! place of the old one; whoever signs or verifies asks the ring each time.
//!
//! A key that does not open stops the broker: to make a new one instead would silently change what relying parties have
//! to trust.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::entropy::{Entropy, EntropyUnavailable, fresh_id};
use hallpass_core::id::KeyId;
use hallpass_core::port::{
    AuditKeys, AuthorityKey, AuthorityKeys, DistrustedAuthority, KeyChange, KeyPurpose, KeyRecord, Place, SealError,
    Sealer, SignatureAlgorithm, Signer, SigningFailed, StoreError, StoredKey, TokenSigners,
};
use hallpass_core::time::{Clock, Timestamp};

use super::jwks::{Jwk, JwkSet};
use super::life::{self, OVERLAP, stops_at};
use super::own_token::{OwnTokens, VerificationKey};
use super::signer::{KeyRejected, LocalSigner};

/// What is made at first start.
const WANTED: [(KeyPurpose, SignatureAlgorithm); 4] = [
    (KeyPurpose::Token, SignatureAlgorithm::Es256),
    (KeyPurpose::Token, SignatureAlgorithm::EdDsa),
    (KeyPurpose::Ca, SignatureAlgorithm::Es256),
    (KeyPurpose::Audit, SignatureAlgorithm::EdDsa),
];

/// Makes the self-signed certificate of a new authority key, in PEM. The key ring keeps the certificate beside the key
/// and knows nothing of X.509 itself.
pub type Certify = dyn Fn(&Arc<dyn Signer>, Timestamp) -> Result<String, CertificationFailed> + Send + Sync;

/// The certificate of a new authority key could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate of the new authority could not be made: {0}")]
pub struct CertificationFailed(pub String);

/// The broker's signing keys, ready to sign.
pub struct KeyRing {
    clock: Arc<dyn Clock>,
    held: ArcSwap<Held>,
    /// The public halves, for those who read back what was signed.
    verifying: Arc<ArcSwap<BTreeMap<String, VerificationKey>>>,
}

/// The keys between two changes.
#[derive(Debug)]
struct Held {
    generation: u64,
    /// In the order in which they begin to sign. None is distrusted.
    keys: Vec<RingKey>,
    /// What distrusted tokens' keys signed with.
    distrusted: Vec<SignatureAlgorithm>,
    /// The distrusted keys of the authority.
    distrusted_authorities: Vec<DistrustedAuthority>,
}

/// A key that signs, will, or did until lately.
#[derive(Debug)]
struct RingKey {
    purpose: KeyPurpose,
    signer: Arc<LocalSigner>,
    public: String,
    activates_at: Timestamp,
    stops_at: Option<Timestamp>,
}

impl RingKey {
    fn signs_at(&self, now: Timestamp) -> bool {
        self.activates_at <= now && self.stops_at.is_none_or(|at| now < at)
    }

    /// Whether what it signed, or will sign soon, is to be believed.
    fn is_published_at(&self, now: Timestamp) -> bool {
        self.stops_at.is_none_or(|at| now < at.plus(OVERLAP))
    }
}

impl KeyRing {
    /// Loads the keys, and makes those that are missing.
    ///
    /// # Errors
    /// [`KeyRingError`]; then no key can be used.
    pub async fn open<S: KeyRecord + ?Sized>(
        store: &S,
        sealer: &dyn Sealer,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        certify: &Certify,
    ) -> Result<Self, KeyRingError> {
        let now = clock.now();
        let mut stored = store.keys().await?;
        let mut change = KeyChange::default();
        for (purpose, algorithm) in WANTED {
            let signs = |key: &&StoredKey| {
                life::is_of_kind(key, purpose.as_str(), algorithm.as_str())
                    && key.distrusted_at.is_none()
                    && !life::is_requested(key)
                    && stops_at(key, &stored).is_none_or(|at| now < at)
            };
            if !stored.iter().any(|key| signs(&key)) {
                let made = make(purpose, algorithm, now, sealer, clock.as_ref(), entropy, certify)?;
                change.entries.push(entry_about(&made, now, Actor::Broker, AuditAction::KeyCreate));
                change.put.push(made);
            }
        }
        if !change.put.is_empty() {
            store.change_keys(change).await?;
            // Read again: another replica may have made the same keys, and all must choose alike.
            stored = store.keys().await?;
        }
        let ring = Self { clock, held: ArcSwap::from_pointee(Held::none()), verifying: Arc::default() };
        ring.replace(&stored, sealer)?;
        for (purpose, algorithm) in WANTED {
            ring.signing(purpose, algorithm).ok_or(KeyRingError::NoKey(purpose.as_str()))?;
        }
        Ok(ring)
    }

    /// Puts these keys in the place of those that are held; all of them, or none.
    pub(super) fn replace(&self, stored: &[StoredKey], sealer: &dyn Sealer) -> Result<(), KeyRingError> {
        let held = self.held.load_full();
        let mut keys = Vec::with_capacity(stored.len());
        for (purpose, key) in in_use(stored) {
            let known = held.keys.iter().find(|known| known.signer.key_id() == key.key_id);
            let signer = match known {
                Some(known) => Arc::clone(&known.signer),
                None => unseal(key, sealer)?,
            };
            keys.push(RingKey {
                purpose,
                signer,
                public: key.public.clone(),
                activates_at: key.activates_at,
                stops_at: stops_at(key, stored),
            });
        }
        let tokens = keys.iter().filter(|key| key.purpose == KeyPurpose::Token);
        let verifying = tokens.map(|key| VerificationKey::of(&*key.signer)).collect();
        self.verifying.store(Arc::new(verifying));
        let distrusted = |purpose: KeyPurpose| {
            let of_purpose = move |key: &&StoredKey| key.distrusted_at.is_some() && key.purpose == purpose.as_str();
            stored.iter().filter(of_purpose)
        };
        self.held.store(Arc::new(Held {
            generation: held.generation.saturating_add(1),
            keys,
            distrusted: distrusted(KeyPurpose::Token)
                .filter_map(|key| SignatureAlgorithm::parse(&key.algorithm))
                .collect(),
            distrusted_authorities: distrusted(KeyPurpose::Ca).map(distrusted_authority).collect(),
        }));
        Ok(())
    }

    /// Whether it holds what these keys make.
    pub(super) fn agrees_with(&self, stored: &[StoredKey]) -> bool {
        let held = self.held.load();
        let expected = in_use(stored);
        held.keys.len() == expected.len()
            && held.keys.iter().zip(expected).all(|(held, (purpose, key))| {
                (held.purpose, held.signer.key_id()) == (purpose, key.key_id.as_str())
                    && (held.activates_at, held.stops_at) == (key.activates_at, stops_at(key, stored))
                    && held.public == key.public
            })
    }

    /// The key that signs now for this purpose with this algorithm.
    #[must_use]
    pub fn signing(&self, purpose: KeyPurpose, algorithm: SignatureAlgorithm) -> Option<Arc<dyn Signer>> {
        let (held, now) = (self.held.load(), self.clock.now());
        let of_kind = |key: &&RingKey| key.purpose == purpose && key.signer.algorithm() == algorithm;
        let key = held.keys.iter().filter(of_kind).rfind(|key| key.signs_at(now))?;
        Some(Arc::clone(&key.signer) as Arc<dyn Signer>)
    }

    /// Algorithms that tokens can be signed with now.
    #[must_use]
    pub fn token_algorithms(&self) -> Vec<SignatureAlgorithm> {
        let signs = |algorithm: &SignatureAlgorithm| self.signing(KeyPurpose::Token, *algorithm).is_some();
        SignatureAlgorithm::ALL.into_iter().filter(signs).collect()
    }

    /// Public keys that verify the broker's live tokens, as a JWK set (RFC 7517 §5) in JSON: signing keys, keys that
    /// will sign soon, and retired ones whose tokens may still be alive.
    #[must_use]
    pub fn jwks(&self) -> String {
        let (held, now) = (self.held.load(), self.clock.now());
        let tokens = held.keys.iter().filter(|key| key.purpose == KeyPurpose::Token && key.is_published_at(now));
        let keys = tokens.filter_map(|key| Jwk::of_signer(&*key.signer)).collect();
        serde_json::to_string(&JwkSet { keys }).unwrap_or_default()
    }

    /// Reads back the tokens that this broker minted under `public_url`, by the keys that the ring holds at the time.
    #[must_use]
    pub fn own_tokens(&self, public_url: &str) -> OwnTokens {
        OwnTokens::by(public_url, Arc::clone(&self.verifying))
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("held", &self.held.load()).finish_non_exhaustive()
    }
}

impl TokenSigners for KeyRing {
    fn signer(&self, algorithm: SignatureAlgorithm) -> Option<Arc<dyn Signer>> {
        self.signing(KeyPurpose::Token, algorithm)
    }

    fn awaits(&self, algorithm: SignatureAlgorithm) -> bool {
        self.held.load().distrusted.contains(&algorithm) && self.signer(algorithm).is_none()
    }
}

impl AuditKeys for KeyRing {
    fn audit_signers(&self) -> Vec<Arc<dyn Signer>> {
        let (held, now) = (self.held.load(), self.clock.now());
        let begun = held.keys.iter().filter(|key| key.purpose == KeyPurpose::Audit && key.activates_at <= now).rev();
        begun.map(|key| Arc::clone(&key.signer) as Arc<dyn Signer>).collect()
    }
}

impl AuthorityKeys for KeyRing {
    fn generation(&self) -> u64 {
        self.held.load().generation
    }

    fn authority_keys(&self) -> Vec<AuthorityKey> {
        let (held, now) = (self.held.load(), self.clock.now());
        let authorities = held.keys.iter().filter(|key| key.purpose == KeyPurpose::Ca && key.is_published_at(now));
        let key = |key: &RingKey| AuthorityKey {
            signer: Arc::clone(&key.signer) as Arc<dyn Signer>,
            certificates: key.public.clone(),
            activates_at: key.activates_at,
        };
        authorities.map(key).collect()
    }

    fn distrusted_authorities(&self) -> Vec<DistrustedAuthority> {
        self.held.load().distrusted_authorities.clone()
    }
}

impl Held {
    const fn none() -> Self {
        Self { generation: 0, keys: Vec::new(), distrusted: Vec::new(), distrusted_authorities: Vec::new() }
    }
}

fn distrusted_authority(key: &StoredKey) -> DistrustedAuthority {
    let had_begun = key.distrusted_at.is_some_and(|at| key.activates_at <= at);
    DistrustedAuthority { certificates: key.public.clone(), signed_from: had_begun.then_some(key.activates_at) }
}

/// Those of `stored` that are neither distrusted nor yet to be certified, in the order in which they begin to sign. Keys
/// of purposes that this version does not know are another's to use.
fn in_use(stored: &[StoredKey]) -> Vec<(KeyPurpose, &StoredKey)> {
    let trusted = stored.iter().filter(|key| key.distrusted_at.is_none() && !life::is_requested(key));
    let mut keys: Vec<_> = trusted.filter_map(|key| Some((KeyPurpose::parse(&key.purpose)?, key))).collect();
    keys.sort_by_key(|(_, key)| life::order(key));
    keys
}

/// Makes a key that begins to sign at `activates_at`, sealed for its place.
pub(super) fn make(
    purpose: KeyPurpose,
    algorithm: SignatureAlgorithm,
    activates_at: Timestamp,
    sealer: &dyn Sealer,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    certify: &Certify,
) -> Result<StoredKey, KeyRingError> {
    let id: KeyId = fresh_id(clock, entropy)?;
    let private_key = LocalSigner::generate(algorithm)?;
    let sealed_private_key = sealer.seal(place(&id.to_string()), &private_key)?;
    let signer = LocalSigner::from_pkcs8(algorithm, &private_key);
    let signer = signer.map_err(|_| KeyRingError::Rejected { id: id.to_string() })?;
    describe(id, purpose, Arc::new(signer), sealed_private_key, activates_at, clock.now(), certify)
}

/// The row of a key whose private part is sealed already.
pub(super) fn describe(
    id: KeyId,
    purpose: KeyPurpose,
    signer: Arc<dyn Signer>,
    sealed_private_key: Vec<u8>,
    activates_at: Timestamp,
    now: Timestamp,
    certify: &Certify,
) -> Result<StoredKey, KeyRingError> {
    let public = match purpose {
        KeyPurpose::Token | KeyPurpose::Audit => Jwk::of_signer(&*signer)
            .and_then(|jwk| serde_json::to_string(&jwk).ok())
            .ok_or(KeyRingError::Rejected { id: id.to_string() })?,
        KeyPurpose::Ca => certify(&signer, now)?,
    };
    Ok(StoredKey {
        id,
        key_id: signer.key_id().to_owned(),
        purpose: purpose.as_str().to_owned(),
        algorithm: signer.algorithm().as_str().to_owned(),
        sealed_private_key,
        public,
        created_at: now,
        activates_at,
        retires_at: None,
        distrusted_at: None,
    })
}

/// Seals a private key that was made elsewhere, PKCS #8, for its place as the key `id`.
///
/// # Errors
/// [`SealError`].
pub fn seal_for_import(id: KeyId, private_key: &[u8], sealer: &dyn Sealer) -> Result<Vec<u8>, SealError> {
    sealer.seal(place(&id.to_string()), private_key)
}

/// What tells of a change of `key`.
pub(super) fn entry_about(key: &StoredKey, now: Timestamp, actor: Actor, action: AuditAction) -> AuditEntry {
    let entry = AuditEntry::success(now, actor, action, AuditObject::Key { id: key.id.to_string() })
        .with("purpose", &key.purpose)
        .with("algorithm", &key.algorithm)
        .with("kid", &key.key_id);
    if life::is_requested(key) { entry } else { entry.with("signs_from", &key.activates_at.to_rfc3339()) }
}

/// Opens a key for use.
pub(super) fn unseal(key: &StoredKey, sealer: &dyn Sealer) -> Result<Arc<LocalSigner>, KeyRingError> {
    let row = key.id.to_string();
    let rejected = || KeyRingError::Rejected { id: row.clone() };
    let algorithm = SignatureAlgorithm::parse(&key.algorithm).ok_or_else(rejected)?;
    let private_key = sealer.open(place(&row), &key.sealed_private_key)?;
    LocalSigner::from_pkcs8(algorithm, private_key.expose()).map(Arc::new).map_err(|KeyRejected| rejected())
}

/// Where the private part of a key is kept.
pub(super) fn place(row: &str) -> Place<'_> {
    Place { table: "signing_keys", row, column: "private_key" }
}

/// The signing keys cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// The store failed.
    #[error("the signing keys cannot be read or kept")]
    Store(#[from] StoreError),
    /// A private key does not open, or could not be sealed.
    #[error("a signing key cannot be sealed or opened")]
    Sealed(#[from] SealError),
    /// A stored key is not what its row says.
    #[error("signing key {id} is malformed or of another algorithm than its row says")]
    Rejected {
        /// The key's id.
        id: String,
    },
    /// The list has no key for this.
    #[error("there is no signing key for {0}")]
    NoKey(&'static str),
    /// A key could not be made.
    #[error(transparent)]
    Entropy(#[from] EntropyUnavailable),
    /// A key could not be made.
    #[error(transparent)]
    Signing(#[from] SigningFailed),
    /// A key's certificate could not be made.
    #[error(transparent)]
    Certification(#[from] CertificationFailed),
}

#[cfg(test)]
mod tests;
