//! A broker's process: the real binary, on a configuration that stays. It may die at any moment, and is started again with
//! other surroundings each time.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::eventually;

/// How long a start or an end may take, on a machine that builds at the same time.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How the process is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// `HALLPASS_KILL_AT`: the fail point that kills it.
    pub kill_at: Option<&'a str>,
    /// Whether a write beyond the limit of a file's size fails, as on a full disk, instead of ending the process.
    pub outlive_file_size_limit: bool,
    /// Variables in its environment.
    pub environment: &'a [(&'a str, &'a str)],
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It says that it is ready.
    Ready,
    /// It has ended by itself, or by its fail point.
    Ended(ExitStatus),
}

/// A broker's process. It ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    configuration: PathBuf,
    log: PathBuf,
    readiness: String,
    child: Option<Child>,
}

impl Process {
    /// Nothing runs yet. At `operations` it will tell that it is ready; `log` is where its output goes.
    #[must_use]
    pub fn new(configuration: PathBuf, operations: SocketAddr, log: PathBuf) -> Self {
        Self { configuration, log, readiness: format!("http://{operations}/readyz"), child: None }
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn spawn(&mut self, start: Start<'_>) {
        assert!(!self.runs(), "the broker runs already");
        self.child = Some(self.command(start).spawn().expect("the broker's binary starts"));
    }

    /// Starts it and awaits that it is ready or has ended.
    ///
    /// # Panics
    /// When it becomes neither.
    pub async fn start(&mut self, client: &reqwest::Client, start: Start<'_>) -> Started {
        self.spawn(start);
        let readiness = self.readiness.clone();
        let child = self.child.as_mut().expect("just started");
        let started = eventually("the broker is ready or has ended", DEADLINE, || {
            let ended = child.try_wait().expect("our own process can be awaited");
            let asked = client.get(&readiness).send();
            async move {
                match (ended, asked.await) {
                    (Some(status), _) => Some(Started::Ended(status)),
                    (None, Ok(answer)) if answer.status().is_success() => Some(Started::Ready),
                    (None, _) => None,
                }
            }
        });
        started.await
    }

    /// Kills it, unless it is dead already: nothing is flushed, nobody is told.
    ///
    /// # Panics
    /// When it has ended by anything else.
    pub async fn kill9(&mut self) {
        if self.runs() {
            self.signal(Signal::KILL);
        }
        let status = self.ended().await;
        assert_killed(status, &self.output());
    }

    /// Awaits its end.
    ///
    /// # Panics
    /// When it was never started, or goes on running.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("a broker that was started");
        eventually("the broker ends", DEADLINE, || {
            let status = child.try_wait().expect("our own process can be awaited");
            async move { status }
        })
        .await
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is not running.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("our own process can be signalled");
    }

    /// Its id.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn id(&self) -> Pid {
        let child = self.child.as_ref().expect("a broker that was started");
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id")
    }

    /// Runs the binary with these arguments and this configuration, beside it or without it.
    ///
    /// # Panics
    /// When the binary cannot be started.
    #[must_use]
    pub fn beside(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = quiet_command(&program("hallpass-broker"));
        command.args(arguments).arg("--config").arg(&self.configuration).output().expect("the broker's binary starts")
    }

    /// Whether the process that was started still runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Everything that it wrote to standard output and standard error, over all its starts.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How often it said something.
    #[must_use]
    pub fn said(&self, what: &str) -> usize {
        self.output().matches(what).count()
    }

    /// Awaits that it says something once more than it had `before`.
    ///
    /// # Panics
    /// When it does not.
    pub async fn says(&self, what: &str, before: usize) {
        eventually(what, DEADLINE, async || (self.said(what) > before).then_some(())).await;
    }

    fn command(&self, start: Start<'_>) -> Command {
        let program = program("hallpass-broker");
        let mut command = if start.outlive_file_size_limit {
            let mut shell = quiet_command(Path::new("sh"));
            shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program);
            shell
        } else {
            quiet_command(&program)
        };
        command.arg("serve").arg("--config").arg(&self.configuration);
        if let Some(kill_at) = start.kill_at {
            command.env("HALLPASS_KILL_AT", kill_at);
        }
        command.envs(start.environment.iter().copied());
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        command
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the broker said")]
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<_> = output.lines().collect();
            eprintln!("the broker said, at last:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// Stops a child, and awaits that it has stopped: when the signal is sent its threads still run, and may answer.
///
/// # Panics
/// When it is no child, or has ended.
pub(crate) fn halt(child: Pid) {
    kill_process(child, Signal::STOP).expect("it runs");
    waitid(WaitId::Pid(child), WaitIdOptions::STOPPED).expect("it is a child that runs");
}

/// A broker that dies by anything but SIGKILL here has panicked or given up.
///
/// # Panics
/// When it did.
#[track_caller]
pub fn assert_killed(status: ExitStatus, output: &str) {
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it ended with {status}, not by being killed:\n{output}");
}

/// A binary of the workspace, beside the test that runs.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the running test has a path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie two levels below the target folder");
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{name} is not built: run tests/run, or cargo build --workspace --all-targets --features hallpass-broker/failpoints"
    );
    program
}

/// A command whose environment has nothing that would change what is tested.
#[must_use]
pub fn quiet_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.ends_with("_PROXY") || text.starts_with("HALLPASS") || text == "RUST_LOG" || text == "FAILPOINTS" {
            command.env_remove(&name);
        }
    }
    command
}
