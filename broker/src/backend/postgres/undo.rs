//! Ending a user, in an order that leaves no gap: first nobody can log in as it, then it has no group's rights, then nobody
//! is logged in, then it has no rights at all, then what it owned is somebody else's or gone, then it is gone itself; and
//! then the server is asked whether all that is so.
//!
//! What the user left behind can hinder the later steps, and so what it may do goes before what it has.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::connections::{Connections, Purpose};
use super::failure::Failure;
use super::given::{admitting, take_back};
use super::rights::{give_up, leave_groups};
use super::statement::{identifier, literal};
use super::user::Undoing;

/// How often it is tried when others change what it is about, such as another broker that ends the same user.
const TRIES: usize = 4;
/// How often sessions are ended in one call: each waits for a while at the server until they are gone.
const ROUNDS: usize = 3;
/// Most databases in which a user left something, in one call: what is left then is left to the next.
const MAX_DATABASES: usize = 64;

/// Ends the user.
pub(super) async fn undo(connections: &Connections, undoing: &Undoing) -> Result<(), Failure> {
    let mut last = None;
    for _ in 0..TRIES {
        match once(connections, undoing).await {
            Ok(()) => return Ok(()),
            Err(failure) if failure.is_race() => last = Some(failure),
            Err(failure) => return Err(failure),
        }
    }
    Err(last.unwrap_or_else(|| Failure::not_sent("it was not tried")))
}

async fn once(connections: &Connections, undoing: &Undoing) -> Result<(), Failure> {
    let home = connections.take(Purpose::Undo, &connections.settings().database).await?;
    let user = identifier(&undoing.user).map_err(Failure::refused)?;
    if let Some(oid) = oid_of(&home, &undoing.user).await? {
        run(&home, &format!("ALTER ROLE {user} NOLOGIN PASSWORD NULL CONNECTION LIMIT 0")).await?;
        leave_groups(&home, oid).await?;
        // Whoever is no superuser may end the sessions, and have what is owned, of roles that it is a member of.
        run(&home, &format!("GRANT {user} TO CURRENT_USER")).await?;
        end_sessions(&home, oid).await?;
        let mut databases = databases_of(&home, oid).await?;
        let is_there = is_open(&home, &undoing.database).await?;
        if is_there && !databases.contains(&undoing.database) {
            databases.push(undoing.database.clone());
        }
        home.keep();
        for database in &databases {
            let connection = connections.take(Purpose::Undo, database).await?;
            give_up(&connection, &undoing.user).await?;
            connection.keep();
        }
        // What was in a database that is gone is gone with it.
        if is_there {
            revocation(connections, undoing).await?;
        }
        for database in databases {
            disown(connections, undoing, &user, &database).await?;
        }
        let home = connections.take(Purpose::Undo, &connections.settings().database).await?;
        // One that had just been let in when logging in ended shows only now.
        end_sessions(&home, oid).await?;
        run(&home, &format!("DROP ROLE IF EXISTS {user}")).await?;
        confirm(&home, undoing, Some(oid)).await?;
        home.keep();
        return Ok(());
    }
    confirm(&home, undoing, undoing.oid).await?;
    home.keep();
    Ok(())
}

/// There is no such user, and no session of it.
async fn confirm(home: &Client, undoing: &Undoing, oid: Option<u32>) -> Result<(), Failure> {
    if oid_of(home, &undoing.user).await?.is_some() {
        return Err(Failure::not_sent("the user is still there"));
    }
    let Some(oid) = oid else { return Ok(()) };
    // A number may belong to another user one day.
    let others = rows(home, &format!("SELECT 1 FROM pg_catalog.pg_roles WHERE oid = {oid}")).await?;
    if others.is_empty() { end_sessions(home, oid).await } else { Ok(()) }
}

async fn oid_of(home: &Client, user: &str) -> Result<Option<u32>, Failure> {
    let user = literal(user).map_err(Failure::refused)?;
    let found = rows(home, &format!("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {user}")).await?;
    Ok(found.first().and_then(|row| row.parse().ok()))
}

/// Ends the sessions of a user, and awaits that there are none.
async fn end_sessions(home: &Client, oid: u32) -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        let ending = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid, 1500) FROM pg_catalog.pg_stat_activity WHERE usesysid = {oid}"
        );
        if rows(home, &ending).await?.is_empty() {
            return Ok(());
        }
    }
    let left = format!("SELECT pid FROM pg_catalog.pg_stat_activity WHERE usesysid = {oid}");
    match rows(home, &left).await?.len() {
        0 => Ok(()),
        left => Err(Failure::not_sent(format!("{left} sessions of the user do not end"))),
    }
}

/// The databases in which it owns something or may do something.
async fn databases_of(home: &Client, oid: u32) -> Result<Vec<String>, Failure> {
    let query = format!(
        "SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.oid = s.dbid \
         WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = {oid} AND d.datallowconn \
         ORDER BY 1 LIMIT {MAX_DATABASES}"
    );
    rows(home, &query).await
}

/// Whether there is such a database, and it lets anybody in.
async fn is_open(home: &Client, database: &str) -> Result<bool, Failure> {
    let query = "SELECT d.datname FROM pg_catalog.pg_database d WHERE d.datallowconn";
    Ok(rows(home, query).await?.iter().any(|name| name == database))
}

/// Runs the role's own statements, on a connection that nobody uses after that: they may change what it is.
async fn revocation(connections: &Connections, undoing: &Undoing) -> Result<(), Failure> {
    if undoing.revocation.is_empty() {
        return Ok(());
    }
    let filled = undoing.revocation.iter().map(|statement| statement.filled(&undoing.values));
    let filled = filled.collect::<Result<Vec<_>, _>>().map_err(Failure::refused)?.join("\n;\n");
    let connection = connections.take(Purpose::Undo, &undoing.database).await?;
    run(&connection, &format!("BEGIN;\n{filled}\n;COMMIT")).await
}

/// Has what the user owned belong to its heir, or drops it, and takes back all that it may do.
async fn disown(connections: &Connections, undoing: &Undoing, user: &str, database: &str) -> Result<(), Failure> {
    let connection = connections.take(Purpose::Undo, database).await?;
    match &undoing.reassign_owned_to {
        Some(heir) => {
            let joined = join(&connection, heir).await?;
            // What the user gave away it gave in its own name: it goes before the name does.
            take_back(&connection, &undoing.user).await?;
            // Nobody can be given what is in a schema that it may not make things in.
            let admitting = admitting(&connection, &undoing.user, heir).await?;
            let heir = identifier(heir).map_err(Failure::refused)?;
            run(&connection, &format!("{admitting}REASSIGN OWNED BY {user} TO {heir}; DROP OWNED BY {user}")).await?;
            if joined {
                run(&connection, &format!("REVOKE {heir} FROM CURRENT_USER")).await?;
            }
        }
        // With what others built on it: otherwise anybody could keep a user from its end.
        None => run(&connection, &format!("DROP OWNED BY {user} CASCADE")).await?,
    }
    connection.keep();
    Ok(())
}

/// Whether the broker had to become a member of the heir, which is what it takes to give it anything.
async fn join(client: &Client, heir: &str) -> Result<bool, Failure> {
    let (name, heir) = (identifier(heir).map_err(Failure::refused)?, literal(heir).map_err(Failure::refused)?);
    let query = format!(
        "SELECT 1 FROM pg_catalog.pg_roles g WHERE g.rolname = {heir} AND NOT pg_catalog.pg_has_role(current_user, g.oid, \
         CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)"
    );
    let joins = !rows(client, &query).await?.is_empty();
    if joins {
        run(client, &format!("GRANT {name} TO CURRENT_USER")).await?;
    }
    Ok(joins)
}

pub(super) async fn run(client: &Client, statement: &str) -> Result<(), Failure> {
    client.batch_execute(statement).await.map_err(|error| Failure::before_commit(&error))
}

/// The first column of each row, as text.
pub(super) async fn rows(client: &Client, query: &str) -> Result<Vec<String>, Failure> {
    let answered = client.simple_query(query).await.map_err(|error| Failure::before_commit(&error))?;
    let first = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    Ok(answered.into_iter().filter_map(first).collect())
}
