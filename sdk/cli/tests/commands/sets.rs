//! Sets of grants are ended and stopped, and never by mistake.

use std::process::{Command, Stdio};

use crate::stub::{Stub, grant, json, problem};
use crate::{asked, hallpass, status, text};

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
