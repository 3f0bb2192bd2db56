//! How fast one may ask, and who is kept waiting by whom.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use hallpass_broker::http::Connection;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::policy::{Action, Obligations};
use hallpass_core::port::{AuditFilter, PageRequest};
use hallpass_core::rate::Rate;
use hallpass_core::service::{RateRules, Rates};
use hallpass_core::testing::{Nature, Ruling, World, Write, sample};
use hallpass_core::time::Ttl;

use crate::house::{EXCHANGE, House, encoded, form_request, request, wanted};

fn house(rules: RateRules) -> House {
    House::with(Nature::local(), |state| state.ports.rates = Arc::new(Rates::new(&rules)))
}

fn rate(count: u32) -> Option<Rate> {
    Some(Rate::new(count, Ttl::from_secs(60)).unwrap())
}

fn from(source: &str, mut request: Request<Body>) -> Request<Body> {
    let peer = SocketAddr::new(source.parse().unwrap(), 4711);
    request.extensions_mut().insert(Connection { peer, server_name: None, certificate: None });
    request
}

/// Neither a proof nor a request: whatever is read of it is refused.
fn rubbish(source: &str) -> Request<Body> {
    from(source, form_request("/oauth2/token", None, "rubbish".to_owned()))
}

#[tokio::test]
async fn a_source_that_asks_too_often_is_sent_away_before_anything_is_read() {
    let house = house(RateRules { per_source: rate(3), ..RateRules::default() });
    for _ in 0..3 {
        assert_eq!(house.send(rubbish("192.0.2.1")).await.status, 400);
    }
    let answer = house.send(rubbish("192.0.2.1")).await;
    assert_eq!((answer.status, answer.said("error")), (429, "temporarily_unavailable"), "{}", answer.text);
    assert_eq!((answer.said("reason"), answer.header("retry-after")), ("rate_limited", "20"));
    assert_eq!(house.reasons(&answer).await, ["rate_limited"]);
    let good = from("192.0.2.1", request("GET", "/v1/whoami", Some(&house.proof()), None));
    let answer = house.send(good).await;
    assert_eq!((answer.status, answer.said("code")), (429, "rate_limited"));

    assert_eq!(house.send(rubbish("192.0.2.2")).await.status, 400, "another source does not wait");
    house.world.clock.advance(Ttl::from_secs(20));
    assert_eq!(house.send(rubbish("192.0.2.1")).await.status, 400, "and neither does this one, later");
}

#[tokio::test]
async fn the_addresses_of_one_network_are_one_source_and_so_are_both_writings_of_an_address() {
    let house = house(RateRules { per_source: rate(2), ..RateRules::default() });
    for (source, status) in [
        ("2001:db8::1", 400),
        ("2001:db8::2", 400),
        ("2001:db8::3", 429),
        ("2001:db8:0:1::1", 400),
        ("192.0.2.9", 400),
        ("::ffff:192.0.2.9", 400),
        ("192.0.2.9", 429),
    ] {
        assert_eq!(house.send(rubbish(source)).await.status, status, "{source}");
    }
}

#[tokio::test]
async fn a_source_over_its_rate_can_still_end_what_it_holds() {
    let house = house(RateRules { per_source: rate(4), ..RateRules::default() });
    let (proof, id) = house.grant().await;
    while house.exchange("").await.status != 429 {}
    let ended = house.call("DELETE", &format!("/v1/grants/{id}"), &proof, None).await;
    assert!(matches!(ended.status, 200 | 202), "{}", ended.text);
    // Not without end either.
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(house.call("DELETE", &format!("/v1/grants/{id}"), &proof, None).await.status);
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

#[tokio::test]
async fn what_a_limit_refuses_does_not_fill_the_log() {
    let house = house(RateRules { per_source: rate(1), ..RateRules::default() });
    for _ in 0..200 {
        house.send(rubbish("192.0.2.1")).await;
    }
    let page = PageRequest { cursor: None, limit: 500 };
    let entries = house.world.ports.store.audit(&AuditFilter::default(), &page).await.unwrap().items;
    assert!(entries.len() <= 10, "{} entries", entries.len());
}

#[tokio::test]
async fn forged_proofs_spend_nothing_of_an_issuers_rate() {
    let house = house(RateRules { per_issuer: rate(2), ..RateRules::default() });
    let forged = house.world.verifier.refuse(Refusal::proof(Reason::BadSignature, "the signature does not verify"));
    for _ in 0..10 {
        let form = format!("{EXCHANGE}&subject_token={}", encoded(&forged));
        assert_eq!(house.form("/oauth2/token", None, form).await.said("reason"), "bad_signature");
    }
    for _ in 0..2 {
        assert_eq!(house.exchange("").await.status, 200);
    }
    let answer = house.exchange("").await;
    assert_eq!(
        (answer.status, answer.said("error"), answer.said("reason")),
        (429, "temporarily_unavailable", "rate_limited")
    );
    assert_eq!(answer.header("retry-after"), "30");
    let answer = house.call("POST", "/v1/grants", &house.proof(), Some(wanted())).await;
    assert_eq!((answer.status, answer.said("code")), (429, "rate_limited"));
    assert_eq!(house.get("/v1/whoami").await.status, 200, "whoever mints nothing does not wait");
    house.world.clock.advance(Ttl::from_secs(30));
    assert_eq!(house.exchange("").await.status, 200);
}

#[tokio::test]
async fn who_is_not_allowed_spends_nothing_of_an_issuers_rate() {
    let house = house(RateRules { per_issuer: rate(2), ..RateRules::default() });
    let rule = |ruling| house.world.policy.rule(Action::Mint, Some(World::ROLE), ruling);
    rule(Ruling::Deny);
    for _ in 0..5 {
        assert_eq!(house.exchange("").await.said("error"), "invalid_target");
    }
    rule(Ruling::Allow(Obligations::default()));
    for _ in 0..2 {
        assert_eq!(house.exchange("").await.status, 200, "everybody of a public issuer would spend it");
    }
    assert_eq!(house.exchange("").await.said("reason"), "rate_limited");
}

#[tokio::test]
async fn a_repository_has_one_budget_however_many_subjects_it_makes() {
    let house = house(RateRules { per_identity: rate(2), ..RateRules::default() });
    // Nobody allows it anything: what it spends is its own all the same.
    house.world.policy.rule(Action::Mint, Some(World::ROLE), Ruling::Deny);
    let ask = async |subject: &str, repository: Option<&str>| {
        let proof = house.world.proof_with(subject, |proof| {
            proof.provenance.repository_id = repository.map(str::to_owned);
        });
        let form = format!("{EXCHANGE}&subject_token={}", encoded(proof.token().unwrap().expose()));
        house.form("/oauth2/token", None, form).await.said("reason").to_owned()
    };
    for (subject, repository, reason) in [
        ("branch-1", Some("7"), "role_not_available"),
        ("branch-2", Some("7"), "role_not_available"),
        ("branch-3", Some("7"), "rate_limited"),
        ("branch-3", Some("8"), "role_not_available"),
        ("7", None, "role_not_available"),
        ("7", None, "role_not_available"),
        ("7", None, "rate_limited"),
        ("8", None, "role_not_available"),
    ] {
        assert_eq!(ask(subject, repository).await, reason, "{subject} of {repository:?}");
    }
}

#[tokio::test]
async fn who_is_not_allowed_spends_nothing_of_an_owners_rate() {
    let house = house(RateRules { per_owner: rate(2), ..RateRules::default() });
    let another = "platform/mesh/sidecar";
    house.world.governance.edit(|revision| {
        let (mut role, mut owner) = (sample::role(another), sample::owner());
        owner.name = "platform".parse().unwrap();
        role.owner = owner.name.clone();
        revision.catalog.roles.insert(role.name.clone(), Arc::new(role));
        revision.catalog.owners.insert(owner.name.clone(), Arc::new(owner));
    });
    let rule = |ruling| house.world.policy.rule(Action::Mint, Some(World::ROLE), ruling);
    rule(Ruling::Deny);
    for _ in 0..5 {
        assert_eq!(house.exchange("").await.said("error"), "invalid_target");
    }
    rule(Ruling::Allow(Obligations::default()));
    for _ in 0..2 {
        assert_eq!(house.exchange("").await.status, 200);
    }
    let answer = house.exchange("").await;
    assert_eq!((answer.status, answer.said("reason")), (429, "rate_limited"), "{}", answer.text);
    assert_eq!(house.reasons(&answer).await, ["rate_limited"]);
    let form = EXCHANGE.replace(World::ROLE, another);
    let form = format!("{form}&subject_token={}", encoded(&house.proof()));
    assert_eq!(house.form("/oauth2/token", None, form).await.status, 200, "another owner does not wait");
}

#[tokio::test]
async fn an_owner_or_a_role_with_all_its_grants_waits_until_one_ends() {
    for whose in ["the role's owner has", "the role has"] {
        let house = House::with(Nature::local(), |state| {
            state.ports.limits.max_live_per_owner = (whose == "the role's owner has").then_some(1);
        });
        house.world.edit_role(|role| role.max_live = (whose == "the role has").then_some(1));
        let (proof, id) = house.grant().await;
        let answer = house.exchange("").await;
        assert_eq!((answer.status, answer.said("error")), (429, "temporarily_unavailable"), "{}", answer.text);
        assert_eq!((answer.said("reason"), answer.header("retry-after")), ("quota_exceeded", "10"));
        assert_eq!(house.reasons(&answer).await, ["quota_exceeded"]);
        let answer = house.call("POST", "/v1/grants", &house.proof(), Some(wanted())).await;
        assert_eq!((answer.status, answer.said("code")), (429, "quota_exceeded"));
        assert!(answer.said("detail").starts_with(whose), "{}", answer.text);
        house.call("DELETE", &format!("/v1/grants/{id}"), &proof, None).await;
        assert_eq!(house.exchange("").await.status, 200, "one that ended made room");
    }
}

#[tokio::test]
async fn who_is_over_an_owners_rate_spends_nothing_of_the_issuers_and_the_other_way_round() {
    for (per_issuer, per_owner) in [(rate(3), rate(2)), (rate(2), rate(3))] {
        let house = house(RateRules { per_issuer, per_owner, ..RateRules::default() });
        for _ in 0..2 {
            assert_eq!(house.exchange("").await.status, 200);
        }
        let before = format!("{:?}", house.world.ports.rates);
        for _ in 0..5 {
            assert_eq!(house.exchange("").await.said("reason"), "rate_limited");
        }
        assert_eq!(format!("{:?}", house.world.ports.rates), before);
    }
}

#[tokio::test]
async fn a_request_that_is_decided_again_is_counted_once() {
    let rules = RateRules { per_identity: rate(2), per_issuer: rate(2), per_owner: rate(2), ..RateRules::default() };
    let house = house(rules);
    for _ in 0..2 {
        let store = Arc::clone(&house.world.store);
        // Revocations begin while it is decided.
        house.world.store.meanwhile(Write::Open, move || store.move_epoch_now());
        assert_eq!(house.exchange("").await.status, 200);
    }
    assert_eq!(house.exchange("").await.said("reason"), "rate_limited", "the control");
}
