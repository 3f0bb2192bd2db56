//! Rows become values of the domain here, and values become rows. What no version of this program writes is
//! [`StoreError::Inconsistent`], with its place.

pub(crate) mod audit;
pub(crate) mod decision;
pub(crate) mod grant;
pub(crate) mod life;
pub(crate) mod lineage;
pub(crate) mod proof;
pub(crate) mod quarantine;
pub(crate) mod revocation;

use hallpass_core::port::StoreError;
use hallpass_core::time::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// Reads the columns of a row in the order of its `SELECT`, each by the name it must have there.
pub(crate) struct Columns<'a> {
    row: &'a Row<'a>,
    table: &'static str,
    key: String,
    at: usize,
}

type Read<T> = Result<T, StoreError>;

/// Bytes of what a row has: of its texts and blobs, to which the rest adds little.
pub(crate) fn bytes_of(row: &Row<'_>) -> usize {
    let of_column = |at| match row.get_ref(at) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.len(),
        _ => size_of::<i64>(),
    };
    (0..row.as_ref().column_count()).map(of_column).fold(0, usize::saturating_add)
}

impl<'a> Columns<'a> {
    pub(crate) fn new(row: &'a Row<'a>, table: &'static str) -> Self {
        Self { row, table, key: String::new(), at: 0 }
    }

    /// Names the row in errors from here on.
    pub(crate) fn keyed(&mut self, key: impl ToString) {
        self.key = key.to_string();
    }

    pub(crate) fn value<T: FromSql>(&mut self, column: &'static str) -> Read<T> {
        let at = self.at;
        debug_assert_eq!(self.row.as_ref().column_name(at).ok(), Some(column), "columns are read in their order");
        self.at = at.saturating_add(1);
        self.row.get(at).map_err(|error| self.inconsistent(column, error))
    }

    pub(crate) fn id<I: From<Uuid>>(&mut self, column: &'static str) -> Read<I> {
        self.value(column).map(|bytes| Uuid::from_bytes(bytes).into())
    }

    pub(crate) fn optional_id<I: From<Uuid>>(&mut self, column: &'static str) -> Read<Option<I>> {
        self.value::<Option<[u8; 16]>>(column).map(|bytes| bytes.map(|bytes| Uuid::from_bytes(bytes).into()))
    }

    pub(crate) fn time(&mut self, column: &'static str) -> Read<Timestamp> {
        self.value(column).map(Timestamp::from_millis)
    }

    pub(crate) fn optional_time(&mut self, column: &'static str) -> Read<Option<Timestamp>> {
        self.value::<Option<i64>>(column).map(|millis| millis.map(Timestamp::from_millis))
    }

    pub(crate) fn natural<N: TryFrom<i64>>(&mut self, column: &'static str) -> Read<N> {
        let number = self.value(column)?;
        N::try_from(number).map_err(|_| self.inconsistent(column, format!("{number} is out of range")))
    }

    pub(crate) fn optional_natural<N: TryFrom<i64>>(&mut self, column: &'static str) -> Read<Option<N>> {
        let number: Option<i64> = self.value(column)?;
        let narrow = |number| N::try_from(number).map_err(|_| self.inconsistent(column, "a number out of range"));
        number.map(narrow).transpose()
    }

    /// A value that is checked when it is made of text: a name, an address.
    pub(crate) fn parsed<T>(&mut self, column: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Read<T> {
        let text: String = self.value(column)?;
        parse(&text).ok_or_else(|| self.inconsistent(column, format!("{text:?} is not one of its values")))
    }

    pub(crate) fn optional_parsed<T>(
        &mut self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Read<Option<T>> {
        let Some(text): Option<String> = self.value(column)? else { return Ok(None) };
        let parsed =
            parse(&text).ok_or_else(|| self.inconsistent(column, format!("{text:?} is not one of its values")));
        parsed.map(Some)
    }

    pub(crate) fn name<T: TryFrom<String, Error: std::fmt::Display>>(&mut self, column: &'static str) -> Read<T> {
        let text: String = self.value(column)?;
        T::try_from(text).map_err(|error| self.inconsistent(column, error))
    }

    pub(crate) fn optional_name<T: TryFrom<String, Error: std::fmt::Display>>(
        &mut self,
        column: &'static str,
    ) -> Read<Option<T>> {
        let text: Option<String> = self.value(column)?;
        text.map(|text| T::try_from(text).map_err(|error| self.inconsistent(column, error))).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self, column: &'static str) -> Read<T> {
        let text: String = self.value(column)?;
        serde_json::from_str(&text).map_err(|error| self.inconsistent(column, error))
    }

    /// The member of a closed set that [`word`] wrote.
    pub(crate) fn json_word<T: DeserializeOwned>(&mut self, column: &'static str) -> Read<T> {
        let text: String = self.value(column)?;
        self.of_word(column, text)
    }

    pub(crate) fn optional_json_word<T: DeserializeOwned>(&mut self, column: &'static str) -> Read<Option<T>> {
        let text: Option<String> = self.value(column)?;
        text.map(|text| self.of_word(column, text)).transpose()
    }

    fn of_word<T: DeserializeOwned>(&self, column: &'static str, text: String) -> Read<T> {
        let quoted = serde_json::Value::String(text);
        serde_json::from_value(quoted).map_err(|error| self.inconsistent(column, error))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&mut self, column: &'static str) -> Read<Option<T>> {
        let text: Option<String> = self.value(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.inconsistent(column, error))).transpose()
    }

    pub(crate) fn inconsistent(&self, column: &'static str, problem: impl ToString) -> StoreError {
        StoreError::Inconsistent { table: self.table, column, row: self.key.clone(), problem: problem.to_string() }
    }
}

/// The one way in which structures are written as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}

/// The word that an enum without fields is written as.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    json(value).map(|quoted| quoted.trim_matches('"').to_owned())
}

pub(crate) fn id_bytes(id: Uuid) -> [u8; 16] {
    id.into_bytes()
}

/// SQLite's integers are signed; nothing of ours counts so far.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Binds values to a statement in the order of its columns, which stand beside them, so that the two lists are one.
macro_rules! columns {
    ($(#[$doc:meta])* $names:ident, $bind:ident($row:ident: $type:ty), $($name:literal: $value:expr,)*) => {
        $(#[$doc])*
        pub(crate) const $names: &[&str] = &[$($name),*];

        fn $bind(statement: &mut rusqlite::Statement<'_>, $row: $type) -> rusqlite::Result<()> {
            let mut at = 0_usize;
            $(
                at = at.saturating_add(1);
                statement.raw_bind_parameter(at, &$value)?;
            )*
            debug_assert_eq!(at, $names.len());
            Ok(())
        }
    };
}
pub(crate) use columns;
