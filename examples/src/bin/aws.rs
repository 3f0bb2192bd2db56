//! Exchanges a proof for a session of an AWS role, and runs a program with it.
//!
//! ```text
//! HALLPASS_URL=https://hallpass.example HALLPASS_ROLE=payments/prod/deploy \
//!     cargo run --bin aws -- aws s3 ls s3://artifacts
//! ```
//!
//! The proof is found by itself: `HALLPASS_PROOF`, `HALLPASS_PROOF_FILE`, GitHub Actions, GitLab, Kubernetes, Buildkite.
//! AWS gives no session for less than 15 minutes, so the grant is given back when the program is done: the broker then
//! has the session fenced where its backend can.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use hallpass_sdk::Client;
use hallpass_sdk::client::{Heartbeat, Lease};
use hallpass_sdk::wire::{CreateGrant, Credential, Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = Client::builder(std::env::var("HALLPASS_URL").context("HALLPASS_URL names the broker")?).build()?;
    let role = std::env::var("HALLPASS_ROLE").context("HALLPASS_ROLE names the role, such as payments/prod/deploy")?;
    let wanted = CreateGrant::new(role, "show how a session of AWS is used").ttl(Duration::from_secs(1200));
    let lease = client.open_lease(wanted, Heartbeat::default()).await?;
    let worked = run(&lease);
    let ended = lease.close("the example is over").await?;
    println!("grant {} is {}", ended.id, ended.state.as_str());
    worked
}

/// Runs the program of the command line with the session in its environment, where AWS's own tools look for it.
fn run(lease: &Lease) -> anyhow::Result<()> {
    let Credential::Aws { access_key_id, secret_access_key, session_token, region, .. } = lease.credential() else {
        bail!("the example works with roles of an aws backend, and this one gave {}", lease.credential().kind());
    };
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("name a program to run, such as aws s3 ls")?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.env("AWS_ACCESS_KEY_ID", access_key_id);
    command.env("AWS_SECRET_ACCESS_KEY", secret_access_key.expose());
    command.env("AWS_SESSION_TOKEN", session_token.expose());
    if let Some(region) = region {
        command.env("AWS_REGION", region);
    }
    let status = command.status().context("the program cannot be run")?;
    ensure!(status.success(), "the program ended with {status}");
    Ok(())
}
