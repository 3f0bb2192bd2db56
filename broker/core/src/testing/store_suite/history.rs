//! The history of bundles: what was published, in order, with its content, its decision and its entries.

use std::sync::{Arc, Mutex};

use super::{apply, audit_len, audit_of, open, opening};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::grant::{Cause, Ending};
use crate::id::{PolicyId, RevisionId, RoleName};
use crate::port::{
    AuditFilter, Files, KEPT_PUBLICATIONS, Occasion, OnceRecorded, PageRequest, Publication, PublishOutcome,
    RevisionRecord, Store, StoreError,
};
use crate::testing::sample::{self, NOW};
use crate::time::Ttl;

fn files(texts: &[(&str, &str)]) -> Files {
    texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// A publication of the revision `id` upon `parent`, with a file of its own and one that all share.
#[must_use]
pub fn publication(id: RevisionId, parent: Option<RevisionId>) -> Publication {
    let object = AuditObject::Configuration { revision: id.to_string() };
    let entry = AuditEntry::success(NOW, Actor::LocalAdministrator, AuditAction::ConfigurationPublish, object);
    let record = RevisionRecord {
        published_at: NOW,
        author: None,
        approvers: None,
        parent,
        commit: None,
        occasion: Some(Occasion::Start),
        id: id.clone(),
    };
    let files = files(&[("owners.toml", id.as_str()), ("backends.toml", "# the same in all\n")]);
    Publication { record, files, decision: None, entries: vec![entry], epoch: None, then: OnceRecorded::default() }
}

async fn publish(store: &Arc<dyn Store>, publication: Publication) {
    assert_eq!(store.publish_revision(publication).await.unwrap(), PublishOutcome::Published);
}

async fn active(store: &Arc<dyn Store>) -> Option<RevisionId> {
    store.active_revision().await.unwrap().map(|record| record.id)
}

/// Also when an earlier one is published again; each publication moves the epoch.
pub async fn the_last_published_revision_is_in_force(store: &Arc<dyn Store>) {
    assert_eq!(store.active_revision().await.unwrap(), None);
    let mut epoch = store.epoch();
    let mut parent = None;
    for digit in ['a', 'b', 'a'] {
        let next = publication(sample::revision(digit), parent.clone());
        publish(store, next.clone()).await;
        assert_eq!(store.active_revision().await.unwrap(), Some(next.record));
        assert!(store.epoch() > epoch, "what was decided before is decided again");
        epoch = store.epoch();
        parent = Some(sample::revision(digit));
    }
    assert_eq!(audit_len(store).await, 3);
}

/// What puts it into force runs when it is on record, and before anybody can read that the epoch moved. Never where nothing
/// was recorded.
pub async fn a_revision_is_put_in_force_between_its_commit_and_its_epoch(store: &Arc<dyn Store>) {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let epoch = store.epoch();
    let watched = |id: RevisionId, parent| {
        let (seen, store) = (Arc::clone(&seen), Arc::clone(store));
        let look = move || {
            let store = Arc::clone(&store);
            // On a thread of its own: this one may be a runtime's, and is the only one that writes.
            let looking = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                (runtime.block_on(active(&store)), store.epoch())
            });
            seen.lock().unwrap().push(looking.join().unwrap());
        };
        Publication { then: OnceRecorded::does(look), ..publication(id, parent) }
    };
    publish(store, watched(sample::revision('a'), None)).await;
    assert_eq!(*seen.lock().unwrap(), [(Some(sample::revision('a')), epoch)]);
    assert!(store.epoch() > epoch);
    let stale = watched(sample::revision('b'), None);
    assert_eq!(store.publish_revision(stale).await.unwrap(), PublishOutcome::Superseded);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// The record, the files, the decision and the entry.
pub async fn what_was_published_is_read_back_whole(store: &Arc<dyn Store>) {
    publish(store, publication(sample::revision('a'), None)).await;
    let mut second = publication(sample::revision('b'), Some(sample::revision('a')));
    second.record.author = Some("people:ada".to_owned());
    second.record.approvers = Some(vec!["people:bob".to_owned()]);
    second.record.commit = Some("6dcb09b".to_owned());
    second.record.occasion = Some(Occasion::Api);
    second.files = files(&[("roles/a/b.toml", "owner = \"ö\"\n"), ("policies/x.cedar", ""), ("roles/a.toml", "same")]);
    second.decision = Some(sample::decision(7));
    second.epoch = Some(store.epoch());
    publish(store, second.clone()).await;

    let (first, id) = (sample::revision('a'), sample::revision('b'));
    assert_eq!(store.revision(&id).await.unwrap(), Some(second.record));
    assert_eq!(store.revision_files(&id).await.unwrap(), Some(second.files));
    assert_eq!(store.decision(sample::decision(7).id).await.unwrap(), Some(sample::decision(7)));
    assert_eq!(store.revision_files(&first).await.unwrap(), Some(publication(first, None).files));
    let recorded = audit_of(store, &AuditFilter::default()).await;
    assert_eq!(recorded.into_iter().map(|recorded| recorded.entry).next_back(), second.entries.pop());
    assert_eq!(store.revision(&sample::revision('c')).await.unwrap(), None);
    assert_eq!(store.revision_files(&sample::revision('c')).await.unwrap(), None);
}

/// The other changes nothing: neither what is in force, nor the history, nor the epoch, nor the log.
pub async fn of_two_publications_upon_one_revision_one_is_written(store: &Arc<dyn Store>) {
    publish(store, publication(sample::revision('a'), None)).await;
    let upon = |digit| publication(sample::revision(digit), Some(sample::revision('a')));
    let outcomes = super::at_once(['b', 'c', 'd', 'e'].map(|digit| {
        let (store, publication) = (Arc::clone(store), upon(digit));
        async move { store.publish_revision(publication).await }
    }))
    .await;
    let published = outcomes.iter().filter(|outcome| **outcome == Ok(PublishOutcome::Published)).count();
    let superseded = outcomes.iter().filter(|outcome| **outcome == Ok(PublishOutcome::Superseded)).count();
    assert_eq!((published, superseded), (1, 3), "{outcomes:?}");
    let (in_force, epoch) = (active(store).await, store.epoch());
    for stale in [upon('f'), publication(sample::revision('f'), None)] {
        assert_eq!(store.publish_revision(stale).await.unwrap(), PublishOutcome::Superseded);
    }
    assert_eq!((active(store).await, store.epoch()), (in_force, epoch));
    assert_eq!(store.revision_files(&sample::revision('f')).await.unwrap(), None);
    assert_eq!(audit_len(store).await, 2);
}

/// And writes nothing.
pub async fn a_publication_that_was_decided_before_the_epoch_moved_is_decided_again(store: &Arc<dyn Store>) {
    let mut stale = publication(sample::revision('a'), None);
    stale.decision = Some(sample::decision(1));
    stale.epoch = Some(store.epoch());
    store.move_epoch(Vec::new()).await.unwrap();
    assert_eq!(store.publish_revision(stale.clone()).await.unwrap(), PublishOutcome::Moved);
    assert_eq!((active(store).await, audit_len(store).await), (None, 0));
    assert_eq!(store.decision(sample::decision(1).id).await.unwrap(), None);
    publish(store, Publication { epoch: Some(store.epoch()), ..stale }).await;
}

/// Each once, also of one revision that was published twice.
pub async fn publications_are_paged_newest_first(store: &Arc<dyn Store>) {
    let digits = ['a', 'b', 'a', 'c', 'd'];
    let mut parent = None;
    for digit in digits {
        publish(store, publication(sample::revision(digit), parent)).await;
        parent = Some(sample::revision(digit));
    }
    let mut page = PageRequest { cursor: None, limit: 2 };
    let mut seen = Vec::new();
    loop {
        let got = store.revisions(&page).await.unwrap();
        assert!(got.items.len() <= 2);
        seen.extend(got.items.into_iter().map(|record| record.id));
        let Some(next) = got.next else { break };
        page.cursor = Some(next);
    }
    assert_eq!(seen, ['d', 'c', 'a', 'b', 'a'].map(sample::revision));
    let foreign = PageRequest { cursor: Some("tampered".to_owned()), limit: 2 };
    assert_eq!(store.revisions(&foreign).await.unwrap_err(), StoreError::InvalidCursor);
}

/// The records stay, and so does what a later publication shares with an old one.
pub async fn the_content_of_the_oldest_makes_room(store: &Arc<dyn Store>) {
    let id = |n: usize| RevisionId::new(format!("{n:064x}")).unwrap();
    publish(store, publication(id(0), None)).await;
    for n in 1..=KEPT_PUBLICATIONS {
        publish(store, publication(id(n), Some(id(n - 1)))).await;
    }
    assert_eq!(store.revision_files(&id(0)).await.unwrap(), None);
    assert!(store.revision(&id(0)).await.unwrap().is_some());
    for n in [1, KEPT_PUBLICATIONS] {
        assert_eq!(store.revision_files(&id(n)).await.unwrap(), Some(publication(id(n), None).files), "{n}");
    }
    // Published again, the second oldest is among the newest, and the third is the oldest.
    publish(store, publication(id(1), Some(id(KEPT_PUBLICATIONS)))).await;
    publish(store, publication(id(0), Some(id(1)))).await;
    assert!(store.revision_files(&id(1)).await.unwrap().is_some());
    assert!(store.revision_files(&id(0)).await.unwrap().is_some());
    assert_eq!(store.revision_files(&id(2)).await.unwrap(), None);
}

/// Those that are over or ending are none of them, and one that is both is counted once.
pub async fn live_grants_are_counted_by_role_and_by_policy(store: &Arc<dyn Store>) {
    for n in 1..=4 {
        let mut opening = opening(store, n, NOW);
        if n == 2 {
            opening.grant.record.role = RoleName::new("search/prod/read").unwrap();
        }
        if n == 3 {
            opening.grant.record.decision.determining = vec![PolicyId::new("search-read").unwrap()];
        }
        let grant = open(store, opening).await;
        if n == 4 {
            let now = NOW.plus(Ttl::from_secs(1));
            let ended = grant.begin_ending(Ending::by_broker(Cause::REQUESTED, now), true).unwrap();
            apply(store, ended, AuditAction::GrantRevoke, now).await;
        }
    }
    let role = |name: &str| RoleName::new(name).unwrap();
    let policy = |name: &str| PolicyId::new(name).unwrap();
    for (roles, policies, expected) in [
        (vec![], vec![], 0),
        (vec![role("search/prod/read")], vec![], 1),
        (vec![role("payments/prod/deploy")], vec![], 2),
        (vec![], vec![policy("deploy-main")], 2),
        (vec![role("payments/prod/deploy")], vec![policy("deploy-main"), policy("search-read")], 3),
        (vec![role("nothing")], vec![policy("nothing")], 0),
    ] {
        let counted = store.live_grants_touched(&roles, &policies).await.unwrap();
        assert_eq!(counted, expected, "{roles:?} {policies:?}");
    }
}
