//! What every backend keeps, kept by this one on a real server.

use hallpass_core::port::CredentialBackend as _;
use hallpass_core::testing::backend_suite::{self, Minter};

use super::{Adapter, order, server, writer};

#[tokio::test]
async fn the_backend_keeps_what_every_backend_keeps() {
    let Some(server) = server().await else { return };
    let adapter = Adapter::of(&server);
    let minter = Minter {
        backend: &adapter.backend,
        order: Box::new(|n, issued_at, expires_at| order(n, writer(), issued_at, expires_at)),
        now: adapter.now,
    };
    backend_suite::all(&minter).await;

    // What the suite left behind is undone by what the inventory gives.
    for item in adapter.backend.inventory().await.expect("the server answers") {
        let handle = item.handle.expect("every one is ours");
        adapter.backend.revoke(&handle).await.expect("it is undone");
    }
    assert_eq!(server.roles("hp\\_%").await, Vec::<String>::new(), "nothing is left");
}
