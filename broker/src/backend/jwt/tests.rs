use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::id::GrantId;
use hallpass_core::owner::OwnerSnapshot;
use hallpass_core::port::Signer;
use hallpass_core::testing::backend_suite::{self, Minter};
use hallpass_core::testing::sample;
use hallpass_core::testing::sample::NOW;
use proptest::prelude::*;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use serde_json::json;

use super::*;
use crate::keys::{LocalSigner, OwnTokens};

const URL: &str = "https://broker.test";

fn signer(algorithm: SignatureAlgorithm) -> Arc<dyn Signer> {
    Arc::new(LocalSigner::from_pkcs8(algorithm, &LocalSigner::generate(algorithm).unwrap()).unwrap())
}

fn signers() -> Vec<Arc<dyn Signer>> {
    vec![signer(SignatureAlgorithm::Es256), signer(SignatureAlgorithm::EdDsa)]
}

fn backend(signers: Vec<Arc<dyn Signer>>) -> JwtBackend {
    let reserved = vec!["https://vault.example".to_owned()];
    JwtBackend::new(BackendName::new("tokens").unwrap(), SignatureAlgorithm::Es256, URL, reserved, Arc::new(signers))
}

fn role(parameters: serde_json::Value) -> Role {
    Role { parameters, ..sample::role("payments/prod/deploy") }
}

fn order(role: Role, issued_at: Timestamp, expires_at: Timestamp) -> IssueOrder {
    IssueOrder {
        grant: sample::id(7),
        role: Arc::new(role),
        owner: OwnerSnapshot::from(&sample::owner()),
        issuer: "ci".to_owned(),
        subject: "repo:acme/app".to_owned(),
        actors: hallpass_core::delegation::ActorChain::default(),
        attributes: Default::default(),
        provenance: sample::provenance(),
        plan_digest: None,
        purpose: "deploy \"4f2c\" to prod".to_owned(),
        scope: Vec::new(),
        csr: None,
        status_index: 42,
        issued_at,
        expires_at,
        binding_key: None,
    }
}

fn ten_minutes(parameters: serde_json::Value) -> IssueOrder {
    order(role(parameters), NOW, NOW.plus(Ttl::from_mins(10)))
}

async fn mint(backend: &JwtBackend, order: &IssueOrder) -> (String, Timestamp) {
    let handle = backend.plan(order).unwrap();
    let issued = backend.issue(order, &handle).await.unwrap();
    let CredentialMaterial::Jwt { token } = &issued.material else { panic!("a token") };
    (token.expose().to_owned(), issued.expires_at)
}

fn part(token: &str, n: usize) -> serde_json::Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_token_says_who_why_whose_until_when_and_where_to_ask() {
    let signers = signers();
    let kid = signers[0].key_id().to_owned();
    let backend = backend(signers);
    let (token, expires_at) = mint(&backend, &ten_minutes(json!({"audience": "https://api.example"}))).await;
    assert_eq!(part(&token, 0), json!({"typ": "at+jwt", "alg": "ES256", "kid": kid}));
    let id = sample::id::<GrantId>(7);
    assert_eq!(
        part(&token, 1),
        json!({
            "iss": URL, "sub": "ci:repo:acme/app", "client_id": "ci:repo:acme/app", "aud": "https://api.example",
            "exp": NOW.as_secs() + 600, "iat": NOW.as_secs(), "jti": id, "grant_id": id,
            "role": "payments/prod/deploy", "owner": "payments", "purpose": "deploy \"4f2c\" to prod",
            "repository": "acme/app", "repository_id": "222",
            "commit": "6dcb09b5b57875f334f61aebed695e2e4193db5e", "run": "4242",
            "status": {"status_list": {"idx": 42, "uri": "https://broker.test/status-lists/0"}},
        })
    );
    assert_eq!(expires_at, NOW.plus(Ttl::from_mins(10)));
}

#[tokio::test]
async fn a_token_verifies_under_the_published_key_of_its_algorithm_and_reads_back_as_our_own() {
    let signers = signers();
    let own = OwnTokens::new(URL, signers.iter().map(|signer| &**signer));
    for (algorithm, signer) in [("ES256", &signers[0]), ("EdDSA", &signers[1])] {
        let order =
            ten_minutes(json!({"audience": ["https://a.example", "https://b.example"], "algorithm": algorithm}));
        let (token, expires_at) = mint(&backend(signers.clone()), &order).await;
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verifier: &'static dyn ring::signature::VerificationAlgorithm =
            if algorithm == "ES256" { &ECDSA_P256_SHA256_FIXED } else { &ED25519 };
        UnparsedPublicKey::new(verifier, signer.public_key()).verify(message.as_bytes(), &signature).unwrap();
        let read = own.read(&token).unwrap();
        assert_eq!(read.grant, order.grant);
        assert_eq!(read.audiences, ["https://a.example", "https://b.example"]);
        assert_eq!(read.expires_at, expires_at);
        assert_eq!(read.key_id, signer.key_id());
    }
}

#[tokio::test]
async fn a_role_bounds_the_scope_and_the_caller_narrows_it() {
    let backend = backend(signers());
    let mut order = ten_minutes(json!({"audience": "https://api.example", "scope": ["read", "deploy"]}));
    assert_eq!(part(&mint(&backend, &order).await.0, 1)["scope"], "read deploy");
    order.scope = vec!["deploy".to_owned(), "deploy".to_owned()];
    assert_eq!(part(&mint(&backend, &order).await.0, 1)["scope"], "deploy");
    order.scope = vec!["read".to_owned(), "admin".to_owned()];
    let refused = backend.plan(&order).unwrap_err();
    assert!(matches!(refused, IssueError::Refused { parameter: Some("scope"), .. }), "{refused}");
    let handle = sample::handle(7);
    assert!(matches!(backend.issue(&order, &handle).await, Err(IssueError::Refused { .. })));
    let mut order = ten_minutes(json!({"audience": "https://api.example"}));
    assert!(part(&mint(&backend, &order).await.0, 1).get("scope").is_none());
    order.scope = vec!["read".to_owned()];
    assert!(matches!(backend.plan(&order), Err(IssueError::Refused { parameter: Some("scope"), .. })));
}

#[tokio::test]
async fn a_certificate_request_is_refused_and_not_ignored() {
    let mut order = ten_minutes(json!({"audience": "https://api.example"}));
    order.csr = Some("-----BEGIN CERTIFICATE REQUEST-----".to_owned());
    let refused = backend(signers()).plan(&order).unwrap_err();
    assert!(matches!(refused, IssueError::Refused { parameter: Some("csr"), .. }), "{refused}");
}

#[tokio::test]
async fn static_claims_travel_and_speak_of_nothing_that_is_ours() {
    let backend = backend(signers());
    let parameters = json!({"audience": "https://api.example", "claims": {"team": "payments", "levels": [1, 2]}});
    backend.validate(&role(parameters.clone())).unwrap();
    let claims = part(&mint(&backend, &ten_minutes(parameters)).await.0, 1);
    assert_eq!(claims["team"], "payments");
    assert_eq!(claims["levels"], json!([1, 2]));
    assert_eq!(claims["sub"], "ci:repo:acme/app");
    for claim in claims.as_object().unwrap().keys().filter(|name| !["team", "levels"].contains(&name.as_str())) {
        let parameters = json!({"audience": "https://api.example", "claims": {claim: "x"}});
        let refused = backend.validate(&role(parameters)).unwrap_err();
        assert_eq!(refused.key, format!("claims.{claim}"));
    }
}

#[test]
fn a_role_that_the_backend_cannot_honour_is_refused_at_load_by_key() {
    let backend = backend(signers());
    for good in [
        json!({"audience": "https://api.example"}),
        json!({"audience": ["a", "b"], "scope": ["read"], "algorithm": "EdDSA"}),
        json!({"audience": URL, "dangerous_broker_audience": true}),
        json!({"audience": "https://vault.example", "dangerous_broker_audience": true}),
    ] {
        backend.validate(&role(good.clone())).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    let many: Vec<_> = (0..9).map(|n| format!("a{n}")).collect();
    for (bad, key) in [
        (json!(null), "jwt"),
        (json!({}), "audience"),
        (json!({"audience": 7}), "audience"),
        (json!({"audience": ""}), "audience"),
        (json!({"audience": []}), "audience"),
        (json!({"audience": ["a", "a"]}), "audience"),
        (json!({"audience": ["a", 7]}), "audience"),
        (json!({"audience": many}), "audience"),
        (json!({"audience": "with space"}), "audience"),
        (json!({"audience": "a".repeat(256)}), "audience"),
        (json!({"audience": URL}), "audience"),
        (json!({"audience": "HTTPS://broker.test/"}), "audience"),
        (json!({"audience": "https://vault.example"}), "audience"),
        (json!({"audience": ["https://api.example", URL]}), "audience"),
        (json!({"audience": ["https://api.example", URL], "dangerous_broker_audience": true}), "audience"),
        (json!({"audience": "a", "dangerous_broker_audience": true}), "dangerous_broker_audience"),
        (json!({"audience": URL, "dangerous_broker_audience": "yes"}), "dangerous_broker_audience"),
        (json!({"audience": "a", "audiences": "b"}), "audiences"),
        (json!({"audience": "a", "sub": "x"}), "sub"),
        (json!({"audience": "a", "scope": "read deploy"}), "scope"),
        (json!({"audience": "a", "scope": ["read deploy"]}), "scope"),
        (json!({"audience": "a", "scope": ["a\"b"]}), "scope"),
        (json!({"audience": "a", "scope": [""]}), "scope"),
        (json!({"audience": "a", "algorithm": "none"}), "algorithm"),
        (json!({"audience": "a", "algorithm": "RS256"}), "algorithm"),
        (json!({"audience": "a", "algorithm": "HS256"}), "algorithm"),
        (json!({"audience": "a", "claims": []}), "claims"),
        (json!({"audience": "a", "claims": {"x": "y".repeat(5_000)}}), "claims"),
        (json!({"audience": "a", "claims": {"act": {}}}), "claims.act"),
        (json!({"audience": "a", "claims": {"plan_digest": "sha256:5"}}), "claims.plan_digest"),
        (json!({"audience": "a", "claims": {"cnf": {}}}), "claims.cnf"),
    ] {
        let refused = backend.validate(&role(bad.clone())).expect_err(&bad.to_string());
        assert_eq!(refused.key, key, "{bad}: {refused}");
    }
}

#[test]
fn no_two_subjects_share_a_sub() {
    let long = "x".repeat(200);
    let digested = claims::subject("ci", &long);
    assert!(digested.starts_with("ci:sha256:"));
    assert!(claims::subject(&"i".repeat(64), &long).len() <= 127);
    assert_eq!(claims::subject("ci", &"x".repeat(124)).len(), 127);
    assert!(claims::subject("ci", &"x".repeat(125)).starts_with("ci:sha256:"));
    let forged = digested.strip_prefix("ci:").unwrap();
    assert_ne!(claims::subject("ci", forged), digested, "a subject that reads like a digest");
}

#[tokio::test]
async fn a_token_without_a_whole_second_is_refused() {
    let backend = backend(signers());
    let parameters = json!({"audience": "https://api.example"});
    let at = |millis: i64| Timestamp::from_millis(NOW.as_millis() + millis);
    let order = order(role(parameters), at(100), at(999));
    let refused = backend.issue(&order, &sample::handle(7)).await.unwrap_err();
    assert!(matches!(refused, IssueError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn without_a_key_of_the_algorithm_nothing_is_signed() {
    let backend = backend(vec![signer(SignatureAlgorithm::Es256)]);
    let order = ten_minutes(json!({"audience": "https://api.example", "algorithm": "EdDSA"}));
    let refused = backend.issue(&order, &sample::handle(7)).await.unwrap_err();
    assert!(matches!(&refused, IssueError::Suspended { detail, .. } if detail.contains("no EdDSA key")), "{refused}");
}

#[tokio::test]
async fn neither_backend_nor_credential_prints_a_token() {
    let backend = backend(signers());
    let order = ten_minutes(json!({"audience": "https://api.example"}));
    let handle = backend.plan(&order).unwrap();
    let issued = backend.issue(&order, &handle).await.unwrap();
    assert!(format!("{issued:?} {handle:?} {backend:?}").find("eyJ").is_none());
    assert_eq!(
        backend.plan(&order).unwrap().0.expose(),
        format!(r#"{{"kind":"jwt","jti":"{}"}}"#, order.grant).as_bytes()
    );
}

#[tokio::test]
async fn what_every_backend_keeps() {
    let backend = backend(signers());
    let order: backend_suite::Order<'_> = Box::new(|n, issued_at, expires_at| IssueOrder {
        grant: sample::id(n),
        ..order(role(json!({"audience": "https://api.example"})), issued_at, expires_at)
    });
    backend_suite::all(&Minter { backend: &backend, order, now: NOW }).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_token_never_outlives_its_order(issued in 0_i64..4_000_000_000_000, life in 1_i64..90_000_000) {
        let backend = backend(vec![signer(SignatureAlgorithm::EdDsa)]);
        let parameters = json!({"audience": "https://api.example", "algorithm": "EdDSA"});
        let order =
            order(role(parameters), Timestamp::from_millis(issued), Timestamp::from_millis(issued + life));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(backend.issue(&order, &sample::handle(7))) {
            Ok(credential) => {
                let CredentialMaterial::Jwt { token } = &credential.material else { panic!("a token") };
                let claims = part(token.expose(), 1);
                prop_assert!(credential.expires_at <= order.expires_at);
                prop_assert_eq!(claims["exp"].as_i64(), Some(credential.expires_at.as_secs()));
                prop_assert!(claims["iat"].as_i64().unwrap() * 1000 <= issued);
            }
            Err(refused) => prop_assert!(life < 1000, "{}", refused),
        }
    }
}

#[tokio::test]
#[ignore = "a measurement: run it by name, in a release build"]
#[expect(clippy::disallowed_methods, reason = "a measurement needs the machine's own time")]
async fn measure_minting() {
    let backend = backend(signers());
    let order = ten_minutes(json!({"audience": "https://api.example", "scope": ["read"]}));
    let handle = backend.plan(&order).unwrap();
    const ROUNDS: u32 = 5_000;
    let start = std::time::Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(backend.issue(&order, &handle).await.unwrap());
    }
    let each: Duration = start.elapsed() / ROUNDS;
    println!("minting an ES256 token: {each:?}");
}
