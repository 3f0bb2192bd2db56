//! Lists, and what asking for many of them at once does to everybody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hallpass_tests::Exchange;
use hallpass_tests::config::{OPERATOR, Setup};
use serde_json::json;
use tokio::task::JoinSet;

use crate::House;

/// More than the largest page has.
const GRANTS: usize = 700;
/// Lists asked for at once, each of the largest page.
const LISTS: usize = 500;
/// What the broker may hold at most. As many pages as are asked for would be ten times that.
const MEGABYTES: u64 = 200;
/// What somebody else waits at most. For all these lists it would be several times that.
const PATIENCE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_lists_takes_neither_the_memory_nor_the_turns_of_anything_else() {
    let house = Arc::new(House::open_with(with_commits).await);
    open(&house).await;
    let before = house.broker.peak_megabytes();

    let (mut flood, proof) = (JoinSet::new(), house.proof_of(OPERATOR));
    for _ in 0..LISTS {
        let (house, proof) = (Arc::clone(&house), proof.clone());
        flood.spawn(async move {
            let answer = house.broker.call("GET", "/v1/grants?limit=500", Some(&proof), None).await;
            (
                answer.status,
                answer.body["items"].as_array().map_or(0, Vec::len),
                answer.header("retry-after").to_owned(),
            )
        });
    }
    let mut answers = vec![flood.join_next().await.expect("a list").expect("an answer")];
    let mut waits = Vec::new();
    for commit in ["one", "two", "three"] {
        assert!(!flood.is_empty() || !waits.is_empty(), "it was over before anything was asked beside it");
        waits.push(timed(house.exchange(&proof_from(&house, commit))).await);
        let command = json!({"selector": {"commit": commit}, "reason": "it is compromised"});
        let operator = house.proof_of(OPERATOR);
        waits.push(timed(house.broker.call("POST", "/v1/revocations", Some(&operator), Some(&command))).await);
    }
    while let Some(answer) = flood.join_next().await {
        answers.push(answer.expect("an answer"));
    }
    let (peak, served) = (house.broker.peak_megabytes(), answers.iter().filter(|(status, ..)| *status == 200).count());
    tell(&format!("{served} of {LISTS} lists were served; {before} MB before, {peak} MB at most; {waits:?}"));
    assert!(waits.iter().all(|(status, wait)| matches!(status, 200 | 202) && *wait < PATIENCE), "{waits:?}");
    assert!(peak < MEGABYTES, "{peak} MB for {LISTS} lists");
    assert!(served > 0, "nobody got a list");
    for (status, items, again) in &answers {
        match status {
            200 => assert!(*items > 100, "a page of {items}"),
            _ => assert_eq!((*status, again.as_str()), (503, "1")),
        }
    }
    assert_eq!(listed(&house).await, GRANTS + 3, "page by page, everything is there once");
}

fn with_commits(setup: Setup) -> Setup {
    setup.each_issuer(|issuer| issuer["provenance"] = json!({"commit": "sha"}))
}

fn proof_from(house: &House, commit: &str) -> String {
    let mut claims = house.claims();
    claims["sha"] = json!(commit);
    house.key.sign(&claims)
}

async fn open(house: &Arc<House>) {
    let mut opening = JoinSet::new();
    for opened in 0..GRANTS {
        if opened >= 16 {
            opening.join_next().await.expect("one of them").expect("an answer");
        }
        let house = Arc::clone(house);
        opening.spawn(async move {
            house.broker.exchange(&Exchange::of(&proof_from(&house, "good"))).await.assert_status(200);
        });
    }
    while let Some(opened) = opening.join_next().await {
        opened.expect("an answer");
    }
}

/// How many grants the operator finds, a page after the other.
async fn listed(house: &House) -> usize {
    let (proof, mut found) = (house.proof_of(OPERATOR), std::collections::BTreeSet::new());
    let (mut items, mut path) = (0, "/v1/grants?limit=500".to_owned());
    loop {
        let page = house.broker.call("GET", &path, Some(&proof), None).await;
        page.assert_status(200);
        assert!(page.text.len() <= 1024 * 1024 + 1024, "a page of {} bytes", page.text.len());
        for grant in page.body["items"].as_array().expect("a list") {
            found.insert(grant["id"].as_str().expect("an id").to_owned());
            items += 1;
        }
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        path = format!("/v1/grants?limit=500&cursor={next}");
    }
    assert_eq!(items, found.len(), "a grant is on two pages");
    items
}

#[expect(clippy::disallowed_methods, reason = "the time that passes is what is measured")]
async fn timed(answer: impl Future<Output = hallpass_tests::Answer>) -> (u16, Duration) {
    let began = Instant::now();
    let status = answer.await.status;
    (status, began.elapsed())
}

#[expect(clippy::print_stderr, reason = "the figures are what the flood is for")]
fn tell(figures: &str) {
    eprintln!("{figures}");
}
