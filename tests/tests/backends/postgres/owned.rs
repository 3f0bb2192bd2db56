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

/// Routines that run with their owner's rights: those of its group, and those that it was given itself.
const LENDS: &str = "
    CREATE FUNCTION f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.orders';
    CREATE FUNCTION g() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.stock';
";

/// A user whose routines the neighbour can call, and which the neighbour can become.
struct Shut {
    server: Postgres,
    adapter: Adapter,
    handle: hallpass_core::credential::Handle,
    name: String,
    user: Client,
    neighbour: Client,
}

impl Shut {
    /// With routines in `schema`, after the neighbour and the user ran these.
    async fn prepared(schema: &str, prepare: &str, begin: &str) -> Option<Self> {
        let server = server().await?;
        server.run(DATABASE, NEIGHBOUR).await;
        let adapter = Adapter::of(&server);
        let order = order(1, parameters(json!({})), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
        let planned = adapter.backend.plan(&order).expect("it can be planned");
        let issued = adapter.backend.issue(&order, &planned).await.expect("a user");
        let name = server.roles("hp\\_%").await.pop().expect("a user");
        let user = server.connect(&name, issued.material.secrets()[0], DATABASE).await.expect("it works");
        let neighbour = server.connect("neighbour", "neighbour", DATABASE).await.expect("the neighbour comes in");
        neighbour.batch_execute(&prepare.replace("{user}", &name)).await.expect("what the neighbour does");
        user.batch_execute(begin).await.expect("what the user does");
        user.batch_execute(&format!("SET search_path = {schema}; {LENDS}")).await.expect("routines");
        // Servers before 15 let a user do this itself.
        server.run(DATABASE, &format!("GRANT {name} TO neighbour")).await;
        let handle = issued.handle.expect("a better handle");
        let shut = Self { server, adapter, handle, name, user, neighbour };
        assert_eq!(shut.readable(schema).await, ["f", "g", "itself"], "before");
        Some(shut)
    }

    /// What the neighbour can read by these routines, and as the user.
    async fn readable(&self, schema: &str) -> Vec<&'static str> {
        let become_it = format!("BEGIN; SET LOCAL ROLE {}; SELECT * FROM orders", self.name);
        let (f, g) = (format!("SELECT {schema}.f()"), format!("SELECT {schema}.g()"));
        let mut readable = Vec::new();
        for (what, query) in [("f", f), ("g", g), ("itself", become_it)] {
            if self.neighbour.simple_query(&query).await.is_ok() {
                readable.push(what);
            }
            self.neighbour.simple_query("ROLLBACK").await.expect("it goes on");
        }
        readable
    }
}

#[tokio::test]
async fn a_user_that_shuts_itself_out_of_its_own_schema_ends_all_the_same() {
    let begin = "CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO neighbour";
    let Some(shut) = Shut::prepared("s", "", begin).await else { return };
    shut.user.batch_execute("REVOKE ALL ON SCHEMA s FROM CURRENT_USER").await.expect("an owner has no more then");
    assert_eq!(shut.readable("s").await, ["f", "g", "itself"], "the neighbour still does");
    assert_eq!(shut.adapter.backend.revoke(&shut.handle).await, Ok(Undone::Gone));
    assert!(shut.readable("s").await.is_empty());
    assert!(shut.server.roles("hp\\_%").await.is_empty());
    let root = shut.server.root(DATABASE).await;
    let query = "SELECT count(*) FROM pg_proc WHERE proowner = 'app_writer'::regrole AND NOT prosecdef";
    assert_eq!(root.query_one(query, &[]).await.expect("its routines").get::<_, i64>(0), 2, "nothing is lost");
}

#[tokio::test]
async fn a_user_that_cannot_end_for_what_others_did_has_no_rights_left_to_lend() {
    let lends = "GRANT USAGE, CREATE ON SCHEMA own TO {user}";
    let Some(shut) = Shut::prepared("own", lends, "").await else { return };
    let stays = shut.server.connect("neighbour", "neighbour", DATABASE).await.expect("the neighbour comes in");
    stays.batch_execute(&format!("SET ROLE {}; SELECT * FROM orders", shut.name)).await.expect("as the user, before");
    let shuts = format!("REVOKE ALL ON SCHEMA own FROM {}", shut.name);
    shut.neighbour.batch_execute(&shuts).await.expect("it is its own");
    assert_eq!(shut.readable("own").await, ["f", "g", "itself"], "the neighbour still does");
    for _ in 0..2 {
        shut.adapter.backend.revoke(&shut.handle).await.expect_err("the broker has no way into the schema");
        assert!(shut.readable("own").await.is_empty(), "neither by its routines nor as the user");
        stays.batch_execute("SELECT * FROM orders").await.expect_err("nor by who had become the user before");
        stays.batch_execute("SELECT * FROM stock").await.expect_err("nor what the user was given itself");
        shut.user.simple_query("SELECT 1").await.expect_err("its session is ended");
    }
    assert_eq!(shut.server.roles("hp\\_%").await, [shut.name.as_str()], "and it is not said to be gone");
    // Once somebody has cleared the way, it ends.
    shut.server.run(DATABASE, "DROP SCHEMA own CASCADE").await;
    assert_eq!(shut.adapter.backend.revoke(&shut.handle).await, Ok(Undone::Gone));
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
