//! Exchanges a proof for a token, uses it while the grant is kept alive, and gives it back.
//!
//! ```text
//! HALLPASS_URL=https://hallpass.example HALLPASS_ROLE=payments/prod/deploy cargo run --bin exchange
//! ```
//!
//! The proof is found by itself: `HALLPASS_PROOF`, `HALLPASS_PROOF_FILE`, GitHub Actions, GitLab, Kubernetes, Buildkite.
//! `HALLPASS_CA` may name a file of certificates to trust beside the public ones.

use anyhow::{Context as _, bail, ensure};
use hallpass_sdk::Client;
use hallpass_sdk::client::{Heartbeat, Lease};
use hallpass_sdk::wire::{CreateGrant, Credential, Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = client()?;
    let role = std::env::var("HALLPASS_ROLE").context("HALLPASS_ROLE names the role, such as payments/prod/deploy")?;
    let wanted = CreateGrant::new(role, "show how a proof is exchanged").ttl(Duration::from_secs(300));

    // From here on the broker hears of us every few seconds. If we are killed, it ends the grant within a minute.
    let lease = client.open_lease(wanted, Heartbeat::default()).await?;
    let grant = lease.grant();
    println!("grant {} of {} works until {}", grant.id, grant.owner, grant.expires_at);

    // Whatever happens to the work, the credential is given back.
    let worked = work(&client, &lease).await;
    let ended = lease.close("the example is over").await?;
    println!("grant {} is {}", ended.id, ended.state.as_str());
    worked
}

fn client() -> anyhow::Result<Client> {
    let mut builder = Client::builder(std::env::var("HALLPASS_URL").context("HALLPASS_URL names the broker")?);
    if let Some(path) = std::env::var_os("HALLPASS_CA") {
        builder = builder.ca_pem(std::fs::read(path).context("the file in HALLPASS_CA cannot be read")?);
    }
    Ok(builder.build()?)
}

/// Uses the credential as the service that receives it would: it asks whether the token is live, and for whom.
async fn work(client: &Client, lease: &Lease) -> anyhow::Result<()> {
    let Credential::Jwt { token, .. } = lease.credential() else {
        bail!("the example works with roles of the jwt backend, and this one gave {}", lease.credential().kind());
    };
    let seen = client.introspect(token).await?;
    ensure!(seen.active, "the token that was just given does not work");
    println!("the token speaks of {}", seen.sub.as_deref().unwrap_or("nobody"));
    Ok(())
}
