//! Ports that stay a server's while it is down: outside the range from which the system takes those of outgoing
//! connections, so that no client is given one meanwhile.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::random_bytes;

/// An address on loopback that is free.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn lasting_address() -> SocketAddr {
    lasting_addresses(1)
}

/// The first of `count` addresses on loopback side by side that are all free.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn lasting_addresses(count: u16) -> SocketAddr {
    for _ in 0..1_000 {
        let random = random_bytes::<2>();
        let first = 10_000 + u16::from_be_bytes(random) % 22_000;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let all: Result<Vec<_>, _> = (first..first + count).map(|port| TcpListener::bind(at(port))).collect();
        if all.is_ok() {
            return at(first);
        }
    }
    panic!("no {count} free ports between 10000 and 32000");
}
