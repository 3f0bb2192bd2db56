//! What becomes of what a user made, and of what it let others do with it.

use hallpass_core::port::{CredentialBackend as _, Undone};
use hallpass_core::time::Ttl;
use hallpass_tests::postgres::Postgres;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::{Adapter, DATABASE, order, server, writer};

/// Somebody who has nothing but what others give, and what the group role may beside the service's table.
const NEIGHBOUR: &str = "
    CREATE ROLE neighbour LOGIN PASSWORD 'neighbour';
    CREATE SCHEMA own AUTHORIZATION neighbour;
    GRANT CREATE ON DATABASE app TO app_writer;
    GRANT TRIGGER ON orders TO app_writer;
    INSERT INTO orders VALUES (1), (2);
    CREATE TABLE stock (id int);
    GRANT SELECT ON stock TO hallpass WITH GRANT OPTION;
";

/// What a user gives away, in every way that there is.
const GIVEN: &str = "
    CREATE VIEW leak AS SELECT * FROM orders;
    GRANT SELECT ON leak TO neighbour WITH GRANT OPTION;
    CREATE FUNCTION \"leak's\"() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.orders';
    CREATE TABLE \"Parts\" (a int, b int);
    GRANT SELECT (a) ON \"Parts\" TO neighbour;
    GRANT INSERT ON \"Parts\" TO PUBLIC;
    CREATE SEQUENCE numbers;
    GRANT USAGE ON numbers TO neighbour;
    CREATE SCHEMA hidden;
    GRANT USAGE, CREATE ON SCHEMA hidden TO neighbour;
    GRANT SELECT ON stock TO neighbour;
    CREATE FUNCTION set_off() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        $$ BEGIN RETURN NEW; END $$;
    CREATE TRIGGER planted BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION set_off();
";

/// What the neighbour does with it.
const USES: &[&str] = &[
    "SELECT * FROM leak",
    "SELECT \"leak's\"()",
    "SELECT a FROM \"Parts\"",
    "INSERT INTO \"Parts\" VALUES (1, 2)",
    "SELECT nextval('numbers')",
    "CREATE TABLE IF NOT EXISTS hidden.mine (n int)",
    "SELECT * FROM stock",
];

/// How what a user gave away is used before it is gone and afterwards, when its role says `owned`.
async fn after_the_end(parameters: Value) -> Option<(Postgres, Client)> {
    let server = server().await?;
    server.run(DATABASE, NEIGHBOUR).await;
    let adapter = Adapter::of(&server);
    let order = order(1, parameters, adapter.now, adapter.now.plus(Ttl::from_mins(10)));
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    let issued = adapter.backend.issue(&order, &planned).await.expect("a user");
    let name = server.roles("hp\\_%").await.pop().expect("a user");
    let session = server.connect(&name, issued.material.secrets()[0], DATABASE).await.expect("it works");
    session.batch_execute(GIVEN).await.expect("what a user may do");
    let neighbour = server.connect("neighbour", "neighbour", DATABASE).await.expect("the neighbour comes in");
    for used in USES {
        neighbour.simple_query(used).await.unwrap_or_else(|error| panic!("before, {used}: {error:?}"));
    }
    // Others build on it, and it gives what it is itself.
    neighbour.batch_execute("CREATE VIEW own.built AS SELECT * FROM leak").await.expect("a view on a view");
    let itself = format!("GRANT {name} TO neighbour");
    let gives_itself = session.batch_execute(&itself).await.is_ok();
    assert_eq!(neighbour.batch_execute(&format!("SET ROLE {name}; RESET ROLE")).await.is_ok(), gives_itself);

    let handle = issued.handle.expect("a better handle");
    assert_eq!(adapter.backend.revoke(&handle).await, Ok(Undone::Gone));
    for used in USES {
        neighbour.simple_query(used).await.map(drop).expect_err(used);
    }
    neighbour.simple_query("SELECT * FROM own.built").await.map(drop).expect_err("nor by what was built on it");
    neighbour.batch_execute("SET ROLE app_writer").await.expect_err("nor as somebody else");
    Some((server, neighbour))
}

fn parameters(more: Value) -> Value {
    let mut parameters = writer();
    let creation = json!({"creation": ["GRANT SELECT ON public.stock TO {{name}} WITH GRANT OPTION"]});
    for more in [creation, more] {
        parameters.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    }
    parameters
}

#[tokio::test]
async fn what_a_user_gave_away_works_no_more_and_what_it_made_is_its_heirs() {
    let Some((server, _neighbour)) = after_the_end(parameters(json!({}))).await else { return };
    let root = server.root(DATABASE).await;
    let query = "SELECT count(*) FROM pg_class WHERE relowner = 'app_writer'::regrole AND relname IN ('leak', 'Parts', \
                 'numbers')";
    assert_eq!(root.query_one(query, &[]).await.expect("its things").get::<_, i64>(0), 3, "nothing is lost");
    let rows = root.query("SELECT a FROM \"Parts\"", &[]).await.expect("the heir's table");
    assert_eq!(rows.len(), 1, "what was in it is there");
    let query = "SELECT count(*) FROM pg_proc WHERE proowner = 'app_writer'::regrole AND prosecdef";
    assert_eq!(
        root.query_one(query, &[]).await.expect("its routines").get::<_, i64>(0),
        0,
        "none lends the heir's rights"
    );
    root.batch_execute("INSERT INTO orders VALUES (3)").await.expect("the service goes on");
    root.batch_execute("SET ROLE app_writer; SELECT * FROM leak; SELECT \"leak's\"()").await.expect("the heir has it");
}

#[tokio::test]
async fn what_a_user_made_is_gone_with_it_where_its_role_says_so() {
    let Some((server, _neighbour)) = after_the_end(parameters(json!({"owned": "drop"}))).await else { return };
    let root = server.root(DATABASE).await;
    let query = "SELECT relname::text FROM pg_class WHERE relname IN ('leak', 'Parts', 'numbers', 'built', 'mine')";
    assert!(root.query(query, &[]).await.expect("no things").is_empty(), "nor what others built on it");
    let query = "SELECT tgname::text FROM pg_trigger WHERE tgname = 'planted'";
    assert!(root.query(query, &[]).await.expect("no triggers").is_empty(), "nothing is set off any more");
    assert_eq!(
        root.query("SELECT * FROM orders", &[]).await.expect("the service's table").len(),
        2,
        "that is not its own"
    );
}
