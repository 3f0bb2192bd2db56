//! Where a request comes from: believed of configured proxies, and of nobody else.

use hallpass_tests::config::{CLOSED_ROLE, ROLE};
use hallpass_tests::{Answer, Exchange};
use serde_json::{Value, json};

use crate::House;

/// A role for one network.
const FROM_THE_OFFICE: &str = r#"
@id("closed-from-the-office")
permit (principal is Workload, action == Action::"mint", resource == Role::"app/closed")
when { context has source_ip && context.source_ip.isInRange(ip("192.0.2.0/24")) };
"#;

/// A broker behind what `server` says of proxies; the test itself is on loopback.
async fn open(server: Value) -> House {
    House::open_with(|setup| setup.policy("office.cedar", FROM_THE_OFFICE).server(json!({"server": server}))).await
}

async fn exchange(house: &House, role: &str, header: &str, value: &str) -> Answer {
    house.broker.exchange(&Exchange::of(&house.proof()).role(role).header(header, value)).await
}

/// The source that the grant behind an answer was recorded with.
fn recorded(house: &House, answer: &Answer) -> String {
    let id = hallpass_tests::id(answer.grant_id());
    let rows = house.broker.store().rows("SELECT source_address FROM grants WHERE id = ?1", &[&id]);
    rows[0]["source_address"].as_str().expect("a source").to_owned()
}

/// The entries of a refused request, as text.
fn entries(house: &House, answer: &Answer) -> String {
    let query = "SELECT CAST(entry AS TEXT) AS entry FROM audit_entries WHERE request_id = ?1";
    let rows = house.broker.store().rows(query, &[&hallpass_tests::id(answer.request_id())]);
    rows.iter().map(|row| row["entry"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn nobody_says_where_it_comes_from_while_no_proxy_is_configured() {
    let house = open(json!({})).await;
    for (header, value) in [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")] {
        let opened = exchange(&house, ROLE, header, value).await;
        assert_eq!(recorded(&house, &opened), "127.0.0.1", "{header}");
        exchange(&house, CLOSED_ROLE, header, value).await.assert_refused(400, "invalid_target");
    }
}

#[tokio::test]
async fn somebody_beside_the_configured_proxies_is_not_believed() {
    let house = open(json!({"trusted_proxies": ["10.0.0.0/8"]})).await;
    let opened = exchange(&house, ROLE, "x-forwarded-for", "192.0.2.7").await;
    assert_eq!(recorded(&house, &opened), "127.0.0.1");
    exchange(&house, CLOSED_ROLE, "x-forwarded-for", "192.0.2.7").await.assert_refused(400, "invalid_target");
}

#[tokio::test]
async fn a_configured_proxy_says_whose_request_it_passes_on() {
    for (server, header, values) in [
        (
            json!({"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}),
            "x-forwarded-for",
            ["192.0.2.7", "203.0.113.9, 192.0.2.7, 10.1.1.1", "192.0.2.7, 203.0.113.9"],
        ),
        (
            json!({"trusted_proxies": ["127.0.0.1"], "proxy_header": "forwarded"}),
            "forwarded",
            ["for=192.0.2.7;proto=https", "for=203.0.113.9, for=\"192.0.2.7:4711\"", "for=192.0.2.7, for=203.0.113.9"],
        ),
    ] {
        let house = open(server).await;
        for value in &values[..2] {
            let opened = exchange(&house, CLOSED_ROLE, header, value).await;
            opened.assert_status(200);
            assert_eq!(recorded(&house, &opened), "192.0.2.7", "{header}: {value}");
        }
        // What stands left of the address that the proxy saw is its caller's own claim.
        exchange(&house, CLOSED_ROLE, header, values[2]).await.assert_refused(400, "invalid_target");
        // The audit log says where a refused, unverified request came from.
        let proof = "not-a-proof";
        let refused = house.broker.exchange(&Exchange::of(proof).header(header, values[0])).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(entries(&house, &refused).contains("192.0.2.7"), "{}", entries(&house, &refused));
        // The header that these proxies do not write is what their callers make of it.
        let other =
            if header == "forwarded" { ("x-forwarded-for", "192.0.2.7") } else { ("forwarded", "for=192.0.2.7") };
        exchange(&house, CLOSED_ROLE, other.0, other.1).await.assert_refused(400, "invalid_target");
    }
}

#[tokio::test]
async fn a_request_whose_source_its_proxy_did_not_say_readably_is_refused() {
    let house = open(json!({"trusted_proxies": ["127.0.0.1"]})).await;
    let refused = exchange(&house, ROLE, "x-forwarded-for", "192.0.2.7, unknown").await;
    assert_eq!((refused.status, refused.text_of("reason")), (400, "malformed_request"), "{}", refused.text);
    assert_eq!(refused.text_of("parameter"), "x-forwarded-for", "{}", refused.text);
    assert_eq!(house.broker.store().reasons_of(refused.request_id()), ["malformed_request"]);
    assert_eq!(house.broker.store().grant_count(), 0);
    exchange(&house, ROLE, "x-forwarded-for", "unknown, 192.0.2.7").await.assert_status(200);
}

#[tokio::test]
async fn a_header_that_nobody_can_read_is_no_way_around_a_budget() {
    let server = json!({"server": {"trusted_proxies": ["127.0.0.1"]}, "limits": {"rate": {"per_source": "3/1h"}}});
    let house = House::open_with(|setup| setup.server(server)).await;
    let ask = |value: &'static str| exchange(&house, ROLE, "x-forwarded-for", value);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(ask("unknown").await.status);
    }
    assert_eq!(statuses, [400, 400, 400, 429, 429], "what is unreadable counts as the proxy's own");
    // Whoever is readable has a budget of its own, also with letters of no alphabet before it.
    ask("192.0.2.7").await.assert_status(200);
    ask("\u{fc}, 192.0.2.8").await.assert_status(200);
    // Without the header a request is the proxy's own too.
    assert_eq!(house.exchange(&house.proof()).await.status, 429);
    let page = house.broker.operations("/metrics").await.text;
    for (why, number) in [("unreadable", 5), ("missing", 1)] {
        let line = format!("hallpass_proxy_requests_unattributed_total{{why=\"{why}\"}} {number}\n");
        assert!(page.contains(&line), "{line} is not in {page}");
    }
}
