//! The ledger held against itself: what must be true of the database after any crash, whatever was asked of the broker.

use std::collections::BTreeMap;

use hallpass_tests::{Row, Store};
use serde_json::Value;

/// What the experiments look at: reading every column of every grant after every crash would take most of the time.
const COLUMNS: &str =
    "id, state, cause, role, proof_id, created_at, activated_at, fenced_at, end_at, expires_at, last_seen_at";

/// The audit entries that are about grants, once for each grant: an entry is about one, or about several.
const ENTRIES: &str = "
    SELECT grant_id, action, outcome FROM audit_entries WHERE grant_id IS NOT NULL
    UNION ALL
    SELECT several.grant_id, action, outcome FROM audit_grants AS several LEFT JOIN audit_entries USING (sequence)";

/// Every grant by its id, as [`hallpass_tests::id`] gives it, in hexadecimal.
pub(crate) fn grants(store: &Store) -> BTreeMap<String, Row> {
    let rows = store.rows(&format!("SELECT {COLUMNS} FROM grants"), &[]);
    let count = rows.len();
    let by_id: BTreeMap<_, _> = rows.into_iter().map(|row| (text(&row, "id").to_owned(), row)).collect();
    assert_eq!(by_id.len(), count, "two grants have one id");
    by_id
}

/// The grants that were opened with one proof, oldest first.
pub(crate) fn grants_of_proof(store: &Store, proof: &str) -> Vec<Row> {
    store.rows(&format!("SELECT {COLUMNS} FROM grants WHERE proof_id = ?1 ORDER BY seq"), &[&proof])
}

/// Asserts that the file is whole, that the audit log has no gap, and that every state change has its entry.
pub(crate) fn assert_sound(store: &Store) {
    let integrity = store.rows("PRAGMA integrity_check", &[]);
    assert_eq!(integrity.len(), 1, "{integrity:#?}");
    assert_eq!(integrity[0]["integrity_check"], "ok");
    let dangling = store.rows("PRAGMA foreign_key_check", &[]);
    assert!(dangling.is_empty(), "{dangling:#?}");

    let gaps = store.rows(
        "SELECT sequence FROM audit_entries AS entry
         WHERE sequence > (SELECT min(sequence) FROM audit_entries)
           AND NOT EXISTS (SELECT 1 FROM audit_entries WHERE sequence = entry.sequence - 1)",
        &[],
    );
    assert!(gaps.is_empty(), "entries are missing before {gaps:?}");

    let (entries, grants) = store.at_one_moment(|store| (entries_by_grant(store), grants(store)));
    for (id, grant) in grants {
        let found = entries.get(&id).cloned().unwrap_or_default();
        assert_eq!(found, entries_of(&grant), "grant {id} is {} and its entries are others", text(&grant, "state"));
    }
    // The inventory ends what is there in the name of a grant that never was, and says so.
    let unknown = format!(
        "SELECT * FROM ({ENTRIES}) WHERE grant_id NOT IN (SELECT id FROM grants) AND action <> 'reconcile.undo'"
    );
    let unknown = store.rows(&unknown, &[]);
    assert!(unknown.is_empty(), "entries tell of grants that are not there: {unknown:?}");
}

/// The entries that a grant in this state must have, of those that tell of state changes.
fn entries_of(grant: &Row) -> Vec<String> {
    let mut actions = vec!["grant.open"];
    if !grant["activated_at"].is_null() {
        actions.push("grant.activate");
    }
    let state = text(grant, "state");
    // A grant whose time is over needs no step before its credential has expired, unless its end comes first.
    let ended_by_itself = state == "expired"
        && text(grant, "cause") == "expired"
        && millis(grant, "end_at") >= millis(grant, "expires_at");
    if !matches!(state, "pending" | "active" | "failed") && !ended_by_itself {
        actions.push("grant.revoke");
    }
    match state {
        "expired" => actions.push("grant.expire"),
        "revoked" => actions.push("grant.confirm"),
        "failed" => actions.push("grant.fail"),
        _ => {}
    }
    let mut actions: Vec<String> = actions.into_iter().map(str::to_owned).collect();
    actions.sort();
    actions
}

fn entries_by_grant(store: &Store) -> BTreeMap<String, Vec<String>> {
    let entries = format!(
        "SELECT grant_id, action FROM ({ENTRIES})
         WHERE action IN
             ('grant.open', 'grant.activate', 'grant.revoke', 'grant.expire', 'grant.confirm', 'grant.fail')
           -- A grant ends, too, where its backend failed.
           AND (outcome = 'success' OR (outcome = 'failure' AND action IN ('grant.revoke', 'grant.fail')))
         ORDER BY action"
    );
    let rows = store.rows(&entries, &[]);
    let mut by_grant: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        by_grant.entry(text(&row, "grant_id").to_owned()).or_default().push(text(&row, "action").to_owned());
    }
    by_grant
}

/// A column as text; empty where it is null.
pub(crate) fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// A column as milliseconds since 1970.
pub(crate) fn millis(row: &Row, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or_else(|| panic!("no time in {column}: {row:?}"))
}

/// An id of the wire as the ledger's rows have it.
pub(crate) fn hex(id: &str) -> String {
    hallpass_tests::id(id).iter().map(|byte| format!("{byte:02x}")).collect()
}
