//! Killed at each named place of issuance, of revocation and of the worker's ending.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hallpass_tests::config::ROLE;
use hallpass_tests::{component, eventually, size};
use regex::Regex;
use serde_json::json;

use crate::house::House;
use crate::ledger::{self, hex, text};
use crate::process::assert_killed;
use crate::repeats;
use crate::witness::Witness;

const ISSUANCE: &[&str] = &["open::before-commit", "open::after-commit"];
const REVOCATION: &[&str] = &["revoke::before-commit", "revoke::after-commit"];
const ENDING: &str = "step::before-begin-ending";
/// The worker that died held the grants for 22 s. A start gives up what a dead worker held, so they end before that:
/// when their heartbeat, 5 s, is missed again.
const HOLDS_END: Duration = Duration::from_secs(15);
/// Every write meets these, the first of all included.
pub(crate) const COMMITS: &[&str] = &["store::before-commit", "store::after-commit"];
/// `black_box/publishing` kills at these.
const PUBLISHING: &[&str] = &["publish::before-commit", "publish::after-commit"];
/// Where an experiment of its own kills: in `backup`, in the black-box suite's `audit_log`; the last loses an answer in the
/// store's own tests and kills nothing.
const ELSEWHERE: &[&str] = &["accept::after-commit", "start::before-anchor", "store::answer-lost"];
/// Only backends that are called over the network meet these: `remote::kills` kills there, under each kind of credential.
pub(crate) const REMOTE: &[&str] = &[
    "open::before-intent",
    "open::after-intent",
    "open::after-prepare",
    "open::after-prepared",
    "open::after-call",
    "step::before-undo",
    "step::after-undo",
    "care::after-make-spare",
    "care::after-forget-spare",
];

// EXP-01
#[tokio::test]
async fn killed_at_any_step_of_issuance_it_loses_nothing() {
    let mut house = House::build().await;
    let witness = Witness::default();
    for point in ISSUANCE {
        killed_at(&mut house, &witness, point).await;
    }
    house.start().await;
    witness.assert_short_ones_end(&house).await;
}

// EXP-02
#[tokio::test]
async fn killed_at_any_step_of_revocation_it_forgets_nothing() {
    let mut house = House::build().await;
    let witness = Witness::default();
    for point in REVOCATION {
        killed_at(&mut house, &witness, point).await;
    }
    house.start().await;
    witness.assert_short_ones_end(&house).await;
}

/// Kills the broker under load at the first hits of a fail point, then at later ones, and looks after each restart.
async fn killed_at(house: &mut House, witness: &Witness, point: &str) {
    for round in 0..size(2, 40) {
        let hit = 1 + round * 5;
        let ready = house.start_to_die(&format!("{point}:{hit}")).await;
        assert!(ready, "{point} was hit before anybody asked for anything");
        witness.watch_until_silence(&house.caller).await;
        assert_killed(house.process.ended().await, &house.process.output());
        house.start().await;
        witness.assert_kept(house).await;
        repeats::assert_unanswered_can_be_repeated(house, witness).await;
        witness.assert_kept(house).await;
        house.process.kill9().await;
    }
}

#[tokio::test]
async fn killed_while_it_ends_the_grants_of_the_silent_it_still_ends_them() {
    let mut house = House::build().await;
    assert!(house.start_to_die(ENDING).await, "{ENDING} was hit before anybody asked for anything");
    let mut grants = Vec::new();
    for _ in 0..3 {
        let body = json!({"role": ROLE, "purpose": "deploy build 4f2c", "ends_when": {"heartbeat": "5s"}});
        let proof = house.caller.proof();
        let reply = house.caller.open(&proof, &body, None).await.expect("an answer");
        reply.assert_status(201);
        let token = reply.token().expect("a token").to_owned();
        grants.push((proof, hex(reply.grant()), token));
    }
    assert_killed(house.process.ended().await, &house.process.output());
    house.start().await;
    eventually("the grants end", HOLDS_END, async || {
        let found = ledger::grants(&house.store());
        grants.iter().all(|(_, id, _)| text(&found[id], "state") != "active").then_some(())
    })
    .await;
    let found = ledger::grants(&house.store());
    for (proof, id, token) in &grants {
        assert_eq!(text(&found[id], "cause"), "heartbeat_missed");
        let reply = house.caller.introspect(proof, token).await.expect("an answer");
        assert_eq!(reply.body["active"], false, "{}", reply.text);
    }
    ledger::assert_sound(&house.store());
}

/// A fail point that no experiment names would be a place where nobody has looked.
#[test]
fn every_fail_point_is_killed_at_or_cannot_be_reached() {
    let mut known: BTreeSet<String> =
        [ISSUANCE, REVOCATION, COMMITS, PUBLISHING, REMOTE, ELSEWHERE, crate::sets::SETS, crate::keys::DISTRUST]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
    known.insert(ENDING.to_owned());
    let named = Regex::new(r#"fail_point!\(\s*"([^"]+)""#).expect("the pattern is valid");
    let mut found = BTreeSet::new();
    each_source(&component::root().join("broker"), &mut |text| {
        found.extend(named.captures_iter(text).map(|name| name[1].to_owned()));
    });
    assert_eq!(found, known);
}

fn each_source(folder: &Path, look: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            each_source(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&fs::read_to_string(&path).expect("sources are UTF-8"));
        }
    }
}
