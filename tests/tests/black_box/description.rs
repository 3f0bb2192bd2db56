//! The running broker held against its description, `deploy/openapi.json`, by schemathesis: requests as the description
//! allows and as it does not, by an operator who may do anything and by nobody. None crashes it, and every answer is one
//! that is described.

use std::path::Path;
use std::process::Command;

use hallpass_tests::config::{AUDIENCE, OPERATOR};
use hallpass_tests::{component, full, size, unix_now};
use serde_json::json;

use crate::House;

/// Whoever is of the owning team may do anything: what is refused is refused for another reason.
const ANYTHING: &str = r#"
@id("the-team-does-anything")
permit (principal in Group::"platform", action, resource);
"#;

/// What is not held against the description: whether all that has the right form is accepted, since a role that does not
/// exist has it too; and whether what was deleted is gone, since a quarantine that is lifted stays on record.
const EXCLUDED: &str = "positive_data_acceptance,use_after_free";

/// With other seeds each time also not whether what has a wrong form is refused: what it changes in a query sometimes leaves
/// a right one, such as one without a member that may be left out. Every day's requests are held against that.
const EXCLUDED_OF_MANY: &str = "positive_data_acceptance,use_after_free,negative_data_rejection";

async fn open() -> House {
    House::open_with(|setup| setup.policy("anything.cedar", ANYTHING)).await
}

/// Runs schemathesis for so many seconds; gives what it found, and whether that is nothing.
fn check(programs: &Path, house: &House, seconds: usize, headers: &[String]) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Command::new(programs.join("st"));
    program.current_dir(folder.path()).env("NO_COLOR", "1").args(["run", "--no-color"]);
    program.arg(component::root().join("deploy/openapi.json")).args(["--url", &house.broker.url()]);
    program.args(["--exclude-tag", "operations", "--checks", "all", "--exclude-checks"]);
    program.arg(if full() { EXCLUDED_OF_MANY } else { EXCLUDED });
    program.args(["--continue-on-failure", "--suppress-health-check", "all", "--generation-database", "none"]);
    program.args(["--request-timeout", "20", "--warnings", "off"]);
    // Every day the same requests; at the stated size others each time, and sequences of them.
    let everyday = ["--phases", "examples,coverage,fuzzing", "--seed", "7"];
    program.args(if full() { &["--phases", "examples,coverage,fuzzing,stateful"][..] } else { &everyday[..] });
    // One worker: several generators at once trip over each other (hypothesis keeps sources in a table without a lock).
    program.args(["--no-shrink", "--workers", "1", "--max-time", &seconds.to_string()]);
    for header in headers {
        program.args(["--header", header]);
    }
    let output = program.output().expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Test cases:"), "it did not run: {said}");
    (output.status.success(), said)
}

async fn hold(house: House, headers: Vec<String>) {
    let Some(programs) = component::api_programs() else { return };
    let seconds = size(20, 200);
    let (house, (is_well, said)) = tokio::task::spawn_blocking(move || {
        let outcome = check(&programs, &house, seconds, &headers);
        (house, outcome)
    })
    .await
    .expect("it ends");
    assert!(is_well, "{said}");
    let answer = house.broker.operations("/healthz").await;
    assert_eq!(answer.status, 200, "{said}");
    let page = house.broker.operations("/metrics").await.text;
    let failed =
        page.lines().filter(|line| line.starts_with("hallpass_http_request_seconds_count") && line.contains("5xx"));
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_an_operator_sends_is_answered_as_it_is_described() {
    let house = open().await;
    house.credential().await;
    let mut claims = house.issuer.claims(AUDIENCE, OPERATOR);
    claims["exp"] = json!(unix_now() + 3000);
    let proof = house.key.sign(&claims);
    house.broker.call("GET", "/v1/audit", Some(&proof), None).await.assert_status(200);
    hold(house, vec![format!("Authorization: Bearer {proof}")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_nobody_sends_is_answered_as_it_is_described() {
    hold(open().await, Vec::new()).await;
}
