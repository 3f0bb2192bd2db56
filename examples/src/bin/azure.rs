//! Works in Azure with an access token that the broker gives.
//!
//! ```text
//! HALLPASS_URL=https://hallpass.example HALLPASS_ROLE=payments/prod/vault \
//!   cargo run --bin azure -- ./read-secret
//! ```
//!
//! What is behind `--` is run with the token in its environment, as `AZURE_ACCESS_TOKEN`. It is asked for the role's
//! standard life: Entra makes none shorter. The proof is found by itself, as in the example `exchange`.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use hallpass_sdk::Client;
use hallpass_sdk::client::{Heartbeat, Lease};
use hallpass_sdk::wire::{CreateGrant, Credential};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = client()?;
    let role = std::env::var("HALLPASS_ROLE").context("HALLPASS_ROLE names a role of a azure backend")?;
    let wanted = CreateGrant::new(role, "show how a token of Azure is used");
    let lease = client.open_lease(wanted, Heartbeat::default()).await?;
    println!("grant {} of {} works until {}", lease.grant().id, lease.grant().owner, lease.grant().expires_at);

    // Nothing takes the token back: its grant is ending until the token has expired, and says so.
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
    let Credential::Azure { access_token, .. } = lease.credential() else {
        bail!("the example works with tokens of Azure, and this role gave {}", lease.credential().kind());
    };
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().unwrap_or_else(|| "sh".into());
    let mut command = Command::new(&program);
    command.args(arguments).env("AZURE_ACCESS_TOKEN", access_token.expose());
    let status = command.status().with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
