//! Commits that fail, and a process that dies before or after one. Needs the feature `failpoints`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use fail::FailScenario;
use hallpass_core::port::{OnceRecorded, OpenOutcome, Publication, Store, StoreError};
use hallpass_core::testing::store_suite::history::publication;
use hallpass_core::testing::store_suite::{audit_len, audit_of, open, opening};
use hallpass_core::testing::{TestSealer, sample};
use hallpass_sqlite::SqliteStore;

fn store_at(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Arc::new(TestSealer::new(1)), sample::id(1)).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Everybody in the batch is told, nothing of it is there, and the next one is written.
#[test]
fn a_commit_that_fails_is_answered_with_the_error_and_leaves_nothing() {
    let scenario = FailScenario::setup();
    let folder = tempfile::tempdir().unwrap();
    let own = Arc::new(store_at(&folder.path().join("hallpass.db")));
    let store: Arc<dyn Store> = Arc::clone(&own) as Arc<dyn Store>;
    runtime().block_on(async {
        open(&store, opening(&store, 1, sample::NOW)).await;
        let epoch = store.epoch();
        fail::cfg("store::before-commit", "return").unwrap();
        let calls: Vec<_> = (2..=20)
            .map(|n| {
                let (store, opening) = (Arc::clone(&store), opening(&store, n, sample::NOW));
                tokio::spawn(async move { store.open(opening).await })
            })
            .collect();
        for call in calls {
            let answer = call.await.unwrap();
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
        }
        assert!(store.move_epoch(Vec::new()).await.is_err());
        assert!(store.check(hallpass_core::time::Timestamp::MAX).await.is_err());
        assert_eq!(store.epoch(), epoch, "what was not committed did not happen");
        assert_eq!(audit_len(&store).await, 1);
        fail::remove("store::before-commit");

        for n in 2..=20 {
            assert!(matches!(store.open(opening(&store, n, sample::NOW)).await, Ok(OpenOutcome::Opened(_))));
        }
        let places: Vec<u64> = audit_of(&store, &Default::default()).await.iter().map(|entry| entry.sequence).collect();
        assert_eq!(places, (0..20).collect::<Vec<_>>(), "and the log has no gap");
        assert_eq!(own.integrity_check().await.unwrap(), Vec::<String>::new());
    });
    scenario.teardown();
}

/// A commit that is reported to have failed may be on the disk. What was to be done with it is done before anybody can read
/// the epoch that it moved; and never where it is not on the disk.
#[test]
fn what_a_commit_was_to_do_is_done_when_it_is_found_on_the_disk() {
    let scenario = FailScenario::setup();
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(store_at(&folder.path().join("hallpass.db")));
    runtime().block_on(async {
        let mut parent = None;
        for (point, digit, durable) in [("store::before-commit", 'a', false), ("store::answer-lost", 'b', true)] {
            let done: Arc<Mutex<Vec<u64>>> = Arc::default();
            let (seen, at) = (Arc::clone(&done), Arc::clone(&store));
            let then = OnceRecorded::does(move || seen.lock().unwrap().push(at.epoch()));
            let epoch = store.epoch();
            fail::cfg(point, "return").unwrap();
            let publication = Publication { then, ..publication(sample::revision(digit), parent.clone()) };
            assert!(store.publish_revision(publication).await.is_err());
            fail::remove(point);
            let active = store.active_revision().await.unwrap().map(|active| active.id);
            assert_eq!(active == Some(sample::revision(digit)), durable, "{point}");
            assert_eq!((store.epoch(), done.lock().unwrap().len()), (epoch, 0), "{point}");
            store.move_epoch(Vec::new()).await.unwrap();
            let expected = if durable { vec![epoch] } else { Vec::new() };
            assert_eq!(*done.lock().unwrap(), expected, "{point}: done once, before the epoch can be read");
            assert_eq!(store.epoch(), epoch + 1 + u64::from(durable));
            parent = active;
        }
    });
    scenario.teardown();
}

const PATH: &str = "HALLPASS_TEST_STORE_THAT_DIES";

/// Opens grant 1, then dies at `point` while opening grant 2; or does so, where it is the child.
fn die_at(test: &str, point: &'static str) -> Option<(tempfile::TempDir, SqliteStore)> {
    if let Some(path) = std::env::var_os(PATH) {
        let store: Arc<dyn Store> = Arc::new(store_at(Path::new(&path)));
        runtime().block_on(async {
            open(&store, opening(&store, 1, sample::NOW)).await;
            fail::cfg_callback(point, || std::process::abort()).unwrap();
            let _ = store.open(opening(&store, 2, sample::NOW)).await;
        });
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let status = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1"])
        .env(PATH, &path)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(!status.unwrap().success(), "it was to die");
    let store = store_at(&path);
    Some((folder, store))
}

#[test]
fn a_process_that_dies_before_a_commit_has_written_nothing_of_it() {
    let test = "a_process_that_dies_before_a_commit_has_written_nothing_of_it";
    let Some((_folder, store)) = die_at(test, "store::before-commit") else { return };
    runtime().block_on(async {
        assert!(store.grant(sample::id(1)).await.unwrap().is_some());
        assert!(store.grant(sample::id(2)).await.unwrap().is_none());
        assert_eq!(store.integrity_check().await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_process_that_dies_after_a_commit_has_written_all_of_it() {
    let test = "a_process_that_dies_after_a_commit_has_written_all_of_it";
    let Some((_folder, store)) = die_at(test, "store::after-commit") else { return };
    runtime().block_on(async {
        assert!(store.grant(sample::id(2)).await.unwrap().is_some());
        assert_eq!(store.handle(sample::id(2)).await.unwrap(), Some(sample::handle(2)));
        assert_eq!(store.decisions(9).await.unwrap().len(), 2);
        assert_eq!(store.integrity_check().await.unwrap(), Vec::<String>::new());
        let store: Arc<dyn Store> = Arc::new(store);
        assert_eq!(audit_len(&store).await, 2);
    });
}
