//! What an earlier version of this program wrote reads as it was meant.

use std::path::Path;

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::catalog::EnvironmentClass;
use hallpass_core::credential::RevocationClass;
use hallpass_core::grant::{Grant, StateName};
use hallpass_core::policy::Resource;
use hallpass_core::revocation::Likeness;
use hallpass_core::selector::Selector;
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::store_suite::revocations::{begin, beginning, follow};
use hallpass_core::testing::store_suite::{open, opening_of};
use rusqlite::Connection;

use super::House;
use crate::migrate::MIGRATIONS;

/// The content of `house` as the program of schema `version` had it, in a file of its own.
fn of_version(house: &House, version: usize, path: &Path) {
    let old = Connection::open(path).unwrap();
    for migration in &MIGRATIONS[..version] {
        old.execute_batch(migration).unwrap();
    }
    old.execute_batch(&format!(
        "PRAGMA foreign_keys = off; PRAGMA user_version = {version}; ATTACH '{}' AS later",
        house.path.display()
    ))
    .unwrap();
    let list = |sql: &str| -> Vec<String> {
        let mut statement = old.prepare(sql).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    };
    for table in list("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
        let columns =
            list(&format!("SELECT '\"' || name || '\"' FROM pragma_table_info('{table}', 'main')")).join(", ");
        let copied =
            format!("DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {columns} FROM later.{table}");
        old.execute_batch(&copied).unwrap();
    }
}

fn with_facts(n: u64, tier: &str) -> Grant {
    let mut grant = sample::active(n, RevocationClass::Fenced, NOW);
    grant.record.environment_class = Some(EnvironmentClass::Production);
    grant.record.tier = Some(tier.to_owned());
    grant
}

#[tokio::test]
async fn grants_of_before_have_the_facts_that_their_decision_recorded() {
    let house = House::new();
    let with = with_facts(1, "high");
    let mut opening = opening_of(&house.port, with, 1);
    if let Resource::Role(facts) = &mut opening.decision.query.resource {
        facts.environment_class = Some("production".to_owned());
        facts.tier = Some("high".to_owned());
    }
    let with = open(&house.port, opening).await;
    let without = sample::active(2, RevocationClass::Fenced, NOW);
    let without = open(&house.port, opening_of(&house.port, without, 2)).await;
    let all = begin(&house.port, 1, Selector::all(), NOW).await;
    let mut others = beginning(&house.port, 2, Selector::all(), NOW).await;
    others.revocation.reach = serde_json::from_value(serde_json::json!({
        "author": serde_json::to_value(others.revocation.reach.author()).unwrap(), "rights": [],
    }))
    .unwrap();
    let none = others.revocation.id;
    house.port.begin_revocation(others).await.unwrap();
    // As it was written before.
    house.meddle(
        "UPDATE revocations SET reach = json_set(reach, '$.rights', json((
             SELECT json_group_array(json_array(
                 json(json_remove(value -> '$[0]', '$.environment_class', '$.stage', '$.tier')), json(value -> '$[1]')
             )) FROM json_each(reach, '$.rights')
         )));
         UPDATE OR REPLACE likenesses SET likeness = json_remove(likeness, '$.environment_class', '$.stage', '$.tier');",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hallpass.db");
    of_version(&house, 11, &path);

    let later = House::at(path, Some(folder));
    for grant in [&with, &without] {
        assert_eq!(later.port.grant(grant.record.id).await.unwrap().as_ref(), Some(grant));
    }
    let mut likenesses = later.port.likenesses().await.unwrap();
    likenesses.sort();
    let mut expected = [Likeness::of(&with.record), Likeness::of(&without.record)];
    expected.sort();
    assert_eq!(likenesses, expected);
    assert!(later.port.in_force().ends(&with).is_some(), "a revocation that ran goes on");
    assert_eq!(follow(&later.port, none, NOW).await, 0, "and no further than before");
    assert_eq!(follow(&later.port, all, NOW).await, 2);
    assert_eq!(later.port.grant(with.record.id).await.unwrap().unwrap().state_name(), StateName::Revoking);
    // What is opened now is of a kind that is known already.
    let object = AuditObject::Revocation { id: all };
    let entry = AuditEntry::success(NOW, Actor::Broker, AuditAction::RevocationComplete, object);
    later.port.complete_revocation(all, [7; 32], NOW, entry).await.unwrap();
    open(&later.port, opening_of(&later.port, with_facts(3, "high"), 3)).await;
    let mut known = later.port.likenesses().await.unwrap();
    known.sort();
    assert_eq!(known, expected);
    open(&later.port, opening_of(&later.port, with_facts(4, "low"), 4)).await;
    assert_eq!(later.port.likenesses().await.unwrap().len(), expected.len() + 1, "the control: another kind is new");
    later.assert_sound().await;
}
