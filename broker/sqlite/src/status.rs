//! Status indexes of credentials that verifiers must refuse.

use std::collections::HashSet;
use std::ops::Range;

use async_trait::async_trait;
use hallpass_core::port::{StatusRecord, StoreError};
use rusqlite::{Connection, params};

use crate::SqliteStore;
use crate::error::Outcome;
use crate::family;
use crate::restore;
use crate::revocations;
use crate::rows::integer;

#[async_trait]
impl StatusRecord for SqliteStore {
    async fn ended_early(&self, indexes: Range<u64>) -> Result<Option<Vec<u64>>, StoreError> {
        // Before the rows: what has not followed now is found as what has ended, or as what will.
        let in_force = self.writer.in_force();
        let read = move |connection: &Connection| {
            let Some(mut found) = ended_early(connection, &indexes)? else { return Ok(None) };
            revocations::ended_ahead(connection, &in_force, &indexes, &mut found)?;
            family::derived_ended_ahead(connection, &in_force, &indexes, &mut found)?;
            Ok(Some(found))
        };
        self.readers.read(read).await
    }
}

/// Named here word for word, so that the partial index serves it: the width of a list is then read, and not its grants.
pub(crate) const ENDED_EARLY: &str = "SELECT status_index FROM grants INDEXED BY grants_ended_early
    WHERE (fenced_at IS NOT NULL OR state IN ('revoking', 'abandoned')) AND status_index >= ?1 AND status_index < ?2
    ORDER BY status_index";

/// Of indexes that may have been given out before an older copy was put back, those that a grant has.
pub(crate) const KNOWN: &str =
    "SELECT status_index FROM grants WHERE status_index >= ?1 AND status_index < ?2 ORDER BY status_index";

fn ended_early(connection: &Connection, indexes: &Range<u64>) -> Outcome<Option<Vec<u64>>> {
    if restore::next_index(connection)? <= indexes.start {
        return Ok(None);
    }
    let mut ended = among(connection, ENDED_EARLY, indexes)?;
    let given_up = indexes.start..indexes.end.min(restore::given_up_below(connection)?);
    if !given_up.is_empty() {
        let known: HashSet<u64> = among(connection, KNOWN, &given_up)?.into_iter().collect();
        ended.extend(given_up.filter(|index| !known.contains(index)));
        ended.sort_unstable();
    }
    Ok(Some(ended))
}

fn among(connection: &Connection, sql: &str, indexes: &Range<u64>) -> Outcome<Vec<u64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let found =
        statement.query_map(params![integer(indexes.start), integer(indexes.end)], |row| row.get::<_, i64>(0))?;
    let indexes: Result<Vec<u64>, _> =
        found.map(|index| index.map(|index| u64::try_from(index).unwrap_or(0))).collect();
    Ok(indexes?)
}
