//! Bundles are got, changed and published.

use crate::stub::{Stub, json};
use crate::{asked, hallpass, status, text};

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
