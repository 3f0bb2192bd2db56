//! The broker as its users have it: the real binary, on a throwaway folder and free loopback ports.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::config::{self, Setup};
use crate::port::lasting_address;
use crate::process::{Process, Start, Started, program, quiet_command};
use crate::{Answer, Exchange, Store};

/// A broker that runs, or ran. The process ends and the folder goes when this is dropped.
#[derive(Debug)]
pub struct Broker {
    // Before the folder that it works in.
    process: Process,
    folder: TempDir,
    file: PathBuf,
    listen: SocketAddr,
    operations: SocketAddr,
    environment: Vec<(String, String)>,
    client: reqwest::Client,
}

impl Broker {
    /// Starts a broker and awaits that it is ready.
    ///
    /// # Panics
    /// When it does not become ready; the message has what it said.
    pub async fn start(setup: &Setup) -> Self {
        Self::start_with(setup, &[]).await
    }

    /// The same with variables in its environment, such as `FAILPOINTS`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_with(setup: &Setup, environment: &[(&str, &str)]) -> Self {
        let mut broker = Self::prepare(setup, environment);
        broker.restart().await;
        broker
    }

    /// Writes server file and bundle, and starts nothing.
    ///
    /// # Panics
    /// When the folder cannot be written.
    #[must_use]
    pub fn prepare(setup: &Setup, environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("hallpass-").expect("a temporary folder");
        let (listen, operations) = (lasting_address(), lasting_address());
        let file = setup.write(folder.path(), listen, operations).expect("the configuration is written");
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let process = Process::new(file.clone(), operations, folder.path().join("broker.log"));
        Self { process, folder, file, listen, operations, environment, client: client() }
    }

    /// Starts it, again, on the same folder and ports, and awaits that it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn restart(&mut self) {
        let start = Start { environment: &surroundings(&self.environment), ..Start::default() };
        if let Started::Ended(status) = self.process.start(&self.client, start).await {
            panic!("the broker ended with {status}:\n{}", self.output());
        }
    }

    /// Starts it and awaits that it ends by itself, as it does on a configuration that it refuses.
    ///
    /// # Panics
    /// When it goes on running.
    pub async fn end_by_itself(&mut self) -> ExitStatus {
        self.process.spawn(Start { environment: &surroundings(&self.environment), ..Start::default() });
        self.process.ended().await
    }

    /// Kills it: nothing is flushed, nobody is told.
    ///
    /// # Panics
    /// When it is not running.
    pub async fn kill9(&mut self) {
        self.process.kill9().await;
    }

    /// Asks it to stop (`SIGTERM`) and awaits that it has.
    ///
    /// # Panics
    /// When it goes on running.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.signal(rustix::process::Signal::TERM);
        self.process.ended().await
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is not running.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.process.signal(signal);
    }

    /// Whether the process that was started still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.runs()
    }

    /// The most memory that it has held so far.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn peak_megabytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id().as_raw_nonzero()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") / 1024
    }

    /// Runs another command of the same binary on the same folder, such as `check` or `operator-token`.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> std::process::Output {
        let mut command = quiet_command(&program("hallpass-broker"));
        command.args(arguments).arg("--config").arg(&self.file).output().expect("the broker's binary starts")
    }

    /// The same with variables in its environment.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn command_in(
        &self,
        environment: &[(&str, &str)],
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> std::process::Output {
        let mut command = quiet_command(&program("hallpass-broker"));
        command.envs(environment.iter().copied()).args(arguments).arg("--config").arg(&self.file);
        command.output().expect("the broker's binary starts")
    }

    /// Puts another section in the place of one of its server file, for its next start and for commands.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn configure(&self, name: &str, section: Value) {
        config::replace_section(&self.file, name, section);
    }

    /// Runs the binary with these arguments alone.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> std::process::Output {
        quiet_command(&program("hallpass-broker")).args(arguments).output().expect("the broker's binary starts")
    }

    /// Its server file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A file of its bundle.
    #[must_use]
    pub fn in_bundle(&self, path: &str) -> PathBuf {
        self.folder.path().join("bundle").join(path)
    }

    /// Exchanges a proof at `/oauth2/token`.
    ///
    /// # Panics
    /// When the broker gives no answer at all.
    pub async fn exchange(&self, exchange: &Exchange) -> Answer {
        let mut request = self.client.post(self.at("/oauth2/token")).form(&exchange.parameters);
        for (name, value) in &exchange.headers {
            request = request.header(name, value);
        }
        Answer::read(request.send().await.expect("an answer")).await
    }

    /// Sends a request with `Authorization: Bearer <proof>`.
    ///
    /// # Panics
    /// When the broker gives no answer at all.
    pub async fn call(&self, method: &str, path: &str, proof: Option<&str>, body: Option<&Value>) -> Answer {
        self.call_at(self.listen, method, path, proof, body).await
    }

    /// The same at another of its listeners.
    ///
    /// # Panics
    /// When the broker gives no answer at all.
    pub async fn call_at(
        &self,
        listener: SocketAddr,
        method: &str,
        path: &str,
        proof: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("http://{listener}{path}"));
        if let Some(proof) = proof {
            request = request.bearer_auth(proof);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::read(request.send().await.expect("an answer")).await
    }

    /// The same as [`Broker::call`], with a header more.
    ///
    /// # Panics
    /// When the broker gives no answer at all.
    pub async fn call_with(
        &self,
        (method, path): (&str, &str),
        proof: &str,
        header: (&str, &str),
        body: Option<&Value>,
    ) -> Answer {
        let answer = self.try_call_with((method, path), proof, header, body).await;
        answer.expect("an answer")
    }

    /// The same, where the broker may die before it answers.
    ///
    /// # Errors
    /// When it gives no answer.
    pub async fn try_call_with(
        &self,
        (method, path): (&str, &str),
        proof: &str,
        header: (&str, &str),
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, self.at(path)).bearer_auth(proof).header(header.0, header.1);
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(Answer::read(request.send().await?).await)
    }

    /// Another value of a variable in the environment of its next start; none, to take it away.
    pub fn set_environment(&mut self, name: &str, value: Option<&str>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Sends a body as it is, without or with its type.
    ///
    /// # Panics
    /// When the broker gives no answer at all.
    pub async fn post_raw(
        &self,
        path: &str,
        proof: Option<&str>,
        content_type: Option<&str>,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let mut request = self.client.post(self.at(path)).body(body.into());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(proof) = proof {
            request = request.bearer_auth(proof);
        }
        Answer::read(request.send().await.expect("an answer")).await
    }

    /// Asks the operations listener.
    ///
    /// # Panics
    /// When it gives no answer at all.
    pub async fn operations(&self, path: &str) -> Answer {
        let asked = self.client.get(format!("http://{}{path}", self.operations)).send();
        Answer::read(asked.await.expect("an answer")).await
    }

    /// Its `public_url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// A URL on its public listener.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// A client that follows no redirect and no proxy.
    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its database, read beside it.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::open(&config::database(self.folder.path()))
    }

    /// Everything that it wrote to standard output and standard error, over all its starts.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }
}

fn surroundings(environment: &[(String, String)]) -> Vec<(&str, &str)> {
    environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[expect(clippy::disallowed_methods, reason = "the tests' own client; it is bounded here")]
pub(crate) fn client() -> reqwest::Client {
    // Another test of the same process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(Duration::from_secs(30)).build().expect("a client")
}
