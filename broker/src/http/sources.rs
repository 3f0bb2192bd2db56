//! How many connections, handshakes, or requests at work, each source has: one alone must not take every place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
        let Some(source) = source_of(peer, &self.shared) else {
            return Some(Place { sources: Arc::clone(self), source: None });
        };
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

/// Has what comes from one source wait while it has as much at work as it may.
#[derive(Debug)]
pub(crate) struct Queues {
    each: usize,
    shared: Vec<IpNet>,
    /// Of those that have any, how many are in theirs: no more than there are connections.
    waiting: Mutex<HashMap<IpAddr, (Arc<Semaphore>, usize)>>,
}

/// One turn of a source, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _turn: OwnedSemaphorePermit,
    _in_queue: InQueue,
}

#[derive(Debug)]
struct InQueue {
    queues: Arc<Queues>,
    source: IpAddr,
}

impl Queues {
    /// `each` turns at once for each source, but for those in `shared`.
    pub(crate) fn new(each: usize, shared: Vec<IpNet>) -> Self {
        Self { each, shared, waiting: Mutex::default() }
    }

    /// Waits for a turn of what comes from `peer`; none where its source has no bound of its own.
    pub(crate) async fn turn(self: &Arc<Self>, peer: IpAddr) -> Option<Turn> {
        let source = source_of(peer, &self.shared)?;
        let turns = {
            let mut waiting = self.waiting();
            let (turns, waits) = waiting.entry(source).or_insert_with(|| (Arc::new(Semaphore::new(self.each)), 0));
            *waits = waits.saturating_add(1);
            Arc::clone(turns)
        };
        let in_queue = InQueue { queues: Arc::clone(self), source };
        // Fails only once the semaphore is closed, which nobody does.
        let turn = turns.acquire_owned().await.ok()?;
        Some(Turn { _turn: turn, _in_queue: in_queue })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<IpAddr, (Arc<Semaphore>, usize)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        let mut waiting = self.queues.waiting();
        match waiting.get_mut(&self.source) {
            Some((_, waits)) if *waits > 1 => *waits = waits.saturating_sub(1),
            _ => {
                waiting.remove(&self.source);
            }
        }
    }
}

/// The source that an address belongs to; none where many come from there.
fn source_of(peer: IpAddr, shared: &[IpNet]) -> Option<IpAddr> {
    let address = peer.to_canonical();
    (!shared.iter().any(|network| network.contains(&address))).then(|| network(address))
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

    async fn has_to_wait<F: Future + Unpin>(turn: &mut F) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, turn).await.is_err()
    }

    #[tokio::test]
    async fn a_source_waits_for_its_own_and_for_nobody_elses() {
        let queues = Arc::new(Queues::new(2, vec!["10.0.0.0/8".parse().unwrap()]));
        let turn = |address: &str| {
            let (queues, address) = (Arc::clone(&queues), address.parse().unwrap());
            async move { queues.turn(address).await }
        };
        let held = [turn("192.0.2.1").await.unwrap(), turn("::ffff:192.0.2.1").await.unwrap()];
        let mut third = Box::pin(turn("192.0.2.1"));
        assert!(has_to_wait(&mut third).await, "it has as many as it may");
        let other = turn("192.0.2.2").await.unwrap();
        assert!(turn("10.0.0.7").await.is_none(), "many come from there");
        let [one, two] = held;
        drop(one);
        let third = third.await.unwrap();
        let mut given_up = Box::pin(turn("192.0.2.1"));
        assert!(has_to_wait(&mut given_up).await);
        drop((two, third, other, given_up));
        assert!(queues.waiting().is_empty(), "nothing is remembered of who has left");
    }
}
