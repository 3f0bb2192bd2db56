//! The places of requests at work, and how many of them one source may have.
//!
//! A request holds its place while its body comes in. Without a bound for each source, one peer whose bodies trickle would
//! hold all of them, those for ending grants included, for as long as it likes. Addresses that many callers come from, such
//! as a proxy's that does not say whose request it passes on, have no bound of their own: they would share one.

use std::net::IpAddr;
use std::sync::Arc;

use hallpass_core::service::Lane;
use ipnet::IpNet;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::sources::{self, Sources};

/// The places of one listener.
pub(super) struct Places {
    ordinary: Kind,
    /// Nothing else takes one from [`Lane::Control`].
    control: Kind,
}

/// One request's place, until it is dropped.
pub(super) struct Place<'a> {
    _of_all: SemaphorePermit<'a>,
    _of_source: Option<sources::Place>,
}

struct Kind {
    all: Semaphore,
    of_sources: Arc<Sources>,
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
    pub(super) fn new(ordinary: Bounds, control: Bounds, shared: &[IpNet]) -> Self {
        Self { ordinary: Kind::new(ordinary, shared), control: Kind::new(control, shared) }
    }

    /// A place for a request of `source`; none when there is none for it. What ends or oversees takes an ordinary one
    /// where its own are taken.
    pub(super) fn take(&self, lane: Lane, source: Option<IpAddr>) -> Option<Place<'_>> {
        let own = match lane {
            Lane::Control => self.control.take(source),
            Lane::Ordinary => None,
        };
        own.or_else(|| self.ordinary.take(source))
    }
}

impl Kind {
    fn new(bounds: Bounds, shared: &[IpNet]) -> Self {
        Self { all: Semaphore::new(bounds.all), of_sources: Arc::new(Sources::new(bounds.each, shared.to_vec())) }
    }

    fn take(&self, source: Option<IpAddr>) -> Option<Place<'_>> {
        let of_all = self.all.try_acquire().ok()?;
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
        Places::new(Bounds { all: 4, each: 2 }, Bounds { all: 2, each: 1 }, &["10.0.0.0/8".parse().unwrap()])
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_source_takes_its_share_and_leaves_the_rest() {
        let places = places();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let take = |lane, source| places.take(lane, source);
        let held: Vec<_> = (0..9).map_while(|_| take(Lane::Ordinary, one)).collect();
        let ending: Vec<_> = (0..9).map_while(|_| take(Lane::Control, one)).collect();
        assert_eq!((held.len(), ending.len()), (2, 1), "ordinary places are no way around the bound");
        assert!(take(Lane::Control, other).is_some() && take(Lane::Ordinary, other).is_some());
        drop(held);
        assert!(take(Lane::Ordinary, one).is_some(), "what is over is given back");
    }

    #[test]
    fn all_together_have_no_more_than_there_are() {
        let places = places();
        let held: Vec<_> =
            (1..=9).filter_map(|at| places.take(Lane::Ordinary, address(&format!("192.0.2.{at}")))).collect();
        assert_eq!(held.len(), 4);
        assert!(places.take(Lane::Control, address("192.0.2.1")).is_some(), "those for ending are not among them");
    }

    #[test]
    fn an_address_that_many_come_from_has_no_share_of_its_own() {
        let places = places();
        let take = |lane| places.take(lane, address("10.0.0.7"));
        assert_eq!((0..9).map_while(|_| take(Lane::Control)).collect::<Vec<_>>().len(), 6, "there are no more");
    }

    #[test]
    fn without_a_source_only_the_whole_is_bounded() {
        let places = places();
        assert_eq!((0..9).map_while(|_| places.take(Lane::Ordinary, None)).collect::<Vec<_>>().len(), 4);
    }
}
