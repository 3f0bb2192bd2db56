//! Quarantines as rows.

use hallpass_core::id::QuarantineId;
use hallpass_core::port::StoreError;
use hallpass_core::quarantine::{Lifted, Quarantine};
use rusqlite::{Connection, OptionalExtension, Row};

use super::{Columns, id_bytes};
use crate::error::Outcome;

const TABLE: &str = "quarantines";

/// The columns that [`read`] reads.
pub(crate) const SELECTED: &str = "id, selector, roles, author, reason, created_at, until, lifted_at, lifted_by";

/// A row of [`SELECTED`] as a quarantine.
pub(crate) fn read(row: &Row<'_>) -> Result<Quarantine, StoreError> {
    let columns = &mut Columns::new(row, TABLE);
    let id: QuarantineId = columns.id("id")?;
    columns.keyed(id);
    Ok(Quarantine {
        id,
        selector: columns.json("selector")?,
        roles: columns.json("roles")?,
        author: columns.json("author")?,
        reason: columns.value("reason")?,
        created_at: columns.time("created_at")?,
        until: columns.time("until")?,
        lifted: read_lifted(columns)?,
    })
}

fn read_lifted(columns: &mut Columns<'_>) -> Result<Option<Lifted>, StoreError> {
    let at = columns.optional_time("lifted_at")?;
    let by = columns.optional_json("lifted_by")?;
    match (at, by) {
        (None, None) => Ok(None),
        (Some(at), Some(by)) => Ok(Some(Lifted { at, by })),
        (at, _) => Err(columns.inconsistent("lifted_at", format!("half a lifting, at {at:?}"))),
    }
}

/// One quarantine by its id.
pub(crate) fn by_id(connection: &Connection, id: QuarantineId) -> Outcome<Option<Quarantine>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {SELECTED} FROM quarantines WHERE id = ?1"))?;
    let found = statement.query_row([id_bytes(id.as_uuid())], |row| Ok(read(row))).optional()?;
    Ok(found.transpose()?)
}

/// Those that are not lifted, oldest first.
pub(crate) fn in_force(connection: &Connection) -> Outcome<Vec<Quarantine>> {
    let sql = format!("SELECT {SELECTED} FROM quarantines WHERE lifted_at IS NULL ORDER BY seq");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut in_force = Vec::new();
    while let Some(row) = rows.next()? {
        in_force.push(read(row)?);
    }
    Ok(in_force)
}
