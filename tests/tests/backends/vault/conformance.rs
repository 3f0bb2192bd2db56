//! What every backend keeps, for each kind of credential.

use hallpass_core::testing::backend_suite::{self, Minter};
use serde_json::{Value, json};

use super::databases::Databases;
use super::{Lab, engines, order};

async fn run(lab: &Lab, parameters: Value, csr: Option<String>) {
    let now = lab.clock.now();
    let order = move |n, issued_at, expires_at| {
        let ordered = order(n, parameters.clone(), issued_at, hallpass_core::time::Ttl::ZERO);
        hallpass_core::credential::IssueOrder { expires_at, csr: csr.clone(), ..ordered }
    };
    backend_suite::all(&Minter { backend: &lab.backend, order: Box::new(order), now }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_keep_what_every_backend_does() {
    let Some(lab) = Lab::open().await else { return };
    run(&lab, json!({"policies": ["app"]}), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_users_keep_what_every_backend_does() {
    let Some(databases) = Databases::open().await else { return };
    run(&databases.lab, databases.parameters(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_keep_what_every_backend_does() {
    let Some(lab) = Lab::open().await else { return };
    engines::pki(&lab.server).await;
    run(&lab, engines::pki_parameters(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_certificates_keep_what_every_backend_does() {
    let Some(lab) = Lab::open().await else { return };
    engines::ssh(&lab.server).await;
    run(&lab, json!({"policies": ["ssh"], "path": "ssh/sign/deploy"}), Some(engines::PUBLIC_KEY.to_owned())).await;
}
