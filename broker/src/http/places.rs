//! The places of requests at work, and how many of them one source may have.
//!
//! A request holds its place while its body comes in. Without a bound for each source, one peer whose bodies trickle would
//! hold all of them, those for ending grants included, for as long as it likes. Addresses that many callers come from, such
//! as a proxy's that does not say whose request it passes on, have no bound of their own: they would share one.
//!
//! Lists have places of their own and take none of the others'. A page is hundreds of times as large as any other answer
//! and is as long in memory as its caller takes to read it, so it is that long that a list holds its place. To read one
//! takes the store hundreds of times as long, so few of those that have a place are read at once: each waits for its turn.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use http::request::Parts;
use hyper::body::{Frame, SizeHint};
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use super::limits::HttpLimits;
use super::sources::{self, Sources};

/// Whose places a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Those of whoever wants a credential, or asks about one.
    Ordinary,
    /// Those of whoever ends or oversees what is there. Nothing else takes one of them.
    Control,
    /// Those of lists that anybody with a proof may ask for.
    Lists,
    /// Those of lists that are for operators.
    Oversight,
}

/// The places of one listener.
pub(super) struct Places {
    ordinary: Kind,
    control: Kind,
    lists: Kind,
    oversight: Kind,
    list_turns: Turns,
    oversight_turns: Turns,
}

/// One request's place, until it is dropped.
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_source: Option<sources::Place>,
}

struct Kind {
    all: Arc<Semaphore>,
    of_sources: Arc<Sources>,
}

/// The turns of lists that are read at once. The edge gives them to each request for a list.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    patience: Duration,
}

/// A list's turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Turn {
    _free: OwnedSemaphorePermit,
}

/// So many places, and of them so many for each source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of all requests together.
    pub all: usize,
    /// Of one source: an IPv4 address or an IPv6 network of 64 bits.
    pub each: usize,
}

impl Places {
    /// Sources in `shared` are many.
    pub(super) fn new(limits: &HttpLimits, shared: &[IpNet]) -> Self {
        let kind = |bounds| Kind::new(bounds, shared);
        Self {
            ordinary: kind(limits.in_flight),
            control: kind(limits.control_in_flight),
            lists: kind(limits.lists_in_flight),
            oversight: kind(limits.oversight_in_flight),
            list_turns: Turns::new(limits.list_turns, limits.turn_timeout),
            oversight_turns: Turns::new(1, limits.turn_timeout),
        }
    }

    /// A place for a request of `source`; none when there is none for it. What ends or oversees takes an ordinary one
    /// where its own are taken.
    pub(super) fn take(&self, room: Room, source: Option<IpAddr>) -> Option<Place> {
        match room {
            Room::Ordinary => self.ordinary.take(source),
            Room::Control => self.control.take(source).or_else(|| self.ordinary.take(source)),
            Room::Lists => self.lists.take(source),
            Room::Oversight => self.oversight.take(source),
        }
    }

    /// The turns of those who have a place in `room`, where there are any.
    pub(super) fn turns(&self, room: Room) -> Option<Turns> {
        match room {
            Room::Ordinary | Room::Control => None,
            Room::Lists => Some(self.list_turns.clone()),
            Room::Oversight => Some(self.oversight_turns.clone()),
        }
    }
}

impl Place {
    /// `body`, which holds the place until it is sent or given up.
    pub(super) fn held_by(self, body: Body) -> Body {
        Body::new(Held { body, _place: self })
    }
}

impl Turns {
    fn new(turns: usize, patience: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(turns)), patience }
    }

    /// Waits for a turn, and not for long: whoever has waited in vain is better told to come again.
    ///
    /// Ask for it once the caller has proved who it is. To find that out may take as long as an issuer takes to answer.
    pub(super) async fn take(&self) -> Result<Turn, Failure> {
        let turn = tokio::time::timeout(self.patience, Arc::clone(&self.free).acquire_owned()).await;
        // Fails also once the semaphore is closed, which nobody does.
        turn.ok().and_then(Result::ok).map(|free| Turn { _free: free }).ok_or(Failure::Overloaded)
    }
}

impl<S: Sync> FromRequestParts<S> for Turns {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // A handler that takes turns at an endpoint that is not said to be a list is a mistake of ours.
        parts.extensions.get::<Self>().cloned().ok_or(Failure::Crashed)
    }
}

/// A body that holds a place.
struct Held {
    body: Body,
    _place: Place,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Kind {
    fn new(bounds: Bounds, shared: &[IpNet]) -> Self {
        Self {
            all: Arc::new(Semaphore::new(bounds.all)),
            of_sources: Arc::new(Sources::new(bounds.each, shared.to_vec())),
        }
    }

    fn take(&self, source: Option<IpAddr>) -> Option<Place> {
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let of_source = match source {
            Some(source) => Some(self.of_sources.enter(source)?),
            None => None,
        };
        Some(Place { _of_all: of_all, _of_source: of_source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let limits = HttpLimits {
            in_flight: Bounds { all: 4, each: 2 },
            control_in_flight: Bounds { all: 2, each: 1 },
            lists_in_flight: Bounds { all: 3, each: 2 },
            oversight_in_flight: Bounds { all: 1, each: 1 },
            list_turns: 1,
            turn_timeout: Duration::from_secs(2),
            ..HttpLimits::default()
        };
        Places::new(&limits, &["10.0.0.0/8".parse().unwrap()])
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_source_takes_its_share_and_leaves_the_rest() {
        let places = places();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let take = |room, source| places.take(room, source);
        let held: Vec<_> = (0..9).map_while(|_| take(Room::Ordinary, one)).collect();
        let ending: Vec<_> = (0..9).map_while(|_| take(Room::Control, one)).collect();
        assert_eq!((held.len(), ending.len()), (2, 1), "ordinary places are no way around the bound");
        assert!(take(Room::Control, other).is_some() && take(Room::Ordinary, other).is_some());
        drop(held);
        assert!(take(Room::Ordinary, one).is_some(), "what is over is given back");
    }

    #[test]
    fn all_together_have_no_more_than_there_are() {
        let places = places();
        let held: Vec<_> =
            (1..=9).filter_map(|at| places.take(Room::Ordinary, address(&format!("192.0.2.{at}")))).collect();
        assert_eq!(held.len(), 4);
        assert!(places.take(Room::Control, address("192.0.2.1")).is_some(), "those for ending are not among them");
    }

    #[test]
    fn an_address_that_many_come_from_has_no_share_of_its_own() {
        let places = places();
        let take = |room| places.take(room, address("10.0.0.7"));
        assert_eq!((0..9).map_while(|_| take(Room::Control)).collect::<Vec<_>>().len(), 6, "there are no more");
    }

    #[test]
    fn without_a_source_only_the_whole_is_bounded() {
        let places = places();
        assert_eq!((0..9).map_while(|_| places.take(Room::Ordinary, None)).collect::<Vec<_>>().len(), 4);
    }

    #[test]
    fn lists_take_no_place_of_anything_else() {
        let places = places();
        let (one, other, shared) = (address("192.0.2.1"), address("192.0.2.2"), address("10.0.0.7"));
        let own: Vec<_> = (0..9).map_while(|_| places.take(Room::Lists, one)).collect();
        let rest: Vec<_> = (0..9).map_while(|_| places.take(Room::Lists, shared)).collect();
        assert_eq!((own.len(), rest.len()), (2, 1), "there are no more, and one source has no more than its share");
        let _operators = places.take(Room::Oversight, other).expect("lists for operators are not among them");
        assert!(places.take(Room::Oversight, other).is_none());
        let held: Vec<_> = (0..9).map_while(|_| places.take(Room::Control, shared)).collect();
        assert_eq!(held.len(), 6, "nor is anything else");
        drop((own, rest));
        assert!(places.take(Room::Lists, one).is_some(), "the control");
    }

    #[tokio::test]
    async fn a_list_holds_its_place_until_it_is_sent_or_given_up() {
        use http_body_util::BodyExt as _;

        let places = places();
        let oversight = || places.take(Room::Oversight, None);
        let body = oversight().expect("a place").held_by(Body::from("a page"));
        assert!(oversight().is_none(), "it is not sent");
        let sent = body.collect().await.unwrap().to_bytes();
        assert_eq!(sent, "a page");
        drop(oversight().expect("it is sent").held_by(Body::from("a page")));
        let body = oversight().expect("it was given up").held_by(Body::from("a page"));
        assert_eq!(hyper::body::Body::size_hint(&body).exact(), Some(6), "its length is known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_waits_for_its_turn_and_not_for_long() {
        let places = places();
        let turns = places.turns(Room::Lists).expect("lists have turns");
        let turn = turns.take().await.expect("the first has it at once");
        let early = tokio::time::timeout(Duration::from_millis(1_999), turns.take()).await;
        assert!(early.is_err(), "it may still come");
        let waited = tokio::time::timeout(Duration::from_secs(2), turns.take()).await;
        assert!(matches!(waited, Ok(Err(Failure::Overloaded))));
        places.turns(Room::Oversight).expect("turns").take().await.map(drop).expect("operators' turns are others");
        drop(turn);
        turns.take().await.map(drop).expect("whoever is done gives it back");
        assert!(places.turns(Room::Control).is_none() && places.turns(Room::Ordinary).is_none());
    }
}
