//! The audit log proves itself: to whoever keeps a checkpoint, and to the broker itself at its next start.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hallpass_core::audit::note::VerifierKey;
use hallpass_core::audit::proof::{ConsistencyProof, InclusionProof};
use hallpass_core::audit::tree::TreeHash;
use hallpass_core::audit::{Leaf, Receipt, SignedCheckpoint};
use hallpass_tests::config::{LEEWAY_SECONDS, OPERATOR, ROLE, Setup};
use hallpass_tests::{Answer, Broker, Exchange, eventually};
use serde_json::{Value, json};

use crate::House;
use crate::rotation::keys;

impl House {
    async fn audit(&self, below: &str) -> Answer {
        let proof = self.proof_of(OPERATOR);
        self.broker.call("GET", &format!("/v1/audit{below}"), Some(&proof), None).await
    }

    async fn verifier_key(&self) -> VerifierKey {
        let metadata = self.broker.call("GET", "/.well-known/oauth-authorization-server", None, None).await;
        metadata.text_of("hallpass_audit_verifier_key").parse().expect("a verifier key")
    }

    async fn checkpoint(&self, key: &VerifierKey) -> SignedCheckpoint {
        let answer = self.audit("/checkpoint").await;
        answer.assert_status(200);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        SignedCheckpoint::open(&answer.text, key).expect("the broker's own")
    }
}

fn hashes(of: &Value) -> Vec<TreeHash> {
    of.as_array().expect("hashes").iter().map(hash).collect()
}

fn hash(of: &Value) -> TreeHash {
    of.as_str().expect("a hash").parse().expect("a hash")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_a_checkpoint_can_tell_that_the_log_only_grew() {
    let house = House::open().await;
    let key = house.verifier_key().await;
    house.credential().await;
    let earlier = house.checkpoint(&key).await.checkpoint;
    assert_eq!(earlier.origin, key.name());
    for _ in 0..5 {
        house.credential().await;
    }
    let later = house.checkpoint(&key).await.checkpoint;
    assert_eq!(later.head.size, earlier.head.size + 10, "two entries for each");

    let (from, size) = (earlier.head.size, later.head.size);
    let answer = house.audit(&format!("/proof?from={from}&size={size}")).await;
    answer.assert_status(200);
    assert_eq!((hash(&answer.body["from_root"]), hash(&answer.body["root"])), (earlier.head.root, later.head.root));
    let proof = ConsistencyProof { from, size, hashes: hashes(&answer.body["hashes"]) };
    assert_eq!(proof.verify(earlier.head.root, later.head.root), Ok(()));
    assert!(proof.verify(later.head.root, earlier.head.root).is_err());
    let signed = SignedCheckpoint::open(answer.text_of("checkpoint"), &key).expect("a checkpoint");
    assert_eq!(signed.checkpoint, later);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_entry_is_shown_to_be_in_the_log() {
    let house = House::open().await;
    let key = house.verifier_key().await;
    house.credential().await;
    let listed = house.audit("?limit=500").await;
    let entries = listed.body["items"].as_array().expect("entries");
    assert!(entries.len() > 4, "{}", listed.text);
    for entry in entries {
        let sequence = entry["sequence"].as_u64().expect("a place");
        let answer = house.audit(&format!("/proof?entry={sequence}")).await;
        answer.assert_status(200);
        let leaf = Leaf::parse(answer.text_of("leaf").to_owned()).expect("a leaf");
        assert_eq!((leaf.log().to_string().as_str(), leaf.sequence()), (entry["log_id"].as_str().unwrap(), sequence));
        let told: Value = serde_json::from_str(leaf.entry()).expect("JSON");
        assert_eq!(told["action"], entry["action"], "it is the entry that the list has");
        assert_eq!(hash(&answer.body["leaf_hash"]), leaf.hash());
        let head = SignedCheckpoint::open(answer.text_of("checkpoint"), &key).expect("a checkpoint").checkpoint.head;
        let proof = InclusionProof { sequence, size: head.size, hashes: hashes(&answer.body["hashes"]) };
        assert_eq!(proof.verify(leaf.hash(), head.root), Ok(()));
    }
    let shorter = house.audit("/proof?entry=1&size=2").await;
    let head = SignedCheckpoint::open(shorter.text_of("checkpoint"), &key).expect("a checkpoint").checkpoint.head;
    assert_eq!(head.size, 2);
    let leaf = Leaf::parse(shorter.text_of("leaf").to_owned()).expect("a leaf");
    let proof = InclusionProof { sequence: 1, size: 2, hashes: hashes(&shorter.body["hashes"]) };
    assert_eq!(proof.verify(leaf.hash(), head.root), Ok(()));

    for (query, parameter) in [
        ("?entry=9999", "entry"),
        ("?entry=2&size=2", "entry"),
        ("?entry=0&size=9999", "size"),
        ("?from=3&size=2", "from"),
        ("?from=1&size=9999", "size"),
        ("", "entry"),
        ("?entry=first", "entry"),
        ("?entry=1&from=1", "from"),
    ] {
        let answer = house.audit(&format!("/proof{query}")).await;
        answer.assert_refused(422, "malformed_request");
        assert_eq!(answer.text_of("parameter"), parameter, "{query}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_shows_that_a_grants_opening_was_written_down() {
    let house = House::open().await;
    let key = house.verifier_key().await;
    let body = json!({"role": ROLE, "purpose": "deploy build 4f2c to staging", "receipt": true});
    let opened = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
    opened.assert_status(201);
    let exchanged = house.broker.exchange(&Exchange::of(&house.proof()).with("receipt", "true")).await;
    exchanged.assert_status(200);
    for answer in [&opened, &exchanged] {
        let receipt = &answer.body["receipt"];
        let leaf = Leaf::parse(receipt["leaf"].as_str().expect("a leaf").to_owned()).expect("a leaf");
        let told: Value = serde_json::from_str(leaf.entry()).expect("JSON");
        assert_eq!((&told["action"], &told["outcome"]), (&json!("grant.activate"), &json!("success")));
        assert_eq!(told["object"]["id"], answer.grant_id());
        assert_eq!(receipt["entry"], leaf.sequence());
        let proof: Receipt = receipt["proof"].as_str().expect("a proof").parse().expect("a tlog-proof");
        let signed = proof.verify(&leaf, &key).expect("it holds");
        assert!(signed.checkpoint.head.size > leaf.sequence());
        let edited = Leaf::new(leaf.log(), leaf.sequence(), &leaf.entry().replace("success", "denied"));
        assert!(proof.verify(&edited, &key).is_err());
    }
    for answer in
        [house.credential().await, house.broker.exchange(&Exchange::of(&house.proof()).with("receipt", "false")).await]
    {
        answer.assert_status(200);
        assert_eq!(answer.body.get("receipt"), None, "who does not ask gets none");
    }
    let unclear = house.broker.exchange(&Exchange::of(&house.proof()).with("receipt", "please")).await;
    house.assert_refused_for(&unclear, 400, "invalid_request", "malformed_request", 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_kept_while_the_log_grows_and_when_the_broker_stops() {
    let mut house = House::open_with(|setup| {
        setup.server(json!({"audit": {"checkpoint_every": "1s", "checkpoint_file": "newest.checkpoint"}}))
    })
    .await;
    let key = house.verifier_key().await;
    let file = house.broker.folder().join("newest.checkpoint");
    let size = |file: &Path| {
        let note = fs::read_to_string(file).ok()?;
        Some(SignedCheckpoint::open(&note, &key).expect("the broker's own").checkpoint.head.size)
    };
    let first = eventually("a checkpoint at start", Duration::from_secs(10), async || size(&file)).await;
    house.credential().await;
    let grown = async || size(&file).filter(|now| *now >= first + 2);
    eventually("a checkpoint of what came later", Duration::from_secs(10), grown).await;
    for _ in 0..3 {
        house.credential().await;
    }
    assert!(house.broker.stop().await.success());
    let rows = house
        .broker
        .store()
        .rows("SELECT max(size) AS size, (SELECT count(*) FROM audit_entries) AS entries FROM audit_checkpoints", &[]);
    assert_eq!(rows[0]["size"], rows[0]["entries"], "the last one covers all");
    assert_eq!(size(&file), rows[0]["size"].as_u64());
    house.broker.restart().await;
    house.credential().await;
}

fn copy(folder: &Path, to: &str) -> PathBuf {
    let database = folder.join("hallpass.db");
    let copy = folder.join(to);
    fs::copy(database, &copy).expect("the database is copied");
    copy
}

/// A credential by a proof that was issued after the log was accepted, whatever the clocks are: by one that is ahead by as
/// much as is tolerated.
async fn credential_since(house: &House) {
    eventually("a proof of now is accepted", Duration::from_secs(10), async || {
        let mut claims = house.claims();
        for claim in ["iat", "exp"] {
            claims[claim] = (claims[claim].as_i64().expect("a time") + LEEWAY_SECONDS).into();
        }
        let answer = house.exchange(&house.key.sign(&claims)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_put_back_is_noticed_at_the_next_start() {
    let mut house =
        House::open_with(|setup| setup.server(json!({"audit": {"checkpoint_file": "newest.checkpoint"}}))).await;
    house.credential().await;
    assert!(house.broker.stop().await.success());
    let older = copy(house.broker.folder(), "older.db");
    house.broker.restart().await;
    house.credential().await;
    assert!(house.broker.stop().await.success());

    let newest = copy(house.broker.folder(), "newest.db");
    let database = house.broker.folder().join("hallpass.db");
    fs::copy(&older, &database).expect("put back");
    assert!(!house.broker.end_by_itself().await.success());
    assert!(house.broker.output().contains("an older database was put back"), "{}", house.broker.output());

    // Grown again to the same length, it is still another.
    fs::rename(house.broker.folder().join("newest.checkpoint"), house.broker.folder().join("aside")).expect("moved");
    assert!(!house.broker.end_by_itself().await.success(), "a file is soon gone");
    assert!(house.broker.output().contains("there is no checkpoint file"), "{}", house.broker.output());
    let accept = |reason: &str| house.broker.command(["audit", "accept", "--reason", reason]);
    assert!(!accept("").status.success(), "without a reason");
    let accepted = accept("the disk was lost, and this is its backup");
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let again = accept("once more");
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("there is a checkpoint file"));
    let told = "SELECT json_extract(CAST(entry AS TEXT), '$.detail.reason') AS reason FROM audit_entries \
                WHERE action = 'audit.accept'";
    let told = house.broker.store().rows(told, &[]);
    assert_eq!(
        told.iter().map(|row| row["reason"].clone()).collect::<Vec<_>>(),
        ["the disk was lost, and this is its backup"]
    );
    house.broker.restart().await;
    credential_since(&house).await;
    credential_since(&house).await;
    assert!(house.broker.stop().await.success());
    fs::rename(house.broker.folder().join("aside"), house.broker.folder().join("newest.checkpoint")).expect("moved");
    assert!(!house.broker.end_by_itself().await.success());
    assert!(house.broker.output().contains("are not those that were there"), "{}", house.broker.output());

    fs::copy(&newest, &database).expect("put right");
    house.broker.restart().await;
    house.credential().await;
}

/// Killed at any time after its first start, it finds a file beside it; a file that is new to the configuration is asked
/// for only once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_file_is_there_from_the_first_start_on() {
    let mut house =
        House::open_with(|setup| setup.server(json!({"audit": {"checkpoint_file": "newest.checkpoint"}}))).await;
    house.broker.kill9().await;
    assert!(house.broker.folder().join("newest.checkpoint").exists());
    house.broker.restart().await;
    assert!(house.broker.stop().await.success());

    fs::remove_file(house.broker.folder().join("newest.checkpoint")).expect("removed");
    assert!(!house.broker.end_by_itself().await.success());
    let accept = ["audit", "accept", "--keep-grants", "--reason", "the file was lost, and nothing else"];
    assert!(house.broker.command(accept).status.success());
    house.broker.restart().await;
    credential_since(&house).await;
    house.broker.kill9().await;
    house.broker.restart().await;
}

/// There was no file, and from now on there is one: what is live stays so, and proofs of before are proofs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_file_that_is_new_to_the_configuration_ends_nothing() {
    let mut house = House::open().await;
    house.credential().await;
    assert!(house.broker.stop().await.success());
    house.broker.configure("audit", json!({"checkpoint_file": "newest.checkpoint"}));
    assert!(!house.broker.end_by_itself().await.success());
    assert!(house.broker.output().contains("by the record the file is new"), "{}", house.broker.output());
    let accepted = house.broker.command(["audit", "accept", "--reason", "from today on there is one"]);
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    assert!(String::from_utf8_lossy(&accepted.stdout).contains("nothing ends"));
    house.broker.restart().await;
    let live = house.broker.store().rows("SELECT id FROM grants WHERE state = 'active'", &[]);
    assert_eq!(live.len(), 1);
    assert!(house.broker.store().rows("SELECT id FROM revocations", &[]).is_empty());
    house.credential().await;
    house.broker.kill9().await;
    house.broker.restart().await;
}

/// A first start that fails, or is killed, before the first checkpoint is kept leaves nothing to accept. Whoever takes away
/// what was kept gains nothing by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_ended_early_is_gone_on_with() {
    let (people, _key) = crate::issuer_with_key().await;
    let setup =
        Setup::trusting(&[("people", &people)]).server(json!({"audit": {"checkpoint_file": "kept/newest.checkpoint"}}));
    let mut broker = Broker::prepare(&setup, &[("HALLPASS_KILL_AT", "start::before-anchor")]);
    let kept = broker.folder().join("kept");
    assert!(!broker.end_by_itself().await.success(), "there is no such folder");
    assert!(broker.store().rows("SELECT sequence FROM audit_entries", &[]).is_empty(), "nothing was begun");

    fs::create_dir(&kept).expect("made");
    assert!(!broker.end_by_itself().await.success(), "killed when it has made its keys");
    assert!(!broker.store().rows("SELECT sequence FROM audit_entries", &[]).is_empty());
    broker.set_environment("HALLPASS_KILL_AT", None);
    // The control: with nothing there, the log may be an older one that was put back.
    let announced = fs::read_to_string(kept.join("newest.checkpoint")).expect("announced");
    fs::remove_file(kept.join("newest.checkpoint")).expect("removed");
    assert!(!broker.end_by_itself().await.success());
    assert!(broker.output().contains("audit accept"), "{}", broker.output());
    fs::write(kept.join("newest.checkpoint"), &announced).expect("put back");
    broker.restart().await;
    assert_ne!(fs::read_to_string(kept.join("newest.checkpoint")).expect("a checkpoint"), announced);

    // Nor does what was announced stand for what was kept later.
    assert!(broker.stop().await.success());
    fs::write(kept.join("newest.checkpoint"), &announced).expect("put back");
    assert!(!broker.end_by_itself().await.success());
    assert!(broker.command(["audit", "accept", "--reason", "the file was lost"]).status.success());
    broker.restart().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_entries_were_changed_is_noticed_at_the_next_start() {
    let mut house = House::open().await;
    house.credential().await;
    assert!(house.broker.stop().await.success());
    let database = house.broker.folder().join("hallpass.db");
    let change = |sql: &str| rusqlite::Connection::open(&database).unwrap().execute(sql, []).unwrap();
    let edit = |from: &str, to: &str| {
        format!(
            "UPDATE audit_entries SET entry = CAST(replace(entry, '{from}', '{to}') AS BLOB) WHERE action = 'grant.open'"
        )
    };
    assert_eq!(change(&edit("4f2c", "5e3d")), 1);
    assert!(!house.broker.end_by_itself().await.success());
    assert!(house.broker.output().contains("entries were changed"), "{}", house.broker.output());
    assert_eq!(change(&edit("5e3d", "4f2c")), 1);
    house.broker.restart().await;
}

/// Somebody, or a broken disk, keeps entries from being appended, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_write_that_fails_means_no_credential() {
    let house = House::open().await;
    let grant = house.credential().await.grant_id().to_owned();
    let database = rusqlite::Connection::open(house.broker.folder().join("hallpass.db")).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    database
        .execute_batch("CREATE TRIGGER no_evidence BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    let before = house.broker.store().rows("SELECT count(*) AS n FROM audit_entries", &[]);
    let exchanged = house.exchange(&house.proof()).await;
    exchanged.assert_refused(503, "temporarily_unavailable");
    assert_eq!(exchanged.body.get("access_token"), None);
    let body = json!({"role": ROLE, "purpose": "deploy build 4f2c to staging"});
    let opened = house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await;
    opened.assert_refused(503, "store_unavailable");
    assert_eq!(opened.body.get("credential"), None);
    let ended = house.broker.call("DELETE", &format!("/v1/grants/{grant}"), Some(&house.proof()), None).await;
    ended.assert_refused(503, "store_unavailable");
    assert_eq!(house.broker.store().state(&grant), "active", "no change without its evidence");
    assert_eq!(house.broker.store().grant_count(), 1);
    assert_eq!(house.broker.store().rows("SELECT count(*) AS n FROM audit_entries", &[]), before);
    database.execute_batch("DROP TRIGGER no_evidence").unwrap();
    house.credential().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_logs_key_changes_while_the_broker_runs_and_the_log_is_still_believed_at_the_next_start() {
    let anchor = json!({"audit": {"checkpoint_file": "newest.checkpoint"}});
    let mut house = House::open_with(|setup| setup.server(anchor)).await;
    let first = house.verifier_key().await;
    let earlier = house.checkpoint(&first).await.checkpoint;
    let made = keys(&house, &["rotate", "--purpose", "audit", "--activate-after", "0s"]);
    let second = house.verifier_key().await;
    assert_ne!(first, second);
    let later = house.checkpoint(&second).await.checkpoint;
    assert!(later.head.size > earlier.head.size && later.origin == earlier.origin);
    assert!(house.broker.stop().await.success());
    house.broker.restart().await;
    assert_eq!(house.verifier_key().await, second);

    // Distrusted, it has no word left: not even beside the store, or the next start would not believe it.
    let key_id = made[0]["key_id"].as_str().expect("a key id").to_owned();
    keys(&house, &["distrust", &key_id, "--reason", "its backup was stolen"]);
    let third = house.verifier_key().await;
    assert!(third != second && third != first);
    let beside = fs::read_to_string(house.broker.folder().join("newest.checkpoint")).expect("a checkpoint");
    assert!(SignedCheckpoint::open(&beside, &third).is_ok(), "{beside}");
    house.broker.kill9().await;
    house.broker.restart().await;
    assert_eq!(house.verifier_key().await, third);

    assert!(house.broker.stop().await.success());
    let listed = keys(&house, &["list"]);
    let active = listed.iter().find(|key| key["purpose"] == "audit" && key["phase"] == "active").expect("the third");
    let key_id = active["key_id"].as_str().expect("a key id");
    keys(&house, &["distrust", key_id, "--reason", "its backup was stolen"]);
    house.broker.restart().await;
    let fourth = house.verifier_key().await;
    assert!(fourth != third && fourth != second);
}
