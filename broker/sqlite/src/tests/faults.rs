//! A disk that is full, read-only or held by somebody refuses new work, keeps what was promised, and is used again as
//! soon as it can be, without a restart.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use hallpass_core::port::{OpenOutcome, StoreError};
use hallpass_core::testing::sample;
use hallpass_core::testing::store_suite::{self, read};
use rusqlite::Connection;

use super::House;

fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

/// Opens until one is refused again and again; answers how many were opened. What a refused one gives back may be room
/// enough for it.
async fn fill(house: &House) -> u64 {
    let (mut opened, mut refused) = (0, 0);
    while refused < 3 {
        assert!(opened < 5_000, "it never filled up");
        match house.open(opened + 1).await {
            Ok(OpenOutcome::Opened(_)) => (opened, refused) = (opened + 1, 0),
            Err(StoreError::Unavailable(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    opened
}

async fn keeps_what_it_promised(house: &House, opened: u64) {
    for n in 1..=opened {
        assert_eq!(read(&house.port, sample::id(n)).await.record.id, sample::id(n));
    }
    assert_eq!(store_suite::audit_len(&house.port).await as u64, opened, "one entry each, none of the refused");
    house.assert_sound().await;
}

#[tokio::test]
async fn a_full_database_refuses_new_grants_and_takes_them_again_when_there_is_room() {
    let house = House::new();
    house.pragma("PRAGMA max_page_count = 120").await;
    let opened = fill(&house).await;
    assert!(opened > 3, "{opened}");
    let error = house.open(9_001).await.unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    refused(house.port.check(hallpass_core::time::Timestamp::MAX).await);
    keeps_what_it_promised(&house, opened).await;

    house.pragma("PRAGMA max_page_count = 100000").await;
    house.port.check(hallpass_core::time::Timestamp::MAX).await.unwrap();
    assert!(matches!(house.open(opened + 1).await, Ok(OpenOutcome::Opened(_))));
    keeps_what_it_promised(&house, opened + 1).await;
}

#[tokio::test]
async fn a_connection_that_cannot_write_is_replaced() {
    let house = House::new();
    house.open(1).await.unwrap();
    house.pragma("PRAGMA query_only = on").await;
    refused(house.open(2).await);
    keeps_what_it_promised(&house, 1).await;
    house.port.check(hallpass_core::time::Timestamp::MAX).await.unwrap();
    house.open(2).await.unwrap();
    keeps_what_it_promised(&house, 2).await;
}

#[tokio::test]
async fn a_database_held_by_somebody_else_refuses_until_it_is_let_go() {
    let house = House::new();
    house.open(1).await.unwrap();
    let other = Connection::open(&house.path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    refused(house.open(2).await);
    keeps_what_it_promised(&house, 1).await;
    other.execute_batch("ROLLBACK").unwrap();
    house.port.check(hallpass_core::time::Timestamp::MAX).await.unwrap();
    house.open(2).await.unwrap();
}

/// A real disk that is really full. Needs the right to mount; skipped without it.
#[tokio::test]
async fn a_full_disk_refuses_new_grants_and_takes_them_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), "3m") else {
        eprintln!("skipped: this user cannot mount a tmpfs");
        return;
    };
    let house = House::at(folder.path().join("hallpass.db"), None);
    let opened = fill(&house).await;
    assert!(opened > 3, "{opened}");
    refused(house.open(9_001).await);
    refused(house.port.check(hallpass_core::time::Timestamp::MAX).await);
    keeps_what_it_promised(&house, opened).await;

    disk.resize("64m");
    house.port.check(hallpass_core::time::Timestamp::MAX).await.unwrap();
    house.open(opened + 1).await.unwrap();
    keeps_what_it_promised(&house, opened + 1).await;
    drop(house);
    drop(disk);
}

struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    fn resize(&self, size: &str) {
        let resized = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(self.0).status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn what_fails_in_a_batch_leaves_the_rest_of_it_written() {
    let house = House::new();
    let calls = (1..=60).map(|n| {
        let (store, own) = (Arc::clone(&house.port), Arc::clone(&house.own));
        tokio::spawn(async move {
            if n % 6 == 0 {
                let broken = own.writer.run(|transaction| {
                    transaction.execute("INSERT INTO links VALUES ('a', 'b', 'c')", [])?;
                    transaction.execute("INSERT INTO links VALUES ('a', 'b', 'twice')", [])
                });
                refused(broken.await);
            } else {
                let opening = store_suite::opening(&store, n, sample::NOW);
                assert!(matches!(store.open(opening).await, Ok(OpenOutcome::Opened(_))));
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(store_suite::audit_len(&house.port).await, 50);
    let links = |connection: &Connection| Ok(connection.query_row("SELECT count(*) FROM links", [], |row| row.get(0))?);
    assert_eq!(house.own.readers.read::<i64, _>(links).await.unwrap(), 0);
    house.assert_sound().await;
}

#[tokio::test]
async fn a_read_cannot_write() {
    let house = House::new();
    house.open(1).await.unwrap();
    for sql in
        ["DELETE FROM grants", "UPDATE store_state SET epoch = 7", "DROP TABLE grants", "PRAGMA user_version = 9"]
    {
        let stray = house.own.readers.read(move |connection| Ok(connection.execute(sql, [])?)).await;
        refused(stray);
    }
    keeps_what_it_promised(&house, 1).await;
}

#[tokio::test]
async fn an_answer_nobody_waits_for_any_more_does_not_stop_the_writer() {
    let house = House::new();
    for n in 1..=20 {
        let opening = store_suite::opening(&house.port, n, sample::NOW);
        let store = Arc::clone(&house.port);
        let call = tokio::spawn(async move { store.open(opening).await });
        tokio::task::yield_now().await;
        call.abort();
    }
    house.port.check(hallpass_core::time::Timestamp::MAX).await.unwrap();
    house.open(100).await.unwrap();
    house.assert_sound().await;
}
