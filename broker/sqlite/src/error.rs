//! How things fail here, and what the port hears of it.

use std::path::{Path, PathBuf};

use hallpass_core::port::StoreError;

/// A store that could not be opened. The process should say why and end.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process uses this store: it holds the lock on {}", lock.display())]
    InUse {
        /// The lock file.
        lock: PathBuf,
    },
    /// A newer version of this program made it.
    #[error(
        "the schema of {} is version {found}, and this program knows versions up to {known}: a newer version of it has \
         run here; use that one",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// An older version of this program made it, and nothing here may change it.
    #[error("the schema of {} is version {found}, and this program reads version {known}: run `migrate` first", path.display())]
    OlderSchema {
        /// The database.
        path: PathBuf,
        /// Version found.
        found: i64,
        /// Version known.
        known: i64,
    },
    /// A file that cannot be made, opened or locked.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database itself refuses.
    #[error("cannot use the database {}", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    /// What SQLite refuses of `path`.
    pub(crate) fn database(path: &Path) -> impl Fn(rusqlite::Error) -> Self + '_ {
        |source| Self::Database { path: path.to_owned(), source: Box::new(source) }
    }

    /// What SQLite, or a row of it, keeps from being used.
    pub(crate) fn refused(path: &Path) -> impl Fn(Failure) -> Self + '_ {
        |failure| match failure {
            Failure::Sql(source) => Self::database(path)(source),
            Failure::Store(source) => Self::Database { path: path.to_owned(), source: Box::new(source) },
        }
    }
}

/// Why one operation failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite said so.
    Sql(rusqlite::Error),
    /// We said so.
    Store(StoreError),
}

pub(crate) type Outcome<T> = Result<T, Failure>;

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            // SQLite's messages name tables and columns, never their content.
            Failure::Sql(error) => Self::Unavailable(error.to_string()),
            Failure::Store(error) => error,
        }
    }
}
