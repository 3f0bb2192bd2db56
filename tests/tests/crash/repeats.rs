//! Requests whose answer was lost, sent again: a proof serves once, and a caller is never left with two credentials.

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
        let opened = !grants_of(house, errand).is_empty();
        if opened {
            let replayed = errand.run(&house.caller, None).await.expect("an answer");
            assert!(matches!(replayed.status, 400 | 401), "a consumed proof was accepted: {}", replayed.text);
        }
        let before = grants_of(house, errand).len();
        assert_eq!(before, usize::from(opened), "a refused proof opened a grant");

        let reply = errand.run(&house.caller, Some(&errand.key)).await.expect("an answer");
        assert!(matches!(reply.status, 200 | 201), "a repeat with its key was refused: {}", reply.text);
        witness.receive(errand.clone(), &reply);
        let grants = grants_of(house, errand);
        assert_eq!(grants.len(), before + 1, "{grants:?}");
        let live: Vec<_> = grants.iter().filter(|(_, state, _)| state == "active").map(|(id, ..)| id).collect();
        assert_eq!(live, [&hex(reply.grant())], "{grants:?}");
        assert!(
            grants.iter().all(|(_, state, cause)| state == "active" || cause == "superseded" || cause == "expired"),
            "{grants:?}"
        );
        let again = errand.run(&house.caller, None).await.expect("an answer");
        assert!(matches!(again.status, 400 | 401), "a consumed proof was accepted: {}", again.text);
    }
}

/// Id, state and cause of each grant that this request opened.
fn grants_of(house: &House, errand: &Errand) -> Vec<(String, String, String)> {
    let grants = ledger::grants(&house.store()).into_iter();
    let own = grants.filter(|(_, grant)| text(grant, "proof_id") == errand.proof.id);
    own.map(|(id, grant)| (id, text(&grant, "state").to_owned(), text(&grant, "cause").to_owned())).collect()
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
        witness.asks(errand);
        let reply = errand.run(&house.caller, Some(&errand.key)).await;
        assert!(reply.is_err(), "it answered, and was to die at {point}: {reply:?}");
        assert_killed(house.process.ended().await, &house.process.output());
    }
    house.start().await;
    let errand = errand.expect("a request");
    assert_eq!(grants_of(&house, &errand).len(), 3);
    assert_unanswered_can_be_repeated(&house, &witness).await;
    witness.assert_kept(&house).await;
    let states: Vec<_> = grants_of(&house, &errand).into_iter().map(|(_, state, _)| state).collect();
    assert_eq!(states.iter().filter(|state| *state == "active").count(), 1, "{states:?}");
    let fifth = errand.run(&house.caller, Some(&errand.key)).await.expect("an answer");
    assert!(fifth.status >= 400, "one key opened five grants: {}", fifth.text);
}
