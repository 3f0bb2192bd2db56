//! The binary as its users run it, against a server that answers as told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect has failed"
)]

#[path = "../../tests/stub/mod.rs"]
mod stub;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use stub::{Answer, JWT, Stub, grant, json, opened, problem};

const X509: &str = r#"{"type":"x509","expires_at":"2099-01-31T09:10:00Z","certificate_chain":"CHAIN",
    "private_key":"KEY","trust_bundle":"ROOTS"}"#;

fn hallpass(stub: &Stub, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("HALLPASS_URL", &stub.url).env("HALLPASS_PROOF", "a-proof");
    command
}

fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(arguments);
    command
}

fn exec(stub: &Stub, script: &str) -> Command {
    let role = ["exec", "--role", "payments/prod/deploy", "--purpose", "deploy 4f2c", "--heartbeat", "3s"];
    hallpass(stub, &[&role[..], &["--", "sh", "-c", script]].concat())
}

fn broker(credential: &'static str) -> Stub {
    Stub::start(move |request, _| match request.target.as_str() {
        "/v1/grants" => opened("gr_1", credential),
        _ => json(200, grant("gr_1", "active")),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn asked(stub: &Stub) -> Vec<String> {
    stub.rest().iter().map(stub::Request::line).collect()
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
fn the_exit_status_says_what_kind_of_failure_it_was() {
    for (answer, expected) in [(401, 3), (403, 4), (404, 1), (503, 5)] {
        let stub = Stub::start(move |_, _| problem(answer, "some_code"));
        let run = hallpass(&stub, &["whoami"]).output().unwrap();
        assert_eq!(status(&run), expected, "{answer}");
        assert!(text(&run.stderr).contains("some_code"));
        assert!(text(&run.stderr).contains("req-1"));
    }
    let waiting = Stub::start(|_, _| json(202, r#"{"access_request":{"id":"ar_1"}}"#));
    assert_eq!(status(&hallpass(&waiting, &["exchange", "--role", "r", "--purpose", "p"]).output().unwrap()), 4);
    assert_eq!(status(&bare(&["whoami"]).output().unwrap()), 2, "no broker is named");
    assert_eq!(status(&bare(&["whoami", "--url", "http://hallpass.example"]).output().unwrap()), 2, "plain http");
    assert_eq!(status(&bare(&["whoami", "--url", "http://127.0.0.1:9"]).output().unwrap()), 3, "no proof");
    assert_eq!(
        status(&bare(&["whoami", "--url", "http://127.0.0.1:9", "--proof", "x"]).output().unwrap()),
        2,
        "no source"
    );
    assert_eq!(status(&bare(&["whoami", "--url", "http://127.0.0.1:9", "--proof", "env:X"]).output().unwrap()), 3);
    let closed = bare(&["whoami", "--url", "http://127.0.0.1:9"]).env("HALLPASS_PROOF", "t").output().unwrap();
    assert_eq!(status(&closed), 5, "nobody listens");
    assert_eq!(status(&bare(&["exec", "--", "true"]).output().unwrap()), 2, "no role");
}

#[test]
fn the_audit_log_is_named_only_where_it_has_something() {
    let said = |answer: fn() -> Answer| {
        let stub = Stub::start(move |_, _| answer());
        text(&hallpass(&stub, &["whoami"]).output().unwrap().stderr).to_owned()
    };
    assert!(said(|| problem(403, "policy_denied")).contains("the broker's audit log has it under request req-1"));
    // As of an endpoint that is not there, and of a caller that asks too often: no step refused.
    let stepless = || match problem(404, "not_found") {
        Answer::Reply { status, headers, body } => {
            Answer::Reply { status, headers, body: body.replace(r#""step":"decide","#, "") }
        }
        other => other,
    };
    let said = said(stepless);
    assert!(said.contains("this was request req-1") && !said.contains("audit log"), "{said}");
}

#[test]
fn failures_are_json_when_asked() {
    let stub = Stub::start(|_, _| problem(403, "denied"));
    let run = hallpass(&stub, &["whoami", "--output", "json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&run.stderr).unwrap();
    assert_eq!(told["error"]["code"], "denied");
    assert_eq!(told["error"]["exit_status"], 4);
}

#[test]
fn exchange_prints_the_token_alone_or_everything_as_json() {
    let stub = broker(JWT);
    let line = ["exchange", "--role", "r", "--purpose", "p"];
    let human = hallpass(&stub, &line).output().unwrap();
    assert_eq!(text(&human.stdout), "the-token\n");
    assert!(text(&human.stderr).contains("gr_1"));
    let run = hallpass(&stub, &[&line[..], &["--output", "json"]].concat()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((told["grant"]["id"].as_str(), told["credential"]["token"].as_str()), (Some("gr_1"), Some("the-token")));
}

#[test]
fn exchange_leaves_files_where_it_was_told() {
    let stub = broker(X509);
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("new");
    let line = ["exchange", "--role", "r", "--purpose", "p", "--files", files.to_str().unwrap()];
    let run = hallpass(&stub, &line).output().unwrap();
    assert!(text(&run.stdout).contains("export HALLPASS_KEY_FILE='"), "{run:?}");
    assert_eq!(std::fs::read_to_string(files.join("key.pem")).unwrap(), "KEY");
}

#[test]
fn grants_are_listed_page_after_page_and_shown_in_full() {
    let stub = Stub::start(|request, _| match in_order(&request.target).as_str() {
        "/v1/grants?limit=50&state=active" => {
            json(200, format!(r#"{{"items":[{}],"next_cursor":"c"}}"#, grant("gr_1", "active")))
        }
        "/v1/grants?cursor=c&limit=50&state=active" => {
            json(200, format!(r#"{{"items":[{}],"next_cursor":null}}"#, grant("gr_2", "active")))
        }
        "/v1/grants/gr_1" => json(200, grant("gr_1", "active")),
        _ => problem(404, "not_found"),
    });
    let list = hallpass(&stub, &["grants", "list", "--state", "active", "--all"]).output().unwrap();
    let listed = text(&list.stdout);
    assert_eq!(listed.lines().count(), 3, "{list:?}");
    assert!(listed.contains("gr_1") && listed.contains("gr_2") && !listed.contains('\u{1b}'));
    let show = hallpass(&stub, &["grants", "show", "gr_1"]).output().unwrap();
    for answer in ["deploy 4f2c", "CHG-1", "payments@corp.example", "repo:acme/shop", "commit=4f2c", "max_ttl=15m"] {
        assert!(text(&show.stdout).contains(answer), "{answer}: {show:?}");
    }
}

/// A target with its parameters sorted: their order says nothing.
fn in_order(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let mut parameters: Vec<&str> = query.split('&').collect();
    parameters.sort_unstable();
    format!("{path}?{}", parameters.join("&"))
}

#[test]
fn completions_need_no_broker() {
    for shell in ["bash", "zsh", "fish"] {
        let run = bare(&["completions", shell]).output().unwrap();
        assert!(text(&run.stdout).contains("exec"));
    }
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

const REVISION: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn publication(published: bool) -> String {
    format!(
        r#"{{"revision":"2222","replaces":"{REVISION}","published":{published},"changes":{{"added":["roles/a.toml"]}},
            "touched":{{"roles":["a"],"policies":[],"live_grants":3}},"widening":[]}}"#
    )
}

#[test]
fn a_bundle_that_was_got_is_changed_and_put_in_the_place_of_what_it_was() {
    let stub = Stub::start(|request, _| match request.line().as_str() {
        "GET /v1/configuration" => json(
            200,
            format!(
                r#"{{"source":"api","revision":"{REVISION}","published_at":"2026-01-01T00:00:00Z",
                    "files":{{"owners.toml":"x = 1\n"}}}}"#
            ),
        ),
        _ => json(200, publication(true)),
    });
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    let bundle = bundle.to_str().unwrap();
    let got = hallpass(&stub, &["configuration", "get", "--files", bundle]).output().unwrap();
    assert_eq!(status(&got), 0, "{got:?}");
    let again = hallpass(&stub, &["configuration", "get", "--files", bundle]).output().unwrap();
    assert_eq!(status(&again), 1, "what is there is not overwritten");
    std::fs::create_dir_all(format!("{bundle}/roles")).unwrap();
    std::fs::write(format!("{bundle}/roles/a.toml"), "y = 2\n").unwrap();
    std::fs::write(format!("{bundle}/README.md"), "no part of it").unwrap();
    let put = hallpass(&stub, &["configuration", "put", bundle]).output().unwrap();
    assert_eq!(status(&put), 0, "{put:?}");
    assert!(text(&put.stdout).contains("+ roles/a.toml") && text(&put.stdout).contains("3 live grants"), "{put:?}");
    let sent = stub.rest().into_iter().find(|request| request.line() == "PUT /v1/configuration").unwrap();
    assert_eq!(sent.header("if-match"), Some(format!("\"{REVISION}\"").as_str()));
    assert_eq!(sent.body, r#"{"files":{"owners.toml":"x = 1\n","roles/a.toml":"y = 2\n"}}"#);
    assert_eq!(std::fs::read_to_string(format!("{bundle}/.hallpass-revision")).unwrap(), "2222");
}

#[test]
fn a_bundle_is_not_put_in_the_place_of_nobody_knows_what() {
    let stub = Stub::start(|_, _| json(200, publication(false)));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("owners.toml"), "").unwrap();
    let bundle = folder.path().to_str().unwrap();
    let put = hallpass(&stub, &["configuration", "put", bundle]).output().unwrap();
    assert_eq!(status(&put), 2, "{put:?}");
    let dry = hallpass(&stub, &["configuration", "put", bundle, "--dry-run"]).output().unwrap();
    assert_eq!((status(&dry), text(&dry.stdout).starts_with("not published")), (0, true), "{dry:?}");
    assert_eq!(asked(&stub), ["PUT /v1/configuration?dry_run=true"]);
}

#[test]
fn a_file_that_would_lie_elsewhere_is_not_written() {
    for name in ["../owners.toml", "/tmp/owners.toml", "roles/../../x"] {
        let body = format!(
            r#"{{"source":"api","revision":"{REVISION}","published_at":"2026-01-01T00:00:00Z","files":{{"{name}":"x"}}}}"#
        );
        let stub = Stub::start(move |_, _| json(200, body.clone()));
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("bundle");
        let got = hallpass(&stub, &["configuration", "get", "--files", into.to_str().unwrap()]).output().unwrap();
        assert_eq!(
            (status(&got), into.exists(), folder.path().join("owners.toml").exists()),
            (1, false, false),
            "{name}"
        );
    }
}

#[test]
fn everything_that_is_wrong_with_a_bundle_is_told_with_its_place() {
    let stub = Stub::start(|_, _| {
        json(
            422,
            r#"{"type":"urn:x","title":"Invalid","status":422,"code":"invalid_configuration","detail":"two things",
                "findings":[{"file":"owners.toml","line":3,"reason":"is missing"},{"file":"roles/a.toml","reason":"no"}]}"#,
        )
    });
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().to_str().unwrap();
    let put = hallpass(&stub, &["configuration", "put", bundle, "--replaces", REVISION]).output().unwrap();
    let said = text(&put.stderr);
    assert_eq!(status(&put), 1);
    assert!(said.contains("\nowners.toml:3: is missing\nroles/a.toml: no\n"), "{said}");
}

const PREVIEW: &str = r#"{"matched":3,"ending_already":1,"counts":[
    {"role":"payments/prod/deploy","owner":"payments","environment":"prod","class":"hard","state":"active",
     "would_end":true,"grants":2},
    {"role":"payments/prod/deploy","owner":"payments","environment":"test","class":"hard","state":"active",
     "would_end":true,"grants":1},
    {"role":"payments/prod/deploy","owner":"payments","environment":"prod","class":"hard","state":"revoking",
     "would_end":false,"grants":1}],"grants":[GRANT]}"#;

fn revocation(state: &str, ended: u64) -> String {
    let receipt = if state == "completed" { r#""a.signed.receipt""# } else { "null" };
    format!(
        r#"{{"id":"rv_1","state":"{state}","selector":{{"commit":"4f2c"}},"reason":"leaked","by":"ci:ada",
            "created_at":"2026-01-31T09:00:00Z","matched":{ended},"ended":{ended},"remaining":0,"failing":0,
            "by_state":{{"revoked":{ended}}},"receipt":{receipt}}}"#
    )
}

/// A broker at which a revocation is completed at the third look, and comes to know of its grants meanwhile.
fn revoking() -> Stub {
    let looks = std::sync::atomic::AtomicU64::new(0);
    Stub::start(move |request, _| match (request.line().as_str(), request.body.contains(r#""dry_run":true"#)) {
        ("POST /v1/revocations", true) => json(200, PREVIEW.replace("GRANT", &grant("gr_1", "active"))),
        ("POST /v1/revocations", false) => json(202, revocation("running", 0)),
        ("GET /v1/revocations/rv_1", _) => match looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            looks @ 0..=1 => json(200, revocation("running", looks)),
            _ => json(200, revocation("completed", 3)),
        },
        _ => problem(404, "not_found"),
    })
}

const REVOKE: [&str; 5] = ["revoke", "--commit", "4f2c", "--reason", "leaked"];

#[test]
fn a_set_is_shown_before_it_ends_and_followed_until_it_has_ended() {
    let stub = revoking();
    let run = hallpass(&stub, &[&REVOKE[..], &["--yes"]].concat()).output().unwrap();
    assert_eq!(status(&run), 0, "{run:?}");
    let stdout = text(&run.stdout);
    assert!(stdout.starts_with("3 grants would end by commit=4f2c; 1 ending already\n"), "{stdout}");
    let kinds: Vec<Vec<&str>> =
        stdout.lines().filter(|line| line.contains("end")).map(|line| line.split_whitespace().collect()).collect();
    assert!(kinds.contains(&vec!["would", "end", "3", "payments/prod/deploy", "payments", "active"]), "{stdout}");
    assert!(
        kinds.contains(&vec!["ending", "already", "1", "payments/prod/deploy", "payments", "revoking"]),
        "{stdout}"
    );
    for told in ["gr_1", "completed", "3 revoked", "signed"] {
        assert!(stdout.contains(told), "{told}: {stdout}");
    }
    let progress: Vec<_> = text(&run.stderr).lines().map(str::to_owned).collect();
    assert_eq!(progress[1..], [0, 1, 3].map(|n| format!("hallpass: {n} of 3 ended, {} remaining", 3 - n)), "{run:?}");
    let [preview, begin] = [stub.next(), stub.next()];
    assert!(preview.header("idempotency-key").is_none());
    assert!(begin.header("idempotency-key").is_some_and(|key| key.len() >= 16), "{begin:?}");
    assert!(begin.body.contains(r#""reason":"leaked""#) && !begin.body.contains("dry_run"), "{}", begin.body);
    assert_eq!(asked(&stub), ["GET /v1/revocations/rv_1"; 3]);
}

#[test]
fn a_revocation_for_programs_is_json_and_nothing_else() {
    let stub = revoking();
    let run = hallpass(&stub, &[&REVOKE[..], &["--yes", "--output", "json"]].concat()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!((told["state"].as_str(), told["receipt"].as_str()), (Some("completed"), Some("a.signed.receipt")));
    assert_eq!(text(&run.stderr), "");
    let run = hallpass(&stub, &[&REVOKE[..], &["--dry-run", "--output", "json"]].concat()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(told["matched"], 3, "{run:?}");
    let run = hallpass(&stub, &[&REVOKE[..], &["--yes", "--no-wait", "--output", "json"]].concat()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(told["state"], "running", "{run:?}");
}

#[test]
fn a_selector_that_nothing_matches_is_no_success() {
    let nothing = r#"{"matched":0,"ending_already":0,"counts":[],"grants":[]}"#;
    let with = |preview: &'static str| {
        Stub::start(move |request, _| match (request.line().as_str(), request.body.contains(r#""dry_run":true"#)) {
            ("POST /v1/revocations", true) => json(200, preview),
            ("POST /v1/revocations", false) => json(202, revocation("running", 0)),
            ("GET /v1/revocations/rv_1", _) => json(200, revocation("completed", 0)),
            _ => problem(404, "not_found"),
        })
    };
    let stub = with(nothing);
    for how in [
        &["--yes"][..],
        &["--yes", "--no-wait"],
        &["--dry-run"],
        &["--yes", "--output", "json"],
        &["--yes", "--no-wait", "--output", "json"],
        &["--dry-run", "--output", "json"],
    ] {
        let run = hallpass(&stub, &[&REVOKE[..], how].concat()).output().unwrap();
        let said = text(&run.stderr);
        assert_eq!(status(&run), 6, "{how:?}: {run:?}");
        assert!(said.contains("nothing matches commit=4f2c, so nothing was ended"), "{how:?}: {said}");
        assert!(said.contains("40 hexadecimal digits"), "{how:?}: {said}");
        let run = hallpass(&stub, &[&REVOKE[..], how, &["--allow-none"]].concat()).output().unwrap();
        assert_eq!(status(&run), 0, "{how:?}: {run:?}");
    }
    // What is ending already is not misspelt.
    let stub = with(r#"{"matched":0,"ending_already":2,"counts":[],"grants":[]}"#);
    let run = hallpass(&stub, &[&REVOKE[..], &["--yes"]].concat()).output().unwrap();
    assert_eq!(status(&run), 0, "{run:?}");
}

#[test]
fn nothing_ends_by_mistake() {
    let stub = revoking();
    let reason = ["--reason", "leaked"];
    for wrong in [
        &["revoke", "--yes"][..],
        &["revoke", "--yes", "--all", "--commit", "4f2c"],
        &["revoke", "--yes", "--commit", ""],
        &["revoke", "--commit", "4f2c"],
        &["revoke", "--yes", "--commit", "4f2c", "--output", "json", "--since", "yesterday"],
        &["revoke", "--commit", "4f2c", "--output", "json"],
        &["quarantine", "add", "--for", "1h"],
        &["quarantine", "add", "--commit", "4f2c"],
        &["quarantine", "add", "--all", "--owner", "payments", "--for", "1h"],
    ] {
        let run = hallpass(&stub, &[wrong, &reason].concat()).stdin(Stdio::null()).output().unwrap();
        assert_eq!(status(&run), 2, "{wrong:?}: {run:?}");
    }
    assert_eq!(asked(&stub), [""; 0], "the broker was asked");
    let run = hallpass(&stub, &[&REVOKE[..], &["--dry-run"]].concat()).stdin(Stdio::null()).output().unwrap();
    assert_eq!((status(&run), asked(&stub).len()), (0, 1), "only the dry run: {run:?}");
}

#[test]
fn on_a_terminal_only_yes_goes_on() {
    for (answer, expected, asked_for) in [("no", 1, 1), ("y", 1, 1), ("yes", 0, 5)] {
        let stub = revoking();
        let mut terminal = Command::new("script");
        let line = format!("{} {}", env!("CARGO_BIN_EXE_hallpass"), REVOKE.join(" "));
        terminal.args(["-qec", &line, "/dev/null"]).env("HALLPASS_URL", &stub.url).env("HALLPASS_PROOF", "a-proof");
        let mut running = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut typed = running.stdin.take().unwrap();
        std::io::Write::write_all(&mut typed, format!("{answer}\n").as_bytes()).unwrap();
        let run = running.wait_with_output().unwrap();
        assert_eq!((status(&run), asked(&stub).len()), (expected, asked_for), "{answer}: {run:?}");
        let seen = text(&run.stdout);
        assert!(seen.contains("End 3 grants, and what is opened meanwhile?"), "{seen}");
        assert_eq!(seen.contains("\rhallpass: [....................] 0 of 3 ended"), answer == "yes", "{seen}");
        assert_eq!(seen.contains("\rhallpass: [####################] 3 of 3 ended"), answer == "yes", "{seen}");
    }
}

#[test]
fn a_quarantine_is_added_listed_and_lifted() {
    let stopped = |rest: &str| {
        format!(
            r#"{{"id":"qu_1","selector":{{"all":true}},"roles":null,"reason":"drill","by":"ci:ada",
                "created_at":"2026-01-31T09:00:00Z","until":"2099-01-31T09:00:00Z",{rest}}}"#
        )
    };
    let stub = Stub::start(move |request, _| match request.line().as_str() {
        "POST /v1/quarantines" => json(201, stopped(r#""in_force":true"#)),
        "GET /v1/quarantines" => json(200, format!(r#"{{"items":[{}]}}"#, stopped(r#""in_force":true"#))),
        "DELETE /v1/quarantines/qu_1" => json(200, stopped(r#""in_force":false,"lifted_by":"ci:bob""#)),
        _ => problem(404, "not_found"),
    });
    let until = ["quarantine", "add", "--all", "--reason", "drill", "--until", "2099-01-31T09:00:00Z"];
    let run = hallpass(&stub, &until).output().unwrap();
    assert!(text(&run.stdout).contains("every role") && text(&run.stdout).contains("in force"), "{run:?}");
    let asked: serde_json::Value = serde_json::from_str(&stub.next().body).unwrap();
    assert_eq!(
        asked,
        serde_json::json!({"selector": {"all": true}, "reason": "drill", "until": "2099-01-31T09:00:00Z"})
    );
    let run = hallpass(&stub, &["quarantine", "list"]).output().unwrap();
    assert!(text(&run.stdout).lines().nth(1).is_some_and(|line| line.starts_with("qu_1  in force")), "{run:?}");
    let run = hallpass(&stub, &["quarantine", "lift", "qu_1"]).output().unwrap();
    assert!(text(&run.stdout).contains("ci:bob"), "{run:?}");
    assert_eq!(status(&hallpass(&stub, &["quarantine", "lift", "qu_2"]).output().unwrap()), 1);
}
