//! Starts that must be refused, because going on would harm the record.

use std::path::Path;

use rusqlite::Connection;

use crate::house::House;
use crate::ledger;
use crate::process::{Start, Started};
use crate::witness::{Wanted, Witness};

#[tokio::test]
async fn a_second_process_on_the_same_store_is_refused_and_the_first_works_on() {
    let mut house = House::open().await;
    let mut second = house.second_process();
    let Started::Ended(status) = second.start(&house.caller.client, Start::default()).await else {
        panic!("two brokers write to one store");
    };
    assert!(!status.success(), "{status}");
    let output = second.output();
    assert!(output.contains("another process uses this store"), "{output}");
    let witness = Witness::default();
    assert!(witness.ask(&house.caller, Wanted::Token).await.is_some(), "the first broker stopped working");
    // The lock ends with whoever holds it, however that ends.
    house.process.kill9().await;
    assert_eq!(second.start(&house.caller.client, Start::default()).await, Started::Ready, "{}", second.output());
    ledger::assert_sound(&house.store());
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut house = House::open().await;
    let witness = Witness::default();
    assert!(witness.ask(&house.caller, Wanted::Token).await.is_some());
    house.process.kill9().await;
    let known = set_version(&house.database, |known| known + 1);
    let status = house.start_in_vain().await;
    assert!(!status.success(), "{status}");
    let output = house.process.output();
    assert!(output.contains("a newer version of it has run here"), "{output}");
    let found = set_version(&house.database, |_| known);
    assert_eq!(found, known + 1, "the refused start changed the database");
    house.start().await;
    witness.assert_kept(&house).await;
}

/// Changes the version of the schema and gives the one that was there.
fn set_version(database: &Path, change: impl FnOnce(i64) -> i64) -> i64 {
    let database = Connection::open(database).expect("the database opens");
    let found = database.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
    database.pragma_update(None, "user_version", change(found)).expect("written");
    found
}
