//! Gets a user of a PostgreSQL database, has `psql` work as it, and gives it back: its sessions end with its grant.
//!
//! ```text
//! HALLPASS_URL=https://hallpass.example HALLPASS_ROLE=payments/orders/migrate cargo run --bin postgres -- -c 'SELECT 1'
//! ```
//!
//! What stands behind `--` goes to `psql`. The proof is found by itself, as in the example `exchange`. `HALLPASS_CA` may
//! name a file of certificates to trust beside the public ones.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use hallpass_sdk::Client;
use hallpass_sdk::client::Heartbeat;
use hallpass_sdk::wire::{CreateGrant, Credential, Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = client()?;
    let role = std::env::var("HALLPASS_ROLE").context("HALLPASS_ROLE names a role of a postgres backend")?;
    let wanted = CreateGrant::new(role, "show how a user of a database is used").ttl(Duration::from_secs(300));
    let lease = client.open_lease(wanted, Heartbeat::default()).await?;
    println!("grant {} works until {}", lease.grant().id, lease.grant().expires_at);

    let worked = work(lease.credential());
    // Whatever happened: the user and its sessions are gone when the server has confirmed it.
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

/// Runs `psql`. The password goes by its environment: arguments can be seen by everybody on the machine.
fn work(credential: &Credential) -> anyhow::Result<()> {
    let Credential::Database { username, password, host, port, database, .. } = credential else {
        bail!("the example works with roles of the postgres backend, and this one gave {}", credential.kind());
    };
    let mut psql = Command::new("psql");
    psql.env("PGHOST", host).env("PGPORT", port.to_string()).env("PGDATABASE", database);
    psql.env("PGUSER", username).env("PGPASSWORD", password.expose());
    let status = psql.args(std::env::args_os().skip(1)).status().context("psql cannot be started")?;
    ensure!(status.success(), "psql ended with {status}");
    Ok(())
}
