//! Data keys as rows, and the values that are sealed under them.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::id::{GrantId, KeyId, SpareId};
use hallpass_core::port::{
    DataKeyChange, DataKeyId, DataKeyRecord, Place, Sealer, StoreError, StoredDataKey, Wrapping,
};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use crate::error::{OpenError, Outcome};
use crate::rows::audit::EncodedEntry;
use crate::rows::{Columns, grant, id_bytes};
use crate::transaction::Transaction;
use crate::writer::Operation;
use crate::{SqliteStore, connection, migrate, spares};

/// Grants that are looked at before the next are read: bounds memory, whatever the store holds.
const STEP: i64 = 1_000;

/// The data keys of the store at `path`, read beside whoever writes it; none where there is no store yet. Blocks.
///
/// # Errors
/// [`OpenError`]: it is of another schema than this program's, or refuses.
pub fn data_keys_of(path: &Path) -> Result<Vec<StoredDataKey>, OpenError> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let connection = connection::to_read(path).map_err(OpenError::database(path))?;
    migrate::refuse_another_schema(&connection, path)?;
    data_keys(&connection).map_err(OpenError::refused(path))
}

#[async_trait]
impl DataKeyRecord for SqliteStore {
    async fn data_keys(&self) -> Result<Vec<StoredDataKey>, StoreError> {
        self.readers.read(data_keys).await
    }

    async fn sealed_otherwise(&self) -> Result<u64, StoreError> {
        let sealer = Arc::clone(&self.sealer);
        let count = move |connection: &Connection| {
            let mut count = 0_u64;
            each_sealed(connection, &mut |_, sealed| {
                count = count.saturating_add(u64::from(!sealer.is_current(sealed)));
                Ok(())
            })?;
            Ok(count)
        };
        self.readers.read(count).await
    }

    async fn change_data_keys(&self, change: DataKeyChange) -> Result<Option<u64>, StoreError> {
        let DataKeyChange { put, in_place_of, remove, reseals, entries } = change;
        let reseals = reseals.then(|| Arc::clone(&self.sealer));
        let entries = EncodedEntry::encode_all(entries)?;
        self.writer.write(ChangeDataKeys { put, in_place_of, remove, reseals, entries }).await
    }
}

/// A change of the data keys, ready to be written.
struct ChangeDataKeys {
    put: Option<StoredDataKey>,
    in_place_of: Option<Wrapping>,
    remove: Vec<DataKeyId>,
    reseals: Option<Arc<dyn Sealer>>,
    entries: Vec<EncodedEntry>,
}

impl Operation for ChangeDataKeys {
    type Found = Option<u64>;
    type Answer = Option<u64>;

    fn run(&self, transaction: &mut Transaction<'_>) -> Outcome<Option<u64>> {
        if let Some(key) = &self.put
            && !put_key(transaction, key, self.in_place_of.as_ref())?
        {
            return Ok(None);
        }
        let resealed = match &self.reseals {
            Some(sealer) => reseal(transaction, sealer.as_ref())?,
            None => 0,
        };
        for id in &self.remove {
            transaction.execute("DELETE FROM data_keys WHERE id = ?1", [id.0])?;
        }
        transaction.append(&self.entries)?;
        Ok(Some(resealed))
    }

    fn answer(self, resealed: Option<u64>) -> Option<u64> {
        resealed
    }
}

/// Keeps a new key, or the new wrapping of one that is still in this other wrapping. Answers whether it did.
fn put_key(transaction: &Transaction<'_>, key: &StoredDataKey, in_place_of: Option<&Wrapping>) -> Outcome<bool> {
    let Wrapping { kek, version, wrapped } = &key.wrapping;
    let (created_at, wrapped_at) = (key.created_at.as_millis(), key.wrapped_at.as_millis());
    let Some(before) = in_place_of else {
        let sql = "INSERT INTO data_keys (id, kek, version, wrapped, created_at, wrapped_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING";
        return Ok(transaction.execute(sql, params![key.id.0, kek, version, wrapped, created_at, wrapped_at])? > 0);
    };
    let sql = "UPDATE data_keys SET kek = ?2, version = ?3, wrapped = ?4, wrapped_at = ?5
               WHERE id = ?1 AND kek = ?6 AND version = ?7 AND wrapped = ?8";
    let values = params![key.id.0, kek, version, wrapped, wrapped_at, before.kek, before.version, before.wrapped];
    Ok(transaction.execute(sql, values)? > 0)
}

fn data_keys(connection: &Connection) -> Outcome<Vec<StoredDataKey>> {
    let sql = "SELECT id, kek, version, wrapped, created_at, wrapped_at FROM data_keys ORDER BY created_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read(row)?);
    }
    Ok(keys)
}

fn read(row: &Row<'_>) -> Result<StoredDataKey, StoreError> {
    let columns = &mut Columns::new(row, "data_keys");
    let id = DataKeyId(columns.value("id")?);
    columns.keyed(id);
    Ok(StoredDataKey {
        id,
        wrapping: Wrapping {
            kek: columns.value("kek")?,
            version: columns.value("version")?,
            wrapped: columns.value("wrapped")?,
        },
        created_at: columns.time("created_at")?,
        wrapped_at: columns.time("wrapped_at")?,
    })
}

/// Where a sealed value is.
#[derive(Clone, Copy)]
enum Sealed {
    PrivateKey(KeyId),
    Handle(GrantId),
    Spare(SpareId),
}

impl Sealed {
    /// The same value, sealed under the key that seals now.
    fn anew(self, sealed: &[u8], sealer: &dyn Sealer) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::PrivateKey(id) => {
                let row = id.to_string();
                let place = Place { table: "signing_keys", row: &row, column: "private_key" };
                Ok(sealer.seal(place, sealer.open(place, sealed)?.expose())?)
            }
            Self::Handle(id) => grant::seal_handle(sealer, id, &grant::open_handle(sealer, id, sealed)?),
            Self::Spare(id) => spares::seal(sealer, id, &spares::open(sealer, id, sealed)?),
        }
    }

    fn update(self, connection: &Connection, sealed: &[u8]) -> Outcome<()> {
        let (sql, id) = match self {
            Self::PrivateKey(id) => ("UPDATE signing_keys SET private_key = ?2 WHERE id = ?1", id.as_uuid()),
            Self::Handle(id) => ("UPDATE grants SET handle = ?2 WHERE id = ?1", id.as_uuid()),
            Self::Spare(id) => ("UPDATE spares SET handle = ?2 WHERE id = ?1", id.as_uuid()),
        };
        connection.prepare_cached(sql)?.execute(params![id_bytes(id), sealed])?;
        Ok(())
    }
}

/// Seals every value anew that is sealed under another key than the one that seals now. One that does not open stops
/// it: what cannot be carried over must not be left behind.
fn reseal(transaction: &Transaction<'_>, sealer: &dyn Sealer) -> Outcome<u64> {
    let (connection, mut resealed) = (transaction.connection, 0_u64);
    each_sealed(connection, &mut |place, sealed| {
        if !sealer.is_current(sealed) {
            place.update(connection, &place.anew(sealed, sealer)?)?;
            resealed = resealed.saturating_add(1);
        }
        Ok(())
    })?;
    Ok(resealed)
}

/// Visits every sealed value there is.
fn each_sealed(connection: &Connection, visit: &mut dyn FnMut(Sealed, &[u8]) -> Outcome<()>) -> Outcome<()> {
    // A distrusted key's private half is gone.
    let sql = "SELECT 0, id, private_key FROM signing_keys WHERE length(private_key) > 0";
    for (_, id, sealed) in step(connection, sql, [])? {
        visit(Sealed::PrivateKey(id.into()), &sealed)?;
    }
    for (_, id, sealed) in step(connection, "SELECT 0, id, handle FROM spares", [])? {
        visit(Sealed::Spare(id.into()), &sealed)?;
    }
    let sql = "SELECT seq, id, handle FROM grants WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut after = -1;
    loop {
        let values = step(connection, sql, [after, STEP])?;
        let Some((last, ..)) = values.last() else { return Ok(()) };
        after = *last;
        for (_, id, sealed) in values {
            visit(Sealed::Handle(id.into()), &sealed)?;
        }
    }
}

fn step(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Outcome<Vec<(i64, Uuid, Vec<u8>)>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| Ok((row.get(0)?, Uuid::from_bytes(row.get(1)?), row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
