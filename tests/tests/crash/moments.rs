//! Killed at random moments under load, again and again on the same ledger.

use std::time::Duration;

use hallpass_tests::size;

use crate::chance::Chance;
use crate::house::House;
use crate::repeats;
use crate::witness::Witness;

/// The longest that clients work before a crash.
const LONGEST_MILLIS: u64 = 600;

/// Crashes of one ledger. A ledger that grew for ever would make looking at it the most of the work.
const CRASHES: usize = 25;

// EXP-01, EXP-02
#[tokio::test]
async fn killed_at_random_moments_under_load_it_keeps_every_word() {
    let mut chance = Chance::new();
    let mut left = size(15, 200);
    while left > 0 {
        let crashes = left.min(CRASHES);
        crash_again_and_again(&mut chance, crashes).await;
        left -= crashes;
    }
}

async fn crash_again_and_again(chance: &mut Chance, crashes: usize) {
    let mut house = House::open().await;
    let witness = Witness::default();
    for _ in 0..crashes {
        let mut load = tokio::spawn({
            let (witness, caller) = (witness.clone(), house.caller.clone());
            async move { witness.watch_until_silence(&caller).await }
        });
        let moment = Duration::from_millis(chance.below(LONGEST_MILLIS));
        let early = tokio::time::timeout(moment, &mut load).await;
        assert!(early.is_err(), "the clients stopped before the broker did: {early:?}");
        house.process.kill9().await;
        load.await.expect("clients met what they did not expect");
        house.start().await;
        witness.assert_kept(&house).await;
        repeats::assert_unanswered_can_be_repeated(&house, &witness).await;
    }
    witness.assert_kept(&house).await;
    witness.assert_short_ones_end(&house).await;
}
