//! No durable write is possible: the disk is full, the file may not grow, somebody else holds the database. Then nothing
//! is given out, the broker says so, and it works again when the trouble is over, without a restart.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hallpass_tests::{component, eventually};
use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::house::House;
use crate::ledger::{self, text};
use crate::process::{DEADLINE, Start};
use crate::witness::{Errand, Wanted, Witness};

/// Requests while nothing can be written.
const REQUESTS: usize = 20;

// EXP-04
#[tokio::test]
async fn on_a_full_disk_it_gives_nothing_out_and_recovers() {
    let Some(disk) = SmallDisk::mount() else { return };
    let folder = TempDir::with_prefix("hallpass-crash-").expect("a temporary folder");
    let store = json!({"store": {"path": disk.folder().join("hallpass.db")}});
    let mut house = House::build_in(folder, store).await;
    house.start().await;
    let filler = disk.folder().join("filler");
    let fill = |_: &House| fill(&filler);
    assert_fails_closed(&mut house, fill, |_, ()| fs::remove_file(&filler).expect("removed")).await;
}

// EXP-04
#[tokio::test]
async fn when_its_files_may_not_grow_it_gives_nothing_out_and_recovers() {
    let mut house = House::build().await;
    house.start_as(Start { outlive_file_size_limit: true, ..Start::default() }).await;
    let limit = |house: &House| {
        let log = PathBuf::from(format!("{}-wal", house.database.display()));
        let length = fs::metadata(log).expect("a write-ahead log").len();
        limit_file_size(house, Some(length))
    };
    assert_fails_closed(&mut house, limit, |house, unlimited| {
        limit_file_size(house, unlimited);
    })
    .await;
}

// EXP-04
#[tokio::test]
async fn while_somebody_else_holds_the_database_it_gives_nothing_out_and_recovers() {
    let mut house = House::open().await;
    let hold = |house: &House| {
        let connection = Connection::open(&house.database).expect("the database opens");
        connection.busy_timeout(DEADLINE).expect("a timeout can be set");
        connection.execute_batch("BEGIN IMMEDIATE").expect("the database can be held");
        connection
    };
    assert_fails_closed(&mut house, hold, |_, connection| drop(connection)).await;
}

async fn assert_fails_closed<T>(
    house: &mut House,
    make_trouble: impl FnOnce(&House) -> T,
    end_trouble: impl FnOnce(&House, T),
) {
    let witness = Witness::default();
    let before = witness.ask(&house.caller, Wanted::Token).await.expect("an answer");
    let process = house.process.id();

    let trouble = make_trouble(house);
    eventually("the broker refuses", DEADLINE, async || {
        // What the log has room for already may still be written; it must then be kept like everything else.
        (ask(house, &witness).await == 503).then_some(())
    })
    .await;
    let refused = assert_all_refused(house).await;
    let ended = house.caller.revoke(&before.errand.proof, &before.grant).await.expect("an answer");
    assert_eq!(ended.status, 503, "an end was promised that is written nowhere: {}", ended.text);
    eventually("it says that it is not ready", DEADLINE, async || {
        (house.operations("/readyz").await == Some(503)).then_some(())
    })
    .await;
    assert_eq!(house.part("store").await.as_deref(), Some("unready"));
    assert_eq!(house.operations("/healthz").await, Some(200), "a restart would not help");

    end_trouble(house, trouble);
    eventually("it is ready again", DEADLINE, async || (house.operations("/readyz").await == Some(200)).then_some(()))
        .await;
    eventually("it gives credentials out again", DEADLINE, async || (ask(house, &witness).await == 200).then_some(()))
        .await;
    assert!(house.process.runs() && house.process.id() == process, "it was restarted");
    assert!(witness.end(&house.caller, &before).await, "what was open can be ended again");
    for errand in &refused {
        let grants = ledger::grants(&house.store());
        let opened = grants.values().find(|grant| text(grant, "proof_id") == errand.proof.id);
        assert!(opened.is_none(), "a request was refused and its grant opened: {opened:?}");
    }
    witness.assert_kept(house).await;
    house.process.kill9().await;
    house.start().await;
    witness.assert_kept(house).await;
}

/// Asks for a token and gives the status; what comes is written down.
async fn ask(house: &House, witness: &Witness) -> u16 {
    let errand = Errand::new(&house.caller, Wanted::Token);
    let reply = errand.run(&house.caller, None).await.expect("an answer");
    if reply.status == 200 {
        witness.asks(&errand);
        witness.receive(errand, &reply);
    }
    reply.status
}

async fn assert_all_refused(house: &House) -> Vec<Errand> {
    let mut requests = JoinSet::new();
    for number in 0..REQUESTS {
        let caller = house.caller.clone();
        requests.spawn(async move {
            let wanted = if number % 4 == 0 { Wanted::Certificate } else { Wanted::Token };
            let errand = Errand::new(&caller, wanted);
            let reply = errand.run(&caller, None).await.expect("an answer");
            assert_eq!(reply.status, 503, "{}", reply.text);
            assert!(reply.header("retry-after").parse::<u32>().is_ok(), "no Retry-After: {:?}", reply.headers);
            assert!(reply.token().is_none() && reply.body["credential"].is_null(), "{}", reply.text);
            errand
        });
    }
    requests.join_all().await
}

/// The size beyond which the broker's files cannot grow; gives what it was before.
fn limit_file_size(house: &House, to: Option<u64>) -> Option<u64> {
    let process = Some(house.process.id());
    let maximum = rustix::process::getrlimit(Resource::Fsize).maximum;
    let before = prlimit(process, Resource::Fsize, Rlimit { current: to, maximum });
    before.expect("the limit of our own process can be set").current
}

/// Writes until nothing more fits.
fn fill(filler: &Path) {
    let mut file = File::create(filler).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// A file system of 8 MB in memory.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where this process may not mount; the running test is then listed as skipped.
    fn mount() -> Option<Self> {
        let folder = TempDir::with_prefix("hallpass-disk-").expect("a temporary folder");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"]).arg(folder.path()).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        component::skip("a file system of 8 MB cannot be mounted here");
        None
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the broker may be on its way out.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder()).status();
    }
}
