//! Whether a user that was just made ends with its grant, and reaches no further than a user of a database should: asked
//! of the server, in the transaction that makes it, since only there it is known what is a member of what.

use std::collections::BTreeSet;

use tokio_postgres::SimpleQueryMessage;

use super::parameters::{BREAKING_OUT, Parameters};
use super::statement::literal;

/// What the server says of a user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// The user's id.
    pub(super) oid: u32,
    /// Why there may be no such user, for the audit log.
    pub(super) refused: Option<String>,
}

/// The query whose row [`Reach::of`] reads. A membership counts however it was given: whoever has one can become the
/// other, or have its members do so.
pub(super) fn query(user: &str, until: &str, parameters: &Parameters) -> Result<String, String> {
    let allowed: BTreeSet<&str> = parameters.dangerous_allow_roles.iter().map(String::as_str).collect();
    let refused = BREAKING_OUT.iter().filter(|name| !allowed.contains(*name)).map(|name| literal(name));
    // None is called so: a list of SQL may not be empty.
    let refused = refused.chain([literal("")]).collect::<Result<Vec<_>, _>>()?.join(", ");
    let (user, until) = (literal(user)?, literal(until)?);
    Ok(format!(
        "SELECT r.oid, coalesce(r.rolvaliduntil <= {until}::timestamptz AND r.rolcanlogin, false), (WITH RECURSIVE \
         up(id) AS (SELECT r.oid UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN up ON m.member = up.id) \
         SELECT pg_catalog.string_agg(g.rolname || ' ' || why, ', ' ORDER BY g.rolname, why) FROM up JOIN \
         pg_catalog.pg_roles g ON g.oid = up.id CROSS JOIN LATERAL (VALUES (g.rolsuper, 'is a superuser'), \
         (g.rolcreaterole, 'may make roles'), (g.rolreplication, 'may replicate'), (g.rolbypassrls, 'bypasses row \
         security'), (g.rolname IN ({refused}), 'reaches out of the database'), (EXISTS (SELECT 1 FROM \
         pg_catalog.pg_auth_members a WHERE a.member = g.oid AND a.admin_option), 'may make others members of roles')) \
         found(so, why) WHERE so) FROM pg_catalog.pg_roles r WHERE r.rolname = {user}"
    ))
}

impl Reach {
    /// What the last row of an answer says.
    pub(super) fn of(answered: &[SimpleQueryMessage]) -> Option<Self> {
        let row = answered.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })?;
        let outlives =
            (row.get(1) != Some("t")).then(|| "it would not end with its grant, by its role's statements".to_owned());
        let reaches = row.get(2).map(|found| format!("by its role's groups or statements: {found}"));
        Some(Self { oid: row.get(0)?.parse().ok()?, refused: outlives.or(reaches) })
    }
}
