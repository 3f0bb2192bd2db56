//! What was sealed under an earlier key is carried over to the present one, all or nothing.

use std::sync::Arc;

use hallpass_core::port::{DataKeyChange, DataKeyRecord, KeyChange, KeyRecord, Place, Sealer, Store, StoredKey};
use hallpass_core::testing::TestSealer;
use hallpass_core::testing::sample::{self, NOW};

use super::House;
use crate::SqliteStore;

const RESEALS: fn() -> DataKeyChange = || DataKeyChange { reseals: true, ..DataKeyChange::default() };

fn place(row: &str) -> Place<'_> {
    Place { table: "signing_keys", row, column: "private_key" }
}

/// A store whose values were sealed under key 1, and another opened on it with this sealer. The first is closed.
async fn handed_over(sealer: TestSealer) -> (SqliteStore, String, Option<tempfile::TempDir>) {
    let house = House::new();
    for n in 1..=3 {
        house.open(n).await.unwrap();
    }
    let key = |n: u64, sealed_private_key: Vec<u8>| StoredKey {
        id: sample::id(n),
        key_id: format!("kid-{n}"),
        purpose: "token".to_owned(),
        algorithm: "ES256".to_owned(),
        sealed_private_key,
        public: String::new(),
        created_at: NOW,
        activates_at: NOW,
        retires_at: None,
        distrusted_at: None,
    };
    let row = key(7, Vec::new()).id.to_string();
    let sealed = TestSealer::new(1).seal(place(&row), b"a private key").unwrap();
    let put = vec![key(7, sealed), key(8, Vec::new())];
    house.port.change_keys(KeyChange { put, ..KeyChange::default() }).await.unwrap();
    let (path, House { own, port, _folder, .. }) = (house.path.clone(), house);
    drop((own, port));
    (SqliteStore::open(&path, Arc::new(sealer), sample::id(1)).unwrap(), row, _folder)
}

#[tokio::test]
async fn every_value_is_carried_over_and_the_earlier_key_is_not_needed_any_more() {
    let (store, row, folder) = handed_over(TestSealer::after(1, 2)).await;
    assert_eq!(store.sealed_otherwise().await.unwrap(), 4, "three handles and a key; a distrusted key has none");
    assert_eq!(store.change_data_keys(RESEALS()).await.unwrap(), Some(4));
    assert_eq!(store.sealed_otherwise().await.unwrap(), 0);
    assert_eq!(store.change_data_keys(RESEALS()).await.unwrap(), Some(0), "once is enough");
    let path = store.path().to_owned();
    drop(store);
    let store = SqliteStore::open(&path, Arc::new(TestSealer::new(2)), sample::id(1)).unwrap();
    for n in 1..=3 {
        assert_eq!(store.handle(sample::id(n)).await.unwrap(), Some(sample::handle(n)));
    }
    let keys = store.keys().await.unwrap();
    let opened = TestSealer::new(2).open(place(&row), &keys[0].sealed_private_key).unwrap();
    assert_eq!(opened.expose(), b"a private key");
    assert_eq!(keys[1].sealed_private_key, Vec::<u8>::new());
    drop(folder);
}

/// As `keys distrust` does to the key that takes over, from what it read before the values were sealed anew.
#[tokio::test]
async fn a_change_of_when_a_key_signs_leaves_what_was_sealed_anew_meanwhile() {
    let (store, row, folder) = handed_over(TestSealer::after(1, 2)).await;
    let read_before = store.keys().await.unwrap();
    assert_eq!(store.change_data_keys(RESEALS()).await.unwrap(), Some(4));
    let sooner = StoredKey { activates_at: NOW.plus(hallpass_core::time::Ttl::from_secs(1)), ..read_before[0].clone() };
    store.change_keys(KeyChange { put: vec![sooner.clone()], ..KeyChange::default() }).await.unwrap();
    let kept = store.keys().await.unwrap();
    assert_eq!(kept[0].activates_at, sooner.activates_at);
    let opened = TestSealer::new(2).open(place(&row), &kept[0].sealed_private_key).unwrap();
    assert_eq!(opened.expose(), b"a private key");
    drop(folder);
}

#[tokio::test]
async fn one_value_that_does_not_open_stops_all_of_it() {
    let (store, _, folder) = handed_over(TestSealer::after(1, 2)).await;
    rusqlite::Connection::open(store.path())
        .unwrap()
        .execute_batch("UPDATE grants SET handle = (SELECT handle FROM grants WHERE seq = 1) WHERE seq = 3")
        .unwrap();
    assert!(store.change_data_keys(RESEALS()).await.is_err());
    assert_eq!(store.sealed_otherwise().await.unwrap(), 4, "nothing was sealed anew");
    assert_eq!(store.handle(sample::id(1)).await.unwrap(), Some(sample::handle(1)), "and it still opens");
    drop(folder);
}
