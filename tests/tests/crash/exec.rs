//! `hallpass exec` against a real broker: a command has a credential for as long as it runs, and no longer.

use std::process::Stdio;
use std::time::Duration;

use hallpass_tests::config::ROLE;
use hallpass_tests::{eventually, full, unix_millis};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::house::House;
use crate::ledger::{self, hex, millis, text};
use crate::process::{program, quiet_command};

/// Prints what the command knows of its grant; the id of the command's process is last.
const INTRODUCTION: &str = "echo $HALLPASS_GRANT_ID $HALLPASS_TOKEN $$";

/// `hallpass exec` with a script that has introduced itself.
struct Running {
    hallpass: Child,
    lines: Lines<BufReader<ChildStdout>>,
    grant: String,
    token: String,
    script: Pid,
}

impl Running {
    async fn start(house: &House, heartbeat: &str, script: &str) -> Self {
        let mut command = Command::from(quiet_command(&program("hallpass")));
        command.args(["exec", "--role", ROLE, "--purpose", "deploy build 4f2c", "--heartbeat", heartbeat]);
        command.args(["--", "sh", "-c", &format!("{INTRODUCTION}; {script}")]);
        command.env("HALLPASS_URL", house.caller.at("")).env("HALLPASS_PROOF", house.caller.proof().token);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut hallpass = command.spawn().expect("hallpass starts");
        let mut lines = BufReader::new(hallpass.stdout.take().expect("its output")).lines();
        let line = lines.next_line().await.expect("its output").expect("the command introduces itself");
        let words: Vec<&str> = line.split(' ').collect();
        let [grant, token, script] = words[..] else { panic!("not an introduction: {line:?}") };
        let script = Pid::from_raw(script.parse().expect("a process id")).expect("a process id");
        Self { hallpass, lines, grant: hex(grant), token: token.to_owned(), script }
    }

    /// What `hallpass` ends with, after its output has ended.
    async fn status(&mut self) -> Option<i32> {
        while self.lines.next_line().await.expect("its output").is_some() {}
        self.hallpass.wait().await.expect("our own process can be awaited").code()
    }

    fn signal(&self, signal: Signal) {
        let id = self.hallpass.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        kill_process(id, signal).expect("our own process can be signalled");
    }

    #[track_caller]
    fn assert_grant(&self, house: &House, state: &str, cause: &str) {
        let grant = &ledger::grants(&house.store())[&self.grant];
        assert_eq!((text(grant, "state"), text(grant, "cause")), (state, cause));
    }

    async fn is_live(&self, house: &House) -> bool {
        let reply = house.caller.introspect(&house.caller.proof(), &self.token).await.expect("an answer");
        reply.assert_status(200);
        reply.body["active"] == true
    }
}

#[tokio::test]
async fn a_grant_ends_with_its_command_whose_status_is_told() {
    let house = House::open().await;
    let mut running = Running::start(&house, "30s", "exit 7").await;
    assert_eq!(running.status().await, Some(7));
    running.assert_grant(&house, "revoking", "requested");
    assert!(!running.is_live(&house).await, "the credential outlives its command");
    ledger::assert_sound(&house.store());
}

#[tokio::test]
async fn signals_reach_the_command_and_the_grant_ends_after_them() {
    let house = House::open().await;
    for (name, signal) in [("TERM", Signal::TERM), ("HUP", Signal::HUP)] {
        let script = format!("trap 'kill $!; exit 42' {name}; sleep 600 & echo trapped; wait");
        let mut running = Running::start(&house, "30s", &script).await;
        assert_eq!(running.lines.next_line().await.expect("its output").as_deref(), Some("trapped"));
        assert!(running.is_live(&house).await, "the command has a credential that does not work");
        running.signal(signal);
        assert_eq!(running.status().await, Some(42), "{name}");
        running.assert_grant(&house, "revoking", "requested");
    }
}

#[tokio::test]
async fn when_all_are_killed_outright_the_grant_ends_without_its_heartbeat() {
    let house = House::open().await;
    // The shortest that the broker lets anybody ask for; in the stated sizes, what is asked for when nothing is said.
    let (heartbeat, deadline) = if full() { ("45s", 60) } else { ("5s", 20) };
    let running = Running::start(&house, heartbeat, "exec sleep 600").await;
    eventually("a heartbeat has come", Duration::from_secs(deadline), async || {
        let grant = &ledger::grants(&house.store())[&running.grant];
        (millis(grant, "last_seen_at") > millis(grant, "created_at")).then_some(())
    })
    .await;
    assert!(running.is_live(&house).await);
    running.signal(Signal::KILL);
    kill_process(running.script, Signal::KILL).expect("the command runs");
    eventually("the grant ends", Duration::from_secs(deadline), async || {
        (text(&ledger::grants(&house.store())[&running.grant], "state") != "active").then_some(())
    })
    .await;
    running.assert_grant(&house, "revoking", "heartbeat_missed");
    assert!(!running.is_live(&house).await, "a credential outlives everybody who had it");
    ledger::assert_sound(&house.store());
}

#[tokio::test]
async fn a_command_outlives_a_broker_that_was_down_for_longer_than_its_heartbeat() {
    let mut house = House::open().await;
    let mut running = Running::start(&house, "5s", "exec sleep 600").await;
    house.process.kill9().await;
    let seen_at = || millis(&ledger::grants(&house.store())[&running.grant], "last_seen_at");
    let before = seen_at();
    eventually("its heartbeat is overdue", Duration::from_secs(20), async || {
        (unix_millis() > before + 6_000).then_some(())
    })
    .await;
    house.start().await;
    let seen_at = || millis(&ledger::grants(&house.store())[&running.grant], "last_seen_at");
    eventually("its next heartbeat is heard", Duration::from_secs(20), async || (seen_at() > before).then_some(()))
        .await;
    assert!(running.is_live(&house).await, "it was silent for as long as nobody listened");
    ledger::assert_sound(&house.store());
    kill_process(running.script, Signal::KILL).expect("the command runs");
    assert_eq!(running.status().await, Some(128 + 9));
}
