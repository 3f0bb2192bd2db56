//! Signing keys as rows.

use async_trait::async_trait;
use hallpass_core::id::KeyId;
use hallpass_core::port::{KeyChange, KeyRecord, StoreError, StoredKey};
use hallpass_core::time::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::SqliteStore;
use crate::error::Outcome;
use crate::rows::audit::EncodedEntry;
use crate::rows::{Columns, id_bytes};
use crate::transaction::Transaction;

#[async_trait]
impl KeyRecord for SqliteStore {
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.readers.read(keys).await
    }

    async fn change_keys(&self, change: KeyChange) -> Result<(), StoreError> {
        let KeyChange { put, remove, entries, moves_epoch } = change;
        let entries = EncodedEntry::encode_all(entries)?;
        self.writer.run(move |transaction| change_keys(transaction, &put, &remove, &entries, moves_epoch)).await
    }
}

fn change_keys(
    transaction: &mut Transaction<'_>,
    put: &[StoredKey],
    remove: &[KeyId],
    entries: &[EncodedEntry],
    moves_epoch: bool,
) -> Outcome<()> {
    for key in put {
        put_key(transaction, key)?;
    }
    for id in remove {
        transaction.execute("DELETE FROM signing_keys WHERE id = ?1", [id_bytes(id.as_uuid())])?;
    }
    if moves_epoch {
        transaction.numbers.epoch = transaction.numbers.epoch.saturating_add(1);
    }
    transaction.append(entries)
}

/// Keeps a key: a new one, or what changed of one that is here. Of that the private half only goes: it was read before
/// this transaction, and may have been sealed anew since.
fn put_key(transaction: &Transaction<'_>, key: &StoredKey) -> Outcome<()> {
    let sql = "INSERT INTO signing_keys (id, key_id, purpose, algorithm, private_key, public, created_at, activates_at,
                   retires_at, distrusted_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
               ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id,
                   private_key = iif(length(excluded.private_key) = 0, excluded.private_key, private_key),
                   public = excluded.public, activates_at = excluded.activates_at, retires_at = excluded.retires_at,
                   distrusted_at = excluded.distrusted_at";
    let values = params![
        id_bytes(key.id.as_uuid()),
        key.key_id,
        key.purpose,
        key.algorithm,
        key.sealed_private_key,
        key.public,
        key.created_at.as_millis(),
        key.activates_at.as_millis(),
        key.retires_at.map(Timestamp::as_millis),
        key.distrusted_at.map(Timestamp::as_millis),
    ];
    transaction.execute(sql, values).map(|_| ())
}

fn keys(connection: &Connection) -> Outcome<Vec<StoredKey>> {
    let sql = "SELECT id, key_id, purpose, algorithm, private_key, public, created_at, activates_at, retires_at,
                   distrusted_at
               FROM signing_keys ORDER BY created_at, id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(read(row)?);
    }
    Ok(keys)
}

fn read(row: &Row<'_>) -> Result<StoredKey, StoreError> {
    let columns = &mut Columns::new(row, "signing_keys");
    let id: KeyId = columns.id("id")?;
    columns.keyed(id);
    Ok(StoredKey {
        id,
        key_id: columns.value("key_id")?,
        purpose: columns.value("purpose")?,
        algorithm: columns.value("algorithm")?,
        sealed_private_key: columns.value("private_key")?,
        public: columns.value("public")?,
        created_at: columns.time("created_at")?,
        activates_at: columns.time("activates_at")?,
        retires_at: columns.optional_time("retires_at")?,
        distrusted_at: columns.optional_time("distrusted_at")?,
    })
}
