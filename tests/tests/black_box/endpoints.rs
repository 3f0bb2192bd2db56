//! Every endpoint, tried by nobody, by an impostor, by the wrong somebody and by the right one.
//!
//! The table of what each of them gets is in `rows`; it is held against the broker's own list of endpoints, so that none
//! can be added without somebody saying who may use it. Whoever is refused has changed nothing and been told nothing.

mod rows;
mod scene;

use std::collections::BTreeSet;

use hallpass_broker::http::{Endpoint, Listener, endpoints};
use hallpass_tests::Answer;

use self::rows::{Expected, Row, rows};
use self::scene::{Persona, Scene};

/// The endpoints of the golden list.
fn excused() -> BTreeSet<String> {
    let lines = include_str!("endpoints/uncovered.txt").lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn name(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.method, endpoint.path)
}

#[test]
fn every_endpoint_has_a_row_and_every_row_an_endpoint() {
    let known: Vec<String> = endpoints().iter().map(name).collect();
    let tried: Vec<String> = rows().iter().map(Row::name).collect();
    let unique: BTreeSet<&String> = tried.iter().collect();
    assert_eq!(unique.len(), tried.len(), "an endpoint has two rows");
    let excused = excused();
    let uncovered: Vec<_> = known.iter().filter(|name| !unique.contains(name) && !excused.contains(*name)).collect();
    assert!(
        uncovered.is_empty(),
        "the broker has endpoints that nobody tried as the wrong somebody:\n  {uncovered:#?}\n\
         Add a row for each to tests/tests/black_box/endpoints/rows.rs: who is right, and what the others get. \
         What the path's {{id}} names is made in scene.rs."
    );
    let gone: Vec<_> = tried.iter().filter(|name| !known.contains(name)).collect();
    assert!(gone.is_empty(), "rows of endpoints that the broker does not have: {gone:#?}");
    let covered: Vec<_> = excused.iter().filter(|name| unique.contains(name) || !known.contains(name)).collect();
    assert!(covered.is_empty(), "take these off the list of the uncovered: {covered:#?}");
}

#[test]
fn nothing_is_uncovered() {
    assert!(excused().is_empty(), "the golden list of uncovered endpoints is empty, and stays so");
}

// CASE API-010
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_serves_the_right_somebody_and_nobody_else() {
    assert_each_is_served_rightly(&Scene::open().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_endpoint_does_so_where_operators_have_their_own_listener() {
    assert_each_is_served_rightly(&Scene::with_operators_apart().await).await;
}

async fn assert_each_is_served_rightly(scene: &Scene) {
    let mut wrong = Vec::new();
    for row in rows() {
        let target = scene.target(row.about).await;
        let before = scene.state();
        for (persona, expected) in [
            (Persona::Nobody, row.nobody),
            (Persona::Impostor(row.right), row.impostor),
            (Persona::Stranger, row.stranger),
        ] {
            let answer = scene.send(&row, persona, &target).await;
            wrong.extend(mistake(&row, persona, &answer, expected));
            if expected.status >= 400 && answer.text.contains(scene::MARK) {
                wrong.push(format!("{} as {persona:?} tells what is not theirs: {}", row.name(), answer.text));
            }
            if answer.status == 401 && !answer.header("www-authenticate").starts_with("Bearer") {
                wrong.push(format!("{} as {persona:?} does not say how to prove oneself", row.name()));
            }
            if scene.state() != before {
                wrong.push(format!("{} as {persona:?} changed something", row.name()));
            }
        }
        let answer = scene.send(&row, Persona::Right(row.right), &target).await;
        wrong.extend(mistake(&row, Persona::Right(row.right), &answer, row.served));
        if row.changes && scene.state() == before {
            wrong.push(format!("{} changed nothing, as if it had been refused", row.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn mistake(row: &Row, persona: Persona, answer: &Answer, expected: Expected) -> Option<String> {
    let met = answer.status == expected.status && answer.text.contains(expected.says);
    (!met).then(|| {
        let Expected { status, says } = expected;
        format!("{} as {persona:?}: expected {status} with {says:?}, got {} {}", row.name(), answer.status, answer.text)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_has_another_method_than_the_table_says() {
    let scene = Scene::open().await;
    let known = endpoints();
    for endpoint in known.iter().filter(|endpoint| endpoint.listener != Listener::Operations) {
        let path = endpoint.path.replace("{id}", "01890a5d-ac96-774b-bcce-b302099a8057");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if known.iter().any(|other| other.path == endpoint.path && other.method == method) {
                continue;
            }
            let answer = scene.house.broker.call(method, &path, None, None).await;
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operations_listener_and_the_api_share_no_path() {
    let scene = Scene::open().await;
    for endpoint in endpoints() {
        let broker = &scene.house.broker;
        let answer = match endpoint.listener {
            Listener::Operations => broker.call(endpoint.method, endpoint.path, None, None).await,
            Listener::Api | Listener::Admin => broker.operations(endpoint.path).await,
        };
        assert_eq!(answer.status, 404, "{}: {}", name(&endpoint), answer.text);
    }
}

// CASE MTLS-009
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_operators_is_at_their_own_listener_alone_and_nothing_else_is() {
    let paths = |listener| -> BTreeSet<&str> {
        endpoints().iter().filter(|endpoint| endpoint.listener == listener).map(|endpoint| endpoint.path).collect()
    };
    let shared: Vec<_> = paths(Listener::Api).intersection(&paths(Listener::Admin)).copied().collect();
    assert!(shared.is_empty(), "one path is at two listeners: {shared:?}");

    let scene = Scene::with_operators_apart().await;
    let (broker, admin) = (&scene.house.broker, scene.admin.expect("a listener of their own"));
    for endpoint in endpoints() {
        let elsewhere = match endpoint.listener {
            Listener::Api => admin,
            Listener::Admin => broker.address(),
            Listener::Operations => continue,
        };
        let operator = scene.proof(Persona::Right(scene::Right::Operator));
        let answer = broker.call_at(elsewhere, endpoint.method, endpoint.path, operator.as_deref(), None).await;
        assert_eq!(
            (answer.status, answer.error()),
            (404, if endpoint.path.starts_with("/oauth2") { "invalid_request" } else { "not_found" }),
            "{}",
            name(&endpoint)
        );
    }

    // Nobody is sent to where it is not answered: what the other listener is called was not said.
    let answer = scene.house.credential().await;
    let path = format!("/v1/grants/{}", answer.grant_id());
    let shown = broker.call("GET", &path, Some(&scene.house.proof()), None).await;
    let link = &shown.body["links"]["audit"];
    assert!(link.as_str().is_some_and(|link| link.starts_with("/v1/audit?grant=")), "{}", shown.text);
}
