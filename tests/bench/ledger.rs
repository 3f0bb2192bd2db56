//! A ledger of the size that a house has after years, made in minutes: one grant that the broker opened, copied many times
//! by the database itself, with its entries in the audit log.
//!
//! What is copied has ids, times and a commit of its own. Its sealed handle and the text of its entries are its model's:
//! the grants are of a kind whose ending needs neither.

use std::path::Path;

use anyhow::{Context as _, ensure};
use hallpass_core::grant::EXPIRY_SKEW;
use rusqlite::{Connection, params};

/// How long copied grants live: longer than any run.
const LIFE: i64 = 12 * 3_600_000;
/// A tenth of the copies is of one commit.
pub(crate) const COMMITS: i64 = 10;
/// One of the commits that copies are of.
pub(crate) const COMMIT: &str = "0000000000000000000000000000000000000003";

/// How copies come to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By their own time: nothing is to be done but to record it.
    ByItself,
    /// A while before their credential expires, so that the broker must end each.
    ByTheBroker,
}

/// The database of a broker that does not run.
pub(crate) struct Ledger(Connection);

impl Ledger {
    pub(crate) fn open(database: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(database)?;
        // Nothing of this need outlive a crash; the broker sets both anew.
        connection.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "off")?;
        connection.pragma_update(None, "cache_size", -256 * 1024)?;
        connection.pragma_update(None, "foreign_keys", false)?;
        Ok(Self(connection))
    }

    /// Adds `count` live copies of the one grant that is there.
    pub(crate) fn fill(&self, count: u64, now: i64) -> anyhow::Result<()> {
        let count = i64::try_from(count)?;
        let (model, grant): (i64, Vec<u8>) =
            self.0.query_row("SELECT seq, id FROM grants", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.0.execute_batch("BEGIN")?;
        let columns = self.columns("grants", |column| {
            let end = now + LIFE;
            match column {
                "seq" => None,
                "id" => Some(id(now)),
                "status_index" => Some("model.status_index + 1 + n.i".to_owned()),
                "commit" => Some(format!("printf('%040x', n.i % {COMMITS})")),
                "proof_id" => Some("printf('copy-%012d', n.i)".to_owned()),
                "end_at" | "expires_at" | "max_expires_at" => Some(end.to_string()),
                "over_at" => Some((end + EXPIRY_SKEW.as_millis()).to_string()),
                _ => Some(format!("model.\"{column}\"")),
            }
        })?;
        self.copy("grants", &columns, "model.seq = ?2", count, model)?;

        let entries: Vec<i64> = {
            let sql = "SELECT sequence FROM audit_entries WHERE grant_id = ?1 ORDER BY sequence";
            let mut statement = self.0.prepare(sql)?;
            let rows = statement.query_map([&grant], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        ensure!(!entries.is_empty(), "the grant that is to be copied has no entry in the audit log");
        let next: i64 = self.0.query_row("SELECT max(sequence) + 1 FROM audit_entries", [], |row| row.get(0))?;
        for (place, entry) in (0_i64..).zip(&entries) {
            let columns = self.columns("audit_entries", |column| match column {
                "sequence" => Some(format!("{next} + n.i * {} + {place}", entries.len())),
                "grant_id" => Some(id(now)),
                _ => Some(format!("model.\"{column}\"")),
            })?;
            self.copy("audit_entries", &columns, "model.sequence = ?2", count, *entry)?;
        }
        // They follow from the entries; the broker makes them again where they are missing.
        self.0.execute("DELETE FROM audit_tiles", [])?;

        let columns = self.columns("proof_uses", |column| match column {
            "proof_id" => Some("printf('copy-%012d', n.i)".to_owned()),
            "keep_until" => Some((now + LIFE).to_string()),
            _ => Some(format!("model.\"{column}\"")),
        })?;
        self.copy("proof_uses", &columns, "?2 = ?2", count, 0)?;
        self.0.execute_batch("COMMIT; PRAGMA optimize")?;
        Ok(())
    }

    /// Has `count` copies come to their end at `at`.
    pub(crate) fn make_due(&self, ending: Ending, count: u64, at: i64) -> anyhow::Result<()> {
        let set = match ending {
            Ending::ByItself => "end_at = ?1 - ?3, expires_at = ?1 - ?3, max_expires_at = ?1 - ?3, over_at = ?1",
            Ending::ByTheBroker => "end_at = ?1, due_at = ?1, over_at = expires_at + ?3",
        };
        let sql = format!(
            "UPDATE grants SET {set} WHERE seq IN (
                 SELECT seq FROM grants WHERE state = 'active' AND proof_id LIKE 'copy-%' ORDER BY seq LIMIT ?2)"
        );
        let changed = self.0.execute(&sql, params![at, i64::try_from(count)?, EXPIRY_SKEW.as_millis()])?;
        ensure!(changed as u64 == count, "{changed} copies are left, and {count} are to be due");
        Ok(())
    }

    /// The columns of a table, each with what a copy has there; columns that the database fills are left out.
    fn columns(&self, table: &str, value: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<(String, String)>> {
        let mut statement = self.0.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
        let names: Vec<String> = names.collect::<Result<_, _>>()?;
        ensure!(!names.is_empty(), "there is no table {table}");
        Ok(names.into_iter().filter_map(|name| value(&name).map(|value| (name, value))).collect())
    }

    fn copy(&self, table: &str, columns: &[(String, String)], model: &str, count: i64, key: i64) -> anyhow::Result<()> {
        let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO {table} ({}) SELECT {} FROM n CROSS JOIN (SELECT * FROM {table} AS model WHERE {model} LIMIT 1) AS model",
            names.join(", "),
            values.join(", ")
        );
        self.0.execute(&sql, params![count, key]).with_context(|| format!("{table} cannot be filled"))?;
        Ok(())
    }
}

/// How many grants are due at `at` and still wait.
pub(crate) fn waiting(database: &Path, at: i64) -> anyhow::Result<u64> {
    let connection = Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sql = "SELECT (SELECT count(*) FROM grants WHERE over_at IS NOT NULL AND over_at <= ?1)
                    + (SELECT count(*) FROM grants WHERE due_at IS NOT NULL AND due_at <= ?1)";
    let count: i64 = connection.query_row(sql, [at], |row| row.get(0))?;
    Ok(u64::try_from(count)?)
}

/// SQL for the id of copy `n.i`: in the order of time, like the ids that the broker gives (RFC 9562 §5.7).
fn id(now: i64) -> String {
    format!("unhex(printf('%012x70008000%012x', {now}, n.i))")
}
