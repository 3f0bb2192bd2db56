//! Killed while a set of grants is being revoked: what was answered holds at once after the restart, and the rest
//! follows, exactly.

use std::collections::BTreeSet;
use std::time::Duration;

use hallpass_tests::config::{OPERATOR, ROLE};
use hallpass_tests::{eventually, size};
use serde_json::{Value, json};

use crate::caller::{Caller, NoReply, Reply};
use crate::chance::Chance;
use crate::house::House;
use crate::ledger::{self, hex, text};
use crate::process::assert_killed;

/// Every place at which a revocation of a set can be killed.
pub(crate) const SETS: &[&str] = &[
    "revocation::before-commit",
    "revocation::after-commit",
    "revocation::after-chunk",
    "revocation::before-completion",
];

/// The longest that a set is revoked before a crash.
const LONGEST_MILLIS: u64 = 250;

/// How long the rows of a set may take, on a machine that builds at the same time.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(60);

/// Grants of one ticket, with one of their tokens.
struct Set {
    ticket: String,
    grants: BTreeSet<String>,
    token: String,
}

impl Set {
    async fn open(caller: &Caller, ticket: &str, count: usize) -> Self {
        let mut grants = BTreeSet::new();
        let mut token = String::new();
        for begun in (0..count).step_by(50) {
            let together: Vec<_> = (begun..count.min(begun + 50))
                .map(|_| {
                    let (caller, ticket) = (caller.clone(), ticket.to_owned());
                    tokio::spawn(async move {
                        let body = json!({"role": ROLE, "purpose": "deploy build 4f2c", "ticket": ticket});
                        caller.open(&caller.proof(), &body, None).await.expect("an answer")
                    })
                })
                .collect();
            for opening in together {
                let reply = opening.await.expect("a client's task ends");
                reply.assert_status(201);
                grants.insert(hex(reply.grant()));
                reply.token().expect("a token").clone_into(&mut token);
            }
        }
        Self { ticket: ticket.to_owned(), grants, token }
    }

    async fn revoke(&self, caller: &Caller) -> Result<Reply, NoReply> {
        let body = json!({"selector": {"ticket": self.ticket}, "reason": "the ticket was forged"});
        caller.command("/v1/revocations", &caller.proof_of(OPERATOR), &body, &self.ticket).await
    }

    async fn works(&self, caller: &Caller) -> bool {
        let reply = caller.introspect(&caller.proof(), &self.token).await.expect("an answer");
        reply.assert_status(200);
        reply.body["active"] == true
    }

    fn states(&self, house: &House) -> BTreeSet<String> {
        let found = ledger::grants(&house.store());
        self.grants.iter().map(|id| text(&found[id], "state").to_owned()).collect()
    }
}

// EXP-02
// CASE REV-011
#[tokio::test]
async fn killed_at_any_step_of_revoking_a_set_it_ends_the_set_and_nothing_else() {
    let mut house = House::build().await;
    for point in SETS {
        assert!(house.start_to_die(point).await, "{point} was hit before anybody asked for anything");
        let ticket = |kind: &str| format!("{kind} {point}");
        // More than one step can take.
        let condemned = Set::open(&house.caller, &ticket("forged"), size(1_200, 5_000)).await;
        let spared = Set::open(&house.caller, &ticket("good"), 20).await;
        let answered = condemned.revoke(&house.caller).await;
        assert_killed(house.process.ended().await, &house.process.output());
        house.start().await;
        if *point == "revocation::before-commit" {
            assert_eq!(answered.unwrap_err(), NoReply::Lost);
            assert!(condemned.works(&house.caller).await, "what nobody was told of is not done");
            assert_eq!(condemned.states(&house), BTreeSet::from(["active".to_owned()]));
        } else {
            assert!(!condemned.works(&house.caller).await, "{point}: at once after the start");
        }
        // Whoever has no answer asks again under the same key.
        let again = condemned.revoke(&house.caller).await.expect("an answer");
        again.assert_status(202);
        assert!(!condemned.works(&house.caller).await);
        assert_ended(&house, &again.body, &condemned, &spared).await;
        house.process.kill9().await;
    }
}

// EXP-02
#[tokio::test]
async fn killed_at_random_moments_of_revoking_a_set_it_ends_the_set_and_nothing_else() {
    let mut chance = Chance::new();
    let mut house = House::open().await;
    for round in 0..size(3, 20) {
        let condemned = Set::open(&house.caller, &format!("forged {round}"), size(600, 5_000)).await;
        let spared = Set::open(&house.caller, &format!("good {round}"), 20).await;
        let revocation = condemned.revoke(&house.caller).await.expect("an answer");
        revocation.assert_status(202);
        let holds = async {
            loop {
                assert!(!condemned.works(&house.caller).await, "it was answered, and does not hold");
            }
        };
        let moment = Duration::from_millis(chance.below(LONGEST_MILLIS));
        let asked: Result<(), _> = tokio::time::timeout(moment, holds).await;
        assert!(asked.is_err(), "asking has no end");
        house.process.kill9().await;
        house.start().await;
        assert!(!condemned.works(&house.caller).await);
        assert_ended(&house, &revocation.body, &condemned, &spared).await;
    }
}

/// Awaits that the revocation is complete; then exactly its grants have ended, and the record says so.
async fn assert_ended(house: &House, revocation: &Value, condemned: &Set, spared: &Set) {
    let path = format!("/v1/revocations/{}", revocation["id"].as_str().expect("an id"));
    let done = eventually("the revocation is complete", FOLLOWED_WITHIN, async || {
        let proof = house.caller.proof_of(OPERATOR);
        let read = house.caller.read(&path, &proof).await.expect("an answer");
        read.assert_status(200);
        (read.body["state"] == "completed").then_some(read.body)
    })
    .await;
    let count = condemned.grants.len();
    assert_eq!(done["matched"], count, "{done:#}");
    assert_eq!((&done["remaining"], &done["by_state"]["fenced"]), (&json!(0), &json!(count)), "{done:#}");
    assert!(done["receipt"].is_string(), "{done:#}");
    assert_eq!(condemned.states(house), BTreeSet::from(["revoking".to_owned()]));
    assert_eq!(spared.states(house), BTreeSet::from(["active".to_owned()]));
    assert!(spared.works(&house.caller).await);
    // Each once, over all the chunks that were told.
    ledger::assert_sound(&house.store());
}
