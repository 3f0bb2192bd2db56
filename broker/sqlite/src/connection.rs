//! How connections are set up. One writes; the others can only read.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How long another process that holds the database (an administrator's shell, a backup) is waited for before what
/// waits is refused. Shorter than a caller's patience, longer than a backup's steps.
const BUSY_TIMEOUT: Duration = Duration::from_millis(1_000);

/// The write-ahead log is cut to this size after a checkpoint, so that one burst does not hold disk for ever.
const WAL_SIZE_LIMIT: i64 = 64 * 1024 * 1024;

/// Statements kept prepared; more than this package has.
const STATEMENT_CACHE: usize = 128;

/// The one connection that writes.
pub(crate) fn to_write(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // A commit is answered when it is on the disk: in WAL mode anything less than FULL may lose the last ones.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    // The checkpointer does it.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_SIZE_LIMIT, |_| Ok(()))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cache_size", -32 * 1024)?;
    Ok(connection)
}

/// The connection that copies the log into the database, beside the writer.
pub(crate) fn to_checkpoint(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "cache_size", -64)?;
    Ok(connection)
}

/// One of the connections that read. SQLite refuses a write on it, whatever the statement.
pub(crate) fn to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -4 * 1024)?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // No mutex: each connection is used by one thread at a time. No URI: a file name is a file name.
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}
