//! Queries are answered from indexes: a record of millions is listed as fast as one of hundreds.

use hallpass_core::grant::StateName;
use hallpass_core::port::GrantFilter;
use hallpass_core::selector::{Criteria, Selector};
use hallpass_core::testing::{sample, store_suite};
use rusqlite::params_from_iter;

use super::House;
use crate::list::select_grants;
use crate::revocations::selection::{Examine, Place, Selection, Walk};
use crate::select::Party;

fn plan(house: &House, filter: &GrantFilter) -> String {
    plan_of(house, Party::Holder, filter)
}

fn plan_of(house: &House, party: Party, filter: &GrantFilter) -> String {
    let (sql, values) = select_grants(party, filter, Some([1, 1]), 10);
    let connection = crate::connection::to_read(&house.path).unwrap();
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let lines = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
    lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
}

#[test]
fn each_filter_walks_its_own_index_in_order() {
    let house = House::new();
    let with = |set: fn(&mut GrantFilter)| {
        let mut filter = GrantFilter::default();
        set(&mut filter);
        filter
    };
    let some = || Some("x".to_owned());
    let cases: [(&str, GrantFilter); 15] = [
        ("grants_created", GrantFilter::default()),
        ("grants_owner", GrantFilter { owner: some(), ..GrantFilter::default() }),
        ("grants_role", GrantFilter { role: some(), ..GrantFilter::default() }),
        ("grants_issuer", GrantFilter { issuer: some(), ..GrantFilter::default() }),
        ("grants_subject", GrantFilter { subject: some(), ..GrantFilter::default() }),
        ("grants_repository", GrantFilter { repository: some(), ..GrantFilter::default() }),
        ("grants_repository_id", GrantFilter { repository_id: some(), ..GrantFilter::default() }),
        ("grants_commit", GrantFilter { commit: some(), ..GrantFilter::default() }),
        ("grants_run", GrantFilter { run: some(), ..GrantFilter::default() }),
        ("grants_environment", GrantFilter { environment: some(), ..GrantFilter::default() }),
        ("grants_backend", GrantFilter { backend: some(), ..GrantFilter::default() }),
        ("grants_purpose", GrantFilter { purpose: some(), ..GrantFilter::default() }),
        ("grants_ticket", GrantFilter { ticket: some(), ..GrantFilter::default() }),
        ("grants_state", with(|filter| filter.states = vec![StateName::Expired])),
        ("PRIMARY KEY", GrantFilter { policy: some(), ..GrantFilter::default() }),
    ];
    for (index, filter) in cases {
        let plan = plan(&house, &filter);
        assert!(plan.contains("SEARCH") && plan.contains(index), "{index}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{index} gives the order too: {plan}");
        assert!(!plan.contains("SCAN"), "{index}: {plan}");
    }
}

#[test]
fn the_narrowest_filter_drives() {
    let house = House::new();
    let some = || Some("x".to_owned());
    let filter = GrantFilter {
        run: some(),
        policy: some(),
        backend: some(),
        states: vec![StateName::Active],
        ..GrantFilter::default()
    };
    let plan = plan(&house, &filter);
    assert!(plan.contains("grants_run") && !plan.contains("grants_backend"), "{plan}");
}

/// Among those that they act with, and in order, too.
#[test]
fn whoever_acts_is_found_by_an_index_of_its_own() {
    let house = House::new();
    let some = || Some("x".to_owned());
    for filter in [
        GrantFilter { issuer: some(), ..GrantFilter::default() },
        GrantFilter { subject: some(), issuer: some(), ..GrantFilter::default() },
        GrantFilter { repository: some(), ..GrantFilter::default() },
        GrantFilter { repository_id: some(), ..GrantFilter::default() },
        GrantFilter { commit: some(), ..GrantFilter::default() },
        GrantFilter {
            run: some(),
            role: some(),
            policy: some(),
            states: vec![StateName::Active],
            ..GrantFilter::default()
        },
    ] {
        let plan = plan_of(&house, Party::Acting, &filter);
        assert!(plan.contains("SEARCH d USING PRIMARY KEY (kind=? AND name=?"), "{filter:?}: {plan}");
        assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN g"), "{filter:?}: {plan}");
    }
}

/// However much was derived and has ended.
#[test]
fn what_was_derived_and_lives_is_read_from_its_index() {
    let house = House::new();
    let connection = crate::connection::to_read(&house.path).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN SELECT id FROM {}", crate::family::DERIVED);
    let mut statement = connection.prepare(&sql).unwrap();
    let lines = statement.query_map([0, 1], |row| row.get::<_, String>(3)).unwrap();
    let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
    assert!(plan.contains("INDEX grants_derived (status_index>? AND status_index<?)"), "{plan}");
}

#[test]
fn the_queues_are_read_from_their_indexes() {
    let house = House::new();
    let connection = crate::connection::to_read(&house.path).unwrap();
    for (index, sql) in [
        ("grants_due", "SELECT seq FROM grants WHERE due_at IS NOT NULL AND due_at <= 1 ORDER BY due_at, seq LIMIT 9"),
        (
            "grants_due_at",
            "SELECT seq FROM grants WHERE due_at IS NOT NULL AND due_at <= 1 AND backend = 'b' ORDER BY due_at, seq LIMIT 9",
        ),
        (
            "grants_over",
            "SELECT seq FROM grants WHERE over_at IS NOT NULL AND over_at <= 1 ORDER BY over_at, seq LIMIT 9",
        ),
        (
            "grants_beating",
            "SELECT seq FROM grants INDEXED BY grants_beating WHERE state = 'active' AND last_seen_at IS NOT NULL AND end_at > 1",
        ),
        ("grants_reservation", "SELECT seq FROM grants WHERE reservation = x'00'"),
        (
            "grants_fenced",
            "SELECT id FROM grants WHERE backend_kind = 'x' AND fenced_at IS NOT NULL AND expires_at > 1",
        ),
        ("proof_uses_horizon", "SELECT 1 FROM proof_uses WHERE keep_until < 1 ORDER BY keep_until"),
        ("idempotency_horizon", "SELECT 1 FROM idempotency WHERE keep_until < 1 ORDER BY keep_until"),
        ("lineages_horizon", "SELECT 1 FROM lineages WHERE held_until < 1 ORDER BY held_until"),
        ("audit_entries_request", "SELECT entry FROM audit_entries WHERE request_id = x'00' ORDER BY sequence"),
        ("audit_entries_grant", "SELECT sequence FROM audit_entries WHERE grant_id = x'00'"),
        ("PRIMARY KEY", "SELECT sequence FROM audit_grants WHERE grant_id = x'00'"),
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

/// However many sessions of other roles there are or were, and however many of its own have expired.
#[test]
fn what_a_fence_holds_is_read_from_its_index() {
    let house = House::new();
    let connection = crate::connection::to_read(&house.path).unwrap();
    for (found, sql) in [
        ("SEARCH grants USING INDEX grants_fence (fence=? AND expires_at>?)", crate::quota::HELD),
        ("SEARCH grants EXISTS USING INDEX grants_fence (fence=? AND expires_at>?)", crate::ended::FENCES),
        ("SEARCH grants USING COVERING INDEX grants_fence (fence>?)", crate::ended::FENCES),
        ("SEARCH grants USING INDEX grants_fence (fence=? AND (expires_at,id)>(?,?))", crate::ended::OF_FENCE),
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = vec!["x"; statement.parameter_count()];
        let lines = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
        assert!(plan.contains(found) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        assert!(!plan.contains("SCAN grants"), "{sql}: {plan}");
    }
}

/// What is looked at all the time must cost nothing, however long the record is.
#[test]
fn how_the_record_stands_is_read_from_indexes_over_live_grants() {
    let house = House::new();
    let connection = crate::connection::to_read(&house.path).unwrap();
    let [due, over, unconfirmed] = crate::standing::BACKLOG;
    for (index, sql) in [
        ("USING COVERING INDEX grants_due", due),
        ("USING COVERING INDEX grants_over", over),
        ("INDEX grants_unconfirmed", unconfirmed),
        ("USING COVERING INDEX grants_state (state=?)", crate::standing::LIVE),
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = vec!["active"; statement.parameter_count()];
        let lines = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
        assert!(plan.contains(index), "{sql}: {plan}");
    }
}

#[test]
fn a_status_list_is_read_from_its_index_alone() {
    let house = House::new();
    let connection = crate::connection::to_read(&house.path).unwrap();
    let sql = format!("EXPLAIN QUERY PLAN {}", crate::status::ENDED_EARLY);
    let mut statement = connection.prepare(&sql).unwrap();
    let lines = statement.query_map([0, 1], |row| row.get::<_, String>(3)).unwrap();
    let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
    assert!(
        plan.contains("SEARCH grants USING COVERING INDEX grants_ended_early (status_index>? AND status_index<?)"),
        "{plan}"
    );
    // So are those of them that a grant has, where an older copy was put back.
    let sql = format!("EXPLAIN QUERY PLAN {}", crate::status::KNOWN);
    let mut statement = connection.prepare(&sql).unwrap();
    let lines = statement.query_map([0, 1], |row| row.get::<_, String>(3)).unwrap();
    let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
    assert!(plan.contains("COVERING INDEX") && plan.contains("(status_index>? AND status_index<?)"), "{plan}");
}

/// A revocation that finds little in a large table goes through it in parts.
#[tokio::test]
async fn a_step_of_a_revocation_looks_at_so_many_rows_whether_or_not_they_are_selected() {
    let house = House::new();
    let mut wanted = store_suite::opening(&house.port, 1, sample::NOW);
    wanted.grant.record.holder.proof_id = Some("wanted".to_owned());
    store_suite::open(&house.port, wanted).await;
    for n in 2..=30 {
        house.open(n).await.unwrap();
    }
    let criteria = Criteria { proof_id: Some("wanted".to_owned()), ..Criteria::default() };
    let selector = Selector::of(criteria).unwrap();
    let beginning = store_suite::revocations::beginning(&house.port, 1, selector, sample::NOW).await;
    let selection = Selection::of(&beginning.revocation);
    let connection = crate::connection::to_read(&house.path).unwrap();
    let walk = |place, examine| selection.walk(&connection, place, 100, examine).unwrap();

    let (mut place, mut parts, mut found) = (Place::default(), 0, Vec::new());
    loop {
        let walked = walk(place, Examine::Rows(10));
        parts += 1;
        found.extend(walked.candidates.iter().map(|candidate| candidate.id));
        let Some(goes_on) = walked.goes_on else { break };
        assert!(found.is_empty() || parts >= 3, "the oldest is in the first {parts} tens");
        place = goes_on;
    }
    assert_eq!((found, parts), (vec![sample::id(1)], 4), "three tens of active ones, and behind them");
    let all = walk(Place::default(), Examine::Rows(31));
    assert_eq!((all.candidates.len(), all.goes_on), (1, None), "the control: it is all in one part");

    let active = Walk { party: Party::Holder, states: vec![StateName::Active] };
    let (sql, values) = selection.row_after_sql(&active, Some([1, 1]), 10);
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let lines = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
    let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
    assert!(plan.contains("USING COVERING INDEX grants_state") && !plan.contains("TEMP B-TREE"), "{plan}");
}
