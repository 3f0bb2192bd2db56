//! How many refusals of unverified proofs are written one by one: without a limit, anybody could fill the disk.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::Reason;
use crate::time::{Timestamp, Ttl};

/// The window that a budget is for, and how often what exceeded it is summed up.
const WINDOW: Ttl = Ttl::from_secs(60);

/// How many sources are told apart in a window. More share one budget: an attacker with many addresses must not make
/// the broker remember all of them.
const MAX_SOURCES: usize = 4_096;

/// How many sources' budgets all of them together may spend in a window: with addresses enough, a budget for each is
/// none for the disk.
const SPENT_AT_MOST: u32 = 60;

/// A budget per source address and minute.
#[derive(Debug)]
pub struct RefusalBudget {
    per_source: u32,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    started_at: Option<Timestamp>,
    used: HashMap<Option<IpAddr>, u32>,
    /// By all sources together.
    spent: u32,
    suppressed: BTreeMap<&'static str, u64>,
}

impl RefusalBudget {
    /// `per_source` entries per source and minute.
    #[must_use]
    pub fn new(per_source: u32) -> Self {
        Self { per_source, window: Mutex::new(Window::default()) }
    }

    /// Whether this refusal may have an entry of its own; otherwise it is counted.
    pub(super) fn take(&self, source: Option<IpAddr>, reason: Reason, now: Timestamp) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.started_at.is_none_or(|start| now >= start.plus(WINDOW) || now < start) {
            window.started_at = Some(now);
            window.used.clear();
            window.spent = 0;
        }
        let source = source.map(network);
        let known = window.used.contains_key(&source) || window.used.len() < MAX_SOURCES;
        let used = window.used.entry(if known { source } else { None }).or_default();
        *used = used.saturating_add(1);
        if *used <= self.per_source && window.spent < self.per_source.saturating_mul(SPENT_AT_MOST) {
            window.spent = window.spent.saturating_add(1);
            return true;
        }
        let count = window.suppressed.entry(reason.as_str()).or_default();
        *count = count.saturating_add(1);
        false
    }

    /// Takes back the counts of a summary that could not be written.
    pub(crate) fn take_back(&self, summary: &AuditEntry) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in Reason::ALL.iter().map(|reason| reason.as_str()) {
            let told = summary.detail.get(reason).and_then(|count| count.parse::<u64>().ok());
            if let Some(told) = told {
                let count = window.suppressed.entry(reason).or_default();
                *count = count.saturating_add(told);
            }
        }
    }

    /// One entry with the counts of what was not written since the last call; none when nothing was held back.
    pub(crate) fn summary(&self, now: Timestamp) -> Option<AuditEntry> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = std::mem::take(&mut window.suppressed);
        drop(window);
        if counts.is_empty() {
            return None;
        }
        let actor = Actor::Unverified { source: None };
        let entry = AuditEntry::success(now, actor, AuditAction::ProofRefusals, AuditObject::Broker);
        Some(counts.into_iter().fold(entry, |entry, (reason, count)| entry.with(reason, &count.to_string())))
    }
}

/// What one subscriber has: an IPv4 address, or the 2^64 addresses of an IPv6 network (RFC 4291 §2.5.4).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sample::NOW;

    #[test]
    fn a_source_over_its_budget_is_counted_and_summed_up() {
        let budget = RefusalBudget::new(2);
        let (noisy, quiet) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let taken = (0..5).filter(|_| budget.take(noisy, Reason::BadSignature, NOW)).count();
        assert_eq!(taken, 2);
        assert!(budget.take(quiet, Reason::BadSignature, NOW), "one source's noise silences no other");
        let summary = budget.summary(NOW).unwrap();
        assert_eq!(summary.detail.get("bad_signature").map(String::as_str), Some("3"));
        assert!(budget.summary(NOW).is_none(), "a count is told once");
        assert!(budget.take(noisy, Reason::BadSignature, NOW.plus(WINDOW)), "a minute later there is room again");
    }

    #[test]
    fn many_sources_share_one_budget() {
        let budget = RefusalBudget::new(3);
        let address = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let taken = (0..10_000).filter(|n| budget.take(address(*n), Reason::UnknownIssuer, NOW)).count();
        assert_eq!(taken, 3 * SPENT_AT_MOST as usize, "a minute has an end of its own, however many ask");
        let summary = budget.summary(NOW).unwrap();
        assert_eq!(summary.detail.get("unknown_issuer"), Some(&(10_000 - taken).to_string()));
        assert!(budget.take(address(1), Reason::UnknownIssuer, NOW.plus(WINDOW)));
    }

    #[test]
    fn the_addresses_of_one_network_are_one_source() {
        let budget = RefusalBudget::new(2);
        let address = |low: u64| Some(IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(low)).to_be_bytes()));
        let taken = (0..100).filter(|low| budget.take(address(*low), Reason::UnknownIssuer, NOW)).count();
        assert_eq!(taken, 2);
        let other = Some(IpAddr::from((0x2001_0db9_u128 << 96).to_be_bytes()));
        assert!(budget.take(other, Reason::UnknownIssuer, NOW));
    }
}
