//! A row that no version of this program writes is named, and hides no other.

use hallpass_core::audit::AuditAction;
use hallpass_core::credential::RevocationClass;
use hallpass_core::grant::{Cause, Ending, Grant};
use hallpass_core::port::{GrantFilter, PageRequest, SealError, Share, Store, StoreError};
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::store_suite::{apply, open, opening_of};
use hallpass_core::testing::{TestSealer, store_suite};
use hallpass_core::time::Ttl;

use super::House;
use crate::SqliteStore;

async fn inconsistent(house: &House, change: &str) -> (&'static str, &'static str, String) {
    house.meddle(&format!("UPDATE grants SET {change}"));
    match house.port.grant(sample::id(1)).await {
        Err(StoreError::Inconsistent { table, column, row, .. }) => (table, column, row),
        other => panic!("{change}: {other:?}"),
    }
}

#[tokio::test]
async fn a_life_that_fits_no_state_is_named() {
    for change in [
        "state = 'asleep'",
        "state = 'pending'",
        "state = 'revoking'",
        "state = 'expired'",
        "deadline = 1",
        "activated_at = NULL",
        "fenced_at = 1",
        "attempts = 0",
        "retry_at = 1",
        "last_error = ''",
        "confirmed_at = 1",
        "ended_at = 1",
        "cause = 'revoked', ending_at = 1",
        "state = 'revoked', cause = 'revoked', ending_at = 1, attempts = 1, confirmed_at = 1, ended_at = 2",
        "state = 'failed', cause = 'revoked', ending_at = 1, ended_at = 2",
    ] {
        let house = House::new();
        house.open(1).await.unwrap();
        let row = sample::id::<hallpass_core::id::GrantId>(1).to_string();
        assert_eq!(inconsistent(&house, change).await, ("grants", "state", row), "{change}");
    }
    for half in ["cause = 'revoked'", "ending_at = 1", "ending_actor = 'ci:ada'"] {
        let house = House::new();
        house.open(1).await.unwrap();
        assert_eq!(inconsistent(&house, half).await.1, "cause", "{half}");
    }
}

#[tokio::test]
async fn a_value_that_is_none_of_its_kind_is_named_by_its_column() {
    for (column, value) in [
        ("role", "'No Such Name'"),
        ("backend", "''"),
        ("environment", "'É'"),
        ("issuer", "'a b'"),
        ("principal", "'ghost'"),
        ("terms", "'{}'"),
        ("owner_snapshot", "'not json'"),
        ("attributes", "'[]'"),
        ("determining_policies", "'[\"bad id\"]'"),
        ("obligations", "'7'"),
        ("policy_revision", "'short'"),
        ("source_address", "'somewhere'"),
        ("status_index", "-1"),
        ("version", "-1"),
        ("lineage_id", "x'00'"),
        ("attestation_digests", "'{'"),
        ("attested", "'[]'"),
    ] {
        let house = House::new();
        house.open(1).await.unwrap();
        assert_eq!(inconsistent(&house, &format!("{column} = {value}")).await.1, column);
    }
}

/// Before, it was among the dependencies only.
#[tokio::test]
async fn the_key_that_signed_a_grant_of_an_earlier_version_is_in_its_record() {
    let house = House::new();
    for n in 1..=3 {
        house.open(n).await.unwrap();
    }
    house.meddle(
        "ALTER TABLE grants DROP COLUMN signed_by;
         INSERT INTO dependencies (kind, name, created_at, grant_seq)
             SELECT 'key', 'own-' || seq, created_at, seq FROM grants WHERE seq < 3;",
    );
    house.meddle(include_str!("../../migrations/0011_signed_by.sql"));
    for (n, expected) in [(1, Some("own-1")), (2, Some("own-2")), (3, None)] {
        let grant = house.port.grant(sample::id(n)).await.unwrap().unwrap();
        assert_eq!(grant.record.signed_by.as_deref(), expected);
    }
}

/// Before, a run or a repository led to what is for it, and to nothing that it acts with.
#[tokio::test]
async fn what_somebody_acts_with_is_found_in_the_record_of_an_earlier_version() {
    let house = House::new();
    let mut acted = opening_of(&house.port, sample::active(1, RevocationClass::Hard, NOW), 1);
    acted.grant.record.provenance.run = Some("1".to_owned());
    acted.grant.record.actors = sample::actors(&["agent", "helper"]);
    open(&house.port, acted).await;
    house.open(2).await.unwrap();
    house.meddle("DELETE FROM dependencies WHERE kind LIKE 'acting_%'; DROP INDEX grants_derived;");
    let found = async |filter: GrantFilter| {
        let page = house.port.grants(&filter, &PageRequest { cursor: None, limit: 9 }).await.unwrap();
        page.items.iter().map(|grant| grant.record.id).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    let of = |subject: &str| GrantFilter { subject: text(subject), run: text("4242"), ..GrantFilter::default() };
    assert_eq!(found(of("helper")).await, []);
    house.meddle(include_str!("../../migrations/0022_acting.sql"));
    for subject in ["agent", "helper"] {
        assert_eq!(found(of(subject)).await, [sample::id(1)], "{subject}");
    }
    assert_eq!(found(of("nobody")).await, []);
    let wide = GrantFilter { repository: text("acme/app"), ..GrantFilter::default() };
    assert_eq!(found(wide).await, [sample::id(2), sample::id(1)], "each once");
}

#[tokio::test]
async fn a_decision_or_an_entry_that_does_not_read_is_named() {
    let house = House::new();
    house.open(1).await.unwrap();
    house.meddle("UPDATE decisions SET inputs = '{}'; UPDATE audit_entries SET entry = x'00'");
    let decision = house.port.decisions(1).await.unwrap_err();
    assert!(matches!(decision, StoreError::Inconsistent { table: "decisions", column: "inputs", .. }), "{decision}");
    let page = PageRequest { cursor: None, limit: 1 };
    let entry = house.port.audit(&hallpass_core::port::AuditFilter::default(), &page).await.unwrap_err();
    let named =
        StoreError::Inconsistent { table: "audit_entries", column: "entry", row: "0".into(), problem: String::new() };
    assert_eq!(std::mem::discriminant(&entry), std::mem::discriminant(&named));
    assert!(entry.to_string().starts_with("inconsistent row in audit_entries.entry (0)"), "{entry}");
}

/// One hard grant that is due now.
async fn due(house: &House, n: u64) -> Grant {
    let active = open(&house.port, opening_of(&house.port, sample::active(n, RevocationClass::Hard, NOW), n)).await;
    let ending = active.begin_ending(Ending::by_broker(Cause::REQUESTED, NOW), false).unwrap();
    apply(&house.port, ending, AuditAction::GrantRevoke, NOW).await
}

#[tokio::test]
async fn a_handle_moved_to_another_row_does_not_open_and_hides_no_other() {
    let house = House::new();
    for n in 1..=3 {
        due(&house, n).await;
    }
    house.meddle(
        "UPDATE grants SET handle = (SELECT handle FROM grants WHERE seq = 1) WHERE seq = 2;
         UPDATE grants SET terms = '{}' WHERE seq = 3;",
    );
    let moved = house.port.handle(sample::id(2)).await.unwrap_err();
    assert!(matches!(&moved, StoreError::Sealed(SealError::DoesNotOpen { .. })), "{moved}");
    let reserved = house.port.reserve_due(NOW, Ttl::from_mins(1), sample::id(9), &Share::All, 10).await.unwrap();
    assert_eq!(reserved.len(), 2, "the row that does not read is left out, the others are given");
    assert_eq!(reserved[0].handle.as_ref().unwrap(), &sample::handle(1));
    assert!(matches!(reserved[1].handle, Err(StoreError::Sealed(_))));
    assert!(house.port.grants(&GrantFilter::default(), &PageRequest { cursor: None, limit: 10 }).await.is_err());
}

#[tokio::test]
async fn a_handle_does_not_open_under_another_key() {
    let house = House::new();
    house.open(1).await.unwrap();
    let path = house.path.clone();
    let House { own, port, _folder, .. } = house;
    drop((own, port));
    let other = SqliteStore::open(&path, std::sync::Arc::new(TestSealer::new(2)), sample::id(2)).unwrap();
    assert!(matches!(other.handle(sample::id(1)).await, Err(StoreError::Sealed(_))));
    assert!(other.grant(sample::id(1)).await.unwrap().is_some(), "the record itself reads");
}

#[tokio::test]
async fn secrets_are_not_in_the_file_in_clear() {
    let house = House::new();
    let mut opening = store_suite::opening(&house.port, 1, NOW);
    let marker = b"a handle that nobody may read".to_vec();
    opening.handle = hallpass_core::credential::Handle(hallpass_core::secret::SecretBytes::new(marker.clone()));
    open(&house.port, opening).await;
    for file in [house.path.clone(), house.path.with_extension("db-wal")] {
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(marker.len()).any(|window| window == marker));
    }
}

#[tokio::test]
async fn a_gap_in_the_log_and_a_row_without_its_decision_are_found() {
    let house = House::new();
    for n in 1..=3 {
        house.open(n).await.unwrap();
    }
    house.assert_sound().await;
    house.meddle(
        "PRAGMA foreign_keys = off; DELETE FROM audit_entries WHERE sequence = 1; DELETE FROM decisions WHERE seq = 2;",
    );
    let problems = house.own.integrity_check().await.unwrap();
    assert!(problems.iter().any(|problem| problem.contains("audit log")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("decisions")), "{problems:?}");
}
