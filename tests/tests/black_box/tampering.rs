//! Sixty ways to tamper with an exported log, ten of each kind, each found offline; and the log that nobody touched.
//!
//! Where a kind of tampering can be done clumsily and cleverly, both are tried: the clever one renumbers what follows and
//! makes each line anew, so that only the tree and what was signed can tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use hallpass_core::audit::note::VerifierKey;
use hallpass_core::audit::tree::Frontier;
use hallpass_core::audit::{Leaf, SignedCheckpoint, event};
use hallpass_tests::Broker;
use hallpass_tests::config::OPERATOR;
use serde_json::{Value, json};

use crate::House;

/// An exported log, as its lines.
type Lines = Vec<String>;

/// What was exported from a running broker, and what was signed on the way.
struct Scene {
    house: House,
    key: VerifierKey,
    lines: Lines,
    earlier: SignedCheckpoint,
    newest: SignedCheckpoint,
    folder: tempfile::TempDir,
}

/// What somebody hands to an auditor.
struct Case<'a> {
    name: String,
    lines: Lines,
    checkpoint: &'a str,
    earlier: &'a str,
}

impl Scene {
    async fn open() -> Self {
        let house = House::open_with(|setup| setup.server(json!({"audit": {"origin": "hallpass.test/audit"}}))).await;
        let metadata = house.broker.call("GET", "/.well-known/oauth-authorization-server", None, None).await;
        let key: VerifierKey = metadata.text_of("hallpass_audit_verifier_key").parse().expect("a verifier key");
        live(&house, 8).await;
        let earlier = checkpoint(&house, &key).await;
        live(&house, 8).await;
        let newest = checkpoint(&house, &key).await;
        let folder = tempfile::tempdir().expect("a folder");
        // Beside the running broker.
        let lines = export(&house.broker, folder.path(), newest.checkpoint.head.size);
        assert!(lines.len() > 40, "{}", lines.len());
        Self { house, key, lines, earlier, newest, folder }
    }

    fn case(&self, name: impl Into<String>, lines: Lines) -> Case<'_> {
        Case { name: name.into(), lines, checkpoint: &self.newest.note, earlier: &self.earlier.note }
    }

    fn verify(&self, case: &Case<'_>) -> Output {
        let write = |name: &str, text: &str| -> PathBuf {
            let file = self.folder.path().join(name);
            fs::write(&file, text).expect("written");
            file
        };
        let text: String = case.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let (export, newest) = (write("case.jsonl", &text), write("case.checkpoint", case.checkpoint));
        let earlier = write("case.earlier", case.earlier);
        let arguments = ["audit", "verify", "--key", &self.key.to_string(), "--export"].map(str::to_owned);
        let files = [export, "--checkpoint".into(), newest, "--earlier".into(), earlier];
        let files = files.iter().map(|file| file.display().to_string());
        Broker::run(arguments.into_iter().chain(files))
    }
}

/// Something of everything that a log tells of: opened, refused, ended.
async fn live(house: &House, rounds: usize) {
    for _ in 0..rounds {
        let grant = house.credential().await.grant_id().to_owned();
        house.exchange("not a proof").await;
        house
            .broker
            .call("DELETE", &format!("/v1/grants/{grant}"), Some(&house.proof()), None)
            .await
            .assert_status(202);
    }
}

async fn checkpoint(house: &House, key: &VerifierKey) -> SignedCheckpoint {
    let proof = house.proof_of(OPERATOR);
    let answer = house.broker.call("GET", "/v1/audit/checkpoint", Some(&proof), None).await;
    answer.assert_status(200);
    SignedCheckpoint::open(&answer.text, key).expect("the broker's own")
}

fn export(broker: &Broker, folder: &Path, size: u64) -> Lines {
    let file = folder.join("export.jsonl");
    let name = file.display().to_string();
    let output = broker.command(["audit", "export", "--until", &size.to_string(), "--output", &name]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Lines = fs::read_to_string(file).expect("exported").lines().map(str::to_owned).collect();
    assert_eq!(lines.len() as u64, size);
    lines
}

fn leaf_of(line: &str) -> Leaf {
    let event: Value = serde_json::from_str(line).expect("JSON");
    Leaf::parse(event["raw_data"].as_str().expect("raw_data").to_owned()).expect("a leaf")
}

/// The line of an entry at a place, made anew.
fn line(like: &Leaf, sequence: u64, entry: &str) -> String {
    event::line_of(&Leaf::new(like.log(), sequence, entry)).expect("an event")
}

/// The lines numbered from 0 and made anew: as if they had always stood so.
fn renumbered(lines: &[String]) -> Lines {
    let leaves = lines.iter().map(|line| leaf_of(line));
    (0..).zip(leaves).map(|(place, leaf)| line(&leaf, place, leaf.entry())).collect()
}

/// An entry as somebody would like it to have been.
fn rewritten(leaf: &Leaf) -> String {
    let mut entry: Value = serde_json::from_str(leaf.entry()).expect("JSON");
    entry["time"] = json!(entry["time"].as_i64().expect("a time") + 1);
    entry.to_string()
}

/// Ten places, spread over the log: on both sides of the earlier checkpoint, its first and its last entry among them.
fn places(lines: &[String]) -> [usize; 10] {
    std::array::from_fn(|n| n * (lines.len() - 1) / 9)
}

fn edited(scene: &Scene) -> Vec<Case<'_>> {
    let outer: [(&str, Value); 4] = [
        ("/time", json!(1)),
        ("/status_id", json!(1)),
        ("/actor", json!({"user": {"name": "somebody else"}})),
        ("/unmapped", json!({"purpose": "nothing to see here"})),
    ];
    let edit = |(n, at): (usize, usize)| {
        let mut lines = scene.lines.clone();
        let leaf = leaf_of(&lines[at]);
        let how = match n {
            0..4 => {
                lines[at] = line(&leaf, leaf.sequence(), &rewritten(&leaf));
                "made anew".to_owned()
            }
            4..6 => {
                let mut event: Value = serde_json::from_str(&lines[at]).expect("JSON");
                event["raw_data"] = json!(Leaf::new(leaf.log(), leaf.sequence(), &rewritten(&leaf)).text());
                lines[at] = event.to_string();
                "in raw_data alone".to_owned()
            }
            _ => {
                let (field, value) = outer[n - 6].clone();
                let mut event: Value = serde_json::from_str(&lines[at]).expect("JSON");
                let before = event.clone();
                event[field.trim_start_matches('/')] = value;
                if event == before {
                    event["status_id"] = json!(99);
                }
                lines[at] = event.to_string();
                format!("in {field} around raw_data")
            }
        };
        scene.case(format!("entry {at} edited {how}"), lines)
    };
    places(&scene.lines).into_iter().enumerate().map(edit).collect()
}

fn deleted(scene: &Scene) -> Vec<Case<'_>> {
    let delete = |(n, at): (usize, usize)| {
        // The last is for the truncated.
        let at = at.min(scene.lines.len() - 2);
        let mut lines = scene.lines.clone();
        lines.remove(at);
        let clever = n % 2 == 1;
        scene.case(
            format!("entry {at} deleted{}", if clever { " and the rest renumbered" } else { "" }),
            if clever { renumbered(&lines) } else { lines },
        )
    };
    places(&scene.lines).into_iter().enumerate().map(delete).collect()
}

fn reordered(scene: &Scene) -> Vec<Case<'_>> {
    let reorder = |(n, at): (usize, usize)| {
        let mut lines = scene.lines.clone();
        let with = if n % 3 == 0 { (at + 1) % lines.len() } else { (at + 7) % lines.len() };
        lines.swap(at, with);
        let clever = n % 2 == 1;
        scene.case(
            format!("entries {at} and {with} swapped{}", if clever { " and renumbered" } else { "" }),
            if clever { renumbered(&lines) } else { lines },
        )
    };
    places(&scene.lines).into_iter().enumerate().map(reorder).collect()
}

fn inserted(scene: &Scene) -> Vec<Case<'_>> {
    let insert = |(n, at): (usize, usize)| {
        let mut lines = scene.lines.clone();
        let leaf = leaf_of(&lines[at]);
        let (clever, forged) = (n % 2 == 1, line(&leaf, at as u64, &rewritten(&leaf)));
        match n {
            // A line that was there once already, a new one, and new ones at the end.
            0..4 => lines.insert(at, scene.lines[(at + 3) % scene.lines.len()].clone()),
            4..8 => lines.insert(at, forged),
            _ => lines.push(line(&leaf, lines.len() as u64, &rewritten(&leaf))),
        }
        scene.case(
            format!("an entry inserted at {at}{}", if clever { " and the rest renumbered" } else { "" }),
            if clever { renumbered(&lines) } else { lines },
        )
    };
    places(&scene.lines).into_iter().enumerate().map(insert).collect()
}

fn truncated(scene: &Scene) -> Vec<Case<'_>> {
    let earlier = usize::try_from(scene.earlier.checkpoint.head.size).expect("a length");
    (0..10)
        .map(|n| match n {
            // The auditor has the newest checkpoint, and is handed an older state as if it were all.
            0 => Case {
                name: "put back to the earlier checkpoint".to_owned(),
                lines: scene.lines[..earlier].to_vec(),
                checkpoint: &scene.earlier.note,
                earlier: &scene.newest.note,
            },
            1 => {
                let mut lines = scene.lines.clone();
                let last = lines.last_mut().expect("a line");
                last.truncate(last.len() / 2);
                scene.case("the last line cut in the middle", lines)
            }
            2 => scene.case("nothing left", Vec::new()),
            n => {
                let left = scene.lines.len() - (n - 2) * (n - 2).min(4);
                scene.case(format!("{left} entries left"), scene.lines[..left].to_vec())
            }
        })
        .collect()
}

/// Histories that nobody lived through, signed as well as somebody without the key can.
fn forged_forks(scene: &Scene) -> Vec<(String, Lines, String)> {
    let forge = |n: usize| {
        let at = 2 + n * 3;
        let mut lines = scene.lines.clone();
        let leaf = leaf_of(&lines[at]);
        lines[at] = line(&leaf, leaf.sequence(), &rewritten(&leaf));
        let mut frontier = Frontier::default();
        lines.iter().for_each(|line| drop(frontier.push(leaf_of(line).hash())));
        let was = scene.newest.checkpoint.head.root.to_string();
        let note = scene.newest.note.replace(&was, &frontier.head().root.to_string());
        assert_ne!(note, scene.newest.note);
        (format!("another history from entry {at}, under a signature that was over the first"), lines, note)
    };
    (0..5).map(forge).collect()
}

/// Histories that a broker did live through, on a database that was put back under it: each is signed by the true key.
async fn lived_forks(scene: &mut Scene) -> Vec<(String, Lines, String)> {
    let mut forks = Vec::new();
    let Scene { house, key, folder, .. } = scene;
    let database = house.broker.folder().join("hallpass.db");
    let base = folder.path().join("base.db");
    assert!(house.broker.stop().await.success());
    fs::copy(&database, &base).expect("copied");
    house.broker.restart().await;
    live(house, 1).await;
    let first = checkpoint(house, key).await;
    for n in 0..5 {
        assert!(house.broker.stop().await.success());
        fs::copy(&base, &database).expect("put back");
        house.broker.restart().await;
        live(house, 2 + n).await;
        let signed = checkpoint(house, key).await;
        let size = signed.checkpoint.head.size;
        assert!(size >= first.checkpoint.head.size, "it must not be found by its length alone");
        let lines = export(&house.broker, folder.path(), size);
        forks.push((format!("another history of {size} entries, signed by the true key"), lines, signed.note));
    }
    scene.earlier = first;
    forks
}

/// Every one is found, and the words say more than that something is wrong.
fn assert_found(scene: &Scene, cases: &[Case<'_>], words: &[&str]) -> usize {
    for case in cases {
        let output = scene.verify(case);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "not found: {}\n{said}", case.name);
        assert!(words.iter().any(|word| said.contains(word)), "{}: {said}", case.name);
        assert!(said.contains("NOT VERIFIED"), "{}: {said}", case.name);
    }
    cases.len()
}

// CASE LOG-006
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_tamperings_are_found_and_the_untouched_log_is_accepted() {
    let mut scene = Scene::open().await;
    let untouched = scene.verify(&scene.case("untouched", scene.lines.clone()));
    let said = String::from_utf8_lossy(&untouched.stdout).into_owned();
    assert_eq!(untouched.status.code(), Some(0), "{said}");
    assert!(said.contains("verified: "), "{said}");

    let changed = "is not the one that was signed";
    let mut found = 0;
    found += assert_found(&scene, &edited(&scene), &["was edited", changed]);
    found += assert_found(&scene, &deleted(&scene), &["missing before line", "cut off"]);
    found += assert_found(&scene, &reordered(&scene), &["missing before line", "belongs", changed]);
    found += assert_found(&scene, &inserted(&scene), &["belongs", "missing before line", "not signed"]);
    found += assert_found(&scene, &truncated(&scene), &["cut off", "not an exported entry"]);
    let forged = forged_forks(&scene);
    let as_case = |(name, lines, note): &(String, Lines, String), earlier: &SignedCheckpoint| {
        (name.clone(), lines.clone(), note.clone(), earlier.note.clone())
    };
    let check = |scene: &Scene, forks: &[(String, Lines, String)], words: &[&str]| {
        let owned: Vec<_> = forks.iter().map(|fork| as_case(fork, &scene.earlier)).collect();
        let cases: Vec<_> = owned
            .iter()
            .map(|(name, lines, note, earlier)| Case {
                name: name.clone(),
                lines: lines.clone(),
                checkpoint: note,
                earlier,
            })
            .collect();
        assert_found(scene, &cases, words)
    };
    found += check(&scene, &forged, &["cannot be believed"]);
    let lived = lived_forks(&mut scene).await;
    found += check(&scene, &lived, &["the log was forked"]);
    assert_eq!(found, 60);

    // The last history is in itself without fault: it is the earlier checkpoint alone that contradicts it.
    let (_, lines, note) = lived.last().expect("a fork");
    let alone = Case { name: "alone".to_owned(), lines: lines.clone(), checkpoint: note, earlier: note };
    assert_eq!(scene.verify(&alone).status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_goes_to_the_newest_checkpoint_and_verifies_with_it() {
    let mut house = House::open().await;
    house.credential().await;
    let metadata = house.broker.call("GET", "/.well-known/oauth-authorization-server", None, None).await;
    let key = metadata.text_of("hallpass_audit_verifier_key").to_owned();
    assert!(house.broker.stop().await.success());
    let file = |name: &str| house.broker.folder().join(name).display().to_string();
    let (log, checkpoint) = (file("log.jsonl"), file("log.checkpoint"));
    let output = house.broker.command(["audit", "export", "--output", &log, "--checkpoint", &checkpoint]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verify = |more: &[&str]| {
        let arguments = ["audit", "verify", "--export", &log, "--checkpoint", &checkpoint];
        Broker::run(arguments.iter().chain(more)).status.code()
    };
    assert_eq!(verify(&["--key", &key]), Some(0), "of a stopped broker, too");
    assert_eq!(verify(&["--key", "nonsense"]), Some(2));
    assert_eq!(verify(&["--key", &key, "--earlier", &file("nowhere")]), Some(2));
    assert_eq!(verify(&[]), Some(2));
    let beyond = house.broker.command(["audit", "export", "--until", "100000"]);
    assert_eq!(beyond.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_by_a_key_that_was_not_given_says_nothing_and_with_its_key_it_counts() {
    let scene = Scene::open().await;
    crate::rotation::keys(&scene.house, &["rotate", "--purpose", "audit", "--activate-after", "0s"]);
    live(&scene.house, 1).await;
    let metadata = scene.house.broker.call("GET", "/.well-known/oauth-authorization-server", None, None).await;
    let new: VerifierKey = metadata.text_of("hallpass_audit_verifier_key").parse().expect("a verifier key");
    assert_ne!(new, scene.key);
    let newest = checkpoint(&scene.house, &new).await;
    let mut lines = export(&scene.house.broker, scene.folder.path(), newest.checkpoint.head.size);
    let verify = |lines: &Lines, earlier: &str, keys: &[&VerifierKey]| {
        let file = |name: &str, text: &str| {
            let file = scene.folder.path().join(name);
            fs::write(&file, text).expect("written");
            file.display().to_string()
        };
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let (export, newest) = (file("log.jsonl", &text), file("new.checkpoint", &newest.note));
        let earlier = file("old.checkpoint", earlier);
        let files = ["audit", "verify", "--export", &export, "--checkpoint", &newest, "--earlier", &earlier];
        let keys = keys.iter().flat_map(|key| ["--key".to_owned(), key.to_string()]);
        let output = Broker::run(files.map(str::to_owned).into_iter().chain(keys));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let old = &scene.earlier.note;

    let (code, said) = verify(&lines, old, &[&scene.key, &new]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("verified: ") && said.contains("1 earlier checkpoints agree"), "{said}");
    let signed = |file: &str, key: &VerifierKey| {
        said.lines().any(|line| line.contains(file) && line.ends_with(&format!("signed by {key}")))
    };
    assert!(signed("old.checkpoint", &scene.key) && signed("new.checkpoint", &new), "{said}");
    for key in [&scene.key, &new] {
        let (code, said) = verify(&lines, old, &[key]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("cannot be told: it is signed by another key than those given"), "{said}");
        assert!(!said.contains("NOT VERIFIED"), "{said}");
    }
    let (code, said) = verify(&lines, "", &[&new]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("empty, cut off, or no checkpoint"), "{said}");

    // What was changed is told as such, whichever keys are there to tell it by.
    let forged = old.replacen(&scene.earlier.checkpoint.head.size.to_string(), "1", 2);
    assert_eq!(verify(&lines, &forged, &[&new, &scene.key]).0, Some(1));
    lines.remove(3);
    let (code, said) = verify(&lines, old, &[&new]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("NOT VERIFIED"), "{said}");
}
