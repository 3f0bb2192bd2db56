//! The two long lists: grants, newest first, and audit entries, oldest first.
//!
//! A list of grants is driven by the index of the narrowest part of its filter; the others are checked on the rows that
//! it gives. Which is narrowest is decided here and not left to the planner, whose statistics are of another day.

use hallpass_core::audit::RecordedEntry;
use hallpass_core::grant::{Grant, StateName};
use hallpass_core::id::LogId;
use hallpass_core::port::{AuditFilter, GrantFilter, Page, PageRequest};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::cursor;
use crate::error::Outcome;
use crate::rows::{audit, grant, id_bytes};

/// Grants that match, newest first; of one millisecond the last opened first.
pub(crate) fn grants(connection: &Connection, filter: &GrantFilter, page: &PageRequest) -> Outcome<Page<Grant>> {
    let limit = limit_of(page);
    let after = page.cursor.as_deref().map(|cursor| cursor::decode(filter, cursor)).transpose()?;
    let (sql, values) = select_grants(filter, after, limit);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| Ok([row.get(0)?, row.get(1)?]))?;
    let mut places: Vec<[i64; 2]> = rows.collect::<Result<_, _>>()?;
    let more = places.len() > limit;
    places.truncate(limit);
    let next = places.last().filter(|_| more).map(|place| cursor::encode(filter, *place));
    let mut items = Vec::with_capacity(places.len());
    for [_, seq] in places {
        items.extend(grant::by_seq(connection, seq)?);
    }
    Ok(Page { items, next })
}

/// `SELECT created_at, seq` for a filter, one row more than the page holds.
pub(crate) fn select_grants(filter: &GrantFilter, after: Option<[i64; 2]>, limit: usize) -> (String, Vec<Value>) {
    // From the narrowest to the widest, as records of deployments are: a run opens a few, a backend opens all.
    let texts = [
        ("run", &filter.run),
        ("\"commit\"", &filter.commit),
        ("ticket", &filter.ticket),
        ("repository_id", &filter.repository_id),
        ("repository", &filter.repository),
        ("subject", &filter.subject),
        ("purpose", &filter.purpose),
        ("role", &filter.role),
        ("environment", &filter.environment),
        ("owner", &filter.owner),
    ];
    let wide = [("backend", &filter.backend), ("issuer", &filter.issuer)];
    let mut select = Select::default();
    let given = texts.into_iter().filter_map(|(column, value)| Some((column, value.as_ref()?)));
    for (column, value) in given {
        select.equal(column, value);
    }
    if let Some(policy) = &filter.policy {
        select.policy(policy);
    }
    if !filter.states.is_empty() {
        select.states(&filter.states);
    }
    for (column, value) in wide.into_iter().filter_map(|(column, value)| Some((column, value.as_ref()?))) {
        select.equal(column, value);
    }
    let (from, created_at, seq) = if select.by_policy {
        ("dependencies AS d CROSS JOIN grants AS g ON g.seq = d.grant_seq", "d.created_at", "d.grant_seq")
    } else {
        ("grants AS g", "g.created_at", "g.seq")
    };
    if let Some(since) = filter.since {
        select.with(&format!("{created_at} >= ?"), [Value::Integer(since.as_millis())]);
    }
    if let Some(until) = filter.until {
        select.with(&format!("{created_at} < ?"), [Value::Integer(until.as_millis())]);
    }
    if let Some([at, place]) = after {
        select.with(&format!("({created_at}, {seq}) < (?, ?)"), [Value::Integer(at), Value::Integer(place)]);
    }
    let conditions = if select.conditions.is_empty() { "true".to_owned() } else { select.conditions.join(" AND ") };
    let limit = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    select.values.push(Value::Integer(limit));
    let sql = format!(
        "SELECT {created_at}, {seq} FROM {from} WHERE {conditions} ORDER BY {created_at} DESC, {seq} DESC LIMIT ?"
    );
    (sql, select.values)
}

#[derive(Default)]
struct Select {
    conditions: Vec<String>,
    values: Vec<Value>,
    /// Whether an index was chosen; what comes later is checked on the rows (the `+` keeps the planner from it).
    driven: bool,
    by_policy: bool,
}

impl Select {
    fn with(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    fn equal(&mut self, column: &str, value: &str) {
        let guard = if self.driven { "+" } else { "" };
        self.with(&format!("{guard}g.{column} = ?"), [Value::Text(value.to_owned())]);
        self.driven = true;
    }

    fn policy(&mut self, name: &str) {
        let condition = if self.driven {
            "EXISTS (SELECT 1 FROM dependencies AS d WHERE d.kind = 'policy' AND d.name = ? \
             AND d.created_at = g.created_at AND d.grant_seq = g.seq)"
        } else {
            "d.kind = 'policy' AND d.name = ?"
        };
        self.by_policy = !self.driven;
        self.with(condition, [Value::Text(name.to_owned())]);
        self.driven = true;
    }

    /// Nearly every grant of a long record has expired: with that state among the wanted, walking the whole record
    /// finds the newest soonest; without it, the index gives the few.
    fn states(&mut self, states: &[StateName]) {
        let drives = !self.driven && (states.len() == 1 || !states.contains(&StateName::Expired));
        let guard = if drives { "" } else { "+" };
        let places = vec!["?"; states.len()].join(", ");
        let words = states.iter().map(|state| Value::Text(state.as_str().to_owned()));
        self.with(&format!("{guard}g.state IN ({places})"), words);
        self.driven |= drives;
    }
}

/// Audit entries that match, oldest first.
pub(crate) fn audit(
    connection: &Connection,
    log: LogId,
    filter: &AuditFilter,
    page: &PageRequest,
) -> Outcome<Page<RecordedEntry>> {
    let limit = limit_of(page);
    let [after] = match page.cursor.as_deref() {
        Some(cursor) => cursor::decode(filter, cursor)?,
        None => [-1],
    };
    let mut values = Vec::new();
    let mut conditions = vec!["sequence > ?"];
    values.push(Value::Integer(after));
    if let Some(grant) = filter.grant {
        conditions.push(
            "sequence IN (SELECT sequence FROM audit_entries WHERE grant_id = ? \
             UNION ALL SELECT sequence FROM audit_grants WHERE grant_id = ?)",
        );
        let grant = Value::Blob(id_bytes(grant.as_uuid()).to_vec());
        values.extend([grant.clone(), grant]);
    }
    if let Some(request) = filter.request_id {
        conditions.push(if filter.grant.is_some() { "+request_id = ?" } else { "request_id = ?" });
        values.push(Value::Blob(id_bytes(request.as_uuid()).to_vec()));
    }
    values.push(Value::Integer(i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)));
    let conditions = conditions.join(" AND ");
    let selected = audit::SELECTED;
    let sql = format!("SELECT {selected} FROM audit_entries WHERE {conditions} ORDER BY sequence LIMIT ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(audit::read(row, log)?);
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next = last.map(|entry| cursor::encode(filter, [crate::rows::integer(entry.sequence)]));
    Ok(Page { items, next })
}

pub(crate) fn limit_of(page: &PageRequest) -> usize {
    page.limit.clamp(1, PageRequest::MAX_LIMIT)
}
