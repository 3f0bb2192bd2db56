//! What backends prepared ahead of any grant, as rows.

use async_trait::async_trait;
use hallpass_core::credential::Handle;
use hallpass_core::id::{BackendName, GrantId, RoleName, SpareId};
use hallpass_core::port::{Place, Sealer, Spare, Spares, StoreError};
use hallpass_core::time::{Timestamp, Ttl};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::SqliteStore;
use crate::error::Outcome;
use crate::rows::{Columns, id_bytes};
use crate::transaction::Transaction;

/// For how long after its end a spare is remembered: a backend may be a little late in forgetting it.
const REMEMBERED: Ttl = Ttl::from_hours(1);

#[async_trait]
impl Spares for SqliteStore {
    async fn keep_spare(&self, spare: &Spare) -> Result<(), StoreError> {
        let sealed = seal(self.sealer.as_ref(), spare.id, &spare.handle)?;
        let (id, expires_at) = (spare.id, spare.expires_at);
        let names = (spare.backend.to_string(), spare.role.to_string(), spare.role_digest.clone());
        let keep = move |transaction: &mut Transaction<'_>| {
            let sql = "INSERT INTO spares (id, backend, role, role_digest, handle, expires_at)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let (backend, role, digest) = &names;
            let id = id_bytes(id.as_uuid());
            transaction.execute(sql, params![id, backend, role, digest, sealed, expires_at.as_millis()])?;
            Ok(())
        };
        self.writer.run(keep).await
    }

    async fn spares(&self) -> Result<Vec<Spare>, StoreError> {
        let sealed = self.readers.read(free).await?;
        sealed.into_iter().map(|spare| spare.open(self.sealer.as_ref())).collect()
    }

    async fn spare_taken_by(&self, id: SpareId) -> Result<Option<Option<GrantId>>, StoreError> {
        let find = move |connection: &Connection| {
            let sql = "SELECT grant_id FROM spares WHERE id = ?1";
            let read = |row: &Row<'_>| row.get::<_, Option<[u8; 16]>>(0);
            let found = connection.prepare_cached(sql)?.query_row([id_bytes(id.as_uuid())], read).optional()?;
            Ok(found.map(|taker| taker.map(|id| Uuid::from_bytes(id).into())))
        };
        self.readers.read(find).await
    }

    async fn forget_spare(&self, id: SpareId) -> Result<bool, StoreError> {
        let forget = move |transaction: &mut Transaction<'_>| {
            let sql = "DELETE FROM spares WHERE id = ?1 AND grant_id IS NULL";
            Ok(transaction.execute(sql, [id_bytes(id.as_uuid())])? > 0)
        };
        self.writer.run(forget).await
    }
}

/// Whether a spare is kept and nobody has taken it.
pub(crate) fn is_free(transaction: &Transaction<'_>, spare: SpareId) -> Outcome<bool> {
    let sql = "SELECT 1 FROM spares WHERE id = ?1 AND grant_id IS NULL";
    Ok(transaction.find(sql, [id_bytes(spare.as_uuid())], |_| Ok(()))?.is_some())
}

/// Gives a free spare to a grant.
pub(crate) fn take(transaction: &Transaction<'_>, spare: SpareId, grant: GrantId) -> Outcome<()> {
    let sql = "UPDATE spares SET grant_id = ?2 WHERE id = ?1 AND grant_id IS NULL";
    let taken = transaction.execute(sql, [id_bytes(spare.as_uuid()), id_bytes(grant.as_uuid())])?;
    debug_assert_eq!(taken, 1, "the spare was free a moment ago, in this transaction");
    Ok(())
}

/// Removes up to `limit` of those that no backend knows any longer.
pub(crate) fn purge(transaction: &Transaction<'_>, now: Timestamp, limit: usize) -> Outcome<usize> {
    let sql = "DELETE FROM spares WHERE id IN (
                   SELECT id FROM spares WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    transaction.execute(sql, params![now.minus(REMEMBERED).as_millis(), limit])
}

/// A handle, sealed where its spare is.
pub(crate) fn seal(sealer: &dyn Sealer, id: SpareId, handle: &Handle) -> Result<Vec<u8>, StoreError> {
    Ok(sealer.seal(place(&id.to_string()), handle.0.expose())?)
}

/// The handle that was sealed.
pub(crate) fn open(sealer: &dyn Sealer, id: SpareId, sealed: &[u8]) -> Result<Handle, StoreError> {
    Ok(Handle(sealer.open(place(&id.to_string()), sealed)?))
}

fn place(row: &str) -> Place<'_> {
    Place { table: "spares", row, column: "handle" }
}

fn free(connection: &Connection) -> Outcome<Vec<Sealed>> {
    let sql = "SELECT id, backend, role, role_digest, handle, expires_at FROM spares WHERE grant_id IS NULL
               ORDER BY expires_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Sealed::read(row)?);
    }
    Ok(found)
}

/// A spare with its handle still sealed.
struct Sealed {
    id: SpareId,
    backend: BackendName,
    role: RoleName,
    role_digest: String,
    handle: Vec<u8>,
    expires_at: Timestamp,
}

impl Sealed {
    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let columns = &mut Columns::new(row, "spares");
        let id = columns.id("id")?;
        columns.keyed(id);
        Ok(Self {
            id,
            backend: columns.name("backend")?,
            role: columns.name("role")?,
            role_digest: columns.value("role_digest")?,
            handle: columns.value("handle")?,
            expires_at: columns.time("expires_at")?,
        })
    }

    fn open(self, sealer: &dyn Sealer) -> Result<Spare, StoreError> {
        let Self { id, backend, role, role_digest, handle, expires_at } = self;
        Ok(Spare { id, backend, role, role_digest, handle: open(sealer, id, &handle)?, expires_at })
    }
}
