//! A real OpenBao server, which speaks Vault's API: on loopback, in memory, unsealed, with a root token.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{component, eventually};

/// The token that may do everything.
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
        let process = spawn(&program, home.path(), address);
        let server = Self { process, address, client: crate::broker::client(), _home: home };
        eventually("OpenBao is unsealed", DEADLINE, async || {
            let asked = server.client.get(format!("{}/v1/sys/health", server.url())).send().await;
            asked.is_ok_and(|answer| answer.status() == 200).then_some(())
        })
        .await;
        Some(server)
    }

    /// Its origin.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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
            self.client.request(method, format!("{}/v1/{path}", self.url())).header("x-vault-token", ROOT);
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

fn spawn(program: &Path, home: &Path, address: SocketAddr) -> Child {
    let command = || {
        let mut command = Command::new(program);
        command.args(["server", "-dev", "-dev-no-store-token", "-log-level=error"]);
        command.arg(format!("-dev-root-token-id={ROOT}")).arg(format!("-dev-listen-address={address}"));
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
