use std::collections::BTreeSet;

use hallpass_core::audit::AuditOutcome;
use hallpass_core::testing::MockClock;
use hallpass_core::testing::sample::NOW;
use hallpass_core::time::Ttl;

use super::*;
use crate::keys::testing::{MemoryKeys, certify, open, sealer};

fn clock() -> Arc<MockClock> {
    Arc::new(MockClock::starting_at(NOW))
}

fn token_key(ring: &KeyRing, algorithm: SignatureAlgorithm) -> String {
    ring.signing(KeyPurpose::Token, algorithm).unwrap().key_id().to_owned()
}

#[tokio::test]
async fn keys_are_made_at_first_start_with_a_record_and_found_at_the_next() {
    let (store, clock) = (MemoryKeys::default(), clock());
    let first = open(&store, &clock).await.unwrap();
    let kept = store.keys.lock().unwrap().clone();
    let told = store.told();
    assert_eq!((kept.len(), told.len()), (WANTED.len(), WANTED.len()));
    for (purpose, algorithm) in WANTED {
        let key = kept.iter().find(|key| life::is_of_kind(key, purpose.as_str(), algorithm.as_str())).unwrap();
        let entry = told.iter().find(|entry| entry.detail["kid"] == key.key_id).unwrap();
        assert_eq!((entry.action, entry.outcome), (AuditAction::KeyCreate, AuditOutcome::Success));
        assert_eq!(entry.object, AuditObject::Key { id: key.id.to_string() });
        assert_eq!((&entry.detail["purpose"], &entry.detail["algorithm"]), (&key.purpose, &key.algorithm));
        assert!(sealer().open(place(&key.id.to_string()), &key.sealed_private_key).is_ok(), "sealed for its place");
        assert_eq!((key.created_at, key.activates_at, key.retires_at, key.distrusted_at), (NOW, NOW, None, None));
    }
    clock.advance(Ttl::from_hours(1));
    let second = open(&store, &clock).await.unwrap();
    assert_eq!(store.keys.lock().unwrap().len(), WANTED.len(), "nothing new");
    assert_eq!(first.jwks(), second.jwks());
    let authority = second.authority_keys();
    assert_eq!(authority[0].certificates, format!("certificate of {}", authority[0].signer.key_id()));
    for (purpose, algorithm) in WANTED {
        let signer = second.signing(purpose, algorithm).unwrap();
        assert_eq!(signer.algorithm(), algorithm);
        assert_eq!(signer.key_id(), first.signing(purpose, algorithm).unwrap().key_id());
    }
    assert!(second.signing(KeyPurpose::Token, SignatureAlgorithm::Rs256).is_none(), "RSA keys are not made here");
    assert_eq!(second.token_algorithms(), [SignatureAlgorithm::Es256, SignatureAlgorithm::EdDsa]);
}

#[tokio::test]
async fn the_key_set_publishes_token_keys_and_nothing_private() {
    let ring = open(&MemoryKeys::default(), &clock()).await.unwrap();
    let set: serde_json::Value = serde_json::from_str(&ring.jwks()).unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2, "neither the authority's key nor the log's signs tokens");
    for key in keys {
        assert_eq!(key["use"], "sig");
        assert!(key.get("d").is_none());
        let algorithm = SignatureAlgorithm::parse(key["alg"].as_str().unwrap()).unwrap();
        assert_eq!(key["kid"], token_key(&ring, algorithm));
        let members: BTreeSet<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        let expected: &[&str] = match algorithm {
            SignatureAlgorithm::Es256 => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            SignatureAlgorithm::EdDsa => &["alg", "crv", "kid", "kty", "use", "x"],
            SignatureAlgorithm::Rs256 => &["alg", "e", "kid", "kty", "n", "use"],
        };
        assert_eq!(members, BTreeSet::from_iter(expected.iter().copied()));
    }
}

#[tokio::test]
async fn a_key_that_does_not_open_stops_the_broker_and_is_not_replaced() {
    let (store, clock) = (MemoryKeys::default(), clock());
    open(&store, &clock).await.unwrap();
    {
        // As if somebody had copied one row's private key into another.
        let mut kept = store.keys.lock().unwrap();
        let moved = kept[1].sealed_private_key.clone();
        kept[0].sealed_private_key = moved;
    }
    let error = open(&store, &clock).await.unwrap_err();
    assert!(matches!(error, KeyRingError::Sealed(SealError::DoesNotOpen { .. })), "{error:?}");
    assert_eq!(store.keys.lock().unwrap().len(), WANTED.len());
}

/// Puts a further ES256 token key into the store.
fn add(store: &MemoryKeys, clock: &MockClock, activates_at: Timestamp) -> StoredKey {
    let entropy = hallpass_core::testing::SeededEntropy::new(7);
    let (purpose, algorithm) = (KeyPurpose::Token, SignatureAlgorithm::Es256);
    let key = make(purpose, algorithm, activates_at, sealer().as_ref(), clock, &entropy, &certify).unwrap();
    store.keys.lock().unwrap().push(key.clone());
    key
}

#[tokio::test]
async fn an_announced_key_is_published_at_once_and_signs_from_its_time_without_anything_having_to_happen() {
    let (store, clock) = (MemoryKeys::default(), clock());
    let ring = open(&store, &clock).await.unwrap();
    let old = token_key(&ring, SignatureAlgorithm::Es256);
    clock.advance(Ttl::from_hours(100));
    let new = add(&store, &clock, clock.now().plus(Ttl::from_hours(1)));
    ring.replace(&store.keys().await.unwrap(), sealer().as_ref()).unwrap();
    assert_eq!(ring.jwks().matches("\"kid\"").count(), 3);
    assert!(ring.jwks().contains(&new.key_id));
    assert_eq!(token_key(&ring, SignatureAlgorithm::Es256), old);

    clock.advance(Ttl::from_hours(1));
    assert_eq!(token_key(&ring, SignatureAlgorithm::Es256), new.key_id);
    assert!(ring.jwks().contains(&old), "tokens of the old key still verify");
    clock.advance(OVERLAP);
    assert!(!ring.jwks().contains(&old), "and then there are none");
    assert_eq!(token_key(&open(&store, &clock).await.unwrap(), SignatureAlgorithm::Es256), new.key_id);
}

#[tokio::test]
async fn a_distrusted_key_is_neither_published_nor_used_and_is_replaced_at_the_next_start() {
    let (store, clock) = (MemoryKeys::default(), clock());
    let ring = open(&store, &clock).await.unwrap();
    let old = token_key(&ring, SignatureAlgorithm::Es256);
    let eddsa = token_key(&ring, SignatureAlgorithm::EdDsa);
    for key in store.keys.lock().unwrap().iter_mut().filter(|key| key.key_id == old) {
        key.distrusted_at = Some(NOW);
        key.sealed_private_key.clear();
    }
    ring.replace(&store.keys().await.unwrap(), sealer().as_ref()).unwrap();
    assert!(ring.signing(KeyPurpose::Token, SignatureAlgorithm::Es256).is_none());
    assert!(!ring.jwks().contains(&old) && ring.jwks().contains(&eddsa));
    clock.advance(Ttl::from_secs(1));
    let restarted = open(&store, &clock).await.unwrap();
    assert_ne!(token_key(&restarted, SignatureAlgorithm::Es256), old);
    assert_eq!(token_key(&restarted, SignatureAlgorithm::EdDsa), eddsa);
}

#[tokio::test]
async fn whoever_asks_finds_a_change_by_its_generation() {
    let (store, clock) = (MemoryKeys::default(), clock());
    let ring = open(&store, &clock).await.unwrap();
    let (before, authorities) = (ring.generation(), ring.authority_keys().len());
    assert_eq!(ring.generation(), before);
    ring.replace(&store.keys().await.unwrap(), sealer().as_ref()).unwrap();
    assert!(ring.generation() > before);
    assert_eq!(ring.authority_keys().len(), authorities);
}
