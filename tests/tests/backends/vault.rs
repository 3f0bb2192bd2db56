//! Vault and OpenBao, by a real OpenBao with the policy that `deploy/vault` says the broker needs, and no more.

mod conformance;
mod databases;
mod engines;
mod failures;
mod inventory;
mod logins;
mod neighbours;
mod tokens;
mod whole;

use std::path::PathBuf;
use std::sync::Arc;

use hallpass_broker::backend::own_identity::OwnIdentity;
use hallpass_broker::backend::vault::VaultBackend;
use hallpass_broker::config::backend::vault::{Login, Vault};
use hallpass_broker::keys::{LocalSigner, SystemEntropy};
use hallpass_broker::outbound::Outbound;
use hallpass_broker::runtime::clock::SystemClock;
use hallpass_core::credential::{CredentialMaterial, Handle, IssueOrder, IssuedCredential};
use hallpass_core::id::BackendName;
use hallpass_core::port::{CredentialBackend, IssueError, SignatureAlgorithm, Signer};
use hallpass_core::role::Role;
use hallpass_core::testing::sample;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use hallpass_tests::openbao::OpenBao;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the broker may do: the file that operators are given.
const POLICY: &str = include_str!("../../../deploy/vault/hallpass.hcl");
/// The origin of the broker.
const INSTANCE: &str = "https://hallpass.test";

/// A server that is set up as `deploy/vault` says, and the backend that mints there.
struct Lab {
    server: OpenBao,
    folder: TempDir,
    clock: Arc<dyn Clock>,
    backend: VaultBackend,
}

impl Lab {
    /// None where OpenBao is not installed.
    async fn open() -> Option<Self> {
        Some(Self::at(OpenBao::start().await?).await)
    }

    async fn at(server: OpenBao) -> Self {
        set_up(&server).await;
        let token = server.token("hallpass", POLICY).await;
        let folder = TempDir::with_prefix("hallpass-vault-").unwrap();
        std::fs::write(folder.path().join("token"), token).unwrap();
        if let Some(authority) = server.is_over_tls().then(|| server.authority()) {
            std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let settings = settings(&server, folder.path().join("token"), folder.path().join("ca.pem"));
        let backend = backend("vault", INSTANCE, settings, &clock);
        Self { server, folder, clock, backend }
    }

    /// Another backend of the same broker, or the same of another, with other settings.
    fn another(&self, name: &str, instance: &str, change: impl FnOnce(&mut Vault)) -> VaultBackend {
        let folder = self.folder.path();
        let mut settings = settings(&self.server, folder.join("token"), folder.join("ca.pem"));
        change(&mut settings);
        backend(name, instance, settings, &self.clock)
    }

    /// An order of ten minutes from now.
    fn order(&self, n: u64, parameters: Value) -> IssueOrder {
        order(n, parameters, self.clock.now(), Ttl::from_mins(10))
    }

    async fn mint(&self, order: &IssueOrder) -> Result<(IssuedCredential, Handle), IssueError> {
        mint(&self.backend, order).await
    }

    /// What whoever has the token gets at a path: the status, and the values.
    async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        self.server.get_as(token, path).await
    }
}

/// Whatever core does of opening a grant: plan, prepare, issue; and which handle is kept.
async fn mint(backend: &VaultBackend, order: &IssueOrder) -> Result<(IssuedCredential, Handle), IssueError> {
    let planned = backend.plan(order)?;
    let prepared = backend.prepare(order, &planned).await?.unwrap_or(planned);
    let mut issued = backend.issue(order, &prepared).await?;
    let handle = issued.handle.take().unwrap_or(prepared);
    Ok((issued, handle))
}

fn order(n: u64, parameters: Value, issued_at: Timestamp, life: Ttl) -> IssueOrder {
    let expires_at = issued_at.plus(life);
    IssueOrder { issued_at, expires_at, ..sample::order(n, role(parameters)) }
}

fn role(parameters: Value) -> Role {
    Role { parameters, ..sample::role("payments/prod/deploy") }
}

fn token(issued: &IssuedCredential) -> &str {
    let CredentialMaterial::VaultToken { token } = &issued.material else { panic!("a token") };
    token.expose()
}

fn settings(server: &OpenBao, token_file: PathBuf, ca_file: PathBuf) -> Vault {
    Vault {
        addresses: vec![server.url().parse().unwrap()],
        namespace: None,
        ca_file: server.is_over_tls().then_some(ca_file),
        timeout: Ttl::from_secs(5),
        login: Login::TokenFile { token_file },
        token_role: "hallpass".to_owned(),
        spares: 2,
        dangerous_allow_http: false,
    }
}

fn backend(name: &str, instance: &str, settings: Vault, clock: &Arc<dyn Clock>) -> VaultBackend {
    let name = BackendName::new(name).unwrap();
    let key = LocalSigner::generate(SignatureAlgorithm::Es256).unwrap();
    let signer: Arc<dyn Signer> = Arc::new(LocalSigner::from_pkcs8(SignatureAlgorithm::Es256, &key).unwrap());
    let (algorithm, keys) = (SignatureAlgorithm::Es256, Arc::new(vec![signer]));
    let identity =
        OwnIdentity::new(name.clone(), instance, algorithm, keys, Arc::clone(clock), Arc::new(SystemEntropy::new()));
    let outbound = Outbound::to_backend(settings.ca_file.as_deref()).unwrap();
    VaultBackend::new(name, instance, settings, outbound, identity, Arc::clone(clock))
}

/// The token role, a secret at `secret/app`, and the policy `app` that may read it.
async fn set_up(server: &OpenBao) {
    server.mount_with("secret", json!({"type": "kv", "options": {"version": "1"}})).await;
    server.write("secret/app", &json!({"flag": "up"})).await;
    let policy = "path \"secret/app\" { capabilities = [\"read\"] }";
    server.write("sys/policies/acl/app", &json!({"policy": policy})).await;
    server.write("auth/token/roles/hallpass", &token_role()).await;
}

/// As `deploy/vault/README.md` has it.
fn token_role() -> Value {
    json!({
        "allowed_policies": "app,db,pki,ssh,kv",
        "orphan": true,
        "renewable": false,
        "token_type": "service",
    })
}
