//! `hallpass` with a key of its own, and for somebody else, against a real broker.

use std::process::{Output, Stdio};

use hallpass_tests::Broker;
use hallpass_tests::config::{BROKER_ITSELF, ROLE, Setup, trust};
use hallpass_tests::process::{program, quiet_command};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{House, WORKLOAD, issuer_with_key};

/// Has the broker itself as its audience: its tokens are proofs of who is calling.
const SELF: &str = "self/service";
const PURPOSE: &str = "deploy build 4f2c to staging";
const ACTING: &str = r#"
@id("agents-act-for-jobs")
permit (principal is Agent, action == Action::"delegate", resource is Role) when { context has task };

@id("agents-end-their-own")
permit (principal is Agent, action in [Action::"read", Action::"revoke"], resource is Grant) when { context.holder };
"#;

/// Runs the command line with these variables, without a terminal.
pub(crate) async fn hallpass(broker: &Broker, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::from(quiet_command(&program("hallpass")));
    command.args(arguments).env("HALLPASS_URL", broker.url()).envs(variables.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("hallpass runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[track_caller]
pub(crate) fn assert_status(run: &Output, status: i32) {
    assert_eq!(run.status.code(), Some(status), "{}{}", text(&run.stdout), text(&run.stderr));
}

#[track_caller]
fn said(run: &Output) -> Value {
    assert_status(run, 0);
    serde_json::from_slice(&run.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_key_opened_is_used_and_ended_with_it_alone() {
    let own = json!({"audience": BROKER_ITSELF, "dangerous_broker_audience": true});
    let house = House::open_with(|setup: Setup| setup.role(SELF, "jwt", "jwt", own)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("key.pem");
    let (key, another) = (key.to_str().expect("text"), folder.path().join("another.pem"));
    let another = another.to_str().expect("text");

    let wanted = ["exchange", "--role", SELF, "--purpose", PURPOSE, "--output", "json"];
    let proof = house.proof();
    let opened = hallpass(&house.broker, &[("HALLPASS_PROOF", &proof), ("HALLPASS_DPOP", key)], &wanted).await;
    let opened = said(&opened);
    let (grant, token) = (&opened["grant"], opened["credential"]["token"].as_str().expect("a token"));
    assert_eq!(grant["binding"]["by"], "dpop");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key).expect("it was kept").permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");

    // The token is a proof of its own, and no bearer token.
    let as_it = [("HALLPASS_PROOF", token)];
    let shown = hallpass(&house.broker, &as_it, &["whoami", "--output", "json", "--dpop", key]).await;
    assert_eq!(said(&shown)["binding"]["thumbprint"], grant["binding"]["thumbprint"]);
    for options in [&["whoami"][..], &["whoami", "--dpop", another]] {
        let refused = hallpass(&house.broker, &as_it, options).await;
        assert_status(&refused, 3);
        assert!(text(&refused.stderr).contains("is bound to the key"), "{}", text(&refused.stderr));
    }

    let id = grant["id"].as_str().expect("an id");
    let end = async |key: &str| {
        let proof = house.proof();
        let variables = [("HALLPASS_PROOF", proof.as_str()), ("HALLPASS_DPOP", key)];
        hallpass(&house.broker, &variables, &["grants", "revoke", id, "--reason", "done"]).await
    };
    let refused = end(another).await;
    assert_ne!(refused.status.code(), Some(0), "{}", text(&refused.stdout));
    assert_eq!(house.broker.store().state(id), "active");
    assert_status(&end(key).await, 0);
    assert_ne!(house.broker.store().state(id), "active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_opens_for_a_job_and_ends_what_it_opened() {
    let ((jobs, of_jobs), (agents, of_agents)) = (issuer_with_key().await, issuer_with_key().await);
    let mut trusted = trust("agents", &agents, &["ES256"]);
    trusted["principal"] = json!("agent");
    let setup = Setup::with_issuers(vec![trust("ci", &jobs, &["ES256"]), trusted]).policy("acting.cedar", ACTING);
    let broker = Broker::start(&setup).await;
    let job = || of_jobs.sign(&jobs.claims(hallpass_tests::config::AUDIENCE, WORKLOAD));
    let agent = || of_agents.sign(&agents.claims(hallpass_tests::config::AUDIENCE, "agent-7"));

    let wanted = ["--role", ROLE, "--purpose", PURPOSE, "--on-behalf-of", "env:JOB"];
    let run = async |arguments: &[&str]| {
        let (job, agent) = (job(), agent());
        hallpass(&broker, &[("HALLPASS_PROOF", &agent), ("JOB", &job)], arguments).await
    };
    let refused = run(&[&["exchange"], &wanted[..]].concat()).await;
    assert_status(&refused, 4);
    let with_task = [&wanted[..], &["--task", "fix the build that broke"]].concat();
    let opened = said(&run(&[&["exchange", "--output", "json"], &with_task[..]].concat()).await);
    let grant = &opened["grant"];
    assert_eq!((&grant["identity"]["subject"], &grant["task"]), (&json!(WORKLOAD), &json!("fix the build that broke")));
    assert_eq!(grant["actors"], json!([{"issuer": "agents", "kind": "agent", "subject": "agent-7"}]));
    let id = grant["id"].as_str().expect("an id");
    assert_status(&run(&["grants", "revoke", id, "--reason", "done"]).await, 0);
    assert_ne!(broker.store().state(id), "active");

    // A command has the credential and neither proof, and the grant ends with it.
    let command = ["--", "sh", "-c", "test -z \"$JOB$HALLPASS_PROOF\" && test -n \"$HALLPASS_TOKEN\""];
    assert_status(&run(&[&["exec"], &with_task[..], &command].concat()).await, 0);
    assert_eq!(broker.store().rows("SELECT id FROM grants WHERE state = 'active'", &[]).len(), 0);
}
