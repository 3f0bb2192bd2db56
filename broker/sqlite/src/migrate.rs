//! Brings a database to the schema that this program knows. `PRAGMA user_version` counts the migrations that ran.
//!
//! Migrations only expand: the previous version of this program keeps working on what this one made, up to the version
//! number, which it refuses so that it never writes rows it does not understand.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::error::OpenError;

/// In order; the first makes version 1. Never edited once released.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_the_record.sql"),
    include_str!("../migrations/0002_the_log_proves_itself.sql"),
    include_str!("../migrations/0003_ended_early.sql"),
    include_str!("../migrations/0004_heartbeats_from.sql"),
    include_str!("../migrations/0005_lineages_horizon.sql"),
    include_str!("../migrations/0006_history.sql"),
    include_str!("../migrations/0007_exports_of_the_log.sql"),
    include_str!("../migrations/0008_key_life.sql"),
    include_str!("../migrations/0009_commands.sql"),
    include_str!("../migrations/0010_unconfirmed.sql"),
    include_str!("../migrations/0011_signed_by.sql"),
    include_str!("../migrations/0012_facts_of_the_role.sql"),
    include_str!("../migrations/0013_data_keys.sql"),
    include_str!("../migrations/0014_publications_in_the_log.sql"),
    include_str!("../migrations/0015_restores.sql"),
    include_str!("../migrations/0016_publications_walked.sql"),
    include_str!("../migrations/0017_anchored_checkpoints.sql"),
    include_str!("../migrations/0018_spares.sql"),
    include_str!("../migrations/0019_fences.sql"),
    include_str!("../migrations/0020_families.sql"),
    include_str!("../migrations/0021_attested.sql"),
    include_str!("../migrations/0022_acting.sql"),
];

/// Runs what has not run, all of it in one transaction. Answers the version before and after.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(usize, usize), OpenError> {
    let failed = OpenError::database(path);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let pending = usize::try_from(found).ok().and_then(|done| Some((done, MIGRATIONS.get(done..)?)));
    let Some((done, pending)) = pending else {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    };
    for migration in pending {
        transaction.execute_batch(migration).map_err(&failed)?;
    }
    if !pending.is_empty() {
        transaction.pragma_update(None, "user_version", known).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
    }
    Ok((done, MIGRATIONS.len()))
}

/// For who only reads: the schema must be this program's own.
pub(crate) fn refuse_another_schema(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(OpenError::database(path))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(OpenError::NewerSchema { path: path.to_owned(), found, known }),
        std::cmp::Ordering::Less => Err(OpenError::OlderSchema { path: path.to_owned(), found, known }),
    }
}
