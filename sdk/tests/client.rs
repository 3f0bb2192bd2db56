//! The client over a real socket: what it sends, what it repeats, and what it makes of the answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect has failed"
)]
#![cfg(feature = "client")]

mod stub;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_sdk::Client;
use hallpass_sdk::client::proof::{ClientCertificate, GitHubActions, Given, ProofError};
use hallpass_sdk::client::{
    Error, ErrorKind, Heartbeat, LeaseHealth, PossessionKey, RetryPolicy, TokenExchange, TransportError,
};
use hallpass_sdk::wire::{self, CreateGrant, GrantQuery, GrantState, RenewRequest, RevokeRequest, Secret};
use stub::{Answer, DEADLINE, JWT, Stub, grant, json, opened, problem};

const WHOAMI: &str = r#"{"issuer":"github","kind":"workload","subject":"s",
    "proof":{"id":"j","expires_at":"2099-01-31T09:00:00Z"}}"#;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn client(stub: &Stub) -> Client {
    let quick = RetryPolicy { attempts: 3, first_wait: Duration::from_millis(1), max_wait: Duration::from_millis(5) };
    Client::builder(&stub.url).proof(Given::token(secret("a-proof")).unwrap()).retry(quick).build().unwrap()
}

fn wanted() -> CreateGrant {
    CreateGrant::new("payments/prod/deploy", "deploy 4f2c")
}

#[tokio::test]
async fn a_call_carries_the_proof_and_reads_the_answer() {
    let stub = Stub::start(|_, _| json(200, WHOAMI));
    let me = client(&stub).whoami().await.unwrap();
    assert_eq!(me.subject, "s");
    let asked = stub.next();
    assert_eq!(asked.line(), "GET /v1/whoami");
    assert_eq!(asked.header("authorization"), Some("Bearer a-proof"));
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_says_what_it_means() {
    for (status, kind) in [
        (401, ErrorKind::Proof),
        (403, ErrorKind::Denied),
        (404, ErrorKind::NotFound),
        (409, ErrorKind::Conflict),
        (422, ErrorKind::Invalid),
        (503, ErrorKind::Unavailable),
    ] {
        let stub = Stub::start(move |_, _| problem(status, "some_code"));
        let error = client(&stub).create_grant(&wanted()).await.unwrap_err();
        assert_eq!((error.kind(), error.code(), error.request_id()), (kind, Some("some_code"), Some("req-1")));
        assert_eq!(error.to_string(), "No (some_code): because; refused by step decide; see role");
    }
}

#[tokio::test]
async fn a_request_that_waits_for_approval_is_told_apart() {
    let stub = Stub::start(|_, _| json(202, r#"{"access_request":{"id":"ar_1","state":"pending","needs":1}}"#));
    match client(&stub).create_grant(&wanted()).await {
        Err(Error::ApprovalNeeded(request)) => assert_eq!(request.id, "ar_1"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn opening_repeats_with_the_same_key_and_proof() {
    let stub = Stub::start(|_, number| match number {
        0 => Answer::HangUp,
        1 => problem(503, "backend_unavailable"),
        _ => opened("gr_1", JWT),
    });
    assert_eq!(client(&stub).create_grant(&wanted()).await.unwrap().grant.id, "gr_1");
    let tries = stub.rest();
    assert_eq!(tries.len(), 3);
    let keys: BTreeSet<_> = tries.iter().map(|request| request.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 1);
    assert!(tries.iter().all(|request| request.header("authorization") == Some("Bearer a-proof")));
}

#[tokio::test]
async fn two_openings_never_share_a_key() {
    let stub = Stub::start(|_, _| opened("gr_1", JWT));
    let client = client(&stub);
    for _ in 0..2 {
        client.create_grant(&wanted()).await.unwrap();
    }
    let asked = stub.rest();
    assert_ne!(asked[0].header("idempotency-key"), asked[1].header("idempotency-key"));
}

#[tokio::test]
async fn an_opening_that_is_still_pending_is_asked_for_again() {
    let stub = Stub::start(|_, number| match number {
        0 => match problem(409, "pending") {
            Answer::Reply { status, mut headers, body } => {
                headers.push(("retry-after", "0".to_owned()));
                Answer::Reply { status, headers, body }
            }
            other => other,
        },
        _ => opened("gr_1", JWT),
    });
    assert!(client(&stub).create_grant(&wanted()).await.is_ok());
}

#[tokio::test]
async fn renewing_is_not_repeated_once_sent() {
    let stub = Stub::start(|_, _| Answer::HangUp);
    let error = client(&stub).renew("gr_1", &RenewRequest::default()).await.unwrap_err();
    assert!(matches!(error, Error::Transport(TransportError::Interrupted(_))), "{error:?}");
    assert_eq!(stub.rest().len(), 1);
}

#[tokio::test]
async fn reading_is_repeated_so_often_and_no_more() {
    let stub = Stub::start(|_, _| Answer::Reply { status: 502, headers: vec![], body: "<html>".to_owned() });
    let error = client(&stub).grant("gr_1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(stub.rest().len(), 3);
}

#[tokio::test]
async fn a_proof_does_not_follow_a_redirect() {
    let stub = Stub::start(|_, _| Answer::Reply {
        status: 307,
        headers: vec![("location", "/v1/elsewhere".to_owned())],
        body: String::new(),
    });
    let error = client(&stub).whoami().await.unwrap_err();
    assert!(matches!(error, Error::Unexpected { status: 307, .. }), "{error:?}");
    assert_eq!(stub.rest().len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_quoted() {
    let stub = Stub::start(|_, _| {
        opened(
            "gr_1",
            r#"{"type":"database","expires_at":"2099-01-31T09:10:00Z","username":"u","password":"p",
            "host":"h","port":"hunter2","database":"d","url":"x"}"#,
        )
    });
    let error = client(&stub).create_grant(&wanted()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_refused() {
    let stub = Stub::start(|_, _| json(200, " ".repeat(9 * 1024 * 1024)));
    let error = client(&stub).whoami().await.unwrap_err();
    assert!(matches!(error, Error::Transport(TransportError::TooLarge)), "{error:?}");
}

#[tokio::test]
async fn a_silent_broker_meets_the_deadline() {
    let stub = Stub::start(|_, _| Answer::Silence);
    let client = Client::builder(&stub.url)
        .proof(Given::token(secret("a-proof")).unwrap())
        .timeout(Duration::from_millis(50))
        .retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() })
        .build()
        .unwrap();
    let error = client.whoami().await.unwrap_err();
    assert!(matches!(error, Error::Transport(TransportError::Timeout(_))), "{error:?}");
}

#[tokio::test]
async fn names_are_escaped_and_cannot_address_something_else() {
    let stub = Stub::start(|request, _| match request.target.as_str() {
        "/v1/grants/a%2F..%2Fb" => json(200, grant("gr_1", "active")),
        _ => problem(404, "not_found"),
    });
    let client = client(&stub);
    assert!(client.grant("a/../b").await.is_ok());
    assert!(matches!(client.role("payments/prod/deploy").await, Err(Error::Refused(_))));
    assert_eq!(client.revoke("..", &RevokeRequest::default()).await.unwrap_err().kind(), ErrorKind::Configuration);
    let targets: Vec<_> = stub.rest().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/v1/grants/a%2F..%2Fb", "/v1/roles/payments%2Fprod%2Fdeploy"]);
}

#[tokio::test]
async fn filters_become_a_query() {
    let stub = Stub::start(|_, _| json(200, r#"{"items":[],"next_cursor":null}"#));
    let client = client(&stub);
    client.grants(&GrantQuery::default()).await.unwrap();
    let query = GrantQuery {
        state: Some(GrantState::Active),
        role: Some("a/b c".to_owned()),
        since: Some("2026-01-31T09:00:00Z".parse().unwrap()),
        limit: Some(5),
        ..GrantQuery::default()
    };
    client.grants(&query).await.unwrap();
    assert_eq!(stub.next().target, "/v1/grants");
    let target = stub.next().target;
    for part in ["state=active", "role=a%2Fb+c", "since=2026-01-31T09%3A00%3A00Z", "limit=5"] {
        assert!(target.contains(part), "{target}");
    }
}

#[tokio::test]
async fn an_exchange_speaks_rfc_8693() {
    let stub = Stub::start(|request, _| match request.target.as_str() {
        "/oauth2/token" => json(
            200,
            r#"{"access_token":"t","issued_token_type":"urn:ietf:params:oauth:token-type:jwt",
            "token_type":"Bearer","expires_in":600,"grant_id":"gr_1"}"#,
        ),
        "/oauth2/introspect" => json(200, r#"{"active":true}"#),
        "/oauth2/revoke" => json(200, ""),
        _ => json(400, r#"{"error":"invalid_target","error_description":"unknown or not yours"}"#),
    });
    let client = client(&stub);
    let exchange = TokenExchange {
        receipt: true,
        role: "a/b".to_owned(),
        purpose: Some("p".to_owned()),
        ttl: Some(wire::Duration::from_secs(600)),
        ..TokenExchange::default()
    };
    let token = client.exchange_token(&exchange).await.unwrap().access_token;
    let asked = stub.next();
    assert_eq!(
        asked.body,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&\
         subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&audience=a%2Fb&purpose=p&ttl=10m&receipt=true&\
         subject_token=a-proof"
    );
    assert_eq!(asked.header("authorization"), None);
    assert!(asked.header("idempotency-key").is_some());
    assert!(client.introspect(&token).await.unwrap().active);
    client.revoke_token(&token).await.unwrap();
    assert_eq!(stub.rest().last().unwrap().body, "token=t");
}

#[tokio::test]
async fn the_audit_log_is_asked_for_pages_proofs_and_what_it_came_to() {
    let stub = Stub::start(|asked, _| match asked.target.split('?').next().unwrap() {
        "/v1/audit" => json(200, r#"{"items":[]}"#),
        "/v1/audit/checkpoint" => json(200, "log\n7\nAAAA\n\n— log BBBB\n"),
        _ if asked.target.contains("entry=") => json(
            200,
            r#"{"log_id":"l","entry":3,"size":7,"leaf":"{}","leaf_hash":"A","hashes":["B"],"root":"C","checkpoint":"D"}"#,
        ),
        _ => json(200, r#"{"log_id":"l","from":3,"size":7,"hashes":[],"from_root":"A","root":"B","checkpoint":"C"}"#),
    });
    let client = client(&stub);
    let query = wire::AuditQuery { grant: Some("g".to_owned()), limit: Some(5), ..wire::AuditQuery::default() };
    assert!(client.audit(&query).await.unwrap().items.is_empty());
    assert_eq!(client.audit_checkpoint().await.unwrap(), "log\n7\nAAAA\n\n— log BBBB\n");
    assert_eq!(client.audit_inclusion(3, Some(7)).await.unwrap().hashes, ["B"]);
    assert_eq!(client.audit_consistency(3, None).await.unwrap().from_root, "A");
    let asked: Vec<_> = stub.rest().iter().map(stub::Request::line).collect();
    let expected = [
        "GET /v1/audit?grant=g&limit=5",
        "GET /v1/audit/checkpoint",
        "GET /v1/audit/proof?entry=3&size=7",
        "GET /v1/audit/proof?from=3",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn oauth_refusals_keep_their_code() {
    let stub = Stub::start(|_, _| json(400, r#"{"error":"invalid_target"}"#));
    let error = client(&stub).exchange_token(&TokenExchange::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("invalid_target")));
}

/// Issuer and broker in one: the n-th token request is answered with `proof-n`.
fn issuer_and_broker(refuse: &'static str) -> (Stub, Client) {
    let issued = std::sync::atomic::AtomicUsize::new(0);
    let stub = Stub::start(move |request, _| {
        if request.target.starts_with("/issuer") {
            let number = issued.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            return json(200, format!(r#"{{"value":"proof-{number}"}}"#));
        }
        if request.header("authorization") == Some(refuse) {
            return problem(401, "proof_not_accepted");
        }
        match request.target.as_str() {
            "/v1/grants" => opened("gr_1", JWT),
            "/v1/whoami" => json(200, WHOAMI),
            _ => json(200, grant("gr_1", "active")),
        }
    });
    let source = GitHubActions::new(&format!("{}/issuer?api-version=2.0", stub.url), secret("runner")).unwrap();
    let client = Client::builder(&stub.url).audience("https://hallpass.example").proof(source).build().unwrap();
    (stub, client)
}

#[tokio::test]
async fn each_opening_takes_a_fresh_proof_and_heartbeats_take_the_held_one() {
    let (stub, client) = issuer_and_broker("none");
    client.create_grant(&wanted()).await.unwrap();
    client.heartbeat("gr_1").await.unwrap();
    client.create_grant(&wanted()).await.unwrap();
    client.revoke("gr_1", &RevokeRequest::default()).await.unwrap();
    let asked: Vec<_> =
        stub.rest().iter().map(|r| format!("{} {}", r.line(), r.header("authorization").unwrap())).collect();
    let issuer = "GET /issuer?api-version=2.0&audience=https%3A%2F%2Fhallpass.example Bearer runner";
    assert_eq!(
        asked,
        [
            issuer,
            "POST /v1/grants Bearer proof-0",
            "POST /v1/grants/gr_1/heartbeat Bearer proof-0",
            issuer,
            "POST /v1/grants Bearer proof-1",
            "POST /v1/grants/gr_1/revoke Bearer proof-1",
        ]
    );
}

/// A token that its issuer bound to the key of this thumbprint.
fn bound_to(thumbprint: &str) -> Secret {
    let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"cnf":{{"jkt":"{thumbprint}"}}}}"#));
    secret(&format!("e30.{payload}.c2ln"))
}

#[tokio::test]
async fn a_bound_proof_is_sent_with_its_key_and_as_what_it_is_or_not_at_all() {
    let stub = Stub::start(|_, _| json(200, WHOAMI));
    let (key, another) = (Arc::new(PossessionKey::generate().unwrap()), Arc::new(PossessionKey::generate().unwrap()));
    let proof = bound_to(&key.thumbprint());
    let builder = || Client::builder(&stub.url).proof(Given::token(secret(proof.expose())).unwrap());
    builder().possession(key).build().unwrap().whoami().await.unwrap();
    let asked = stub.next();
    assert_eq!(asked.header("authorization"), Some(format!("DPoP {}", proof.expose()).as_str()));
    assert!(asked.header("dpop").is_some());
    for client in [builder(), builder().possession(another)] {
        let error = client.build().unwrap().whoami().await.unwrap_err();
        assert!(matches!(error, Error::Proof(ProofError::Bound(_))), "{error:?}");
    }
    assert!(stub.rest().is_empty(), "a bound proof was sent without its key");
}

#[tokio::test]
async fn whoever_acts_for_another_sends_both_proofs_where_it_opens_and_its_own_elsewhere() {
    let stub = Stub::start(|request, _| match request.target.as_str() {
        "/oauth2/token" => json(400, r#"{"error":"invalid_target"}"#),
        "/v1/grants" => opened("gr_1", JWT),
        _ => json(200, grant("gr_1", "active")),
    });
    let subject = Arc::new(Given::token(secret("of-the-job")).unwrap());
    let proof = Given::token(secret("of-the-agent")).unwrap();
    let client = Client::builder(&stub.url).proof(proof).acts_for(subject).build().unwrap();
    client.create_grant(&wanted()).await.unwrap();
    let asked = stub.next();
    assert_eq!(asked.header("authorization"), Some("Bearer of-the-job"));
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((&body["actor_token"], &body["role"]), (&"of-the-agent".into(), &"payments/prod/deploy".into()));

    client.heartbeat("gr_1").await.unwrap();
    assert_eq!(stub.next().header("authorization"), Some("Bearer of-the-agent"));

    let subject = Arc::new(Given::token(secret("of-the-job")).unwrap());
    let by_certificate = Client::builder(&stub.url).proof(ClientCertificate).acts_for(subject).build().unwrap();
    by_certificate.create_grant(&wanted()).await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&stub.next().body).unwrap();
    assert_eq!((&body["actor_certificate"], body.get("actor_token")), (&true.into(), None));

    let exchange = TokenExchange { role: "r".to_owned(), task: Some("t".to_owned()), ..TokenExchange::default() };
    client.exchange_token(&exchange).await.unwrap_err();
    let body = stub.next().body;
    for field in ["subject_token=of-the-job", "actor_token=of-the-agent", "actor_token_type=urn", "task=t"] {
        assert!(body.contains(field), "{body}");
    }
}

#[tokio::test]
async fn a_held_proof_that_is_refused_is_replaced_once() {
    let (stub, client) = issuer_and_broker("Bearer proof-0");
    assert!(client.whoami().await.is_ok());
    assert_eq!(stub.rest().len(), 4, "two proofs, two calls");
}

#[tokio::test]
async fn a_lease_asks_for_a_heartbeat_and_tells_when_the_grant_ended() {
    let stub = Stub::start(|request, number| match request.target.as_str() {
        "/v1/grants" => opened("gr_1", JWT),
        "/v1/grants/gr_1/heartbeat" if number < 3 => json(200, grant("gr_1", "active")),
        "/v1/grants/gr_1/heartbeat" => problem(409, "grant_ended"),
        _ => json(200, grant("gr_1", "revoked")),
    });
    let heartbeat = Heartbeat { every: Duration::from_millis(20), deadline: wire::Duration::from_secs(45) };
    let lease = client(&stub).open_lease(wanted(), heartbeat).await.unwrap();
    assert!(stub.next().body.contains(r#""ends_when":{"heartbeat":"45s"}"#));
    let mut health = lease.health();
    let ended = health.wait_for(|health| matches!(health, LeaseHealth::Ended { .. }));
    let ended = tokio::time::timeout(DEADLINE, ended).await.unwrap().unwrap().clone();
    assert_eq!(ended, LeaseHealth::Ended { state: GrantState::Revoked, cause: Some("operator".to_owned()) });
    assert!(lease.close("done").await.is_ok());
}

#[tokio::test]
async fn a_heartbeat_that_fails_ends_nothing() {
    let stub = Stub::start(|request, _| match request.target.as_str() {
        "/v1/grants" => opened("gr_1", JWT),
        _ => problem(500, "internal"),
    });
    let heartbeat = Heartbeat { every: Duration::from_millis(5), deadline: wire::Duration::from_secs(45) };
    let lease = client(&stub).open_lease(wanted(), heartbeat).await.unwrap();
    let mut health = lease.health();
    let unconfirmed = health.wait_for(|health| *health != LeaseHealth::Live);
    let unconfirmed = tokio::time::timeout(DEADLINE, unconfirmed).await.unwrap().unwrap().clone();
    assert!(matches!(unconfirmed, LeaseHealth::Unconfirmed(_)));
}

#[tokio::test]
async fn tls_trusts_the_extra_authority_and_nobody_else() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let stub = Stub::start_tls(Arc::new(config), |_, _| json(200, WHOAMI));
    let builder = || {
        Client::builder(&stub.url)
            .proof(Given::token(secret("a-proof")).unwrap())
            .retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() })
    };
    let error = builder().build().unwrap().whoami().await.unwrap_err();
    assert!(matches!(error, Error::Transport(TransportError::Connect(_))), "{error:?}");
    assert!(stub.rest().is_empty(), "no proof went to a server that is not trusted");
    assert!(builder().ca_pem(made.cert.pem()).build().unwrap().whoami().await.is_ok());
}
