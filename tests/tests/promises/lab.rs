//! A world over a real store in a folder of its own.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use hallpass_core::audit::{AuditObject, AuditOutcome, RecordedEntry};
use hallpass_core::credential::CredentialMaterial;
use hallpass_core::id::GrantId;
use hallpass_core::port::{AuditFilter, PageRequest, Sealer, Store};
use hallpass_core::service::open::Opened;
use hallpass_core::testing::{MockClock, Nature, TestSealer, World, sample};
use hallpass_sqlite::SqliteStore;
use tempfile::TempDir;

/// A world, with the file that its store is in.
pub(crate) struct Lab {
    pub(crate) world: World,
    sealer: Arc<dyn Sealer>,
    folder: TempDir,
}

impl std::ops::Deref for Lab {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Lab {
    /// A lab whose backend is of this nature.
    pub(crate) fn new(nature: Nature) -> Self {
        // Memory where there is any: what is tested here is not the disk.
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let sealer: Arc<dyn Sealer> = Arc::new(TestSealer::new(1));
        let store = open(&folder, &sealer);
        let clock = Arc::new(MockClock::starting_at(sample::NOW));
        Self { world: World::new(store, Arc::clone(&sealer), clock, nature), sealer, folder }
    }

    /// The broker stops and starts again over the same file. Answers how many grants wait for a sign of life from then on.
    pub(crate) async fn restart(&self) -> usize {
        self.world.restart(|| open(&self.folder, &self.sealer)).await
    }

    /// The whole audit log.
    pub(crate) async fn log(&self) -> Vec<RecordedEntry> {
        let (mut log, mut page) = (Vec::new(), PageRequest { cursor: None, limit: PageRequest::MAX_LIMIT });
        loop {
            let found = self.ports.store.audit(&AuditFilter::default(), &page).await.unwrap();
            log.extend(found.items);
            match found.next {
                Some(next) => page.cursor = Some(next),
                None => return log,
            }
        }
    }

    /// Every byte that the store has written, side files included.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.is_file()).flat_map(|path| std::fs::read(path).unwrap()).collect()
    }
}

fn open(folder: &TempDir, sealer: &Arc<dyn Sealer>) -> Arc<dyn Store> {
    let path = folder.path().join("hallpass.db");
    Arc::new(SqliteStore::open(&path, Arc::clone(sealer), sample::id(99)).unwrap())
}

/// The secret that a caller got.
pub(crate) fn secret(opened: &Opened) -> String {
    match &opened.credential.material {
        CredentialMaterial::Database { password, .. } => password.expose().to_owned(),
        other => panic!("the testing backend makes no {other:?}"),
    }
}

/// Entries that tell of a change to `grant`; refusals change nothing.
pub(crate) fn told_of(log: &[RecordedEntry], grant: GrantId) -> Vec<&RecordedEntry> {
    let about = |object: &AuditObject| match object {
        AuditObject::Grant { id } => *id == grant,
        AuditObject::Grants { ids } => ids.contains(&grant),
        _ => false,
    };
    log.iter().filter(|one| about(&one.entry.object) && one.entry.outcome != AuditOutcome::Denied).collect()
}

/// Runs a test whose timers pass as soon as nothing else can happen. Not for one that holds a call back while the store
/// works for another: waiting for the store is nothing happening, and the held call's deadline would pass.
pub(crate) fn in_no_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// How many cases a property is tried with.
pub(crate) fn cases(usual: u32) -> proptest::test_runner::Config {
    let full = std::env::var_os("HALLPASS_TESTS_FULL").is_some_and(|value| value == "1");
    proptest::test_runner::Config {
        cases: if full { 2_000 } else { usual },
        failure_persistence: None,
        ..proptest::test_runner::Config::default()
    }
}
