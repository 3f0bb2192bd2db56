//! Short credentials in a row do not add up to standing privilege unseen.

use std::sync::Arc;

use super::{apply, lineage_key, open, opening};
use crate::audit::AuditAction;
use crate::id::RoleName;
use crate::port::{Lineage, LineageClaim, LineageKey, OpenOutcome, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

/// It begins with the first grant, goes on while less than the pause lies between, and begins anew after it.
pub async fn a_lineage_goes_on_until_it_pauses(store: &Arc<dyn Store>) {
    let first = open(store, opening(store, 1, NOW)).await;
    let key = lineage_key(&first);
    let begun = Lineage { id: first.record.lineage.unwrap(), started_at: NOW };
    assert_eq!(store.lineage(&key, NOW).await.unwrap(), Some(begun));

    let last_moment = first.expires_at.plus(LineageClaim::PAUSE);
    assert_eq!(store.lineage(&key, last_moment).await.unwrap(), Some(begun));
    let second = open(store, opening(store, 2, last_moment)).await;
    assert_eq!(second.record.lineage, first.record.lineage);
    assert_eq!(store.lineage(&key, last_moment).await.unwrap(), Some(begun), "continued, not restarted");

    let too_late = Timestamp::from_millis(second.expires_at.plus(LineageClaim::PAUSE).as_millis() + 1);
    assert_eq!(store.lineage(&key, too_late).await.unwrap(), None);
    let third = open(store, opening(store, 3, too_late)).await;
    assert_ne!(third.record.lineage, first.record.lineage);
    let anew = Lineage { id: third.record.lineage.unwrap(), started_at: too_late };
    assert_eq!(store.lineage(&key, too_late).await.unwrap(), Some(anew));
}

/// Another subject, or another role, is another lineage.
pub async fn a_lineage_is_of_one_workload_and_one_role(store: &Arc<dyn Store>) {
    let first = open(store, opening(store, 1, NOW)).await;
    let mut other_subject = opening(store, 2, NOW);
    other_subject.lineage.key.subject = "repo:acme/other".to_owned();
    let mut other_role = opening(store, 3, NOW);
    other_role.lineage.key.role = RoleName::new("payments/prod/read").unwrap();
    for other in [other_subject, other_role] {
        let key = other.lineage.key.clone();
        assert_eq!(store.lineage(&key, NOW).await.unwrap(), None);
        assert_ne!(open(store, other).await.record.lineage, first.record.lineage);
    }
}

/// Terms that were bounded by one start must not be used with another.
pub async fn terms_from_another_lineage_are_decided_again(store: &Arc<dyn Store>) {
    let assuming = |n: u64, assumed| {
        let mut opening = opening(store, n, NOW);
        opening.lineage.assumed_start = assumed;
        opening
    };
    let refused = store.open(assuming(1, Some(Some(NOW)))).await;
    assert!(matches!(refused, Ok(OpenOutcome::Moved)), "there is none yet: {refused:?}");
    open(store, assuming(1, Some(None))).await;
    let refused = store.open(assuming(2, Some(None))).await;
    assert!(matches!(refused, Ok(OpenOutcome::Moved)), "there is one by now: {refused:?}");
    let refused = store.open(assuming(2, Some(Some(NOW.minus(Ttl::from_secs(1)))))).await;
    assert!(matches!(refused, Ok(OpenOutcome::Moved)), "with another start: {refused:?}");
    open(store, assuming(2, Some(Some(NOW)))).await;
    open(store, assuming(3, None)).await;
    assert_eq!(store.grant(sample::id(4)).await.unwrap(), None);
}

/// What was renewed is held for longer, and the pause begins when that is over.
pub async fn renewing_makes_a_lineage_longer(store: &Arc<dyn Store>) {
    let first = open(store, opening(store, 1, NOW)).await;
    let key = lineage_key(&first);
    let longer = first.record.terms.max_expires_at;
    assert!(longer > first.expires_at.plus(Ttl::from_mins(30)));
    let renewed = first.clone().extend(longer, longer).unwrap();
    apply(store, renewed, AuditAction::GrantRenew, NOW).await;
    let between = longer.plus(LineageClaim::PAUSE);
    assert!(store.lineage(&key, between).await.unwrap().is_some());
}

/// The same where it is counted for a repository.
pub async fn renewing_makes_a_lineage_of_a_repository_longer(store: &Arc<dyn Store>) {
    let mut opened = opening(store, 1, NOW);
    opened.grant.record.provenance.repository_id = Some("222".to_owned());
    opened.lineage.key.subject = LineageKey::repository("222");
    let key = opened.lineage.key.clone();
    let first = open(store, opened).await;
    let longer = first.record.terms.max_expires_at;
    apply(store, first.clone().extend(longer, longer).unwrap(), AuditAction::GrantRenew, NOW).await;
    let after_the_first = first.expires_at.plus(LineageClaim::PAUSE).plus(Ttl::from_secs(1));
    assert!(store.lineage(&key, after_the_first).await.unwrap().is_some());
}

/// At the instant at which the next grant begins a new one anyhow, as many at a time as are asked for.
pub async fn lineages_are_purged_when_they_are_over_and_not_before(store: &Arc<dyn Store>) {
    let mut last = NOW;
    for n in 1..=5 {
        let mut opening = opening(store, n, NOW.plus(Ttl::from_secs(n)));
        opening.lineage.key.subject = format!("repo:acme/app-{n}");
        last = open(store, opening).await.expires_at;
    }
    let last_moment = last.plus(LineageClaim::PAUSE);
    assert_eq!(store.purge(last_moment, 3).await.unwrap(), 3, "the longest over first");
    assert_eq!(store.purge(last_moment, 3).await.unwrap(), 1, "the last of them can still go on");
    assert_eq!(store.purge(last_moment, 3).await.unwrap(), 0);
    assert_eq!(store.purge(Timestamp::from_millis(last_moment.as_millis() + 1), 3).await.unwrap(), 1);
}
