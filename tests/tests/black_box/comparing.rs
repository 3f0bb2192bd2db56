//! The database held against its own log: what somebody else than the broker changed is told.

use std::time::Duration;

use hallpass_tests::config::{CERTIFICATE_ROLE, database};
use hallpass_tests::{eventually, id};
use serde_json::json;

use crate::House;

/// What `audit compare` says, and whether they agree.
fn compared(house: &House) -> (Option<i32>, String) {
    let output = house.broker.command(["audit", "compare"]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_changed_in_the_database_is_not_what_the_log_tells_of_it() {
    let mut house = House::open().await;
    let proof = house.proof();
    let ended = house.exchange(&proof).await.grant_id().to_owned();
    let path = format!("/v1/grants/{ended}/revoke");
    let answer = house.broker.call("POST", &path, Some(&proof), Some(&json!({"reason": "over"}))).await;
    assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
    let live = house.credential().await.grant_id().to_owned();
    let body = json!({"role": CERTIFICATE_ROLE, "purpose": "serve app.test"});
    house.broker.call("POST", "/v1/grants", Some(&house.proof()), Some(&body)).await.assert_status(201);
    let short = hallpass_tests::Exchange::of(&house.proof()).with("ttl", "2");
    let over = house.broker.exchange(&short).await.grant_id().to_owned();

    // Beside the running broker, in whatever state each is.
    let agree = |house: &House| {
        let (status, said) = compared(house);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains(" 0 differences"), "{said}");
        said
    };
    agree(&house);
    eventually("it is over", Duration::from_secs(90), async || {
        (house.broker.store().state(&over) == "expired").then_some(())
    })
    .await;
    let said = agree(&house);
    assert!(said.contains("3 live grants"), "{said}");
    house.broker.stop().await;
    agree(&house);

    let file = database(house.broker.folder());
    let kept = std::fs::read(&file).expect("the database");
    for (change, grant, says) in [
        ("UPDATE grants SET expires_at = expires_at + 60000 WHERE id = ?1", &live, "may work until"),
        ("UPDATE grants SET state = 'revoking' WHERE id = ?1", &live, "is active by the log, and revoking in"),
        ("UPDATE grants SET state = 'active' WHERE id = ?1", &ended, "is revoking by the log, and active in"),
        ("UPDATE grants SET state = 'active' WHERE id = ?1", &over, "the log has it ended, or never opened"),
        ("UPDATE grants SET state = 'expired' WHERE id = ?1", &live, "in the database it is over, or gone"),
        ("DELETE FROM grants WHERE id = ?1", &live, "in the database it is over, or gone"),
    ] {
        {
            let database = rusqlite::Connection::open(&file).expect("the database opens");
            database.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").expect("it does");
            assert_eq!(database.execute(change, [id(grant)]).expect(change), 1, "{change}");
        }
        let (status, said) = compared(&house);
        assert_eq!(status, Some(1), "{change}: {said}");
        assert!(said.contains(grant.as_str()) && said.contains(says), "{change}: {said}");
        assert!(said.contains(" 1 differences"), "{change}: {said}");
        let _ = std::fs::remove_file(file.with_extension("db-wal"));
        std::fs::write(&file, &kept).expect("it is put back");
        agree(&house);
    }
    std::fs::remove_file(&file).expect("it goes");
    assert_eq!(compared(&house).0, Some(2), "there is nothing to compare");
}
