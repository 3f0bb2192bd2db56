//! Keys of callers (RFC 9449): what is bound to one works for nobody who does not show it.

use std::collections::BTreeMap;

use hallpass_tests::config::{AUDIENCE, BROKER_ITSELF, ROLE, Setup};
use hallpass_tests::third_party::{self, Provider};
use hallpass_tests::{Answer, Broker, Exchange, Prover, size, unix_now};
use serde_json::{Value, json};

use crate::House;

/// Has the broker itself as its audience: its tokens are proofs of who is calling.
const SELF: &str = "self/service";

async fn house() -> House {
    House::open_with(with_self).await
}

fn with_self(setup: Setup) -> Setup {
    setup.role(SELF, "jwt", "jwt", json!({"audience": BROKER_ITSELF, "dangerous_broker_audience": true}))
}

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a payload");
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}

fn invalid(answer: &Answer, about: &str) {
    answer.assert_refused(400, "invalid_dpop_proof");
    assert!(answer.text.contains(about), "{} is not about {about}", answer.text);
}

// CASE DPOP-001, DPOP-002, DPOP-006, DPOP-007, DPOP-008, DPOP-009, DPOP-011
#[tokio::test]
async fn proofs_that_do_not_hold_are_refused_one_by_one_and_written_down() {
    let house = House::open().await;
    let prover = Prover::new();
    let (broker, token_url) = (&house.broker, house.broker.at("/oauth2/token"));
    let nonce = prover.nonce(broker).await;
    let good = || json!({"jti": "a", "htm": "POST", "htu": token_url, "iat": unix_now(), "nonce": nonce});
    let with = |member: &str, value: Value| {
        let mut claims = good();
        claims[member] = value;
        prover.sign(&json!({}), &claims)
    };
    let private = {
        let mut jwk = prover.jwk();
        jwk["d"] = json!("AAAA");
        jwk
    };
    let other_port = token_url.replace(&broker.address().port().to_string(), "1");
    let cases = [
        ("DPOP-002", "not-a-jwt".to_owned(), "three base64url parts"),
        ("DPOP-002", format!("{0}.{0}", prover.sign(&json!({}), &good())), "three base64url parts"),
        ("DPOP-002", prover.sign(&json!({"typ": "JWT"}), &good()), "typ"),
        ("DPOP-002", prover.sign(&json!({"alg": "none"}), &good()), "alg"),
        ("DPOP-006", prover.sign(&json!({"jwk": Prover::new().jwk()}), &good()), "does not verify"),
        ("DPOP-007", prover.sign(&json!({"jwk": private}), &good()), "not public"),
        ("DPOP-007", prover.sign(&json!({"jwk": {"kty": "oct", "k": "AAAA"}}), &good()), "not public"),
        ("DPOP-008", with("htm", json!("GET")), "htm"),
        ("DPOP-009", with("htu", json!(other_port)), "htu"),
        ("DPOP-009", with("htu", json!(token_url.replace("http:", "https:"))), "htu"),
        ("DPOP-009", with("htu", json!(broker.at("/oauth2/revoke"))), "htu"),
        ("DPOP-011", with("iat", json!(unix_now() - 600)), "iat"),
        ("DPOP-011", with("iat", json!(unix_now() + 600)), "iat"),
    ];
    for (case, proof, about) in cases {
        let answer = broker.exchange(&Exchange::of(&house.proof()).header("dpop", &proof)).await;
        println!("{case}: {}", answer.text);
        invalid(&answer, about);
        assert_eq!(broker.store().reasons_of(answer.request_id()), ["pop_invalid"], "{case}");
    }
    // DPOP-001.
    let proof = prover.sign(&json!({}), &good());
    let twice = Exchange::of(&house.proof()).header("dpop", &proof).header("dpop", &proof);
    invalid(&broker.exchange(&twice).await, "more than one");
    assert_eq!(broker.store().grant_count(), 0, "a refused request left a grant");

    // However it is spelled.
    let spelled =
        [format!("{token_url}?a=b#c"), token_url.replace("http:", "HTTP:"), token_url.replace("/token", "/./%74oken")];
    for (n, htu) in spelled.into_iter().enumerate() {
        let mut claims = good();
        (claims["htu"], claims["jti"]) = (json!(htu), json!(format!("good-{n}")));
        let proof = prover.sign(&json!({}), &claims);
        broker.exchange(&Exchange::of(&house.proof()).header("dpop", &proof)).await.assert_status(200);
    }
}

// CASE DPOP-010
#[tokio::test]
async fn a_proof_wants_a_nonce_of_this_process() {
    let mut house = House::open().await;
    let prover = Prover::new();
    let nonce = prover.nonce(&house.broker).await;
    let claims = |nonce: &str, jti: &str| json!({"jti": jti, "htm": "POST", "htu": house.broker.at("/oauth2/token"), "iat": unix_now(), "nonce": nonce});
    let (good, old, again) = (claims(&nonce, "a"), claims(&nonce, "b"), claims("made-up", "c"));
    let exchange = |claims: &Value| Exchange::of(&house.proof()).header("dpop", &prover.sign(&json!({}), claims));
    let (good, old, again) = (exchange(&good), exchange(&old), exchange(&again));
    let answer = house.broker.exchange(&again).await;
    answer.assert_refused(400, "use_dpop_nonce");
    assert_eq!(answer.header("dpop-nonce"), nonce);
    let answer = house.broker.exchange(&good).await;
    answer.assert_status(200);
    assert_eq!(answer.header("dpop-nonce"), nonce, "the next proof needs one, too");

    house.broker.kill9().await;
    house.broker.restart().await;
    let answer = house.broker.exchange(&old).await;
    answer.assert_refused(400, "use_dpop_nonce");
    assert_ne!(answer.header("dpop-nonce"), nonce, "it was given by the process before");
    assert_eq!(house.broker.store().grant_count(), 1);
}

#[tokio::test]
async fn a_grant_that_was_opened_with_a_key_is_held_by_whoever_shows_it() {
    let house = house().await;
    let (owner, other) = (Prover::new(), Prover::new());
    let exchanged = owner.exchange(&house.broker, Exchange::of(&house.proof())).await;
    let token = exchanged.credential();
    assert_eq!(exchanged.text_of("token_type"), "DPoP");
    assert_eq!(claims(token)["cnf"], json!({"jkt": owner.thumbprint()}));
    let path = format!("/v1/grants/{}", exchanged.grant_id());

    // By a fresh proof of the same run, which is a bearer token: with the key, with another, with none.
    let shown = owner.call(&house.broker, "GET", &path, "Bearer", &house.proof()).await;
    shown.assert_status(200);
    assert_eq!(shown.body["binding"], json!({"by": "dpop", "thumbprint": owner.thumbprint()}));
    for (method, path) in [
        ("GET", path.clone()),
        ("POST", format!("{path}/renew")),
        ("POST", format!("{path}/revoke")),
        ("DELETE", path.clone()),
    ] {
        other.call(&house.broker, method, &path, "Bearer", &house.proof()).await.assert_refused(404, "not_found");
        house.broker.call(method, &path, Some(&house.proof()), None).await.assert_refused(404, "not_found");
    }
    let renewed = owner.call(&house.broker, "POST", &format!("{path}/renew"), "Bearer", &house.proof()).await;
    renewed.assert_refused(409, "cannot_extend");

    // Whether it works is told to its holder, with the key that it is bound to; to another key of the same run, nothing.
    let introspect = async |prover: &Prover| {
        let (path, proof) = ("/oauth2/introspect", house.proof());
        let shown = prover.proof(&house.broker, "POST", path, Some(&proof), &json!({})).await;
        let request = house.broker.client().post(house.broker.at(path)).bearer_auth(&proof).header("dpop", shown);
        request.form(&[("token", token)]).send().await.expect("an answer").json::<Value>().await.expect("JSON")
    };
    let told = introspect(&owner).await;
    assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("DPoP")), "{told}");
    assert_eq!(told["cnf"], json!({"jkt": owner.thumbprint()}));
    assert_eq!(introspect(&other).await, json!({"active": false}));

    // Whoever found the token cannot end it; its holder can, by the token and the key alone.
    let end = async |prover: Option<&Prover>| {
        let mut request = house.broker.client().post(house.broker.at("/oauth2/revoke")).form(&[("token", token)]);
        if let Some(prover) = prover {
            let shown = prover.proof(&house.broker, "POST", "/oauth2/revoke", None, &json!({})).await;
            request = request.header("dpop", shown);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default()["reason"].clone())
    };
    assert_eq!(end(None).await, (401, json!("pop_required")));
    assert_eq!(end(Some(&other)).await, (401, json!("pop_mismatch")));
    assert_eq!(house.broker.store().state(exchanged.grant_id()), "active");
    assert_eq!(end(Some(&owner)).await, (200, Value::Null));
    assert_ne!(house.broker.store().state(exchanged.grant_id()), "active");
}

#[tokio::test]
async fn without_a_key_nothing_is_bound() {
    let house = house().await;
    let exchanged = house.credential().await;
    assert_eq!(exchanged.text_of("token_type"), "Bearer");
    assert_eq!(claims(exchanged.credential()).get("cnf"), None);
    let path = format!("/v1/grants/{}", exchanged.grant_id());
    let shown = house.broker.call("GET", &path, Some(&house.proof()), None).await;
    assert_eq!((shown.status, shown.body.get("binding")), (200, None));
    let by_key = Prover::new().call(&house.broker, "DELETE", &path, "Bearer", &house.proof()).await;
    by_key.assert_refused(404, "not_found");
    let ended = house.broker.call("DELETE", &path, Some(&house.proof()), None).await;
    assert!((200..=202).contains(&ended.status), "{}", ended.text);
}

#[tokio::test]
async fn a_token_of_the_brokers_own_that_is_bound_is_used_with_its_key_and_as_what_it_is() {
    let house = house().await;
    let (owner, other) = (Prover::new(), Prover::new());
    let exchange = || Exchange::of(&house.proof()).role(SELF);
    let bound = owner.exchange(&house.broker, exchange()).await;
    let bearer = house.broker.exchange(&exchange()).await;
    let whoami = async |prover: &Prover, scheme: &str, token: &str| {
        prover.call(&house.broker, "GET", "/v1/whoami", scheme, token).await
    };
    let own = whoami(&owner, "DPoP", bound.credential()).await;
    own.assert_status(200);
    assert_eq!(own.body["binding"]["thumbprint"], json!(owner.thumbprint()));

    whoami(&other, "DPoP", bound.credential()).await.assert_refused(401, "pop_mismatch");
    let as_bearer = whoami(&owner, "Bearer", bound.credential()).await;
    as_bearer.assert_refused(401, "pop_required");
    assert!(as_bearer.header("www-authenticate").starts_with("DPoP "), "{:?}", as_bearer.header("www-authenticate"));
    house.broker.call("GET", "/v1/whoami", Some(bound.credential()), None).await.assert_refused(401, "pop_required");

    whoami(&owner, "DPoP", bearer.credential()).await.assert_refused(401, "pop_mismatch");
    whoami(&owner, "Bearer", bearer.credential()).await.assert_status(200);

    // A proof for one token is none for another, and none for a second request.
    let (a, b) = (bound.credential(), bearer.credential());
    let send = async |proof: &str, token: &str| {
        let request = house.broker.client().get(house.broker.at("/v1/whoami"));
        let request = request.header("authorization", format!("DPoP {token}")).header("dpop", proof);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default()["code"].clone())
    };
    let for_another = owner.proof(&house.broker, "GET", "/v1/whoami", Some(b), &json!({})).await;
    assert_eq!(send(&for_another, a).await, (401, json!("pop_invalid")));
    let proof = owner.proof(&house.broker, "GET", "/v1/whoami", Some(a), &json!({})).await;
    assert_eq!(send(&proof, a).await.0, 200);
    assert_eq!(send(&proof, a).await, (401, json!("pop_invalid")));
}

#[tokio::test]
async fn a_proof_that_its_issuer_bound_to_a_key_is_accepted_with_that_key_alone() {
    let house = house().await;
    let (owner, other) = (Prover::new(), Prover::new());
    let bound = |cnf: Value| {
        let mut claims = house.claims();
        claims["cnf"] = cnf;
        house.key.sign(&claims)
    };
    let jkt = || json!({"jkt": owner.thumbprint()});
    let refused = [
        (house.exchange(&bound(jkt())).await, "pop_required"),
        (other.exchange(&house.broker, Exchange::of(&bound(jkt()))).await, "pop_mismatch"),
        (
            owner.exchange(&house.broker, Exchange::of(&bound(json!({"x5t#S256": owner.thumbprint()})))).await,
            "pop_mismatch",
        ),
        (
            owner.exchange(&house.broker, Exchange::of(&bound(json!({"jkt": owner.thumbprint(), "x": 1})))).await,
            "pop_required",
        ),
        (owner.exchange(&house.broker, Exchange::of(&bound(json!({})))).await, "pop_required"),
    ];
    for (answer, reason) in &refused {
        house.assert_refused_for(answer, 400, "invalid_request", reason, 0);
    }
    let exchanged = owner.exchange(&house.broker, Exchange::of(&bound(jkt()))).await;
    assert_eq!(exchanged.text_of("token_type"), "DPoP");
    assert_eq!(claims(exchanged.credential())["cnf"], jkt());
    let path = format!("/v1/grants/{}", exchanged.grant_id());
    owner.call(&house.broker, "GET", &path, "DPoP", &bound(jkt())).await.assert_status(200);
    owner.call(&house.broker, "GET", &path, "Bearer", &bound(jkt())).await.assert_refused(401, "pop_required");
    other.call(&house.broker, "GET", &path, "DPoP", &bound(jkt())).await.assert_refused(401, "pop_mismatch");
}

#[tokio::test]
async fn policy_can_ask_for_a_key() {
    let text = "@id(\"bound\")\n@binding(\"dpop\")\npermit (principal is Workload, action == Action::\"mint\", resource == Role::\"app/deploy\");\n";
    let house = House::open_with(|setup| setup.policy("bound.cedar", text)).await;
    let unbound = house.exchange(&house.proof()).await;
    house.assert_refused_for(&unbound, 400, "invalid_target", "obligation_unmet", 0);
    assert!(unbound.text.contains("send a DPoP proof"), "{}", unbound.text);
    let foreseen = json!({"action": "mint", "role": ROLE, "purpose": "deploy build 4f2c to staging"});
    let foreseen = house.broker.call("POST", "/v1/decisions", Some(&house.proof()), Some(&foreseen)).await;
    assert_eq!(foreseen.text_of("reason"), "obligation_unmet", "{}", foreseen.text);
    let bound = Prover::new().exchange(&house.broker, Exchange::of(&house.proof())).await;
    bound.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_requests_with_one_proof_of_possession_one_is_answered() {
    let house = house().await;
    let prover = Prover::new();
    let token = prover.exchange(&house.broker, Exchange::of(&house.proof()).role(SELF)).await;
    let token = token.credential();
    let proof = prover.proof(&house.broker, "GET", "/v1/whoami", Some(token), &json!({})).await;
    let mut calls = Vec::new();
    for _ in 0..size(100, 1_000) {
        let request = house.broker.client().get(house.broker.at("/v1/whoami"));
        calls.push(request.header("authorization", format!("DPoP {token}")).header("dpop", &proof).send());
    }
    let mut statuses = BTreeMap::<u16, usize>::new();
    let calls: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
    for call in calls {
        let answer = call.await.expect("the call ends").expect("an answer");
        *statuses.entry(answer.status().as_u16()).or_default() += 1;
    }
    assert_eq!(statuses.get(&200), Some(&1), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmodified_oauth_client_gets_a_bound_token_and_uses_it() {
    let Some(provider) = Provider::start() else { return };
    let issuer = json!({
        "name": "ci", "kind": "oidc", "url": provider.url(), "audiences": [AUDIENCE],
        "algorithms": ["RS256"], "single_use": true, "leeway": "60s", "dangerous_allow_http": true,
    });
    let broker = Broker::start(&with_self(Setup::with_issuers(vec![issuer]))).await;
    for algorithm in ["ES256", "PS256", "RS256"] {
        let proof = provider.token(AUDIENCE).await;
        let Some(said) = third_party::possess(&broker.url(), SELF, algorithm, &proof) else { return };
        let token = said["answer"]["access_token"].as_str().unwrap_or_else(|| panic!("{algorithm}: {said}"));
        assert_eq!(said["answer"]["token_type"].as_str().map(str::to_lowercase).as_deref(), Some("dpop"), "{said}");
        assert_eq!(claims(token)["cnf"], json!({"jkt": said["thumbprint"]}), "{said}");
        assert_eq!((&said["own"], &said["other"], &said["bearer"]), (&json!(200), &json!(401), &json!(401)), "{said}");
    }
}

// CASE MTLS-007
#[tokio::test]
async fn what_came_in_early_data_and_does_something_is_to_be_sent_again() {
    let house = House::open().await;
    let early = Exchange::of(&house.proof()).header("early-data", "1");
    let answer = house.broker.exchange(&early).await;
    assert_eq!((answer.status, answer.text_of("reason")), (425, "too_early"), "{}", answer.text);
    assert_eq!(house.broker.store().grant_count(), 0);
    let read = house.broker.client().get(house.broker.at("/.well-known/jwks.json")).header("early-data", "1");
    assert_eq!(read.send().await.expect("an answer").status(), 200, "it may be read as often as anybody likes");
}
