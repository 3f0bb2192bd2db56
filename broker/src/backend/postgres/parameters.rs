//! A role's table `[postgres]`, validated.

use hallpass_core::port::InvalidParameters;
use hallpass_core::role::Role;

use super::statement::{Statement, identifier};
use crate::backend::parameters::{Table, invalid};

const KEYS: &[&str] = &[
    "roles",
    "database",
    "connection_limit",
    "password_length",
    "reassign_owned_to",
    "creation",
    "renew",
    "revocation",
];
/// What statements can name.
const PLACEHOLDERS: &[&str] =
    &["name", "grant", "role", "owner", "purpose", "issuer", "subject", "database", "expiration"];
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
    /// Who gets what a user leaves behind; without it that is dropped.
    pub(super) reassign_owned_to: Option<String>,
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
        let reassign_owned_to = match table.text("reassign_owned_to")? {
            Some(text) => Some(name("reassign_owned_to", text)?),
            None => roles.first().cloned(),
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
