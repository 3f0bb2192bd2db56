//! The tree in the database: what it is built again from, and what the integrity check finds.

use hallpass_core::audit::tree::Frontier;
use hallpass_core::audit::{AuditAction, CheckpointSigner, Leaf};
use hallpass_core::port::AuditLog as _;
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::{TestSigner, store_suite};
use hallpass_core::time::Ttl;
use rusqlite::{Connection, params};
use std::sync::Arc;

use super::House;

/// Appends `count` entries, many to a call.
async fn append(house: &House, count: u64) {
    let entry = |n| store_suite::entry_about(sample::id(n), AuditAction::Read, NOW);
    for start in (0..count).step_by(100) {
        house.port.record((start..count.min(start + 100)).map(entry).collect(), None).await.unwrap();
    }
}

fn reopened(house: House) -> House {
    let House { own, port, path, _folder: folder } = house;
    drop((own, port));
    House::at(path, folder)
}

fn count(house: &House, sql: &str) -> i64 {
    Connection::open(&house.path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn an_entry_costs_no_row_but_its_own() {
    let house = House::new();
    append(&house, 255).await;
    assert_eq!(count(&house, "SELECT count(*) FROM audit_tiles"), 0);
    append(&house, 1).await;
    assert_eq!(count(&house, "SELECT count(*) FROM audit_tiles"), 1);
    append(&house, 1_000).await;
    assert_eq!(count(&house, "SELECT count(*) FROM audit_tiles"), 1_256 / 256);
    house.assert_sound().await;
}

#[tokio::test]
async fn the_frontier_is_found_again_wherever_the_log_stopped() {
    let mut house = House::new();
    for more in [0, 1, 254, 1, 1, 255, 90] {
        append(&house, more).await;
        let head = house.own.tree_head();
        house = reopened(house);
        assert_eq!(house.own.tree_head(), head, "after {}", head.size);
        assert_eq!(house.own.root_at(head.size).await.unwrap(), Some(head.root));
    }
    house.assert_sound().await;
}

/// Levels above the first take 65,536 entries each: written beside the store, as it would have.
#[tokio::test]
async fn a_log_of_the_first_schema_gets_its_tiles_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let log = sample::id(5);
    let size = 65_536 + 700;
    let mut frontier = Frontier::default();
    {
        let mut connection = Connection::open(&path).unwrap();
        connection.execute_batch(include_str!("../../migrations/0001_the_record.sql")).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        crate::transaction::claim_log(&connection, log).unwrap();
        let entry = store_suite::entry_about(sample::id(1), AuditAction::Read, NOW);
        let entry = serde_json::to_string(&entry).unwrap();
        let transaction = connection.transaction().unwrap();
        for sequence in 0..size {
            let sql = "INSERT INTO audit_entries (sequence, time, action, outcome, entry) VALUES (?1, 0, 'read', 'success', ?2)";
            transaction.prepare_cached(sql).unwrap().execute(params![sequence, entry.as_bytes()]).unwrap();
            frontier.push(Leaf::new(log, u64::try_from(sequence).unwrap(), &entry).hash());
        }
        transaction.commit().unwrap();
    }
    let house = House::at(path, Some(folder));
    assert_eq!(house.own.tree_head(), frontier.head());
    assert_eq!(count(&house, "SELECT count(*) FROM audit_tiles WHERE level = 1"), i64::from(size / 256));
    assert_eq!(count(&house, "SELECT count(*) FROM audit_tiles WHERE level = 2"), 1);
    for at in [0, 65_535, 65_536, 65_537, u64::try_from(size).unwrap() - 1] {
        let (proof, root) = house.own.inclusion(at, frontier.size()).await.unwrap().unwrap();
        let leaf = &house.own.leaves(at, 1).await.unwrap()[0];
        assert_eq!(proof.verify(leaf.hash(), root), Ok(()), "{at}");
    }
    let shown = house.own.consistency(65_537, frontier.size()).await.unwrap().unwrap();
    let earlier = house.own.root_at(65_537).await.unwrap().unwrap();
    assert_eq!(shown.verify(earlier, frontier.head().root), Ok(()));
    append(&house, 100).await;
    house.assert_sound().await;

    // Tiles are only what was computed: without them they are computed again.
    house.meddle("DELETE FROM audit_tiles WHERE level = 2");
    let house = reopened(house);
    house.assert_sound().await;
}

/// What somebody with the file could do.
#[tokio::test]
async fn the_integrity_check_finds_a_log_that_was_changed() {
    let changes = [
        (
            "UPDATE audit_entries SET entry = CAST(replace(entry, 'read', 'reed') AS BLOB) WHERE sequence = 7",
            "tile of the audit entries from 0 to before 256",
        ),
        (
            "UPDATE audit_entries SET entry = CAST(replace(entry, 'read', 'reed') AS BLOB) WHERE sequence = 590",
            "not what was signed when it had 600",
        ),
        ("DELETE FROM audit_entries WHERE sequence = 300", "entry 300 of the audit log is not there"),
        ("DELETE FROM audit_entries WHERE sequence >= 590", "a log of 600 entries was signed, and now it is shorter"),
        (
            "UPDATE audit_tiles SET hash = zeroblob(32) WHERE tile = 1",
            "tile of the audit entries from 256 to before 512",
        ),
        ("UPDATE audit_entries SET sequence = -1 WHERE sequence = 599", "signed"),
        ("UPDATE audit_checkpoints SET root = zeroblob(32)", "not what was signed when it had 600"),
    ];
    for (change, found) in changes {
        let house = House::new();
        append(&house, 600).await;
        let signer = CheckpointSigner::new("log", Arc::new(TestSigner::new(1))).unwrap();
        house.own.keep_checkpoint(signer.sign(house.own.tree_head()).unwrap(), NOW, false).await.unwrap();
        house.assert_sound().await;
        house.meddle(change);
        let problems = house.own.integrity_check().await;
        let said = format!("{problems:?}");
        assert!(said.contains(found), "{change}: {said}");
    }
}

#[tokio::test]
async fn checkpoints_of_a_day_are_kept_and_the_first_of_each_day_before_it() {
    let house = House::new();
    let signer = CheckpointSigner::new("log", Arc::new(TestSigner::new(1))).unwrap();
    for hour in 0..72 {
        append(&house, 1).await;
        let signed = signer.sign(house.own.tree_head()).unwrap();
        house.own.keep_checkpoint(signed, NOW.plus(Ttl::from_hours(hour)), false).await.unwrap();
    }
    let kept = count(&house, "SELECT count(*) FROM audit_checkpoints");
    let days = count(&house, "SELECT count(DISTINCT signed_at / 86400000) FROM audit_checkpoints");
    assert!((3..=4).contains(&days), "{days}");
    assert!((25..=25 + days).contains(&kept), "{kept}");
    assert_eq!(count(&house, "SELECT count(*) FROM audit_checkpoints WHERE first_of_day = 1"), days);
    house.assert_sound().await;
}
