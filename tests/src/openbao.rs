//! A real OpenBao server, which speaks Vault's API: on loopback, in memory, unsealed, with a root token; in plain http, or
//! over https as in production, by a certificate of an authority of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{component, eventually};

/// The token that may do everything, in plain http.
const ROOT: &str = "root";
/// How long it may take to answer first.
const DEADLINE: Duration = Duration::from_secs(30);
/// The user that owns nothing: the server needs no more.
const NOBODY: u32 = 65_534;

/// A server. It ends, and forgets everything, when this is dropped.
#[derive(Debug)]
pub struct OpenBao {
    process: Child,
    address: SocketAddr,
    client: reqwest::Client,
    /// The token that may do everything.
    root: String,
    /// The authority that its certificate is of, PEM, where it is served over https.
    authority: Option<String>,
    _home: TempDir,
}

impl OpenBao {
    /// Starts one and awaits that it is unsealed. None where it is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        let program = component::openbao()?;
        let home = TempDir::with_prefix("hallpass-openbao-").expect("a temporary folder");
        let address = free_pair();
        let (token, listen) = (format!("-dev-root-token-id={ROOT}"), format!("-dev-listen-address={address}"));
        let process = spawn(&program, home.path(), &["-dev", "-dev-no-store-token", &token, &listen]);
        let (client, root) = (crate::broker::client(), ROOT.to_owned());
        let server = Self { process, address, client, root, authority: None, _home: home };
        server.answers_with(200).await;
        Some(server)
    }

    /// The same over https, configured by a file as in production: [`OpenBao::authority`] is who signed its certificate,
    /// and nobody else knows that authority.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_over_tls() -> Option<Self> {
        let program = component::openbao()?;
        let home = TempDir::with_prefix("hallpass-openbao-").expect("a temporary folder");
        let address = free_pair();
        let authority = authority("OpenBao's");
        write_configuration(home.path(), address, &authority);
        let process = spawn(&program, home.path(), &["-config=server.hcl"]);
        let authority = authority.pem();
        let client = client_that_trusts(&authority);
        let mut server =
            Self { process, address, client, root: String::new(), authority: Some(authority), _home: home };
        // 501: it is up, and has never been initialised.
        server.answers_with(501).await;
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let made = server.write("sys/init", &shares).await;
        server.root = made["root_token"].as_str().expect("a token").to_owned();
        server.write("sys/unseal", &json!({"key": made["keys"][0]})).await;
        server.answers_with(200).await;
        Some(server)
    }

    /// Its origin.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.authority.is_some() { "https" } else { "http" }, self.address)
    }

    /// The authority that signed its certificate, PEM.
    ///
    /// # Panics
    /// When it is in plain http.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_deref().expect("it is served over https")
    }

    async fn answers_with(&self, status: u16) {
        eventually("OpenBao is up", DEADLINE, async || {
            let asked = self.client.get(format!("{}/v1/sys/health", self.url())).send().await;
            asked.is_ok_and(|answer| answer.status() == status).then_some(())
        })
        .await;
    }

    /// Mounts an engine at `path`.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn mount(&self, path: &str, kind: &str) {
        self.write(&format!("sys/mounts/{path}"), &json!({"type": kind})).await;
    }

    /// Writes at `/v1/{path}` as root, and gives what is answered.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn write(&self, path: &str, body: &Value) -> Value {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Reads `/v1/{path}` as root.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn read(&self, path: &str) -> Value {
        self.call(Method::GET, path, None).await
    }

    /// Deletes `/v1/{path}` as root.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn delete(&self, path: &str) {
        self.call(Method::DELETE, path, None).await;
    }

    /// A token that may do what the policy says, which is kept under `name`.
    ///
    /// # Panics
    /// When the policy is refused.
    pub async fn token(&self, name: &str, policy: &str) -> String {
        self.write(&format!("sys/policies/acl/{name}"), &json!({"policy": policy})).await;
        let answer = self.write("auth/token/create", &json!({"policies": [name], "no_default_policy": true})).await;
        answer["auth"]["client_token"].as_str().expect("a token").to_owned()
    }

    /// Ends it: what it kept is gone.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let mut request =
            self.client.request(method, format!("{}/v1/{path}", self.url())).header("x-vault-token", &self.root);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        let (status, text) = (answer.status(), answer.text().await.expect("its text"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An authority of nobody else's.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} authority"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("a certificate")
}

fn write_configuration(home: &Path, address: SocketAddr, authority: &CertifiedIssuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec![address.ip().to_string()]).expect("parameters");
    let certificate = parameters.signed_by(&key, authority).expect("a certificate");
    let configuration = format!(
        "storage \"inmem\" {{}}
         listener \"tcp\" {{
           address = \"{address}\"
           cluster_address = \"127.0.0.1:{}\"
           tls_cert_file = \"server.pem\"
           tls_key_file = \"server.key\"
         }}
         api_addr = \"https://{address}\"
         disable_mlock = true",
        address.port() + 1
    );
    let files = [("server.pem", certificate.pem()), ("server.key", key.serialize_pem()), ("server.hcl", configuration)];
    for (name, content) in files {
        std::fs::write(home.join(name), content).expect("it is written");
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own client; it is bounded here")]
fn client_that_trusts(authority: &str) -> reqwest::Client {
    // Another test of the same process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = reqwest::Certificate::from_pem(authority.as_bytes()).expect("a certificate");
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
    builder.timeout(DEADLINE).build().expect("a client")
}

fn spawn(program: &Path, home: &Path, arguments: &[&str]) -> Child {
    let command = || {
        let mut command = Command::new(program);
        command.args(["server", "-log-level=error"]).args(arguments);
        command.env_clear().env("HOME", home).current_dir(home);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    if rustix::process::geteuid().is_root() {
        let _ = std::os::unix::fs::chown(home, Some(NOBODY), Some(NOBODY));
        match command().uid(NOBODY).gid(NOBODY).spawn() {
            // The checkout is where nobody else may look.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            started => return started.expect("OpenBao starts"),
        }
    }
    command().spawn().expect("OpenBao starts")
}

/// It listens at the port that it is told and at the one behind it.
fn free_pair() -> SocketAddr {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..100 {
        let first = TcpListener::bind(local(0)).expect("a free port");
        let address = first.local_addr().expect("an address");
        if address.port() < u16::MAX && TcpListener::bind(local(address.port() + 1)).is_ok() {
            return address;
        }
    }
    panic!("no two free ports side by side");
}
