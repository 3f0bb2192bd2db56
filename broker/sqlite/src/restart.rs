//! What a start does to what is there, before anything is served.

use hallpass_core::port::StoreError;
use hallpass_core::time::Timestamp;

use crate::error::Outcome;
use crate::rows::grant::{self, ChangedGrant};
use crate::transaction::Transaction;

/// Counts the silence of every holder from `now`. The domain says what that changes, the hour at which its grant is due
/// among it; nobody else writes yet, so it is done one by one.
pub(crate) fn resume(transaction: &Transaction<'_>, now: Timestamp) -> Outcome<usize> {
    // Named, because the index of all active grants looks as good to the planner, and is much longer.
    let sql = "SELECT seq FROM grants INDEXED BY grants_beating
               WHERE state = 'active' AND last_seen_at IS NOT NULL AND end_at > ?1";
    let places = {
        let mut statement = transaction.prepare(sql)?;
        let rows = statement.query_map([now.as_millis()], |row| row.get::<_, i64>(0))?;
        rows.collect::<Result<Vec<_>, _>>()?
    };
    let mut resumed = 0_usize;
    for seq in places {
        let Some(silent) = grant::by_seq(transaction.connection, seq)? else { continue };
        let failed = |problem: String| StoreError::Unavailable(format!("a heartbeat could not be resumed: {problem}"));
        let grant = silent.resume(now).map_err(|error| failed(error.to_string()))?;
        let changed = ChangedGrant { grant: &grant, handle: None, evaluated: None, reservation: None };
        if !changed.update(transaction)? {
            return Err(failed("the grant was changed meanwhile".to_owned()).into());
        }
        resumed = resumed.saturating_add(1);
    }
    Ok(resumed)
}
