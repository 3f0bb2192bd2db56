//! What a user may do by the leave of others.
//!
//! The invariant: it is taken away first, and each right on its own, so that whatever the user or anybody with it
//! prepared, and whatever of its end fails for that, nothing that it made reaches further than the user itself, which is
//! nobody by then. A routine that runs with the rights of its owner, in a schema that the broker cannot enter, has none
//! to run with.
//!
//! What cannot be taken away like this, such as a right that somebody else gave, goes with the user.

use tokio_postgres::Client;

use super::failure::Failure;
use super::statement::literal;
use super::undo::{rows, run};

/// How many rights are taken away before the rest of the end. More than these go with the user.
const MAX_RIGHTS: usize = 1000;

/// Ends every membership of the user: in groups, and of others in the user.
pub(super) async fn leave_groups(home: &Client, oid: u32) -> Result<(), Failure> {
    // From PostgreSQL 16 on a membership is of whoever gave it, and there may be several.
    let query = format!(
        "SELECT pg_catalog.format('REVOKE %I FROM %I', g.rolname, m.rolname) || CASE WHEN \
         pg_catalog.current_setting('server_version_num')::int >= 160000 THEN pg_catalog.format(' GRANTED BY %I', \
         pg_catalog.pg_get_userbyid(a.grantor)) ELSE '' END || ' CASCADE' FROM pg_catalog.pg_auth_members a JOIN \
         pg_catalog.pg_roles g ON g.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member WHERE {oid} IN \
         (a.member, a.roleid) AND m.rolname <> current_user ORDER BY a.member = {oid} DESC, a.member LIMIT {MAX_RIGHTS}"
    );
    each(home, &rows(home, &query).await?).await;
    Ok(())
}

/// Takes away what the user was given itself, in the database of `client`.
pub(super) async fn give_up(client: &Client, user: &str) -> Result<(), Failure> {
    let user = literal(user).map_err(Failure::refused)?;
    each(client, &rows(client, &format!("{HELD} LIMIT {MAX_RIGHTS}").replace("{user}", &user)).await?).await;
    Ok(())
}

/// Runs all of them at once, or else as many as can be.
async fn each(client: &Client, statements: &[String]) {
    if statements.is_empty() || run(client, &statements.join(";\n")).await.is_ok() {
        return;
    }
    for statement in statements {
        // One that fails stops no other. Whether all is well is asked of the server in the end.
        let _ = run(client, statement).await;
    }
}

/// Statements that take it away: of what reaches data, and belongs to others.
const HELD: &str = "WITH held AS (SELECT DISTINCT classid, objid FROM pg_catalog.pg_shdepend
        WHERE refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND deptype = 'a'
        AND refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {user})
        AND dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))),
    things(thing) AS (
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || c.oid::pg_catalog.regclass::text
        FROM held JOIN pg_catalog.pg_class c ON c.oid = objid WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION ALL SELECT 'ROUTINE ' || p.oid::pg_catalog.regprocedure::text
        FROM held JOIN pg_catalog.pg_proc p ON p.oid = objid WHERE classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        UNION ALL SELECT 'SCHEMA ' || pg_catalog.quote_ident(nspname)
        FROM held JOIN pg_catalog.pg_namespace n ON n.oid = objid
        WHERE classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        UNION ALL SELECT 'DATABASE ' || pg_catalog.quote_ident(datname)
        FROM held JOIN pg_catalog.pg_database d ON d.oid = objid
        WHERE classid = 'pg_catalog.pg_database'::pg_catalog.regclass
        UNION ALL SELECT 'FOREIGN SERVER ' || pg_catalog.quote_ident(srvname)
        FROM held JOIN pg_catalog.pg_foreign_server s ON s.oid = objid
        WHERE classid = 'pg_catalog.pg_foreign_server'::pg_catalog.regclass
        UNION ALL SELECT 'LARGE OBJECT ' || objid
        FROM held WHERE classid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass)
    SELECT pg_catalog.format('REVOKE ALL ON %s FROM %I CASCADE', thing, {user}) FROM things ORDER BY 1";
