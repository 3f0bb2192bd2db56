//! The place where an issuer publishes its keys hangs, fails, floods or lies, and strangers make up key ids: who has
//! keys works on for as long as they may be used, nobody is asked more often than configured, and then it is refused.
//!
//! The truth of what was asked for is in the issuer's own journal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hallpass_tests::config::{AUDIENCE, fetch_keys_every};
use hallpass_tests::{Behaviour, Document, Exchange, Issuer, SigningKey, eventually, full, size};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::caller::Caller;
use crate::house::House;
use crate::ledger;
use crate::process::DEADLINE;
use crate::witness::CLIENTS;

/// How often keys may be fetched here, and how long they are fresh.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long they may be used when the issuer gives no new ones.
const GRACE_SECONDS: u32 = 2;

/// A broker that fetches keys every second and does without new ones for two more.
async fn house() -> House {
    let folder = TempDir::with_prefix("hallpass-crash-").expect("a temporary folder");
    let impatient = |setup: hallpass_tests::config::Setup| {
        setup.each_issuer(|issuer| {
            fetch_keys_every(issuer, 1);
            issuer["keys_grace"] = json!(format!("{GRACE_SECONDS}s"));
        })
    };
    let mut house = House::build_with(folder, impatient).await;
    house.start().await;
    house
}

// EXP-09
#[tokio::test]
async fn keys_at_hand_work_while_their_issuer_is_unwell_and_no_longer_than_allowed() {
    let nowhere = Issuer::start(&[]).await;
    let troubles = [
        ("hangs", Behaviour::Hang),
        ("drips", Behaviour::Drip),
        ("fails", Behaviour::Status(500)),
        ("floods", Behaviour::Huge(size(20_000_000, 1_000_000_000))),
        ("points elsewhere", Behaviour::Redirect(format!("{}/jwks", nowhere.url()))),
    ];
    let mut tried = JoinSet::new();
    for (name, behaviour) in troubles {
        tried.spawn(unwell(name, behaviour));
    }
    tried.join_all().await;
    assert_eq!(nowhere.requests().len(), 0, "a redirect was followed");
}

async fn unwell(name: &str, behaviour: Behaviour) {
    let house = house().await;
    let issuer = &house.caller.issuer;
    assert_eq!(ask(&house.caller).await, 200, "{name}");
    issuer.behave(Document::Keys, behaviour);
    issuer.behave(Document::Discovery, Behaviour::Status(500));
    let (began, asked) = (now(), issuer.requests().len());
    // At first nobody notices, and nobody waits.
    assert_eq!(ask(&house.caller).await, 200, "{name}");
    let worked = AtomicUsize::new(0);
    eventually("the keys are too old to be believed", DEADLINE, async || match ask(&house.caller).await {
        200 => {
            worked.fetch_add(1, Ordering::Relaxed);
            None
        }
        status => {
            assert_eq!(status, 503, "{name}");
            Some(())
        }
    })
    .await;
    let lasted = began.elapsed();
    assert!(worked.into_inner() > 0, "{name}: keys that could still be used were not");
    assert!(lasted >= Duration::from_secs(u64::from(GRACE_SECONDS)) / 2, "{name}: refused after {lasted:?}");
    assert_asked_rarely(issuer, asked, began, name);
    assert!(resident_megabytes(&house) < 200, "{name}: it holds {} MB", resident_megabytes(&house));

    issuer.behave(Document::Discovery, Behaviour::Normal);
    issuer.behave(Document::Keys, Behaviour::Normal);
    eventually("it works again", DEADLINE, async || (ask(&house.caller).await == 200).then_some(())).await;
    ledger::assert_sound(&house.store());
}

// EXP-09
#[tokio::test]
async fn a_key_that_its_issuer_takes_back_stops_working_and_the_next_works_under_a_flood_of_unknown_ones() {
    let house = house().await;
    let issuer = &house.caller.issuer;
    assert_eq!(ask(&house.caller).await, 200);
    let next = SigningKey::es256("key-2");
    let (began, asked) = (now(), issuer.requests().len());
    let mut flood = JoinSet::new();
    for client in 0..CLIENTS {
        let caller = house.caller.clone();
        flood.spawn(async move {
            for number in 0..size(100, 5_000) {
                let header = json!({"alg": "ES256", "typ": "JWT", "kid": format!("made-up-{client}-{number}")});
                let claims = caller.issuer.claims(AUDIENCE, "repo:acme@111/app@222:ref:refs/heads/main");
                let reply = caller.exchange(&Exchange::of(&caller.key.sign_with(&header, &claims)), None).await;
                let status = reply.expect("an answer").status;
                assert!(matches!(status, 400 | 429), "{status}");
            }
        });
    }
    issuer.rotate(&[&next]);
    eventually("the key that was taken back is refused", DEADLINE, async || {
        (ask(&house.caller).await == 400).then_some(())
    })
    .await;
    let gone_after = began.elapsed();
    let claims = issuer.claims(AUDIENCE, "repo:acme@111/app@222:ref:refs/heads/main");
    let reply = house.caller.exchange(&Exchange::of(&next.sign(&claims)), None).await.expect("an answer");
    reply.assert_status(200);
    while let Some(flooded) = flood.join_next().await {
        flooded.expect("a made-up key was taken for one");
    }
    assert_asked_rarely(issuer, asked, began, "unknown keys");
    // A second of freshness, and what a busy machine adds to it.
    assert!(gone_after < Duration::from_secs(if full() { 3 } else { 10 }), "it worked for {gone_after:?}");
    assert!(resident_megabytes(&house) < 200, "it holds {} MB", resident_megabytes(&house));
    ledger::assert_sound(&house.store());
}

async fn ask(caller: &Caller) -> u16 {
    caller.exchange(&Exchange::of(&caller.proof().token), None).await.expect("an answer").status
}

/// A fetch is one request for each of the two documents, and once an interval.
fn assert_asked_rarely(issuer: &Issuer, before: usize, since: Instant, what: &str) {
    let asked = issuer.requests().len() - before;
    let intervals = usize::try_from(since.elapsed().as_millis() / INTERVAL.as_millis()).expect("a number");
    assert!(asked <= 2 * (intervals + 1), "{what}: {asked} requests in {:?}", since.elapsed());
}

fn resident_megabytes(house: &House) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", house.process.id().as_raw_nonzero()));
    let status = status.expect("the broker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
    line.split_whitespace().next().expect("a number").parse::<u64>().expect("kilobytes") / 1024
}

#[expect(clippy::disallowed_methods, reason = "the issuer is watched by the harness's own clock")]
fn now() -> Instant {
    Instant::now()
}
