//! Lineages as rows: who has held which role, since when, and until when at the latest.

use hallpass_core::id::LineageId;
use hallpass_core::port::{Lineage, LineageClaim, LineageKey};
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Columns, id_bytes};
use crate::error::Outcome;

/// The lineage of `key`, unless it paused for long enough to be over.
pub(crate) fn continued(connection: &Connection, key: &LineageKey, now: Timestamp) -> Outcome<Option<Lineage>> {
    let sql = "SELECT id, started_at, held_until FROM lineages WHERE issuer = ?1 AND subject = ?2 AND role = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let key = [key.issuer.as_str(), &key.subject, key.role.as_str()];
    let found = statement.query_row(key, |row| {
        let columns = &mut Columns::new(row, "lineages");
        let read = |columns: &mut Columns<'_>| {
            let id: LineageId = columns.id("id")?;
            columns.keyed(id);
            Ok((Lineage { id, started_at: columns.time("started_at")? }, columns.time("held_until")?))
        };
        Ok(read(columns))
    });
    let Some((lineage, held_until)) = found.optional()?.transpose().map_err(crate::error::Failure::Store)? else {
        return Ok(None);
    };
    let paused = now > held_until.plus(LineageClaim::PAUSE);
    Ok((!paused).then_some(lineage))
}

/// Notes that `key` holds its role until `held_until` at least, in the lineage `lineage`.
pub(crate) fn hold(connection: &Connection, key: &LineageKey, lineage: Lineage, held_until: Timestamp) -> Outcome<()> {
    let sql = "INSERT INTO lineages (issuer, subject, role, id, started_at, held_until)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT DO UPDATE SET id = excluded.id, started_at = excluded.started_at,
                   held_until = max(held_until, excluded.held_until)";
    let values = params![
        key.issuer.as_str(),
        key.subject,
        key.role.as_str(),
        id_bytes(lineage.id.as_uuid()),
        lineage.started_at.as_millis(),
        held_until.as_millis(),
    ];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}
