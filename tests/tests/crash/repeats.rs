//! Requests whose answer was lost, sent again: a proof serves once, and a caller is never left with two credentials.

use hallpass_tests::Row;

use crate::house::House;
use crate::ledger::{self, hex, text};
use crate::process::assert_killed;
use crate::witness::{Errand, Wanted, Witness};

/// How many requests without an answer are sent again after each crash: the latest, those that the crash cut off.
const REPEATED: usize = crate::witness::CLIENTS;

/// Sends again what the latest crash left unanswered.
///
/// Without the idempotency key the proof is refused exactly where its grant was opened; with it one live grant results.
pub(crate) async fn assert_unanswered_can_be_repeated(house: &House, witness: &Witness) {
    for errand in witness.unanswered().iter().rev().take(REPEATED) {
        let before = grants_of(house, errand).len();
        if before > 0 {
            assert_consumed(house, errand).await;
        }
        let reply = errand.run(&house.caller, Some(&errand.key)).await.expect("an answer");
        assert!(matches!(reply.status, 200 | 201), "a repeat with its key was refused: {}", reply.text);
        witness.receive(errand.clone(), &reply);
        let grants = grants_of(house, errand);
        assert_eq!(grants.len(), before + 1, "{grants:?}");
        let live: Vec<_> = grants.iter().filter(|grant| text(grant, "state") == "active").collect();
        assert_eq!(live.len(), 1, "{grants:?}");
        assert_eq!(text(live[0], "id"), hex(reply.grant()));
        for grant in grants.iter().filter(|grant| text(grant, "state") != "active") {
            assert!(matches!(text(grant, "cause"), "superseded" | "expired"), "{grant:?}");
        }
        assert_consumed(house, errand).await;
    }
}

/// Asserts that the proof alone opens nothing more.
async fn assert_consumed(house: &House, errand: &Errand) {
    let before = grants_of(house, errand).len();
    let replayed = errand.run(&house.caller, None).await.expect("an answer");
    assert!(matches!(replayed.status, 400 | 401), "a consumed proof was accepted: {}", replayed.text);
    assert_eq!(grants_of(house, errand).len(), before, "a refused proof opened a grant");
}

/// The grants that this request opened, oldest first.
fn grants_of(house: &House, errand: &Errand) -> Vec<Row> {
    ledger::grants_of_proof(&house.store(), &errand.proof.id)
}

#[tokio::test]
async fn a_proof_that_a_crash_cut_off_serves_exactly_if_nothing_was_opened_with_it() {
    let mut house = House::build().await;
    for (point, opened) in [("open::before-commit", false), ("open::after-commit", true)] {
        let witness = Witness::default();
        assert!(house.start_to_die(point).await, "{point} was hit before anybody asked for anything");
        assert!(witness.ask(&house.caller, Wanted::Token).await.is_none(), "it answered, and was to die at {point}");
        assert_killed(house.process.ended().await, &house.process.output());
        house.start().await;
        let errand = witness.unanswered().pop().expect("the request that was cut off");
        assert_eq!(grants_of(&house, &errand).len(), usize::from(opened), "{point}");
        let reply = errand.run(&house.caller, None).await.expect("an answer");
        let expected = if opened { 400 } else { 200 };
        assert_eq!(reply.status, expected, "{point}: {}", reply.text);
        house.process.kill9().await;
    }
}

#[tokio::test]
async fn a_repeat_with_its_key_leaves_one_live_grant_however_often_the_broker_dies() {
    let mut house = House::build().await;
    let witness = Witness::default();
    let point = "open::after-commit";
    let mut errand = None;
    // The first try and two repeats lose their answers; the third repeat is the last that one key allows.
    for _ in 0..3 {
        assert!(house.start_to_die(point).await, "{point} was hit before anybody asked for anything");
        let errand = errand.get_or_insert_with(|| Errand::new(&house.caller, Wanted::Token));
        let reply = errand.run(&house.caller, Some(&errand.key)).await;
        assert!(reply.is_err(), "it answered, and was to die at {point}: {reply:?}");
        assert_killed(house.process.ended().await, &house.process.output());
    }
    house.start().await;
    let errand = errand.expect("a request");
    witness.asks(&errand);
    assert_eq!(grants_of(&house, &errand).len(), 3);
    assert_unanswered_can_be_repeated(&house, &witness).await;
    witness.assert_kept(&house).await;
    assert_eq!(grants_of(&house, &errand).len(), 4);
    let fifth = errand.run(&house.caller, Some(&errand.key)).await.expect("an answer");
    assert!(fifth.status >= 400, "one key opened five grants: {}", fifth.text);
}
