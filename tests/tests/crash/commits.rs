//! Killed around the first, the second, the n-th commit of a new store: those that make its schema, its keys and its
//! first revision included.

use hallpass_tests::size;

use crate::house::House;
use crate::points::COMMITS;
use crate::process::assert_killed;
use crate::witness::{Wanted, Witness};

#[tokio::test]
async fn killed_around_any_of_its_first_commits_it_starts_again_and_keeps_every_word() {
    for point in COMMITS {
        for commit in commits() {
            let mut house = House::build().await;
            let witness = Witness::default();
            if house.start_to_die(&format!("{point}:{commit}")).await {
                witness.watch_until_silence(&house.caller).await;
                assert_killed(house.process.ended().await, &house.process.output());
            }
            house.start().await;
            witness.assert_kept(&house).await;
            assert!(witness.ask(&house.caller, Wanted::Token).await.is_some(), "after a crash at {point}:{commit}");
            assert!(witness.ask(&house.caller, Wanted::Certificate).await.is_some(), "at {point}:{commit}");
            witness.assert_kept(&house).await;
        }
    }
}

/// Every one of the first few, then ever fewer.
fn commits() -> Vec<usize> {
    if size(0, 1) == 0 { vec![1, 2, 3, 5, 8, 13] } else { (1..=40).collect() }
}
