//! A real OpenBao server, which speaks Vault's API: on loopback, in memory, unsealed, with a root token; in plain http, or
//! over https as in production, by a certificate of an authority of its own.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::port::lasting_addresses;
use crate::process::halt;
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
    /// What unseals it, where it does not do that itself.
    unseal_key: Option<String>,
    /// The authority that its certificate is of, PEM, where it is served over https.
    authority: Option<String>,
    home: TempDir,
}

impl OpenBao {
    /// Starts one and awaits that it is unsealed. None where it is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Option<Self> {
        let program = component::openbao()?;
        let home = TempDir::with_prefix("hallpass-openbao-").expect("a temporary folder");
        let address = lasting_addresses(2);
        let (token, listen) = (format!("-dev-root-token-id={ROOT}"), format!("-dev-listen-address={address}"));
        let process = spawn(&program, home.path(), &["-dev", "-dev-no-store-token", &token, &listen]);
        let (client, root) = (crate::broker::client(), ROOT.to_owned());
        let server = Self { process, address, client, root, unseal_key: None, authority: None, home };
        server.answers_with(200).await;
        Some(server)
    }

    /// The same over https, configured by a file as in production: [`OpenBao::authority`] is who signed its certificate,
    /// and nobody else knows that authority.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_over_tls() -> Option<Self> {
        Self::configured("storage \"inmem\" {}").await
    }

    /// The same with a storage that outlives it: [`OpenBao::restart`] finds what there was.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_durable() -> Option<Self> {
        // Alone it waits for nobody (raft's own default is ten seconds).
        Self::configured("storage \"raft\" { path = \"raft\" node_id = \"one\" performance_multiplier = 1 }").await
    }

    async fn configured(storage: &str) -> Option<Self> {
        let program = component::openbao()?;
        let home = TempDir::with_prefix("hallpass-openbao-").expect("a temporary folder");
        let address = lasting_addresses(2);
        let authority = authority("OpenBao's");
        write_configuration(home.path(), address, &authority, storage);
        let process = spawn(&program, home.path(), &["-config=server.hcl"]);
        let authority = authority.pem();
        let client = client_that_trusts(&authority);
        let mut server =
            Self { process, address, client, root: String::new(), unseal_key: None, authority: Some(authority), home };
        // 501: it is up, and has never been initialised.
        server.answers_with(501).await;
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let made = server.write("sys/init", &shares).await;
        server.root = made["root_token"].as_str().expect("a token").to_owned();
        server.unseal_key = made["keys"][0].as_str().map(str::to_owned);
        server.unseal().await;
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

    /// Whether it is served over https.
    #[must_use]
    pub const fn is_over_tls(&self) -> bool {
        self.authority.is_some()
    }

    /// Opens it after it was sealed.
    ///
    /// # Panics
    /// When it is one that unseals itself.
    pub async fn unseal(&self) {
        let key = self.unseal_key.as_deref().expect("it is configured by a file");
        self.write("sys/unseal", &json!({"key": key})).await;
        self.answers_with(200).await;
    }

    /// Stops it where it is: connections are accepted by the system, and nobody answers.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        halt(Pid::from_child(&self.process));
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).expect("it runs");
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

    /// Mounts an engine at `path` with these settings.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn mount_with(&self, path: &str, settings: Value) {
        // In development mode there comes a key-value engine by itself, and not always before this.
        eventually("the engine is mounted", DEADLINE, async || {
            let mount = format!("sys/mounts/{path}");
            let _ = self.request(Method::DELETE, &mount, &self.root, None).await;
            let (status, _) = self.request(Method::POST, &mount, &self.root, Some(&settings)).await;
            (200..300).contains(&status).then_some(())
        })
        .await;
    }

    /// What asks it even where it is away.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker { client: self.client.clone(), url: self.url() }
    }

    /// What whoever has this token gets at `/v1/{path}`: the status, and the answer.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get_as(&self, token: &str, path: &str) -> (u16, Value) {
        let (status, text) = self.request(Method::GET, path, token, None).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The keys below `/v1/{path}`.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn list(&self, path: &str) -> Vec<String> {
        let (status, text) = self.request(Method::GET, &format!("{path}?list=true"), &self.root, None).await;
        assert!(status == 200 || status == 404, "{path}: {status} {text}");
        let listed: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let keys = listed["data"]["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The accessors of all tokens, sorted.
    ///
    /// # Panics
    /// When it refuses.
    pub async fn accessors(&self) -> Vec<String> {
        let mut accessors = self.list("auth/token/accessors").await;
        accessors.sort();
        accessors
    }

    /// Writes at `/v1/{path}` as root, and gives what is answered, unless it refuses.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn try_ask(&self, path: &str, body: &Value) -> Option<Value> {
        let (status, text) = self.request(Method::POST, path, &self.root, Some(body)).await;
        (200..300).contains(&status).then(|| serde_json::from_str(&text).unwrap_or(Value::Null))
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

    /// Starts it again where it keeps what it had, and opens it.
    ///
    /// # Panics
    /// When it does not start, or keeps nothing.
    pub async fn restart(&mut self) {
        let program = component::openbao().expect("it was there before");
        self.process = spawn(&program, self.home.path(), &["-config=server.hcl"]);
        // 503: it is up, and sealed.
        self.answers_with(503).await;
        self.unseal().await;
    }

    /// Ends it: what it kept in memory is gone.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (status, text) = self.request(method, path, &self.root, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    async fn request(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> (u16, String) {
        let mut request =
            self.client.request(method, format!("{}/v1/{path}", self.url())).header("x-vault-token", token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("its text"))
    }
}

/// Asks a server that may be away.
#[derive(Clone, Debug)]
pub struct Asker {
    client: reqwest::Client,
    url: String,
}

impl Asker {
    /// The status that whoever has this token gets at `/v1/{path}`; none where nobody answers.
    pub async fn status(&self, token: &str, path: &str) -> Option<u16> {
        let request = self.client.get(format!("{}/v1/{path}", self.url)).header("x-vault-token", token);
        request.send().await.ok().map(|answer| answer.status().as_u16())
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

fn write_configuration(home: &Path, address: SocketAddr, authority: &CertifiedIssuer<'static, KeyPair>, storage: &str) {
    let key = KeyPair::generate().expect("a key");
    let parameters = CertificateParams::new(vec![address.ip().to_string()]).expect("parameters");
    let certificate = parameters.signed_by(&key, authority).expect("a certificate");
    let configuration = format!(
        "{storage}
         listener \"tcp\" {{
           address = \"{address}\"
           cluster_address = \"127.0.0.1:{}\"
           tls_cert_file = \"server.pem\"
           tls_key_file = \"server.key\"
         }}
         api_addr = \"https://{address}\"
         cluster_addr = \"https://127.0.0.1:{}\"
         disable_mlock = true",
        address.port() + 1,
        address.port() + 1
    );
    std::fs::create_dir(home.join("raft")).expect("a folder");
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
        for folder in [home.to_owned(), home.join("raft")] {
            let _ = std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY));
        }
        match command().uid(NOBODY).gid(NOBODY).spawn() {
            // The checkout is where nobody else may look.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            started => return started.expect("OpenBao starts"),
        }
    }
    command().spawn().expect("OpenBao starts")
}
