//! What ends grants while others are being opened: nothing slips through between.

use std::sync::Arc;

use hallpass_core::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::grant::StateName;
use hallpass_core::id::RevocationId;
use hallpass_core::port::{EndsSigned as _, OpenOutcome, PageRequest, Store};
use hallpass_core::selector::Selector;
use hallpass_core::service::distrust::Distrust;
use hallpass_core::service::operator::open_operator;
use hallpass_core::testing::sample::{self, NOW};
use hallpass_core::testing::store_suite::{opening, revocations};
use hallpass_core::testing::{Call, Fault, MockClock, Nature, SeededEntropy, TestSealer, World};
use hallpass_core::time::Ttl;

use super::House;

async fn end(store: &Arc<dyn Store>, id: RevocationId) -> usize {
    let ended = revocations::follow(store, id, NOW).await;
    let object = AuditObject::Revocation { id };
    let entry = AuditEntry::success(NOW, Actor::Broker, AuditAction::RevocationComplete, object);
    store.complete_revocation(id, [7; 32], NOW, entry).await.unwrap();
    ended
}

#[tokio::test]
async fn what_is_found_of_a_distrusted_key_after_its_revocation_ends_too_and_once() {
    let house = House::new();
    let (store, clock) = (Arc::clone(&house.port), Arc::new(MockClock::starting_at(NOW)));
    let distrust = Distrust { store: Arc::clone(&store), clock, entropy: Arc::new(SeededEntropy::new(3)) };
    let open = async |n: u64| {
        let mut opening = opening(&store, n, NOW);
        opening.grant.record.signed_by = Some("the-key".to_owned());
        assert!(matches!(store.open(opening).await, Ok(OpenOutcome::Opened(_))), "{n}");
    };
    let all = || async { store.revocations(None, &PageRequest { cursor: None, limit: 50 }).await.unwrap().items };
    open(1).await;
    distrust.end_signed_by("the-key").await.unwrap();
    distrust.end_signed_by("the-key").await.unwrap();
    assert_eq!(all().await.len(), 1, "while it runs, it is the one");
    assert_eq!(end(&store, all().await[0].id).await, 1);
    distrust.end_signed_by("the-key").await.unwrap();
    assert_eq!(all().await.len(), 1, "it has left nothing");

    for (n, expected) in [(2, 2), (3, 3)] {
        open(n).await;
        distrust.end_signed_by("the-key").await.unwrap();
        distrust.end_signed_by("the-key").await.unwrap();
        let begun = all().await;
        assert_eq!(begun.len(), expected);
        let running = begun.iter().find(|revocation| revocation.completed.is_none()).unwrap();
        assert_eq!(end(&store, running.id).await, 1);
        assert_ne!(store.grant(sample::id(n)).await.unwrap().unwrap().state_name(), StateName::Active);
    }
}

#[tokio::test]
async fn an_operators_grant_that_was_being_signed_while_everything_ended_is_not_opened() {
    let house = House::new();
    let clock = Arc::new(MockClock::starting_at(NOW));
    let world = World::new(Arc::clone(&house.port), Arc::new(TestSealer::new(1)), clock, Nature::local());
    let (origin, ttl) = (world.origin(), Some(Ttl::from_mins(5)));
    let operator =
        || open_operator(&world.ports, world.backend.as_ref(), "https://hallpass.example", "a drill", ttl, &origin);
    operator().await.unwrap();

    world.backend.next(Call::Issue, [Some(Fault::Held)]);
    let meanwhile = async {
        while world.backend.calls(Call::Issue) < 2 {
            tokio::task::yield_now().await;
        }
        let id = revocations::begin(&house.port, 1, Selector::all(), NOW).await;
        assert_eq!(end(&house.port, id).await, 1);
        world.backend.release();
    };
    let (opened, ()) = tokio::join!(operator(), meanwhile);
    let refused = opened.expect_err("it was signed before everything ended");
    let moved = matches!(refused, ServiceError::Unavailable { reason: Reason::StateConflict, .. });
    assert!(moved, "{refused:?}");
    operator().await.unwrap();
}
