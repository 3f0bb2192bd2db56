//! A role's table `[postgres]`, validated.
//!
//! ```toml
//! [postgres]
//! roles = ["app_writer"]           # whose member a user is
//! database = "app"                 # else the backend's
//! owned = "reassign"               # or "drop": what becomes of what a user made
//! reassign_owned_to = "app_owner"  # else the first of `roles`
//! connection_limit = 10
//! password_length = 32
//! # dangerous_allow_roles = ["pg_read_server_files"]   # where a group is a member of that, and it is meant
//! # creation, renew, revocation = ["GRANT … TO {{name}}"]
//! ```

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;

use super::statement::{Statement, identifier};
use crate::backend::parameters::{Table, invalid};

const KEYS: &[&str] = &[
    "roles",
    "database",
    "connection_limit",
    "password_length",
    "owned",
    "reassign_owned_to",
    "dangerous_allow_roles",
    "creation",
    "renew",
    "revocation",
];
/// What statements can name.
const PLACEHOLDERS: &[&str] =
    &["name", "grant", "role", "owner", "purpose", "issuer", "subject", "database", "expiration"];
/// Roles that every server has, whose members reach what is no database: they run programs, read and write files, have
/// the server call others, or end what others run.
pub(super) const BREAKING_OUT: &[&str] = &[
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_create_subscription",
    "pg_signal_backend",
    "pg_signal_autovacuum_worker",
];
const MAX_ROLES: usize = 16;
const MAX_STATEMENTS: usize = 16;
const MAX_CONNECTION_LIMIT: u64 = 1000;

/// What a role says of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    /// The group roles that a user is a member of.
    pub(super) roles: Vec<String>,
    /// The database that callers are told, and that the role's statements run in.
    pub(super) database: Option<String>,
    /// How many connections a user may have.
    pub(super) connection_limit: u64,
    /// How many characters its password has.
    pub(super) password_length: usize,
    /// Who gets what a user leaves behind; without it that is dropped, with everything that others built on it.
    ///
    /// `owned = "reassign"` is the default, to `reassign_owned_to` or else to the first group role. Nothing of a user's
    /// works for others after its end either way: what it let them use is taken back first, and its routines lose their
    /// definer's rights. So the default may be the one that loses no data: a migration's tables are not gone because
    /// nobody said what was to become of them. `owned = "drop"` also ends what runs in the name of whoever sets it off,
    /// such as a trigger on a table of others.
    pub(super) reassign_owned_to: Option<String>,
    /// Roles of the server's own that reach out of the database, which a user may be a member of all the same.
    pub(super) dangerous_allow_roles: Vec<String>,
    /// What is run after a user was created, in the same transaction.
    pub(super) creation: Vec<Statement>,
    /// What is run when its life was extended.
    pub(super) renew: Vec<Statement>,
    /// What is run before it is dropped.
    pub(super) revocation: Vec<Statement>,
}

impl Parameters {
    /// Reads the table of `role`.
    pub(super) fn of(role: &Role) -> Result<Self, InvalidParameters> {
        let table = Table::of(role, "postgres", KEYS)?;
        let name = |key: &str, name: &str| {
            identifier(name).map(|_| name.to_owned()).map_err(|why| invalid(key, format!("{name:?}: {why}")))
        };
        let roles = table.texts("roles")?.unwrap_or_default();
        let roles = roles.into_iter().map(|text| name("roles", text)).collect::<Result<Vec<_>, _>>()?;
        if roles.len() > MAX_ROLES {
            return Err(invalid("roles", format!("are more than {MAX_ROLES}")));
        }
        let creation = statements(&table, "creation", &[])?;
        if roles.is_empty() && creation.is_empty() {
            return Err(invalid("roles", "names the group roles that a user becomes a member of; or give creation"));
        }
        let dangerous_allow_roles = table.texts("dangerous_allow_roles")?.unwrap_or_default();
        if let Some(other) = dangerous_allow_roles.iter().find(|name| !BREAKING_OUT.contains(name)) {
            let known = BREAKING_OUT.join(", ");
            return Err(invalid("dangerous_allow_roles", format!("{other:?} is none of {known}")));
        }
        let is_refused =
            |role: &&String| BREAKING_OUT.contains(&role.as_str()) && !dangerous_allow_roles.contains(&role.as_str());
        if let Some(role) = roles.iter().find(is_refused) {
            let why = "reaches out of the database, or at what belongs to others; name it in dangerous_allow_roles as \
                       well where that is meant";
            return Err(invalid("roles", format!("{role:?} {why}")));
        }
        let heir = table.text("reassign_owned_to")?.map(|text| name("reassign_owned_to", text)).transpose()?;
        let reassign_owned_to = match (table.text("owned")?.unwrap_or("reassign"), heir.or(roles.first().cloned())) {
            ("reassign", Some(heir)) => Some(heir),
            ("reassign", None) => {
                let why =
                    "what a user leaves behind needs somebody to have it: give reassign_owned_to, or say \"drop\"";
                return Err(invalid("owned", why));
            }
            ("drop", _) if table.text("reassign_owned_to")?.is_some() => {
                return Err(invalid("reassign_owned_to", "means nothing where owned = \"drop\"; give one of them"));
            }
            ("drop", _) => None,
            (other, _) => return Err(invalid("owned", format!("{other:?} is not \"reassign\" or \"drop\""))),
        };
        let connection_limit = table.whole("connection_limit")?.unwrap_or(10);
        if !(1..=MAX_CONNECTION_LIMIT).contains(&connection_limit) {
            return Err(invalid("connection_limit", format!("is between 1 and {MAX_CONNECTION_LIMIT}")));
        }
        let password_length = table.whole("password_length")?.unwrap_or(32);
        let length = usize::try_from(password_length).ok().filter(|length| (20..=128).contains(length));
        let password_length = length.ok_or_else(|| invalid("password_length", "is between 20 and 128"))?;
        Ok(Self {
            roles,
            database: table.text("database")?.map(|text| name("database", text)).transpose()?,
            connection_limit,
            password_length,
            reassign_owned_to,
            dangerous_allow_roles: dangerous_allow_roles.into_iter().map(str::to_owned).collect(),
            creation,
            renew: statements(&table, "renew", &[])?,
            revocation: statements(&table, "revocation", &["expiration"])?,
        })
    }
}

fn statements(table: &Table<'_>, key: &str, without: &[&str]) -> Result<Vec<Statement>, InvalidParameters> {
    let texts = table.texts(key)?.unwrap_or_default();
    if texts.len() > MAX_STATEMENTS {
        return Err(invalid(key, format!("are more than {MAX_STATEMENTS} statements")));
    }
    let read = |text: &str| {
        let statement = Statement::try_from(text.to_owned()).map_err(|why| invalid(key, format!("{text:?}: {why}")))?;
        let known = |name: &&str| PLACEHOLDERS.contains(name) && !without.contains(name);
        if let Some(unknown) = statement.placeholders().find(|name| !known(name)) {
            let known: Vec<_> = PLACEHOLDERS.iter().filter(|name| !without.contains(name)).copied().collect();
            let why = format!("there is no {{{{{unknown}}}}} here; known are {}", known.join(", "));
            return Err(invalid(key, format!("{text:?}: {why}")));
        }
        Ok(statement)
    };
    texts.into_iter().map(read).collect()
}
