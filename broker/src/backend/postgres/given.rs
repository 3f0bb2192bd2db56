//! What a user let others do with what it owns.
//!
//! The invariant: when the heir gets it, nobody but its owner may do anything with it, and none of it runs with the
//! owner's rights on behalf of others. So a view, a function or a table that a user left behind opens nothing to anybody
//! whom the heir's own rights do not open it to.
//!
//! Types are left out: the right to use one reaches no data.

use tokio_postgres::Client;

use super::failure::Failure;
use super::statement::literal;
use super::undo::{rows, run};

/// How much is taken back in one transaction.
const AT_ONCE: usize = 500;
/// How many of these are tried in one call. What is left then is left to the next.
const ROUNDS: usize = 64;

/// Takes back, in the database of `client`, whatever `user` gave.
pub(super) async fn take_back(client: &Client, user: &str) -> Result<(), Failure> {
    let user = literal(user).map_err(Failure::refused)?;
    for _ in 0..ROUNDS {
        let statements = rows(client, &format!("{GIVEN} LIMIT {AT_ONCE}").replace("{user}", &user)).await?;
        if statements.is_empty() {
            return Ok(());
        }
        run(client, &format!("BEGIN;\n{};\nCOMMIT", statements.join(";\n"))).await?;
    }
    Err(Failure::not_sent("more was given to others than is taken back at once; the rest is taken next"))
}

/// Statements that take it back, one for each grantee of each thing. Names are written by the server, which quotes them,
/// and with their schemas, since the broker's search path has none that users make things in.
const GIVEN: &str = "WITH owner AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {user}),
    things(thing, privileges) AS (
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::pg_catalog.regclass::text,
            coalesce(relacl, pg_catalog.acldefault(CASE relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r' END, relowner))
        FROM pg_catalog.pg_class c WHERE relowner = (SELECT oid FROM owner) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL SELECT 'TABLE ' || attrelid::pg_catalog.regclass::text, attacl
        FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_class c ON c.oid = attrelid
        WHERE relowner = (SELECT oid FROM owner) AND attacl IS NOT NULL AND NOT attisdropped
        UNION ALL SELECT 'ROUTINE ' || p.oid::pg_catalog.regprocedure::text,
            coalesce(proacl, pg_catalog.acldefault('f', proowner))
        FROM pg_catalog.pg_proc p WHERE proowner = (SELECT oid FROM owner)
        UNION ALL SELECT 'SCHEMA ' || pg_catalog.quote_ident(nspname), nspacl
        FROM pg_catalog.pg_namespace WHERE nspowner = (SELECT oid FROM owner)
        UNION ALL SELECT 'FOREIGN SERVER ' || pg_catalog.quote_ident(srvname), srvacl
        FROM pg_catalog.pg_foreign_server WHERE srvowner = (SELECT oid FROM owner)
        UNION ALL SELECT 'LARGE OBJECT ' || l.oid, lomacl
        FROM pg_catalog.pg_largeobject_metadata l WHERE lomowner = (SELECT oid FROM owner))
    SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s FROM %s CASCADE', thing,
        CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::pg_catalog.regrole::text END)
    FROM things, pg_catalog.aclexplode(privileges) given WHERE given.grantee <> (SELECT oid FROM owner)
    UNION ALL SELECT pg_catalog.format('ALTER ROUTINE %s SECURITY INVOKER', p.oid::pg_catalog.regprocedure)
    FROM pg_catalog.pg_proc p WHERE proowner = (SELECT oid FROM owner) AND prosecdef";
