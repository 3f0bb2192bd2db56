//! What every answer has, and what no request gets past.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Request;
use hallpass_broker::http::desk::PublicKeys;
use hallpass_broker::http::{Connection, Operations, operations};
use hallpass_core::testing::Nature;
use tower::ServiceExt as _;

use crate::house::{Answer, House, Ready, request};

fn plain(method: &str, path: &str) -> Request<Body> {
    request(method, path, None, None)
}

#[tokio::test]
async fn every_answer_has_an_id_and_is_kept_by_nobody() {
    let house = House::open();
    let mut ids = std::collections::BTreeSet::new();
    for (method, path, status) in [
        ("GET", "/v1/whoami", 401),
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("PUT", "/v1/grants", 405),
        ("GET", "/oauth2/token", 405),
        ("GET", "/oauth2/nothing", 404),
    ] {
        let answer = house.send(plain(method, path)).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        let id = answer.header("x-request-id");
        assert!(ids.insert(id.to_owned()) && id.len() == 36, "{id}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
        let expected = if path.starts_with("/oauth2") { "application/json" } else { "application/problem+json" };
        assert_eq!(answer.header("content-type"), expected, "{path}");
    }
}

#[tokio::test]
async fn a_caller_does_not_choose_the_id_of_its_request() {
    let house = House::open();
    let mut request = plain("GET", "/v1/whoami");
    request.headers_mut().insert("x-request-id", "mine".parse().unwrap());
    assert_ne!(house.send(request).await.header("x-request-id"), "mine");
}

#[tokio::test]
async fn a_method_that_is_not_there_is_told_which_are() {
    let house = House::open();
    let answer = house.send(plain("PUT", "/v1/grants")).await;
    assert_eq!(answer.said("code"), "method_not_allowed");
    let mut allowed: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn what_is_for_operators_is_on_their_listener_alone() {
    let house = House::open();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(house.send(plain("GET", path)).await.status, 404, "{path}");
        let answer = Answer::read(house.operations.clone().oneshot(plain("GET", path)).await.unwrap()).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.header("x-request-id").is_empty());
    }
    for path in ["/v1/grants", "/oauth2/token", "/.well-known/jwks.json"] {
        let answer = house.operations.clone().oneshot(plain("GET", path)).await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn readiness_names_the_part_that_is_unwell() {
    let house = House::open();
    let unwell = operations(Arc::new(Operations {
        ports: house.world.ports.clone(),
        readiness: Arc::new(Ready(false)),
        metrics: Arc::new(String::new),
    }));
    let answer = Answer::read(unwell.oneshot(plain("GET", "/readyz")).await.unwrap()).await;
    assert_eq!((answer.status, answer.said("status")), (503, "not_ready"));
    assert_eq!((&answer.body["parts"][0]["part"], &answer.body["issuing"]), (&"store".into(), &false.into()));
    assert_eq!(answer.body["parts"][0]["detail"], "it is read-only");
}

struct Panicking;

impl PublicKeys for Panicking {
    fn jwks(&self) -> Bytes {
        panic!("a secret of the implementation")
    }

    fn algorithms(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_without_details() {
    let house = House::with(Nature::local(), |state| state.keys = Arc::new(Panicking));
    let answer = house.send(plain("GET", "/.well-known/jwks.json")).await;
    assert_eq!((answer.status, answer.said("code")), (500, "internal"));
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    assert_eq!(answer.said("request_id"), answer.header("x-request-id"));
    assert_eq!(house.get("/.well-known/openid-configuration").await.status, 200, "the broker lives on");
}

#[tokio::test]
async fn more_requests_than_places_are_sent_away_at_once() {
    let house = House::with(Nature::local(), |state| state.limits.in_flight.all = 0);
    let answer = house.send(plain("GET", "/v1/whoami")).await;
    assert_eq!((answer.status, answer.said("code")), (503, "overloaded"));
    assert_eq!(answer.header("retry-after"), "1");
    let answer = house.form("/oauth2/token", None, "x=y").await;
    assert_eq!((answer.status, answer.said("error")), (503, "temporarily_unavailable"));
}

#[tokio::test]
async fn a_request_for_another_host_than_its_connection_is_misdirected() {
    let house = House::open();
    let to = |server_name: Option<&str>, uri: &str, hosts: &[&str]| {
        let mut request = plain("GET", "/.well-known/jwks.json");
        *request.uri_mut() = uri.parse().unwrap();
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        let peer = ([192, 0, 2, 7], 4711).into();
        request.extensions_mut().insert(Connection {
            peer,
            server_name: server_name.map(Arc::from),
            certificate: None,
        });
        request
    };
    let (path, sni) = ("/.well-known/jwks.json", Some("hallpass.example"));
    let absolute = "https://hallpass.example/.well-known/jwks.json";
    for (server_name, uri, hosts, status) in [
        (sni, path, &["hallpass.example"] as &[&str], 200),
        (sni, path, &["HALLPASS.example:8443"], 200),
        (sni, absolute, &[], 200),
        (sni, absolute, &["hallpass.example"], 200),
        (None, path, &["192.0.2.1:8443"], 200),
        (sni, path, &["evil.example"], 421),
        (sni, path, &[], 421),
        (sni, absolute, &["evil.example"], 421),
        (None, absolute, &["evil.example"], 421),
        (None, path, &["a.example", "b.example"], 421),
    ] {
        let answer = house.send(to(server_name, uri, hosts)).await;
        assert_eq!(answer.status, status, "{server_name:?} {uri} {hosts:?}");
    }
}

#[tokio::test]
async fn a_request_whose_length_had_two_readings_ends_its_connection() {
    let house = House::open();
    let mut request = plain("POST", "/oauth2/token");
    request.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    assert_eq!(house.send(request).await.header("connection"), "close");
}

#[tokio::test]
async fn what_a_request_header_says_of_our_address_changes_nothing() {
    let house = House::open();
    let mut request = plain("GET", "/.well-known/openid-configuration");
    for (name, value) in [("host", "evil.example"), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    assert!(!house.send(request).await.text.contains("evil"));
}

#[tokio::test]
async fn a_failing_record_is_the_worse_failure() {
    use hallpass_core::testing::{StoreFault, Write};
    let house = House::open();
    house.world.store.fail(Write::Record, 0, StoreFault::Lost);
    let answer = house.form("/oauth2/token", None, "grant_type=x").await;
    assert_eq!((answer.status, answer.said("reason")), (503, "store_unavailable"), "{}", answer.text);
}

#[tokio::test]
async fn a_path_that_is_no_text_names_nothing() {
    let house = House::open();
    for path in ["/v1/roles/%ff", "/v1/owners/%ff", "/v1/grants/%ff"] {
        let answer = house.get(path).await;
        assert_eq!((answer.status, answer.said("code")), (404, "not_found"), "{path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
}
