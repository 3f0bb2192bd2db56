//! How many refusals of unverified proofs are written one by one: without a limit, anybody could fill the disk.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::Reason;
use crate::time::{Timestamp, Ttl};

/// The window that a budget is for, and how often what exceeded it is summed up.
const WINDOW: Ttl = Ttl::from_secs(60);

/// How many sources are told apart in a window. More share one budget: an attacker with many addresses must not make
/// the broker remember all of them.
const MAX_SOURCES: usize = 4_096;

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
        }
        let known = window.used.contains_key(&source) || window.used.len() < MAX_SOURCES;
        let used = window.used.entry(if known { source } else { None }).or_default();
        *used = used.saturating_add(1);
        if *used <= self.per_source {
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
        let budget = RefusalBudget::new(1);
        let address = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let taken = (0..10_000).filter(|n| budget.take(address(*n), Reason::UnknownIssuer, NOW)).count();
        assert!(taken <= MAX_SOURCES + 1, "{taken}");
    }
}
