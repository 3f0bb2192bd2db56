//! The database read beside the broker: what is true, whatever the broker says.
//!
//! The names of tables and columns that the suites rely on are in this file alone.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, ToSql};
use serde_json::Value;

/// One row, by column. Blobs are hexadecimal text.
pub type Row = BTreeMap<String, Value>;

/// A read-only view of the broker's SQLite database.
#[derive(Debug)]
pub struct Store(Connection);

impl Store {
    /// Opens the database.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        connection.busy_timeout(std::time::Duration::from_secs(5)).expect("a timeout can be set");
        Self(connection)
    }

    /// Every grant.
    #[must_use]
    pub fn grants(&self) -> Vec<Row> {
        self.rows("SELECT * FROM grants", &[])
    }

    /// How many grants there are.
    #[must_use]
    pub fn grant_count(&self) -> usize {
        self.grants().len()
    }

    /// One grant's state.
    ///
    /// # Panics
    /// When there is no such grant.
    #[must_use]
    pub fn state(&self, grant: &str) -> String {
        let rows = self.rows("SELECT state FROM grants WHERE id = ?1", &[&id(grant)]);
        rows.first().and_then(|row| row["state"].as_str()).expect("the grant is there").to_owned()
    }

    /// The audit entries of one request, oldest first.
    #[must_use]
    pub fn audit_of(&self, request: &str) -> Vec<Row> {
        self.rows("SELECT * FROM audit_entries WHERE request_id = ?1 ORDER BY sequence", &[&id(request)])
    }

    /// The reason codes in the audit entries of one request.
    #[must_use]
    pub fn reasons_of(&self, request: &str) -> Vec<String> {
        let text = |row: &Row| row.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.audit_of(request).iter().map(text).collect()
    }

    /// What `read` finds at one moment, whatever the broker writes meanwhile.
    ///
    /// # Panics
    /// When the database cannot be read.
    pub fn at_one_moment<T>(&self, read: impl FnOnce(&Self) -> T) -> T {
        self.0.execute_batch("BEGIN").expect("a reading transaction");
        let found = read(self);
        self.0.execute_batch("COMMIT").expect("the end of a reading transaction");
        found
    }

    /// Rows of any query.
    ///
    /// # Panics
    /// When the query is not valid for the database.
    #[must_use]
    pub fn rows(&self, query: &str, parameters: &[&dyn ToSql]) -> Vec<Row> {
        let mut statement = self.0.prepare(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let rows = statement.query_map(parameters, |row| {
            names.iter().enumerate().map(|(at, name)| Ok((name.clone(), value(row.get_ref(at)?)))).collect()
        });
        rows.and_then(Iterator::collect).unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}

/// An id as the store keeps it: the sixteen bytes of a UUID.
///
/// # Panics
/// When it is not a UUID.
#[must_use]
pub fn id(text: &str) -> Vec<u8> {
    let id = uuid::Uuid::parse_str(text).unwrap_or_else(|_| panic!("not an id: {text:?}"));
    id.into_bytes().to_vec()
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}
