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
/// Most schemas that somebody is let into at once.
const MAX_SCHEMAS: usize = 10_000;

/// Takes back, in the database of `client`, whatever `user` gave.
///
/// # Errors
/// The first of what cannot be taken back, after all that can be was.
pub(super) async fn take_back(client: &Client, user: &str) -> Result<(), Failure> {
    let admitting = admitting(client, user, user).await?;
    let user = literal(user).map_err(Failure::refused)?;
    let (mut first, mut left) = (None, 0_usize);
    for _ in 0..ROUNDS {
        let query = format!("{GIVEN} ORDER BY 1 LIMIT {AT_ONCE} OFFSET {left}").replace("{user}", &user);
        let statements = rows(client, &query).await?;
        if statements.is_empty() {
            return first.map_or(Ok(()), Err);
        }
        let Err(failure) = run(client, &format!("{admitting}{}", statements.join(";\n"))).await else { continue };
        if failure.is_race() {
            return Err(failure);
        }
        for statement in statements {
            if let Err(failure) = run(client, &format!("{admitting}{statement}")).await {
                first = first.or(Some(failure));
                left = left.saturating_add(1);
            }
        }
    }
    Err(Failure::not_sent("more was given to others than is taken back at once; the rest is taken next"))
}

/// Statements that let `whom` into the schemas of `user` that it is shut out of, as their owner may have shut out itself:
/// to be run in one transaction with what needs it.
pub(super) async fn admitting(client: &Client, user: &str, whom: &str) -> Result<String, Failure> {
    let (user, whom) = (literal(user).map_err(Failure::refused)?, literal(whom).map_err(Failure::refused)?);
    let query = format!(
        "SELECT pg_catalog.format('GRANT ALL ON SCHEMA %I TO %I; ', nspname, {whom}) FROM pg_catalog.pg_namespace n WHERE \
         nspowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {user}) AND NOT \
         (pg_catalog.has_schema_privilege({whom}, n.oid, 'USAGE') AND pg_catalog.has_schema_privilege({whom}, n.oid, \
         'CREATE')) LIMIT {MAX_SCHEMAS}"
    );
    Ok(rows(client, &query).await?.concat())
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
