//! Data keys at rest.

use std::sync::Arc;

use super::{audit_len, open, opening};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::port::{DataKeyChange, DataKeyId, Store, StoredDataKey, Wrapping};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(seconds))
}

fn key(n: u8) -> StoredDataKey {
    StoredDataKey {
        id: DataKeyId([n; 8]),
        wrapping: Wrapping { kek: format!("kek-{n}"), version: "1".to_owned(), wrapped: vec![0, 159, 146, n] },
        created_at: later(n.into()),
        wrapped_at: later(n.into()),
    }
}

fn entry(n: u8) -> AuditEntry {
    let object = AuditObject::Key { id: DataKeyId([n; 8]).to_string() };
    AuditEntry::success(later(n.into()), Actor::Broker, AuditAction::KeyWrap, object)
}

fn put(key: StoredDataKey, entry: AuditEntry) -> DataKeyChange {
    DataKeyChange { put: Some(key), entries: vec![entry], ..DataKeyChange::default() }
}

/// In whatever wrapping they are; what they are and when they were made does not change.
pub async fn data_keys_are_read_back_as_they_were_kept(store: &Arc<dyn Store>) {
    assert_eq!(store.data_keys().await.unwrap(), []);
    store.change_data_keys(put(key(2), entry(2))).await.unwrap();
    store.change_data_keys(put(key(1), entry(1))).await.unwrap();
    assert_eq!(store.data_keys().await.unwrap(), [key(1), key(2)], "the oldest first");
    let wrapping = Wrapping { kek: "another".to_owned(), version: "7".to_owned(), wrapped: vec![1] };
    let anew = StoredDataKey { wrapping, wrapped_at: later(90), ..key(2) };
    let change = DataKeyChange { in_place_of: Some(key(2).wrapping), ..put(anew.clone(), entry(3)) };
    assert_eq!(store.change_data_keys(change).await.unwrap(), Some(0));
    assert_eq!(store.data_keys().await.unwrap(), [key(1), anew]);
    assert_eq!(audit_len(store).await, 3);
}

/// Of two that wrap a key anew at once, one is told that the other was before it.
pub async fn a_wrapping_takes_the_place_of_none_but_the_one_that_was_read(store: &Arc<dyn Store>) {
    let opened = open(store, opening(store, 1, NOW)).await;
    store.change_data_keys(put(key(1), entry(1))).await.unwrap();
    let to = |name: &str, in_place_of| {
        let wrapping = Wrapping { kek: name.to_owned(), version: "7".to_owned(), wrapped: vec![1] };
        let put = put(StoredDataKey { wrapping, ..key(1) }, entry(2));
        DataKeyChange { in_place_of, reseals: true, remove: vec![key(2).id], ..put }
    };
    let read = key(1).wrapping;
    assert_eq!(store.change_data_keys(to("first", Some(read.clone()))).await.unwrap(), Some(0));
    let (first, told) = (store.data_keys().await.unwrap(), audit_len(store).await);
    let otherwise = Wrapping { wrapped: vec![2], ..first[0].wrapping.clone() };
    let unknown = StoredDataKey { id: DataKeyId([9; 8]), ..key(1) };
    let of_unknown = DataKeyChange { in_place_of: Some(key(1).wrapping), ..put(unknown, entry(3)) };
    for late in [to("second", Some(read)), to("second", Some(otherwise)), to("second", None), of_unknown] {
        assert_eq!(store.change_data_keys(late.clone()).await.unwrap(), None, "{late:?}");
    }
    assert_eq!((store.data_keys().await.unwrap(), audit_len(store).await), (first.clone(), told));
    let again = to("second", Some(first[0].wrapping.clone()));
    assert_eq!(store.change_data_keys(again).await.unwrap(), Some(0), "whoever reads again may");
    assert!(store.handle(opened.record.id).await.unwrap().is_some());
}

/// Whoever replaces a key never has neither of the two.
pub async fn a_change_of_data_keys_is_written_whole_with_its_entries(store: &Arc<dyn Store>) {
    store.change_data_keys(put(key(1), entry(1))).await.unwrap();
    let change = DataKeyChange { remove: vec![key(1).id], reseals: true, ..put(key(2), entry(2)) };
    store.change_data_keys(change).await.unwrap();
    assert_eq!(store.data_keys().await.unwrap(), [key(2)]);
    assert_eq!(audit_len(store).await, 2);
}

/// Sealing it anew would cost, and change nothing.
pub async fn what_is_sealed_under_the_present_key_is_left_alone(store: &Arc<dyn Store>) {
    let grant = open(store, opening(store, 1, NOW)).await;
    let handle = store.handle(sample::id(1)).await.unwrap();
    assert_eq!(store.sealed_otherwise().await.unwrap(), 0);
    let resealed = store.change_data_keys(DataKeyChange { reseals: true, ..put(key(1), entry(1)) }).await.unwrap();
    assert_eq!(resealed, Some(0));
    assert_eq!(store.handle(grant.record.id).await.unwrap(), handle);
}
