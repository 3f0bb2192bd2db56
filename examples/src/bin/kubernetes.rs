//! Works in a Kubernetes cluster with a token that the broker gives, and gives it back.
//!
//! ```text
//! HALLPASS_URL=https://hallpass.example HALLPASS_ROLE=payments/prod/deploy \
//!   cargo run --bin kubernetes -- get pods --namespace payments
//! ```
//!
//! What is behind `--` is given to `kubectl`, with a configuration of its own that is gone afterwards.
//! The proof is found by itself, as in the example `exchange`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use hallpass_sdk::Client;
use hallpass_sdk::client::{Heartbeat, Lease};
use hallpass_sdk::wire::{CreateGrant, Credential, Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = client()?;
    let role = std::env::var("HALLPASS_ROLE").context("HALLPASS_ROLE names a role of a kubernetes backend")?;
    let wanted = CreateGrant::new(role, "show how a token of Kubernetes is used").ttl(Duration::from_secs(300));
    let lease = client.open_lease(wanted, Heartbeat::default()).await?;
    println!("grant {} of {} works until {}", lease.grant().id, lease.grant().owner, lease.grant().expires_at);

    // Whatever happens to the work, the token is given back; the broker says that it is gone when the cluster has said so.
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
    let Credential::Kubernetes { token, server, ca, .. } = lease.credential() else {
        bail!("the example works with tokens of Kubernetes, and this role gave {}", lease.credential().kind());
    };
    let server = server.as_deref().context("the backend does not say where its cluster is")?;
    let folder = std::env::temp_dir().join(format!("hallpass-{}", lease.grant().id));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let worked = configured(&folder, server, ca.as_deref(), token.expose()).and_then(|file| run(&file));
    std::fs::remove_dir_all(&folder)?;
    worked
}

/// A configuration that nobody else can read: arguments are everybody's to see.
fn configured(folder: &Path, server: &str, ca: Option<&str>, token: &str) -> anyhow::Result<PathBuf> {
    let mut cluster = format!("{{server: {server:?}}}");
    if let Some(ca) = ca {
        let file = folder.join("ca.pem");
        std::fs::write(&file, ca)?;
        cluster = format!("{{server: {server:?}, certificate-authority: {file:?}}}");
    }
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
         clusters: [{{name: it, cluster: {cluster}}}]\n\
         users: [{{name: it, user: {{token: {token:?}}}}}]\n\
         contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
    );
    let file = folder.join("config");
    std::fs::write(&file, text)?;
    Ok(file)
}

fn run(configuration: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("kubectl");
    command.args(std::env::args_os().skip(1)).env("KUBECONFIG", configuration);
    let status = command.status().context("kubectl cannot be run")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
