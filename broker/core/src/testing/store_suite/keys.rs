//! Signing keys at rest.

use std::sync::Arc;

use super::{audit_len, opening};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::port::{KeyChange, OpenOutcome, Store, StoredKey};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(seconds))
}

fn key(n: u64, purpose: &str) -> StoredKey {
    StoredKey {
        id: sample::id(n),
        key_id: format!("kid-{n}"),
        purpose: purpose.to_owned(),
        algorithm: "ES256".to_owned(),
        sealed_private_key: vec![0, 159, 146, 150, u8::try_from(n).unwrap()],
        public: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        created_at: later(n),
        activates_at: later(n + 60),
        retires_at: None,
        distrusted_at: None,
    }
}

fn entry(n: u64) -> AuditEntry {
    let object = AuditObject::Key { id: n.to_string() };
    AuditEntry::success(later(n), Actor::Broker, AuditAction::KeyCreate, object)
}

fn put(keys: impl Into<Vec<StoredKey>>, entry: AuditEntry) -> KeyChange {
    KeyChange { put: keys.into(), entries: vec![entry], ..KeyChange::default() }
}

/// In whatever state they are.
pub async fn keys_are_read_back_as_they_were_kept(store: &Arc<dyn Store>) {
    assert_eq!(store.keys().await.unwrap(), []);
    store.change_keys(put([key(2, "ca")], entry(2))).await.unwrap();
    store.change_keys(put([key(1, "token")], entry(1))).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [key(1, "token"), key(2, "ca")]);
    let retired = StoredKey { retires_at: Some(later(100)), activates_at: later(5), ..key(1, "token") };
    store.change_keys(put([retired.clone()], entry(3))).await.unwrap();
    let distrusted = StoredKey { distrusted_at: Some(later(200)), sealed_private_key: Vec::new(), ..key(2, "ca") };
    store.change_keys(put([distrusted.clone()], entry(4))).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [retired, distrusted]);
    assert_eq!(audit_len(store).await, 4);
}

/// Whoever changes when a key signs has read it before; it may have been sealed anew since.
pub async fn the_private_half_of_a_key_that_is_here_only_goes(store: &Arc<dyn Store>) {
    store.change_keys(put([key(1, "token")], entry(1))).await.unwrap();
    let read_before = StoredKey { sealed_private_key: vec![7, 7], activates_at: later(5), ..key(1, "token") };
    store.change_keys(put([read_before], entry(2))).await.unwrap();
    let expected = StoredKey { activates_at: later(5), ..key(1, "token") };
    assert_eq!(store.keys().await.unwrap(), [expected]);
    let distrusted = StoredKey { sealed_private_key: Vec::new(), distrusted_at: Some(later(9)), ..key(1, "token") };
    store.change_keys(put([distrusted.clone()], entry(3))).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), std::slice::from_ref(&distrusted));
    let read_before = StoredKey { sealed_private_key: vec![7, 7], ..distrusted.clone() };
    store.change_keys(put([read_before], entry(4))).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [distrusted], "what is gone does not come back");
}

/// A rotation is several keys at once, and a removal tells of itself.
pub async fn a_change_of_keys_is_written_whole_with_its_entries(store: &Arc<dyn Store>) {
    let epoch = store.epoch();
    store.change_keys(put([key(1, "token"), key(2, "token"), key(3, "ca")], entry(1))).await.unwrap();
    let change = KeyChange {
        put: vec![key(4, "token")],
        remove: vec![sample::id(1), sample::id(3)],
        entries: vec![entry(2), entry(3)],
        moves_epoch: false,
    };
    store.change_keys(change).await.unwrap();
    assert_eq!(store.keys().await.unwrap(), [key(2, "token"), key(4, "token")]);
    assert_eq!(audit_len(store).await, 3);
    assert_eq!(store.epoch(), epoch, "nothing was distrusted");
}

/// What is being signed by a key at this moment is decided again, and by then another key signs.
pub async fn a_change_that_distrusts_moves_the_epoch(store: &Arc<dyn Store>) {
    let signed_by_it = opening(store, 1, NOW);
    let distrusted = StoredKey { distrusted_at: Some(later(1)), ..key(1, "token") };
    let change = KeyChange { moves_epoch: true, ..put([distrusted], entry(1)) };
    store.change_keys(change).await.unwrap();
    assert!(matches!(store.open(signed_by_it).await, Ok(OpenOutcome::Moved)));
    assert!(matches!(store.open(opening(store, 2, NOW)).await, Ok(OpenOutcome::Opened(_))));
}
