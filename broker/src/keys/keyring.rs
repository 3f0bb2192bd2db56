//! The broker's signing keys: loaded from the store, made where they are missing.
//!
//! Two token keys (ES256 and EdDSA), the certificate authority's key, and the audit log's. Each is made once, kept sealed for its place
//! in the store, and told of in the audit log. A key that does not open stops the broker: to make a new one instead
//! would silently change what relying parties have to trust.

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::entropy::{Entropy, EntropyUnavailable, fresh_id};
use hallpass_core::id::KeyId;
use hallpass_core::port::{
    Place, SealError, Sealer, SignatureAlgorithm, Signer, SigningFailed, Store, StoreError, StoredKey, TokenSigners,
};
use hallpass_core::time::{Clock, Timestamp, Ttl};

use super::jwks::{Jwk, JwkSet};
use super::own_token::OwnTokens;
use super::signer::{KeyRejected, LocalSigner};

/// How long a further key is published before it signs: longer than relying parties keep a key set, or those that
/// still hold the old set would refuse tokens of the new key.
const PUBLISH_AHEAD: Ttl = Ttl::from_hours(1);

/// How long a retired key stays published: as long as the longest-lived token that it signed.
const PUBLISH_BEHIND: Ttl = Ttl::from_hours(24);

/// What is made at first start.
const WANTED: [(Purpose, SignatureAlgorithm); 4] = [
    (Purpose::Token, SignatureAlgorithm::Es256),
    (Purpose::Token, SignatureAlgorithm::EdDsa),
    (Purpose::Ca, SignatureAlgorithm::Es256),
    (Purpose::Audit, SignatureAlgorithm::EdDsa),
];

/// The part of the store that keeps signing keys. Every [`Store`] is one.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// As [`Store::keys`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// As [`Store::put_key`].
    ///
    /// # Errors
    /// [`StoreError`].
    async fn put_key(&self, key: StoredKey, entry: AuditEntry) -> Result<(), StoreError>;
}

#[async_trait]
impl<S: Store + ?Sized> KeyStore for S {
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        Store::keys(self).await
    }

    async fn put_key(&self, key: StoredKey, entry: AuditEntry) -> Result<(), StoreError> {
        Store::put_key(self, key, entry).await
    }
}

/// Makes the self-signed certificate of a new authority key, in PEM. The key ring keeps the certificate beside the key
/// and knows nothing of X.509 itself.
pub type Certify = dyn Fn(&Arc<dyn Signer>, Timestamp) -> Result<String, CertificationFailed> + Send + Sync;

/// The certificate of a new authority key could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate of the new authority could not be made: {0}")]
pub struct CertificationFailed(pub String);

/// The broker's signing keys, ready to sign.
#[derive(Debug)]
pub struct KeyRing {
    tokens: Vec<TokenKey>,
    ca: CaKey,
    /// The first signs; the others have.
    audit: Vec<Arc<LocalSigner>>,
    opened_at: Timestamp,
}

/// A key that signs tokens, or did until lately.
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// What signs.
    pub signer: Arc<LocalSigner>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops signing.
    pub retires_at: Option<Timestamp>,
}

/// The key of the built-in certificate authority.
#[derive(Clone, Debug)]
pub struct CaKey {
    /// What signs.
    pub signer: Arc<LocalSigner>,
    /// The self-signed certificate that was made with it, PEM.
    pub certificate: String,
}

impl KeyRing {
    /// Loads the keys, and makes those that are missing.
    ///
    /// # Errors
    /// [`KeyRingError`]; then no key can be used.
    pub async fn open<S: KeyStore + ?Sized>(
        store: &S,
        sealer: &dyn Sealer,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        certify: &Certify,
    ) -> Result<Self, KeyRingError> {
        let now = clock.now();
        let mut stored = store.keys().await?;
        let missing: Vec<_> = WANTED
            .into_iter()
            .filter(|(purpose, algorithm)| {
                !stored.iter().any(|key| is_for(key, *purpose, *algorithm) && signs_at(key.retires_at, now))
            })
            .collect();
        for (purpose, algorithm) in &missing {
            let (key, entry) = make(*purpose, *algorithm, sealer, clock, entropy, certify)?;
            store.put_key(key, entry).await?;
        }
        if !missing.is_empty() {
            // Read again: another replica may have made the same keys, and all must choose alike.
            stored = store.keys().await?;
        }
        Self::load(&stored, sealer, now)
    }

    /// Makes a further token key. It is published when the broker next opens its keys, and signs an hour later at the
    /// earliest.
    ///
    /// # Errors
    /// [`KeyRingError`].
    pub async fn add_token_key<S: KeyStore + ?Sized>(
        store: &S,
        sealer: &dyn Sealer,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        algorithm: SignatureAlgorithm,
    ) -> Result<KeyId, KeyRingError> {
        let no_certificate: &Certify = &|_, _| Err(CertificationFailed("a token key has none".to_owned()));
        let (key, entry) = make(Purpose::Token, algorithm, sealer, clock, entropy, no_certificate)?;
        let id = key.id;
        store.put_key(key, entry).await?;
        Ok(id)
    }

    fn load(stored: &[StoredKey], sealer: &dyn Sealer, now: Timestamp) -> Result<Self, KeyRingError> {
        let mut tokens = Vec::new();
        let mut authorities = Vec::new();
        let mut logs = Vec::new();
        for key in stored {
            match Purpose::parse(&key.purpose) {
                Some(Purpose::Token) if is_published_at(key.retires_at, now) => tokens.push(TokenKey {
                    signer: unseal(key, sealer)?,
                    created_at: key.created_at,
                    retires_at: key.retires_at,
                }),
                Some(Purpose::Ca) if signs_at(key.retires_at, now) => authorities.push(key),
                Some(Purpose::Audit) => logs.push(key),
                // Keys that are over, and those of purposes that this version does not know.
                _ => {}
            }
        }
        tokens.sort_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| a.signer.key_id().cmp(b.signer.key_id())));
        // The oldest: every replica chooses the same, and what relying parties trust does not change by itself.
        let ca = authorities.into_iter().min_by_key(|key| (key.created_at, key.id)).ok_or(KeyRingError::NoKey("ca"))?;
        logs.sort_by_key(|key| (!signs_at(key.retires_at, now), key.created_at, key.id));
        logs.first().filter(|key| signs_at(key.retires_at, now)).ok_or(KeyRingError::NoKey("audit"))?;
        let audit = logs.into_iter().map(|key| unseal(key, sealer)).collect::<Result<_, _>>()?;
        let ca = CaKey { signer: unseal(ca, sealer)?, certificate: ca.public.clone() };
        Ok(Self { tokens, ca, audit, opened_at: now })
    }

    /// The key that signs tokens with `algorithm`: the newest that has been published for long enough, so that relying
    /// parties know it.
    ///
    /// # Errors
    /// [`KeyRingError::NoKey`] when there is none.
    pub fn token_signer(&self, algorithm: SignatureAlgorithm) -> Result<Arc<dyn Signer>, KeyRingError> {
        let signing = || {
            self.tokens
                .iter()
                .filter(|key| key.signer.algorithm() == algorithm && signs_at(key.retires_at, self.opened_at))
        };
        let published = signing().rfind(|key| key.created_at.plus(PUBLISH_AHEAD) <= self.opened_at);
        let key = published.or_else(|| signing().next()).ok_or(KeyRingError::NoKey(algorithm.as_str()))?;
        Ok(key.signer.clone())
    }

    /// The key of the built-in certificate authority.
    #[must_use]
    pub fn ca(&self) -> &CaKey {
        &self.ca
    }

    /// The keys of the audit log's checkpoints, which sign nothing else: the one that signs, then those that have.
    pub fn audit_signers(&self) -> impl Iterator<Item = Arc<dyn Signer>> {
        self.audit.iter().map(|signer| Arc::clone(signer) as Arc<dyn Signer>)
    }

    /// Public keys that verify the broker's live tokens, as a JWK set (RFC 7517 §5) in JSON: signing keys, keys that
    /// will sign soon, and retired ones whose tokens may still be alive.
    #[must_use]
    pub fn jwks(&self) -> String {
        let keys = self.tokens.iter().filter_map(|key| Jwk::of_signer(&*key.signer)).collect();
        serde_json::to_string(&JwkSet { keys }).unwrap_or_default()
    }

    /// Reads back the tokens that this broker minted under `public_url`.
    #[must_use]
    pub fn own_tokens(&self, public_url: &str) -> OwnTokens {
        OwnTokens::new(public_url, self.tokens.iter().map(|key| &*key.signer as &dyn Signer))
    }
}

impl TokenSigners for KeyRing {
    fn signer(&self, algorithm: SignatureAlgorithm) -> Option<Arc<dyn Signer>> {
        self.token_signer(algorithm).ok()
    }
}

/// What a key signs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Token,
    Ca,
    Audit,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Ca => "ca",
            Self::Audit => "audit",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Token, Self::Ca, Self::Audit].into_iter().find(|purpose| purpose.as_str() == name)
    }
}

fn is_for(key: &StoredKey, purpose: Purpose, algorithm: SignatureAlgorithm) -> bool {
    key.purpose == purpose.as_str() && key.algorithm == algorithm.as_str()
}

fn signs_at(retires_at: Option<Timestamp>, now: Timestamp) -> bool {
    retires_at.is_none_or(|at| now < at)
}

fn is_published_at(retires_at: Option<Timestamp>, now: Timestamp) -> bool {
    retires_at.is_none_or(|at| now < at.plus(PUBLISH_BEHIND))
}

/// Makes a key, sealed for its place, with the audit entry that tells of it.
fn make(
    purpose: Purpose,
    algorithm: SignatureAlgorithm,
    sealer: &dyn Sealer,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    certify: &Certify,
) -> Result<(StoredKey, AuditEntry), KeyRingError> {
    let now = clock.now();
    let id: KeyId = fresh_id(clock, entropy)?;
    let private_key = LocalSigner::generate(algorithm)?;
    let rejected = |KeyRejected| KeyRingError::Rejected { id: id.to_string() };
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(algorithm, &private_key).map_err(rejected)?);
    let public = match purpose {
        Purpose::Token | Purpose::Audit => Jwk::of_signer(&*signer)
            .and_then(|jwk| serde_json::to_string(&jwk).ok())
            .ok_or(KeyRingError::Rejected { id: id.to_string() })?,
        Purpose::Ca => certify(&signer, now)?,
    };
    let row = id.to_string();
    let sealed_private_key = sealer.seal(place(&row), &private_key)?;
    let entry = AuditEntry::success(now, Actor::Broker, AuditAction::KeyCreate, AuditObject::Key { id: row })
        .with("purpose", purpose.as_str())
        .with("algorithm", algorithm.as_str())
        .with("kid", signer.key_id());
    let key = StoredKey {
        id,
        purpose: purpose.as_str().to_owned(),
        algorithm: algorithm.as_str().to_owned(),
        sealed_private_key,
        public,
        created_at: now,
        retires_at: None,
    };
    Ok((key, entry))
}

fn unseal(key: &StoredKey, sealer: &dyn Sealer) -> Result<Arc<LocalSigner>, KeyRingError> {
    let row = key.id.to_string();
    let rejected = || KeyRingError::Rejected { id: row.clone() };
    let algorithm = SignatureAlgorithm::parse(&key.algorithm).ok_or_else(rejected)?;
    let private_key = sealer.open(place(&row), &key.sealed_private_key)?;
    LocalSigner::from_pkcs8(algorithm, private_key.expose()).map(Arc::new).map_err(|KeyRejected| rejected())
}

fn place(row: &str) -> Place<'_> {
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
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use hallpass_core::audit::AuditOutcome;
    use hallpass_core::secret::SecretBytes;
    use hallpass_core::testing::sample::NOW;
    use hallpass_core::testing::{MockClock, SeededEntropy};

    use super::*;

    /// Keeps keys in memory.
    #[derive(Default)]
    struct MemoryKeys(Mutex<Vec<(StoredKey, AuditEntry)>>);

    #[async_trait]
    impl KeyStore for MemoryKeys {
        async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
            Ok(self.0.lock().unwrap().iter().map(|(key, _)| key.clone()).collect())
        }

        async fn put_key(&self, key: StoredKey, entry: AuditEntry) -> Result<(), StoreError> {
            self.0.lock().unwrap().push((key, entry));
            Ok(())
        }
    }

    /// Binds to the place and hides nothing.
    struct ClearSealer;

    impl Sealer for ClearSealer {
        fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
            Ok([format!("{place:?}|").as_bytes(), plain].concat())
        }

        fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<SecretBytes, SealError> {
            let plain = sealed.strip_prefix(format!("{place:?}|").as_bytes());
            let elsewhere =
                || SealError::DoesNotOpen { table: place.table.to_owned(), column: place.column.to_owned() };
            plain.map(|plain| SecretBytes::new(plain.to_vec())).ok_or_else(elsewhere)
        }

        fn fingerprint(&self, _: &[u8]) -> String {
            String::new()
        }
    }

    async fn open(store: &MemoryKeys, clock: &MockClock) -> Result<KeyRing, KeyRingError> {
        let certify: &Certify = &|signer, _| Ok(format!("certificate of {}", signer.key_id()));
        KeyRing::open(store, &ClearSealer, clock, &SeededEntropy::new(1), certify).await
    }

    #[tokio::test]
    async fn keys_are_made_at_first_start_with_a_record_and_found_at_the_next() {
        let (store, clock) = (MemoryKeys::default(), MockClock::starting_at(NOW));
        let first = open(&store, &clock).await.unwrap();
        {
            let kept = store.0.lock().unwrap();
            assert_eq!(kept.len(), WANTED.len());
            for (key, entry) in kept.iter() {
                assert_eq!(entry.action, AuditAction::KeyCreate);
                assert_eq!(entry.outcome, AuditOutcome::Success);
                assert_eq!(entry.object, AuditObject::Key { id: key.id.to_string() });
                assert_eq!(entry.detail["purpose"], key.purpose);
                assert_eq!(entry.detail["algorithm"], key.algorithm);
                let place = format!("{:?}|", place(&key.id.to_string()));
                assert!(key.sealed_private_key.starts_with(place.as_bytes()));
            }
        }
        clock.advance(Ttl::from_hours(1));
        let second = open(&store, &clock).await.unwrap();
        assert_eq!(store.0.lock().unwrap().len(), WANTED.len(), "nothing new");
        assert_eq!(first.jwks(), second.jwks());
        assert_eq!(second.ca().certificate, format!("certificate of {}", second.ca().signer.key_id()));
        for algorithm in [SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa] {
            let signer = second.token_signer(algorithm).unwrap();
            assert_eq!(signer.algorithm(), algorithm);
            assert_eq!(signer.key_id(), first.token_signer(algorithm).unwrap().key_id());
        }
    }

    #[tokio::test]
    async fn the_key_set_publishes_token_keys_and_nothing_private() {
        let ring = open(&MemoryKeys::default(), &MockClock::starting_at(NOW)).await.unwrap();
        let set: serde_json::Value = serde_json::from_str(&ring.jwks()).unwrap();
        let keys = set["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2, "the authority's key and the log's sign no tokens");
        for key in keys {
            assert_eq!(key["use"], "sig");
            assert!(key.get("d").is_none());
            let algorithm = SignatureAlgorithm::parse(key["alg"].as_str().unwrap()).unwrap();
            assert_eq!(key["kid"], ring.token_signer(algorithm).unwrap().key_id());
            let members: BTreeSet<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
            let expected: &[&str] = match algorithm {
                SignatureAlgorithm::Es256 => &["alg", "crv", "kid", "kty", "use", "x", "y"],
                SignatureAlgorithm::EdDsa => &["alg", "crv", "kid", "kty", "use", "x"],
            };
            assert_eq!(members, BTreeSet::from_iter(expected.iter().copied()));
        }
    }

    #[tokio::test]
    async fn a_key_that_does_not_open_stops_the_broker_and_is_not_replaced() {
        let (store, clock) = (MemoryKeys::default(), MockClock::starting_at(NOW));
        open(&store, &clock).await.unwrap();
        {
            // As if somebody had copied one row's private key into another.
            let mut kept = store.0.lock().unwrap();
            let moved = kept[1].0.sealed_private_key.clone();
            kept[0].0.sealed_private_key = moved;
        }
        let error = open(&store, &clock).await.unwrap_err();
        assert!(matches!(error, KeyRingError::Sealed(SealError::DoesNotOpen { .. })), "{error:?}");
        assert_eq!(store.0.lock().unwrap().len(), WANTED.len());
    }

    #[tokio::test]
    async fn a_new_key_is_published_for_an_hour_before_it_signs() {
        let (store, clock) = (MemoryKeys::default(), MockClock::starting_at(NOW));
        let old = open(&store, &clock).await.unwrap().token_signer(SignatureAlgorithm::Es256).unwrap();
        clock.advance(Ttl::from_hours(100));
        let (sealer, entropy) = (ClearSealer, SeededEntropy::new(2));
        KeyRing::add_token_key(&store, &sealer, &clock, &entropy, SignatureAlgorithm::Es256).await.unwrap();
        let ring = open(&store, &clock).await.unwrap();
        assert_eq!(ring.jwks().matches("\"kid\"").count(), 3, "published at once");
        assert_eq!(ring.token_signer(SignatureAlgorithm::Es256).unwrap().key_id(), old.key_id());
        clock.advance(PUBLISH_AHEAD);
        let ring = open(&store, &clock).await.unwrap();
        assert_ne!(ring.token_signer(SignatureAlgorithm::Es256).unwrap().key_id(), old.key_id());
        assert!(ring.jwks().contains(old.key_id()), "tokens of the old key still verify");
    }

    #[tokio::test]
    async fn a_retired_key_signs_no_more_and_stays_published_until_its_tokens_are_over() {
        let (store, clock) = (MemoryKeys::default(), MockClock::starting_at(NOW));
        let old = open(&store, &clock).await.unwrap().token_signer(SignatureAlgorithm::Es256).unwrap();
        for (key, _) in store.0.lock().unwrap().iter_mut() {
            key.retires_at = Some(NOW.plus(Ttl::from_secs(1)));
        }
        clock.advance(Ttl::from_secs(1));
        let ring = open(&store, &clock).await.unwrap();
        assert_ne!(ring.token_signer(SignatureAlgorithm::Es256).unwrap().key_id(), old.key_id());
        assert!(ring.jwks().contains(old.key_id()));
        clock.advance(PUBLISH_BEHIND);
        assert!(!open(&store, &clock).await.unwrap().jwks().contains(old.key_id()));
    }
}
