//! Configuration over the API: who may publish what, what is kept of it, and what a crash leaves in force.

use std::fs;
use std::time::Duration;

use hallpass_tests::config::{CLOSED_ROLE, OPERATOR, ROLE, Setup};
use hallpass_tests::{Answer, Broker, Exchange, Issuer, SigningKey, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);
/// Only people of the platform team; the issuer of the proofs below signs for people.
const PUBLISH: &str = r#"
@id("platform-publishes")
permit (principal in Group::"platform", action == Action::"publish", resource is Bundle);
"#;
const CLOSED_OPENS: &str = "@id(\"closed-opens\")\npermit (principal is Workload, action == Action::\"mint\", resource == Role::\"app/closed\");\n";

/// A broker whose bundles come over the API, with people who publish them and a CI system whose jobs want roles.
struct Press {
    people: (Issuer, SigningKey),
    ci: (Issuer, SigningKey),
    broker: Broker,
}

impl Press {
    async fn open() -> Self {
        Self::open_with(Setup::over_the_api, &[]).await
    }

    async fn open_with(change: impl FnOnce(Setup) -> Setup, environment: &[(&str, &str)]) -> Self {
        let (people, ci) = (crate::issuer_with_key().await, crate::issuer_with_key().await);
        let mut setup = Setup::trusting(&[("people", &people.0), ("ci", &ci.0)]).policy("publish.cedar", PUBLISH);
        setup.issuers[0]["principal"] = json!("operator");
        setup.issuers[0]["single_use"] = json!(false);
        let broker = Broker::start_with(&change(setup), environment).await;
        Self { people, ci, broker }
    }

    /// A fresh proof of a person.
    fn person(&self, subject: &str) -> String {
        self.people.1.sign(&self.people.0.claims(hallpass_tests::config::AUDIENCE, subject))
    }

    async fn get(&self, path: &str) -> Answer {
        let answer = self.broker.call("GET", path, Some(&self.person(OPERATOR)), None).await;
        answer.assert_status(200);
        answer
    }

    /// The revision in force and its files.
    async fn in_force(&self) -> (String, Value) {
        let answer = self.get("/v1/configuration").await;
        let revision = answer.body["revision"].as_str().expect("a revision").to_owned();
        assert_eq!(answer.header("etag"), format!("\"{revision}\""));
        (revision, answer.body["files"].clone())
    }

    async fn put_as(&self, proof: &str, replaces: &str, files: &Value) -> Answer {
        let body = json!({"files": files});
        let header = ("if-match", &*format!("\"{replaces}\""));
        self.broker.call_with(("PUT", "/v1/configuration"), proof, header, Some(&body)).await
    }

    async fn put(&self, replaces: &str, files: &Value) -> Answer {
        self.put_as(&self.person(OPERATOR), replaces, files).await
    }

    /// A job asks for the role that no policy permits at first.
    async fn closed(&self) -> u16 {
        let proof = self.ci.1.sign(&self.ci.0.claims(hallpass_tests::config::AUDIENCE, crate::WORKLOAD));
        self.broker.exchange(&Exchange::of(&proof).role(CLOSED_ROLE)).await.status
    }

    fn reasons(&self, answer: &Answer) -> Vec<String> {
        self.broker.store().reasons_of(answer.request_id())
    }

    fn publications(&self) -> usize {
        self.broker.store().rows("SELECT seq FROM bundle_revisions", &[]).len()
    }
}

/// The files with one more policy, by which the closed role is open.
fn opening(files: &Value) -> Value {
    with(files, "policies/more.cedar", CLOSED_OPENS)
}

fn with(files: &Value, path: &str, text: &str) -> Value {
    let mut files = files.clone();
    files[path] = json!(text);
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_in_force_at_once_and_after_a_restart() {
    let mut press = Press::open().await;
    let (first, files) = press.in_force().await;
    assert_eq!(press.closed().await, 400);
    let published = press.put(&first, &opening(&files)).await;
    published.assert_status(200);
    assert_eq!(published.body["published"], true);
    assert_eq!(published.body["replaces"], first);
    assert_eq!(published.body["changes"]["added"], json!(["policies/more.cedar"]));
    assert_eq!(published.body["touched"]["policies"], json!(["closed-opens"]));
    let (second, now) = press.in_force().await;
    assert_eq!((published.body["revision"].as_str(), &now), (Some(second.as_str()), &opening(&files)));
    assert_eq!(press.closed().await, 200);

    // What the first start began with is not looked at again.
    fs::remove_dir_all(press.broker.folder().join("bundle")).expect("removed");
    press.broker.stop().await;
    press.broker.restart().await;
    assert_eq!(press.in_force().await.0, second);
    assert_eq!(press.closed().await, 200);
    assert_eq!(press.publications(), 2);

    // Published again, it is nothing new.
    let same = press.put(&second, &opening(&files)).await;
    same.assert_status(200);
    assert_eq!((same.body["published"].as_bool(), press.publications()), (Some(false), 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_says_who_changed_what_and_leads_back() {
    let press = Press::open().await;
    let (first, files) = press.in_force().await;
    let second = press.put(&first, &opening(&files)).await;
    let second = second.body["revision"].as_str().expect("a revision").to_owned();

    let page = press.get("/v1/configuration/revisions?limit=1").await;
    assert_eq!(page.body["items"][0]["revision"], second);
    assert_eq!(page.body["items"][0]["author"], format!("people:{OPERATOR}"));
    assert_eq!((&page.body["items"][0]["parent"], &page.body["items"][0]["occasion"]), (&json!(first), &json!("api")));
    assert_eq!(page.body["items"][0]["approvers"], Value::Null);
    let cursor = page.body["next_cursor"].as_str().expect("a next page");
    let rest = press.get(&format!("/v1/configuration/revisions?cursor={cursor}")).await;
    assert_eq!(
        (&rest.body["items"][0]["revision"], &rest.body["items"][0]["occasion"]),
        (&json!(first), &json!("bootstrap"))
    );
    assert_eq!(rest.body["next_cursor"], Value::Null);

    let diff = press.get(&format!("/v1/configuration/revisions/{second}?diff={first}")).await;
    let file = &diff.body["difference"]["files"][0];
    assert_eq!((file["path"].as_str(), file["change"].as_str()), (Some("policies/more.cedar"), Some("added")));
    assert!(file["diff"].as_str().expect("a diff").contains("+@id(\"closed-opens\")"), "{file}");
    assert_eq!(press.get(&format!("/v1/configuration/revisions/{first}")).await.body["files"], files);

    let back = format!("/v1/configuration/revisions/{first}/rollback");
    let tag = format!("\"{second}\"");
    let rolled = press.broker.call_with(("POST", &back), &press.person(OPERATOR), ("if-match", &tag), None).await;
    rolled.assert_status(200);
    assert_eq!((press.in_force().await, press.closed().await), ((first.clone(), files), 400));
    let newest = press.get("/v1/configuration/revisions?limit=1").await;
    assert_eq!(
        (&newest.body["items"][0]["revision"], &newest.body["items"][0]["occasion"]),
        (&json!(first), &json!("rollback"))
    );

    let audit = press.get("/v1/audit?limit=500").await;
    let published = |revision: &str, occasion: &str| {
        let entries = audit.body["items"].as_array().expect("entries").iter();
        let mut found = entries.filter(|entry| {
            entry["object"] == format!("configuration:{revision}") && entry["detail"]["occasion"] == occasion
        });
        found.next().unwrap_or_else(|| panic!("{occasion} of {revision} in {}", audit.text)).clone()
    };
    let entry = published(&second, "api");
    assert_eq!((&entry["action"], &entry["outcome"]), (&json!("configuration.publish"), &json!("success")));
    assert_eq!(entry["actor"], format!("people:{OPERATOR}"));
    assert_eq!(
        (&entry["detail"]["from"], &entry["detail"]["added"]),
        (&json!(first), &json!("1: policies/more.cedar"))
    );
    let decision = entry["decision"].as_str().expect("a decision");
    let rows =
        press.broker.store().rows("SELECT action, outcome, revision FROM decisions WHERE action = 'publish'", &[]);
    assert!(
        !decision.is_empty() && rows.iter().any(|row| row["revision"] == first.as_str() && row["outcome"] == "allow")
    );
    published(&first, "rollback");
    published(&first, "bootstrap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_wrong_is_told_at_once_and_a_bad_bundle_never_replaces_a_good_one() {
    let press = Press::open().await;
    let (first, files) = press.in_force().await;
    let mut wrong = opening(&files);
    wrong["roles/app/deploy.toml"] = json!(
        "owner = \"nobody\"\ndescription = \"Reaches\"\nbackend = \"jwt\"\n\
        ttl = { default = \"10m\", max = \"15m\" }\n[jwt]\naudience = \"https://service.test\"\n"
    );
    wrong["policies/worse.cedar"] = json!("\npermit (principal, action, resource);\n");
    wrong["../../etc/passwd"] = json!("x");
    wrong["README.md"] = json!("x");
    let paths = press.put(&first, &wrong).await;
    paths.assert_status(422);
    assert_eq!(paths.body["findings"].as_array().map(Vec::len), Some(2), "{}", paths.text);
    for path in ["../../etc/passwd", "README.md"] {
        wrong.as_object_mut().expect("files").remove(path);
    }
    let answer = press.put(&first, &wrong).await;
    answer.assert_status(422);
    assert_eq!(answer.body["code"], "invalid_configuration");
    for (file, line) in [("roles/app/deploy.toml", 1), ("policies/worse.cedar", 2)] {
        let found = answer.body["findings"].as_array().expect("findings").iter();
        let found: Vec<_> = found.filter(|finding| finding["file"] == file && finding["line"] == line).collect();
        assert!(!found.is_empty() && found[0]["reason"].is_string(), "{file} in {}", answer.text);
    }
    assert_eq!(press.reasons(&answer), ["invalid_configuration"]);
    // A parameter that only its backend can judge, and a bundle that would be the broker's own issuer.
    let bad =
        files["roles/app/deploy.toml"].as_str().expect("a role").replace("https://service.test", &press.broker.url());
    press.put(&first, &with(&files, "roles/app/deploy.toml", &bad)).await.assert_status(422);
    let keys = files["issuers.toml"].as_str().expect("issuers").replacen(
        "[[issuer]]",
        "[[issuer]]\njwks_file = \"/etc/passwd\"",
        1,
    );
    let file = press.put(&first, &with(&files, "issuers.toml", &keys)).await;
    file.assert_status(422);
    assert!(file.text.contains("names a file of the broker's machine"), "{}", file.text);
    assert_eq!((press.in_force().await.0, press.closed().await, press.publications()), (first, 400, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_names_what_it_replaces() {
    let press = Press::open().await;
    let (first, files) = press.in_force().await;
    let body = json!({"files": opening(&files)});
    let unnamed = press.broker.call("PUT", "/v1/configuration", Some(&press.person(OPERATOR)), Some(&body)).await;
    unnamed.assert_status(428);
    assert_eq!(
        (unnamed.body["code"].as_str(), press.reasons(&unnamed)),
        (Some("revision_required"), vec!["revision_required".to_owned()])
    );
    let stale = press.put(&"0".repeat(64), &opening(&files)).await;
    stale.assert_status(412);
    assert_eq!(
        (stale.body["code"].as_str(), press.reasons(&stale)),
        (Some("revision_moved"), vec!["revision_moved".to_owned()])
    );
    for (tag, status) in [("*", 422), ("W/\"x\"", 412), ("", 412)] {
        let answer = press
            .broker
            .call_with(("PUT", "/v1/configuration"), &press.person(OPERATOR), ("if-match", tag), Some(&body))
            .await;
        answer.assert_status(status);
    }
    let unquoted = press
        .broker
        .call_with(("PUT", "/v1/configuration"), &press.person(OPERATOR), ("if-match", &first), Some(&body))
        .await;
    unquoted.assert_status(422);
    assert!(unquoted.text_of("detail").contains("in double quotes"), "{}", unquoted.text);
    let weak = format!("W/\"{first}\"");
    press
        .broker
        .call_with(("PUT", "/v1/configuration"), &press.person(OPERATOR), ("if-match", &weak), Some(&body))
        .await
        .assert_status(412);
    assert_eq!((press.publications(), press.closed().await), (1, 400));
    let listed = format!("\"{}\", \"{first}\"", "0".repeat(64));
    press
        .broker
        .call_with(("PUT", "/v1/configuration"), &press.person(OPERATOR), ("if-match", &listed), Some(&body))
        .await
        .assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_publications_at_once_one_wins_and_the_others_are_told() {
    let press = Press::open().await;
    let (first, files) = press.in_force().await;
    let candidates: Vec<_> =
        (0..4).map(|n| with(&files, "policies/more.cedar", &format!("// {n}\n{CLOSED_OPENS}"))).collect();
    let answers = futures(candidates.iter().map(|files| press.put(&first, files))).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412]);
    let winner = answers.iter().find(|answer| answer.status == 200).expect("a winner");
    assert_eq!(
        (press.in_force().await.0.as_str(), press.publications()),
        (winner.body["revision"].as_str().expect("a revision"), 2)
    );
}

/// All of them at once, in order.
async fn futures<F: Future>(calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = calls.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (call, done) in calls.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(output) = call.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let press = Press::open().await;
    let (first, files) = press.in_force().await;
    let proof = press.ci.1.sign(&press.ci.0.claims(hallpass_tests::config::AUDIENCE, crate::WORKLOAD));
    press.broker.exchange(&Exchange::of(&proof).role(ROLE)).await.assert_status(200);
    let role = files["roles/app/deploy.toml"].as_str().expect("a role").replace("900s", "600s");
    let mut wanted = with(&files, "roles/app/deploy.toml", &role);
    wanted["owners.toml"] =
        json!(files["owners.toml"].as_str().expect("owners").replace("active = false", "active = true"));
    let body = json!({"files": wanted});
    let dry =
        press.broker.call("PUT", "/v1/configuration?dry_run=true", Some(&press.person(OPERATOR)), Some(&body)).await;
    dry.assert_status(200);
    assert_eq!((&dry.body["published"], &dry.body["replaces"]), (&json!(false), &json!(first)));
    assert_eq!(dry.body["changes"]["changed"], json!(["owners.toml", "roles/app/deploy.toml"]));
    assert_eq!(dry.body["touched"], json!({"roles": ["app/deploy"], "policies": [], "live_grants": 1}));
    assert_eq!(dry.body["widening"][0]["file"], "owners.toml", "{}", dry.text);
    assert_eq!((press.in_force().await.0, press.publications()), (first, 1));
    let bad = json!({"files": with(&files, "owners.toml", "x")});
    press
        .broker
        .call("PUT", "/v1/configuration?dry_run=true", Some(&press.person(OPERATOR)), Some(&bad))
        .await
        .assert_status(422);
    press
        .broker
        .call("PUT", "/v1/configuration?dry_run=perhaps", Some(&press.person(OPERATOR)), Some(&body))
        .await
        .assert_status(422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_publishes_rights_of_their_own() {
    let press = Press::open().await;
    let (first, files) = press.in_force().await;
    let own = "@id(\"own\")\npermit (principal in Group::\"platform\", action == Action::\"mint\", resource == Role::\"app/closed\");\n";
    let refused = press.put(&first, &with(&files, "policies/own.cedar", own)).await;
    refused.assert_status(403);
    assert_eq!(refused.body["code"], "widens_own_rights");
    let finding = &refused.body["findings"][0];
    assert_eq!((&finding["file"], &finding["line"]), (&json!("policies/own.cedar"), &json!(1)), "{}", refused.text);
    assert_eq!(press.reasons(&refused), ["widens_own_rights"]);
    assert_eq!((press.in_force().await.0, press.publications()), (first.clone(), 1));
    // The same for others is not the publisher's own.
    press.put(&first, &opening(&files)).await.assert_status(200);
    let second = press.in_force().await.0;
    // Nor does anybody come back to such a thing by way of the history.
    let narrower = with(
        &opening(&files),
        "policies/publish.cedar",
        &PUBLISH.replace("is Bundle)", "is Bundle)\nwhen { context.hour < 25 }"),
    );
    press.put(&second, &narrower).await.assert_status(403);
    let back = format!("/v1/configuration/revisions/{first}/rollback");
    let tag = format!("\"{second}\"");
    press.broker.call_with(("POST", &back), &press.person(OPERATOR), ("if-match", &tag), None).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_publish_is_refused_before_anything_is_read() {
    let press = Press::open().await;
    let (first, files) = press.in_force().await;
    let stranger = press.person("somebody else");
    let refused = press.put_as(&stranger, &first, &opening(&files)).await;
    refused.assert_status(403);
    assert_eq!(
        (refused.body["code"].as_str(), press.reasons(&refused)),
        (Some("policy_denied"), vec!["policy_denied".to_owned()])
    );
    // Larger than any body of another endpoint, and told nothing of what is wrong in it.
    let huge = json!({"files": {"nonsense": "x".repeat(8 * 1024 * 1024)}});
    let tag = format!("\"{first}\"");
    let refused =
        press.broker.call_with(("PUT", "/v1/configuration"), &stranger, ("if-match", &tag), Some(&huge)).await;
    refused.assert_status(403);
    let operator = press
        .broker
        .call_with(("PUT", "/v1/configuration"), &press.person(OPERATOR), ("if-match", &tag), Some(&huge))
        .await;
    operator.assert_status(422);
    let larger = json!({"files": {"policies/x.cedar": "x".repeat(25 * 1024 * 1024)}});
    press
        .broker
        .call_with(("PUT", "/v1/configuration"), &press.person(OPERATOR), ("if-match", &tag), Some(&larger))
        .await
        .assert_status(413);
    assert_eq!(press.publications(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_publishes_it_starts_with_what_is_on_record() {
    for (point, recorded) in [("publish::before-commit", false), ("publish::after-commit", true)] {
        let mut press = Press::open_with(Setup::over_the_api, &[("HALLPASS_KILL_AT", point)]).await;
        let (first, files) = press.in_force().await;
        let body = json!({"files": opening(&files)});
        let tag = format!("\"{first}\"");
        let (put, proof) = (("PUT", "/v1/configuration"), press.person(OPERATOR));
        let unanswered = press.broker.try_call_with(put, &proof, ("if-match", &tag), Some(&body));
        assert!(unanswered.await.is_err(), "{point}: it answered");
        let broker = &mut press.broker;
        eventually("it is dead", DEADLINE, || {
            let dead = !broker.is_running();
            async move { dead.then_some(()) }
        })
        .await;
        press.broker.set_environment("HALLPASS_KILL_AT", None);
        press.broker.restart().await;
        let (now, _) = press.in_force().await;
        assert_eq!((now != first, press.publications()), (recorded, 1 + usize::from(recorded)), "{point}");
        assert_eq!(press.closed().await, if recorded { 200 } else { 400 }, "{point}");
        // It goes on from there.
        let again = press.put(&now, &with(&files, "policies/publish.cedar", &format!("// again\n{PUBLISH}"))).await;
        again.assert_status(200);
        assert_eq!(press.closed().await, 400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_was_changed_in_the_store_is_not_started_on() {
    let mut press = Press::open().await;
    press.broker.stop().await;
    let database = rusqlite::Connection::open(press.broker.folder().join("hallpass.db")).expect("the database opens");
    let changed =
        database.execute("UPDATE bundle_texts SET text = replace(text, '10m', '14m') WHERE text LIKE '%10m%'", []);
    assert!(changed.expect("written") > 0);
    drop(database);
    assert!(!press.broker.end_by_itself().await.success());
    assert!(press.broker.output().contains("it was changed"), "{}", press.broker.output());
}

/// As after an upgrade to a version that refuses what an earlier one took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_revision_that_is_refused_is_told_with_the_way_out() {
    let mut press = Press::open().await;
    press.broker.stop().await;
    let database = rusqlite::Connection::open(press.broker.folder().join("hallpass.db")).expect("the database opens");
    let changed = database.execute("UPDATE bundle_texts SET text = text || 'forbid' WHERE text LIKE '%permit%'", []);
    assert!(changed.expect("written") > 0);
    drop(database);
    assert!(!press.broker.end_by_itself().await.success());
    let said = press.broker.output();
    assert!(said.contains("start once with [bundle] source") && said.contains("policies/"), "{said}");
}

/// Whoever can write the database puts no other revision into force by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_the_audit_log_does_not_tell_of_is_not_started_on() {
    let mut press = Press::open().await;
    let (first, files) = press.in_force().await;
    press.put(&first, &opening(&files)).await.assert_status(200);
    let (second, _) = press.in_force().await;
    press.broker.stop().await;
    press.broker.restart().await;
    assert_eq!(press.in_force().await.0, second, "the control");
    press.broker.stop().await;

    let path = press.broker.folder().join("hallpass.db");
    let change = |sql: &str| rusqlite::Connection::open(&path).expect("it opens").execute(sql, []).expect("written");
    let again = "INSERT INTO bundle_revisions (id, published_at, occasion) SELECT id, published_at, 'api' \
                 FROM bundle_revisions ORDER BY seq LIMIT 1";
    assert_eq!(change(again), 1);
    assert!(!press.broker.end_by_itself().await.success());
    let said = press.broker.output();
    assert!(said.contains("was published last") && said.contains(&first) && said.contains(&second), "{said}");
    // Nor with the entry changed to what is wanted.
    let edit = |from: &str, to: &str| {
        change(&format!(
            "UPDATE audit_entries SET entry = CAST(replace(entry, '\"revision\":\"{from}\"', '\"revision\":\"{to}\"') AS BLOB) \
             WHERE sequence = (SELECT max(sequence) FROM audit_entries WHERE action = 'configuration.publish')"
        ))
    };
    assert_eq!(edit(&second, &first), 1);
    assert!(!press.broker.end_by_itself().await.success());
    edit(&first, &second);
    // Nor with the publication gone and its entry hidden: the columns beside an entry are in no hash.
    let hide = |action: &str| {
        change(&format!(
            "UPDATE audit_entries SET action = '{action}' WHERE sequence = \
             (SELECT max(sequence) FROM audit_entries WHERE instr(entry, '\"configuration.publish\"'))"
        ))
    };
    assert_eq!((hide("read"), change("DELETE FROM bundle_revisions WHERE seq > 1")), (1, 2));
    assert!(!press.broker.end_by_itself().await.success());
    let said = press.broker.output();
    assert!(said.contains(&format!("the revision {first} in force")) && said.contains(&second), "{said}");

    // The way out: once from a folder that was reviewed.
    let server = press.broker.folder().join("hallpass.toml");
    let over_the_api = fs::read_to_string(&server).expect("the server file");
    let from_files = over_the_api.replace("source = \"api\"", "source = \"files\"").replace("bootstrap = ", "path = ");
    assert_ne!(from_files, over_the_api);
    fs::write(&server, from_files).expect("written");
    press.broker.restart().await;
    assert_eq!(press.in_force().await.0, first);
    press.broker.stop().await;
    fs::write(&server, over_the_api).expect("written");
    press.broker.restart().await;
    let (now, files) = press.in_force().await;
    assert_eq!((&now, press.closed().await), (&first, 400));
    press.put(&now, &opening(&files)).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_without_a_beginning_says_what_is_missing() {
    let people = crate::issuer_with_key().await;
    let setup = Setup::trusting(&[("people", &people.0)]).over_the_api();
    let mut broker = Broker::prepare(&setup, &[]);
    let server = fs::read_to_string(broker.folder().join("hallpass.toml")).expect("the server file");
    let without: String =
        server.lines().filter(|line| !line.starts_with("bootstrap")).map(|line| format!("{line}\n")).collect();
    fs::write(broker.folder().join("hallpass.toml"), without).expect("written");
    assert!(!broker.end_by_itself().await.success());
    assert!(broker.output().contains("give its folder as `bootstrap`"), "{}", broker.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_have_a_history_too_and_are_not_put() {
    let press = Press::open_with(|setup| setup, &[]).await;
    let (first, files) = press.in_force().await;
    assert_eq!(press.get("/v1/configuration").await.body["source"], "files");
    let refused = press.put(&first, &opening(&files)).await;
    refused.assert_status(409);
    assert_eq!(
        (refused.body["code"].as_str(), press.reasons(&refused)),
        (Some("configuration_from_files"), vec!["configuration_from_files".to_owned()])
    );
    fs::write(press.broker.in_bundle("policies/more.cedar"), CLOSED_OPENS).expect("written");
    press.broker.signal(Signal::HUP);
    eventually("the new bundle is in force", DEADLINE, async || (press.closed().await == 200).then_some(())).await;
    let (second, _) = press.in_force().await;
    let diff = press.get(&format!("/v1/configuration/revisions/{second}?diff={first}")).await;
    assert!(diff.text.contains("+@id(\\\"closed-opens\\\")"), "{}", diff.text);
    let listed = press.get("/v1/configuration/revisions").await;
    let occasions: Vec<_> =
        listed.body["items"].as_array().expect("items").iter().map(|item| item["occasion"].clone()).collect();
    assert_eq!(occasions, ["reload", "start"]);
    assert_eq!(listed.body["items"][0]["author"], "hallpass:local-administrator");

    fs::write(press.broker.in_bundle("policies/more.cedar"), "permit").expect("written");
    press.broker.signal(Signal::HUP);
    let refusal = "SELECT entry FROM audit_entries WHERE action = 'configuration.publish' AND outcome = 'failure'";
    eventually("the refusal is recorded", DEADLINE, async || {
        (!press.broker.store().rows(refusal, &[]).is_empty()).then_some(())
    })
    .await;
    let token = press.broker.command(["operator-token", "--purpose", "see what is counted"]);
    assert!(token.status.success());
    eventually("privileged actions are counted", DEADLINE, async || {
        let metrics = press.broker.operations("/metrics").await.text;
        let counted = |action: &str, outcome: &str| {
            metrics.lines().any(|line| {
                line.starts_with("hallpass_privileged_actions_total")
                    && line.contains(&format!("action=\"{action}\""))
                    && line.contains(&format!("outcome=\"{outcome}\""))
                    && line.ends_with(" 1")
            })
        };
        let all = counted("bundle_reload", "done")
            && counted("bundle_reload", "refused")
            && counted("operator_token", "done");
        all.then_some(())
    })
    .await;
}
