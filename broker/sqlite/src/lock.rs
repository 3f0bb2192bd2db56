//! One process at a time.
//!
//! Two brokers over one file would each hand out audit sequence numbers and status-list indexes from memory. The lock
//! is the kernel's (`flock`): it ends with the process, however that ends, and leaves nothing to clean up.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::OpenError;

/// Owner only: the file holds sealed secrets, and who asked for what.
const PRIVATE: u32 = 0o600;

/// The lock on a database, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn acquire(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, ".lock");
        let file = private_file(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { lock: path }),
            Err(error) => Err(OpenError::File { path, source: error.into() }),
        }
    }
}

/// Makes the database file if it is not there, readable and writable by its owner only. SQLite gives the files that it
/// makes beside it the same mode.
pub(crate) fn prepare_database_file(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::File { path: path.to_owned(), source };
    let file = private_file(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(PRIVATE)).map_err(failed)?;
    // The directory entry, too, must outlive a power cut.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn private_file(path: &Path) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(path)
        .map_err(|source| OpenError::File { path: path.to_owned(), source })
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
