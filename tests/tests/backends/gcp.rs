//! Google Cloud, by what its documentation records: nobody calls it from here.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_broker::backend::gcp::GcpBackend;
use hallpass_broker::config::backend::gcp::Gcp;
use hallpass_core::credential::{CredentialMaterial, IssueOrder};
use hallpass_core::port::{CredentialBackend, IssueError, SignatureAlgorithm, Undone};
use hallpass_core::testing::{MockClock, backend_suite, sample};
use hallpass_core::time::{Clock, Timestamp, Ttl};
use hallpass_tests::contract::{Contract, Texts, Turn};
use serde_json::{Value, json};

use crate::clouds::{self, kind_of};

const PROVIDER: &str = "projects/123456789012/locations/global/workloadIdentityPools/hallpass/providers/broker";

struct Lab {
    contract: Contract,
    clock: Arc<MockClock>,
    backend: GcpBackend,
}

fn parameters() -> Value {
    json!({"service_account": "deployer@my-project.iam.gserviceaccount.com"})
}

fn bounded() -> Value {
    let mut parameters = parameters();
    parameters["boundary"] = json!([{
        "resource": "//storage.googleapis.com/projects/_/buckets/example-bucket",
        "permissions": ["inRole:roles/storage.objectViewer"],
        "condition": "resource.name.startsWith('projects/_/buckets/example-bucket/objects/customer-a')",
    }]);
    parameters
}

impl Lab {
    async fn open() -> Self {
        let clock = clouds::clock();
        let (now, made) = (Arc::clone(&clock), Mutex::new(0));
        let answer = move |exchange: &str, texts: &mut Texts| {
            let mut made = made.lock().unwrap();
            *made += 1;
            match exchange {
                "session" => drop(texts.insert("session".to_owned(), format!("ya29.d.session-{made}"))),
                "access-token" => {
                    let ends_at = now.now().as_secs() + texts["seconds"].parse::<i64>().unwrap();
                    texts.insert("token".to_owned(), format!("ya29.c.token-{made}"));
                    texts.insert("expires_at".to_owned(), Timestamp::from_secs(ends_at).to_rfc3339());
                }
                _ => drop(texts.insert("bounded".to_owned(), format!("ya29.dr.bounded-{made}"))),
            }
            Turn::Response(exchange.to_owned())
        };
        let contract = Contract::start("gcp", answer).await;
        let settings = Gcp {
            provider: PROVIDER.to_owned(),
            universe_domain: "googleapis.com".to_owned(),
            audience: format!("https://iam.googleapis.com/{PROVIDER}"),
            algorithm: SignatureAlgorithm::Es256,
            max_life: Ttl::from_hours(1),
            sts_url: contract.origin.parse().unwrap(),
            iam_credentials_url: contract.origin.parse().unwrap(),
            ca_file: Some(contract.authorities()),
            timeout: Ttl::from_secs(5),
        };
        let (outbound, identity) = (clouds::outbound(&contract), clouds::identity("gcp", &clock));
        let backend = GcpBackend::new(clouds::name("gcp"), settings, outbound, identity, Arc::clone(&clock) as _);
        Self { contract, clock, backend }
    }

    fn order(&self, n: u64) -> IssueOrder {
        let now = self.clock.now();
        clouds::lasting(n, parameters(), now, now.plus(Ttl::from_mins(10)))
    }
}

#[tokio::test]
async fn it_keeps_what_every_backend_keeps() {
    for parameters in [parameters(), bounded()] {
        let lab = Lab::open().await;
        let order: backend_suite::Order<'_> =
            Box::new(move |n, issued_at, expires_at| clouds::lasting(n, parameters.clone(), issued_at, expires_at));
        backend_suite::all(&backend_suite::Minter { backend: &lab.backend, order, now: sample::NOW }).await;
    }
}

#[tokio::test]
async fn a_token_is_made_by_no_key_and_for_what_is_left_of_the_grant() {
    let lab = Lab::open().await;
    let order = lab.order(1);
    let (issued, handle) = clouds::mint(&lab.backend, &order).await.unwrap();
    let CredentialMaterial::Gcp { access_token } = issued.material else { panic!("of kind gcp") };
    assert_eq!(access_token.expose(), "ya29.c.token-2");
    assert_eq!(issued.expires_at, sample::NOW.plus(Ttl::from_secs(597)), "less what the calls may take");
    let asked = lab.contract.asked();
    let claims = URL_SAFE_NO_PAD.decode(asked[0].1["own"].split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], format!("https://iam.googleapis.com/{PROVIDER}"));
    assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some(clouds::INSTANCE), Some("hallpass:broker:gcp")));
    assert_eq!(asked[1].1["session"], "ya29.d.session-1");
    assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::OnlyTime), "nothing takes it back");
    assert_eq!(lab.contract.asked().len(), 2);
}

#[tokio::test]
async fn a_boundary_is_put_around_the_token_and_the_first_one_does_not_leave() {
    let lab = Lab::open().await;
    let order = clouds::order(1, bounded(), Ttl::from_mins(10));
    let (issued, _) = clouds::mint(&lab.backend, &order).await.unwrap();
    let CredentialMaterial::Gcp { access_token } = issued.material else { panic!("of kind gcp") };
    assert_eq!(access_token.expose(), "ya29.dr.bounded-3");
    assert_eq!(lab.contract.asked()[2].1["token"], "ya29.c.token-2");
    assert_eq!(issued.expires_at, sample::NOW.plus(Ttl::from_secs(597)));
}

#[tokio::test]
async fn the_brokers_session_is_used_again_and_renewed_ahead_of_its_end() {
    let lab = Lab::open().await;
    lab.backend.tend().await.unwrap();
    assert!(lab.contract.asked().is_empty(), "nobody needed it yet");
    for n in 1..4 {
        clouds::mint(&lab.backend, &lab.order(n)).await.unwrap();
    }
    assert_eq!(lab.contract.times("session"), 1);
    lab.clock.advance(Ttl::from_mins(50));
    lab.backend.tend().await.unwrap();
    assert_eq!(lab.contract.times("session"), 2, "before anybody has to wait for it");
    lab.clock.advance(Ttl::from_mins(57));
    clouds::mint(&lab.backend, &lab.order(4)).await.unwrap();
    assert_eq!(lab.contract.times("session"), 3);
    lab.contract.next("access-token", "access-token-401");
    clouds::mint(&lab.backend, &lab.order(5)).await.unwrap_err();
    clouds::mint(&lab.backend, &lab.order(6)).await.unwrap();
    assert_eq!(lab.contract.times("session"), 4, "one that is not taken is made anew");
}

#[tokio::test]
async fn every_documented_error_means_what_it_says() {
    let says = |name: &str| match name {
        "session-invalid-grant" | "session-invalid-audience" => "does not take the broker's token: it cannot",
        "session-invalid-target" => "is not there, or disabled",
        "session-unauthorized-client" => "attribute condition",
        "session-invalid-request" => "Security Token Service does not take",
        "access-token-400" => "so long a life",
        "access-token-401" => "does not take the broker's session",
        "access-token-403" => "Workload Identity User",
        "access-token-404" => "service account is not there",
        "session-408" | "session-429" | "session-503" | "access-token-429" => "unavailable",
        _ => "unknown",
    };
    let mut tried = 0;
    for exchange in ["session", "access-token", "boundary"] {
        let errors = Lab::open().await.contract.errors_of(exchange);
        for error in errors {
            let lab = Lab::open().await;
            lab.contract.next(exchange, &error);
            let order = clouds::order(1, bounded(), Ttl::from_mins(10));
            let failed = clouds::mint(&lab.backend, &order).await.unwrap_err();
            let says = says(&error);
            match &failed {
                IssueError::Refused { detail, .. } => {
                    assert!(detail.contains(says), "{error}: {detail}");
                    clouds::told_apart(&failed, &lab.contract.recorded(&error));
                }
                _ => assert_eq!(kind_of(&failed), says, "{error}: {failed}"),
            }
            assert!(!failed.to_string().contains("ya29"), "{error}: {failed}");
            tried += 1;
        }
    }
    assert_eq!(tried, 20, "as many as are recorded");
}

#[tokio::test]
async fn a_lost_answer_is_unknown_only_where_a_credential_can_have_been_made() {
    for (exchange, kind) in [("session", "unavailable"), ("access-token", "unknown"), ("boundary", "unknown")] {
        let lab = Lab::open().await;
        lab.contract.lose(exchange);
        let failed = clouds::mint(&lab.backend, &clouds::order(1, bounded(), Ttl::from_mins(10))).await.unwrap_err();
        assert_eq!(kind_of(&failed), kind, "{exchange}: {failed}");
    }
}

#[tokio::test]
async fn what_a_role_gets_wrong_is_named() {
    let lab = Lab::open().await;
    let with = |key: &str, value: Value| {
        let mut parameters = parameters();
        parameters[key] = value;
        lab.backend.validate(&clouds::role(parameters)).unwrap_err()
    };
    let rule = json!({"resource": "//storage.googleapis.com/projects/_/buckets/b", "permissions": ["inRole:roles/x"]});
    let (mut typo, mut no_role, mut long) = (rule.clone(), rule.clone(), rule.clone());
    typo["conditions"] = json!("true");
    no_role["permissions"] = json!(["storage.objects.get"]);
    long["condition"] = json!("x".repeat(2048));
    for (key, value) in [
        ("service_account", json!("deployer")),
        ("service_account", json!("a@b.c/../d")),
        ("scopes", json!([])),
        ("scopes", json!(["cloud-platform"])),
        ("boundary", json!([])),
        ("boundary", json!([typo])),
        ("boundary", json!([no_role])),
        ("boundary", json!([long])),
        ("boundary", json!(vec![rule; 11])),
    ] {
        let refused = with(key, value.clone());
        assert_eq!(refused.key, key, "{value}: {refused}");
    }
    for good in [parameters(), bounded()] {
        lab.backend.validate(&clouds::role(good)).unwrap();
    }
}
