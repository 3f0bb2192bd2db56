//! What the interface's description says of failures: every status of a surface, with the codes that come with it.

use std::collections::{BTreeMap, BTreeSet};

use hallpass_core::error::Step;

use super::*;

/// Statuses and codes of everything that can fail on `surface`, found by telling it.
pub(in crate::http) fn failures(surface: Surface) -> BTreeMap<u16, BTreeSet<&'static str>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for failure in everything() {
        let told = Told::of(&failure, surface);
        found.entry(told.status.as_u16()).or_default().insert(told.code);
    }
    found
}

fn everything() -> impl Iterator<Item = Failure> {
    let refused = Reason::ALL.iter().map(|reason| ServiceError::from(Refusal::new(Step::Request, *reason, "")).into());
    let unreadable = [Fault::Syntax, Fault::MediaType, Fault::TooLarge, Fault::Slow, Fault::GrantType]
        .map(|fault| Unreadable::new(fault, Refusal::new(Step::Request, Reason::MalformedRequest, "")).into());
    let backend = ServiceError::Backend { reason: Reason::BackendRefused, detail: String::new() };
    let plain = [
        Failure::from(backend),
        Failure::from(ServiceError::NotFound),
        Failure::Misdirected,
        Failure::Overloaded,
        Failure::TimedOut,
        Failure::Crashed,
    ];
    refused.chain(unreadable).chain(plain)
}
