//! Nothing due is forgotten, and nobody does it twice at once.

use std::sync::Arc;

use super::{apply, at_once, audit_about, audit_len, entry_about, open, opening, opening_of, proof, read};
use crate::audit::{AuditAction, AuditObject};
use crate::credential::RevocationClass;
use crate::grant::{Cause, Ending, Grant, StateName};
use crate::id::{BackendName, GrantId, ReservationId};
use crate::port::{Applied, Change, OpenOutcome, Reserved, Share, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

const HOLD: Ttl = Ttl::from_secs(30);

fn later(secs: u64) -> Timestamp {
    NOW.plus(Ttl::from_secs(secs))
}

fn by(n: u64) -> ReservationId {
    sample::id(n)
}

fn ids(reserved: &[Reserved]) -> Vec<GrantId> {
    reserved.iter().map(|reserved| reserved.grant.record.id).collect()
}

async fn pending(store: &Arc<dyn Store>, n: u64, at: Timestamp) -> Grant {
    open(store, opening_of(store, sample::pending(n, RevocationClass::Hard, at), n)).await
}

/// One hard grant that must be undone from `at` on.
async fn ending(store: &Arc<dyn Store>, n: u64, at: Timestamp) -> Grant {
    let grant = open(store, opening_of(store, sample::active(n, RevocationClass::Hard, NOW), n)).await;
    let ending = grant.begin_ending(Ending::by_broker(Cause::REQUESTED, at), false).unwrap();
    apply(store, ending, AuditAction::GrantRevoke, at).await
}

/// Pending past its deadline, active past its end, revoking at its retry; each with its handle.
pub async fn what_is_due_is_given_out_longest_due_first(store: &Arc<dyn Store>) {
    let first = pending(store, 1, NOW).await;
    let third = ending(store, 3, later(90)).await;
    let second = ending(store, 2, later(60)).await;
    let last = open(store, opening_of(store, sample::active(4, RevocationClass::Hard, NOW), 4)).await;
    assert!(store.reserve_due(later(29), HOLD, by(1), &Share::All, 10).await.unwrap().is_empty(), "nothing is due yet");
    let due = store.reserve_due(last.end_at, HOLD, by(2), &Share::All, 3).await.unwrap();
    assert_eq!(ids(&due), [first.record.id, second.record.id, third.record.id], "as many as asked for");
    for (reserved, n) in due.into_iter().zip([1, 2, 3]) {
        assert_eq!(reserved.grant, read(store, reserved.grant.record.id).await);
        assert_eq!(reserved.handle.unwrap(), sample::handle(n));
        assert_eq!((reserved.reservation, reserved.held_until), (by(2), last.end_at.plus(HOLD)));
    }
    let rest = store.reserve_due(last.end_at, HOLD, by(3), &Share::All, 10).await.unwrap();
    assert_eq!(ids(&rest), [last.record.id]);
}

/// Fenced and expiry-only grants that only wait for their end are no work; a fence that does not stand yet is.
pub async fn what_ends_by_itself_is_not_given_out(store: &Arc<dyn Store>) {
    let fenced = open(store, opening(store, 1, NOW)).await;
    open(store, opening_of(store, sample::active(2, RevocationClass::ExpiryOnly, NOW), 2)).await;
    let asked = || Ending::by_broker(Cause::REQUESTED, later(1));
    let standing = open(store, opening(store, 3, NOW)).await.begin_ending(asked(), true).unwrap();
    apply(store, standing, AuditAction::GrantFence, later(1)).await;
    let open_fence = open(store, opening(store, 4, NOW)).await.begin_ending(asked(), false).unwrap();
    let open_fence = apply(store, open_fence, AuditAction::GrantRevoke, later(1)).await;
    let over = fenced.expires_at.plus(crate::grant::EXPIRY_SKEW);
    let just_before = Timestamp::from_millis(over.as_millis() - 1);
    let due = store.reserve_due(just_before, Ttl::ZERO, by(1), &Share::All, 10).await.unwrap();
    assert_eq!(ids(&due), [open_fence.record.id]);
    assert!(
        store.reserve_due(over, HOLD, by(2), &Share::All, 10).await.unwrap().is_empty(),
        "by now that, too, is over by itself"
    );
    assert_eq!(store.expire_due(over, 10).await.unwrap(), 4);
}

/// Until the hold expires.
pub async fn what_is_held_is_given_to_nobody_else(store: &Arc<dyn Store>) {
    let grant = ending(store, 1, NOW).await;
    assert_eq!(store.reserve_due(later(1), HOLD, by(1), &Share::All, 10).await.unwrap().len(), 1);
    assert!(store.reserve_due(later(2), HOLD, by(2), &Share::All, 10).await.unwrap().is_empty());
    assert!(
        store.reserve_due(later(2), HOLD, by(1), &Share::All, 10).await.unwrap().is_empty(),
        "not to its holder again either"
    );
    let just_before = Timestamp::from_millis(later(31).as_millis() - 1);
    assert!(store.reserve_due(just_before, HOLD, by(2), &Share::All, 10).await.unwrap().is_empty());
    let taken = store.reserve_due(later(31), HOLD, by(2), &Share::All, 10).await.unwrap();
    assert_eq!(ids(&taken), [grant.record.id]);
}

/// A backend's share holds its own grants and no others', and the rest everything that is in no share.
pub async fn each_share_is_given_out_apart(store: &Arc<dyn Store>) {
    let mut ids = Vec::new();
    for (n, name) in [(1, "one"), (2, "one"), (3, "other"), (4, "gone")] {
        let mut grant = sample::active(n, RevocationClass::Hard, NOW);
        grant.record.backend = backend(name);
        ids.push(open(store, opening_of(store, grant, n)).await.record.id);
    }
    let due = sample::active(1, RevocationClass::Hard, NOW).end_at;
    let rest = Share::ExceptOf(vec![backend("one"), backend("other")]);
    for (share, wanted) in
        [(rest, &ids[3..]), (Share::Of(backend("other")), &ids[2..3]), (Share::Of(backend("one")), &ids[..2])]
    {
        let reserved = store.reserve_due(due, HOLD, by(1), &share, 10).await.unwrap();
        assert_eq!(reserved.iter().map(|one| one.grant.record.id).collect::<Vec<_>>(), wanted, "{share:?}");
    }
    assert!(store.reserve_due(due, HOLD, by(2), &Share::All, 10).await.unwrap().is_empty(), "all are held");
}

fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

/// At shutdown, so that others need not wait for it to expire.
pub async fn a_hold_is_released_by_its_holder_only(store: &Arc<dyn Store>) {
    ending(store, 1, NOW).await;
    store.reserve_due(later(1), HOLD, by(1), &Share::All, 10).await.unwrap();
    store.release(by(2)).await.unwrap();
    assert!(store.reserve_due(later(2), HOLD, by(3), &Share::All, 10).await.unwrap().is_empty());
    store.release(by(1)).await.unwrap();
    assert_eq!(store.reserve_due(later(2), HOLD, by(3), &Share::All, 10).await.unwrap().len(), 1);
}

/// The next step is due when the change says, not when the hold would have expired.
pub async fn a_change_releases_its_hold(store: &Arc<dyn Store>) {
    ending(store, 1, NOW).await;
    let reserved = store.reserve_due(later(1), HOLD, by(1), &Share::All, 10).await.unwrap().remove(0);
    let retried = reserved.grant.retry(later(5), "away".to_owned()).unwrap();
    let mut change = Change::of(retried, entry_about(sample::id(1), AuditAction::GrantRetry, later(2)));
    change.reservation = Some(by(1));
    assert_eq!(store.apply(change).await.unwrap(), Applied::Done);
    assert_eq!(store.reserve_due(later(5), HOLD, by(2), &Share::All, 10).await.unwrap().len(), 1);
}

/// A slow worker whose hold was taken over must not write, whatever version it read. A hold that expired and that
/// nobody took is still its own.
pub async fn a_change_under_a_lost_hold_is_refused(store: &Arc<dyn Store>) {
    let grant = ending(store, 1, NOW).await;
    store.reserve_due(later(1), HOLD, by(1), &Share::All, 10).await.unwrap();
    let entries = audit_len(store).await;
    let under = |reservation| {
        let mut change = Change::of(
            grant.clone().confirm(later(40)).unwrap(),
            entry_about(grant.record.id, AuditAction::GrantConfirm, later(40)),
        );
        change.reservation = Some(reservation);
        change
    };
    store.reserve_due(later(40), HOLD, by(2), &Share::All, 10).await.unwrap();
    assert_eq!(store.apply(under(by(1))).await.unwrap(), Applied::Conflict);
    assert_eq!(read(store, grant.record.id).await, grant);
    assert_eq!(audit_len(store).await, entries);
    assert_eq!(store.apply(under(by(2))).await.unwrap(), Applied::Done, "expired or not, nobody else has it");
    assert_eq!(read(store, grant.record.id).await.state_name(), StateName::Revoked);
}

/// A caller's change goes through beside a worker's hold; the worker then conflicts, and nobody else starts meanwhile.
pub async fn somebody_elses_change_does_not_lift_a_hold(store: &Arc<dyn Store>) {
    let grant = open(store, opening_of(store, sample::active(1, RevocationClass::Hard, NOW), 1)).await;
    let reserved = store.reserve_due(grant.end_at, HOLD, by(1), &Share::All, 10).await.unwrap().remove(0);
    let asked = grant.begin_ending(Ending::by_broker(Cause::REQUESTED, reserved.grant.end_at), false).unwrap();
    let asked = apply(store, asked, AuditAction::GrantRevoke, later(1)).await;
    let own = reserved.grant.begin_ending(Ending::by_broker(Cause::EXPIRED, asked.end_at), false).unwrap();
    let mut change = Change::of(own, entry_about(asked.record.id, AuditAction::GrantRevoke, later(1)));
    change.reservation = Some(by(1));
    assert_eq!(store.apply(change).await.unwrap(), Applied::Conflict);
    assert!(store.reserve_due(asked.end_at, HOLD, by(2), &Share::All, 10).await.unwrap().is_empty());
    store.release(by(1)).await.unwrap();
    assert_eq!(store.reserve_due(asked.end_at, HOLD, by(2), &Share::All, 10).await.unwrap().len(), 1);
}

/// Whether workers are threads of one broker or replicas.
pub async fn each_due_grant_goes_to_one_of_many_workers(store: &Arc<dyn Store>) {
    for n in 1..=40 {
        ending(store, n, NOW).await;
    }
    let workers = (1..=10).map(|n| {
        let store = Arc::clone(store);
        async move { store.reserve_due(later(1), HOLD, by(n), &Share::All, 7).await }
    });
    let mut given: Vec<GrantId> = at_once(workers).await.into_iter().flat_map(|held| ids(&held.unwrap())).collect();
    assert_eq!(given.len(), 40);
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 40, "none went to two");
}

/// Even where the credential would end by itself later.
pub async fn a_missed_heartbeat_is_due(store: &Arc<dyn Store>) {
    let mut grant = sample::active(1, RevocationClass::Fenced, NOW);
    grant.record.terms.heartbeat = Some(Ttl::from_secs(60));
    let grant = open(store, opening_of(store, grant, 1)).await;
    assert!(store.reserve_due(later(59), HOLD, by(1), &Share::All, 10).await.unwrap().is_empty());
    let seen = apply(store, grant.seen(later(30)).unwrap(), AuditAction::GrantRenew, later(30)).await;
    assert!(
        store.reserve_due(later(89), HOLD, by(1), &Share::All, 10).await.unwrap().is_empty(),
        "a sign of life moves it"
    );
    let due = store.reserve_due(later(90), HOLD, by(1), &Share::All, 10).await.unwrap();
    assert_eq!(ids(&due), [seen.record.id]);
}

/// Whoever waits for a sign of life waits anew; all others stay as they are.
pub async fn silence_counts_from_the_start_of_a_broker(store: &Arc<dyn Store>) {
    let beating = |n: u64, class| {
        let mut grant = sample::active(n, class, NOW);
        grant.record.terms.heartbeat = Some(Ttl::from_secs(60));
        grant.last_seen_at = Some(NOW);
        opening_of(store, grant, n)
    };
    let fenced = open(store, beating(1, RevocationClass::Fenced)).await;
    let hard = open(store, beating(2, RevocationClass::Hard)).await;
    let over = open(store, beating(3, RevocationClass::Hard)).await;
    let over = apply(
        store,
        over.begin_ending(Ending::by_broker(Cause::REQUESTED, NOW), false).unwrap(),
        AuditAction::GrantRevoke,
        NOW,
    )
    .await;
    let without = open(store, opening(store, 4, NOW)).await;

    assert_eq!(store.resume(later(300)).await.unwrap(), 2);
    for grant in [fenced, hard] {
        let id = grant.record.id;
        let resumed = grant.resume(later(300)).unwrap();
        assert_eq!(read(store, id).await, resumed);
        assert_eq!(resumed.last_seen_at, Some(NOW), "nobody was seen");
        assert!(resumed.is_live(later(359)) && !resumed.is_live(later(360)));
    }
    for grant in [over, without] {
        assert_eq!(read(store, grant.record.id).await, grant);
    }
    let held = ids(&store.reserve_due(later(359), Ttl::ZERO, by(1), &Share::All, 10).await.unwrap());
    assert_eq!(held, [sample::id(3)], "only what was ending anyhow");
    assert_eq!(store.reserve_due(later(360), HOLD, by(2), &Share::All, 10).await.unwrap().len(), 3);
    assert_eq!(store.resume(later(900)).await.unwrap(), 0, "what has passed its own end waits for nothing");
}

/// In bulk what [`Grant::expire`] does to one; one entry tells of all.
pub async fn what_is_over_expires_as_the_domain_says(store: &Arc<dyn Store>) {
    let asked = || Ending { actor: Some("ci:user:ada".to_owned()), ..Ending::by_broker(Cause::REQUESTED, later(1)) };
    let active = open(store, opening(store, 1, NOW)).await;
    let only_time = open(store, opening_of(store, sample::active(2, RevocationClass::ExpiryOnly, NOW), 2)).await;
    let fenced = open(store, opening(store, 3, NOW)).await.begin_ending(asked(), true).unwrap();
    let fenced = apply(store, fenced, AuditAction::GrantFence, later(1)).await;
    let unfenced = open(store, opening(store, 4, NOW)).await.begin_ending(asked(), false).unwrap();
    let unfenced = apply(store, unfenced, AuditAction::GrantRevoke, later(1)).await;
    let unfenced = unfenced.retry(later(50), "away".to_owned()).unwrap();
    let unfenced = apply(store, unfenced, AuditAction::GrantRetry, later(2)).await;
    let hard = open(store, opening_of(store, sample::active(5, RevocationClass::Hard, NOW), 5)).await;
    let waiting = pending(store, 6, NOW).await;
    let renewed = open(store, opening(store, 7, NOW)).await.extend(later(3_000), later(3_000)).unwrap();
    let renewed = apply(store, renewed, AuditAction::GrantRenew, later(2)).await;

    let over = active.expires_at.plus(crate::grant::EXPIRY_SKEW);
    let just_before = Timestamp::from_millis(over.as_millis() - 1);
    assert_eq!(store.expire_due(just_before, 100).await.unwrap(), 0);
    let entries = audit_len(store).await;
    let now = over.plus(Ttl::from_secs(3));
    assert_eq!(store.expire_due(now, 100).await.unwrap(), 4);
    for grant in [active, only_time, fenced, unfenced] {
        let id = grant.record.id;
        assert_eq!(read(store, id).await, grant.expire(now).unwrap());
        let last = audit_about(store, id).await.pop().unwrap().entry;
        assert_eq!((last.action, last.time), (AuditAction::GrantExpire, now));
        let AuditObject::Grants { ids } = last.object else { panic!("{:?}", last.object) };
        assert!(ids.contains(&id) && ids.len() == 4);
    }
    assert_eq!(audit_len(store).await, entries + 1);
    for untouched in [hard, waiting, renewed] {
        assert_eq!(read(store, untouched.record.id).await, untouched);
    }
    assert_eq!(store.expire_due(now, 100).await.unwrap(), 0);
    assert_eq!(audit_len(store).await, entries + 1, "nothing happened, nothing is told");
}

/// Thousands are ended in bites, the longest over first.
pub async fn expiry_stops_at_its_limit_and_goes_on_from_there(store: &Arc<dyn Store>) {
    for n in 1..=5 {
        open(store, opening(store, n, later(n))).await;
    }
    let over = later(3_600);
    assert_eq!(store.expire_due(over, 2).await.unwrap(), 2);
    for (n, state) in [(1, StateName::Expired), (2, StateName::Expired), (3, StateName::Active)] {
        assert_eq!(read(store, sample::id(n)).await.state_name(), state, "{n}");
    }
    assert_eq!(store.expire_due(over, 2).await.unwrap(), 2);
    assert_eq!(store.expire_due(over, 2).await.unwrap(), 1);
}

/// A record that goes too early lets a proof be used twice.
pub async fn records_are_purged_after_their_horizon_and_not_before(store: &Arc<dyn Store>) {
    let with = |n: u64, at: Timestamp| {
        let mut opening = opening(store, n, at);
        opening.proof_use = Some(proof(&format!("jti-{}", n % 10), NOW));
        opening.idempotency = Some(super::key(u8::try_from(n % 10).unwrap(), 1, NOW));
        opening
    };
    for n in 1..=3 {
        open(store, with(n, NOW)).await;
    }
    let horizon = NOW.plus(Ttl::from_hours(1));
    assert_eq!(store.purge(horizon, 100).await.unwrap(), 0, "kept until then, and then still");
    let mut replay = with(11, horizon);
    replay.idempotency = None;
    assert!(matches!(store.open(replay).await, Ok(OpenOutcome::Replayed)));
    let past = Timestamp::from_millis(horizon.as_millis() + 1);
    assert_eq!(store.purge(past, 4).await.unwrap(), 4);
    assert_eq!(store.purge(past, 4).await.unwrap(), 2);
    assert_eq!(store.purge(past, 4).await.unwrap(), 0);
    let again = open(store, with(21, past)).await;
    assert_eq!(again.record.replaces, None, "the key is forgotten too");
    assert!(store.grant(sample::id(1)).await.unwrap().is_some(), "grants are not");
}
