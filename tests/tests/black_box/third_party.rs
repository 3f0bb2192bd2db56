//! Software that is not ours at both ends.

use hallpass_tests::config::{AUDIENCE, RELEASE_ROLE, ROLE, Setup};
use hallpass_tests::third_party::{self, Provider};
use hallpass_tests::{Broker, Exchange};
use serde_json::json;

async fn house(provider: &Provider) -> Broker {
    let issuer = json!({
        "name": "ci", "kind": "oidc", "url": provider.url(), "audiences": [AUDIENCE], "algorithms": ["RS256"],
        "single_use": true, "leeway": "60s", "dangerous_allow_http": true,
    });
    Broker::start(&Setup::with_issuers(vec![issuer])).await
}

#[tokio::test]
async fn a_certified_providers_tokens_are_accepted_and_its_claims_decide() {
    let Some(provider) = Provider::start() else { return };
    let broker = house(&provider).await;
    let main = Exchange::of(&provider.token(AUDIENCE).await).role(RELEASE_ROLE);
    broker.exchange(&main).await.assert_status(200);
    provider.claims(&json!({"repository_id": "666"})).await;
    let other = Exchange::of(&provider.token(AUDIENCE).await).role(RELEASE_ROLE);
    broker.exchange(&other).await.assert_refused(400, "invalid_target");
    let elsewhere = Exchange::of(&provider.token("https://elsewhere.test").await);
    broker.exchange(&elsewhere).await.assert_refused(400, "invalid_request");
}

#[tokio::test]
async fn a_certified_provider_may_rotate_its_keys() {
    let Some(provider) = Provider::start() else { return };
    let broker = house(&provider).await;
    broker.exchange(&Exchange::of(&provider.token(AUDIENCE).await)).await.assert_status(200);
    provider.rotate().await;
    hallpass_tests::eventually("the new key is accepted", std::time::Duration::from_secs(30), async || {
        let answer = broker.exchange(&Exchange::of(&provider.token(AUDIENCE).await)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmodified_oauth_client_exchanges_a_token() {
    let Some(provider) = Provider::start() else { return };
    let broker = house(&provider).await;
    let proof = provider.token(AUDIENCE).await;
    let Some(answer) = third_party::exchange(&broker.url(), ROLE, "deploy build 4f2c to staging", &proof) else {
        return;
    };
    assert!(answer["access_token"].is_string(), "{answer}");
    assert!(answer["expires_in"].is_u64(), "{answer}");
    let again =
        third_party::exchange(&broker.url(), ROLE, "deploy build 4f2c to staging", &proof).expect("node is there");
    assert_eq!(again["error"], "invalid_request", "{again}");
}
