//! Which entry tells of the newest publication, whatever is said beside it.

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::port::StoreError;
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::store_suite;

use super::House;

/// Appends entries of which the first tells of a publication.
async fn append(house: &House, count: u64) {
    let object = AuditObject::Configuration { revision: sample::revision('a').to_string() };
    let publication = AuditEntry::success(NOW, Actor::LocalAdministrator, AuditAction::ConfigurationPublish, object);
    let refused = publication.clone().failed();
    let others = (2..count).map(|n| store_suite::entry_about(sample::id(n), AuditAction::Read, NOW));
    house.port.record([publication, refused].into_iter().chain(others).collect(), None).await.unwrap();
}

async fn newest(house: &House) -> Option<u64> {
    house.port.last_publication().await.unwrap()
}

fn kept(house: &House) -> Vec<Vec<u8>> {
    let connection = rusqlite::Connection::open(&house.path).unwrap();
    let mut statement = connection.prepare("SELECT walked FROM publications_walked").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn it_is_found_by_what_the_entries_say_from_where_the_last_walk_came_to() {
    let house = House::new();
    assert_eq!(newest(&house).await, None);
    append(&house, 600).await;
    assert_eq!((newest(&house).await, kept(&house).len()), (Some(0), 0), "too short to be worth it");
    append(&house, 600).await;
    assert_eq!((newest(&house).await, kept(&house).len()), (Some(600), 1));
    house.meddle("UPDATE audit_entries SET action = 'read'; UPDATE audit_entries SET action = 'configuration.publish', outcome = 'success' WHERE sequence = 700");
    append(&house, 10).await;
    assert_eq!(newest(&house).await, Some(1_200));
    // What lies before is not read again, and what lies behind is.
    house.meddle("UPDATE audit_entries SET entry = x'7b7d' WHERE sequence = 3");
    assert_eq!(newest(&house).await, Some(1_200));
    house.meddle("UPDATE audit_entries SET entry = x'7b7d' WHERE sequence = 1200");
    let refused = house.port.last_publication().await.unwrap_err();
    assert!(matches!(refused, StoreError::Inconsistent { table: "audit_entries", .. }), "{refused}");
}

/// Nobody else can say how far it was walked: what does not open, or is of another log, is not believed.
#[tokio::test]
async fn what_is_kept_of_a_walk_is_believed_of_this_log_alone() {
    let house = House::new();
    append(&house, 2_000).await;
    assert_eq!(newest(&house).await, Some(0));
    let other = House::new();
    append(&other, 600).await;
    append(&other, 1_000).await;
    assert_eq!(newest(&other).await, Some(600));
    let put = |walked: &[u8]| {
        let walked: String = walked.iter().map(|byte| format!("{byte:02x}")).collect();
        house.meddle(&format!("UPDATE publications_walked SET walked = x'{walked}'"));
    };
    put(b"2000\n\n\n");
    assert_eq!(newest(&house).await, Some(0));
    put(&kept(&other)[0]);
    house.port.last_publication().await.unwrap_err();
    // All of it is read then.
    house.meddle("DELETE FROM publications_walked; UPDATE audit_entries SET entry = x'7b7d' WHERE sequence = 3");
    house.port.last_publication().await.unwrap_err();
}
