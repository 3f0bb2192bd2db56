//! Microsoft Entra, by what its documentation records: nobody calls it from here.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::backend::azure::AzureBackend;
use hallpass_broker::config::backend::azure::Azure;
use hallpass_core::credential::{CredentialMaterial, IssueOrder};
use hallpass_core::port::{CredentialBackend, IssueError, SignatureAlgorithm, Undone};
use hallpass_core::testing::{backend_suite, sample};
use hallpass_core::time::Ttl;
use hallpass_tests::contract::{Contract, Texts, Turn};
use serde_json::{Value, json};

use crate::clouds::{self, kind_of};

struct Lab {
    contract: Contract,
    /// How long the tokens live that are made, in seconds.
    lives: Arc<Mutex<u64>>,
    backend: AzureBackend,
}

fn parameters() -> Value {
    json!({"client_id": "00001111-aaaa-2222-bbbb-3333cccc4444", "scope": "https://graph.microsoft.com/.default"})
}

impl Lab {
    async fn open() -> Self {
        let lives = Arc::new(Mutex::new(75 * 60));
        let (life, made) = (Arc::clone(&lives), Mutex::new(0));
        let answer = move |exchange: &str, texts: &mut Texts| {
            let mut made = made.lock().unwrap();
            *made += 1;
            texts.insert("seconds".to_owned(), life.lock().unwrap().to_string());
            texts.insert("token".to_owned(), format!("eyJ0eXAiOiJKV1Qi.opaque.{made}"));
            Turn::Response(exchange.to_owned())
        };
        let contract = Contract::start("azure", answer).await;
        let clock = clouds::clock();
        let settings = Azure {
            tenant: "11112222-aaaa-3333-bbbb-4444cccc5555".to_owned(),
            authority: contract.origin.parse().unwrap(),
            audience: "api://AzureADTokenExchange".to_owned(),
            algorithm: SignatureAlgorithm::Es256,
            token_life: Ttl::from_mins(90),
            ca_file: Some(contract.authorities()),
            timeout: Ttl::from_secs(5),
        };
        let (outbound, identity) = (clouds::outbound(&contract), clouds::identity("azure", &clock));
        let backend = AzureBackend::new(clouds::name("azure"), settings, outbound, identity, clock);
        Self { contract, lives, backend }
    }
}

/// For as long as a role of such a backend gives.
fn order(n: u64) -> IssueOrder {
    clouds::order(n, parameters(), Ttl::from_secs(90 * 60 + 10))
}

#[tokio::test]
async fn it_keeps_what_every_backend_keeps() {
    let lab = Lab::open().await;
    let order: backend_suite::Order<'_> =
        Box::new(|n, issued_at, expires_at| clouds::lasting(n, parameters(), issued_at, expires_at));
    backend_suite::all(&backend_suite::Minter { backend: &lab.backend, order, now: sample::NOW }).await;
}

#[tokio::test]
async fn a_token_is_given_for_the_brokers_own_and_lives_for_as_long_as_entra_says() {
    let lab = Lab::open().await;
    let (issued, handle) = clouds::mint(&lab.backend, &order(1)).await.unwrap();
    let CredentialMaterial::Azure { access_token } = issued.material else { panic!("of kind azure") };
    assert!(access_token.expose().ends_with(".1"));
    assert_eq!(issued.expires_at, sample::NOW.plus(Ttl::from_mins(75)));
    let asked = lab.contract.asked();
    let claims = URL_SAFE_NO_PAD.decode(asked[0].1["own"].split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], "api://AzureADTokenExchange");
    assert_eq!(
        (claims["iss"].as_str(), claims["sub"].as_str()),
        (Some(clouds::INSTANCE), Some("hallpass:broker:azure"))
    );
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::OnlyTime), "nothing takes it back");
    assert_eq!(lab.contract.asked().len(), 1);
}

#[tokio::test]
async fn a_grant_gets_a_whole_token_or_none() {
    let lab = Lab::open().await;
    let role = clouds::role(parameters());
    assert_eq!(lab.backend.min_life(&role), Ttl::from_secs(90 * 60 + 10));
    assert_eq!(lab.backend.max_life(&role), Some(Ttl::from_secs(90 * 60 + 10)));
    let short = clouds::order(1, parameters(), Ttl::from_mins(89));
    let failed = clouds::mint(&lab.backend, &short).await.unwrap_err();
    assert!(matches!(&failed, IssueError::Refused { detail, .. } if detail.contains("90m")), "{failed}");
    assert!(lab.contract.asked().is_empty());
    // A tenant whose tokens live for longer than was said: it is told as it is, and so it is not handed out.
    *lab.lives.lock().unwrap() = 24 * 3600;
    let (issued, _) = clouds::mint(&lab.backend, &order(2)).await.unwrap();
    assert!(issued.expires_at > order(2).expires_at, "{}", issued.expires_at);
}

#[tokio::test]
async fn every_documented_error_means_what_it_says_with_its_code() {
    let lab = Lab::open().await;
    let says = |name: &str| match name.trim_start_matches("token-") {
        "700016" => "is not in the tenant (AADSTS700016)",
        "7000112" => "disabled",
        "70021" | "700211" | "700212" | "700213" => "no federated credential",
        "50027" | "700024" => "cannot verify the broker's token",
        "90002" => "no such tenant",
        "50196" => "too often",
        "500011" => "the resource that the role's scope names",
        "70011" | "1002012" => "the role's scope is none",
        "53003" => "conditional access",
        "16000" => "gives no token to the role's application (AADSTS16000)",
        "90033" | "90012" | "429" => "unavailable",
        _ => "unknown",
    };
    let mut tried = 0;
    for error in lab.contract.errors_of("token") {
        lab.contract.next("token", &error);
        let failed = clouds::mint(&lab.backend, &order(tried)).await.unwrap_err();
        let says = says(&error);
        match &failed {
            IssueError::Refused { detail, .. } => {
                assert!(detail.contains(says), "{error}: {detail}");
                assert!(!detail.contains("Trace ID"), "{error}: {detail}");
                clouds::told_apart(&failed, &lab.contract.recorded(&error));
            }
            _ => assert_eq!(kind_of(&failed), says, "{error}: {failed}"),
        }
        tried += 1;
    }
    assert_eq!(tried, 20, "as many as are recorded");
    lab.contract.lose("token");
    assert_eq!(kind_of(&clouds::mint(&lab.backend, &order(1)).await.unwrap_err()), "unknown");
}

#[tokio::test]
async fn a_token_shows_nowhere_but_in_its_credential() {
    let lab = Lab::open().await;
    lab.contract.next("token", "token-without-life");
    let failed = clouds::mint(&lab.backend, &order(1)).await.unwrap_err();
    assert!(lab.contract.recorded("token-without-life").contains("canary"));
    assert!(!format!("{failed} {failed:?} {:?}", lab.backend).contains("canary"), "{failed:?}");
}

#[tokio::test]
async fn what_a_role_gets_wrong_is_named() {
    let lab = Lab::open().await;
    for (key, value) in [
        ("client_id", json!("my-app")),
        ("client_id", json!("{00001111-aaaa-2222-bbbb-3333cccc4444}")),
        ("scope", json!("https://graph.microsoft.com/User.Read")),
        ("scope", json!("https://graph.microsoft.com/.default https://vault.azure.net/.default")),
    ] {
        let mut parameters = parameters();
        parameters[key] = value.clone();
        let refused = lab.backend.validate(&clouds::role(parameters)).unwrap_err();
        assert_eq!(refused.key, key, "{value}: {refused}");
    }
    lab.backend.validate(&clouds::role(parameters())).unwrap();
}
