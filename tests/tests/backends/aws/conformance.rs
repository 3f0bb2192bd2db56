//! What every backend keeps, by sessions that AWS's rules are applied to.

use hallpass_core::credential::IssueOrder;
use hallpass_core::testing::backend_suite::{self, Minter};
use hallpass_core::testing::sample;

use super::lab::Lab;

#[tokio::test]
async fn a_backend_of_aws_keeps_what_every_backend_keeps() {
    let Some(lab) = Lab::open().await else { return };
    run(&lab).await;
}

#[tokio::test]
async fn so_does_one_that_fences_nothing() {
    let Some(lab) = Lab::open_with(|settings, _| settings.fence = None, &std::collections::HashMap::new()).await else {
        return;
    };
    run(&lab).await;
}

async fn run(lab: &Lab) {
    let order = |n, issued_at, expires_at| IssueOrder { issued_at, expires_at, ..sample::order(n, lab.role.clone()) };
    let minter = Minter { backend: &lab.backend, order: Box::new(order), now: lab.clock.now() };
    backend_suite::all(&minter).await;
}
