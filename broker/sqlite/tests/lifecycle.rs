//! Opening, locking, migrating and opening again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hallpass_core::audit::AuditAction;
use hallpass_core::credential::RevocationClass;
use hallpass_core::grant::{Cause, Ending};
use hallpass_core::id::LogId;
use hallpass_core::port::{Applied, AuditLog, Change, Share, Store, StoreError};
use hallpass_core::testing::store_suite::{self, audit_of, entry_about, open, opening, opening_of};
use hallpass_core::testing::{TestSealer, sample};
use hallpass_core::time::{Timestamp, Ttl};
use hallpass_sqlite::{Migrated, OpenError, SqliteStore};

fn store_at(path: &Path, log: u64) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Arc::new(TestSealer::new(1)), sample::id::<LogId>(log))
}

fn mode(path: PathBuf) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let store: Arc<dyn Store> = Arc::new(store_at(&path, 1).unwrap());
    let grant = open(&store, opening(&store, 1, sample::NOW)).await;
    let epoch = store.move_epoch(Vec::new()).await.unwrap();
    let before = audit_of(&store, &Default::default()).await;
    drop(store);

    let reopened = store_at(&path, 2).unwrap();
    assert_eq!(reopened.log_id(), sample::id(1), "the log keeps the id of its first opening");
    let store: Arc<dyn Store> = Arc::new(reopened);
    assert_eq!(store.grant(grant.record.id).await.unwrap(), Some(grant.clone()));
    assert_eq!(store.epoch(), epoch);
    assert!(store.next_status_index() > grant.record.status_index);
    let behind = opening(&store, 2, sample::NOW.minus(Ttl::from_secs(3)));
    assert!(matches!(store.open(behind).await, Err(StoreError::ClockBehind { .. })));
    open(&store, opening(&store, 2, sample::NOW)).await;
    let after = audit_of(&store, &Default::default()).await;
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.last().unwrap().sequence, before.len() as u64, "the sequence goes on");
}

#[tokio::test]
async fn what_a_dead_worker_held_is_given_out_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let store: Arc<dyn Store> = Arc::new(store_at(&path, 1).unwrap());
    let grant = open(&store, opening_of(&store, sample::pending(1, RevocationClass::Hard, sample::NOW), 1)).await;
    let due = sample::NOW.plus(Ttl::from_mins(1));
    let reserve = async |store: &Arc<dyn Store>, n: u64| {
        let reserved = store.reserve_due(due, Ttl::from_secs(22), sample::id(n), &Share::All, 10).await.unwrap();
        reserved.into_iter().map(|reserved| reserved.grant.record.id).collect::<Vec<_>>()
    };
    assert_eq!(reserve(&store, 1).await, [grant.record.id]);
    assert!(reserve(&store, 2).await.is_empty(), "held while its holder may live");
    drop(store);
    let store: Arc<dyn Store> = Arc::new(store_at(&path, 2).unwrap());
    assert_eq!(reserve(&store, 3).await, [grant.record.id]);
    let stale = grant.begin_ending(Ending::by_broker(Cause::DEADLINE_PASSED, due), false).unwrap();
    let mut change = Change::of(stale, entry_about(sample::id(1), AuditAction::GrantRevoke, due));
    change.reservation = Some(sample::id(1));
    assert_eq!(store.apply(change).await.unwrap(), Applied::Conflict, "the hold of before is worth nothing");
}

#[tokio::test]
async fn a_second_broker_is_refused_and_told_where_the_lock_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let first = store_at(&path, 1).unwrap();
    let lock = folder.path().join("hallpass.db.lock");
    for refused in [store_at(&path, 2).map(|_| ()), SqliteStore::migrate(&path).map(|_| ())] {
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, OpenError::InUse { lock: named } if *named == lock), "{refused}");
        assert!(refused.to_string().contains(&lock.display().to_string()));
    }
    first.check(Timestamp::MAX).await.unwrap();
    drop(first);
    store_at(&path, 3).unwrap().check(Timestamp::MAX).await.unwrap();
}

#[test]
fn a_schema_from_the_future_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let Migrated { from: 0, to: newest } = SqliteStore::migrate(&path).unwrap() else { panic!("it was new") };
    assert_eq!(SqliteStore::migrate(&path).unwrap(), Migrated { from: newest, to: newest });
    drop(store_at(&path, 1).unwrap());
    for version in ["99", "-1"] {
        rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", version).unwrap();
        let refused = store_at(&path, 1).unwrap_err();
        assert!(matches!(refused, OpenError::NewerSchema { known, .. } if known == newest as i64), "{refused}");
        assert!(SqliteStore::migrate(&path).is_err());
    }
    assert!(store_at(&path, 1).unwrap_err().to_string().contains("version -1"));
}

#[tokio::test]
async fn the_files_are_their_owners_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store: Arc<dyn Store> = Arc::new(store_at(&path, 1).unwrap());
    open(&store, opening(&store, 1, sample::NOW)).await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(folder.path().join(format!("hallpass.db{suffix}"))), 0o600, "{suffix}");
    }
}

#[test]
fn what_is_no_database_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    std::fs::write(&path, b"this is not a database, and it is long enough to be read as one ".repeat(20)).unwrap();
    let refused = store_at(&path, 1).unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&path.display().to_string()));
    let nowhere = folder.path().join("no such folder/hallpass.db");
    assert!(matches!(store_at(&nowhere, 1), Err(OpenError::File { .. })));
}

/// A process that is killed while it opens grants: what it was told is durable is there, and nothing is half there.
#[test]
fn every_acknowledged_grant_survives_a_kill() {
    use std::io::BufRead;
    const PATH: &str = "HALLPASS_TEST_STORE_TO_BE_KILLED";
    if let Some(path) = std::env::var_os(PATH) {
        return open_and_tell_until_killed(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["every_acknowledged_grant_survives_a_kill", "--exact", "--nocapture", "--test-threads=1"])
        .env(PATH, &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged: Vec<u64> = Vec::new();
    let told = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("durable ")?.parse().ok());
    for n in told {
        acknowledged.push(n);
        if acknowledged.len() == 300 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 300);

    let store = store_at(&path, 9).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in acknowledged {
            assert!(store.grant(sample::id(n)).await.unwrap().is_some(), "{n}");
            assert!(store.handle(sample::id(n)).await.unwrap().is_some(), "{n}");
        }
        assert_eq!(store.integrity_check().await.unwrap(), Vec::<String>::new());
        let store: Arc<dyn Store> = Arc::new(store);
        let page = hallpass_core::port::PageRequest { cursor: None, limit: 500 };
        let grants = store.grants(&Default::default(), &page).await.unwrap();
        for grant in &grants.items {
            assert_eq!(store_suite::audit_about(&store, grant.record.id).await.len(), 1, "state and evidence together");
        }
    });
}

fn open_and_tell_until_killed(path: &Path) {
    use std::io::Write;
    let store: Arc<dyn Store> = Arc::new(store_at(path, 1).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let next = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (store, next) = (Arc::clone(&store), Arc::clone(&next));
                tokio::spawn(async move {
                    // Bounded, should nobody kill it.
                    for _ in 0..5_000 {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        open(&store, opening(&store, n, sample::NOW)).await;
                        let mut out = std::io::stdout().lock();
                        let _ = writeln!(out, "durable {n}").and_then(|()| out.flush());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}
