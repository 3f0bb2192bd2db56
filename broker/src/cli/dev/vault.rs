//! An OpenBao or Vault server of `dev`'s own, in memory on loopback. It trusts the broker as an OIDC issuer: no secret of
//! the server's lies at the broker.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallpass_core::entropy::Entropy;
use hallpass_core::port::Files;
use hallpass_core::secret::Secret;
use hallpass_sdk::wire::{CreateGrant, Credential, Duration};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::story::{Stage, give_back, say, show_grant, tell, until};
use crate::outbound::loopback_client;

/// The role of this part of the story.
const ROLE: &str = "payments/flags/read";
const PURPOSE: &str = "look at the feature flags";
/// What the broker's own token towards it is for.
const AUDIENCE: &str = "https://vault.dev";

const BACKEND: &str = r#"
[[backend]]
name = "vault"
kind = "vault"
addresses = ["{url}"]
login = { method = "jwt", role = "hallpass", audience = "https://vault.dev" }
"#;
const ROLE_FILE: &str = r#"owner = "payments"
description = "Reads the feature flags of the payments service"
backend = "vault"
ttl = { default = "10m", max = "1h" }
stage = "read"

[vault]
policies = ["payments-flags"]
"#;
const POLICY: &str = r#"
@id("payments-read-flags")
@description("The payments repository reads its flags from its protected main branch")
permit (principal in Issuer::"ci", action in [Action::"mint", Action::"preview"], resource == Role::"payments/flags/read")
when {
  context.provenance has repository_id && context.provenance.repository_id == "222" &&
  context.provenance has ref && context.provenance.ref == "refs/heads/main" &&
  context.provenance has ref_protected && context.provenance.ref_protected
};
"#;
/// What the broker may do, as `deploy/vault` has it.
const BROKERS_POLICY: &str = include_str!("../../../../deploy/vault/hallpass.hcl");
const FLAGS_POLICY: &str = r#"path "secret/data/flags" { capabilities = ["read"] }"#;

/// The server. It ends when this is dropped, and forgets everything.
pub(super) struct Vault {
    process: Child,
    url: String,
    root: Secret,
    client: reqwest::Client,
}

impl Vault {
    /// Starts one, with what the broker may do there.
    pub(super) async fn start(folder: &Path, entropy: &dyn Entropy) -> anyhow::Result<Self> {
        let program = program()?;
        let address = free_pair()?;
        let mut random = [0_u8; 24];
        entropy.fill(&mut random)?;
        let root = Secret::new(URL_SAFE_NO_PAD.encode(random));
        let process = Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token", "-log-level=error"])
            .arg(format!("-dev-listen-address={address}"))
            .env_clear()
            // Not as an argument: everybody on this machine can read those.
            .env("BAO_DEV_ROOT_TOKEN_ID", root.expose())
            .env("VAULT_DEV_ROOT_TOKEN_ID", root.expose())
            .env("HOME", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            // Ctrl-C at the terminal is for the broker, which ends its tokens before the server ends.
            .process_group(0)
            .spawn()
            .context("the server cannot be started")?;
        let server = Self { process, url: format!("http://{address}"), root, client: loopback_client()? };
        server.until_it_answers().await?;
        server.prepare().await?;
        Ok(server)
    }

    async fn prepare(&self) -> anyhow::Result<()> {
        self.write("sys/policies/acl/hallpass", &json!({"policy": BROKERS_POLICY})).await?;
        self.write("sys/policies/acl/payments-flags", &json!({"policy": FLAGS_POLICY})).await?;
        self.write("secret/data/flags", &json!({"data": {"new-checkout": "on"}})).await?;
        let token_role = json!({
            "orphan": true, "renewable": false, "token_type": "service", "allowed_policies": "payments-flags",
        });
        self.write("auth/token/roles/hallpass", &token_role).await?;
        self.write("sys/auth/jwt", &json!({"type": "jwt"})).await
    }

    /// Has it trust what the broker at `public_url` signs. It asks for the keys: the broker must answer.
    pub(super) async fn trust(&self, public_url: &str) -> anyhow::Result<()> {
        let keys = json!({"jwks_url": format!("{public_url}/.well-known/jwks.json"), "bound_issuer": public_url});
        self.write("auth/jwt/config", &keys).await?;
        let broker = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_subject": "hallpass:broker:vault",
            "bound_audiences": AUDIENCE, "token_policies": "hallpass", "token_no_default_policy": true, "token_ttl": "1h",
        });
        self.write("auth/jwt/role/hallpass", &broker).await
    }

    /// Adds a backend, a role and a policy to the bundle.
    pub(super) fn add_to(&self, files: &mut Files) {
        files.entry("backends.toml".to_owned()).or_default().push_str(&BACKEND.replace("{url}", &self.url));
        files.insert(format!("roles/{ROLE}.toml"), ROLE_FILE.to_owned());
        files.insert("policies/flags.cedar".to_owned(), POLICY.to_owned());
    }

    /// Tells the part of the story that happens at it.
    ///
    /// # Errors
    /// The first step that did not go as told.
    pub(super) async fn tell(&self, stage: &Stage) -> anyhow::Result<()> {
        say(
            "A real Vault: OpenBao runs on loopback. It trusts Hallpass as an OIDC issuer; Hallpass has no secret of it.",
        );
        say("The job shows a proof again and asks for a token that reads its feature flags.");
        tell(&format!("role     {ROLE}"));
        tell(&format!("purpose  {PURPOSE:?}"));
        let job = stage.client_of("ci", "deploy-job")?;
        let wanted = CreateGrant::new(ROLE, PURPOSE).ttl(Duration::from_secs(600));
        let answer = job.create_grant(&wanted).await.context("the exchange")?;
        let Credential::VaultToken { token, .. } = &answer.credential else {
            bail!("the role {ROLE} should give a token of Vault");
        };
        show_grant(&answer.grant, "the broker revokes it, and looks whether it is gone");

        say("The accessor was written down before the token left. This is what the server has of it:");
        let asked = json!({"token": token.expose()});
        let (_, found) = self.call(Method::POST, "auth/token/lookup", self.root.expose(), Some(&asked)).await?;
        let accessor =
            found.pointer("/data/accessor").and_then(Value::as_str).context("it has an accessor")?.to_owned();
        for (name, pointer) in [("policies", "/data/policies"), ("ends in", "/data/ttl"), ("metadata", "/data/meta")] {
            tell(&format!("{name:<9} {}", found.pointer(pointer).unwrap_or(&Value::Null)));
        }

        say("The job reads its flags.");
        let (status, flags) = self.call(Method::GET, "secret/data/flags", token.expose(), None).await?;
        ensure!(status == 200, "the flags should be read, and the server answers {status}");
        tell(&format!("secret/flags          →  {}", flags.pointer("/data/data").unwrap_or(&Value::Null)));
        let (status, _) = self.call(Method::GET, "secret/data/others", token.expose(), None).await?;
        tell(&format!("secret/others         →  {status}"));
        ensure!(status == 403, "nothing else should be read, and the server answers {status}");

        say("The job is done and gives its grant back.");
        give_back(&job, &answer.grant.id, "the flags were read").await?;
        let (status, _) = self.call(Method::GET, "secret/data/flags", token.expose(), None).await?;
        tell(&format!("the token             →  {status}"));
        ensure!(status == 403, "the token should be refused, and the server answers {status}");
        let accessor = json!({"accessor": accessor});
        let (status, _) =
            self.call(Method::POST, "auth/token/lookup-accessor", self.root.expose(), Some(&accessor)).await?;
        tell(&format!("its accessor, by root →  {status}"));
        ensure!(status != 200, "the accessor should be gone");
        tell("`revoked`, and not `expired`: the server itself said that there is no such token any more.");
        tell("Had Hallpass died meanwhile, the server would have ended it by itself after ten minutes at the latest.");
        Ok(())
    }

    /// Where it can be looked at.
    pub(super) fn print(&self) {
        println!(
            "    # The Vault server; tokens come and go with their grants (role {ROLE})\n    curl {}/v1/sys/health\n",
            self.url
        );
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        let _ = self.process.kill().await;
    }

    async fn until_it_answers(&self) -> anyhow::Result<()> {
        until(async || {
            let (status, _) = self.call(Method::GET, "sys/health", "", None).await?;
            ensure!(status == 200, "it answers {status}");
            // The engine at `secret/` is mounted a moment after the server answers.
            let (status, _) = self.call(Method::GET, "secret/config", self.root.expose(), None).await?;
            ensure!(status == 200, "its secrets answer {status}");
            Ok(())
        })
        .await
        .context("the server does not answer")
    }

    async fn write(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let (status, answer) = self.call(Method::POST, path, self.root.expose(), Some(body)).await?;
        ensure!((200..300).contains(&status), "{path}: {status} {answer}");
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let mut request = self.client.request(method, format!("{}/v1/{path}", self.url)).header("x-vault-token", token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or_default()))
    }
}

/// `bao` or `vault`: on the `PATH`, or where `tests/run` installs it.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> =
        std::env::split_paths(&path).flat_map(|folder| ["bao", "vault"].map(|name| folder.join(name))).collect();
    candidates.push(PathBuf::from("target/components/openbao/server"));
    let missing = "neither `bao` nor `vault` is on the PATH; install OpenBao, or run tests/run, which installs it, or \
                   leave out --with vault";
    candidates.into_iter().find(|file| file.is_file()).context(missing)?.canonicalize().context("the server's program")
}

/// It listens at the port that it is told and at the one behind it.
fn free_pair() -> anyhow::Result<SocketAddr> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for _ in 0..100 {
        let first = TcpListener::bind(local(0))?;
        let address = first.local_addr()?;
        if address.port().checked_add(1).is_some_and(|next| TcpListener::bind(local(next)).is_ok()) {
            return Ok(address);
        }
    }
    bail!("there are no two free ports side by side")
}
