//! `exec`: a command runs with a credential, which is taken back when it ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use base64::Engine as _;

use crate::stub::{Answer, JWT, Stub, grant, json, opened};
use crate::{X509, asked, broker, hallpass, status, text};

fn exec(stub: &Stub, script: &str) -> Command {
    let role = ["exec", "--role", "payments/prod/deploy", "--purpose", "deploy 4f2c", "--heartbeat", "3s"];
    hallpass(stub, &[&role[..], &["--", "sh", "-c", script]].concat())
}

#[test]
fn exec_gives_the_credential_and_not_the_proof_and_takes_it_back() {
    let stub = broker(JWT);
    let run =
        exec(&stub, r#"echo "$HALLPASS_TOKEN $HALLPASS_GRANT_ID ${HALLPASS_PROOF-none}"; exit 7"#).output().unwrap();
    assert_eq!((status(&run), text(&run.stdout).as_str()), (7, "the-token gr_1 none\n"), "{run:?}");
    let opening = stub.next();
    assert!(opening.body.contains(r#""ends_when":{"heartbeat":"3s"}"#), "{}", opening.body);
    assert_eq!(asked(&stub), ["POST /v1/grants/gr_1/revoke"]);
}

#[test]
fn exec_removes_the_variable_that_a_named_proof_came_from() {
    let stub = broker(JWT);
    let line =
        ["exec", "--proof", "env:MY_PROOF", "--role", "r", "--purpose", "p", "--", "sh", "-c", "echo ${MY_PROOF-none}"];
    let run = hallpass(&stub, &line).env("MY_PROOF", "another").output().unwrap();
    assert_eq!(text(&run.stdout), "none\n", "{run:?}");
    assert_eq!(stub.next().header("authorization"), Some("Bearer another"));
}

#[test]
fn exec_passes_signals_on_and_revokes_after_them() {
    use rustix::process::{Pid, Signal, kill_process};
    for (name, signal) in [("TERM", Signal::TERM), ("HUP", Signal::HUP), ("INT", Signal::INT), ("QUIT", Signal::QUIT)] {
        let stub = broker(JWT);
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do read line; done");
        let mut setsid = Command::new("setsid");
        // Without a terminal: one that the test runs in would be taken to have sent SIGINT to the command itself.
        setsid.arg("--wait").args(["sh", "-c", "echo $$; exec \"$@\"", "sh"]);
        let inner = exec(&stub, &script);
        setsid.arg(inner.get_program()).args(inner.get_args()).env_clear();
        setsid.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut running = setsid.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        let id: i32 = lines.next().unwrap().unwrap().parse().unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
        // The command's shell looks at the signal when its read returns.
        drop(running.stdin.take());
        assert_eq!(running.wait().unwrap().code(), Some(42), "{name}");
        assert!(asked(&stub).contains(&"POST /v1/grants/gr_1/revoke".to_owned()));
    }
}

#[test]
fn exec_reports_the_signal_that_ended_the_command() {
    let stub = broker(JWT);
    assert_eq!(status(&exec(&stub, "kill -KILL $$").output().unwrap()), 137);
    assert_eq!(asked(&stub), ["POST /v1/grants", "POST /v1/grants/gr_1/revoke"]);
}

#[test]
fn exec_revokes_when_the_command_cannot_be_run() {
    let stub = broker(JWT);
    let line = |program| ["exec", "--role", "r", "--purpose", "p", "--", program];
    assert_eq!(status(&hallpass(&stub, &line("/nowhere/at/all")).output().unwrap()), 127);
    assert_eq!(status(&hallpass(&stub, &line("/dev/null")).output().unwrap()), 126);
    assert_eq!(asked(&stub).iter().filter(|line| line.ends_with("/revoke")).count(), 2);
}

#[test]
fn exec_revokes_a_credential_of_a_type_that_it_does_not_know() {
    let stub = broker(r#"{"type":"passkey","expires_at":"2099-01-31T09:10:00Z"}"#);
    assert_eq!(status(&exec(&stub, "exit 0").output().unwrap()), 1);
    assert_eq!(asked(&stub), ["POST /v1/grants", "POST /v1/grants/gr_1/revoke"]);
}

#[test]
fn exec_keeps_files_private_and_removes_them() {
    let stub = broker(X509);
    let script = r#"stat -c %a "$(dirname "$HALLPASS_KEY_FILE")" "$HALLPASS_KEY_FILE"
        cat "$HALLPASS_CERT_FILE" "$HALLPASS_KEY_FILE" "$HALLPASS_CA_FILE"; echo; echo "$HALLPASS_KEY_FILE""#;
    let run = exec(&stub, script).output().unwrap();
    let stdout = text(&run.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines[..3], ["700", "600", "CHAINKEYROOTS"], "{run:?}");
    assert!(!std::path::Path::new(lines[3]).exists());
}

#[test]
fn exec_does_not_overwrite_what_is_there() {
    let stub = broker(X509);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.pem"), "mine").unwrap();
    let files = folder.path().to_str().unwrap();
    let line = ["exec", "--role", "r", "--purpose", "p", "--files", files, "--", "true"];
    assert_eq!(status(&hallpass(&stub, &line).output().unwrap()), 1);
    assert_eq!(std::fs::read_to_string(folder.path().join("key.pem")).unwrap(), "mine");
    assert!(!folder.path().join("cert.pem").exists());
    assert!(asked(&stub).contains(&"POST /v1/grants/gr_1/revoke".to_owned()));
}

#[test]
fn exec_asks_for_no_longer_than_a_proof_that_cannot_be_refreshed() {
    let stub = broker(JWT);
    let exp = std::process::Command::new("date").arg("+%s").output().unwrap();
    let exp: u64 = text(&exp.stdout).trim().parse::<u64>().unwrap() + 120;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{exp}}}"#));
    let line = ["exec", "--role", "r", "--purpose", "p", "--ttl", "15m", "--", "true"];
    let run = hallpass(&stub, &line).env("HALLPASS_PROOF", format!("e30.{claims}.c2ln")).output().unwrap();
    assert!(text(&run.stderr).contains("cannot be refreshed and expires in"), "{run:?}");
    let request: serde_json::Value = serde_json::from_str(&stub.next().body).unwrap();
    let ttl: hallpass_sdk::wire::Duration = serde_json::from_value(request["ttl"].clone()).unwrap();
    assert!((100..=120).contains(&ttl.as_secs()), "{ttl}");
}

#[test]
fn exec_tells_when_the_grant_ends_first_and_ends_the_command_when_asked() {
    let stub = Stub::start(|request, _| match request.target.as_str() {
        "/v1/grants" => opened("gr_1", JWT),
        _ => json(200, grant("gr_1", "revoked")),
    });
    let script = "read line";
    let line =
        ["exec", "--role", "r", "--purpose", "p", "--heartbeat", "3s", "--kill-on-end", "--", "sh", "-c", script];
    let running =
        hallpass(&stub, &line).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Standard input stays open: only the signal ends the command.
    let mut running = running;
    let input = running.stdin.take();
    let run = running.wait_with_output().unwrap();
    drop(input);
    assert_eq!(status(&run), 143);
    assert!(text(&run.stderr).contains("grant gr_1 has ended while the command runs (revoked: operator)"), "{run:?}");
}

#[test]
fn exec_is_not_held_up_by_a_broker_that_is_gone() {
    let stub = Stub::start(|request, _| match request.target.as_str() {
        "/v1/grants" => opened("gr_1", JWT),
        _ => Answer::HangUp,
    });
    let run = exec(&stub, "exit 9").output().unwrap();
    assert_eq!(status(&run), 9);
    assert!(text(&run.stderr).contains("could not be revoked"));
}
