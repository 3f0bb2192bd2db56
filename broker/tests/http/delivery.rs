//! What becomes of a credential whose caller is gone.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::http::Request;
use hallpass_core::testing::{Call, Fault, Nature};
use tower::ServiceExt as _;

use crate::house::{Answer, House, request, wanted};

fn opening(house: &House) -> Request<axum::body::Body> {
    request("POST", "/v1/grants", Some(&house.proof()), Some(wanted()))
}

async fn only_state(house: &House) -> &'static str {
    let grants = house.world.all_grants().await;
    assert_eq!(grants.len(), 1);
    grants[0].state_name().as_str()
}

/// Sends `request` and hangs up while the backend holds its answer.
async fn hang_up(house: &House, request: Request<axum::body::Body>) {
    house.world.backend.next(Call::Issue, [Some(Fault::Held)]);
    {
        let mut answer = pin!(house.api.clone().oneshot(request));
        while house.world.backend.calls(Call::Issue) == 0 {
            assert!(answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tokio::task::yield_now().await;
        }
    }
    house.world.backend.release();
    house.idle().await;
}

#[tokio::test]
async fn a_caller_who_hangs_up_neither_stops_the_opening_nor_leaves_its_credential() {
    let house = House::with(Nature::hard(), |_| ());
    hang_up(&house, opening(&house)).await;
    assert_eq!(only_state(&house).await, "revoking");
    house.world.settle().await;
    assert_eq!(only_state(&house).await, "revoked");
    assert!(house.world.backend.working().is_empty());
}

#[tokio::test]
async fn a_caller_who_can_repeat_its_request_finds_its_grant_superseded() {
    let house = House::with(Nature::hard(), |_| ());
    let proof = house.proof();
    let keyed = || {
        let mut keyed = request("POST", "/v1/grants", Some(&proof), Some(wanted()));
        keyed.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        keyed
    };
    hang_up(&house, keyed()).await;
    assert_eq!(only_state(&house).await, "active", "the repetition ends it");
    let again = house.send(keyed()).await;
    assert_eq!(again.status, 201, "{}", again.text);
    let live = house.world.all_grants().await.into_iter().filter(|grant| grant.state_name().as_str() == "active");
    assert_eq!(live.count(), 1);
}

#[tokio::test]
async fn an_answer_that_the_connection_never_took_is_not_delivered() {
    let house = House::open();
    let answer = house.api.clone().oneshot(opening(&house)).await.unwrap();
    assert_eq!(answer.status(), 201);
    drop(answer);
    house.idle().await;
    assert_eq!(only_state(&house).await, "revoking");
}

#[tokio::test]
async fn an_answer_that_was_taken_is_delivered() {
    let house = House::open();
    let answer = house.api.clone().oneshot(opening(&house)).await.unwrap();
    Answer::read(answer).await;
    house.idle().await;
    assert_eq!(only_state(&house).await, "active");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_and_what_it_opens_is_ended() {
    let house = House::with(Nature::hard(), |state| state.limits.request_timeout = Duration::from_millis(50));
    house.world.backend.next(Call::Issue, [Some(Fault::Held)]);
    let answer = house.send(opening(&house)).await;
    assert_eq!((answer.status, answer.said("code")), (504, "timed_out"));
    house.world.backend.release();
    house.idle().await;
    assert_eq!(only_state(&house).await, "revoking");
}

#[tokio::test]
async fn a_body_that_trickles_in_holds_its_place_for_a_bounded_time() {
    let house = House::with(Nature::local(), |state| state.limits.body_timeout = Duration::ZERO);
    let mut slow = opening(&house);
    *slow.body_mut() = axum::body::Body::new(Never);
    slow.headers_mut().insert("content-length", "100".parse().unwrap());
    let answer = house.send(slow).await;
    assert_eq!((answer.status, answer.said("code")), (408, "body_too_slow"));
}

/// A body whose next byte never comes.
struct Never;

impl hyper::body::Body for Never {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Poll::Pending
    }
}
