//! Users of a real PostgreSQL: whether they are gone is asked of the database.

use std::time::Duration;

use futures_util::StreamExt as _;
use hallpass_core::credential::CredentialMaterial;
use hallpass_core::port::{CredentialBackend as _, Undone};
use hallpass_core::testing::sample;
use hallpass_core::time::Ttl;
use hallpass_tests::eventually;
use hallpass_tests::openbao::OpenBao;
use hallpass_tests::postgres::Postgres;
use serde_json::{Value, json};

use super::{Lab, role};

/// How it makes one.
const MADE: &str = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';";

/// A database whose users Vault makes.
pub(crate) struct Databases {
    pub(crate) lab: Lab,
    pub(crate) database: Postgres,
}

impl Databases {
    /// None where OpenBao or PostgreSQL is not installed.
    pub(crate) async fn open() -> Option<Self> {
        let database = Postgres::start().await?;
        let lab = Lab::open().await?;
        configure(&lab.server, &database).await;
        Some(Self { lab, database })
    }

    pub(crate) fn parameters(&self) -> Value {
        json!({
            "policies": ["db"],
            "path": "database/creds/app",
            "host": "127.0.0.1",
            "port": self.database.address().port(),
            "database": "postgres",
        })
    }

    /// The users that Vault made and that are still there.
    async fn users(&self) -> Vec<String> {
        self.database.roles("v-%").await
    }

    async fn logs_in(&self, material: &CredentialMaterial) -> bool {
        let CredentialMaterial::Database { username, password, database, .. } = material else { panic!("a user") };
        self.database.connect(username, password.expose(), database).await.is_ok()
    }
}

/// The engine at `database`, its role `app`, and the policy `db` that may have users of it.
pub(crate) async fn configure(server: &OpenBao, database: &Postgres) {
    database.run("postgres", "create role vault login superuser password 'vault'").await;
    server.mount("database", "database").await;
    let address = database.address();
    let connection = json!({
        "plugin_name": "postgresql-database-plugin",
        "allowed_roles": "app",
        "connection_url": format!("postgresql://{{{{username}}}}:{{{{password}}}}@{address}/postgres?sslmode=require"),
        "username": "vault",
        "password": "vault",
    });
    server.write("database/config/main", &connection).await;
    let role = json!({"db_name": "main", "creation_statements": [MADE], "default_ttl": "1h", "max_ttl": "24h"});
    server.write("database/roles/app", &role).await;
    let policy = "path \"database/creds/app\" { capabilities = [\"read\"] }";
    server.write("sys/policies/acl/db", &json!({"policy": policy})).await;
}

// CASE REV-017
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_gone_from_the_database_when_it_is_said_to_be() {
    let Some(databases) = Databases::open().await else { return };
    let lab = &databases.lab;
    let (one, handle) = lab.mint(&lab.order(1, databases.parameters())).await.unwrap();
    let (neighbour, _) = lab.mint(&lab.order(2, databases.parameters())).await.unwrap();
    assert!(databases.logs_in(&one.material).await);
    assert_eq!(databases.users().await.len(), 2);
    for _ in 0..2 {
        assert_eq!(lab.backend.revoke(&handle).await, Ok(Undone::Gone));
        assert_eq!(databases.users().await.len(), 1, "it is gone, now and not later");
    }
    assert!(!databases.logs_in(&one.material).await);
    assert!(databases.logs_in(&neighbour.material).await, "its neighbour is not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_nobody_heard_of_is_gone_too() {
    let Some(databases) = Databases::open().await else { return };
    let lab = &databases.lab;
    let (neighbour, _) = lab.mint(&lab.order(2, databases.parameters())).await.unwrap();
    let order = lab.order(1, databases.parameters());
    let planned = lab.backend.plan(&order).unwrap();
    let prepared = lab.backend.prepare(&order, &planned).await.unwrap().unwrap();
    let lost = lab.backend.issue(&order, &prepared).await.unwrap();
    assert!(databases.logs_in(&lost.material).await);
    assert_eq!(lab.backend.revoke(&prepared).await, Ok(Undone::Gone), "by the accessor alone");
    assert!(!databases.logs_in(&lost.material).await);
    assert_eq!(databases.users().await.len(), 1);
    assert!(databases.logs_in(&neighbour.material).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_to_be_gone_that_the_database_has_not_heard_of() {
    let Some(mut databases) = Databases::open().await else { return };
    let order = databases.lab.order(1, databases.parameters());
    let (issued, handle) = databases.lab.mint(&order).await.unwrap();
    let unheard = databases.lab.order(2, databases.parameters());
    let planned = databases.lab.backend.plan(&unheard).unwrap();
    let prepared = databases.lab.backend.prepare(&unheard, &planned).await.unwrap().unwrap();
    databases.lab.backend.issue(&unheard, &prepared).await.unwrap();
    databases.database.stop().await;
    for handle in [&handle, &prepared] {
        for _ in 0..2 {
            assert!(databases.lab.backend.revoke(handle).await.is_err(), "the token is gone, and the user is not");
        }
    }
    databases.database.restart().await;
    assert!(databases.logs_in(&issued.material).await, "the control: it still works");
    for handle in [&handle, &prepared] {
        assert_eq!(databases.lab.backend.revoke(handle).await, Ok(Undone::Gone));
    }
    assert!(databases.users().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_of_a_token_role_that_was_changed_since_is_not_used() {
    let Some(databases) = Databases::open().await else { return };
    let lab = &databases.lab;
    let role = role(databases.parameters());
    let ends_at = lab.order(1, databases.parameters()).expires_at;
    let spare = lab.backend.make_spare(&role, sample::id(9), ends_at).await.unwrap();
    lab.backend.tend().await.unwrap();
    assert!(lab.backend.recognises(&spare.handle), "the control: it is as it was");
    let mut tightened = super::token_role();
    tightened["token_bound_cidrs"] = json!(["10.0.0.0/8"]);
    lab.server.write("auth/token/roles/hallpass", &tightened).await;
    lab.backend.tend().await.unwrap();
    assert!(!lab.backend.recognises(&spare.handle), "it could do what no new token can");
    assert_eq!(lab.backend.revoke(&spare.handle).await, Ok(Undone::Gone), "whoever throws it away can");
    let next = lab.backend.make_spare(&role, sample::id(10), ends_at).await.unwrap();
    assert!(lab.backend.recognises(&next.handle));
    let restarted = lab.another("vault", super::INSTANCE, |_| {});
    assert!(restarted.recognises(&next.handle), "what nobody has looked at is taken for what it was");
}

/// More live leases than are looked at in one go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unheard_answer_is_found_among_many_leases() {
    let Some(databases) = Databases::open().await else { return };
    let lab = &databases.lab;
    let many = lab.order(2, databases.parameters());
    let spare = lab.backend.make_spare(&many.role, sample::id(2), many.expires_at).await.unwrap();
    let mints = futures_util::stream::iter(0_u64..80).map(|_| lab.backend.issue(&many, &spare.handle));
    assert_eq!(mints.buffer_unordered(8).filter(|minted| std::future::ready(minted.is_ok())).count().await, 80);
    let order = lab.order(1, databases.parameters());
    let planned = lab.backend.plan(&order).unwrap();
    let prepared = lab.backend.prepare(&order, &planned).await.unwrap().unwrap();
    let lost = lab.backend.issue(&order, &prepared).await.unwrap();
    // Given up again and again before it can be done: it gets there all the same.
    eventually("it is ended", Duration::from_secs(30), async || {
        let undone = tokio::time::timeout(Duration::from_millis(150), lab.backend.revoke(&prepared)).await;
        (undone == Ok(Ok(Undone::Gone))).then_some(())
    })
    .await;
    assert!(!databases.logs_in(&lost.material).await);
    assert_eq!(databases.users().await.len(), 80, "and none that lives");
}

/// The server registers a lease under a token that was revoked while it made it: for its whole life, and nothing leads to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_not_ended_while_a_user_is_being_made_under_it() {
    let Some(databases) = Databases::open().await else { return };
    let lab = &databases.lab;
    let slow = ["SELECT pg_sleep(1);", MADE];
    let role = json!({"db_name": "main", "creation_statements": slow, "default_ttl": "1h", "max_ttl": "24h"});
    lab.server.write("database/roles/app", &role).await;
    let order = lab.order(1, databases.parameters());
    let planned = lab.backend.plan(&order).unwrap();
    let prepared = lab.backend.prepare(&order, &planned).await.unwrap().unwrap();
    assert!(lab.backend.undoes_what_is_late(&planned) && !lab.backend.undoes_what_is_late(&prepared));
    let ended = async {
        let making = "select 1 from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()";
        eventually("the user is being made", Duration::from_secs(20), async || {
            (!databases.database.rows(making).await.is_empty()).then_some(())
        })
        .await;
        lab.backend.revoke(&prepared).await
    };
    let (issued, ended) = tokio::join!(lab.backend.issue(&order, &prepared), ended);
    assert_eq!(ended, Ok(Undone::Gone));
    let issued = issued.unwrap();
    assert!(!databases.logs_in(&issued.material).await, "it is gone, as was said");
    assert!(databases.users().await.is_empty());
    assert!(lab.backend.undoes_what_is_late(issued.handle.as_ref().unwrap()), "there is nothing late after an answer");
}

/// Whatever wins, what is said to be gone is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_outlives_its_token_however_they_race() {
    let Some(databases) = Databases::open().await else { return };
    let lab = &databases.lab;
    let mut won = 0_usize;
    for round in 0..6_u64 {
        let order = lab.order(100 + round, databases.parameters());
        let spare = lab.backend.make_spare(&order.role, sample::id(100 + round), order.expires_at).await.unwrap();
        let mints = async {
            let mints = (0..6).map(|_| lab.backend.issue(&order, &spare.handle));
            futures_util::future::join_all(mints).await.into_iter().filter(Result::is_ok).count()
        };
        let ended = async {
            // A little later each time, counted in calls.
            for _ in 0..round {
                lab.server.accessors().await;
            }
            lab.backend.revoke(&spare.handle).await
        };
        let (minted, ended) = tokio::join!(mints, ended);
        won += minted;
        assert_eq!(ended, Ok(Undone::Gone), "round {round}");
        let leases = lab.server.list("sys/leases/lookup/database/creds/app").await;
        assert!(leases.is_empty(), "round {round}: {leases:?}");
        assert!(databases.users().await.is_empty(), "round {round}");
    }
    assert!(won > 0, "the control: some were faster than their end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_is_minted_with_in_one_call_and_ends_what_is_under_it() {
    let Some(databases) = Databases::open().await else { return };
    let lab = &databases.lab;
    let parameters = databases.parameters();
    let rule = lab.backend.spares(&role(parameters.clone())).unwrap();
    assert_eq!((rule.count, rule.life), (2, Ttl::from_mins(10)));
    assert!(lab.backend.spares(&role(json!({"policies": ["app"]}))).is_none(), "a token is one call anyway");
    let order = lab.order(1, parameters.clone());
    let spare = lab.backend.make_spare(&role(parameters), sample::id(9), order.expires_at).await.unwrap();
    let issued = lab.backend.issue(&order, &spare.handle).await.unwrap();
    assert!(issued.expires_at <= spare.expires_at && databases.logs_in(&issued.material).await);
    let handle = issued.handle.as_ref().unwrap();
    assert!(!String::from_utf8_lossy(handle.0.expose()).contains("\"token\":"), "what it was made with is not kept");
    assert_eq!(lab.backend.revoke(handle).await, Ok(Undone::Gone));
    assert!(databases.users().await.is_empty());
}
