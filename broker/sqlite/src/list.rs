//! The two long lists: grants, newest first, and audit entries, oldest first.

use hallpass_core::audit::RecordedEntry;
use hallpass_core::grant::Grant;
use hallpass_core::id::LogId;
use hallpass_core::port::{AuditFilter, GrantFilter, Page, PageRequest, PageRoom};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::cursor;
use crate::error::Outcome;
use crate::rows::{audit, bytes_of, grant, id_bytes};
use crate::select::{Party, Select};

/// Grants that match, newest first; of one millisecond the last opened first.
pub(crate) fn grants(connection: &Connection, filter: &GrantFilter, page: &PageRequest) -> Outcome<Page<Grant>> {
    let limit = limit_of(page);
    let after = page.cursor.as_deref().map(|cursor| cursor::decode(filter, cursor)).transpose()?;
    let mut places: Vec<[i64; 2]> = Vec::new();
    for party in Party::asked_by(filter) {
        let (sql, values) = select_grants(*party, filter, after, limit);
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| Ok([row.get(0)?, row.get(1)?]))?;
        for place in rows {
            places.push(place?);
        }
    }
    // Each is in this order by itself.
    places.sort_unstable_by(|one, other| other.cmp(one));
    let mut more = places.len() > limit;
    places.truncate(limit);
    let mut room = PageRoom::of(page);
    let (mut items, mut last) = (Vec::with_capacity(places.len()), None);
    for place in places {
        let [_, seq] = place;
        let Some((grant, bytes)) = grant::weighed_by_seq(connection, seq)? else { continue };
        if !room.takes(bytes) {
            more = true;
            break;
        }
        items.push(grant);
        last = Some(place);
    }
    let next = last.filter(|_| more).map(|place| cursor::encode(filter, place));
    Ok(Page { items, next })
}

/// `SELECT created_at, seq` for a filter, one row more than the page holds.
pub(crate) fn select_grants(
    party: Party,
    filter: &GrantFilter,
    after: Option<[i64; 2]>,
    limit: usize,
) -> (String, Vec<Value>) {
    let mut select = Select::of(party);
    select.filter(filter);
    select.times(filter);
    select.after(after);
    let limit = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    select.values.push(Value::Integer(limit));
    let (created_at, seq) = (select.created_at(), select.seq());
    let sql = format!("SELECT {created_at}, {seq} {} {} LIMIT ?", select.source(), select.newest_first());
    (sql, select.values)
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
    let (mut items, mut more, mut room) = (Vec::new(), false, PageRoom::of(page));
    while let Some(row) = rows.next()? {
        if !room.takes(bytes_of(row)) {
            more = true;
            break;
        }
        items.push(audit::read(row, log)?);
    }
    let last = items.last().filter(|_| more);
    let next = last.map(|entry| cursor::encode(filter, [crate::rows::integer(entry.sequence)]));
    Ok(Page { items, next })
}

pub(crate) fn limit_of(page: &PageRequest) -> usize {
    page.limit.clamp(1, PageRequest::MAX_LIMIT)
}
