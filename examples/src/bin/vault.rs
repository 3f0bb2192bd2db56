//! Reads a secret of Vault or OpenBao with a token that the broker gives, and gives it back.
//!
//! ```text
//! HALLPASS_URL=https://hallpass.example HALLPASS_ROLE=payments/prod/config \
//!   VAULT_ADDR=https://vault.example:8200 cargo run --bin vault -- kv get secret/payments
//! ```
//!
//! What is behind `--` is given to the `bao` or `vault` program (`VAULT_PROGRAM` names it), which takes the token from its
//! environment. The proof is found by itself, as in the example `exchange`.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use hallpass_sdk::Client;
use hallpass_sdk::client::{Heartbeat, Lease};
use hallpass_sdk::wire::{CreateGrant, Credential, Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = client()?;
    let role = std::env::var("HALLPASS_ROLE").context("HALLPASS_ROLE names a role of a vault backend")?;
    let wanted = CreateGrant::new(role, "show how a token of Vault is used").ttl(Duration::from_secs(300));
    let lease = client.open_lease(wanted, Heartbeat::default()).await?;
    println!("grant {} of {} works until {}", lease.grant().id, lease.grant().owner, lease.grant().expires_at);

    // Whatever happens to the work, the token is given back; the broker says that it is gone when Vault has said so.
    let worked = work(&lease);
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

fn work(lease: &Lease) -> anyhow::Result<()> {
    let Credential::VaultToken { token, .. } = lease.credential() else {
        bail!("the example works with tokens of Vault, and this role gave {}", lease.credential().kind());
    };
    let program = std::env::var_os("VAULT_PROGRAM").unwrap_or_else(|| "bao".into());
    let mut command = Command::new(&program);
    // Both programs know either name.
    command.args(std::env::args_os().skip(1)).env("VAULT_TOKEN", token.expose()).env("BAO_TOKEN", token.expose());
    let status = command.status().with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
