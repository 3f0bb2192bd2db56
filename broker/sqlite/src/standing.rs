//! How the record stands.

use async_trait::async_trait;
use hallpass_core::grant::StateName;
use hallpass_core::port::{Backlog, LiveGrants, Standing, StoreError};
use hallpass_core::time::Timestamp;
use rusqlite::Connection;

use crate::SqliteStore;
use crate::error::Outcome;

#[async_trait]
impl Standing for SqliteStore {
    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.readers.read(backlog).await
    }

    async fn live(&self) -> Result<LiveGrants, StoreError> {
        self.readers.read(live).await
    }
}

/// The first entries of three partial indexes.
pub(crate) const BACKLOG: [&str; 3] = [
    "SELECT min(due_at) FROM grants WHERE due_at IS NOT NULL",
    "SELECT min(over_at) FROM grants WHERE over_at IS NOT NULL",
    "SELECT min(ending_at) FROM grants INDEXED BY grants_unconfirmed WHERE state = 'revoking' AND due_at IS NOT NULL",
];

/// Counted in the index over states, without the rows.
pub(crate) const LIVE: &str = "SELECT count(*) FROM grants WHERE state = ?1";

fn backlog(connection: &Connection) -> Outcome<Backlog> {
    let [due, over, unconfirmed] = BACKLOG;
    let oldest = |sql: &str| -> Outcome<Option<Timestamp>> {
        let at: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(at.map(Timestamp::from_millis))
    };
    Ok(Backlog { due: oldest(due)?, over: oldest(over)?, unconfirmed: oldest(unconfirmed)? })
}

fn live(connection: &Connection) -> Outcome<LiveGrants> {
    let mut statement = connection.prepare_cached(LIVE)?;
    let mut count = |state: StateName| -> Outcome<u64> {
        let found: i64 = statement.query_row([state.as_str()], |row| row.get(0))?;
        Ok(u64::try_from(found).unwrap_or(0))
    };
    Ok(LiveGrants {
        pending: count(StateName::Pending)?,
        active: count(StateName::Active)?,
        revoking: count(StateName::Revoking)?,
    })
}
