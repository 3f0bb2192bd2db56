//! The key that seals is wrapped by another key-encryption key, in whatever kind of place, and nothing sealed is lost.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass_tests::{Answer, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::House;

const VARIABLE: &str = "KEK_OF_THE_TEST";
/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// A grant, and a proof of its holder's: what is sealed of it must open for it to end.
pub(crate) struct Held {
    grant: String,
    token: String,
    proof: String,
}

impl Held {
    pub(crate) async fn open(house: &House) -> Self {
        let proof = house.proof();
        let answer = house.exchange(&proof).await;
        answer.assert_status(200);
        Self { grant: answer.grant_id().to_owned(), token: answer.credential().to_owned(), proof }
    }

    /// Its token still verifies by the same keys, and what undoes it still opens.
    pub(crate) async fn assert_opens_and_end(self, house: &House) {
        let form = Some("application/x-www-form-urlencoded");
        let asked = format!("token={}", self.token);
        let answer = house.broker.post_raw("/oauth2/introspect", Some(&self.proof), form, asked).await;
        assert_eq!(answer.body["active"], true, "{}", answer.text);
        let path = format!("/v1/grants/{}/revoke", self.grant);
        let ended: Answer = house.broker.call("POST", &path, Some(&self.proof), Some(&json!({"reason": "done"}))).await;
        assert!(matches!(ended.status, 200 | 202), "{}", ended.text);
        assert_eq!(ended.body["revocation"]["last_error"], Value::Null, "{}", ended.text);
        let form = Some("application/x-www-form-urlencoded");
        let asked = format!("token={}", self.token);
        let answer = house.broker.post_raw("/oauth2/introspect", Some(&house.proof()), form, asked).await;
        assert_eq!(answer.body["active"], false, "{}", answer.text);
    }
}

/// Runs `keys rewrap`, which must succeed.
#[track_caller]
pub(crate) fn rewrap(house: &House, environment: &[(&str, &str)]) -> Value {
    rewrap_with(house, environment, &[])
}

#[track_caller]
fn rewrap_with(house: &House, environment: &[(&str, &str)], more: &[&str]) -> Value {
    let output = house.broker.command_in(environment, [&["keys", "rewrap", "--json"], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Starts the broker, which must refuse, and gives what it says.
pub(crate) async fn refused_start(house: &mut House) -> String {
    let before = house.broker.output().len();
    assert!(!house.broker.end_by_itself().await.success());
    house.broker.output()[before..].to_owned()
}

/// Which key-encryption keys wrap what the store has.
pub(crate) fn wrapped_by(house: &House) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let rows = house.broker.store().rows("SELECT kek, version FROM data_keys", &[]);
    rows.iter().map(|row| (text(&row["kek"]), text(&row["version"]))).collect()
}

/// How often the log tells that the data key was wrapped.
fn told(house: &House) -> usize {
    house.broker.store().rows("SELECT sequence FROM audit_entries WHERE action = 'key.wrap'", &[]).len()
}

fn key_ids(house: &House) -> Vec<String> {
    crate::rotation::keys(house, &["list"])
        .iter()
        .map(|key| key["key_id"].as_str().expect("an id").to_owned())
        .collect()
}

fn fresh_key() -> String {
    STANDARD.encode(hallpass_tests::random_bytes::<32>())
}

/// A key file of its own beside the broker's first.
fn key_file(house: &House, name: &str) {
    let path = house.broker.folder().join(name);
    let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(fresh_key().as_bytes())).expect("a key file");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_file_takes_over_beside_a_running_broker_and_the_old_one_can_be_thrown_away() {
    let mut house = House::open().await;
    let (first, ids) = (Held::open(&house).await, key_ids(&house));
    let [(old, version)] = &wrapped_by(&house)[..] else { panic!("one data key") };
    assert!(old.starts_with("local:") && version == "1");
    key_file(&house, "kek2");

    // Alone it opens nothing, and says what would be right.
    house.broker.configure("keys", json!({"key_encryption_key_file": "kek2"}));
    for command in ["list", "rewrap"] {
        let output = house.broker.command(["keys", command]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(old) && said(&output).contains("retired"), "{}", said(&output));
    }
    let both = json!({"key_encryption_key_file": "kek2", "retired_key_encryption_key_files": ["kek"]});
    house.broker.configure("keys", both);
    let done = rewrap(&house, &[]);
    assert_eq!((&done["changed"], &done["sealed_anew"]), (&json!(true), &json!(0)), "{done}");
    assert_ne!(done["kek"], json!(old));
    assert_eq!(rewrap(&house, &[])["changed"], json!(false), "once is enough");
    assert_eq!(told(&house), 2, "at first start, and now");

    // The running broker noticed nothing.
    let second = Held::open(&house).await;
    std::fs::remove_file(house.broker.folder().join("kek")).expect("the old key goes");
    house.broker.configure("keys", json!({"key_encryption_key_file": "kek2"}));
    house.broker.stop().await;
    house.broker.restart().await;
    assert_eq!(key_ids(&house), ids, "the same signing keys");
    first.assert_opens_and_end(&house).await;
    second.assert_opens_and_end(&house).await;
    house.credential().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_may_come_from_the_environment_and_is_never_said() {
    let mut house = House::open().await;
    let held = Held::open(&house).await;
    let (right, wrong) = (fresh_key(), fresh_key());
    let both = json!({"key_encryption_key_env": VARIABLE, "retired_key_encryption_key_files": ["kek"]});
    house.broker.configure("keys", both);
    house.broker.stop().await;
    assert_eq!(rewrap(&house, &[(VARIABLE, &right)])["changed"], json!(true), "with the broker stopped");

    house.broker.configure("keys", json!({"key_encryption_key_env": VARIABLE}));
    for (value, says) in [
        (None, "has no variable KEK_OF_THE_TEST"),
        (Some("hunter2"), "KEK_OF_THE_TEST is not a key"),
        (Some(wrong.as_str()), "is wrapped by local:"),
    ] {
        house.broker.set_environment(VARIABLE, value);
        let said = refused_start(&mut house).await;
        assert!(said.contains(says), "{said}");
    }
    house.broker.set_environment(VARIABLE, Some(&right));
    house.broker.restart().await;
    held.assert_opens_and_end(&house).await;
    house.credential().await;
    for secret in ["hunter2", &right, &wrong] {
        assert!(!house.broker.output().contains(secret));
    }
    house.broker.stop().await;
    house.broker.configure("keys", json!({"key_encryption_key_env": VARIABLE, "key_encryption_key_file": "kek"}));
    let said = refused_start(&mut house).await;
    assert!(said.contains("key_encryption_key_env: key_encryption_key_file is given too"), "{said}");
}

/// The kernel goes on to show what a process was started with, so that the process has to be closed to whoever looks.
// CASE CRY-009
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_the_brokers_environment_is_not_read_there_by_other_processes_of_its_user() {
    let mut house = House::open().await;
    let key = fresh_key();
    let both = json!({"key_encryption_key_env": VARIABLE, "retired_key_encryption_key_files": ["kek"]});
    house.broker.configure("keys", both);
    house.broker.stop().await;
    rewrap(&house, &[(VARIABLE, &key)]);
    house.broker.configure("keys", json!({"key_encryption_key_env": VARIABLE}));

    // Root sees everything: it is run by somebody else, from where somebody else may look.
    let programs = tempfile::TempDir::with_prefix("hallpass-").expect("a temporary folder");
    let program = programs.path().join("hallpass-broker");
    std::fs::copy(hallpass_tests::process::program("hallpass-broker"), &program).expect("a copy");
    let is_root = rustix::process::geteuid().is_root();
    let as_nobody = |command: &mut Command| {
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    if is_root {
        let mut chown = Command::new("chown");
        chown.args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(house.broker.folder()).arg(programs.path());
        assert!(chown.status().expect("it starts").success());
    }
    let seen = |process: &Child| {
        let mut cat = Command::new("cat");
        as_nobody(cat.arg(format!("/proc/{}/environ", process.id())));
        let output = cat.output().expect("it starts");
        let seen = String::from_utf8_lossy(&output.stdout).contains(&key);
        (seen, String::from_utf8_lossy(&output.stderr).into_owned())
    };

    let mut other = Command::new("sleep");
    as_nobody(other.arg("60").env(VARIABLE, &key));
    let mut other = other.spawn().expect("it starts");
    assert!(seen(&other).0, "the control: it is seen in another process of the same user");
    other.kill().expect("it ends");
    let _ = other.wait();

    let mut broker = hallpass_tests::process::quiet_command(&program);
    as_nobody(broker.arg("serve").arg("--config").arg(house.broker.file()).env(VARIABLE, &key));
    let mut broker = broker.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    eventually("it serves", std::time::Duration::from_secs(20), async || {
        let asked = house.broker.client().get(house.broker.at("/.well-known/jwks.json")).send().await;
        asked.is_ok_and(|answer| answer.status().is_success()).then_some(())
    })
    .await;
    house.credential().await;
    let (is_seen, said) = seen(&broker);
    broker.kill().expect("it ends");
    let _ = broker.wait();
    assert!(!is_seen && said.contains("Permission denied"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_data_key_seals_all_anew_and_wants_the_broker_stopped() {
    let mut house = House::open().await;
    let (held, ids) = (Held::open(&house).await, key_ids(&house));
    let handles = |house: &House| house.broker.store().rows("SELECT handle, hex(handle) AS h FROM grants", &[]);
    let sealed = |house: &House| handles(house).iter().map(|row| row["h"].to_string()).collect::<Vec<_>>();
    let before = sealed(&house);
    let refused = house.broker.command(["keys", "rewrap", "--new-data-key"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(sealed(&house), before);

    house.broker.stop().await;
    let done = rewrap_with(&house, &[], &["--new-data-key"]);
    assert_eq!((&done["changed"], &done["sealed_anew"]), (&json!(true), &json!(5)), "four keys and a grant: {done}");
    assert!(sealed(&house).iter().zip(&before).all(|(now, before)| now[..30] != before[..30]), "another key is named");
    assert_eq!(wrapped_by(&house).len(), 1);
    house.broker.restart().await;
    assert_eq!(key_ids(&house), ids);
    held.assert_opens_and_end(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_it_leaves_a_store_that_opens_under_the_old_key_or_the_new_one() {
    let mut house = House::open().await;
    let held = Held::open(&house).await;
    house.broker.stop().await;
    let both =
        |new: &str, old: &str| json!({"key_encryption_key_file": new, "retired_key_encryption_key_files": [old]});
    let mut old = "kek".to_owned();
    for (point, more, commits) in [
        ("store::before-commit", &[][..], false),
        ("store::before-commit", &["--new-data-key"], false),
        ("store::after-commit", &[], true),
        ("store::after-commit", &["--new-data-key"], true),
    ] {
        let (before, new) = (wrapped_by(&house), format!("{old}x"));
        key_file(&house, &new);
        house.broker.configure("keys", both(&new, &old));
        let output = house.broker.command_in(&[("HALLPASS_KILL_AT", point)], [&["keys", "rewrap"], more].concat());
        assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()), "{point}: {}", said(&output));
        assert_eq!(wrapped_by(&house) != before, commits, "{point} {more:?}");
        // Either starts alone when it is the one that wraps, and the other does not.
        let (opens, other) = if commits { (&new, &old) } else { (&old, &new) };
        house.broker.configure("keys", json!({"key_encryption_key_file": other}));
        assert!(refused_start(&mut house).await.contains("is wrapped by local:"), "{point}");
        house.broker.configure("keys", json!({"key_encryption_key_file": opens}));
        house.broker.restart().await;
        house.credential().await;
        house.broker.stop().await;
        // While both are named it starts in either case, and the command finishes what was begun.
        house.broker.configure("keys", both(&new, &old));
        house.broker.restart().await;
        assert_eq!(rewrap(&house, &[])["changed"], json!(!commits), "{point}");
        house.broker.stop().await;
        old = new;
    }
    house.broker.configure("keys", json!({"key_encryption_key_file": old}));
    house.broker.restart().await;
    held.assert_opens_and_end(&house).await;
}
