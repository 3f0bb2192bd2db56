use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::{MockClock, SeededEntropy};

use super::*;
use crate::keys::seal_for_import;
use crate::keys::testing::{MemoryKeys, certification, open, rsa, sealer};

const ANNOUNCE: Ttl = Ttl::from_hours(1);
const ES256: SignatureAlgorithm = SignatureAlgorithm::Es256;

struct House {
    store: Arc<MemoryKeys>,
    clock: Arc<MockClock>,
    ring: Arc<KeyRing>,
    keeper: KeyKeeper,
    ended: Arc<Ended>,
    attested: Arc<Attested>,
}

/// By which keys the log was signed, in order; an empty id where that was to fail.
struct Attested {
    ring: Arc<KeyRing>,
    by: std::sync::Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Attests for Attested {
    async fn attest(&self) -> Result<(), NotAttested> {
        let mut by = self.by.lock().unwrap();
        if by.last().is_some_and(String::is_empty) {
            return Err(NotAttested("the test says so".to_owned()));
        }
        let signers = hallpass_core::port::AuditKeys::audit_signers(&*self.ring);
        by.push(signers[0].key_id().to_owned());
        Ok(())
    }
}

/// Of which keys what they signed was to be ended; the store may fail meanwhile.
#[derive(Default)]
struct Ended {
    keys: std::sync::Mutex<Vec<String>>,
    broken: std::sync::atomic::AtomicBool,
    /// Of which keys it cannot be ended.
    stuck: std::sync::Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl EndsSigned for Ended {
    async fn end_signed_by(&self, key_id: &str) -> Result<(), StoreError> {
        let stuck = self.stuck.lock().unwrap().iter().any(|stuck| stuck == key_id);
        if stuck || self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StoreError::Unavailable("the test says so".to_owned()));
        }
        self.keys.lock().unwrap().push(key_id.to_owned());
        Ok(())
    }
}

impl House {
    async fn new() -> Self {
        let (store, clock) = (Arc::new(MemoryKeys::default()), Arc::new(MockClock::starting_at(NOW)));
        let ring = Arc::new(open(&store, &clock).await.unwrap());
        store.told();
        clock.advance(Ttl::from_hours(24 * 30));
        let ended = Arc::new(Ended::default());
        let attested = Arc::new(Attested { ring: Arc::clone(&ring), by: std::sync::Mutex::default() });
        let keeper = KeyKeeper::new(
            Arc::clone(&ring),
            Arc::clone(&store) as Arc<dyn KeyRecord>,
            sealer(),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(SeededEntropy::new(2)),
            certification(),
            ANNOUNCE,
            Arc::clone(&ended) as Arc<dyn EndsSigned>,
            Arc::clone(&attested) as Arc<dyn Attests>,
            Arc::default(),
        );
        Self { store, clock, ring, keeper, ended, attested }
    }

    async fn certify(&self, key_id: &str, until: Timestamp, after: Option<Ttl>) -> Result<KeyView, KeyChangeError> {
        let certificates = format!("{key_id} until {}", until.as_secs());
        self.keeper.certify(&certificates, after, Actor::LocalAdministrator).await
    }

    async fn rotate(
        &self,
        purpose: KeyPurpose,
        algorithm: Option<SignatureAlgorithm>,
    ) -> Result<Vec<KeyView>, KeyChangeError> {
        let rotation = Rotation { purpose, algorithm, activate_after: None };
        self.keeper.rotate(rotation, Actor::LocalAdministrator).await
    }

    async fn distrust(&self, key_id: &str) -> Result<Vec<KeyView>, KeyChangeError> {
        self.keeper.distrust(key_id, "its backup was stolen", Actor::LocalAdministrator).await
    }

    async fn import(&self, n: u64, private_key: &[u8]) -> Result<KeyView, KeyChangeError> {
        let id = sample::id(n);
        let import = Import {
            id,
            purpose: KeyPurpose::Token,
            algorithm: SignatureAlgorithm::Rs256,
            sealed_private_key: seal_for_import(id, private_key, sealer().as_ref()).unwrap(),
            activate_after: None,
        };
        self.keeper.import(import, Actor::LocalAdministrator).await
    }

    fn signing(&self, algorithm: SignatureAlgorithm) -> Option<String> {
        Some(self.ring.signing(KeyPurpose::Token, algorithm)?.key_id().to_owned())
    }

    async fn phases(&self, algorithm: &str) -> Vec<(String, String)> {
        let listed = self.keeper.list().await.unwrap().into_iter();
        let of_kind = listed.filter(|key| key.purpose == "token" && key.algorithm == algorithm);
        of_kind.map(|key| (key.key_id, key.phase)).collect()
    }

    fn told(&self) -> Vec<AuditAction> {
        self.store.told().into_iter().map(|entry| entry.action).collect()
    }
}

#[tokio::test]
async fn a_rotation_is_announced_takes_effect_by_itself_and_ends_with_a_removal() {
    let house = House::new().await;
    let old = house.signing(ES256).unwrap();
    let made = house.rotate(KeyPurpose::Token, None).await.unwrap();
    assert_eq!(made.len(), 2, "both kinds of token keys");
    let new = made.iter().find(|key| key.algorithm == "ES256").unwrap();
    assert_eq!((new.phase.as_str(), new.signs_from), ("announced", house.clock.now().plus(ANNOUNCE)));
    assert_eq!(house.told(), [AuditAction::KeyRotate; 2]);
    assert_eq!(house.signing(ES256).as_ref(), Some(&old));
    assert!(house.ring.jwks().contains(&new.key_id));

    house.clock.advance(ANNOUNCE);
    assert_eq!(house.signing(ES256).as_ref(), Some(&new.key_id));
    assert_eq!(
        house.phases("ES256").await,
        [(old.clone(), "retired".to_owned()), (new.key_id.clone(), "active".to_owned())]
    );
    assert_eq!(house.keeper.tick().await.unwrap(), 0, "what it signed may be in use");
    house.clock.advance(life::OVERLAP.min(Ttl::from_hours(24)));
    assert_eq!(house.keeper.tick().await.unwrap(), 0);
    house.clock.advance(Ttl::from_hours(1));
    assert_eq!(house.keeper.tick().await.unwrap(), 2);
    assert_eq!(house.told(), [AuditAction::KeyRemove; 2]);
    assert_eq!(house.phases("ES256").await, [(new.key_id.clone(), "active".to_owned())]);
    assert_eq!(house.signing(ES256).as_ref(), Some(&new.key_id));
    assert_eq!(house.keeper.tick().await.unwrap(), 0);
}

#[tokio::test]
async fn one_rotation_at_a_time_is_announced_and_no_loop_can_fill_the_ring() {
    let house = House::new().await;
    house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap();
    let refused = house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap_err();
    assert!(matches!(refused, KeyChangeError::Announced { .. }), "{refused}");
    house.rotate(KeyPurpose::Token, Some(SignatureAlgorithm::EdDsa)).await.expect("another kind");
    let far = Rotation { purpose: KeyPurpose::Ca, algorithm: None, activate_after: Some(Ttl::from_hours(24 * 365)) };
    let refused = house.keeper.rotate(far, Actor::LocalAdministrator).await.unwrap_err();
    assert!(matches!(refused, KeyChangeError::TooFarAhead { .. }), "{refused}");
    let rsa = house.rotate(KeyPurpose::Token, Some(SignatureAlgorithm::Rs256)).await.unwrap_err();
    assert!(matches!(rsa, KeyChangeError::NotMadeHere { .. }), "{rsa}");
    let at_once = Rotation { purpose: KeyPurpose::Ca, algorithm: None, activate_after: Some(Ttl::ZERO) };
    for _ in 1..MOST_OF_A_KIND {
        house.clock.advance(Ttl::from_secs(1));
        house.keeper.rotate(at_once, Actor::LocalAdministrator).await.unwrap();
    }
    let refused = house.keeper.rotate(at_once, Actor::LocalAdministrator).await.unwrap_err();
    assert!(matches!(refused, KeyChangeError::TooMany { .. }), "{refused}");
}

#[tokio::test]
async fn a_rotation_that_is_not_recorded_has_not_happened() {
    let house = House::new().await;
    let (before, generation) = (house.ring.jwks(), hallpass_core::port::AuthorityKeys::generation(&*house.ring));
    *house.store.broken.lock().unwrap() = true;
    assert!(matches!(house.rotate(KeyPurpose::Token, None).await, Err(KeyChangeError::Store(_))));
    assert_eq!(house.ring.jwks(), before);
    assert_eq!(hallpass_core::port::AuthorityKeys::generation(&*house.ring), generation);
}

#[tokio::test]
async fn distrusting_the_key_that_signs_puts_a_new_one_in_its_place_at_once() {
    let house = House::new().await;
    let (old, epoch) = (house.signing(ES256).unwrap(), *house.store.epoch.lock().unwrap());
    let now = house.distrust(&old).await.unwrap();
    let new = house.signing(ES256).unwrap();
    assert_ne!(new, old);
    let phase = |id: &str| now.iter().find(|key| key.key_id == id).unwrap().phase.clone();
    assert_eq!((phase(&old), phase(&new)), ("distrusted".to_owned(), "active".to_owned()));
    assert!(!house.ring.jwks().contains(&old) && house.ring.jwks().contains(&new));
    assert_eq!(house.told(), [AuditAction::KeyRotate, AuditAction::KeyDistrust]);
    assert_eq!(*house.store.epoch.lock().unwrap(), epoch + 1);
    let kept = house.store.keys().await.unwrap();
    let row = kept.iter().find(|key| key.key_id == old).unwrap();
    assert!(row.sealed_private_key.is_empty(), "it can never sign again");
    assert!(matches!(house.distrust(&old).await, Err(KeyChangeError::Distrusted)));

    house.clock.advance(life::OVERLAP);
    assert_eq!(house.keeper.tick().await.unwrap(), 1, "what it signed is over");
    assert!(matches!(house.distrust(&old).await, Err(KeyChangeError::Unknown { .. })));
}

#[tokio::test]
async fn what_a_distrusted_key_signed_is_ended_with_the_command_or_by_the_next_tick() {
    let house = House::new().await;
    let key = house.signing(ES256).unwrap();
    house.ended.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(house.distrust(&key).await, Err(KeyChangeError::NotEnded(_))));
    assert!(!house.ring.jwks().contains(&key), "the key is done with all the same");
    assert!(house.keeper.tick().await.is_err());
    house.ended.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    house.keeper.tick().await.unwrap();
    assert_eq!(*house.ended.keys.lock().unwrap(), [key]);
    let next = house.signing(ES256).unwrap();
    house.distrust(&next).await.unwrap();
    assert_eq!(house.ended.keys.lock().unwrap().last(), Some(&next));
}

#[tokio::test]
async fn by_a_clock_that_may_be_wrong_nothing_that_a_distrusted_key_signed_is_over() {
    let house = House::new().await;
    let key = house.signing(ES256).unwrap();
    house.ended.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(house.distrust(&key).await, Err(KeyChangeError::NotEnded(_))));
    house.ended.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    house.clock.advance(life::OVERLAP);
    house.keeper.catch_up().await.unwrap();
    assert_eq!(*house.ended.keys.lock().unwrap(), [key]);
}

#[tokio::test]
async fn what_one_key_signed_and_cannot_be_ended_keeps_nothing_else_from_being_looked_after() {
    let house = House::new().await;
    let over = house.signing(ES256).unwrap();
    house.distrust(&over).await.unwrap();
    house.clock.advance(life::OVERLAP);
    let (first, second) = (house.signing(ES256).unwrap(), house.signing(SignatureAlgorithm::EdDsa).unwrap());
    house.ended.stuck.lock().unwrap().extend([first.clone(), second.clone()]);
    for key in [&first, &second] {
        assert!(matches!(house.distrust(key).await, Err(KeyChangeError::NotEnded(_))));
    }
    assert!(house.keeper.tick().await.is_err(), "it is told");
    assert!(!house.keeper.list().await.unwrap().iter().any(|key| key.key_id == over), "what is over is removed");
    house.ended.keys.lock().unwrap().clear();
    let mut stuck = vec![first.clone(), second.clone()];
    while let Some(free) = stuck.pop() {
        house.ended.stuck.lock().unwrap().clone_from(&stuck);
        assert_eq!(house.keeper.tick().await.is_err(), !stuck.is_empty());
        assert!(house.ended.keys.lock().unwrap().contains(&free), "{free} waits for no other");
    }
}

#[tokio::test]
async fn a_key_that_was_announced_takes_over_early() {
    let house = House::new().await;
    let old = house.signing(ES256).unwrap();
    let announced = house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap().pop().unwrap().key_id;
    house.distrust(&old).await.unwrap();
    assert_eq!(house.signing(ES256).as_ref(), Some(&announced));
    assert_eq!(house.phases("ES256").await.len(), 2, "no third was made");
}

#[tokio::test]
async fn distrusting_a_key_that_does_not_sign_yet_or_any_more_changes_nobody_else() {
    let house = House::new().await;
    let old = house.signing(ES256).unwrap();
    let announced = house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap().pop().unwrap().key_id;
    house.distrust(&announced).await.unwrap();
    assert_eq!(house.signing(ES256).as_ref(), Some(&old), "it goes on");
    house.clock.advance(ANNOUNCE);
    assert_eq!(house.signing(ES256).as_ref(), Some(&old), "and is not superseded by what is distrusted");

    let next = house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap().pop().unwrap().key_id;
    house.clock.advance(ANNOUNCE);
    house.distrust(&old).await.unwrap();
    assert_eq!(house.signing(ES256).as_ref(), Some(&next));
    assert!(!house.ring.jwks().contains(&old));
}

#[tokio::test]
async fn a_distrust_that_is_not_recorded_does_not_hold_and_says_so() {
    let house = House::new().await;
    let announced = house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap().pop().unwrap().key_id;
    *house.store.broken.lock().unwrap() = true;
    assert!(matches!(house.distrust(&announced).await, Err(KeyChangeError::Store(_))));
    assert!(house.ring.jwks().contains(&announced));
    *house.store.broken.lock().unwrap() = false;
    for reason in ["", "  ", "two\nlines", &"x".repeat(401)] {
        let refused = house.keeper.distrust(&announced, reason, Actor::LocalAdministrator).await;
        assert_eq!(refused, Err(KeyChangeError::Reason), "{reason:?}");
    }
    assert!(house.ring.jwks().contains(&announced));
    house.distrust(&announced).await.unwrap();
}

#[tokio::test]
async fn a_distrust_whose_outcome_is_unknown_holds_until_the_store_says_otherwise() {
    for written in [true, false] {
        let house = House::new().await;
        let key = house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap().pop().unwrap().key_id;
        assert!(house.ring.jwks().contains(&key));
        *(if written { &house.store.answers_lost } else { &house.store.broken }).lock().unwrap() = true;
        house.store.unreadable_after_a_change(written);
        house.distrust(&key).await.unwrap_err();
        assert!(!house.ring.jwks().contains(&key), "nobody knows that it is trusted: written {written}");
        assert!(house.keeper.tick().await.is_err());
        assert!(!house.ring.jwks().contains(&key));
        house.store.mended();
        house.keeper.tick().await.unwrap();
        assert_eq!(house.ring.jwks().contains(&key), !written, "the store says so");
        assert_eq!(house.ended.keys.lock().unwrap().contains(&key), written);
    }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_takes_effect_with_the_next_tick() {
    let house = House::new().await;
    *house.store.answers_lost.lock().unwrap() = true;
    house.rotate(KeyPurpose::Token, Some(ES256)).await.unwrap_err();
    house.store.mended();
    let made = house.keeper.list().await.unwrap().into_iter().find(|key| key.phase == "announced").unwrap();
    assert!(!house.ring.jwks().contains(&made.key_id), "the control: the ring does not know it yet");
    house.keeper.tick().await.unwrap();
    assert!(house.ring.jwks().contains(&made.key_id));
    let generation = hallpass_core::port::AuthorityKeys::generation(&*house.ring);
    house.keeper.tick().await.unwrap();
    assert_eq!(hallpass_core::port::AuthorityKeys::generation(&*house.ring), generation, "nothing has changed");
}

#[tokio::test]
async fn an_imported_key_that_was_distrusted_is_never_taken_in_again() {
    let house = House::new().await;
    let (bad, good) = (rsa(2048), rsa(2048));
    let imported = house.import(100, &bad).await.unwrap();
    house.distrust(&imported.key_id).await.unwrap();
    for days in [0, 1, 30] {
        house.clock.advance(Ttl::from_hours(24 * days));
        house.clock.advance(life::OVERLAP);
        house.keeper.tick().await.unwrap();
        let refused = house.import(101, &bad).await;
        assert!(matches!(refused, Err(KeyChangeError::Known { .. })), "after {days} days: {refused:?}");
        assert_eq!(house.signing(SignatureAlgorithm::Rs256), None);
    }
    let other = house.import(102, &good).await.unwrap();
    assert_eq!(house.signing(SignatureAlgorithm::Rs256), Some(other.key_id), "the control: another is");
}

#[tokio::test]
async fn distrusting_the_imported_key_that_signs_does_not_bring_back_the_one_before_it() {
    let house = House::new().await;
    let first = house.import(100, &rsa(2048)).await.unwrap();
    house.clock.advance(ANNOUNCE);
    let second = house.import(101, &rsa(2048)).await.unwrap();
    house.clock.advance(ANNOUNCE);
    assert_eq!(house.signing(SignatureAlgorithm::Rs256).as_ref(), Some(&second.key_id));
    house.distrust(&second.key_id).await.unwrap();
    assert_eq!(house.signing(SignatureAlgorithm::Rs256), None, "it was retired for a reason");
    assert_eq!(
        house.phases("RS256").await,
        [(first.key_id.clone(), "retired".to_owned()), (second.key_id, "distrusted".to_owned())]
    );
    assert!(house.ring.jwks().contains(&first.key_id), "what it signed still counts");
    let awaits = |ring: &KeyRing| [ES256, SignatureAlgorithm::Rs256].map(|algorithm| ring.awaits(algorithm));
    assert_eq!(awaits(&house.ring), [false, true], "and what asks for one stays configured");
    assert_eq!(awaits(&open(&house.store, &house.clock).await.unwrap()), [false, true], "at the next start, too");
    let third = house.import(102, &rsa(2048)).await.unwrap();
    assert_eq!(third.phase, "active", "it takes nobody's place");
    assert_eq!(house.signing(SignatureAlgorithm::Rs256), Some(third.key_id));
    assert_eq!(awaits(&house.ring), [false, false]);
}

#[tokio::test]
async fn an_imported_key_signs_and_is_published_and_only_a_sound_one_is_taken_in() {
    let house = House::new().await;
    assert_eq!(house.signing(SignatureAlgorithm::Rs256), None);
    let key = rsa(2048);
    let imported = house.import(100, &key).await.unwrap();
    assert_eq!((imported.phase.as_str(), imported.algorithm.as_str()), ("active", "RS256"));
    assert_eq!(house.told(), [AuditAction::KeyImport]);
    let signer = house.ring.signing(KeyPurpose::Token, SignatureAlgorithm::Rs256).unwrap();
    assert_eq!(signer.key_id(), imported.key_id);
    assert_eq!(signer.sign(b"message").unwrap().len(), 256);
    assert!(house.ring.jwks().contains(r#""kty":"RSA""#));
    assert!(house.ring.token_algorithms().contains(&SignatureAlgorithm::Rs256));

    assert!(matches!(house.import(101, &key).await, Err(KeyChangeError::Known { .. })));
    for (bad, why) in [
        (rsa(1024), "too short"),
        (LocalKey::es256(), "another algorithm"),
        (key[..key.len() - 1].to_vec(), "cut"),
        (b"nonsense".to_vec(), "no key at all"),
    ] {
        assert_eq!(house.import(102, &bad).await.unwrap_err(), KeyChangeError::Unusable, "{why}");
    }
    // Sealed for another place: as if the row of another key had been given.
    let mut elsewhere = Import {
        id: sample::id(103),
        purpose: KeyPurpose::Token,
        algorithm: SignatureAlgorithm::Rs256,
        sealed_private_key: seal_for_import(sample::id(104), &rsa(2048), sealer().as_ref()).unwrap(),
        activate_after: None,
    };
    let refused = house.keeper.import(elsewhere.clone(), Actor::LocalAdministrator).await.unwrap_err();
    assert!(matches!(refused, KeyChangeError::Ring(KeyRingError::Sealed(_))), "{refused}");
    elsewhere.algorithm = ES256;
    let refused = house.keeper.import(elsewhere, Actor::LocalAdministrator).await.unwrap_err();
    assert_eq!(refused, KeyChangeError::NotImported);

    // The next one is announced; distrusted, an imported key has no other in its place but an announced one.
    let second = house.import(105, &rsa(2048)).await.unwrap();
    assert_eq!(second.phase, "announced");
    house.distrust(&imported.key_id).await.unwrap();
    assert_eq!(house.signing(SignatureAlgorithm::Rs256).as_ref(), Some(&second.key_id));
    house.distrust(&second.key_id).await.unwrap();
    assert_eq!(house.signing(SignatureAlgorithm::Rs256), None);
    assert!(matches!(house.import(106, &key).await, Err(KeyChangeError::Known { .. })), "it was distrusted");
}

struct LocalKey;

impl LocalKey {
    fn es256() -> Vec<u8> {
        crate::keys::LocalSigner::generate(ES256).unwrap().to_vec()
    }
}

#[tokio::test]
async fn before_a_key_of_the_log_is_distrusted_another_signs_the_log() {
    let house = House::new().await;
    let key = async |phase: &str| {
        let listed = house.keeper.list().await.unwrap().into_iter();
        let mut found = listed.filter(|key| key.purpose == "audit" && key.phase == phase).map(|key| key.key_id);
        found.next().unwrap()
    };
    let first = key("active").await;
    house.attested.by.lock().unwrap().push(String::new());
    assert!(matches!(house.distrust(&first).await, Err(KeyChangeError::NotAttested(_))));
    let signers = hallpass_core::port::AuditKeys::audit_signers(&*house.ring);
    assert!(signers.iter().any(|signer| signer.key_id() == first), "it still counts");
    house.attested.by.lock().unwrap().clear();

    // The one that took over signs already; now the retired one goes, and then the one that signs.
    let second = key("active").await;
    house.distrust(&first).await.unwrap();
    house.distrust(&second).await.unwrap();
    let third = key("active").await;
    assert_eq!(*house.attested.by.lock().unwrap(), [second, third]);
    house.distrust(&house.signing(ES256).unwrap()).await.unwrap();
    assert_eq!(house.attested.by.lock().unwrap().len(), 2, "other keys are not the log's concern");
}

#[tokio::test]
async fn a_key_of_the_log_is_never_removed_because_old_checkpoints_are_verified_by_it() {
    let house = House::new().await;
    house.rotate(KeyPurpose::Audit, None).await.unwrap();
    house.rotate(KeyPurpose::Ca, None).await.unwrap();
    house.clock.advance(ANNOUNCE.plus(life::OVERLAP));
    assert_eq!(house.keeper.tick().await.unwrap(), 1, "the authority's alone");
    assert_eq!(hallpass_core::port::AuditKeys::audit_signers(&*house.ring).len(), 2);
}

#[tokio::test]
async fn a_key_that_an_offline_root_has_yet_to_certify_signs_nothing_and_takes_nobodys_place() {
    let house = House::new().await;
    let asked = async |key_id| house.keeper.request_certificate(key_id, Actor::LocalAdministrator).await;
    let authority = || house.ring.signing(KeyPurpose::Ca, ES256).unwrap().key_id().to_owned();
    let old = authority();
    let new = asked(None).await.unwrap();
    assert_eq!(new.request, format!("request of {}", new.key_id));
    assert_eq!(asked(None).await.unwrap(), new, "one waits at a time");
    assert_eq!(house.told(), [AuditAction::KeyRequest]);
    let phase = async |key_id: &str| {
        house.keeper.list().await.unwrap().into_iter().find(|key| key.key_id == key_id).unwrap().phase
    };
    let published = || hallpass_core::port::AuthorityKeys::authority_keys(&*house.ring).len();
    assert_eq!((phase(&new.key_id).await.as_str(), authority(), published()), ("requested", old.clone(), 1));
    house.clock.advance(Ttl::from_hours(24 * 365));
    assert_eq!((phase(&new.key_id).await.as_str(), phase(&old).await.as_str()), ("requested", "active"));

    // Another of the authority's keys can be asked for; what signs something else, or is not here, cannot.
    assert_eq!(asked(Some(&old)).await.unwrap().key_id, old);
    let token = house.ring.signing(KeyPurpose::Token, ES256).unwrap().key_id().to_owned();
    assert_eq!(asked(Some(&token)).await.unwrap_err(), KeyChangeError::NoAuthority);
    assert!(matches!(asked(Some("another")).await.unwrap_err(), KeyChangeError::Unknown { .. }));

    // Certificates are judged as of now and as of when they are to be used.
    let now = house.clock.now();
    let year = now.plus(Ttl::from_hours(24 * 365));
    assert_eq!(house.certify("another", year, None).await.unwrap_err(), KeyChangeError::NotOurs);
    for (until, after) in [(now, None), (now.plus(ANNOUNCE), None)] {
        let refused = house.certify(&new.key_id, until, after).await.unwrap_err();
        assert!(matches!(refused, KeyChangeError::Certificates(_)), "{refused}");
    }
    assert!(house.told().is_empty());
    let taken = house.certify(&new.key_id, year, None).await.unwrap();
    assert_eq!((taken.phase.as_str(), taken.signs_from), ("announced", now.plus(ANNOUNCE)));
    assert_eq!((house.told(), published()), (vec![AuditAction::KeyCertify], 2));
    let second = asked(None).await.unwrap();
    assert_ne!(second.key_id, new.key_id);
    let refused = house.certify(&second.key_id, year, None).await.unwrap_err();
    assert!(matches!(refused, KeyChangeError::Announced { .. }), "one at a time: {refused}");
    house.clock.advance(ANNOUNCE);
    assert_eq!((authority(), phase(&old).await.as_str()), (new.key_id.clone(), "retired"));

    // A new certificate of the key that signs counts at once; one of a key that has stopped, not at all.
    let refused = house.certify(&new.key_id, year, Some(ANNOUNCE)).await.unwrap_err();
    assert!(matches!(refused, KeyChangeError::SignsAlready { .. }), "{refused}");
    assert_eq!(house.certify(&new.key_id, year.plus(ANNOUNCE), None).await.unwrap().phase, "active");
    let kept = hallpass_core::port::AuthorityKeys::authority_keys(&*house.ring);
    assert!(kept.iter().any(|key| key.certificates.ends_with(&year.plus(ANNOUNCE).as_secs().to_string())));
    assert_eq!(house.certify(&old, year, None).await.unwrap_err(), KeyChangeError::NotOurs);

    // Distrusted, the one that waits does not come in the place of the one that signs; nor is it certified any more.
    house.keeper.distrust(&new.key_id, "stolen", Actor::LocalAdministrator).await.unwrap();
    assert!(authority() != second.key_id && authority() != new.key_id);
    house.keeper.distrust(&second.key_id, "stolen too", Actor::LocalAdministrator).await.unwrap();
    assert_eq!(house.certify(&second.key_id, year, None).await.unwrap_err(), KeyChangeError::NotOurs);
    assert_eq!(asked(Some(&second.key_id)).await.unwrap_err(), KeyChangeError::NoAuthority);
}
