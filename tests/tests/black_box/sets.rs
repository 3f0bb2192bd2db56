//! `hallpass revoke` and `hallpass quarantine` against a real broker.

use std::process::Output;

use hallpass_tests::Exchange;
use hallpass_tests::config::OPERATOR;
use serde_json::{Value, json};

use crate::House;
use crate::command_line::{assert_status, text};

const SUSPENDS: &str = r#"
@id("team-stops")
permit (principal in Group::"platform", action == Action::"suspend", resource);
"#;
const STRANGER: &str = "repo:evil@666/x@667:ref:refs/heads/main";

/// Runs the command line as `subject`, without a terminal.
async fn hallpass(house: &House, subject: &str, arguments: &[&str]) -> Output {
    crate::command_line::hallpass(&house.broker, &[("HALLPASS_PROOF", &house.proof_of(subject))], arguments).await
}

fn active(house: &House) -> usize {
    house.broker.store().rows("SELECT id FROM grants WHERE state = 'active'", &[]).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_a_set_and_ends_it_from_the_command_line() {
    let house = House::open().await;
    for _ in 0..3 {
        house.credential().await;
    }
    let revoke = ["revoke", "--owner", "platform", "--reason", "the laptop is lost"];
    let with = |more: &[&'static str]| [&revoke[..], more].concat();

    let preview = hallpass(&house, OPERATOR, &with(&["--dry-run"])).await;
    assert_status(&preview, 0);
    let table = text(&preview.stdout);
    assert!(table.starts_with("3 grants would end by owner=platform\n"), "{table}");
    assert_status(&hallpass(&house, OPERATOR, &revoke).await, 2);
    // For programs there is no look before: it is the begin itself that is refused.
    for form in ["human", "json"] {
        let refused = hallpass(&house, STRANGER, &with(&["--yes", "--output", form])).await;
        assert_status(&refused, 4);
        assert!(text(&refused.stderr).contains("policy_denied"), "{}", text(&refused.stderr));
    }
    assert_eq!(active(&house), 3, "looking and refusals change nothing");
    let begun = house
        .broker
        .store()
        .rows("SELECT action FROM audit_entries WHERE action = 'revocation.begin' AND outcome = 'success'", &[]);
    assert_eq!(begun.len(), 0);

    let run = hallpass(&house, OPERATOR, &with(&["--yes"])).await;
    assert_status(&run, 0);
    assert_eq!(active(&house), 0);
    let told = text(&run.stdout);
    let (shown, standing) = told.split_once("\nrevocation ").expect("how it stands, after what would end");
    assert!(shown.starts_with(table.lines().next().expect("a line")), "{told}");
    let fields: Vec<Vec<&str>> =
        standing.lines().skip(1).map(|line| line.splitn(2, "  ").map(str::trim).collect()).collect();
    for field in [["state", "completed"], ["matched", "3"], ["ended", "3"], ["remaining", "0"]] {
        assert!(fields.contains(&field.to_vec()), "{field:?}: {told}");
    }
    assert!(standing.contains("receipt     signed"), "{told}");
    let progress = text(&run.stderr);
    assert!(progress.lines().last().is_some_and(|line| line == "hallpass: 3 of 3 ended, 0 remaining"), "{progress}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_halts_from_the_command_line_and_lifts_it() {
    let house = House::open_with(|setup| setup.policy("suspends.cedar", SUSPENDS)).await;
    let add = ["quarantine", "add", "--all", "--reason", "drill", "--for", "1h", "--output", "json"];
    assert_status(&hallpass(&house, STRANGER, &add).await, 4);
    house.credential().await;
    let added = hallpass(&house, OPERATOR, &add).await;
    assert_status(&added, 0);
    let added: Value = serde_json::from_slice(&added.stdout).expect("JSON and nothing else");
    assert_eq!((&added["selector"], &added["in_force"]), (&json!({"all": true}), &json!(true)));
    house.exchange(&house.proof()).await.assert_refused(400, "invalid_target");

    let id = added["id"].as_str().expect("an id");
    let listed = text(&hallpass(&house, OPERATOR, &["quarantine", "list"]).await.stdout);
    let line = listed.lines().nth(1).expect("one line under the heads");
    assert!(line.starts_with(&format!("{id}  in force")) && line.contains("every grant"), "{listed}");
    assert_status(&hallpass(&house, OPERATOR, &["quarantine", "lift", id]).await, 0);
    house.broker.exchange(&Exchange::of(&house.proof())).await.assert_status(200);
}

/// Who may end a set may end each of it: also where policy bars what lives neither short nor long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_is_not_ended_where_policy_bars_grants_of_a_middle_life() {
    let barred = "@id(\"middle-lives-stay\")\nforbid (principal, action == Action::\"revoke\", resource is Grant)\n\
                  when { resource.max_ttl > 300 && resource.max_ttl < 86400 };\n";
    for (more, status, left) in [("", 0, 0), (barred, 4, 1)] {
        let house = House::open_with(|setup| setup.policy("more.cedar", more)).await;
        house.credential().await;
        let run = ["revoke", "--owner", "platform", "--reason", "the laptop is lost", "--yes"];
        assert_status(&hallpass(&house, OPERATOR, &run).await, status);
        assert_eq!(active(&house), left);
    }
}
