//! A repeated idempotency key never gives two live grants.

use std::sync::Arc;

use super::{audit_about, entry_about, key, open, open_at_once, opening, opening_of, proof, read};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, Ending, GrantState, StateName};
use crate::port::{Applied, Change, GrantFilter, IdempotencyClaim, OpenOutcome, Opening, PageRequest, Share, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn keyed(store: &Arc<dyn Store>, n: u64, now: Timestamp) -> Opening {
    let mut opening = opening(store, n, now);
    opening.idempotency = Some(key(1, 1, now));
    opening
}

/// The answer was lost, and with it a credential: that one ends, and a fresh one takes its place, in one commit.
pub async fn a_repeated_key_ends_the_earlier_grant_and_opens_a_fresh_one(store: &Arc<dyn Store>) {
    let first = open(store, keyed(store, 1, NOW)).await;
    let later = NOW.plus(Ttl::from_secs(5));
    let second = open(store, keyed(store, 2, later)).await;
    assert_eq!(second.record.replaces, Some(first.record.id), "the fresh one is linked");
    assert_eq!(second.state_name(), StateName::Active);
    let ended = read(store, first.record.id).await;
    let GrantState::Revoking { ending, fenced_at, .. } = &ended.state else { panic!("{:?}", ended.state) };
    assert_eq!(ending.cause, Cause::SUPERSEDED);
    assert_eq!(ending.at, later);
    assert_eq!(*fenced_at, Some(later), "the record is the fence");
    assert_eq!(ended.version, first.version + 1);
    let actions: Vec<_> =
        audit_about(store, first.record.id).await.into_iter().map(|entry| entry.entry.action).collect();
    assert_eq!(actions, [AuditAction::GrantOpen, AuditAction::GrantRevoke]);
}

/// Where the record is not the fence, undoing is still to be done.
pub async fn a_superseded_grant_that_lives_elsewhere_is_left_to_the_workers(store: &Arc<dyn Store>) {
    for (n, class) in [(1, RevocationClass::Hard), (2, RevocationClass::Fenced)] {
        let scope = u8::try_from(n).unwrap();
        let remote = |n: u64| {
            let mut opening = opening_of(store, sample::active(n, class, NOW), n);
            opening.fenced_by_record = class == RevocationClass::Hard;
            opening.idempotency = Some(key(scope, 1, NOW));
            opening
        };
        let first = open(store, remote(n)).await;
        open(store, remote(10 + n)).await;
        let ended = read(store, first.record.id).await;
        assert!(matches!(ended.state, GrantState::Revoking { fenced_at: None, .. }), "{:?}", ended.state);
        let due = store.reserve_due(NOW, Ttl::from_mins(1), sample::id(n), &Share::All, 10).await.unwrap();
        assert_eq!(due.iter().map(|due| due.grant.record.id).collect::<Vec<_>>(), [first.record.id]);
    }
}

/// An earlier grant that is on its way out, or over, stays as it is.
pub async fn a_repeat_ends_nothing_that_has_ended(store: &Arc<dyn Store>) {
    let first = open(store, keyed(store, 1, NOW)).await;
    let over = NOW.plus(Ttl::from_hours(1));
    assert_eq!(store.expire_due(over, 10).await.unwrap(), 1);
    let ended = read(store, first.record.id).await;
    let second = open(store, keyed(store, 2, over)).await;
    assert_eq!(read(store, first.record.id).await, ended);
    assert_eq!(second.record.replaces, Some(first.record.id));
}

/// Somebody decided that the earlier one ends: a repetition does not undo that, whoever sends it.
pub async fn a_repeat_does_not_undo_a_revocation(store: &Arc<dyn Store>) {
    for (scope, cause) in [(1, Cause::REQUESTED), (2, Cause::REVOCATION), (3, Cause::from_stored("owner_gone".into()))]
    {
        let with = |n: u64| Opening {
            proof_use: Some(proof(&format!("proof {scope}"), NOW)),
            idempotency: Some(key(scope, 1, NOW)),
            ..opening(store, n, NOW)
        };
        let n = u64::from(scope) * 10;
        open(store, with(n)).await;
        let repeated = open(store, with(n + 1)).await;
        let entry = entry_about(repeated.record.id, AuditAction::GrantRevoke, NOW);
        let ended = repeated.clone().begin_ending(Ending::by_broker(cause.clone(), NOW), true).unwrap();
        assert_eq!(store.apply(Change::of(ended, entry)).await.unwrap(), Applied::Done);
        let outcome = store.open(with(n + 2)).await;
        assert!(matches!(outcome, Ok(OpenOutcome::Replayed)), "{cause:?}: {outcome:?}");
    }
}

/// One key is one request.
pub async fn a_key_with_another_request_is_refused(store: &Arc<dyn Store>) {
    let first = open(store, keyed(store, 1, NOW)).await;
    let mut other = keyed(store, 2, NOW);
    other.idempotency = Some(key(1, 2, NOW));
    assert!(matches!(store.open(other).await, Ok(OpenOutcome::RequestMismatch)));
    assert_eq!(read(store, first.record.id).await, first);
    let mut other_scope = keyed(store, 3, NOW);
    other_scope.idempotency = Some(key(2, 2, NOW));
    open(store, other_scope).await;
}

/// Whether the first one succeeds is not known yet.
pub async fn a_key_whose_grant_is_pending_has_to_wait(store: &Arc<dyn Store>) {
    let mut first = opening_of(store, sample::pending(1, RevocationClass::Hard, NOW), 1);
    first.idempotency = Some(key(1, 1, NOW));
    let first = open(store, first).await;
    assert!(matches!(store.open(keyed(store, 2, NOW)).await, Ok(OpenOutcome::StillPending)));
    assert_eq!(read(store, first.record.id).await, first);
}

/// Enough for a flaky network, too few to mint in a loop.
pub async fn a_key_is_repeated_three_times_at_most(store: &Arc<dyn Store>) {
    let repeats = u64::from(IdempotencyClaim::MAX_REPEATS);
    for n in 1..=1 + repeats {
        open(store, keyed(store, n, NOW)).await;
    }
    assert!(matches!(store.open(keyed(store, 9, NOW)).await, Ok(OpenOutcome::TooManyRepeats)));
    assert_eq!(read(store, sample::id(1 + repeats)).await.state_name(), StateName::Active, "the last one stays");
}

/// The proof that opened a grant may come again to repeat that request, and for nothing else.
pub async fn a_used_proof_is_accepted_again_with_its_own_key_only(store: &Arc<dyn Store>) {
    let with = |n: u64, jti: &str, scope: Option<u8>| {
        let mut opening = opening(store, n, NOW);
        opening.proof_use = Some(proof(jti, NOW));
        opening.idempotency = scope.map(|scope| key(scope, 1, NOW));
        opening
    };
    open(store, with(1, "keyed", Some(1))).await;
    open(store, with(2, "plain", None)).await;
    for (what, refused) in [
        ("another key", with(3, "keyed", Some(2))),
        ("no key", with(3, "keyed", None)),
        ("a key at last", with(3, "plain", Some(3))),
        ("no key, again", with(3, "plain", None)),
    ] {
        assert!(matches!(store.open(refused).await, Ok(OpenOutcome::Replayed)), "{what}");
    }
    open(store, with(4, "keyed", Some(1))).await;
}

/// Also when all are in one batch.
pub async fn of_openings_with_one_key_at_once_one_stays_active(store: &Arc<dyn Store>) {
    let outcomes = open_at_once(store, (1..=20).map(|n| keyed(store, n, NOW)).collect()).await;
    let opened = outcomes.iter().filter(|outcome| matches!(outcome, Ok(OpenOutcome::Opened(_)))).count();
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Ok(OpenOutcome::TooManyRepeats))).count();
    assert_eq!((opened, refused), (4, 16));
    let active = GrantFilter { states: vec![StateName::Active], ..GrantFilter::default() };
    let page = store.grants(&active, &PageRequest { cursor: None, limit: 50 }).await.unwrap();
    assert_eq!(page.items.len(), 1);
}
