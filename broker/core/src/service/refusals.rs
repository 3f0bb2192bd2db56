//! How many refusals are written one by one: without a limit, anybody could fill the disk, with a proof or without.
//!
//! Refusals alone: what was done is always told.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};

use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::error::Reason;
use crate::time::{Timestamp, Ttl};

/// The window that a budget is for, and how often at most what exceeded it is summed up.
const WINDOW: Ttl = Ttl::from_secs(60);

/// How many callers are told apart in a window. More share one budget: an attacker with many addresses, or many
/// workloads, must not make the broker remember all of them.
const MAX_CALLERS: usize = 4_096;

/// How many callers' budgets all of them together may spend in a window: with callers enough, a budget for each is none
/// for the disk.
const SPENT_AT_MOST: u32 = 60;

/// Longest name of a caller in a summary.
const MAX_NAME_CHARS: usize = 200;

/// A budget per minute: for each source address while nobody has proved anything, then for each identity.
#[derive(Debug)]
pub struct RefusalBudget {
    sources: Ledger<Option<IpAddr>>,
    identities: Ledger<Option<[u8; 32]>>,
}

impl RefusalBudget {
    /// Entries for refusals per minute: `per_source` for each source address before a signature has verified,
    /// `per_identity` for each issuer and subject after.
    #[must_use]
    pub fn new(per_source: u32, per_identity: u32) -> Self {
        Self { sources: Ledger::new(per_source), identities: Ledger::new(per_identity) }
    }

    /// Whether this refusal of somebody unverified may have an entry of its own; otherwise it is counted.
    pub(super) fn take(&self, source: Option<IpAddr>, reason: Reason, now: Timestamp) -> bool {
        self.sources.take(
            source.map(network),
            || source.map_or_else(String::new, |address| address.to_string()),
            reason,
            now,
        )
    }

    /// The same of somebody whose proof's signature verified. Whoever runs the broker has no budget.
    pub(super) fn take_of(&self, actor: &Actor, reason: Reason, now: Timestamp) -> bool {
        let key = match actor {
            Actor::Identity { issuer, subject } => digest(&[issuer.as_str(), subject]),
            // Whose signature verified, and whose claims could not be read.
            Actor::Unverified { source } => digest(&[source.as_deref().unwrap_or_default()]),
            Actor::Broker | Actor::LocalAdministrator => return true,
        };
        self.identities.take(Some(key), || name(actor), reason, now)
    }

    /// Entries with the counts of what was not written since they were last told, at most one a minute of either kind.
    pub(crate) fn summaries(&self, now: Timestamp) -> Vec<AuditEntry> {
        Self::told(now, self.sources.tell(now), self.identities.tell(now))
    }

    /// The same without waiting for the minute to be over.
    pub(crate) fn rest(&self, now: Timestamp) -> Vec<AuditEntry> {
        Self::told(now, self.sources.rest(), self.identities.rest())
    }

    fn told(now: Timestamp, sources: Option<Suppressed>, identities: Option<Suppressed>) -> Vec<AuditEntry> {
        let of = |action: AuditAction, told: Option<Suppressed>| {
            let told = told?;
            let entry = AuditEntry::success(now, Actor::Unverified { source: None }, action, AuditObject::Broker);
            let entry = entry.with("most_by", &told.loudest.1);
            Some(told.counts.into_iter().fold(entry, |entry, (reason, count)| entry.with(reason, &count.to_string())))
        };
        let sources = of(AuditAction::ProofRefusals, sources);
        sources.into_iter().chain(of(AuditAction::RequestRefusals, identities)).collect()
    }

    /// Takes back the counts of a summary that could not be written.
    pub(crate) fn take_back(&self, summary: &AuditEntry) {
        let mut suppressed = Suppressed::default();
        for reason in Reason::ALL.iter().map(|reason| reason.as_str()) {
            let told = summary.detail.get(reason).and_then(|count| count.parse::<u64>().ok());
            suppressed.counts.extend(told.map(|told| (reason, told)));
        }
        suppressed.loudest.1 = summary.detail.get("most_by").cloned().unwrap_or_default();
        match summary.action {
            AuditAction::RequestRefusals => self.identities.take_back(suppressed),
            _ => self.sources.take_back(suppressed),
        }
    }
}

/// The budgets of one kind of caller.
#[derive(Debug)]
struct Ledger<K> {
    each: u32,
    window: Mutex<Window<K>>,
}

#[derive(Debug)]
struct Window<K> {
    started_at: Option<Timestamp>,
    used: HashMap<K, u32>,
    /// By all callers together.
    spent: u32,
    suppressed: Suppressed,
    told_at: Option<Timestamp>,
}

/// What was not written one by one.
#[derive(Debug, Default)]
struct Suppressed {
    counts: BTreeMap<&'static str, u64>,
    /// Who had the most refusals in one window, and how many.
    loudest: (u32, String),
}

impl<K: Copy + Default + Eq + Hash> Ledger<K> {
    fn new(each: u32) -> Self {
        let window = Window {
            started_at: None,
            used: HashMap::new(),
            spent: 0,
            suppressed: Suppressed::default(),
            told_at: None,
        };
        Self { each, window: Mutex::new(window) }
    }

    fn take(&self, caller: K, name: impl FnOnce() -> String, reason: Reason, now: Timestamp) -> bool {
        let mut window = self.window();
        if is_over(window.started_at, now) {
            window.started_at = Some(now);
            window.used.clear();
            window.spent = 0;
        }
        let known = window.used.contains_key(&caller) || window.used.len() < MAX_CALLERS;
        let used = window.used.entry(if known { caller } else { K::default() }).or_default();
        *used = used.saturating_add(1);
        let used = *used;
        if used <= self.each && window.spent < self.each.saturating_mul(SPENT_AT_MOST) {
            window.spent = window.spent.saturating_add(1);
            return true;
        }
        let suppressed = &mut window.suppressed;
        let count = suppressed.counts.entry(reason.as_str()).or_default();
        *count = count.saturating_add(1);
        if used > suppressed.loudest.0 {
            suppressed.loudest = (used, if known { name() } else { "many".to_owned() });
        }
        false
    }

    /// What was suppressed, unless there was none or it was told less than a minute ago.
    fn tell(&self, now: Timestamp) -> Option<Suppressed> {
        let mut window = self.window();
        if window.suppressed.counts.is_empty() || !is_over(window.told_at, now) {
            return None;
        }
        window.told_at = Some(now);
        Some(std::mem::take(&mut window.suppressed))
    }

    /// What was suppressed, if anything was.
    fn rest(&self) -> Option<Suppressed> {
        let mut window = self.window();
        let any = !window.suppressed.counts.is_empty();
        any.then(|| std::mem::take(&mut window.suppressed))
    }

    fn take_back(&self, told: Suppressed) {
        let mut window = self.window();
        window.told_at = None;
        for (reason, told) in told.counts {
            let count = window.suppressed.counts.entry(reason).or_default();
            *count = count.saturating_add(told);
        }
        if window.suppressed.loudest.0 == 0 {
            window.suppressed.loudest = told.loudest;
        }
    }

    fn window(&self) -> MutexGuard<'_, Window<K>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a window that began at `start` is over, or the clock was set back behind it.
fn is_over(start: Option<Timestamp>, now: Timestamp) -> bool {
    start.is_none_or(|start| now >= start.plus(WINDOW) || now < start)
}

/// What one subscriber has: an IPv4 address, or the 2^64 addresses of an IPv6 network (RFC 4291 §2.5.4).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// A subject can be as long as a token: what is remembered of it is not.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut digest = [0_u8; 32];
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

fn name(actor: &Actor) -> String {
    let name = match actor {
        Actor::Identity { issuer, subject } => format!("{issuer}:{subject}"),
        Actor::Unverified { source } => source.clone().unwrap_or_default(),
        Actor::Broker | Actor::LocalAdministrator => String::new(),
    };
    name.chars().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IssuerName;
    use crate::testing::sample::NOW;

    fn budget(each: u32) -> RefusalBudget {
        RefusalBudget::new(each, each)
    }

    fn only(summaries: Vec<AuditEntry>) -> AuditEntry {
        let [summary] = <[AuditEntry; 1]>::try_from(summaries).unwrap();
        summary
    }

    fn workload(subject: &str) -> Actor {
        Actor::Identity { issuer: IssuerName::new("ci").unwrap(), subject: subject.to_owned() }
    }

    #[test]
    fn a_source_over_its_budget_is_counted_and_summed_up() {
        let budget = budget(2);
        let (noisy, quiet) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let taken = (0..5).filter(|_| budget.take(noisy, Reason::BadSignature, NOW)).count();
        assert_eq!(taken, 2);
        assert!(budget.take(quiet, Reason::BadSignature, NOW), "one source's noise silences no other");
        let summary = only(budget.summaries(NOW));
        assert_eq!(summary.action, AuditAction::ProofRefusals);
        assert_eq!(summary.detail.get("bad_signature").map(String::as_str), Some("3"));
        assert_eq!(summary.detail.get("most_by").map(String::as_str), Some("192.0.2.1"));
        assert!(budget.summaries(NOW).is_empty(), "a count is told once");
        assert!(budget.take(noisy, Reason::BadSignature, NOW.plus(WINDOW)), "a minute later there is room again");
    }

    #[test]
    fn an_identity_over_its_budget_is_counted_apart_from_the_unverified() {
        let budget = budget(3);
        let (noisy, quiet) = (workload("repo:acme/app"), workload("repo:acme/other"));
        let taken = (0..10).filter(|_| budget.take_of(&noisy, Reason::PolicyDenied, NOW)).count();
        assert_eq!(taken, 3);
        assert!(budget.take_of(&quiet, Reason::PolicyDenied, NOW), "one's noise silences no other");
        assert!(budget.take(None, Reason::BadSignature, NOW), "nor whoever is not known yet");
        assert!((0..100).all(|_| budget.take_of(&Actor::LocalAdministrator, Reason::MissingPurpose, NOW)));
        let summary = only(budget.summaries(NOW));
        assert_eq!(summary.action, AuditAction::RequestRefusals);
        assert_eq!(summary.detail.get("policy_denied").map(String::as_str), Some("7"));
        assert_eq!(summary.detail.get("most_by").map(String::as_str), Some("ci:repo:acme/app"));
    }

    #[test]
    fn there_is_one_summary_a_minute_and_nothing_is_lost_in_between() {
        let budget = budget(0);
        let at = |secs: u64| NOW.plus(Ttl::from_secs(secs));
        let mut told = Vec::new();
        for secs in 0..150 {
            assert!(!budget.take_of(&workload("repo:acme/app"), Reason::PolicyDenied, at(secs)));
            told.extend(budget.summaries(at(secs)));
        }
        let counts: Vec<_> = told.iter().map(|told| told.detail["policy_denied"].as_str()).collect();
        assert_eq!(counts, ["1", "60", "60"]);
        budget.take_back(&told.pop().unwrap());
        let again = only(budget.summaries(at(149)));
        assert_eq!(again.detail["policy_denied"], "89", "what could not be written, and what came since");
        assert!(!budget.take_of(&workload("repo:acme/app"), Reason::PolicyDenied, at(150)));
        assert_eq!(only(budget.rest(at(150))).detail["policy_denied"], "1", "at the end nothing waits");
        assert!(budget.rest(at(150)).is_empty());
    }

    #[test]
    fn many_callers_share_one_budget_and_what_is_remembered_of_them_is_bounded() {
        let budget = budget(3);
        let address = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        let taken = (0..10_000).filter(|n| budget.take(address(*n), Reason::UnknownIssuer, NOW)).count();
        assert_eq!(taken, 3 * SPENT_AT_MOST as usize, "a minute has an end of its own, however many ask");
        let summary = only(budget.summaries(NOW));
        assert_eq!(summary.detail.get("unknown_issuer"), Some(&(10_000 - taken).to_string()));
        assert!(budget.take(address(1), Reason::UnknownIssuer, NOW.plus(WINDOW)));

        let long = "x".repeat(10_000);
        let taken = (0..5_000).filter(|n| budget.take_of(&workload(&format!("{long}{n}")), Reason::PolicyDenied, NOW));
        assert_eq!(taken.count(), 3 * SPENT_AT_MOST as usize);
        assert!(budget.identities.window().used.len() <= MAX_CALLERS + 1);
        let summary = only(budget.summaries(NOW));
        assert!(summary.detail["most_by"].len() <= MAX_NAME_CHARS);
    }

    #[test]
    fn the_addresses_of_one_network_are_one_source() {
        let budget = budget(2);
        let address = |low: u64| Some(IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(low)).to_be_bytes()));
        let taken = (0..100).filter(|low| budget.take(address(*low), Reason::UnknownIssuer, NOW)).count();
        assert_eq!(taken, 2);
        let other = Some(IpAddr::from((0x2001_0db9_u128 << 96).to_be_bytes()));
        assert!(budget.take(other, Reason::UnknownIssuer, NOW));
    }
}
