//! How keys are fetched: only from configured issuers, rarely, and never trusting what a token or an answer suggests.

use std::time::Duration;

use hallpass_tests::config::{AUDIENCE, Setup, fetch_keys_every, trust};
use hallpass_tests::{Behaviour, Broker, Document, Exchange, Issuer, SigningKey, eventually, size};
use serde_json::json;

use crate::{House, WORKLOAD};

// CASE NET-003
#[tokio::test]
async fn keys_are_not_fetched_from_a_host_that_discovery_names_but_nobody_configured() {
    let elsewhere = Issuer::start(&[]).await;
    let house = House::open_after(|issuer, _| {
        let mut discovery = issuer.discovery();
        discovery["jwks_uri"] = json!(format!("{}/jwks", elsewhere.url()));
        issuer.publish(Document::Discovery, discovery);
    })
    .await;
    let answer = house.exchange(&house.proof()).await;
    house.assert_refused_for(&answer, 503, "temporarily_unavailable", "jwks_unavailable", 0);
    assert_eq!(elsewhere.requests().len(), 0);
}

// CASE NET-005
#[tokio::test]
async fn an_issuer_that_nobody_configured_is_never_asked() {
    let house = House::open().await;
    let stranger = Issuer::start(&[&house.key]).await;
    let answer = house.exchange(&house.key.sign(&stranger.claims(AUDIENCE, WORKLOAD))).await;
    house.assert_refused_for(&answer, 400, "invalid_request", "unknown_issuer", 0);
    assert_eq!(stranger.requests().len(), 0);
}

#[tokio::test]
async fn a_redirect_of_the_key_set_is_not_followed() {
    let elsewhere = Issuer::start(&[]).await;
    let redirect = Behaviour::Redirect(format!("{}/jwks", elsewhere.url()));
    let house = House::open_after(|issuer, _| issuer.behave(Document::Keys, redirect)).await;
    let answer = house.exchange(&house.proof()).await;
    house.assert_refused_for(&answer, 503, "temporarily_unavailable", "jwks_unavailable", 0);
    assert_eq!(elsewhere.requests().len(), 0);
}

// CASE NET-006
#[tokio::test]
async fn a_flood_of_unknown_keys_causes_hardly_any_fetch_and_disturbs_nobody() {
    let house = House::open().await;
    house.credential().await;
    let before = house.issuer.key_requests();
    for number in 0..size(300, 10_000) {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": format!("unknown-{number}")});
        let answer = house.exchange(&house.key.sign_with(&header, &house.claims())).await;
        assert!(matches!(answer.status, 400 | 429), "{}", answer.text);
    }
    let fetches = house.issuer.key_requests() - before;
    assert!(fetches <= 3, "{fetches} fetches for unknown keys");
    house.credential().await;
}

// CASE NET-008
#[tokio::test]
async fn a_key_added_by_rotation_is_accepted_without_a_restart() {
    let house = House::open().await;
    house.credential().await;
    let next = SigningKey::es256("key-2");
    house.issuer.rotate(&[&house.key, &next]);
    eventually("the new key is accepted", Duration::from_secs(30), async || {
        let answer = house.exchange(&next.sign(&house.claims())).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

// CASE NET-009
#[tokio::test]
async fn a_key_that_is_no_longer_published_stops_verifying() {
    let house = House::open_with(|setup| setup.each_issuer(|issuer| fetch_keys_every(issuer, 1))).await;
    house.credential().await;
    house.issuer.rotate(&[&SigningKey::es256("key-2")]);
    let answer = eventually("the removed key is refused", Duration::from_secs(30), async || {
        let answer = house.exchange(&house.proof()).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    answer.assert_refused(400, "invalid_request");
    assert_eq!(house.broker.store().reasons_of(answer.request_id()), ["unknown_kid"]);
}

// CASE NET-013
#[tokio::test]
async fn an_issuer_cannot_keep_its_keys_in_use_for_a_year_nor_have_them_fetched_every_time() {
    for value in ["max-age=31536000", "max-age=0", "max-age=-1", "max-age=99999999999999999999"] {
        let house = House::open_with(|setup| setup.each_issuer(|issuer| fetch_keys_every(issuer, 1))).await;
        house.issuer.cache_control(value);
        house.credential().await;
        let fetched = house.issuer.key_requests();
        for _ in 0..5 {
            house.credential().await;
        }
        assert!(house.issuer.key_requests() <= fetched + 2, "{value}: fetched anew for every proof");
        eventually("the keys are fetched again", Duration::from_secs(30), async || {
            house.credential().await;
            (house.issuer.key_requests() > fetched).then_some(())
        })
        .await;
    }
}

// CASE NET-014
#[tokio::test]
async fn not_modified_without_anything_fetched_before_is_no_key_set() {
    let house = House::open_after(|issuer, _| issuer.behave(Document::Keys, Behaviour::NotModified)).await;
    let answer = house.exchange(&house.proof()).await;
    house.assert_refused_for(&answer, 503, "temporarily_unavailable", "jwks_unavailable", 0);
}

// CASE NET-014
#[tokio::test]
async fn the_keys_of_one_issuer_never_verify_for_another() {
    let key = SigningKey::es256("same-name");
    let other = SigningKey::es256("same-name");
    let (first, second) = (Issuer::start(&[&key]).await, Issuer::start(&[&other]).await);
    let broker = Broker::start(&Setup::trusting(&[("first", &first), ("second", &second)])).await;
    for (issuer, key) in [(&first, &key), (&second, &other)] {
        let answer = broker.exchange(&Exchange::of(&key.sign(&issuer.claims(AUDIENCE, WORKLOAD)))).await;
        answer.assert_status(200);
    }
    let answer = broker.exchange(&Exchange::of(&other.sign(&first.claims(AUDIENCE, WORKLOAD)))).await;
    answer.assert_refused(400, "invalid_request");
    assert_eq!(broker.store().reasons_of(answer.request_id()), ["bad_signature"]);
}

// CASE NET-015
#[tokio::test]
async fn plain_http_to_an_issuer_off_this_machine_is_refused_when_the_bundle_is_loaded() {
    let issuer = Issuer::start(&[]).await;
    let mut entry = trust("ci", &issuer, &["ES256"]);
    entry["url"] = json!("http://idp.test");
    entry["dangerous_allow_http"] = json!(false);
    refused_at_load(entry).await;
}

// CASE NET-017
#[tokio::test]
async fn a_discovery_document_that_lies_or_bursts_gives_no_keys() {
    let lies: [fn(&str) -> Behaviour; 5] = [
        |_| Behaviour::Huge(5_000_000),
        |url| {
            let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
            Behaviour::Body(format!("{{\"issuer\":\"{url}\",\"jwks_uri\":\"{url}/jwks\",\"x\":{open}{close}}}"))
        },
        |url| {
            Behaviour::Body(format!(
                "{{\"issuer\":\"https://evil.example\",\"issuer\":\"{url}\",\"jwks_uri\":\"{url}/jwks\"}}"
            ))
        },
        |url| {
            Behaviour::Body(format!(
                "{{\"issuer\":\"{url}\",\"jwks_uri\":\"https://evil.example/\",\"jwks_uri\":\"{url}/jwks\"}}"
            ))
        },
        |url| Behaviour::Body(format!("{{\"issuer\":\"https://evil.example\",\"jwks_uri\":\"{url}/jwks\"}}")),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let house = House::open_after(|issuer, _| issuer.behave(Document::Discovery, lie(issuer.url()))).await;
        let answer = house.exchange(&house.proof()).await;
        assert_eq!(answer.status, 503, "lie {number}: {}", answer.text);
        assert_eq!(house.issuer.key_requests(), 0, "lie {number}");
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_costs_a_bounded_time_and_only_its_own_callers() {
    let (slow_key, key) = (SigningKey::es256("slow"), SigningKey::es256("quick"));
    let (slow, quick) = (Issuer::start(&[&slow_key]).await, Issuer::start(&[&key]).await);
    slow.behave(Document::Keys, Behaviour::Hang);
    let broker = Broker::start(&Setup::trusting(&[("slow", &slow), ("quick", &quick)])).await;
    let stuck = Exchange::of(&slow_key.sign(&slow.claims(AUDIENCE, WORKLOAD)));
    let stuck = broker.exchange(&stuck);
    let answered = async {
        for _ in 0..20 {
            let proof = key.sign(&quick.claims(AUDIENCE, WORKLOAD));
            broker.exchange(&Exchange::of(&proof)).await.assert_status(200);
        }
    };
    let (stuck, ()) = tokio::join!(stuck, answered);
    stuck.assert_refused(503, "temporarily_unavailable");
}

// CASE NET-021
#[tokio::test]
async fn a_pattern_in_place_of_an_issuer_is_refused_when_the_bundle_is_loaded() {
    let issuer = Issuer::start(&[]).await;
    for url in [
        "https://*.idp.test",
        "https://idp.test/.*",
        "^https://idp\\.test",
        "https://user@idp.test",
        "https://idp.test/#x",
    ] {
        let mut entry = trust("ci", &issuer, &["ES256"]);
        entry["url"] = json!(url);
        refused_at_load(entry).await;
    }
}

async fn refused_at_load(issuer: serde_json::Value) {
    let mut broker = Broker::prepare(&Setup::with_issuers(vec![issuer.clone()]), &[]);
    let status = broker.end_by_itself().await;
    assert!(!status.success(), "started with {issuer}");
    assert!(broker.output().contains("issuers.toml"), "does not name the file: {}", broker.output());
}
