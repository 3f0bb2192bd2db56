//! `hallpass-broker dev`: everything embedded, on loopback, for somebody who sees Hallpass for the first time.

mod database;
mod issuer;
mod resource;
mod story;
mod vault;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use hallpass_core::port::{Files, SignatureAlgorithm, Signer};
use hallpass_core::time::Ttl;
use serde_json::json;
use tokio::net::TcpListener;

use self::database::Database;
use self::issuer::DevIssuer;
use self::story::Stage;
use self::vault::Vault;
use super::serve::{Front, Gate, Gates};
use crate::compose::{self, Beginning, Broker, Foundation};
use crate::config::bundle::Bundle;
use crate::config::server::{Audit, KeySource, Keys, Limits, LogFormat};
use crate::http::certificate_header::CertificateProxies;
use crate::http::forwarded::Proxies;
use crate::keys::{Jwk, LocalSigner, SystemEntropy};
use crate::outbound::AllowHttp;
use crate::runtime::driver::Driver;
use crate::runtime::lifecycle::{Lifecycle, Orders};
use crate::runtime::telemetry;

/// How to run it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// End after the story; the exit status says whether every step of it held.
    #[arg(long)]
    exit: bool,
    /// Where the broker listens, on loopback.
    #[arg(long, default_value_t = 8700)]
    port: u16,
    /// Also start this, found on the PATH or where `tests/run` installs it, and tell an exchange with it.
    #[arg(long, value_enum)]
    with: Vec<With>,
}

/// A real backend that `dev` can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum With {
    /// PostgreSQL: users that live as long as their grants.
    Postgres,
    /// OpenBao or Vault: tokens that live as long as their grants.
    Vault,
}

/// How long a request has to finish when `dev` ends.
const DRAIN: Ttl = Ttl::from_secs(10);

/// The sample bundle, as `deploy/sample` has it.
const SAMPLE: &[(&str, &str)] = &[
    ("backends.toml", include_str!("../../../deploy/sample/bundle/backends.toml")),
    ("environments.toml", include_str!("../../../deploy/sample/bundle/environments.toml")),
    ("issuers.toml", include_str!("../../../deploy/sample/bundle/issuers.toml")),
    ("owners.toml", include_str!("../../../deploy/sample/bundle/owners.toml")),
    ("policies/live.cedar", include_str!("../../../deploy/sample/bundle/policies/live.cedar")),
    ("policies/mint.cedar", include_str!("../../../deploy/sample/bundle/policies/mint.cedar")),
    (
        "roles/payments/preview/deploy.toml",
        include_str!("../../../deploy/sample/bundle/roles/payments/preview/deploy.toml"),
    ),
    ("roles/payments/prod/deploy.toml", include_str!("../../../deploy/sample/bundle/roles/payments/prod/deploy.toml")),
    (
        "roles/platform/mesh/sidecar.toml",
        include_str!("../../../deploy/sample/bundle/roles/platform/mesh/sidecar.toml"),
    ),
    ("tests/payments.toml", include_str!("../../../deploy/sample/bundle/tests/payments.toml")),
    ("tests/platform.toml", include_str!("../../../deploy/sample/bundle/tests/platform.toml")),
];

/// What `dev` adds: its protected resource may ask whether a token is alive.
const DEV_POLICY: &str = r#"
@id("dev-resource-introspects")
@description("The protected resource of `dev` asks whether the tokens that it is shown are alive")
permit (principal == Workload::"services:service:payments-api", action == Action::"introspect", resource is Grant);
"#;

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    telemetry::start_logging(LogFormat::Text, "warn", None);
    let mut orders = Orders::listen().context("signals cannot be handled")?;
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = match TcpListener::bind(loopback(arguments.port)).await {
        Ok(listener) => listener,
        // Somebody else's port is no reason not to tell the story.
        Err(_) => TcpListener::bind(loopback(0)).await?,
    };
    let (issuer_listener, resource_listener) =
        (TcpListener::bind(loopback(0)).await?, TcpListener::bind(loopback(0)).await?);
    let broker_address = listen.local_addr()?;
    let public_url = format!("http://{broker_address}");
    let issuer_origin = format!("http://{}", issuer_listener.local_addr()?);

    let foundation = Foundation {
        store: folder.path().join("hallpass.db"),
        keys: Keys {
            active: KeySource::File(folder.path().join("key-encryption-key")),
            retired: Vec::new(),
            announce: Ttl::ZERO,
        },
        create_key_file: true,
        public_url: public_url.clone(),
        outbound_ca_file: None,
        allow_http: AllowHttp::Loopback,
        audit: Audit::default(),
        unverified_refusals_per_minute: Limits::default().unverified_refusals_per_source_per_minute,
        rates: Limits::default().rates,
        max_live_per_owner: Limits::default().max_live_grants_per_owner,
        max_actors: Limits::default().max_actors,
        max_derived_per_actor: Limits::default().max_derived_per_actor,
        refusals_per_minute: Limits::default().refusals_per_identity_per_minute,
    };
    let database = match arguments.with.contains(&With::Postgres) {
        true => Some(Database::start(folder.path(), &SystemEntropy::new()).await.context("PostgreSQL")?),
        false => None,
    };
    let vault = match arguments.with.contains(&With::Vault) {
        true => Some(Vault::start(folder.path(), &SystemEntropy::new()).await.context("Vault")?),
        false => None,
    };
    let mut files = sample_bundle(&issuer_origin, &public_url);
    if let Some(database) = &database {
        database.add_to(&mut files);
    }
    if let Some(vault) = &vault {
        vault.add_to(&mut files);
    }
    let bundle = write_bundle(&folder.path().join("bundle"), &files)?;
    let broker = Broker::assemble(foundation, Beginning::Bundle(Box::new(bundle))).await?;
    let lifecycle = Lifecycle::default();
    let driver =
        Driver::start(&broker.ports, Audit::default().checkpoint_every, &lifecycle.tasks, &lifecycle.stopping());
    let front = Front {
        limits: &Limits::default(),
        drain: DRAIN,
        proxies: Proxies::default(),
        certificate_proxies: CertificateProxies::default(),
        page: None,
        vitals: driver.vitals(),
        admin_url: None,
        dpop_nonces: true,
    };
    let gates = Gates { api: Gate::plain(listen), admin: None, operations: None };
    front.open(&broker, &public_url, gates, &lifecycle)?;
    if let Some(vault) = &vault {
        vault.trust(&public_url).await.context("Vault")?;
    }

    let issuer = Arc::new(dev_issuer(issuer_listener.local_addr()?, &public_url, &broker)?);
    let stage =
        Stage { broker: broker_address, issuer: Arc::clone(&issuer), resource: resource_listener.local_addr()? };
    lifecycle.tasks.spawn(serve_small(issuer_listener, issuer.router(), lifecycle.stopped()));
    let resource = resource::router(stage.client_of("services", "api-server")?);
    lifecycle.tasks.spawn(serve_small(resource_listener, resource, lifecycle.stopped()));

    println!("Hallpass, for a look around. The broker listens at {public_url}; everything it keeps is temporary.");
    let mut told = stage.tell().await;
    if let (Ok(()), Some(database)) = (&told, &database) {
        told = database.tell(&stage).await;
    }
    if let (Ok(()), Some(vault)) = (&told, &vault) {
        told = vault.tell(&stage).await;
    }
    let stays = told.is_ok() && !arguments.exit;
    if stays {
        print_commands(&public_url, &issuer_origin, stage.resource);
        if let Some(database) = &database {
            database.print();
        }
        if let Some(vault) = &vault {
            vault.print();
        }
        // The sample bundle is part of the program: there is nothing to load again.
        orders.until_stopped(async || ()).await;
    }
    lifecycle.drain(DRAIN.as_duration()).await;
    if let Some(database) = database {
        database.stop().await;
    }
    if let Some(vault) = vault {
        vault.stop().await;
    }
    if stays { Ok(()) } else { told.inspect(|()| println!("\nEvery step held.")) }
}

/// The sample bundle with the embedded issuers in the place of real ones.
fn sample_bundle(issuer_origin: &str, public_url: &str) -> Files {
    let mut files: Files = SAMPLE.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    files.insert("policies/dev.cedar".to_owned(), DEV_POLICY.to_owned());
    if let Some(issuers) = files.get_mut("issuers.toml") {
        *issuers = issuers
            .replace(
                "# its url is https://token.actions.githubusercontent.com",
                &format!("\nurl = \"{issuer_origin}/ci\""),
            )
            .replace("https://sso.example.com", &format!("{issuer_origin}/people"))
            .replace("https://hallpass.example.com", public_url);
        // The protected resource is no job of a code host.
        let services = format!(
            "\n[[issuer]]\nname = \"services\"\nkind = \"oidc\"\nurl = \"{issuer_origin}/services\"\n\
             audiences = [\"{public_url}\"]\n"
        );
        issuers.push_str(&services);
    }
    files
}

/// As a folder: only such a one may name what lies on this machine, such as a password.
fn write_bundle(folder: &Path, files: &Files) -> anyhow::Result<Bundle> {
    for (path, text) in files {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(file, text)?;
    }
    Bundle::load(folder).map_err(compose::findings_error)
}

/// A file that nobody else may read.
fn write_secret(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600).open(file)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn dev_issuer(address: SocketAddr, audience: &str, broker: &Broker) -> anyhow::Result<DevIssuer> {
    let key = LocalSigner::generate(SignatureAlgorithm::Es256)?;
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key)?);
    let jwks = json!({ "keys": [Jwk::of_signer(signer.as_ref()).context("the issuer's public key")?] });
    let (clock, entropy) = (Arc::clone(&broker.ports.clock), Arc::clone(&broker.ports.entropy));
    Ok(DevIssuer::new(address, audience.to_owned(), signer, jwks, clock, entropy))
}

async fn serve_small(listener: TcpListener, router: axum::Router, stopped: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "a listener of `dev` ended");
    }
}

fn print_commands(public_url: &str, issuer_origin: &str, resource: SocketAddr) {
    println!(
        r#"
▸ Your turn. The broker stays up until you press Ctrl-C; in another terminal:

    # A proof, as the CI system would hand it to the job
    PROOF=$(curl -s '{issuer_origin}/ci/token?as=deploy-job')

    # Exchange it (RFC 8693), and use what you get
    TOKEN=$(curl -s {public_url}/oauth2/token \
      -d grant_type=urn:ietf:params:oauth:grant-type:token-exchange \
      -d subject_token_type=urn:ietf:params:oauth:token-type:jwt -d subject_token="$PROOF" \
      -d audience={role} --data-urlencode 'purpose={purpose}' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
    curl -s -X POST -H "Authorization: Bearer $TOKEN" http://{resource}/deployments

    # A certificate, whose key is made for you
    curl -s {public_url}/v1/grants -H 'Content-Type: application/json' \
      -H "Authorization: Bearer $(curl -s '{issuer_origin}/ci/token?as=mesh-job')" \
      -d '{{"role": "platform/mesh/sidecar", "purpose": "try a certificate"}}'

    # What Ada, a member of the owning team, sees; and how she ends one
    ADA=$(curl -s '{issuer_origin}/people/token?as=ada')
    curl -s -H "Authorization: Bearer $ADA" '{public_url}/v1/grants?state=active'
    curl -s -X DELETE -H "Authorization: Bearer $ADA" {public_url}/v1/grants/<id>

    # The same with the command line of Hallpass (cargo build --release -p hallpass-cli)
    export HALLPASS_URL={public_url}
    HALLPASS_PROOF=$(curl -s '{issuer_origin}/ci/token?as=deploy-job') \
      target/release/hallpass exec --role {role} --purpose '{purpose}' -- \
      sh -c 'curl -s -X POST -H "Authorization: Bearer $HALLPASS_TOKEN" http://{resource}/deployments'
    HALLPASS_PROOF=$ADA target/release/hallpass grants list
"#,
        role = story::ROLE,
        purpose = story::PURPOSE,
    );
}
