//! Names that mean ill, through every statement that they get into: when a user is made, renewed and dropped.

use hallpass_core::credential::IssueOrder;
use hallpass_core::port::{CredentialBackend as _, IssueError, Undone};
use hallpass_core::time::Ttl;
use hallpass_tests::postgres::Postgres;
use serde_json::{Value, json};

use super::{Adapter, DATABASE, order, server};

/// Each would do something if it were read as SQL anywhere.
const HOSTILE: &[&str] = &[
    "'); DROP TABLE orders; --",
    "\"; DROP TABLE orders; --",
    "$$; DROP TABLE orders; $$",
    "$x$ {{name}} $x$",
    "\\'; DROP TABLE orders; --",
    "/* */ -- \n ' \" \\ ; COMMIT; DROP TABLE orders;",
    "E'\\x27' U&\"\\0027\"",
    "Grüße 🐘 \u{202e} \u{200b} ' ö\u{308}",
    "%s %I :a $1 ?",
];

/// A table that every statement writes its values into.
const WITNESS: &str = "
    CREATE TABLE witness (moment text, name text, purpose text, subject text);
    GRANT INSERT ON witness TO hallpass;
";

fn parameters() -> Value {
    let write = |moment: &str| {
        format!(
            "INSERT INTO public.witness VALUES ('{moment}', {{{{name:literal}}}}, {{{{purpose}}}}, {{{{subject}}}})"
        )
    };
    json!({
        "roles": ["app_writer"],
        "database": DATABASE,
        "creation": [write("made"), "COMMENT ON ROLE {{name}} IS {{purpose}};"],
        "renew": [write("renewed"), "ALTER ROLE {{name}} VALID UNTIL {{expiration}}"],
        "revocation": [write("dropped"), "ALTER ROLE {{name}} CONNECTION LIMIT 0 -- 'at last"],
    })
}

fn hostile_order(adapter: &Adapter, n: u64, text: &str) -> IssueOrder {
    let order = order(n, parameters(), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
    IssueOrder { purpose: text.to_owned(), subject: text.to_owned(), ..order }
}

async fn witnessed(server: &Postgres) -> Vec<(String, String, String, String)> {
    let client = server.root(DATABASE).await;
    let rows = client.query("SELECT moment, name, purpose, subject FROM witness ORDER BY ctid", &[]).await;
    rows.expect("the witness").iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

// CASE REV-016
#[tokio::test]
async fn whatever_a_value_is_it_is_a_value_when_a_user_is_made_renewed_and_dropped() {
    let Some(server) = server().await else { return };
    server.run(DATABASE, WITNESS).await;
    let adapter = Adapter::of(&server);
    let mut expected = Vec::new();
    for (n, text) in (1..).zip(HOSTILE) {
        let order = hostile_order(&adapter, n, text);
        let planned = adapter.backend.plan(&order).expect("it can be planned");
        let issued = adapter.backend.issue(&order, &planned).await.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let handle = issued.handle.expect("a better handle");
        let name = server.roles("hp\\_%").await.pop().expect("a user");
        adapter.backend.extend(&handle, order.expires_at.plus(Ttl::from_mins(1))).await.expect("it is extended");
        assert_eq!(adapter.backend.revoke(&handle).await, Ok(Undone::Gone), "{text:?}");
        let of = |moment: &str| (moment.to_owned(), name.clone(), (*text).to_owned(), (*text).to_owned());
        expected.extend([of("made"), of("renewed"), of("dropped")]);
    }
    assert_eq!(witnessed(&server).await, expected);
    assert!(server.roles("hp\\_%").await.is_empty());
    server.root(DATABASE).await.simple_query("SELECT * FROM orders").await.expect("the table is there");
}

#[tokio::test]
async fn what_cannot_be_sent_makes_nothing() {
    let Some(server) = server().await else { return };
    server.run(DATABASE, WITNESS).await;
    let adapter = Adapter::of(&server);
    let order = hostile_order(&adapter, 1, "nothing\0at all");
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    let refused = adapter.backend.issue(&order, &planned).await.expect_err("a NUL cannot be sent");
    assert!(matches!(refused, IssueError::Refused { .. }), "{refused}");
    assert!(server.roles("hp\\_%").await.is_empty() && witnessed(&server).await.is_empty());
    assert_eq!(adapter.backend.revoke(&planned).await, Ok(Undone::Gone), "what never was is undone");
}

// CASE REV-016
#[tokio::test]
async fn groups_databases_and_heirs_with_hostile_names_are_names() {
    let Some(server) = server().await else { return };
    let (group, database) = ("Gr\"oup'; --", "Data\"base'; --");
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    server.run("postgres", &format!("CREATE ROLE {0}; GRANT {0} TO hallpass WITH ADMIN OPTION", quoted(group))).await;
    server.run("postgres", &format!("CREATE DATABASE {}", quoted(database))).await;
    server.run(database, &format!("GRANT CREATE ON SCHEMA public TO {}", quoted(group))).await;
    let adapter = Adapter::of(&server);
    let parameters = json!({"roles": [group], "database": database});
    let order = order(1, parameters, adapter.now, adapter.now.plus(Ttl::from_mins(10)));
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    let issued = adapter.backend.issue(&order, &planned).await.expect("it is made");
    let (name, password) = (server.roles("hp\\_%").await.pop().expect("a user"), issued.material.secrets()[0]);
    let session = server.connect(&name, password, database).await.expect("the credential works");
    session.batch_execute("CREATE TABLE \"left\"\"over\" (n int)").await.expect("a table of its own");
    assert_eq!(adapter.backend.revoke(&planned).await, Ok(Undone::Gone), "by what was planned alone");
    session.simple_query("SELECT 1").await.expect_err("its session is ended");
    let client = server.root(database).await;
    let row = client.query_one("SELECT tableowner::text FROM pg_tables WHERE tablename = 'left\"over'", &[]).await;
    assert_eq!(row.expect("the table").get::<_, &str>(0), group);
}

#[tokio::test]
async fn a_role_whose_statements_would_let_a_user_outlive_its_grant_makes_none() {
    let Some(server) = server().await else { return };
    server.run("postgres", "CREATE ROLE makers CREATEROLE; GRANT makers TO hallpass WITH ADMIN OPTION").await;
    let adapter = Adapter::of(&server);
    let refused = [
        json!({"roles": ["app_writer"], "creation": ["ALTER ROLE {{name}} VALID UNTIL 'infinity'"]}),
        json!({"roles": ["app_writer"], "creation": ["ALTER ROLE {{name}} CREATEROLE"]}),
        json!({"roles": ["makers"]}),
        json!({"roles": ["no_such_role"]}),
        json!({"roles": ["app_writer"], "creation": ["DROP TABLE nothing"]}),
    ];
    for parameters in refused {
        let order = order(1, parameters.clone(), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
        let planned = adapter.backend.plan(&order).expect("it can be planned");
        let error = adapter.backend.issue(&order, &planned).await.expect_err("it is refused");
        assert!(matches!(error, IssueError::Refused { .. }), "{parameters}: {error}");
        assert!(server.roles("hp\\_%").await.is_empty(), "{parameters}");
    }
    // The control, on the same connections.
    let order = order(1, super::writer(), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    adapter.backend.issue(&order, &planned).await.expect("an ordinary one is made");
}

#[tokio::test]
async fn a_role_whose_groups_reach_out_of_the_database_makes_none_unless_it_says_so() {
    let Some(server) = server().await else { return };
    let ways = ["pg_execute_server_program", "pg_read_server_files", "pg_write_server_files", "pg_signal_backend"];
    for way in ways {
        let inherited = format!(
            "CREATE ROLE between_{way} IN ROLE {way}; CREATE ROLE by_{way} IN ROLE between_{way};
             GRANT by_{way} TO hallpass WITH ADMIN OPTION"
        );
        server.run("postgres", &inherited).await;
    }
    let chiefs =
        "CREATE ROLE chiefs; GRANT app_writer TO chiefs WITH ADMIN OPTION; GRANT chiefs TO hallpass WITH ADMIN OPTION";
    server.run("postgres", chiefs).await;
    let adapter = Adapter::of(&server);
    let make = async |n: u64, parameters: Value| {
        let order = order(n, parameters, adapter.now, adapter.now.plus(Ttl::from_mins(10)));
        let planned = adapter.backend.plan(&order).expect("it can be planned");
        adapter.backend.issue(&order, &planned).await
    };
    for way in ways {
        let group = format!("by_{way}");
        let refused = make(1, json!({"roles": ["app_writer", group]})).await.expect_err("it is refused");
        let IssueError::Refused { detail, internal: Some(internal), .. } = &refused else { panic!("{refused:?}") };
        assert!(internal.contains(&format!("{way} reaches out of the database")), "{internal}");
        assert!(!detail.contains(way) && detail.contains("reach further"), "{detail}");
        // By a statement as well; and with the word of whoever wrote the role.
        let statement = format!("GRANT {group} TO {{{{name}}}}");
        make(1, json!({"roles": ["app_writer"], "creation": [statement]})).await.expect_err("it is refused");
        assert!(server.roles("hp\\_%").await.is_empty(), "{way}");
    }
    let refused = make(1, json!({"roles": ["chiefs"]})).await.expect_err("its users could let others in for good");
    assert!(format!("{refused:?}").contains("chiefs may make others members"), "{refused:?}");
    for (n, way) in (2..).zip(ways) {
        let said = json!({"roles": [format!("by_{way}")], "dangerous_allow_roles": [way]});
        make(n, said).await.unwrap_or_else(|error| panic!("{way}: {error:?}"));
    }
    assert_eq!(server.roles("hp\\_%").await.len(), ways.len());
}

/// Also names that only a configuration could give, which are refused when it is loaded.
#[tokio::test]
async fn a_table_that_could_not_be_honoured_is_refused_by_its_key() {
    let Some(server) = server().await else { return };
    let adapter = Adapter::of(&server);
    let refused = [
        ("roles", json!({})),
        ("roles", json!({"roles": ["x".repeat(64)]})),
        ("roles", json!({"roles": ["a\0b"]})),
        ("roles", json!({"roles": "app_writer"})),
        ("database", json!({"roles": ["a"], "database": ""})),
        ("connection_limit", json!({"roles": ["a"], "connection_limit": 0})),
        ("password_length", json!({"roles": ["a"], "password_length": 8})),
        ("creation", json!({"roles": ["a"], "creation": ["SELECT '{{name}}'"]})),
        ("creation", json!({"roles": ["a"], "creation": ["SELECT {{password}}"]})),
        ("renew", json!({"roles": ["a"], "renew": ["COMMIT"]})),
        ("revocation", json!({"roles": ["a"], "revocation": ["SELECT {{expiration}}"]})),
        ("creation", json!({"roles": ["a"], "creation": ["SELECT date'\\', '{{purpose}}'"]})),
        ("reassign_owned_to", json!({"roles": ["a"], "reassign_owned_to": ""})),
        ("reassign_owned_to", json!({"roles": ["a"], "owned": "drop", "reassign_owned_to": "b"})),
        ("owned", json!({"roles": ["a"], "owned": "keep"})),
        ("owned", json!({"creation": ["SELECT 1"]})),
        ("roles", json!({"roles": ["a", "pg_execute_server_program"]})),
        ("dangerous_allow_roles", json!({"roles": ["a"], "dangerous_allow_roles": ["a"]})),
        ("owner", json!({"roles": ["a"], "owner": "b"})),
    ];
    for (key, parameters) in refused {
        let order = order(1, parameters.clone(), adapter.now, adapter.now);
        let refused = adapter.backend.validate(&order.role).expect_err("it is refused");
        assert_eq!(refused.key, key, "{parameters}: {}", refused.problem);
        adapter.backend.plan(&order).expect_err("nothing is planned by it either");
    }
    let order = order(1, parameters(), adapter.now, adapter.now);
    adapter.backend.validate(&order.role).expect("the control");
}

/// An operator that fits more closely than the server's own, over a function that leaves a trace.
const TRAP: &str = "
    CREATE TABLE public.caught (who text);
    GRANT INSERT ON public.caught TO PUBLIC;
    CREATE FUNCTION public.trap(oid, integer) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN true; END $$;
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = integer, FUNCTION = public.trap);
";

/// Servers that were set up before version 15 let every user make things in `public`.
#[tokio::test]
async fn nothing_that_a_user_made_is_run_in_the_brokers_name() {
    let Some(server) = server().await else { return };
    for database in [DATABASE, "postgres"] {
        server.run(database, TRAP).await;
        let control = "SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10";
        server.root(database).await.simple_query(control).await.expect("it is answered");
    }
    let caught = async || {
        let mut caught = Vec::new();
        for database in [DATABASE, "postgres"] {
            let rows = server.root(database).await.query("SELECT who FROM public.caught", &[]).await.expect("rows");
            caught.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        caught
    };
    let root = caught().await;
    assert!(!root.is_empty() && root.iter().all(|who| who != "hallpass"), "the trap works: {root:?}");

    let adapter = Adapter::of(&server);
    let order = order(
        1,
        json!({"roles": ["app_writer"], "database": DATABASE}),
        adapter.now,
        adapter.now.plus(Ttl::from_mins(10)),
    );
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    let issued = adapter.backend.issue(&order, &planned).await.expect("a user");
    let handle = issued.handle.expect("a better handle");
    adapter.backend.inventory().await.expect("an inventory");
    adapter.backend.extend(&handle, order.expires_at.plus(Ttl::from_mins(1))).await.expect("it is extended");
    assert_eq!(adapter.backend.revoke(&handle).await, Ok(Undone::Gone));
    assert_eq!(caught().await.iter().filter(|who| *who == "hallpass").count(), 0);
}
