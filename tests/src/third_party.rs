//! Other people's software at both ends of the broker: a certified OIDC provider and an unmodified OAuth client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::component;

/// The scripts of `tests/oidc`, laid beside the packages that they import.
#[derive(Debug)]
struct Scripts(TempDir);

impl Scripts {
    fn lay() -> Option<Self> {
        let packages = component::node()?.join("node_modules");
        let folder = TempDir::with_prefix("hallpass-oidc-").expect("a temporary folder");
        for script in ["provider.mjs", "exchange.mjs", "possess.mjs"] {
            let from = component::root().join("tests/oidc").join(script);
            std::fs::copy(from, folder.path().join(script)).expect("the script is there");
        }
        std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).expect("a link");
        Some(Self(folder))
    }

    fn path(&self, script: &str) -> PathBuf {
        let folder: &Path = self.0.path();
        folder.join(script)
    }
}

/// npm's `oidc-provider`, signing the claims of GitHub Actions. It ends when dropped.
#[derive(Debug)]
pub struct Provider {
    url: String,
    process: Child,
    client: reqwest::Client,
    _scripts: Scripts,
}

impl Provider {
    /// Starts it, where node and its packages are there.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let scripts = Scripts::lay()?;
        let mut node = Command::new("node");
        node.arg(scripts.path("provider.mjs")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = node.spawn().expect("node starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let said: Value = serde_json::from_str(&line).expect("it says so in JSON");
        let url = said["issuer"].as_str().expect("its address").to_owned();
        Some(Self { url, process, client: crate::broker::client(), _scripts: scripts })
    }

    /// Its name: the value of `iss`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A token for this audience.
    ///
    /// # Panics
    /// When it gives none.
    pub async fn token(&self, audience: &str) -> String {
        let parameters = [
            ("grant_type", "client_credentials"),
            ("client_id", "ci"),
            ("client_secret", "ci"),
            ("resource", audience),
        ];
        let answer = self.client.post(format!("{}/token", self.url)).form(&parameters).send().await;
        let answer: Value = answer.expect("an answer").json().await.expect("JSON");
        answer["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// Lays claims over the standard ones for the tokens to come; null removes one.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn claims(&self, claims: &Value) {
        self.control("claims", claims).await;
    }

    /// Signs what another kind of issuer says of a workload from now on.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn workload(&self, claims: &Value) {
        self.control("workload", claims).await;
    }

    /// Signs with a new key from now on; the old one is no longer published.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn rotate(&self) {
        self.control("rotate", &Value::Null).await;
    }

    async fn control(&self, what: &str, body: &Value) {
        let answer = self.client.post(format!("{}/control/{what}", self.url)).json(body).send().await;
        assert!(answer.expect("an answer").status().is_success(), "control/{what}");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Exchanges a proof by npm's `openid-client`; gives its whole answer, or its error. None where node is missing.
///
/// # Panics
/// When the client says nothing.
#[must_use]
pub fn exchange(broker: &str, role: &str, purpose: &str, proof: &str) -> Option<Value> {
    run("exchange.mjs", [broker, role, purpose], proof)
}

/// Has npm's `openid-client` exchange a proof with a key of its own, and use the token that it gets; gives what it saw.
/// None where node is missing.
///
/// # Panics
/// When the client says nothing.
#[must_use]
pub fn possess(broker: &str, role: &str, algorithm: &str, proof: &str) -> Option<Value> {
    run("possess.mjs", [broker, role, algorithm], proof)
}

fn run(script: &str, arguments: [&str; 3], proof: &str) -> Option<Value> {
    let scripts = Scripts::lay()?;
    let mut node = Command::new("node");
    node.arg(scripts.path(script)).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = node.spawn().expect("node starts");
    process.stdin.take().expect("its input").write_all(proof.as_bytes()).expect("it reads the proof");
    let output = process.wait_with_output().expect("it ends");
    Some(serde_json::from_slice(&output.stdout).expect("it answers in JSON"))
}
