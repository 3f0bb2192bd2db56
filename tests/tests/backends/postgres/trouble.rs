//! A server that crashes, stops or hangs, connections that die, logins that are refused: what is said of grants then is
//! true.

use std::time::Duration;

use hallpass_core::port::{CredentialBackend as _, IssueError, Undone};
use hallpass_core::time::{Timestamp, Ttl};
use hallpass_tests::{Exchange, eventually, unix_now};

use super::life::{DEADLINE, House};
use super::{Adapter, order, server, writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_is_found_again_and_what_ended_meanwhile_is_undone() {
    let Some(mut house) = House::open().await else { return };
    let (ended, kept) = (house.hold("10m").await, house.hold("10m").await);
    house.server.crash().await;
    let refused = house.ask("10m").await;
    refused.assert_refused(503, "backend_unavailable");
    assert!(!refused.text.contains("127.0.0.1:") && !refused.text.contains("hallpass\""), "{}", refused.text);
    house.revoke(&ended.grant).await;
    let grant = eventually("an attempt failed", DEADLINE, async || {
        let grant = house.grant(&ended.grant).await;
        grant["revocation"]["last_error"].is_string().then_some(grant)
    });
    assert_eq!(grant.await["state"], "revoking", "nothing is called revoked that may still work");
    house.server.restart().await;
    let session = house.log_in(&ended).await;
    house.becomes(&ended.grant, "revoked").await;
    if let Ok(session) = session {
        house.is_over(&ended, &session).await;
    }
    house.log_in(&kept).await.expect("a grant that did not end is as it was");
    house.log_in(&house.hold("10m").await).await.expect("new ones are made");
}

// CASE REV-012
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_server_hangs_nothing_is_called_revoked_and_other_backends_are_as_fast() {
    let Some(house) = House::open().await else { return };
    let (held, due) = (house.hold("10m").await, house.hold("8s").await);
    let session = house.log_in(&held).await.expect("the credential works");
    house.server.freeze();
    assert_eq!(house.revoke(&held.grant).await.status, 202, "it is asked for");
    // Enough of them that each place for calls to this backend would be taken, were there only a few for all.
    let hanging: Vec<_> = (0..8).map(|_| house.ask("10m")).collect();
    let others = async {
        for _ in 0..20 {
            let exchange = Exchange::of(&house.proof());
            let answer = tokio::time::timeout(Duration::from_secs(5), house.broker.exchange(&exchange));
            answer.await.expect("another backend is not delayed").assert_status(200);
        }
        assert_eq!(house.grant(&held.grant).await["state"], "revoking", "it still works, as far as anybody knows");
    };
    let falls_due = async {
        eventually("the end begins while calls hang", DEADLINE, async || {
            let grant = house.grant(&due.grant).await;
            (grant["state"] == "revoking").then_some((grant, unix_now()))
        })
        .await
    };
    let (answers, (), (ending, seen)) = tokio::join!(join_all(hanging), others, falls_due);
    assert_eq!(ending["cause"], "expired", "{ending}");
    let end = Timestamp::parse_rfc3339(ending["end_at"].as_str().expect("an instant")).expect("one");
    assert!(
        Timestamp::from_secs(seen).since(end) < Ttl::from_secs(5),
        "it is said at once, and not when the calls are given up: {ending}"
    );
    for answer in answers {
        assert!(matches!(answer.status, 503 | 504), "{}: {}", answer.status, answer.text);
    }
    assert_eq!(house.grant(&held.grant).await["state"], "revoking");
    house.server.thaw();
    house.becomes(&held.grant, "revoked").await;
    house.becomes(&due.grant, "revoked").await;
    house.is_over(&held, &session).await;
    // Of those that nobody got an answer to, nothing stays.
    eventually("no user is left", DEADLINE, async || house.server.roles("hp\\_%").await.is_empty().then_some(())).await;
}

async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in &mut futures {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if futures.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn connections_that_died_are_made_anew_before_they_are_used() {
    let Some(server) = server().await else { return };
    let adapter = Adapter::of(&server);
    for n in 1..4 {
        let order = order(n, writer(), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
        let planned = adapter.backend.plan(&order).expect("it can be planned");
        adapter.backend.issue(&order, &planned).await.expect("it is made");
        let ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'hallpass'";
        assert!(!server.rows(ended).await.is_empty(), "a connection is kept");
        adapter.backend.tend().await.expect("a session there is again");
        assert_eq!(server.sessions("hallpass").await, 1);
    }
}

#[tokio::test]
async fn a_user_is_ended_by_several_at_once_and_with_what_it_owns_in_every_database() {
    let Some(server) = server().await else { return };
    server.run("postgres", "CREATE DATABASE other").await;
    server.run("other", "GRANT CREATE ON SCHEMA public TO app_writer").await;
    let adapter = Adapter::of(&server);
    let order = order(1, writer(), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    let issued = adapter.backend.issue(&order, &planned).await.expect("it is made");
    let (name, password) = (server.roles("hp\\_%").await.pop().expect("a user"), issued.material.secrets()[0]);
    let mut sessions = Vec::new();
    for database in ["app", "other"] {
        let session = server.connect(&name, password, database).await.expect("the credential works");
        session.batch_execute("CREATE TABLE own (n int); BEGIN; LOCK own").await.expect("a table, and a lock on it");
        sessions.push(session);
    }
    let ended = join_all((0..3).map(|_| adapter.backend.revoke(&planned)).collect()).await;
    assert_eq!(ended, [Ok(Undone::Gone), Ok(Undone::Gone), Ok(Undone::Gone)]);
    for session in sessions {
        session.simple_query("SELECT 1").await.expect_err("its sessions are ended");
    }
    assert!(server.roles("hp\\_%").await.is_empty());
}

#[tokio::test]
async fn a_user_that_somebody_dropped_by_hand_has_its_sessions_ended() {
    let Some(server) = server().await else { return };
    server.run("postgres", "GRANT pg_signal_backend TO hallpass").await;
    let adapter = Adapter::of(&server);
    let order = order(1, writer(), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    let issued = adapter.backend.issue(&order, &planned).await.expect("it is made");
    let (name, password) = (server.roles("hp\\_%").await.pop().expect("a user"), issued.material.secrets()[0]);
    let session = server.connect(&name, password, "app").await.expect("the credential works");
    server.run("app", &format!("DROP OWNED BY {name}; DROP ROLE {name}")).await;
    session.simple_query("SELECT 1").await.expect("a session outlives its user");
    assert_eq!(adapter.backend.revoke(&issued.handle.expect("a better handle")).await, Ok(Undone::Gone));
    session.simple_query("SELECT 1").await.expect_err("and is ended with the grant");
}

#[tokio::test]
async fn the_broker_comes_in_by_certificate_and_refuses_a_server_that_it_cannot_trust() {
    let Some(server) = server().await else { return };
    server.run("postgres", "CREATE ROLE by_certificate; GRANT by_certificate TO hallpass").await;
    let (certificate_file, key_file) = server.client_certificate("hallpass");
    let by_certificate = Adapter::with(&server, |settings| {
        settings.login = hallpass_broker::config::backend::PostgresLogin::Certificate { certificate_file, key_file };
    });
    by_certificate.backend.tend().await.expect("the certificate is its login");

    let order = order(1, writer(), by_certificate.now, by_certificate.now.plus(Ttl::from_mins(10)));
    let by_password = Adapter::of(&server);
    let unknown_authority = Adapter::with(&server, |settings| settings.ca_file = None);
    let another_name = Adapter::with(&server, |settings| settings.host = "127.0.0.2".to_owned());
    for (why, adapter) in [("login", by_password), ("authority", unknown_authority), ("name", another_name)] {
        let planned = adapter.backend.plan(&order).expect("it can be planned");
        let failed = adapter.backend.issue(&order, &planned).await.expect_err(why);
        assert!(matches!(failed, IssueError::Unavailable { .. }), "{why}: {failed}");
        assert!(!failed.to_string().contains(super::PASSWORD), "{why}: {failed}");
        adapter.backend.revoke(&planned).await.expect_err("nor is anything called ended");
    }
    assert!(server.roles("hp\\_%").await.is_empty());
}
