//! An older copy of the database is put back: what the broker then knows is what it knew when the copy was made. It does
//! not start on it unasked, and once asked it believes nothing of what came after the copy.
//!
//! What came after it is gone from the record, and these tests say what that means: a token that was minted since is
//! unknown, so not active, and listed as invalid; what the copy holds live ends, because it may have ended since; a proof
//! that may have been used since is refused, and only one that was issued later works.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_tests::config::LEEWAY_SECONDS;
use hallpass_tests::eventually;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::house::House;
use crate::ledger::{self, hex, text};
use crate::process::{DEADLINE, assert_killed, program, quiet_command};
use crate::witness::{CLIENTS, Errand, Received, Wanted, Witness};

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
fn accept(house: &House, options: &[&str]) {
    let accepted = accepting(house, options).output().expect("the binary starts");
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
}

fn accepting(house: &House, options: &[&str]) -> Command {
    let mut command = quiet_command(&program("hallpass-broker"));
    command.args(["audit", "accept", "--reason", "the disk was lost", "--config"]);
    command.arg(house.folder().join("hallpass.toml")).args(options);
    command
}

/// What happened around a copy that was made under load.
struct Copied {
    copy: PathBuf,
    ended_before: Received,
    ended_since: Received,
    opened_since: Received,
    never_used: Errand,
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
    accept(&house, &[]);
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
async fn what_came_after_the_copy_is_not_believed_once_it_is_accepted() {
    let (mut house, checkpoint) = house().await;
    let witness = Witness::default();
    let copied = copy_under_load(&house, &witness).await;
    assert_checkpoint_is_newer_than(&copied, &checkpoint).await;
    let lost = copied.opened_since.assert_verifies(&house.caller).await;
    assert!(!is_listed(&house, &lost).await, "a token that works is listed as one that does not");
    house.process.kill9().await;
    put_back(&house, &copied.copy);

    // Killed between its commit and the checkpoint beside the database, accepting goes on where it was.
    let before = fs::read_to_string(&checkpoint).expect("a checkpoint");
    let killed = accepting(&house, &[]).env("HALLPASS_KILL_AT", "accept::after-commit").output().expect("it starts");
    assert_killed(killed.status, &String::from_utf8_lossy(&killed.stderr));
    assert_eq!(fs::read_to_string(&checkpoint).expect("a checkpoint"), before);
    assert!(!house.start_in_vain().await.success());
    accept(&house, &[]);
    let restores = house.store().rows("SELECT number, revocation_id IS NOT NULL AS ending FROM restores", &[]);
    assert_eq!((restores.len(), &restores[0]["number"], &restores[0]["ending"]), (1, &json!(1), &json!(1)));
    let told = house.store().rows("SELECT count(*) AS told FROM audit_entries WHERE action = 'audit.accept'", &[]);
    assert_eq!(told[0]["told"], 1);
    house.start().await;

    // Ended since: the copy does not know of it, and it is ended all the same.
    assert!(!is_active(&house, &copied.ended_since).await, "a grant that had ended works again");
    let ended = copied.ended_since.assert_verifies(&house.caller).await;
    assert!(is_listed(&house, &ended).await);
    let follows = "SELECT reason, author FROM revocations WHERE completed_at IS NOT NULL";
    let followed = async || house.store().rows(follows, &[]).pop();
    let revocation = eventually("the rows have followed", DEADLINE, followed).await;
    assert_eq!(text(&revocation, "reason"), "restored from an older copy");
    assert!(text(&revocation, "author").contains("local_administrator"), "{revocation:?}");
    let grants = ledger::grants(&house.store());
    assert_eq!(text(&grants[&hex(&copied.ended_since.grant)], "cause"), "revocation");
    let live = grants.values().filter(|grant| matches!(text(grant, "state"), "pending" | "active")).count();
    assert_eq!(live, 0, "something of the copy is still live");

    assert_lost(&house, &copied, &lost).await;
    assert_not_replayed(&house, &copied).await;

    // What is opened now is as good as ever, and stays so.
    let fresh = ask_anew(&house, &witness).await;
    assert!(is_active(&house, &fresh).await);
    let claims = fresh.assert_verifies(&house.caller).await;
    assert!(!is_listed(&house, &claims).await);
    let number = |claims: &Value| place(claims).0.rsplit('/').next().and_then(|number| number.parse::<u64>().ok());
    assert!(number(&claims) > number(&lost), "a list that lost tokens may name");
    house.process.kill9().await;
    house.start().await;
    assert!(is_active(&house, &fresh).await);
    assert_lost(&house, &copied, &lost).await;
    assert_not_replayed(&house, &copied).await;
    assert!(is_active(&house, &ask_anew(&house, &witness).await).await);
    ledger::assert_sound(&house.store());
}

// EXP-13
#[tokio::test]
async fn whoever_knows_that_nothing_was_revoked_since_the_copy_can_keep_its_grants_and_nothing_else() {
    let (mut house, checkpoint) = house().await;
    let witness = Witness::default();
    let copied = copy_under_load(&house, &witness).await;
    assert_checkpoint_is_newer_than(&copied, &checkpoint).await;
    let lost = copied.opened_since.assert_verifies(&house.caller).await;
    house.process.kill9().await;
    put_back(&house, &copied.copy);
    accept(&house, &["--keep-grants"]);
    house.start().await;

    let kept = "SELECT json_extract(CAST(entry AS TEXT), '$.detail.grants') AS grants,
                       json_extract(CAST(entry AS TEXT), '$.detail.reason') AS reason
                FROM audit_entries WHERE action = 'audit.accept'";
    let kept = house.store().rows(kept, &[]);
    assert_eq!((text(&kept[0], "grants"), text(&kept[0], "reason")), ("kept", "the disk was lost"));
    assert!(!is_active(&house, &copied.ended_before).await);
    // Nobody knew better: it is live again until somebody ends it.
    assert!(is_active(&house, &copied.ended_since).await);
    assert!(witness.end(&house.caller, &copied.ended_since).await);
    assert!(!is_active(&house, &copied.ended_since).await);

    assert_lost(&house, &copied, &lost).await;
    assert_not_replayed(&house, &copied).await;
    assert!(is_active(&house, &ask_anew(&house, &witness).await).await);
    ledger::assert_sound(&house.store());
}

/// Minted since: there is no record of it. Whoever asks, or reads the list that it names, is told that it does not work;
/// whoever has the keys alone accepts it until it expires.
async fn assert_lost(house: &House, copied: &Copied, claims: &Value) {
    assert!(!ledger::grants(&house.store()).contains_key(&hex(&copied.opened_since.grant)));
    assert!(!is_active(house, &copied.opened_since).await, "a token without a record is active");
    assert!(is_listed(house, claims).await, "a token without a record is not listed as invalid");
    copied.opened_since.assert_verifies(&house.caller).await;
}

/// Used since, with and without the key that it was used with; and used never, but issued too early to tell.
async fn assert_not_replayed(house: &House, copied: &Copied) {
    let (errand, never) = (&copied.opened_since.errand, &copied.never_used);
    for (errand, key) in [(errand, None), (errand, Some(errand.key.as_str())), (never, None)] {
        let reply = errand.run(&house.caller, key).await.expect("an answer");
        reply.assert_status(400);
        assert_eq!(reply.body["reason"], "issued_before_restore", "{}", reply.text);
        assert!(ledger::grants_of_proof(&house.store(), &errand.proof.id).is_empty());
    }
}

/// By a proof that was issued since, whatever the clocks are: by one that is ahead by as much as is tolerated.
async fn ask_anew(house: &House, witness: &Witness) -> Received {
    eventually("a proof of now is accepted", DEADLINE, async || {
        let proof = house.caller.proof_dated(LEEWAY_SECONDS);
        let errand = Errand { key: format!("key-of-{}", proof.id), proof, wanted: Wanted::Token };
        let reply = errand.run(&house.caller, None).await.expect("an answer");
        (reply.status == 200).then(|| witness.receive(errand, &reply))
    })
    .await
}

/// The path of the list that a token names, and its place there.
fn place(claims: &Value) -> (&str, usize) {
    let listed = &claims["status"]["status_list"];
    let uri = listed["uri"].as_str().expect("the URL of a list");
    let path = uri.find("/status-lists/").and_then(|at| uri.get(at..)).expect("a list of the broker's");
    (path, usize::try_from(listed["idx"].as_u64().expect("a place")).expect("a small number"))
}

/// What the published list says of a token (draft-ietf-oauth-status-list §4.1).
async fn is_listed(house: &House, claims: &Value) -> bool {
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let (path, place) = place(claims);
    let reply = house.caller.get(path).await.expect("an answer");
    reply.assert_status(200);
    let list: Value = serde_json::from_slice(&decode(reply.text.split('.').nth(1).expect("claims"))).expect("JSON");
    let packed = decode(list["status_list"]["lst"].as_str().expect("a list"));
    let bits = miniz_oxide::inflate::decompress_to_vec_zlib(&packed).expect("zlib");
    bits[place / 8] >> (place % 8) & 1 == 1
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
    let never_used = Errand::new(caller, Wanted::Token);
    let copied = Copied { copy, ended_before, ended_since, opened_since, never_used };
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
