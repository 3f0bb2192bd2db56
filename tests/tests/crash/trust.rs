//! What is trusted, what is permitted and what the broker signs by changes under load: once the change is acknowledged,
//! nothing is opened by what was before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hallpass_tests::config::{ROLE, trust};
use hallpass_tests::{Exchange, Issuer, Journal, SigningKey, eventually, size};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::caller::Caller;
use crate::house::House;
use crate::ledger::{self, text};
use crate::process::DEADLINE;
use crate::witness::{self, CLIENTS};

/// Answers that each state of the world must have given before the next change.
const ANSWERS: usize = CLIENTS * 3;

/// Tokens of a key that are shown to the broker again.
const SHOWN: usize = 24;

/// A request as its client saw it.
#[derive(Clone, Debug)]
struct Attempt {
    proof: String,
    sent: Instant,
    status: u16,
    said: String,
}

impl Attempt {
    /// What was minted.
    fn token(&self) -> String {
        let said: Value = serde_json::from_str(&self.said).unwrap_or_default();
        said["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}")).to_owned()
    }

    /// The key that signed it.
    fn key(&self) -> String {
        witness::header(&self.token())["kid"].as_str().expect("a key id").to_owned()
    }
}

/// Clients that ask again and again, whatever they are answered.
struct Load {
    journal: Journal<Attempt>,
    over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn begin(caller: &Caller) -> Self {
        let load = Self { journal: Journal::default(), over: Arc::default(), clients: JoinSet::new() };
        load.joined_by(caller, CLIENTS)
    }

    fn joined_by(mut self, caller: &Caller, clients: usize) -> Self {
        for _ in 0..clients {
            let (caller, journal, over) = (caller.clone(), self.journal.clone(), Arc::clone(&self.over));
            self.clients.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let proof = caller.proof();
                    let sent = now();
                    let reply = caller.exchange(&Exchange::of(&proof.token), None).await.expect("an answer");
                    journal.record(Attempt { proof: proof.id, sent, status: reply.status, said: reply.text });
                }
            });
        }
        self
    }

    /// Awaits that enough was asked since an instant, and gives it.
    async fn asked_since(&self, instant: Instant) -> Vec<Attempt> {
        eventually("clients have asked", DEADLINE, async || {
            let since: Vec<_> = self.journal.entries().into_iter().filter(|one| one.sent > instant).collect();
            (since.len() >= ANSWERS).then_some(since)
        })
        .await
    }

    async fn end(mut self) -> Vec<Attempt> {
        self.over.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.expect("every client was answered");
        }
        self.journal.entries()
    }
}

// EXP-16
#[tokio::test]
async fn once_another_policy_is_acknowledged_nothing_is_opened_by_the_one_before() {
    let mut house = House::open().await;
    let load = Load::begin(&house.caller);
    assert!(load.asked_since(now()).await.iter().all(|one| one.status == 200), "the load does not work");
    for _ in 0..size(2, 25) {
        for (permitted, status) in [(false, 400), (true, 200)] {
            house
                .reload(|setup| {
                    let (with, without) = (format!("in [Role::\"{ROLE}\", "), "in [");
                    let (_, policies) = &mut setup.policies[0];
                    let changed = if permitted {
                        policies.replacen(without, &with, 1)
                    } else {
                        policies.replacen(&with, without, 1)
                    };
                    assert_ne!(*policies, changed, "the standard policy names the role in another way now");
                    *policies = changed;
                })
                .await;
            for attempt in load.asked_since(now()).await {
                assert_eq!(attempt.status, status, "permitted: {permitted}; {attempt:?}");
            }
        }
    }
    let attempts = load.end().await;
    assert_opened_by_the_revision_in_force(&house);
    assert_ledger_agrees(&house, &attempts);
}

// EXP-16
#[tokio::test]
async fn once_the_end_of_trust_in_an_issuer_is_acknowledged_none_of_its_proofs_opens_anything() {
    let key = SigningKey::es256("key-of-the-other");
    let issuer = Issuer::start(&[&key]).await;
    let folder = TempDir::with_prefix("hallpass-crash-").expect("a temporary folder");
    let other = trust("other", &issuer, &["ES256"]);
    let entry = other.clone();
    let with_other = |mut setup: hallpass_tests::config::Setup| {
        setup.issuers.push(entry);
        setup
    };
    let mut house = House::build_with(folder, with_other).await;
    house.start().await;
    let distrusted = Caller::new(house.caller.address(), issuer, key);
    let (trusted_load, load) = (Load::begin(&house.caller), Load::begin(&distrusted));
    for _ in 0..size(2, 25) {
        assert!(load.asked_since(now()).await.iter().all(|one| one.status == 200), "it is trusted");
        house.reload(|setup| setup.issuers.retain(|issuer| issuer["name"] != "other")).await;
        for attempt in load.asked_since(now()).await {
            assert_eq!(attempt.status, 400, "{attempt:?}");
        }
        let last = published(&house).last().copied().expect("a publication");
        assert!(
            opened(&house).iter().all(|opened| opened.issuer != "other" || opened.sequence < last),
            "a grant of the issuer was committed after the end of trust in it"
        );
        assert!(trusted_load.asked_since(now()).await.iter().all(|one| one.status == 200), "the other one is trusted");
        house.reload(|setup| setup.issuers.push(other.clone())).await;
    }
    let mut attempts = load.end().await;
    attempts.extend(trusted_load.end().await);
    assert_opened_by_the_revision_in_force(&house);
    assert_ledger_agrees(&house, &attempts);
}

// EXP-16
#[tokio::test]
async fn while_keys_change_under_load_old_tokens_verify_and_once_one_is_distrusted_none_of_its_own_does() {
    let mut house = House::open().await;
    let load = Load::begin(&house.caller);
    let mut tokens_of_old = Vec::new();
    for round in 0..size(1, 10) {
        let before = load.asked_since(now()).await;
        assert!(before.iter().all(|one| one.status == 200), "the load does not work");
        let old = before.last().expect("an attempt").key();
        tokens_of_old.extend(before.iter().rev().take(SHOWN).filter(|one| one.key() == old).map(Attempt::token));

        // Announced, and in turn: the old one signs until the new one does, and both are published.
        let made = keys(&house, &["rotate", "--purpose", "token", "--algorithm", "ES256", "--activate-after", "1s"]);
        let new = made[0]["key_id"].as_str().expect("a key id").to_owned();
        let announced = house.caller.get("/.well-known/jwks.json").await.expect("an answer").text;
        assert!([&old, &new].iter().all(|key| announced.contains(key.as_str())), "{announced}");
        eventually("the new key signs", DEADLINE, async || {
            let attempts = load.journal.entries();
            attempts.last().is_some_and(|last| last.status == 200 && last.key() == new).then_some(())
        })
        .await;
        for attempt in load.asked_since(now()).await {
            assert_eq!((attempt.status, attempt.key()), (200, new.clone()), "{attempt:?}");
        }
        let keys_by_now = house.caller.get("/.well-known/jwks.json").await.expect("an answer").body;
        for token in &tokens_of_old {
            witness::verified(token, &keys_by_now);
            assert!(is_active(&house, token).await, "a token of the key before");
        }

        // The key-encryption key, in turn too: what is sealed opens, and what was signed verifies.
        change_key_encryption_key(&mut house, round).await;
        for attempt in load.asked_since(now()).await {
            assert_eq!((attempt.status, attempt.key()), (200, new.clone()), "{attempt:?}");
        }

        // And at once.
        keys(&house, &["distrust", &new, "--reason", "its backup was stolen"]);
        let acknowledged = now();
        for attempt in load.asked_since(acknowledged).await {
            assert_eq!(attempt.status, 200, "{attempt:?}");
            assert_ne!(attempt.key(), new, "{attempt:?}");
        }
        let distrusted: Vec<_> = load.journal.entries().into_iter().filter(|one| one.key() == new).collect();
        assert!(distrusted.len() >= ANSWERS, "it hardly signed: {}", distrusted.len());
        let keys_by_now = house.caller.get("/.well-known/jwks.json").await.expect("an answer").body;
        assert!(!keys_by_now.to_string().contains(&new), "{keys_by_now}");
        for attempt in distrusted.iter().rev().take(SHOWN * 4) {
            assert!(!is_active(&house, &attempt.token()).await, "a token of the distrusted key: {attempt:?}");
        }
        for token in &tokens_of_old {
            witness::verified(token, &keys_by_now);
            assert!(is_active(&house, token).await, "a token of a key that is only retired");
        }
        assert_nothing_opened_by_it_since(&house, &new);
        eventually("all that it signed is ending", DEADLINE, async || {
            let sql = "SELECT id FROM grants WHERE signed_by = ?1 AND state IN ('pending', 'active')";
            house.store().rows(sql, &[&new]).is_empty().then_some(())
        })
        .await;
    }
    let attempts = load.end().await;
    assert!(attempts.iter().all(|one| one.status == 200), "a change of keys refused somebody");
    let grants = ledger::grants(&house.store());
    assert_eq!(grants.len(), attempts.len(), "grants that nobody was told of");
    ledger::assert_sound(&house.store());
    let compared = house.process.beside(&["audit", "compare"]);
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}

/// By the order of commits.
fn assert_nothing_opened_by_it_since(house: &House, key: &str) {
    let sql = "SELECT max(sequence) AS last FROM audit_entries WHERE action = 'key.distrust'";
    let distrusted = house.store().rows(sql, &[])[0]["last"].as_i64().expect("a place");
    let rows = house.store().rows(
        "SELECT max(sequence) AS last, count(*) AS number FROM audit_entries JOIN grants ON grants.id = grant_id
         WHERE action = 'grant.activate' AND signed_by = ?1",
        &[&key],
    );
    assert!(rows[0]["number"].as_i64().is_some_and(|number| number >= ANSWERS as i64), "the control: {rows:?}");
    let last = rows[0]["last"].as_i64().expect("a place");
    assert!(last < distrusted, "a grant at {last} was signed by the key that was distrusted at {distrusted}");
}

/// Another key-encryption key is named, and wraps the data key: beside the broker, which goes on.
async fn change_key_encryption_key(house: &mut House, round: usize) {
    let file = |number: usize| match number {
        0 => house.folder().join("kek"),
        number => house.folder().join(format!("kek-{number}")),
    };
    let (active, retired) = (file(round + 1), file(round));
    hallpass_tests::config::write_key_file(&active, 0o600).expect("a key file");
    let sections = json!({
        "key_encryption_key_file": active,
        "retired_key_encryption_key_files": [retired],
    });
    house.reload(|setup| setup.server["keys"] = sections).await;
    let output = house.process.beside(&["keys", "rewrap", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["changed"], true, "{said}");
}

async fn is_active(house: &House, token: &str) -> bool {
    let reply = house.caller.introspect(&house.caller.proof(), token).await.expect("an answer");
    reply.assert_status(200);
    reply.body["active"] == true
}

/// Runs a command about keys beside the broker, and gives the keys that it answers.
fn keys(house: &House, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["keys"], arguments, &["--json"]].concat();
    let output = house.process.beside(&arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a list of keys")
}

/// A grant's opening, by its place in the order of commits.
struct Opened {
    sequence: i64,
    revision: String,
    issuer: String,
}

fn opened(house: &House) -> Vec<Opened> {
    let rows = house.store().rows(
        "SELECT sequence, policy_revision, issuer FROM audit_entries JOIN grants ON grants.id = grant_id
         WHERE action = 'grant.open' AND outcome = 'success' ORDER BY sequence",
        &[],
    );
    let opened = rows.iter().map(|row| Opened {
        sequence: row["sequence"].as_i64().expect("a place"),
        revision: text(row, "policy_revision").to_owned(),
        issuer: text(row, "issuer").to_owned(),
    });
    opened.collect()
}

/// Where the log tells of a new revision, in order.
fn published(house: &House) -> Vec<i64> {
    let sql = "SELECT sequence FROM audit_entries WHERE action = 'configuration.publish' ORDER BY sequence";
    house.store().rows(sql, &[]).iter().map(|row| row["sequence"].as_i64().expect("a place")).collect()
}

/// The log is in the order of commits: between two publications every grant has the revision of the first.
fn assert_opened_by_the_revision_in_force(house: &House) {
    let revisions = house.store().rows("SELECT id FROM bundle_revisions ORDER BY seq", &[]);
    let published = published(house);
    assert_eq!(revisions.len(), published.len(), "each publication has its entry");
    let opened = opened(house);
    let mut kinds = std::collections::BTreeSet::new();
    for grant in &opened {
        let place = published.iter().filter(|publication| **publication < grant.sequence).count();
        let in_force = text(&revisions[place - 1], "id");
        // In force before it is recorded: a grant may have the one that comes next, and never the one before.
        let next = revisions.get(place).map_or("", |row| text(row, "id"));
        assert!(
            grant.revision == in_force || grant.revision == next,
            "a grant at {} was opened by {}, and {in_force} was in force since {:?}",
            grant.sequence,
            grant.revision,
            published.get(place - 1)
        );
        kinds.insert(grant.revision.clone());
    }
    assert!(!kinds.is_empty() && opened.len() >= ANSWERS, "hardly anything was opened: {}", opened.len());
    ledger::assert_sound(&house.store());
}

/// Whoever was told `200` has a grant, and nobody else.
fn assert_ledger_agrees(house: &House, attempts: &[Attempt]) {
    let grants = ledger::grants(&house.store());
    let proofs: std::collections::BTreeSet<_> = grants.values().map(|grant| text(grant, "proof_id")).collect();
    for attempt in attempts {
        assert_eq!(proofs.contains(attempt.proof.as_str()), attempt.status == 200, "{attempt:?}");
        let said: Value = serde_json::from_str(&attempt.said).unwrap_or_default();
        assert_eq!(said["access_token"].is_string(), attempt.status == 200, "{attempt:?}");
    }
    let granted = attempts.iter().filter(|one| one.status == 200).count();
    assert_eq!(grants.len(), granted, "grants that nobody was told of");
    assert!(granted < attempts.len(), "nothing was refused");
}

#[expect(clippy::disallowed_methods, reason = "the order of what clients did is told by the harness's own clock")]
fn now() -> Instant {
    Instant::now()
}
