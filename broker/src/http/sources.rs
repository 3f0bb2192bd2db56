//! How many connections, or requests at work, each source has: one alone must not take every place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

/// Counts what each source has.
#[derive(Debug)]
pub(crate) struct Sources {
    each: usize,
    shared: Vec<IpNet>,
    /// Of those that have any: no more than there are places.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One place of a source, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    sources: Arc<Sources>,
    source: Option<IpAddr>,
}

impl Sources {
    /// `each` places for each source, but for those in `shared`.
    pub(crate) fn new(each: usize, shared: Vec<IpNet>) -> Self {
        Self { each, shared, open: Mutex::default() }
    }

    /// A place for what comes from `peer`; none when its source has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let address = peer.to_canonical();
        if self.shared.iter().any(|network| network.contains(&address)) {
            return Some(Place { sources: Arc::clone(self), source: None });
        }
        let source = network(address);
        let mut open = self.open();
        let held = open.get(&source).copied().unwrap_or(0);
        if held >= self.each {
            return None;
        }
        open.insert(source, held.saturating_add(1));
        Some(Place { sources: Arc::clone(self), source: Some(source) })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut open = self.sources.open();
        match open.get_mut(&source) {
            Some(held) if *held > 1 => *held = held.saturating_sub(1),
            _ => {
                open.remove(&source);
            }
        }
    }
}

/// What one subscriber has: an IPv4 address, or the 2^64 addresses of an IPv6 network (RFC 4291 §2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_as_many_places_as_it_may_and_takes_none_of_the_others() {
        let sources = Arc::new(Sources::new(2, vec!["10.0.0.0/8".parse().unwrap()]));
        let enter = |address: &str| sources.enter(address.parse().unwrap());
        let held = [enter("192.0.2.1").unwrap(), enter("192.0.2.1").unwrap()];
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("::ffff:192.0.2.1").is_none(), "the same address in another spelling");
        let _other = enter("192.0.2.2").unwrap();
        drop(held);
        let _again = enter("192.0.2.1").unwrap();

        let network: Vec<_> = ["2001:db8::1", "2001:db8::2:1"].map(|address| enter(address).unwrap()).into();
        assert!(enter("2001:db8::3").is_none(), "one subscriber has a whole network");
        assert!(enter("2001:db8:0:1::3").is_some());
        drop(network);

        let many: Vec<_> = (0..10).map(|_| enter("10.1.2.3").unwrap()).collect();
        drop(many);
        assert_eq!(sources.open().len(), 2, "nothing is remembered of who has left");
    }
}
