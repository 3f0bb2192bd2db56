use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use hallpass_core::port::{KeyPurpose, Place, Sealer, SignatureAlgorithm, Store};
use hallpass_core::secret::SecretBytes;
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::{MockClock, SeededEntropy, store_suite};
use hallpass_sqlite::SqliteStore;

use super::*;
use crate::keys::KeyRing;
use crate::keys::testing::{MemoryKeys, certify};

const PLACE: Place<'_> = Place { table: "grants", row: "g1", column: "handle" };

/// A record of data keys with sealed values beside it.
struct Memory {
    keys: Mutex<Vec<StoredDataKey>>,
    values: Mutex<Vec<Vec<u8>>>,
    entries: Mutex<Vec<AuditEntry>>,
    broken: Mutex<bool>,
    sealer: Arc<DataKeySealer>,
}

#[async_trait]
impl DataKeyRecord for Memory {
    async fn data_keys(&self) -> Result<Vec<StoredDataKey>, StoreError> {
        Ok(self.keys.lock().unwrap().clone())
    }

    async fn sealed_otherwise(&self) -> Result<u64, StoreError> {
        Ok(self.values.lock().unwrap().iter().filter(|value| !self.sealer.is_current(value)).count() as u64)
    }

    async fn change_data_keys(&self, change: DataKeyChange) -> Result<Option<u64>, StoreError> {
        if *self.broken.lock().unwrap() {
            return Err(StoreError::Unavailable("the test says so".to_owned()));
        }
        let mut keys = self.keys.lock().unwrap();
        if let Some(put) = &change.put
            && keys.iter().find(|key| key.id == put.id).map(|key| &key.wrapping) != change.in_place_of.as_ref()
        {
            return Ok(None);
        }
        keys.retain(|key| !change.remove.contains(&key.id) && change.put.as_ref().is_none_or(|put| put.id != key.id));
        keys.extend(change.put);
        let mut resealed = 0;
        let mut values = self.values.lock().unwrap();
        for value in values.iter_mut().filter(|value| change.reseals && !self.sealer.is_current(value)) {
            *value = self.sealer.seal(PLACE, self.sealer.open(PLACE, value)?.expose())?;
            resealed += 1;
        }
        self.entries.lock().unwrap().extend(change.entries);
        Ok(Some(resealed))
    }
}

/// A key that somebody else holds: it may be away, and has versions.
#[derive(Clone)]
struct Remote {
    name: &'static str,
    state: Arc<Mutex<(u32, Option<KekError>)>>,
    wrapped: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
}

impl Remote {
    fn new(name: &'static str) -> Self {
        Self { name, state: Arc::new(Mutex::new((1, None))), wrapped: Arc::default() }
    }
}

#[async_trait]
impl KeyEncryptionKey for Remote {
    fn name(&self) -> &str {
        self.name
    }

    fn place(&self) -> String {
        format!("the remote key {}", self.name)
    }

    async fn wrap_key(&self, _: DataKeyId, key: &SecretBytes) -> Result<Wrapping, KekError> {
        let (version, failure) = self.state.lock().unwrap().clone();
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut wrapped = self.wrapped.lock().unwrap();
        let ciphertext = format!("v{version}:{}", wrapped.len()).into_bytes();
        wrapped.insert(ciphertext.clone(), key.expose().to_vec());
        Ok(Wrapping { kek: self.name.to_owned(), version: version.to_string(), wrapped: ciphertext })
    }

    async fn unwrap_key(&self, _: DataKeyId, wrapping: &Wrapping) -> Result<SecretBytes, KekError> {
        if let Some(failure) = self.state.lock().unwrap().1.clone() {
            return Err(failure);
        }
        let key = self.wrapped.lock().unwrap().get(&wrapping.wrapped).cloned();
        key.map(SecretBytes::new).ok_or_else(|| KekError::DoesNotOpen("unknown".to_owned()))
    }
}

fn local(seed: u8) -> LocalKek {
    use base64::Engine as _;
    let key: Vec<u8> = (0..32).map(|n| seed.wrapping_mul(31).wrapping_add(n)).collect();
    let value = zeroize::Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(key).into_bytes());
    LocalKek::from_variable("KEK", Some(&value), &entropy(seed.into())).unwrap()
}

fn entropy(n: u64) -> Arc<dyn Entropy> {
    Arc::new(SeededEntropy::new(n))
}

fn locals(seeds: &[u8]) -> KeyEncryptionKeys {
    let mut keks = KeyEncryptionKeys::default();
    seeds.iter().for_each(|seed| keks.add_local(local(*seed)).unwrap());
    keks
}

fn remote_then(remote: &Remote, seeds: &[u8]) -> KeyEncryptionKeys {
    let mut keks = KeyEncryptionKeys::default();
    keks.add_remote(remote.clone());
    seeds.iter().for_each(|seed| keks.add_local(local(*seed)).unwrap());
    keks
}

/// A broker that started on what `memory` keeps.
struct House {
    memory: Arc<Memory>,
    sealer: Arc<DataKeySealer>,
    keeper: DataKeyKeeper,
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl House {
    async fn start(before: Option<&House>, keks: &KeyEncryptionKeys) -> Result<Self, DataKeyError> {
        let sealer = Arc::new(DataKeySealer::locked(entropy(99)));
        let kept = before.map(|house| &house.memory);
        let memory = Arc::new(Memory {
            keys: Mutex::new(kept.map(|memory| memory.keys.lock().unwrap().clone()).unwrap_or_default()),
            values: Mutex::new(kept.map(|memory| memory.values.lock().unwrap().clone()).unwrap_or_default()),
            entries: Mutex::default(),
            broken: Mutex::new(false),
            sealer: Arc::clone(&sealer),
        });
        let record = Arc::clone(&memory) as Arc<dyn DataKeyRecord>;
        let (clock, changing) = (Arc::new(MockClock::starting_at(NOW)), Arc::default());
        let keeper = DataKeyKeeper::new(record, Arc::clone(&sealer), clock, Arc::clone(&changing));
        keeper.unlock(&MemoryKeys::default(), keks, &SystemEntropyLike).await?;
        Ok(Self { memory, sealer, keeper, changing })
    }

    fn keep(&self, value: &[u8]) {
        let sealed = self.sealer.seal(PLACE, value).unwrap();
        self.memory.values.lock().unwrap().push(sealed);
    }

    fn values(&self) -> Vec<Vec<u8>> {
        let values = self.memory.values.lock().unwrap();
        values.iter().map(|value| self.sealer.open(PLACE, value).unwrap().expose().to_vec()).collect()
    }

    fn wrapped_by(&self) -> (String, String) {
        let keys = self.memory.keys.lock().unwrap();
        assert_eq!(keys.len(), 1);
        (keys[0].wrapping.kek.clone(), keys[0].wrapping.version.clone())
    }
}

/// A new key each time it is asked.
struct SystemEntropyLike;

impl Entropy for SystemEntropyLike {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyUnavailable> {
        crate::keys::SystemEntropy::new().fill(bytes)
    }
}

#[tokio::test]
async fn the_data_key_is_made_once_with_a_record_and_opens_at_the_next_start() {
    let keks = locals(&[1]);
    let first = House::start(None, &keks).await.unwrap();
    first.keep(b"a secret");
    let told = first.memory.entries.lock().unwrap().clone();
    assert_eq!(told.iter().map(|entry| entry.action).collect::<Vec<_>>(), [AuditAction::KeyWrap]);
    assert_eq!(told[0].detail["wrapped_by"], local(1).name());
    let second = House::start(Some(&first), &keks).await.unwrap();
    assert_eq!(second.values(), [b"a secret"]);
    assert_eq!(second.memory.entries.lock().unwrap().len(), 0);
    assert!(!format!("{:?} {:?}", second.keeper, keks).contains("a secret"));
}

#[tokio::test]
async fn a_store_whose_key_another_wrapped_does_not_start_and_says_whose() {
    let first = House::start(None, &locals(&[1])).await.unwrap();
    let refused = House::start(Some(&first), &locals(&[2])).await.err().unwrap();
    let said = refused.to_string();
    assert!(said.contains(local(1).name()) && said.contains(local(2).name()) && said.contains("retired"), "{said}");
    assert!(House::start(Some(&first), &locals(&[2, 1])).await.is_ok(), "as a retired one it still unwraps");
}

#[tokio::test]
async fn a_key_moves_between_kinds_and_back_and_the_old_one_is_not_needed_afterwards() {
    let remote = Remote::new("transit:transit/hallpass");
    let mut house = House::start(None, &locals(&[1])).await.unwrap();
    house.keep(b"a secret");
    for (keks, alone) in [
        (locals(&[2, 1]), locals(&[2])),
        (remote_then(&remote, &[2]), remote_then(&remote, &[])),
        (
            {
                let mut keks = locals(&[3]);
                keks.add_remote(remote.clone());
                keks
            },
            locals(&[3]),
        ),
    ] {
        assert!(House::start(Some(&house), &alone).await.is_err(), "{alone:?} was not told of it yet");
        house = House::start(Some(&house), &keks).await.unwrap();
        let rewrapped = house.keeper.rewrap(&keks, None, Actor::LocalAdministrator).await.unwrap();
        assert!(rewrapped.changed && rewrapped.sealed_anew == 0, "{rewrapped:?}");
        assert_eq!(house.values(), [b"a secret"]);
        let again = house.keeper.rewrap(&keks, None, Actor::LocalAdministrator).await.unwrap();
        assert!(!again.changed, "{again:?}");
        assert_eq!(house.memory.entries.lock().unwrap().len(), 1, "what changes nothing tells of nothing");
        house = House::start(Some(&house), &alone).await.unwrap();
        assert_eq!(house.values(), [b"a secret"]);
    }
}

#[tokio::test]
async fn of_two_wrappings_that_were_made_at_once_the_second_is_refused() {
    let house = House::start(None, &locals(&[1])).await.unwrap();
    let (read, actor) = (house.memory.keys.lock().unwrap()[0].clone(), Actor::LocalAdministrator);
    let to = async |seed: u8, read: &Wrapping| {
        let seeds: Vec<_> = std::iter::once(seed).chain((1..=3).filter(|other| *other != seed)).collect();
        let keks = locals(&seeds);
        let keys = DataKeys::unwrap(house.memory.data_keys().await.unwrap(), &keks).await.unwrap().unwrap();
        let wrapping = keys.wrapped_anew(&keks).await.unwrap();
        house.keeper.take_over(keys.newest().unwrap().0, read, wrapping, actor.clone()).await
    };
    assert!(to(2, &read.wrapping).await.unwrap().changed);
    let late = to(3, &read.wrapping).await;
    assert!(matches!(late, Err(DataKeyError::Gone)), "{late:?}");
    let unchanged = house.keeper.take_over(read.id, &read.wrapping, None, actor.clone()).await;
    assert!(matches!(unchanged, Err(DataKeyError::Gone)), "{unchanged:?}");
    assert_eq!(house.wrapped_by().0, local(2).name());
    let now = house.memory.keys.lock().unwrap()[0].wrapping.clone();
    assert!(to(3, &now).await.unwrap().changed, "whoever reads again may");
}

#[tokio::test]
async fn while_keys_of_another_kind_are_changed_nothing_is_wrapped_anew() {
    let keks = locals(&[2, 1]);
    let house = House::start(None, &locals(&[1])).await.unwrap();
    let held = house.changing.lock().await;
    let mut rewrap = Box::pin(house.keeper.rewrap(&keks, None, Actor::LocalAdministrator));
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(rewrap.as_mut().poll(context).is_pending())).await);
    assert_eq!(house.wrapped_by().0, local(1).name());
    drop(held);
    assert!(rewrap.await.unwrap().changed);
}

#[tokio::test]
async fn a_new_version_of_the_same_key_wraps_anew_once() {
    let remote = Remote::new("transit:transit/hallpass");
    let keks = remote_then(&remote, &[]);
    let house = House::start(None, &keks).await.unwrap();
    assert_eq!(house.wrapped_by().1, "1");
    assert!(!house.keeper.rewrap(&keks, None, Actor::LocalAdministrator).await.unwrap().changed);
    remote.state.lock().unwrap().0 = 2;
    let rewrapped = house.keeper.rewrap(&keks, None, Actor::LocalAdministrator).await.unwrap();
    assert_eq!((rewrapped.changed, rewrapped.version.as_str()), (true, "2"));
    assert_eq!(house.wrapped_by().1, "2");
    assert!(!house.keeper.rewrap(&keks, None, Actor::LocalAdministrator).await.unwrap().changed);
}

#[tokio::test]
async fn a_new_data_key_seals_everything_anew_and_the_old_one_opens_nothing() {
    let keks = locals(&[1]);
    let house = House::start(None, &keks).await.unwrap();
    house.keep(b"a secret");
    let before = house.memory.values.lock().unwrap().clone();
    let rewrapped = house.keeper.rewrap(&keks, Some(&SystemEntropyLike), Actor::LocalAdministrator).await.unwrap();
    assert_eq!((rewrapped.changed, rewrapped.sealed_anew), (true, 1));
    let house = House::start(Some(&house), &keks).await.unwrap();
    assert_eq!(house.values(), [b"a secret"]);
    assert!(house.sealer.open(PLACE, &before[0]).is_err());
}

#[tokio::test]
async fn a_change_that_is_not_kept_changes_nothing() {
    let keks = locals(&[1]);
    let house = House::start(None, &keks).await.unwrap();
    house.keep(b"a secret");
    *house.memory.broken.lock().unwrap() = true;
    let failed = house.keeper.rewrap(&keks, Some(&SystemEntropyLike), Actor::LocalAdministrator).await;
    assert!(matches!(failed, Err(DataKeyError::Store(_))), "{failed:?}");
    house.keep(b"another");
    assert_eq!(house.values(), [b"a secret".to_vec(), b"another".to_vec()]);
    assert!(House::start(Some(&house), &keks).await.unwrap().values().len() == 2, "sealed under the key that is kept");
}

#[tokio::test]
async fn values_that_were_sealed_under_the_key_encryption_key_itself_open_and_are_carried_over() {
    let keks = locals(&[1]);
    let house = House::start(None, &keks).await.unwrap();
    let direct = DataKeySealer::locked(entropy(5));
    direct.hold(vec![local(1).key()]);
    house.memory.values.lock().unwrap().push(direct.seal(PLACE, b"a secret").unwrap());
    assert_eq!(house.values(), [b"a secret"]);
    let keks = locals(&[2, 1]);
    let house = House::start(Some(&house), &keks).await.unwrap();
    let rewrapped = house.keeper.rewrap(&keks, None, Actor::LocalAdministrator).await.unwrap();
    assert_eq!((rewrapped.changed, rewrapped.sealed_anew), (true, 1));
    assert_eq!(House::start(Some(&house), &locals(&[2])).await.unwrap().values(), [b"a secret"]);
}

/// A store of its own, whose keys and a grant's handle were sealed under the first key-encryption key itself.
async fn earlier(path: &std::path::Path, clock: &Arc<dyn Clock>) -> String {
    let direct = Arc::new(DataKeySealer::locked(entropy(5)));
    direct.hold(vec![local(1).key()]);
    let store = SqliteStore::open(path, Arc::clone(&direct) as Arc<dyn Sealer>, sample::id(99)).unwrap();
    let ring = KeyRing::open(&store, direct.as_ref(), Arc::clone(clock), &SystemEntropyLike, &certify).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    store_suite::open(&store, store_suite::opening(&store, 1, NOW)).await;
    signing(&ring)
}

/// A start on it: the store, what keeps its data key, and the key that signs.
async fn start(
    path: &std::path::Path,
    clock: &Arc<dyn Clock>,
    keks: &KeyEncryptionKeys,
) -> Result<(Arc<SqliteStore>, DataKeyKeeper, String), DataKeyError> {
    let sealer = Arc::new(DataKeySealer::locked(entropy(6)));
    let store = SqliteStore::open(path, Arc::clone(&sealer) as Arc<dyn Sealer>, sample::id(99)).unwrap();
    let (store, of_ring) = (Arc::new(store), Arc::clone(clock));
    let record = Arc::clone(&store) as Arc<dyn DataKeyRecord>;
    let keeper = DataKeyKeeper::new(record, Arc::clone(&sealer), Arc::clone(clock), Arc::default());
    keeper.unlock(store.as_ref(), keks, &SystemEntropyLike).await?;
    let ring = KeyRing::open(store.as_ref(), sealer.as_ref(), of_ring, &SystemEntropyLike, &certify).await.unwrap();
    let handle = store.handle(sample::id(1)).await.unwrap();
    assert_eq!(handle, Some(sample::handle(1)));
    Ok((store, keeper, signing(&ring)))
}

fn signing(ring: &KeyRing) -> String {
    ring.signing(KeyPurpose::Token, SignatureAlgorithm::Es256).unwrap().key_id().to_owned()
}

#[tokio::test]
async fn an_earlier_store_is_taken_over_and_then_no_longer_needs_the_key_that_it_was_sealed_under() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let clock: Arc<dyn Clock> = Arc::new(MockClock::starting_at(NOW));
    let key = earlier(&path, &clock).await;
    let refused = start(&path, &clock, &locals(&[2])).await.err().unwrap();
    assert!(matches!(refused, DataKeyError::SealedOtherwise(_)), "{refused}");
    let (store, _, signs) = start(&path, &clock, &locals(&[1])).await.unwrap();
    assert_eq!((signs, store.data_keys().await.unwrap().len()), (key.clone(), 1));
    let keys = u64::try_from(store.keys().await.unwrap().len()).unwrap();
    assert_eq!(store.sealed_otherwise().await.unwrap(), keys + 1);
    drop(store);

    let keks = locals(&[2, 1]);
    let (store, keeper, signs) = start(&path, &clock, &keks).await.unwrap();
    let rewrapped = keeper.rewrap(&keks, None, Actor::LocalAdministrator).await.unwrap();
    assert_eq!((signs, rewrapped.changed, rewrapped.sealed_anew), (key.clone(), true, keys + 1));
    drop((store, keeper));

    let (store, _, signs) = start(&path, &clock, &locals(&[2])).await.unwrap();
    assert_eq!((signs, store.sealed_otherwise().await.unwrap()), (key, 0));
    drop(store);
    assert!(start(&path, &clock, &locals(&[1])).await.is_err(), "the old key opens nothing any more");
}

#[tokio::test]
async fn an_earlier_store_makes_no_data_key_under_a_wrong_key() {
    let signing = MemoryKeys::default();
    let clock = Arc::new(MockClock::starting_at(NOW));
    crate::keys::testing::open(&signing, &clock).await.unwrap();
    let house = House::start(None, &locals(&[1])).await.unwrap();
    house.memory.keys.lock().unwrap().clear();
    let refused = house.keeper.unlock(&signing, &locals(&[1]), &SystemEntropyLike).await.unwrap_err();
    assert!(matches!(refused, DataKeyError::SealedOtherwise(_)), "{refused}");
    assert!(house.memory.keys.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_key_that_is_away_or_refuses_stops_the_start_with_its_place_and_reason() {
    let remote = Remote::new("transit:transit/hallpass");
    let keks = remote_then(&remote, &[]);
    let house = House::start(None, &keks).await.unwrap();
    for failure in [KekError::Unavailable("no answer".to_owned()), KekError::Refused("bad token".to_owned())] {
        remote.state.lock().unwrap().1 = Some(failure.clone());
        let refused = House::start(Some(&house), &keks).await.err().unwrap();
        let said = format!("{:#}", anyhow::Error::from(refused));
        assert!(said.contains("the remote key") && said.contains(&failure.to_string()), "{said}");
        assert!(House::start(None, &keks).await.is_err(), "nor is a first key made");
    }
    house.keep(b"what runs goes on");
    assert_eq!(house.values(), [b"what runs goes on"]);
}

#[test]
fn one_key_is_named_once() {
    let mut keks = locals(&[1]);
    let refused = keks.add_local(local(1)).unwrap_err();
    assert!(refused.to_string().contains("the same key"), "{refused}");
}
