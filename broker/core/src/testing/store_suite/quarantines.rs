//! Quarantines stop what would be opened or renewed, and end nothing.

use std::sync::Arc;

use super::revocations::{beginning, operator};
use super::{apply, audit_of, entry_about, long_text, open, opening, opening_of, pages_of, read};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::credential::RevocationClass;
use crate::grant::Grant;
use crate::id::{IssuerName, QuarantineId, RoleName};
use crate::in_force::Bar;
use crate::port::{
    Added, Applied, AuditFilter, Begun, Change, GrantFilter, OpenOutcome, PageRequest, QuarantineOrder, Store,
};
use crate::quarantine::{Lifted, Quarantine, Roles};
use crate::selector::{Criteria, Selector};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

fn by_repository(id: &str) -> Selector {
    let grants = GrantFilter { repository_id: Some(id.to_owned()), ..GrantFilter::default() };
    Selector::of(Criteria { grants, ..Criteria::default() }).unwrap()
}

fn order(n: u64, selector: Selector, roles: Roles) -> QuarantineOrder {
    let id: QuarantineId = sample::id(n);
    let entry = AuditEntry::success(NOW, operator(), AuditAction::QuarantineAdd, AuditObject::Quarantine { id });
    let quarantine = Quarantine {
        id,
        selector,
        roles,
        author: operator(),
        reason: "the repository is compromised".to_owned(),
        created_at: NOW,
        until: later(3_600),
        lifted: None,
    };
    QuarantineOrder { quarantine, decisions: vec![sample::decision(n)], entry }
}

async fn add(store: &Arc<dyn Store>, order: QuarantineOrder) -> QuarantineId {
    let id = order.quarantine.id;
    assert_eq!(store.add_quarantine(order, store.epoch()).await.unwrap(), Added::Done);
    id
}

/// Stops what `selector` selects, whatever its role.
pub async fn stop(store: &Arc<dyn Store>, n: u64, selector: Selector) {
    add(store, order(n, selector, Roles::All)).await;
}

fn of_repository(n: u64, class: RevocationClass, repository: &str) -> Grant {
    let mut grant = sample::pending(n, class, NOW);
    grant.record.provenance.repository_id = Some(repository.to_owned());
    grant
}

fn active(grant: Grant) -> Grant {
    let expires_at = grant.expires_at;
    grant.activate(NOW, expires_at, None).unwrap()
}

/// From its commit on, and nothing else. What lives goes on living, and its holder may say so.
pub async fn a_quarantine_stops_what_would_be_opened_or_renewed(store: &Arc<dyn Store>) {
    for (n, repository) in [(1, "666"), (11, "222")] {
        let live = active(of_repository(n, RevocationClass::Fenced, repository));
        open(store, opening_of(store, live, n)).await;
        open(store, opening_of(store, of_repository(n + 1, RevocationClass::Hard, repository), n + 1)).await;
    }
    let decided_before = opening(store, 40, NOW);
    let id = add(store, order(1, by_repository("666"), Roles::All)).await;
    assert!(matches!(store.open(decided_before).await, Ok(OpenOutcome::Moved)));
    let bar = Bar::Quarantined { id, until: later(3_600) };
    for (n, repository, stopped) in [(1, "666", true), (11, "222", false)] {
        let late = active(of_repository(n + 20, RevocationClass::Fenced, repository));
        match store.open(opening_of(store, late, n + 20)).await.unwrap() {
            OpenOutcome::Barred(by) => assert_eq!((by, stopped), (bar, true)),
            OpenOutcome::Opened(_) => assert!(!stopped),
            other => panic!("{other:?}"),
        }
        let live = read(store, sample::id(n)).await;
        assert!(store.in_force().is_live(&live, later(5)), "it ends nothing");
        let renewed = live.clone().extend(later(700), later(700)).unwrap();
        let activated = active(read(store, sample::id(n + 1)).await);
        for (grant, action) in [(renewed, AuditAction::GrantRenew), (activated, AuditAction::GrantActivate)] {
            let mut change = Change::of(grant.clone(), entry_about(grant.record.id, action, later(5)));
            change.epoch = Some(store.epoch());
            let applied = store.apply(change).await.unwrap();
            assert_eq!(applied, if stopped { Applied::Barred(bar) } else { Applied::Done });
        }
        let live = read(store, sample::id(n)).await;
        apply(store, live.seen(later(6)).unwrap(), AuditAction::GrantRenew, later(6)).await;
    }
}

/// The roles that its author may not suspend go on; so does the broker's own, or nobody could lift it.
pub async fn a_quarantine_is_of_the_roles_of_its_author(store: &Arc<dyn Store>) {
    let role = |name: &str| RoleName::new(name).unwrap();
    let opened = async |n: u64, name: &str| {
        let mut grant = sample::active(n, RevocationClass::Fenced, NOW);
        grant.record.role = role(name);
        match store.open(opening_of(store, grant, n)).await.unwrap() {
            OpenOutcome::Opened(_) => true,
            OpenOutcome::Barred(_) => false,
            other => panic!("{other:?}"),
        }
    };
    let some = Roles::Some([role("payments/prod/deploy")].into());
    let first = add(store, order(1, Selector::all(), some)).await;
    assert!(!opened(1, "payments/prod/deploy").await);
    assert!(opened(2, "search/prod/read").await);
    let second = add(store, order(2, Selector::all(), Roles::All)).await;
    assert!(!opened(3, "search/prod/read").await);
    assert!(opened(4, "hallpass/operator").await);
    for id in [first, second] {
        let entry = AuditEntry::success(NOW, operator(), AuditAction::QuarantineLift, AuditObject::Quarantine { id });
        let lifted = Lifted { at: later(1), by: operator() };
        assert!(store.lift_quarantine(id, lifted.clone(), entry.clone(), vec![sample::decision(9)]).await.unwrap());
        assert!(!store.lift_quarantine(id, lifted.clone(), entry, Vec::new()).await.unwrap(), "lifted once");
        assert_eq!(store.quarantine(id).await.unwrap().unwrap().lifted, Some(lifted));
    }
    assert!(opened(5, "payments/prod/deploy").await);
    let told = audit_of(store, &AuditFilter::default()).await;
    let count = |action| told.iter().filter(|one| one.entry.action == action).count();
    assert_eq!((count(AuditAction::QuarantineAdd), count(AuditAction::QuarantineLift)), (2, 2));
    assert!(store.decision(sample::id(9)).await.unwrap().is_some());
}

/// At its end it stops nothing, whether or not anybody has looked; then it is lifted, with an entry.
pub async fn a_quarantine_ends(store: &Arc<dyn Store>) {
    let id = add(store, order(1, Selector::all(), Roles::All)).await;
    let before = opening(store, 1, later(3_599));
    assert!(matches!(store.open(before).await, Ok(OpenOutcome::Barred(_))));
    assert_eq!(store.lift_ended_quarantines(later(3_599)).await.unwrap(), 0);
    open(store, opening(store, 2, later(3_600))).await;
    assert_eq!(store.lift_ended_quarantines(later(3_600)).await.unwrap(), 1);
    assert_eq!(store.lift_ended_quarantines(later(3_601)).await.unwrap(), 0);
    let ended = store.quarantine(id).await.unwrap().unwrap();
    assert_eq!(ended.lifted, Some(Lifted { at: later(3_600), by: Actor::Broker }));
    assert!(store.in_force().quarantines.is_empty());
    let last = audit_of(store, &AuditFilter::default()).await.pop().unwrap().entry;
    assert_eq!((last.action, last.object), (AuditAction::QuarantineLift, AuditObject::Quarantine { id }));
}

fn author(n: u64) -> Actor {
    Actor::Identity { issuer: IssuerName::new("people").unwrap(), subject: n.to_string() }
}

/// Each is asked for every grant that is opened.
pub async fn quarantines_in_force_are_bounded(store: &Arc<dyn Store>) {
    let most = (Quarantine::MAX_IN_FORCE - Quarantine::RESERVED_FOR_HALTS) as u64;
    for n in 1..=most {
        let mut order = order(n, by_repository("666"), Roles::All);
        order.quarantine.author = author(n % 8);
        add(store, order).await;
    }
    let one_more = order(most + 1, by_repository("666"), Roles::All);
    assert_eq!(store.add_quarantine(one_more.clone(), store.epoch()).await.unwrap(), Added::TooMany);
    assert_eq!(store.add_quarantine(one_more.clone(), 0).await.unwrap(), Added::Moved);
    let mut with_revocation = beginning(store, 1, by_repository("666"), NOW).await;
    with_revocation.quarantine = Some(one_more);
    assert_eq!(store.begin_revocation(with_revocation).await.unwrap(), Begun::TooManyQuarantines);
    assert!(store.in_force().revocations.is_empty(), "both or neither");
    let page = PageRequest { cursor: None, limit: 500 };
    let listed = store.quarantines(None, &page).await.unwrap();
    assert_eq!((listed.items.len() as u64, listed.next), (most, None));
    assert_eq!(listed.items[0].id, sample::id(most), "newest first");
    assert_eq!(listed.items[0], **store.in_force().quarantines.last().unwrap());
    assert!(store.quarantines(Some(&Actor::Broker), &page).await.unwrap().items.is_empty());
}

/// However many members of teams stop what is theirs, somebody can stop everything else, and everything.
pub async fn wide_quarantines_and_halts_have_places_of_their_own(store: &Arc<dyn Store>) {
    let mut n = 0;
    let mut fill = async |selector: Selector, roles: Roles, of_one: u64| {
        let before = n;
        loop {
            let mut order = order(n + 1, selector.clone(), roles.clone());
            order.quarantine.author = author(1_000 * before + n / of_one);
            match store.add_quarantine(order, store.epoch()).await.unwrap() {
                Added::Done => n += 1,
                refused => return (n - before, refused),
            }
        }
    };
    let some = Roles::Some([sample::role("payments/prod/deploy").name].into());
    let (wide, halts) = (Quarantine::RESERVED_FOR_EVERY_ROLE as u64, Quarantine::RESERVED_FOR_HALTS as u64);
    let narrow = Quarantine::MAX_IN_FORCE as u64 - wide - halts;
    let of_one = Quarantine::MAX_IN_FORCE_OF_ONE as u64;
    // Everything that a member may stop is no halt.
    assert_eq!(fill(Selector::all(), some.clone(), of_one).await, (narrow, Added::TooMany));
    assert_eq!(fill(by_repository("666"), Roles::All, of_one).await, (wide, Added::TooMany));
    let of_one = Quarantine::MAX_HALTS_OF_ONE as u64;
    assert_eq!(fill(Selector::all(), Roles::All, of_one).await, (halts, Added::TooMany));
    assert_eq!(store.in_force().quarantines.len(), Quarantine::MAX_IN_FORCE);
    assert_eq!(fill(Selector::all(), some, 1).await, (0, Added::TooMany), "the control: there are no others");
}

/// Whoever may stop everything cannot take all of the places for that either, nor needs to lift another quarantine first.
pub async fn one_author_has_a_few_halts_beside_its_quarantines(store: &Arc<dyn Store>) {
    for n in 1..=Quarantine::MAX_IN_FORCE_OF_ONE as u64 {
        add(store, order(n, by_repository("666"), Roles::All)).await;
    }
    let halt = |n| order(100 + n, Selector::all(), Roles::All);
    for n in 1..=Quarantine::MAX_HALTS_OF_ONE as u64 {
        add(store, halt(n)).await;
    }
    assert_eq!(store.add_quarantine(halt(9), store.epoch()).await.unwrap(), Added::TooMany);
    let mut of_another = halt(9);
    of_another.quarantine.author = author(2);
    add(store, of_another).await;
}

/// Whoever takes all of its own leaves room for the others, and has room again when it lifts one.
pub async fn nobody_takes_every_place_for_quarantines(store: &Arc<dyn Store>) {
    let of = |n: u64, author: Actor| {
        let mut order = order(n, by_repository("666"), Roles::All);
        order.quarantine.author = author;
        order
    };
    let most = Quarantine::MAX_IN_FORCE_OF_ONE as u64;
    for n in 1..=most {
        add(store, of(n, author(1))).await;
    }
    let refused = store.add_quarantine(of(most + 1, author(1)), store.epoch()).await.unwrap();
    assert_eq!(refused, Added::TooMany);
    let mut with_revocation = beginning(store, 1, by_repository("666"), NOW).await;
    with_revocation.quarantine = Some(of(most + 1, author(1)));
    assert_eq!(store.begin_revocation(with_revocation).await.unwrap(), Begun::TooManyQuarantines);
    add(store, of(most + 2, author(2))).await;
    let id: QuarantineId = sample::id(1);
    let entry = AuditEntry::success(NOW, author(1), AuditAction::QuarantineLift, AuditObject::Quarantine { id });
    assert!(store.lift_quarantine(id, Lifted { at: NOW, by: author(1) }, entry, Vec::new()).await.unwrap());
    add(store, of(most + 3, author(1))).await;
}

/// What is ended is stopped from coming back, in one transaction.
pub async fn a_revocation_brings_its_quarantine_along(store: &Arc<dyn Store>) {
    let mut both = beginning(store, 1, by_repository("666"), NOW).await;
    let order = order(7, by_repository("666"), Roles::All);
    both.revocation.quarantine = Some(order.quarantine.id);
    both.quarantine = Some(order);
    let (id, epoch) = (both.revocation.id, store.epoch());
    assert_eq!(store.begin_revocation(both).await.unwrap(), Begun::Begun);
    assert!(store.epoch() > epoch);
    assert_eq!(store.revocation(id).await.unwrap().unwrap().quarantine, Some(sample::id(7)));
    let in_force = store.in_force();
    assert_eq!((in_force.revocations.len(), in_force.quarantines.len()), (1, 1));
    let actions: Vec<_> =
        audit_of(store, &AuditFilter::default()).await.into_iter().map(|one| one.entry.action).collect();
    assert_eq!(actions, [AuditAction::QuarantineAdd, AuditAction::RevocationBegin]);
}

/// They have the long lists of the roles that they are about.
pub async fn a_page_of_quarantines_has_no_more_bytes_than_it_may(store: &Arc<dyn Store>) {
    for n in 1..=5 {
        let mut long = order(n, by_repository("666"), Roles::All);
        long.quarantine.reason = long_text();
        add(store, long).await;
    }
    let (sizes, quarantines) = pages_of(async |page| store.quarantines(None, &page).await).await;
    let ids: Vec<QuarantineId> = quarantines.iter().map(|quarantine| quarantine.id).collect();
    assert_eq!((sizes, ids), (vec![2, 2, 1], [5, 4, 3, 2, 1].map(sample::id).to_vec()));
}
