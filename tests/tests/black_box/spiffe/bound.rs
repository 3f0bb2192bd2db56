//! What is given over a connection with a certificate is bound to it (RFC 8705).

use hallpass_tests::Exchange;
use hallpass_tests::config::BROKER_ITSELF;

use super::*;

const SELF: &str = "self/service";

fn with_self(setup: Setup) -> Setup {
    setup.role(SELF, "jwt", "jwt", json!({"audience": BROKER_ITSELF, "dangerous_broker_audience": true}))
}

/// A certificate that nobody else signed: that its key is there is all that it says.
fn self_signed() -> Shown {
    let key = KeyPair::generate().expect("a key");
    let made = svid_params("spiffe://nobody.test/a").self_signed(&key).expect("a certificate");
    Shown { chain: vec![made.der().to_vec()], key: key.serialize_der() }
}

fn thumbprint(shown: &Shown) -> String {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &shown.chain[0]))
}

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("a payload")).expect("base64url");
    serde_json::from_slice(&payload).expect("JSON")
}

async fn get(client: &Client, path: &str, token: &str) -> Answer {
    let asked = client.client.get(format!("{}{path}", client.url)).bearer_auth(token);
    Answer::read(asked.send().await.expect("an answer")).await
}

async fn exchange(domain: &Domain, client: &Client) -> Answer {
    let proof = domain.key.sign(&domain.issuer.claims(AUDIENCE, crate::WORKLOAD));
    let exchange = Exchange::of(&proof).role(SELF);
    let asked = client.client.post(format!("{}/oauth2/token", client.url)).form(exchange.parameters());
    Answer::read(asked.send().await.expect("an answer")).await
}

#[tokio::test]
async fn a_token_that_was_given_over_a_certificate_is_used_over_that_one_alone() {
    // CASE MTLS-005
    let root = Authority::new("td1");
    let domain = Domain::open_with(&[&root], &[], with_self).await;
    let (own, other) = (self_signed(), self_signed());
    let (by_own, by_other, by_none) = (domain.client(Some(&own)), domain.client(Some(&other)), domain.client(None));
    let metadata = by_none.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.body["tls_client_certificate_bound_access_tokens"], true);

    let bound = exchange(&domain, &by_own).await;
    let token = bound.credential();
    assert_eq!(bound.text_of("token_type"), "Bearer");
    assert_eq!(claims(token)["cnf"], json!({"x5t#S256": thumbprint(&own)}));
    let whoami = get(&by_own, "/v1/whoami", token).await;
    whoami.assert_status(200);
    assert_eq!(whoami.body["binding"], json!({"by": "mtls", "thumbprint": thumbprint(&own)}));
    get(&by_other, "/v1/whoami", token).await.assert_refused(401, "pop_mismatch");
    get(&by_none, "/v1/whoami", token).await.assert_refused(401, "pop_required");

    // The grant is held over the same certificate, by a fresh proof of the same run.
    let path = format!("/v1/grants/{}", bound.grant_id());
    let proof = || domain.key.sign(&domain.issuer.claims(AUDIENCE, crate::WORKLOAD));
    get(&by_other, &path, &proof()).await.assert_refused(404, "not_found");
    get(&by_none, &path, &proof()).await.assert_refused(404, "not_found");
    let read = get(&by_own, &path, &proof()).await;
    read.assert_status(200);
    assert_eq!(read.body["binding"]["by"], "mtls");

    // Whoever found the token cannot end it.
    let end = async |client: &Client| {
        let asked = client.client.post(format!("{}/oauth2/revoke", client.url)).form(&[("token", token)]);
        Answer::read(asked.send().await.expect("an answer")).await
    };
    assert_eq!((end(&by_other).await.status, end(&by_none).await.status), (401, 401));
    assert_eq!(domain.broker.store().state(bound.grant_id()), "active");
    end(&by_own).await.assert_status(200);
    assert_ne!(domain.broker.store().state(bound.grant_id()), "active");

    // Without a certificate nothing is bound.
    let unbound = exchange(&domain, &by_none).await;
    assert_eq!(claims(unbound.credential()).get("cnf"), None);
    get(&by_other, "/v1/whoami", unbound.credential()).await.assert_status(200);
}

#[tokio::test]
async fn a_workload_keeps_its_grants_over_its_next_svid_and_a_token_only_over_the_one_that_it_was_given_over() {
    let root = Authority::new("td1");
    let domain = Domain::open_with(&[&root], &[], with_self).await;
    let (now, next) = (root.svid(ID), root.svid(ID));
    let (over_now, over_next) = (domain.client(Some(&now)), domain.client(Some(&next)));
    let wanted = json!({"role": SELF, "purpose": "deploy build 4f2c to staging"});
    let opened = over_now.post("/v1/grants", &wanted).await;
    opened.assert_status(201);
    let token = opened.body["credential"]["token"].as_str().expect("a token");
    assert_eq!(claims(token)["cnf"], json!({"x5t#S256": thumbprint(&now)}));
    over_next.get(&format!("/v1/grants/{}", opened.grant_id())).await.assert_status(200);
    get(&over_now, "/v1/whoami", token).await.assert_status(200);
    get(&over_next, "/v1/whoami", token).await.assert_refused(401, "pop_mismatch");
}

/// A JSON array of certificates, as `x5c` has them.
fn x5c(chain: &[&Shown]) -> String {
    json!(chain.iter().map(|shown| STANDARD.encode(&shown.chain[0])).collect::<Vec<_>>()).to_string()
}

const MTLS: &str = "urn:ietf:params:oauth:token-type:mtls";

#[tokio::test]
async fn an_svid_is_a_subject_or_an_actor_of_an_exchange_over_its_own_connection() {
    const AGENTS: &str = r#"
@id("agents-act")
permit (principal, action == Action::"delegate", resource is Role) when { principal.subject like "spiffe://td1.test/*" };
"#;
    let root = Authority::new("td1");
    let domain = Domain::open_with(&[&root], &[], |setup| with_self(setup).policy("agents.cedar", AGENTS)).await;
    let (own, other, stranger) = (root.svid(ID), root.svid("spiffe://td1.test/other"), self_signed());
    let exchanged = async |client: &Client, exchange: Exchange| {
        let asked = client.client.post(format!("{}/oauth2/token", client.url)).form(exchange.parameters());
        Answer::read(asked.send().await.expect("an answer")).await
    };
    let subject = |text: &str| Exchange::of(text).with("subject_token_type", MTLS);
    let (over_own, over_none) = (domain.client(Some(&own)), domain.client(None));

    let answer = exchanged(&over_own, subject(&x5c(&[&own, &other]))).await;
    answer.assert_status(200);
    let said = claims(answer.credential());
    assert_eq!((&said["sub"], &said["cnf"]["x5t#S256"]), (&json!(format!("prod:{ID}")), &json!(thumbprint(&own))));

    // Whatever is sent proves nothing: the connection does.
    let refused = [
        (exchanged(&over_none, subject(&x5c(&[&own]))).await, "pop_required"),
        (exchanged(&over_own, subject(&x5c(&[&other]))).await, "pop_mismatch"),
        (exchanged(&over_own, subject(&x5c(&[&other, &own]))).await, "pop_mismatch"),
        (exchanged(&over_own, subject("[]")).await, "bad_encoding"),
        (exchanged(&over_own, subject(&STANDARD.encode(&own.chain[0]))).await, "bad_encoding"),
        (exchanged(&domain.client(Some(&stranger)), subject(&x5c(&[&stranger]))).await, "unknown_issuer"),
    ];
    for (answer, reason) in refused {
        answer.assert_refused(400, "invalid_request");
        assert_eq!(domain.broker.store().reasons_of(answer.request_id()), [reason], "{}", answer.text);
    }

    // As an actor, for a job: what it gets is bound to the certificate, and the job is not.
    let job = || domain.key.sign(&domain.issuer.claims(AUDIENCE, crate::WORKLOAD));
    let acting =
        |chain: &Shown| Exchange::of(&job()).with("actor_token", &x5c(&[chain])).with("actor_token_type", MTLS);
    let answer = exchanged(&over_own, acting(&own)).await;
    answer.assert_status(200);
    let said = claims(answer.credential());
    assert_eq!(
        (&said["act"]["sub"], &said["cnf"]["x5t#S256"]),
        (&json!(format!("prod:{ID}")), &json!(thumbprint(&own)))
    );
    let path = format!("/v1/grants/{}", answer.grant_id());
    get(&domain.client(None), &path, &job()).await.assert_status(200);
    let answer = exchanged(&over_own, acting(&other)).await;
    answer.assert_refused(400, "invalid_request");

    // A session that is bound to a certificate is handed on over that certificate.
    let session = exchanged(&over_own, Exchange::of(&job()).role(SELF)).await;
    session.assert_status(200);
    let handed_on = |actor: &Shown| {
        Exchange::of(session.credential()).with("actor_token", &x5c(&[actor])).with("actor_token_type", MTLS)
    };
    let elsewhere = exchanged(&domain.client(Some(&other)), handed_on(&other)).await;
    elsewhere.assert_refused(400, "invalid_request");
    assert_eq!(domain.broker.store().reasons_of(elsewhere.request_id()), ["pop_mismatch"]);
    exchanged(&over_own, handed_on(&own)).await.assert_status(200);
}
