//! Grants that are over in the record while their credentials may still work, with what it takes to undo these.

use async_trait::async_trait;
use hallpass_core::grant::EXPIRY_SKEW;
use hallpass_core::id::{BackendName, GrantId};
use hallpass_core::port::{EndedGrant, EndedGrants, StoreError};
use hallpass_core::time::Timestamp;
use rusqlite::Connection;

use crate::SqliteStore;
use crate::error::Outcome;
use crate::rows::{Columns, grant};

#[async_trait]
impl EndedGrants for SqliteStore {
    async fn ended_alive(&self, backend_kind: &str, now: Timestamp) -> Result<Vec<EndedGrant>, StoreError> {
        let backend_kind = backend_kind.to_owned();
        let ended = self.readers.read(move |connection| read(connection, &backend_kind, now)).await?;
        Ok(ended.into_iter().map(|ended| ended.open(self.sealer.as_ref())).collect())
    }
}

/// One of them, with its handle still sealed.
struct Ended {
    id: GrantId,
    backend: BackendName,
    sealed_handle: Vec<u8>,
    created_at: Timestamp,
    expires_at: Timestamp,
    fenced_at: Option<Timestamp>,
}

impl Ended {
    fn open(self, sealer: &dyn hallpass_core::port::Sealer) -> EndedGrant {
        let Self { id, backend, sealed_handle, created_at, expires_at, fenced_at } = self;
        let handle = grant::open_handle(sealer, id, &sealed_handle);
        EndedGrant { id, backend, handle, created_at, expires_at, fenced_at }
    }
}

/// Each half by an index of its own: what is fenced, and what waits to be.
fn read(connection: &Connection, backend_kind: &str, now: Timestamp) -> Outcome<Vec<Ended>> {
    // As with what is fenced by record: a verifier whose clock is behind still accepts for the skew.
    let sql = "SELECT * FROM (
                   SELECT id, backend, handle, created_at, expires_at, fenced_at FROM grants
                   WHERE backend_kind = ?1 AND fenced_at IS NOT NULL AND expires_at > ?2
                       AND state IN ('revoking', 'abandoned')
                   UNION ALL
                   SELECT id, backend, handle, created_at, expires_at, fenced_at FROM grants
                   WHERE state = 'revoking' AND due_at IS NOT NULL AND fenced_at IS NULL
                       AND backend_kind = ?1 AND expires_at > ?2)
               ORDER BY fenced_at IS NULL, fenced_at, expires_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let still_accepted = now.minus(EXPIRY_SKEW).as_millis();
    let mut rows = statement.query(rusqlite::params![backend_kind, still_accepted])?;
    let mut ended = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = &mut Columns::new(row, "grants");
        ended.push(Ended {
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
