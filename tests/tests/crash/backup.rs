//! An older copy of the database is put back: what the broker then knows is what it knew when the copy was made, and it
//! does not start on it unasked.
//!
//! What came after the copy is gone from the record, and these tests say what that means: a token that was minted since is
//! unknown and so not active, though it verifies until it expires; a grant that was ended since is live again until
//! somebody ends it; a proof that was used since can be used once more, until it expires.

use std::fs;
use std::path::PathBuf;

use hallpass_tests::eventually;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::house::House;
use crate::ledger::{self, hex, text};
use crate::process::{DEADLINE, program, quiet_command};
use crate::witness::{CLIENTS, Received, Wanted, Witness};

/// A broker with its newest checkpoint kept beside the database.
async fn house() -> (House, PathBuf) {
    let folder = TempDir::with_prefix("hallpass-crash-").expect("a temporary folder");
    let checkpoint = folder.path().join("elsewhere.checkpoint");
    let server = json!({"audit": {"checkpoint_file": checkpoint, "checkpoint_every": "1s"}});
    let mut house = House::build_in(folder, server).await;
    house.start().await;
    (house, checkpoint)
}

/// Takes the log as it is.
fn accept(house: &House) {
    let file = house.folder().join("hallpass.toml");
    let accepted = quiet_command(&program("hallpass-broker"))
        .args(["audit", "accept", "--reason", "the disk was lost", "--config"])
        .arg(file)
        .output()
        .expect("the binary starts");
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
}

/// What happened around a copy that was made under load.
struct Copied {
    copy: PathBuf,
    ended_before: Received,
    ended_since: Received,
    opened_since: Received,
}

// EXP-13
#[tokio::test]
async fn an_older_copy_is_refused_and_once_accepted_revives_nothing_that_had_ended_before_it() {
    let (mut house, checkpoint) = house().await;
    let witness = Witness::default();
    let copied = copy_under_load(&house, &witness).await;
    assert_checkpoint_is_newer_than(&copied, &checkpoint).await;
    house.process.kill9().await;
    put_back(&house, &copied.copy);
    let length = log_length(&house);

    let status = house.start_in_vain().await;
    assert!(!status.success(), "{status}");
    let said = house.process.output();
    assert!(said.contains("the checkpoint file") && said.contains("an older database was put back"), "{said}");
    assert_eq!(
        ledger::grants(&house.store()).len(),
        ledger::grants(&store_of(&copied)).len(),
        "it wrote into the copy"
    );

    // Nor is it rid of the checkpoint by having it gone. An operator who means it says so, and the record goes on from the
    // copy.
    fs::rename(&checkpoint, checkpoint.with_extension("of-before")).expect("moved");
    let status = house.start_in_vain().await;
    assert!(!status.success() && house.process.output().contains("there is no checkpoint file"), "{status}");
    accept(&house);
    house.start().await;
    assert!(log_length(&house) >= length);
    ledger::assert_sound(&house.store());
    assert!(!is_active(&house, &copied.ended_before).await, "a grant that had ended before the copy is live again");
    assert_used_before_is_used_up(&house, &copied.ended_before).await;
    eventually("the checkpoint is kept again", DEADLINE, async || checkpoint.exists().then_some(())).await;
    // And a second start finds what it expects.
    house.process.kill9().await;
    house.start().await;
    assert!(!is_active(&house, &copied.ended_before).await);
}

// EXP-13
#[tokio::test]
async fn what_came_after_the_copy_is_unknown_and_whoever_puts_it_back_must_end_what_it_revives() {
    let (mut house, checkpoint) = house().await;
    let witness = Witness::default();
    let copied = copy_under_load(&house, &witness).await;
    house.process.kill9().await;
    put_back(&house, &copied.copy);
    let _ = fs::remove_file(&checkpoint);
    accept(&house);
    house.start().await;

    // Minted since: there is no record of it. Whoever asks is told that it is not active; whoever has the keys alone
    // accepts it until it expires.
    let grants = ledger::grants(&house.store());
    assert!(!grants.contains_key(&hex(&copied.opened_since.grant)));
    assert!(!is_active(&house, &copied.opened_since).await, "a token without a record is active");
    copied.opened_since.assert_verifies(&house.caller).await;

    // Ended since: the copy does not know of it. The operator ends it again, and it stays so.
    assert_eq!(text(&grants[&hex(&copied.ended_since.grant)], "state"), "active");
    assert!(is_active(&house, &copied.ended_since).await);
    assert!(witness.end(&house.caller, &copied.ended_since).await);
    assert!(!is_active(&house, &copied.ended_since).await);

    // Used since: it opens something once more, and then no more.
    let errand = &copied.opened_since.errand;
    let again = errand.run(&house.caller, None).await.expect("an answer");
    again.assert_status(200);
    assert_ne!(again.grant(), copied.opened_since.grant);
    assert_used_before_is_used_up(&house, &copied.opened_since).await;
    assert_used_before_is_used_up(&house, &copied.ended_since).await;
    ledger::assert_sound(&house.store());
}

async fn copy_under_load(house: &House, witness: &Witness) -> Copied {
    let caller = &house.caller;
    let ended_before = witness.ask(caller, Wanted::Token).await.expect("an answer");
    let ended_since = witness.ask(caller, Wanted::Token).await.expect("an answer");
    assert!(is_active(house, &ended_before).await && is_active(house, &ended_since).await);
    assert!(witness.end(caller, &ended_before).await);
    assert!(!is_active(house, &ended_before).await);

    let load = tokio::spawn({
        let (witness, caller) = (witness.clone(), caller.clone());
        async move { witness.watch_until_silence(&caller).await }
    });
    let some = || witness.received().len();
    let enough = some() + CLIENTS * 3;
    eventually("the load has begun", DEADLINE, async || (some() >= enough).then_some(())).await;
    let copy = house.folder().join("copy.db");
    let (from, to) = (house.database.clone(), copy.clone());
    tokio::task::spawn_blocking(move || back_up(&from, &to)).await.expect("it can be copied");
    // The load goes on for as long as the broker does; its clients need not be waited for.
    let enough = some() + CLIENTS * 3;
    eventually("the load goes on", DEADLINE, async || (some() >= enough).then_some(())).await;
    load.abort();
    let opened_since = witness.ask(caller, Wanted::Token).await.expect("an answer");
    assert!(witness.end(caller, &ended_since).await);
    assert!(!is_active(house, &ended_since).await);
    let copied = Copied { copy, ended_before, ended_since, opened_since };
    ledger::assert_sound(&store_of(&copied));
    copied
}

/// As `sqlite3 hallpass.db "VACUUM INTO 'copy.db'"` does: of one moment, while the broker writes.
fn back_up(from: &std::path::Path, to: &std::path::Path) {
    let database = Connection::open(from).expect("the database opens");
    database.busy_timeout(DEADLINE).expect("a timeout can be set");
    database.execute("VACUUM INTO ?1", [to.to_str().expect("a path in UTF-8")]).expect("a copy");
}

fn put_back(house: &House, copy: &std::path::Path) {
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", house.database.display()));
    }
    fs::copy(copy, &house.database).expect("put back");
}

fn store_of(copied: &Copied) -> hallpass_tests::Store {
    hallpass_tests::Store::open(&copied.copy)
}

fn log_length(house: &House) -> i64 {
    house.store().rows("SELECT count(*) AS length FROM audit_entries", &[])[0]["length"].as_i64().expect("a length")
}

/// A checkpoint's second line is how many entries it covers (C2SP tlog-checkpoint).
async fn assert_checkpoint_is_newer_than(copied: &Copied, checkpoint: &std::path::Path) {
    let entries = store_of(copied).rows("SELECT count(*) AS length FROM audit_entries", &[]);
    let copied = entries[0]["length"].as_i64().expect("a length");
    eventually("what came since is signed", DEADLINE, async || {
        let note = fs::read_to_string(checkpoint).ok()?;
        let size: i64 = note.lines().nth(1)?.parse().ok()?;
        (size > copied).then_some(())
    })
    .await;
}

async fn is_active(house: &House, received: &Received) -> bool {
    let reply = received.introspected(&house.caller).await;
    reply.assert_status(200);
    reply.body["active"].as_bool().expect("RFC 7662 §2.2: active")
}

async fn assert_used_before_is_used_up(house: &House, received: &Received) {
    let reply = received.errand.run(&house.caller, None).await.expect("an answer");
    reply.assert_status(400);
    assert!(reply.token().is_none(), "{}", reply.text);
}
