//! Live grants, counted for quotas.
//!
//! The counts are in a temporary table of the writer's connection, kept by temporary triggers: whatever writes a grant,
//! one or ten thousand, in this transaction or in one that is rolled back, the counts agree with it. They are made when a
//! quota is first asked about, from the grants that are there; where no quota is set nothing is counted and nothing
//! costs anything. What a fence holds is counted by its index each time: there is room for a few hundred.

use hallpass_core::grant::{EXPIRY_SKEW, GrantRecord};
use hallpass_core::port::{Quota, Quotas};
use hallpass_core::time::Timestamp;
use rusqlite::params;

use crate::error::Outcome;
use crate::transaction::Transaction;

/// Live is pending or active: a grant that is being ended makes room. Unqualified names in triggers are found in the
/// temporary schema first.
const COUNT: &str = "
CREATE TEMP TABLE live_grants (
    kind  TEXT    NOT NULL,
    name  TEXT    NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

INSERT INTO temp.live_grants
    SELECT 'role', role, count(*) FROM main.grants WHERE state IN ('pending', 'active') GROUP BY role;
INSERT INTO temp.live_grants
    SELECT 'owner', owner, count(*) FROM main.grants WHERE state IN ('pending', 'active') GROUP BY owner;

CREATE TEMP TRIGGER live_grants_opened AFTER INSERT ON main.grants
WHEN NEW.state IN ('pending', 'active')
BEGIN
    INSERT INTO live_grants VALUES ('role', NEW.role, 1), ('owner', NEW.owner, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TEMP TRIGGER live_grants_ended AFTER UPDATE OF state ON main.grants
WHEN OLD.state IN ('pending', 'active') AND NEW.state NOT IN ('pending', 'active')
BEGIN
    UPDATE live_grants SET count = count - 1
        WHERE (kind = 'role' AND name = NEW.role) OR (kind = 'owner' AND name = NEW.owner);
END;
";

/// The quota that leaves no room for one more grant like `record`, while so many others of the same role and owner end
/// in this transaction.
pub(crate) fn exceeded(
    transaction: &Transaction<'_>,
    quotas: &Quotas,
    record: &GrantRecord,
    making_room: usize,
) -> Outcome<Option<Quota>> {
    let asked = [
        (Quota::Role, "role", record.role.as_str(), quotas.role),
        (Quota::Owner, "owner", record.owner.name.as_str(), quotas.owner),
    ];
    for (quota, kind, name, most) in asked {
        let Some(most) = most else { continue };
        let leaving = i64::try_from(making_room).unwrap_or(0);
        if count(transaction, kind, name)?.saturating_sub(leaving) >= i64::from(most) {
            return Ok(Some(quota));
        }
    }
    let Some((most, fence)) = quotas.fence.zip(record.fence.as_deref()) else { return Ok(None) };
    // Whoever is replaced keeps its place until it expires.
    let held = held(transaction, &record.backend_kind, fence, record.created_at)?;
    Ok((held >= i64::from(most)).then_some(Quota::Fence))
}

/// How many a fence would have to hold, were all ended now. A grant that failed never had a credential.
fn held(transaction: &Transaction<'_>, backend_kind: &str, fence: &str, now: Timestamp) -> Outcome<i64> {
    let still_accepted = now.minus(EXPIRY_SKEW).as_millis();
    Ok(transaction.find(HELD, params![backend_kind, fence, still_accepted], |row| row.get(0))?.unwrap_or(0))
}

pub(crate) const HELD: &str = "SELECT count(*) FROM grants WHERE fence = ?2 AND expires_at > ?3 AND backend_kind = ?1
     AND state IN ('pending', 'active', 'revoking', 'abandoned')";

fn count(transaction: &Transaction<'_>, kind: &str, name: &str) -> Outcome<i64> {
    let made = "SELECT 1 FROM sqlite_temp_schema WHERE name = 'live_grants'";
    if transaction.find(made, [], |_| Ok(()))?.is_none() {
        transaction.connection.execute_batch(COUNT)?;
    }
    let sql = "SELECT count FROM temp.live_grants WHERE kind = ?1 AND name = ?2";
    Ok(transaction.find(sql, params![kind, name], |row| row.get(0))?.unwrap_or(0))
}
