//! A grant that takes another's place ends it in the commit that makes its own credential live, and not before.

use std::sync::Arc;

use super::{apply, audit_about, entry_about, open, opening, opening_of, read};
use crate::audit::AuditAction;
use crate::credential::RevocationClass;
use crate::grant::{Cause, Ending, Grant, GrantState, StateName};
use crate::port::{Applied, Change, Opening, Replaced, Store};
use crate::testing::sample::{self, NOW};
use crate::time::{Timestamp, Ttl};

fn later() -> Timestamp {
    NOW.plus(Ttl::from_secs(5))
}

/// An opening of grant `n` that takes the place of `earlier`.
fn replacing(store: &Arc<dyn Store>, n: u64, earlier: &Grant, fenced_by_record: bool) -> Opening {
    let mut opening = opening(store, n, later());
    opening.grant.record.replaces = Some(earlier.record.id);
    opening.replaced = Some(Replaced { id: earlier.record.id, fenced_by_record });
    opening
}

/// With its own entry, and with the fence where the record is one.
pub async fn a_replaced_grant_ends_with_the_opening_of_its_successor(store: &Arc<dyn Store>) {
    let firsts = [open(store, opening(store, 1, NOW)).await, open(store, opening(store, 2, NOW)).await];
    for ((n, fenced_by_record), first) in [(1, true), (2, false)].into_iter().zip(firsts) {
        let second = open(store, replacing(store, 10 + n, &first, fenced_by_record)).await;
        assert_eq!((second.state_name(), second.record.replaces), (StateName::Active, Some(first.record.id)));
        let ended = read(store, first.record.id).await;
        let GrantState::Revoking { ending, fenced_at, .. } = &ended.state else { panic!("{:?}", ended.state) };
        assert_eq!((&ending.cause, ending.at), (&Cause::REPLACED, later()));
        assert_eq!(ending.actor.as_deref(), Some("ci:repo:acme/app"));
        assert_eq!(*fenced_at, fenced_by_record.then(later));
        let entries = audit_about(store, first.record.id).await;
        assert_eq!(entries.len(), 2);
        let entry = &entries[1].entry;
        assert_eq!((entry.action, entry.reason.as_deref()), (AuditAction::GrantRevoke, Some("replaced")));
        assert_eq!(entry.detail.get("replaced_by"), Some(&second.record.id.to_string()));
        assert_eq!(entry.request_id, Some(second.record.id.as_uuid().into()), "in the request of its successor");
    }
}

/// A pending successor leaves it alone; it ends with the activation, and with nothing that is not written.
pub async fn a_replaced_grant_ends_when_its_successor_becomes_active(store: &Arc<dyn Store>) {
    let first = open(store, opening(store, 1, NOW)).await;
    let mut intent = opening_of(store, sample::pending(2, RevocationClass::Hard, NOW), 2);
    intent.grant.record.replaces = Some(first.record.id);
    let pending = open(store, intent).await;
    assert_eq!(read(store, first.record.id).await, first, "the intent alone ends nothing");

    let active = pending.clone().activate(later(), later().plus(Ttl::from_mins(5)), None).unwrap();
    let activation = |grant: Grant| {
        let mut change = Change::of(grant, entry_about(active.record.id, AuditAction::GrantActivate, later()));
        change.replaced = Some(Replaced { id: first.record.id, fenced_by_record: true });
        change
    };
    let mut stale = active.clone();
    stale.version += 1;
    assert_eq!(store.apply(activation(stale)).await.unwrap(), Applied::Conflict);
    assert_eq!(read(store, first.record.id).await, first, "nor does an activation that was not written");
    assert_eq!(store.apply(activation(active.clone())).await.unwrap(), Applied::Done);
    let ended = read(store, first.record.id).await;
    let GrantState::Revoking { ending, fenced_at, .. } = &ended.state else { panic!("{:?}", ended.state) };
    assert_eq!((&ending.cause, ending.at, *fenced_at), (&Cause::REPLACED, later(), Some(later())));
}

/// Another's, one that is ending or over, one that is not there.
pub async fn what_cannot_be_replaced_is_left_as_it_is(store: &Arc<dyn Store>) {
    let mut foreign = opening(store, 1, NOW);
    foreign.grant.record.holder.subject = "repo:acme/other".to_owned();
    let foreign = open(store, foreign).await;
    let pending = open(store, opening_of(store, sample::pending(2, RevocationClass::Hard, NOW), 2)).await;
    let ending = open(store, opening(store, 3, NOW)).await;
    let asked = Ending::by_broker(Cause::REQUESTED, NOW);
    let ending = apply(store, ending.begin_ending(asked, true).unwrap(), AuditAction::GrantRevoke, NOW).await;
    let unknown = sample::active(4, RevocationClass::Fenced, NOW);
    for (n, left) in (10..).zip([&foreign, &pending, &ending, &unknown]) {
        open(store, replacing(store, n, left, true)).await;
        let found = store.grant(left.record.id).await.unwrap();
        assert_eq!(found.as_ref(), (left.record.id != unknown.record.id).then_some(left));
    }
    let own = open(store, opening(store, 5, later())).await;
    open(store, replacing(store, 15, &own, true)).await;
    assert_eq!(read(store, own.record.id).await.state_name(), StateName::Revoking, "where the others were left");
}
