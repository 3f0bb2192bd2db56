//! Revocations as rows.

use hallpass_core::audit::Actor;
use hallpass_core::id::RevocationId;
use hallpass_core::port::StoreError;
use hallpass_core::revocation::{Completed, Revocation};
use rusqlite::{Connection, OptionalExtension, Row};

use super::{Columns, id_bytes, json};
use crate::error::Outcome;

const TABLE: &str = "revocations";

/// The columns that [`read`] reads.
pub(crate) const SELECTED: &str =
    "id, selector, reach, author, reason, quarantine_id, created_at, completed_at, grants_digest";

/// A row of [`SELECTED`] as a revocation.
pub(crate) fn read(row: &Row<'_>) -> Result<Revocation, StoreError> {
    let columns = &mut Columns::new(row, TABLE);
    let id: RevocationId = columns.id("id")?;
    columns.keyed(id);
    Ok(Revocation {
        id,
        selector: columns.json("selector")?,
        reach: columns.json("reach")?,
        author: columns.json("author")?,
        reason: columns.value("reason")?,
        quarantine: columns.optional_id("quarantine_id")?,
        created_at: columns.time("created_at")?,
        completed: read_completed(columns)?,
    })
}

fn read_completed(columns: &mut Columns<'_>) -> Result<Option<Completed>, StoreError> {
    let at = columns.optional_time("completed_at")?;
    let digest: Option<[u8; 32]> = columns.value("grants_digest")?;
    match (at, digest) {
        (None, None) => Ok(None),
        (Some(at), Some(grants_digest)) => Ok(Some(Completed { at, grants_digest })),
        (at, _) => Err(columns.inconsistent("completed_at", format!("half a completion, at {at:?}"))),
    }
}

/// One revocation by its id.
pub(crate) fn by_id(connection: &Connection, id: RevocationId) -> Outcome<Option<Revocation>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {SELECTED} FROM revocations WHERE id = ?1"))?;
    let found = statement.query_row([id_bytes(id.as_uuid())], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

/// Those that are not complete, oldest first.
pub(crate) fn running(connection: &Connection) -> Outcome<Vec<Revocation>> {
    let sql = format!("SELECT {SELECTED} FROM revocations WHERE completed_at IS NULL ORDER BY seq");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut running = Vec::new();
    while let Some(row) = rows.next()? {
        running.push(read(row)?);
    }
    Ok(running)
}

/// How an author is written, which is also how it is asked for.
pub(crate) fn author(actor: &Actor) -> Result<String, StoreError> {
    json(actor)
}
