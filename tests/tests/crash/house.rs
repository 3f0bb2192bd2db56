//! An issuer, a broker that trusts it and may die, and a caller.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use hallpass_tests::config::{self, Setup};
use hallpass_tests::{Issuer, SigningKey, Store};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::caller::Caller;
use crate::process::{Process, Start, Started, assert_has_fail_points, assert_killed, lasting_address};

/// What the broker says when it decides by another bundle.
const RELOADED: &str = "the bundle was loaded again";

/// Everything that an experiment needs.
pub(crate) struct House {
    pub(crate) process: Process,
    pub(crate) caller: Caller,
    pub(crate) database: PathBuf,
    setup: Setup,
    operations: SocketAddr,
    folder: TempDir,
}

impl House {
    /// Nothing runs yet.
    pub(crate) async fn build() -> Self {
        Self::build_in(TempDir::with_prefix("hallpass-crash-").expect("a temporary folder"), json!({})).await
    }

    /// The same in this folder, with sections laid over the server file.
    pub(crate) async fn build_in(folder: TempDir, server: Value) -> Self {
        Self::build_with(folder, |setup| setup.server(server)).await
    }

    /// The same with another configuration.
    pub(crate) async fn build_with(folder: TempDir, change: impl FnOnce(Setup) -> Setup) -> Self {
        let key = SigningKey::es256("key-1");
        let issuer = Issuer::start(&[&key]).await;
        let (listen, operations) = (lasting_address(), lasting_address());
        let setup = change(Setup::trusting(&[("ci", &issuer)]));
        let file = setup.write(folder.path(), listen, operations).expect("the configuration is written");
        let database = setup.server.pointer("/store/path").and_then(Value::as_str).map(PathBuf::from);
        Self {
            process: Process::new(file, operations, folder.path().join("broker.log")),
            caller: Caller::new(listen, issuer, key),
            database: database.unwrap_or_else(|| config::database(folder.path())),
            setup,
            operations,
            folder,
        }
    }

    /// A broker that runs.
    pub(crate) async fn open() -> Self {
        let mut house = Self::build().await;
        house.start().await;
        house
    }

    /// Starts the broker and awaits that it is ready.
    pub(crate) async fn start(&mut self) {
        self.start_as(Start::default()).await;
    }

    pub(crate) async fn start_as(&mut self, start: Start<'_>) {
        if let Started::Ended(status) = self.process.start(&self.caller.client, start).await {
            panic!("the broker ended with {status}:\n{}", self.process.output());
        }
    }

    /// Starts a broker that is to be killed at a fail point. `false` where that came before it was ready.
    pub(crate) async fn start_to_die(&mut self, kill_at: &str) -> bool {
        assert_has_fail_points();
        let start = Start { kill_at: Some(kill_at), ..Start::default() };
        match self.process.start(&self.caller.client, start).await {
            Started::Ready => true,
            Started::Ended(status) => {
                assert_killed(status, &self.process.output());
                false
            }
        }
    }

    /// Starts a broker that is to end by itself, as it does on what it refuses.
    pub(crate) async fn start_in_vain(&mut self) -> ExitStatus {
        match self.process.start(&self.caller.client, Start::default()).await {
            Started::Ended(status) => status,
            Started::Ready => panic!("the broker started"),
        }
    }

    /// Writes another bundle and tells the broker to load it. Returns once the broker says that it has.
    pub(crate) async fn reload(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        self.setup.write(self.folder.path(), self.caller.address(), self.operations).expect("it is written");
        self.hang_up().await;
    }

    /// SIGHUP: it loads its bundle again, and takes its clock for right.
    pub(crate) async fn hang_up(&self) {
        let before = self.process.said(RELOADED);
        self.process.signal(Signal::HUP);
        self.process.says(RELOADED, before).await;
    }

    /// A second broker over the same store, on ports of its own. It does not run yet.
    pub(crate) fn second_process(&self) -> Process {
        let (listen, operations) = (lasting_address(), lasting_address());
        let second = self.folder.path().join("second");
        let key = self.folder.path().join("kek");
        let setup = self.setup.clone().server(json!({
            "store": {"path": self.database},
            "keys": {"key_encryption_key_file": key},
        }));
        let file = setup.write(&second, listen, operations).expect("the configuration is written");
        Process::new(file, operations, second.join("broker.log"))
    }

    /// The status of a page of the operations listener; `None` where nobody answers.
    pub(crate) async fn operations(&self, path: &str) -> Option<u16> {
        let asked = self.caller.client.get(format!("http://{}{path}", self.operations)).send().await;
        asked.ok().map(|answer| answer.status().as_u16())
    }

    /// A page of the operations listener.
    pub(crate) async fn page(&self, path: &str) -> String {
        let asked = self.caller.client.get(format!("http://{}{path}", self.operations)).send().await;
        asked.expect("an answer").text().await.expect("a text")
    }

    /// How a part is by `/readyz`, if it answers.
    pub(crate) async fn part(&self, part: &str) -> Option<String> {
        let asked = self.caller.client.get(format!("http://{}/readyz", self.operations)).send().await.ok()?;
        let report: serde_json::Value = serde_json::from_str(&asked.text().await.ok()?).ok()?;
        let found = report["parts"].as_array()?.iter().find(|one| one["part"] == part)?;
        found["status"].as_str().map(str::to_owned)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database, read beside the broker.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.database)
    }
}
