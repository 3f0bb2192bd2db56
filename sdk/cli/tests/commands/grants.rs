//! Credentials are printed or left in files, and grants are shown.

use crate::stub::{JWT, Stub, grant, json, problem};
use crate::{X509, broker, hallpass, text};

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
