//! Where a request comes from when a proxy stands in front.
//!
//! Anybody can write `Forwarded` (RFC 7239) or `X-Forwarded-For`. What they say is believed of configured proxies only,
//! and from the right: each proxy appends the address that it saw, so the first one from the right that is no proxy of
//! ours was seen by one of ours, and everything to the left of it is hearsay.
//!
//! One of the two headers is read, the one that the proxies are configured to write. A proxy that writes the other one
//! passes this one through as its caller made it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::header::FORWARDED;
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::failure::Unreadable;

/// The proxies that are believed, and where they write.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Networks of the proxies. None: nobody is believed.
    pub trusted: Vec<IpNet>,
    /// The header that they write.
    pub header: ProxyHeader,
}

/// The header in which proxies say whose request they pass on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Counts a request that a proxy passed on without saying readably whose it is.
fn unattributed(why: &'static str) {
    metrics::counter!("hallpass_proxy_requests_unattributed_total", "why" => why).increment(1);
}

/// More proxies than this in a row are a loop.
const MAX_HOPS: usize = 32;

impl Proxies {
    /// The source of a request whose connection comes from `peer`. A proxy's request without the header is the proxy's
    /// own, such as its probe for life: one that never writes the header stands for everybody behind it, which a metric
    /// shows.
    ///
    /// # Errors
    /// When one of the proxies wrote what is no address: limits and policies that look at the source could not hold, and
    /// the proxy's own address would stand for everybody behind it.
    pub(super) fn source(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Unreadable> {
        let mut source = peer.to_canonical();
        if !self.is_trusted(source) {
            return Ok(source);
        }
        let unreadable = || {
            let detail = format!(
                "`{}` does not say whose request the proxy passes on; it appends the caller's address to it",
                self.header.name()
            );
            unattributed("unreadable");
            Unreadable::syntax(self.header.name().as_str(), detail)
        };
        let lines: Vec<_> = headers.get_all(self.header.name()).iter().collect();
        if lines.is_empty() {
            unattributed("missing");
        }
        let mut hops = 0;
        for line in lines.into_iter().rev() {
            // Letters of no ASCII are hearsay too, as long as they stand left of what a proxy wrote.
            let line = String::from_utf8_lossy(line.as_bytes());
            let nodes = self.header.nodes(&line).ok_or_else(unreadable)?;
            for node in nodes.into_iter().rev() {
                hops += 1;
                let address = node.filter(|_| hops <= MAX_HOPS).ok_or_else(unreadable)?;
                source = address.to_canonical();
                if !self.is_trusted(source) {
                    return Ok(source);
                }
            }
        }
        // Proxies all the way: the request is of the first of them.
        Ok(source)
    }

    /// Whether a request whose connection comes from `peer` is somebody else's, whoever its header names.
    pub(super) fn pass_on(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        self.is_trusted(peer.to_canonical()) && headers.contains_key(self.header.name())
    }

    /// Addresses that many callers come from: the proxies', and those of whatever stands in front on this machine. Nobody's
    /// share of anything is counted by them.
    #[must_use]
    pub fn shared_sources(&self) -> Vec<IpNet> {
        let loopback = [IpNet::new(Ipv4Addr::LOCALHOST.into(), 8), IpNet::new(Ipv6Addr::LOCALHOST.into(), 128)];
        loopback.into_iter().flatten().chain(self.trusted.iter().copied()).collect()
    }

    /// Whether the peer is one of the proxies.
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl ProxyHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => FORWARDED,
        }
    }

    /// The nodes that a line names, left to right; none for one that is no address. No line at all where it cannot be
    /// taken apart.
    fn nodes(self, line: &str) -> Option<Vec<Option<IpAddr>>> {
        match self {
            Self::XForwardedFor => Some(line.split(',').map(|node| address(node.trim())).collect()),
            Self::Forwarded => elements(line),
        }
    }
}

/// The `for` of each element (RFC 7239 §4). An element without one names nobody.
fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut nodes = Vec::new();
    let mut rest = line;
    loop {
        let (node, after) = element(rest)?;
        nodes.push(node);
        match after {
            Some(after) => rest = after,
            None => return Some(nodes),
        }
    }
}

/// The first element's node, and what comes behind its comma.
fn element(text: &str) -> Option<(Option<IpAddr>, Option<&str>)> {
    let mut named = None;
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") {
            // A parameter must not occur twice in an element.
            if named.is_some() {
                return None;
            }
            named = Some(address(&value));
        }
        let after = after.trim_start();
        match after.chars().next() {
            None => return Some((named.flatten(), None)),
            Some(',') => return Some((named.flatten(), after.get(1..))),
            Some(';') => rest = after.get(1..)?,
            Some(_) => return None,
        }
    }
}

/// A token or a quoted string at the start, without its quotes, and what comes behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        let (token, after) = text.split_at_checked(end)?;
        // Stricter senders quote what has a colon or a bracket (§4); nobody means anything else by it unquoted.
        let fine = |byte| is_token(byte) || b":[]".contains(&byte);
        return (!token.is_empty() && token.bytes().all(fine)).then(|| (token.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at.saturating_add(1)..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn address(node: &str) -> Option<IpAddr> {
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || node.parse::<SocketAddr>().ok().map(|address| address.ip());
    node.parse().ok().or_else(bracketed).or_else(with_port)
}

#[cfg(test)]
mod tests;
