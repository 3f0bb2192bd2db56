//! How the broker comes in, and how it stays in.

use std::sync::Arc;
use std::time::Duration;

use hallpass_broker::config::backend::vault::{Login, SecretSource};
use hallpass_core::port::{CredentialBackend as _, IssueError};
use hallpass_core::testing::MockClock;
use hallpass_core::time::{Clock, Ttl};
use hallpass_tests::openbao::OpenBao;
use serde_json::{Value, json};

use super::{INSTANCE, Lab, POLICY, backend, mint, settings};

/// What every auth role says of the sessions that it gives.
fn sessions() -> Value {
    json!({"token_policies": ["hallpass"], "token_no_default_policy": true, "token_ttl": "1h", "token_max_ttl": "2h"})
}

/// Has AppRole let the broker in, and gives its role id and secret id, each in a file.
async fn approle(server: &OpenBao, folder: &std::path::Path) -> Login {
    server.write("sys/policies/acl/hallpass", &json!({"policy": POLICY})).await;
    server.write("sys/auth/approle", &json!({"type": "approle"})).await;
    server.write("auth/approle/role/hallpass", &sessions()).await;
    let role_id = server.read("auth/approle/role/hallpass/role-id").await;
    let secret_id = server.write("auth/approle/role/hallpass/secret-id", &json!({})).await;
    let file = |name: &str, value: &Value| {
        let file = folder.join(name);
        std::fs::write(&file, value.as_str().unwrap()).unwrap();
        SecretSource::File(file)
    };
    Login::Approle {
        mount: "approle".to_owned(),
        role_id: file("role-id", &role_id["data"]["role_id"]),
        secret_id: file("secret-id", &secret_id["data"]["secret_id"]),
    }
}

/// The accessors of the sessions that AppRole gave, with when each was last renewed.
async fn sessions_at(server: &OpenBao) -> Vec<(String, Value)> {
    let mut sessions = Vec::new();
    for accessor in server.accessors().await {
        let seen = server.write("auth/token/lookup-accessor", &json!({"accessor": accessor})).await;
        if seen["data"]["path"] == "auth/approle/login" {
            sessions.push((accessor, seen["data"]["last_renewal_time"].clone()));
        }
    }
    sessions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approle_lets_the_broker_in_and_its_session_is_renewed_ahead_of_its_end() {
    let Some(lab) = Lab::open().await else { return };
    let login = approle(&lab.server, lab.folder.path()).await;
    let clock = Arc::new(MockClock::starting_at(lab.clock.now()));
    let settings = super::Vault { login, ..settings(&lab.server, "none".into(), "none".into()) };
    let backend = backend("vault", INSTANCE, settings, &(Arc::clone(&clock) as Arc<dyn Clock>));
    let parameters = json!({"policies": ["app"]});
    for n in 0..3 {
        mint(&backend, &lab.order(n, parameters.clone())).await.unwrap();
        backend.tend().await.unwrap();
    }
    let [(first, renewed)] = &sessions_at(&lab.server).await[..] else { panic!("one session serves all") };
    assert!(renewed.is_null(), "there is no need yet");

    clock.advance(Ttl::from_mins(41));
    backend.tend().await.unwrap();
    let [(second, renewed)] = &sessions_at(&lab.server).await[..] else { panic!("it is still one") };
    assert!(second == first && renewed.is_i64(), "two thirds of its hour are over");

    // The server lets nobody stay for longer than two hours: a renewal that gives little is no use.
    lab.server.write("sys/auth/approle/tune", &json!({"max_lease_ttl": "10m"})).await;
    clock.advance(Ttl::from_mins(41));
    backend.tend().await.unwrap();
    let found = sessions_at(&lab.server).await;
    assert!(!found.is_empty() && found.iter().any(|(accessor, _)| accessor != first), "a new one: {found:?}");
    mint(&backend, &super::order(9, parameters, clock.now(), Ttl::from_mins(10))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_is_told_without_its_secret_and_not_repeated_by_everybody() {
    let Some(lab) = Lab::open().await else { return };
    let login = approle(&lab.server, lab.folder.path()).await;
    std::fs::write(lab.folder.path().join("secret-id"), "5ecre75ecre75ecre7").unwrap();
    let backend = lab.another("vault", INSTANCE, |settings| settings.login = login);
    let order = lab.order(1, json!({"policies": ["app"]}));
    let failed = mint(&backend, &order).await.map(|_| ()).unwrap_err();
    let IssueError::Unavailable { internal } = &failed else { panic!("nothing was asked for yet: {failed}") };
    assert!(internal.contains("auth/approle/login") && !internal.contains("5ecre7"), "{internal}");
    std::fs::remove_file(lab.folder.path().join("secret-id")).unwrap();
    let again = hallpass_tests::eventually("the missing file is told", Duration::from_secs(10), async || {
        let failed = mint(&backend, &order).await.map(|_| ()).unwrap_err().to_string();
        failed.contains("secret-id").then_some(failed)
    });
    assert!(again.await.contains("No such file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_file_is_taken_as_it_is_at_the_time() {
    let Some(lab) = Lab::open().await else { return };
    let order = |n| lab.order(n, json!({"policies": ["app"]}));
    lab.mint(&order(1)).await.unwrap();
    // An agent has put another in its place, and let the first one end.
    let file = lab.folder.path().join("token");
    let first = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, lab.server.token("hallpass", POLICY).await).unwrap();
    lab.server.write("auth/token/revoke", &json!({"token": first})).await;
    lab.mint(&order(2)).await.unwrap();
}
