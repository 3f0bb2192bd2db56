//! Lists: every match once, nothing else, newest first.

use std::sync::Arc;

use super::{apply, audit_len, long_text, open, opening, pages_of};
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::credential::RevocationClass;
use crate::grant::{Cause, Ending, Grant, StateName};
use crate::id::{BackendName, EnvironmentName, GrantId, IssuerName, OwnerName, PolicyId, RoleName};
use crate::port::{AuditFilter, Fenced, GrantFilter, PageRequest, Store, StoreError};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

async fn walk(store: &Arc<dyn Store>, filter: &GrantFilter, limit: usize) -> Vec<GrantId> {
    let mut page = PageRequest { cursor: None, limit };
    let mut ids = Vec::new();
    loop {
        let got = store.grants(filter, &page).await.unwrap();
        assert!(got.items.len() <= limit && (got.next.is_none() || got.items.len() == limit));
        ids.extend(got.items.iter().map(|grant| grant.record.id));
        let Some(next) = got.next else { return ids };
        page.cursor = Some(next);
    }
}

/// Opens grants 1 (unlike the others in everything), 2 and 3.
async fn one_unlike_the_others(store: &Arc<dyn Store>) -> Grant {
    let text = |text: &str| Some(text.to_owned());
    let mut odd = opening(store, 1, NOW);
    let record = &mut odd.grant.record;
    record.owner.name = OwnerName::new("search").unwrap();
    record.role = RoleName::new("search/prod/read").unwrap();
    record.holder.issuer = IssuerName::new("cluster").unwrap();
    record.holder.subject = "spiffe://example/search".to_owned();
    record.provenance.repository = text("acme/search");
    record.provenance.repository_id = text("333");
    record.provenance.commit = text("ffffffffffffffffffffffffffffffffffffffff");
    record.provenance.run = text("7");
    record.environment = Some(EnvironmentName::new("staging").unwrap());
    record.backend = BackendName::new("certificates").unwrap();
    record.purpose = "reindex".to_owned();
    record.ticket = text("CHG-2");
    record.decision.determining = vec![PolicyId::new("search-read").unwrap(), PolicyId::new("staging").unwrap()];
    let odd = open(store, odd).await;
    for n in [2, 3] {
        let mut plain = opening(store, n, later(n));
        plain.grant.record.environment = Some(EnvironmentName::new("production").unwrap());
        open(store, plain).await;
    }
    let ended = odd.begin_ending(Ending::by_broker(Cause::REQUESTED, later(1)), true).unwrap();
    apply(store, ended, AuditAction::GrantRevoke, later(1)).await
}

/// Each part of the filter alone: the one that differs, the two others, nothing.
pub async fn each_filter_finds_its_grants_and_no_others(store: &Arc<dyn Store>) {
    let odd = one_unlike_the_others(store).await.record.id;
    let others: Vec<GrantId> = vec![sample::id(3), sample::id(2)];
    type Set = fn(&mut GrantFilter, &str);
    let texts: [(&str, Set, &str, &str); 12] = [
        ("owner", |filter, value| filter.owner = Some(value.to_owned()), "search", "payments"),
        ("role", |filter, value| filter.role = Some(value.to_owned()), "search/prod/read", "payments/prod/deploy"),
        ("issuer", |filter, value| filter.issuer = Some(value.to_owned()), "cluster", "ci"),
        (
            "subject",
            |filter, value| filter.subject = Some(value.to_owned()),
            "spiffe://example/search",
            "repo:acme/app",
        ),
        ("repository", |filter, value| filter.repository = Some(value.to_owned()), "acme/search", "acme/app"),
        ("repository_id", |filter, value| filter.repository_id = Some(value.to_owned()), "333", "222"),
        (
            "commit",
            |filter, value| filter.commit = Some(value.to_owned()),
            "ffffffffffffffffffffffffffffffffffffffff",
            "6dcb09b5b57875f334f61aebed695e2e4193db5e",
        ),
        ("run", |filter, value| filter.run = Some(value.to_owned()), "7", "4242"),
        ("environment", |filter, value| filter.environment = Some(value.to_owned()), "staging", "production"),
        ("backend", |filter, value| filter.backend = Some(value.to_owned()), "certificates", "tokens"),
        ("purpose", |filter, value| filter.purpose = Some(value.to_owned()), "reindex", "deploy 4f2c to prod"),
        ("ticket", |filter, value| filter.ticket = Some(value.to_owned()), "CHG-2", "CHG-1"),
    ];
    let policy: Set = |filter, value| filter.policy = Some(value.to_owned());
    let texts = texts
        .into_iter()
        .chain([("policy", policy, "search-read", "deploy-main"), ("second policy", policy, "staging", "deploy-main")]);
    for (name, set, of_odd, of_others) in texts {
        for (value, expected) in [(of_odd, vec![odd]), (of_others, others.clone()), ("no such thing", Vec::new())] {
            let mut filter = GrantFilter::default();
            set(&mut filter, value);
            assert_eq!(walk(store, &filter, 10).await, expected, "{name} = {value}");
        }
    }
    let states = |states: &[StateName]| GrantFilter { states: states.to_vec(), ..GrantFilter::default() };
    assert_eq!(walk(store, &states(&[StateName::Revoking]), 10).await, [odd]);
    assert_eq!(walk(store, &states(&[StateName::Active]), 10).await, others);
    let live = [StateName::Pending, StateName::Active, StateName::Revoking];
    assert_eq!(walk(store, &states(&live), 1).await, [others[0], others[1], odd]);
    assert_eq!(walk(store, &states(&[StateName::Active, StateName::Expired]), 1).await, others);
    assert!(walk(store, &states(&[StateName::Failed]), 10).await.is_empty());
    let since = GrantFilter { since: Some(later(2)), ..GrantFilter::default() };
    assert_eq!(walk(store, &since, 10).await, others, "created at that instant is since");
    let until = GrantFilter { until: Some(later(2)), ..GrantFilter::default() };
    assert_eq!(walk(store, &until, 10).await, [odd], "and not until");
}

/// The narrowest first or the widest first: all of it holds.
pub async fn filters_given_together_must_all_match(store: &Arc<dyn Store>) {
    let odd = one_unlike_the_others(store).await;
    let mut all = GrantFilter {
        states: vec![odd.state_name()],
        owner: Some("search".to_owned()),
        role: Some("search/prod/read".to_owned()),
        issuer: Some("cluster".to_owned()),
        subject: Some("spiffe://example/search".to_owned()),
        repository: Some("acme/search".to_owned()),
        repository_id: Some("333".to_owned()),
        commit: Some("f".repeat(40)),
        run: Some("7".to_owned()),
        environment: Some("staging".to_owned()),
        backend: Some("certificates".to_owned()),
        policy: Some("staging".to_owned()),
        purpose: Some("reindex".to_owned()),
        ticket: Some("CHG-2".to_owned()),
        since: Some(NOW),
        until: Some(later(1)),
    };
    assert_eq!(walk(store, &all, 10).await, [odd.record.id]);
    all.policy = Some("deploy-main".to_owned());
    assert!(walk(store, &all, 10).await.is_empty());
    let pairs = [
        GrantFilter { run: Some("7".to_owned()), policy: Some("deploy-main".to_owned()), ..GrantFilter::default() },
        GrantFilter {
            policy: Some("staging".to_owned()),
            backend: Some("tokens".to_owned()),
            ..GrantFilter::default()
        },
        GrantFilter { owner: Some("search".to_owned()), states: vec![StateName::Active], ..GrantFilter::default() },
        GrantFilter { states: vec![StateName::Revoking], issuer: Some("ci".to_owned()), ..GrantFilter::default() },
        GrantFilter { policy: Some("staging".to_owned()), since: Some(later(1)), ..GrantFilter::default() },
    ];
    for pair in pairs {
        assert!(walk(store, &pair, 10).await.is_empty(), "{pair:?}");
    }
}

/// Whatever the size of the page, and with many of one instant.
pub async fn pages_hold_every_match_once_newest_first(store: &Arc<dyn Store>) {
    let mut expected = Vec::new();
    for n in 1..=23 {
        let mut opening = opening(store, n, later(n / 5));
        if n % 2 == 0 {
            opening.grant.record.provenance.run = Some("even".to_owned());
        }
        expected.insert(0, open(store, opening).await.record.id);
    }
    let even: Vec<_> = expected.iter().copied().skip(1).step_by(2).collect();
    let run = GrantFilter { run: Some("even".to_owned()), ..GrantFilter::default() };
    let policy = GrantFilter { policy: Some("deploy-main".to_owned()), ..GrantFilter::default() };
    for limit in [1, 2, 7, 22, 23, 24] {
        assert_eq!(walk(store, &GrantFilter::default(), limit).await, expected, "{limit}");
        assert_eq!(walk(store, &policy, limit).await, expected, "{limit}");
        assert_eq!(walk(store, &run, limit).await, even, "{limit}");
    }
    let empty = GrantFilter { ticket: Some("none".to_owned()), ..GrantFilter::default() };
    assert!(store.grants(&empty, &PageRequest { cursor: None, limit: 5 }).await.unwrap().next.is_none());
}

/// What is newer than the first page is not on the later ones, and nothing moves from one to another.
pub async fn what_is_opened_meanwhile_does_not_disturb_a_walk(store: &Arc<dyn Store>) {
    for n in 1..=4 {
        open(store, opening(store, n, later(n))).await;
    }
    let all = GrantFilter::default();
    let first = store.grants(&all, &PageRequest { cursor: None, limit: 2 }).await.unwrap();
    open(store, opening(store, 5, later(5))).await;
    let second = store.grants(&all, &PageRequest { cursor: first.next, limit: 2 }).await.unwrap();
    let ids: Vec<GrantId> = second.items.iter().map(|grant| grant.record.id).collect();
    assert_eq!(ids, [sample::id(2), sample::id(1)]);
    assert_eq!(second.next, None);
}

/// Every answer is bounded.
pub async fn a_page_is_never_larger_than_the_largest(store: &Arc<dyn Store>) {
    let openings = (1..=PageRequest::MAX_LIMIT as u64 + 3).map(|n| opening(store, n, NOW)).collect();
    for outcome in super::open_at_once(store, openings).await {
        outcome.unwrap();
    }
    let huge = PageRequest { cursor: None, limit: usize::MAX };
    let page = store.grants(&GrantFilter::default(), &huge).await.unwrap();
    assert_eq!(page.items.len(), PageRequest::MAX_LIMIT);
    assert!(page.next.is_some());
    let page = store.audit(&AuditFilter::default(), &huge).await.unwrap();
    assert_eq!(page.items.len(), PageRequest::MAX_LIMIT);
}

/// However long what is on it: the next page begins where one had to end.
pub async fn a_page_has_no_more_bytes_than_it_may(store: &Arc<dyn Store>) {
    for n in 1..=5 {
        let mut long = opening(store, n, later(n));
        // Few as they are, one of them alone is larger than a page.
        long.grant.record.purpose = if n == 3 { long_text().repeat(3) } else { long_text() };
        open(store, long).await;
    }
    let (sizes, grants) = pages_of(async |page| store.grants(&GrantFilter::default(), &page).await).await;
    let ids: Vec<GrantId> = grants.iter().map(|grant| grant.record.id).collect();
    assert_eq!((sizes, ids), (vec![2, 1, 2], [5, 4, 3, 2, 1].map(sample::id).to_vec()));
    // The control: what is short is all on one page.
    let short = GrantFilter { purpose: Some("deploy 4f2c to prod".to_owned()), ..GrantFilter::default() };
    for n in 6..=10 {
        open(store, opening(store, n, later(n))).await;
    }
    assert_eq!(pages_of(async |page| store.grants(&short, &page).await).await.0, [5]);
}

/// Some entries are about thousands of grants.
pub async fn a_page_of_the_log_has_no_more_bytes_than_it_may(store: &Arc<dyn Store>) {
    const GRANTS: u64 = 11_000;
    for n in 1..=5 {
        let object = AuditObject::Grants { ids: (1..=GRANTS).map(sample::id).collect() };
        let entry = AuditEntry::success(later(n), Actor::Broker, AuditAction::GrantRevoke, object);
        store.record(vec![entry], None).await.unwrap();
    }
    let (sizes, entries) = pages_of(async |page| store.audit(&AuditFilter::default(), &page).await).await;
    let places: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
    assert_eq!((sizes, places), (vec![2, 2, 1], vec![0, 1, 2, 3, 4]));
}

/// Garbage, a changed one, one of another list.
pub async fn a_cursor_from_elsewhere_is_refused(store: &Arc<dyn Store>) {
    for n in 1..=4 {
        open(store, opening(store, n, later(n))).await;
    }
    assert_eq!(audit_len(store).await, 4);
    let one = |cursor: Option<String>| PageRequest { cursor, limit: 1 };
    let all = GrantFilter::default();
    let cursor = store.grants(&all, &one(None)).await.unwrap().next.unwrap();
    let mut changed = cursor.clone();
    changed.replace_range(0..1, if cursor.starts_with('0') { "1" } else { "0" });
    let mut others = vec![String::new(), "garbage".to_owned(), "0".repeat(cursor.len()), format!("{cursor}0"), changed];
    others.extend([cursor.to_uppercase(), format!(" {cursor}"), "é".repeat(24), "%00".to_owned()]);
    others.retain(|other| *other != cursor);
    for other in others {
        let grants = store.grants(&all, &one(Some(other.clone()))).await;
        assert_eq!(grants.unwrap_err(), StoreError::InvalidCursor, "{other:?}");
        let entries = store.audit(&AuditFilter::default(), &one(Some(other.clone()))).await;
        assert_eq!(entries.unwrap_err(), StoreError::InvalidCursor, "{other:?}");
    }
    let filter = GrantFilter { owner: Some("payments".to_owned()), ..all };
    assert_eq!(store.grants(&filter, &one(Some(cursor.clone()))).await.unwrap_err(), StoreError::InvalidCursor);
    let entries = store.audit(&AuditFilter::default(), &one(Some(cursor))).await;
    assert_eq!(entries.unwrap_err(), StoreError::InvalidCursor);
}

/// The content of a revocation list: what is fenced, of one kind of backend, until no verifier could accept it.
pub async fn refused_credentials_are_listed_until_they_are_over(store: &Arc<dyn Store>) {
    open(store, opening(store, 1, NOW)).await;
    let asked = || Ending::by_broker(Cause::REQUESTED, later(1));
    let fenced = open(store, opening(store, 2, NOW)).await.begin_ending(asked(), true).unwrap();
    let fenced = apply(store, fenced, AuditAction::GrantFence, later(1)).await;
    let given_up = open(store, opening(store, 3, NOW)).await.begin_ending(asked(), true).unwrap();
    let given_up = apply(store, given_up, AuditAction::GrantFence, later(1)).await;
    let given_up = given_up.abandon(later(2), "ci:user:ada".to_owned(), "no longer needed".to_owned()).unwrap();
    apply(store, given_up, AuditAction::GrantAbandon, later(2)).await;
    let not_yet = open(store, opening(store, 4, NOW)).await.begin_ending(asked(), false).unwrap();
    apply(store, not_yet, AuditAction::GrantRevoke, later(1)).await;
    let mut elsewhere = opening(store, 5, NOW);
    elsewhere.grant.record.backend_kind = "x509".to_owned();
    let elsewhere = open(store, elsewhere).await.begin_ending(asked(), true).unwrap();
    apply(store, elsewhere, AuditAction::GrantFence, later(1)).await;
    let hard = sample::active(6, RevocationClass::Hard, NOW);
    open(store, super::opening_of(store, hard, 6)).await;

    let expected = [2, 3].map(|n| Fenced { id: sample::id(n), fenced_at: later(1) });
    let over = fenced.expires_at.plus(crate::grant::EXPIRY_SKEW);
    for now in [later(1), fenced.expires_at, Timestamp::from_millis(over.as_millis() - 1)] {
        assert_eq!(store.fenced("jwt", now).await.unwrap(), expected, "{now}");
    }
    assert_eq!(store.fenced("jwt", over).await.unwrap(), []);
    store.expire_due(over, 10).await.unwrap();
    assert_eq!(store.fenced("jwt", later(1)).await.unwrap(), [expected[1]], "what has expired is no longer listed");
}
