//! `/v1`: nobody sees or ends what is another's, and nothing is taken that was not asked for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_tests::config::{AUDIENCE, CERTIFICATE_ROLE, ROLE};
use hallpass_tests::{Answer, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::House;

const STRANGER: &str = "repo:evil@666/x@667:ref:refs/heads/main";

fn request() -> Value {
    json!({"role": ROLE, "purpose": "deploy build 4f2c to staging"})
}

async fn open(house: &House, body: &Value) -> Answer {
    house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(body)).await
}

#[tokio::test]
async fn a_grant_is_opened_read_and_ended_by_its_holder() {
    let house = House::open().await;
    let proof = house.proof();
    let opened = house.broker.call("POST", "/v1/grants", Some(&proof), Some(&request())).await;
    opened.assert_status(201);
    assert_eq!(opened.body["credential"]["type"], "jwt");
    let path = format!("/v1/grants/{}", opened.grant_id());
    let read = house.broker.call("GET", &path, Some(&proof), None).await;
    read.assert_status(200);
    for member in [
        "state",
        "role",
        "backend",
        "owner",
        "purpose",
        "identity",
        "decision",
        "created_at",
        "expires_at",
        "revocation",
    ] {
        assert!(!read.body[member].is_null() || !read.body["grant"][member].is_null(), "no {member}: {}", read.text);
    }
    let ended =
        house.broker.call("POST", &format!("{path}/revoke"), Some(&proof), Some(&json!({"reason": "done"}))).await;
    assert!(matches!(ended.status, 200 | 202), "{}", ended.text);
}

// CASE API-001, API-003, API-024
#[tokio::test]
async fn anothers_grant_is_not_there() {
    let house = House::open().await;
    let grant = house.credential().await.grant_id().to_owned();
    let stranger = house.proof_of(STRANGER);
    let variants =
        [grant.clone(), grant.to_uppercase(), format!("{{{grant}}}"), format!("urn:uuid:{grant}"), "x".to_owned()];
    for id in variants {
        for (method, path) in [
            ("GET", format!("/v1/grants/{id}")),
            ("POST", format!("/v1/grants/{id}/renew")),
            ("POST", format!("/v1/grants/{id}/revoke")),
            ("DELETE", format!("/v1/grants/{id}")),
        ] {
            let body = path.ends_with("/revoke").then(|| json!({"reason": "mine now"}));
            let answer = house.broker.call(method, &path, Some(&stranger), body.as_ref()).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
        }
    }
    assert_eq!(house.broker.store().state(&grant), "active");
}

#[tokio::test]
async fn every_call_without_a_proof_is_told_to_bring_one() {
    let house = House::open().await;
    let grant = house.credential().await.grant_id().to_owned();
    for (method, path) in [
        ("POST", "/v1/grants".to_owned()),
        ("GET", "/v1/grants".to_owned()),
        ("GET", format!("/v1/grants/{grant}")),
        ("POST", format!("/v1/grants/{grant}/renew")),
        ("POST", format!("/v1/grants/{grant}/revoke")),
        ("DELETE", format!("/v1/grants/{grant}")),
        ("GET", "/v1/whoami".to_owned()),
        ("GET", "/v1/audit".to_owned()),
    ] {
        for proof in [None, Some("not-a-proof")] {
            let body = (method == "POST").then(request);
            let answer = house.broker.call(method, &path, proof, body.as_ref()).await;
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
        }
    }
}

// CASE API-007, API-009
#[tokio::test]
async fn a_field_that_is_not_asked_for_is_refused_by_name() {
    let house = House::open().await;
    for field in ["tenant", "state", "expires_at", "owner", "id", "backend_ref"] {
        let mut body = request();
        body[field] = json!("platform");
        let answer = open(&house, &body).await;
        answer.assert_refused(422, "unknown_field");
        assert!(answer.text.contains(field), "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert_eq!(house.broker.store().grant_count(), 0);
}

// CASE API-008
#[tokio::test]
async fn a_purpose_that_says_nothing_is_no_purpose() {
    let house = House::open().await;
    for purpose in
        [Value::Null, json!(""), json!("   "), json!("\u{200b}\u{200b}"), json!("test"), json!("n/a"), json!(ROLE)]
    {
        let answer = open(&house, &json!({"role": ROLE, "purpose": purpose})).await;
        assert_eq!(answer.status, 422, "{purpose:?}: {}", answer.text);
    }
    let long = open(&house, &json!({"role": ROLE, "purpose": "a".repeat(10_000_000)})).await;
    long.assert_status(413);
    assert_eq!(house.broker.store().grant_count(), 0);
}

// CASE API-005
#[tokio::test]
async fn a_grant_goes_by_its_id_alone_and_by_nothing_that_its_credential_shows() {
    let house = House::open().await;
    let token = house.credential().await;
    let role = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    let proof = house.proof();
    let certificate = house.broker.call("POST", "/v1/grants", Some(&proof), Some(&role)).await;
    certificate.assert_status(201);
    let pem = certificate.body["credential"]["certificate_chain"].as_str().unwrap_or_default();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap_or_else(|_| panic!("{}", certificate.text));
    let serial = pem.parse_x509().expect("a certificate").raw_serial_as_string().replace(':', "");
    let claims = token.credential().split('.').nth(1).expect("claims");
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("JSON");
    let jti = claims["jti"].as_str().expect("a jti").to_owned();
    let ids = [token.grant_id().to_owned(), certificate.grant_id().to_owned()];
    let stranger = || house.proof_of("repo:acme@111/other@333:ref:refs/heads/main");
    // The record's own columns, too: what they hold names nothing to anybody outside.
    let columns = "SELECT credential_fingerprint AS one FROM grants WHERE credential_fingerprint IS NOT NULL";
    let kept = house.broker.store().rows(columns, &[]);
    let kept = kept.iter().filter_map(|row| row["one"].as_str().map(str::to_owned));
    let named: Vec<String> = [serial, jti].into_iter().chain(kept).filter(|name| !ids.contains(name)).collect();
    assert!(!named.is_empty());
    for name in named.iter().chain(&ids) {
        for (method, path) in [
            ("GET", format!("/v1/grants/{name}")),
            ("DELETE", format!("/v1/grants/{name}")),
            ("POST", format!("/v1/grants/{name}/revoke")),
            ("POST", format!("/v1/grants/{name}/renew")),
        ] {
            let answer = house.broker.call(method, &path, Some(&stranger()), None).await;
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
        }
        let form = format!("token={name}");
        let content = Some("application/x-www-form-urlencoded");
        let ended = house.broker.post_raw("/oauth2/revoke", Some(&stranger()), content, form).await;
        assert!(ended.status < 500, "{}", ended.text);
    }
    for id in &ids {
        assert_eq!(house.broker.store().state(id), "active");
        let own = house.broker.call("DELETE", &format!("/v1/grants/{id}"), Some(&house.proof()), None).await;
        assert!(matches!(own.status, 200 | 202), "the control: {}", own.text);
    }
}

// CASE API-012
#[tokio::test]
async fn a_list_has_limits() {
    let house = House::open().await;
    for query in
        ["limit=-1", "limit=0", "limit=1000000000", "limit=x", "cursor=tampered", "state=nonsense", "since=yesterday"]
    {
        let answer = house.broker.call("GET", &format!("/v1/grants?{query}"), Some(&house.proof()), None).await;
        assert!(matches!(answer.status, 400 | 422), "{query}: {} {}", answer.status, answer.text);
    }
}

// CASE API-013
#[tokio::test]
async fn what_looks_like_sql_is_only_text() {
    let house = House::open().await;
    let purpose = "x'); DROP TABLE grants; -- \" UNION SELECT 1";
    let proof = house.proof();
    let opened =
        house.broker.call("POST", "/v1/grants", Some(&proof), Some(&json!({"role": ROLE, "purpose": purpose}))).await;
    opened.assert_status(201);
    for filter in ["purpose", "owner", "role", "subject", "repository", "ticket"] {
        let query = "%27%29%3B%20DROP%20TABLE%20grants%3B%20--%20%25";
        let answer = house.broker.call("GET", &format!("/v1/grants?{filter}={query}"), Some(&proof), None).await;
        assert!(answer.status < 500, "{filter}: {}", answer.text);
    }
    let read = house.broker.call("GET", &format!("/v1/grants/{}", opened.grant_id()), Some(&proof), None).await;
    assert!(read.text.contains("DROP TABLE"), "{}", read.text);
}

// CASE API-014
#[tokio::test]
async fn a_body_that_is_not_one_strict_object_is_refused() {
    let house = House::open().await;
    // Deep, and within the limit of size.
    let deep = format!("{{\"role\":{}{}}}", "[".repeat(25_000), "]".repeat(25_000));
    for (body, statuses) in [
        ("{\"role\":\"app/deploy\",\"role\":\"app/closed\",\"purpose\":\"deploy build 4f2c\"}".to_owned(), [400, 422]),
        (deep, [400, 422]),
        ("[]".to_owned(), [400, 422]),
        ("{\"role\":\"app/deploy\"".to_owned(), [400, 422]),
        ("{}{}".to_owned(), [400, 422]),
        (" ".repeat(20_000_000), [413, 413]),
    ] {
        let shown: String = body.chars().take(60).collect();
        let answer = house.broker.post_raw("/v1/grants", Some(&house.proof()), Some("application/json"), body).await;
        assert!(statuses.contains(&answer.status), "{shown}: {} {}", answer.status, answer.text);
    }
    let typed =
        house.broker.post_raw("/v1/grants", Some(&house.proof()), Some("text/plain"), request().to_string()).await;
    typed.assert_status(415);
    assert_eq!(house.broker.store().grant_count(), 0);
}

// CASE API-015
#[tokio::test]
async fn a_request_whose_end_is_ambiguous_is_refused_and_the_connection_closed() {
    let house = House::open().await;
    for head in [
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /oauth2/token HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(house.broker.address()).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("it takes the request");
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "left open: {head:?}");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.matches("HTTP/1.1 ").count() <= 1, "two answers: {text}");
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
}

// CASE API-018
#[tokio::test]
async fn revoking_and_introspecting_tell_nothing_about_tokens_that_are_not_yours() {
    let house = House::open().await;
    let minted = house.credential().await.credential().to_owned();
    let stranger = house.proof_of(STRANGER);
    let mut answers = Vec::new();
    for token in [minted.as_str(), "random", "a.b.c", &house.proof()] {
        let form = format!("token={token}");
        let form_type = Some("application/x-www-form-urlencoded");
        let introspected = house.broker.post_raw("/oauth2/introspect", Some(&stranger), form_type, form.clone()).await;
        let revoked = house.broker.post_raw("/oauth2/revoke", Some(&stranger), form_type, form).await;
        answers.push((introspected.status, introspected.text, revoked.status, revoked.text));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    house.credential().await;
}

// CASE API-019
#[tokio::test]
async fn introspection_without_a_proof_says_nothing() {
    let house = House::open().await;
    let minted = house.credential().await.credential().to_owned();
    let answer = house
        .broker
        .post_raw("/oauth2/introspect", None, Some("application/x-www-form-urlencoded"), format!("token={minted}"))
        .await;
    answer.assert_status(401);
}

#[tokio::test]
async fn whoami_shows_the_callers_own_proof_and_consumes_nothing() {
    let house = House::open().await;
    let proof = house.proof();
    for _ in 0..2 {
        let answer = house.broker.call("GET", "/v1/whoami", Some(&proof), None).await;
        answer.assert_status(200);
        assert!(answer.text.contains(crate::WORKLOAD), "{}", answer.text);
    }
    house.exchange(&proof).await.assert_status(200);
}

#[tokio::test]
async fn the_operations_listener_shows_metrics_and_the_public_one_does_not() {
    let house = House::open().await;
    for path in ["/metrics", "/readyz"] {
        house.broker.call("GET", path, None, None).await.assert_status(404);
    }
    eventually("the exchange is counted", Duration::from_secs(5), async || {
        house.credential().await;
        house.broker.operations("/metrics").await.text.contains("hallpass").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_proof_for_another_audience_opens_no_door() {
    let house = House::open().await;
    let proof = house.key.sign(&house.issuer.claims(&format!("{AUDIENCE}/other"), crate::WORKLOAD));
    house.broker.call("GET", "/v1/whoami", Some(&proof), None).await.assert_status(401);
}
