//! How commands end, and what they say then.

use crate::stub::{Answer, Stub, json, problem};
use crate::{bare, hallpass, status, text};

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
fn completions_need_no_broker() {
    for shell in ["bash", "zsh", "fish"] {
        let run = bare(&["completions", shell]).output().unwrap();
        assert!(text(&run.stdout).contains("exec"));
    }
}
