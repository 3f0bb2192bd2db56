//! The clock jumps while the broker runs: ahead, back, far into the future. Only the broker's clock does (libfaketime, wall
//! clock alone); what is true is told by the harness's own.

use std::fs;
use std::path::PathBuf;

use hallpass_tests::config::ROLE;
use hallpass_tests::{Exchange, component, eventually, unix_now};
use serde_json::json;

use crate::caller::Proof;
use crate::house::House;
use crate::ledger::{self, hex, millis, text};
use crate::process::{DEADLINE, Start};
use crate::witness::{Received, Wanted, Witness};

const HOURS: i64 = 3600;
/// What the broker says when the clock has stepped forward.
const STEPPED: &str = "the wall clock stepped forward";

/// A broker whose clock the test sets.
struct Jumping {
    house: House,
    file: PathBuf,
}

impl Jumping {
    async fn open() -> Option<Self> {
        let library = component::faketime()?;
        let house = House::build().await;
        let file = house.folder().join("clock");
        let mut jumping = Self { house, file };
        jumping.jump(0);
        let environment = [
            ("LD_PRELOAD", library.to_str().expect("a path in UTF-8")),
            ("FAKETIME_TIMESTAMP_FILE", jumping.file.to_str().expect("a path in UTF-8")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        jumping.house.start_as(Start { environment: &environment, ..Start::default() }).await;
        Some(jumping)
    }

    /// Sets the broker's clock so many seconds ahead of ours.
    fn jump(&self, seconds: i64) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n")).expect("written");
        fs::rename(next, &self.file).expect("in place");
    }

    /// An exchange with this proof: its status and what was said.
    async fn exchange(&self, proof: &Proof) -> (u16, String) {
        let reply = self.house.caller.exchange(&Exchange::of(&proof.token), None).await.expect("an answer");
        (reply.status, reply.text)
    }

    fn states(&self, of: &[Received]) -> Vec<String> {
        let grants = ledger::grants(&self.house.store());
        of.iter().map(|one| text(&grants[&hex(&one.grant)], "state").to_owned()).collect()
    }

    fn proofs_remembered(&self) -> usize {
        self.house.store().rows("SELECT proof_id FROM proof_uses", &[]).len()
    }
}

// EXP-05
#[tokio::test]
async fn a_clock_that_steps_forward_ends_nothing_and_forgets_nothing_until_an_operator_confirms_it() {
    let Some(jumping) = Jumping::open().await else { return };
    let witness = Witness::default();
    let mut live = Vec::new();
    for _ in 0..4 {
        live.push(witness.ask(&jumping.house.caller, Wanted::Token).await.expect("an answer"));
    }
    let silent = open_with_heartbeat(&jumping).await;
    let remembered = jumping.proofs_remembered();

    let before = jumping.house.process.said(STEPPED);
    jumping.jump(2 * HOURS);
    // Several ticks of the workers: it says so at each.
    jumping.house.process.says(STEPPED, before + 1).await;
    assert_eq!(jumping.states(&live), vec!["active"; live.len()], "live grants were ended by a wrong clock");
    assert_eq!(text(&ledger::grants(&jumping.house.store())[&silent], "state"), "active");
    assert_eq!(jumping.proofs_remembered(), remembered, "used proofs were forgotten");
    let (status, said) = jumping.exchange(&jumping.house.caller.proof()).await;
    assert!(is_refused(status), "a proof, and keys, that are two hours old by the broker's clock: {status} {said}");

    assert_eq!(jumping.house.part("clock").await.as_deref(), Some("degraded"));

    // The clock comes back: the step was the error, and nothing happened.
    jumping.jump(0);
    eventually("its clock is right again", DEADLINE, async || {
        (jumping.house.part("clock").await.as_deref() == Some("ok")).then_some(())
    })
    .await;
    eventually("it works again", DEADLINE, async || {
        (jumping.exchange(&jumping.house.caller.proof()).await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(jumping.states(&live), vec!["active"; live.len()]);

    // An operator confirms the next step: then what is past its end is over.
    let before = jumping.house.process.said(STEPPED);
    jumping.jump(2 * HOURS);
    jumping.house.process.says(STEPPED, before).await;
    jumping.house.hang_up().await;
    eventually("what is over is recorded", DEADLINE, async || {
        jumping.states(&live).iter().all(|state| state == "expired").then_some(())
    })
    .await;
    // Back again: what has expired stays so.
    jumping.jump(0);
    for one in &live {
        assert_eq!(one.introspected(&jumping.house.caller).await.body["active"], false);
    }
    assert_eq!(jumping.states(&live), vec!["expired"; live.len()], "an ended grant lives again");
    ledger::assert_sound(&jumping.house.store());
}

// EXP-05
#[tokio::test]
async fn a_clock_that_steps_back_opens_nothing_and_moves_no_end() {
    let Some(jumping) = Jumping::open().await else { return };
    let witness = Witness::default();
    let caller = &jumping.house.caller;
    let live = witness.ask(caller, Wanted::Token).await.expect("an answer");
    let promised = millis(&ledger::grants(&jumping.house.store())[&hex(&live.grant)], "expires_at");
    let count = ledger::grants(&jumping.house.store()).len();

    for back in [10, 2 * HOURS] {
        jumping.jump(-back);
        // Proofs that are right by the broker's clock: it is the broker that must notice.
        let (status, said) = jumping.exchange(&caller.proof_dated(-back)).await;
        assert_eq!(status, 503, "{back} s back: {said}");
        assert_eq!(ledger::grants(&jumping.house.store()).len(), count, "something was opened");
    }
    // What lives is ended all the same: an ending needs no clock.
    let reply = caller.revoke(&live.errand.proof, &live.grant).await;
    let dated = caller.proof_dated(-2 * HOURS);
    let reply = match reply {
        Ok(reply) if reply.status < 300 => reply,
        _ => caller.revoke(&dated, &live.grant).await.expect("an answer"),
    };
    assert!(matches!(reply.status, 200 | 202), "{}", reply.text);

    jumping.jump(0);
    let reply = live.introspected(caller).await;
    assert_eq!(reply.body["active"], false, "{}", reply.text);
    let grant = &ledger::grants(&jumping.house.store())[&hex(&live.grant)];
    assert!(millis(grant, "expires_at") <= promised, "a step back made it live longer");
    let claims = live.assert_verifies(caller).await;
    assert!(claims["exp"].as_i64().expect("exp") * 1000 <= promised);
    assert!(witness.ask(caller, Wanted::Token).await.is_some(), "it works again");
    ledger::assert_sound(&jumping.house.store());
}

// EXP-05
#[tokio::test]
async fn a_clock_that_leaps_beyond_2038_and_2106_breaks_nothing() {
    let Some(mut jumping) = Jumping::open().await else { return };
    let witness = Witness::default();
    let live = witness.ask(&jumping.house.caller, Wanted::Token).await.expect("an answer");
    for year in [2_208_988_800_i64, 4_354_819_200] {
        // 2040 and 2108.
        let before = jumping.house.process.said(STEPPED);
        jumping.jump(year - unix_now());
        jumping.house.process.says(STEPPED, before).await;
        let (status, said) = jumping.exchange(&jumping.house.caller.proof()).await;
        assert!(is_refused(status), "{status} {said}");
        assert_eq!(jumping.states(std::slice::from_ref(&live)), ["active"]);
        assert!(jumping.house.process.runs(), "it ended");
        jumping.jump(0);
        eventually("it works again", DEADLINE, async || {
            (jumping.exchange(&jumping.house.caller.proof()).await.0 == 200).then_some(())
        })
        .await;
    }
    assert_eq!(live.introspected(&jumping.house.caller).await.body["active"], true);
    ledger::assert_sound(&jumping.house.store());
}

/// By a clock that is far ahead proofs have expired, and so have the issuer's keys, if nothing newer can be had yet.
fn is_refused(status: u16) -> bool {
    matches!(status, 400 | 503)
}

/// A grant that ends when its holder is silent; gives its id as the ledger has it.
async fn open_with_heartbeat(jumping: &Jumping) -> String {
    let body = json!({"role": ROLE, "purpose": "deploy build 4f2c", "ends_when": {"heartbeat": "5m"}});
    let proof = jumping.house.caller.proof();
    let reply = jumping.house.caller.open(&proof, &body, None).await.expect("an answer");
    reply.assert_status(201);
    hex(reply.grant())
}
