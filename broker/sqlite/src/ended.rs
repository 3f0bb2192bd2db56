//! Grants that are over in the record while their credentials may still work, with what it takes to undo these.

use async_trait::async_trait;
use hallpass_core::grant::EXPIRY_SKEW;
use hallpass_core::id::{BackendName, GrantId};
use hallpass_core::port::{Ended, EndedGrant, EndedGrants, EndedPage, FenceName, StoreError};
use hallpass_core::time::Timestamp;
use rusqlite::Connection;

use crate::SqliteStore;
use crate::error::Outcome;
use crate::rows::{Columns, grant, id_bytes};

#[async_trait]
impl EndedGrants for SqliteStore {
    async fn ended_alive(&self, fence: FenceName<'_>, now: Timestamp, page: EndedPage) -> Result<Ended, StoreError> {
        let (kind, fence) = (fence.backend_kind.to_owned(), fence.name.to_owned());
        let rows = self.readers.read(move |connection| read(connection, &kind, &fence, now, page)).await?;
        let next = rows.last().filter(|_| rows.len() == page.limit).map(|last| (last.expires_at, last.id));
        Ok(Ended { grants: rows.into_iter().map(|row| row.open(self.sealer.as_ref())).collect(), next })
    }

    async fn fences(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let kind = backend_kind.to_owned();
        self.readers.read(move |connection| fences(connection, &kind, now)).await
    }
}

/// One of them, with its handle still sealed.
struct EndedRow {
    id: GrantId,
    backend: BackendName,
    sealed_handle: Vec<u8>,
    created_at: Timestamp,
    expires_at: Timestamp,
    fenced_at: Option<Timestamp>,
}

impl EndedRow {
    fn open(self, sealer: &dyn hallpass_core::port::Sealer) -> EndedGrant {
        let Self { id, backend, sealed_handle, created_at, expires_at, fenced_at } = self;
        let handle = grant::open_handle(sealer, id, &sealed_handle);
        EndedGrant { id, backend, handle, created_at, expires_at, fenced_at }
    }
}

/// What is fenced, and what waits to be.
pub(crate) const OF_FENCE: &str = "SELECT id, backend, handle, created_at, expires_at, fenced_at FROM grants
    WHERE fence = ?1 AND (expires_at, id) > (?2, ?3) AND backend_kind = ?4
        AND (state = 'revoking' OR (state = 'abandoned' AND fenced_at IS NOT NULL))
    ORDER BY expires_at, id LIMIT ?5";

fn read(
    connection: &Connection,
    backend_kind: &str,
    fence: &str,
    now: Timestamp,
    page: EndedPage,
) -> Outcome<Vec<EndedRow>> {
    let (at, id) = match page.after {
        Some((at, id)) => (at.as_millis(), id_bytes(id.as_uuid()).to_vec()),
        // Behind every id of that instant.
        None => (still_accepted(now), vec![0xff; 17]),
    };
    let mut statement = connection.prepare_cached(OF_FENCE)?;
    let limit = i64::try_from(page.limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(rusqlite::params![fence, at, id, backend_kind, limit])?;
    let mut ended = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = &mut Columns::new(row, "grants");
        ended.push(EndedRow {
            id: columns.id("id")?,
            backend: columns.name("backend")?,
            sealed_handle: columns.value("handle")?,
            created_at: columns.time("created_at")?,
            expires_at: columns.time("expires_at")?,
            fenced_at: columns.optional_time("fenced_at")?,
        });
    }
    Ok(ended)
}

/// From name to name, and not through every grant that ever was of one.
pub(crate) const FENCES: &str = "WITH RECURSIVE fences (name) AS (
        SELECT min(fence) FROM grants WHERE fence IS NOT NULL
        UNION ALL
        SELECT (SELECT min(fence) FROM grants WHERE fence > name) FROM fences WHERE name IS NOT NULL)
    SELECT name FROM fences WHERE name IS NOT NULL AND EXISTS (
        SELECT 1 FROM grants WHERE fence = name AND expires_at > ?1 AND backend_kind = ?2
            AND (state = 'revoking' OR (state = 'abandoned' AND fenced_at IS NOT NULL)))";

fn fences(connection: &Connection, backend_kind: &str, now: Timestamp) -> Outcome<Vec<String>> {
    let mut statement = connection.prepare_cached(FENCES)?;
    let names = statement.query_map(rusqlite::params![still_accepted(now), backend_kind], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// As with what is fenced by record: a verifier whose clock is behind still accepts for the skew.
fn still_accepted(now: Timestamp) -> i64 {
    now.minus(EXPIRY_SKEW).as_millis()
}
